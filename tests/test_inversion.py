"""tools/inversion.py: its figures, and that it goes on where it was."""

import json

import pytest
import torch

from lesson_utils import Checkpoint, ContextUnet, Pictures, Schedule, initial_noise
from tools import inversion


def checkpoint(seed=0):
    torch.manual_seed(seed)
    model = ContextUnet(1, 2, 16)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    return Checkpoint(model.eval(), Schedule.linear(20), ("a", "b"), (1, 8, 8), {})


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Two sizes and a tiny network; its table in tmp_path."""
    data = Pictures(initial_noise(9, (1, 8, 8)).tanh(), torch.eye(2)[[0] * 9], "ab")
    monkeypatch.setattr(inversion, "CHECKPOINTS", tmp_path)
    monkeypatch.setattr(inversion, "UNSEEN", {"tiny": lambda: data})
    monkeypatch.setattr(inversion, "load", lambda name, device: checkpoint())
    monkeypatch.setattr(inversion, "PAPER", {4: 0.014, 10: 0.0065})
    monkeypatch.setattr(inversion, "REFINE", (0,))
    monkeypatch.setattr(inversion, "BATCH", 2)
    return tmp_path / "tiny_inversion.json"


def test_figures_are_of_values_from_0_to_1_and_of_the_latents():
    x0 = torch.zeros(4, 1, 16, 16)
    far = torch.tensor([0.2, 0.2, 0.2, 0.6]).view(-1, 1, 1, 1)
    noise = initial_noise(4, (1, 16, 16))
    found = inversion.figures(x0, noise, x0 + far)
    assert found["mse"] == pytest.approx((3 * 0.01 + 0.09) / 4)
    assert found["median"] == pytest.approx(0.01)
    assert found["worst"] == pytest.approx(0.09)
    assert found["error"] == pytest.approx(1.96 * 0.04 / 2)  # of 0.04 over √4
    assert abs(found["variance"] - 1) < 0.1 > abs(found["correlation"])
    rows = noise[..., :1].expand(-1, -1, -1, 16) + 3
    found = inversion.figures(x0, rows, x0)
    assert found["mse"] == 0 and found["correlation"] > 0.99
    assert found["mean"] == pytest.approx(float(rows.mean()))


def test_it_goes_on_where_it_was(small, monkeypatch):
    first = inversion.measure("tiny", 5)
    assert [(c["refine"], c["steps"]) for c in first["cells"]] == [(0, 4), (0, 10)]
    assert json.loads(small.read_text()) == first
    monkeypatch.setattr(inversion, "REFINE", (0, 6))
    both = inversion.measure("tiny", 5)
    assert both["cells"][:2] == first["cells"] and len(both["cells"]) == 4
    plain, refined = both["cells"][1::2]
    assert refined["mse"] < plain["mse"] / 10


def test_the_batches_leave_no_trace(small, monkeypatch):
    one = inversion.measure("tiny", 5)
    small.unlink()
    monkeypatch.setattr(inversion, "BATCH", 5)
    other = inversion.measure("tiny", 5)
    for a, b in zip(one["cells"], other["cells"], strict=True):
        assert a["mse"] == pytest.approx(b["mse"], rel=1e-3)


def test_a_table_of_another_network_is_refused(small, monkeypatch):
    inversion.measure("tiny", 5)
    monkeypatch.setattr(inversion, "load", lambda name, device: checkpoint(1))
    with pytest.raises(ValueError, match="another network"):
        inversion.measure("tiny", 5)


def test_the_card_has_the_papers_row_beside_ours(small):
    lines = inversion.card(inversion.measure("tiny", 5)).splitlines()
    assert "| | S = 4 | S = 10 |" in lines
    assert "| the paper, CIFAR-10 | 140 | 65 |" in lines
    [ours] = [line for line in lines if line.startswith("| refine = 0 |")]
    assert float(ours.split("|")[2]) > float(ours.split("|")[3]) > 0
