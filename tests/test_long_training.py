"""The tools that made the weights which ship: short trials, a long training."""

import json
import sys

import pytest
import torch
from small import small_folder, small_model

from lesson_utils import Schedule, Settings, dataset, draw_sprites, load, save
from lesson_utils.support.files import CHECKPOINTS
from tools import long_training, trials
from tools.long_training import Run, rate_of
from tools.trials import Recipe, fresh_sprites, held_out_loss, times, weights_at


@pytest.mark.parametrize("T", [10, 500])
def test_spread_times_are_uniform_for_each_image_and_even_over_a_batch(T):
    counts = torch.zeros(7, T, dtype=torch.int64)
    for seed in range(400):
        t = times(7, T, True, torch.Generator().manual_seed(seed))
        assert t.min() >= 1 and t.max() <= T
        gaps = t.sort().values.diff()
        assert gaps.max() <= -(-T // 7) and gaps.min() >= T // 7
        counts[torch.arange(7), t - 1] += 1
    if T == 10:  # 40 of each are expected; 5 standard deviations
        assert (counts - 40).abs().max() <= 30


def test_weights_of_the_loss():
    ab = torch.tensor([0.1, 0.5, 0.9])
    assert torch.allclose(weights_at(ab, "gamma 0.5"), (1 - ab) ** 0.5)
    assert torch.equal(weights_at(ab, "gamma 0"), torch.ones(3))
    expected = torch.tensor([1.0, 1.0, 5 / 9])  # SNR 1/9, 1 and 9
    assert torch.allclose(weights_at(ab, "min-SNR-5"), expected)


def test_fresh_sprites_are_those_of_their_seed():
    x0, c = fresh_sprites(5, 77)
    images, labels = draw_sprites(5, 77)
    bytes_again = ((x0 + 1) * 127.5).round().permute(0, 2, 3, 1)
    assert torch.equal(bytes_again, torch.from_numpy(images).float())
    assert torch.equal(c, torch.from_numpy(labels)) and x0.shape == (5, 3, 16, 16)


def test_the_held_out_loss_of_a_network_that_knows_nothing_is_one(tmp_path):
    data = dataset(small_folder(tmp_path / "pets"))

    def silent(x, t, c):
        return torch.zeros_like(x)

    low, high = held_out_loss(silent, Schedule.linear(), data)
    assert low == pytest.approx(1, abs=0.1) and high == pytest.approx(1, abs=0.1)


def test_trials_are_kept_and_not_run_again(tmp_path, monkeypatch, capsys):
    out = tmp_path / "trials.json"
    flags = ["sprites", "--seconds", "0.2", "--seeds", "0", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["trials", *flags, "--only", "as it is"])
    monkeypatch.setattr(trials, "HELD_OUT", 20)
    threads = torch.get_num_threads()
    try:
        assert trials.main() == 0
        first = json.loads(out.read_text(encoding="utf-8"))["trials"]["as it is"]
        assert first["0"]["updates"] >= 1
        monkeypatch.setattr(sys, "argv", ["trials", *flags])
        monkeypatch.setattr(trials, "TRIALS", {"as it is": Recipe()})
        assert trials.main() == 0
    finally:
        torch.set_num_threads(threads)
    assert json.loads(out.read_text(encoding="utf-8"))["trials"]["as it is"] == first
    assert "| as it is |" in capsys.readouterr().out


def test_the_card_shows_the_committed_trials():
    path = CHECKPOINTS / "sprites_trials.json"
    result = json.loads(path.read_text(encoding="utf-8"))
    assert result["trials"].keys() == trials.TRIALS.keys()
    assert all(len(runs) == 2 for runs in result["trials"].values())
    card = (CHECKPOINTS / "README.md").read_text(encoding="utf-8")
    assert trials.table(result) in card


def test_the_rate_rises_stays_and_falls_to_nothing():
    settings = Settings(steps=100, warmup=10, learning_rate=0.5)
    rates = [rate_of(step, settings, 20) for step in range(100)]
    assert rates[0] == 0.05 and rates[9:81] == [0.5] * 72
    assert rates[90] == 0.25 and rates[-1] == pytest.approx(0.025)


@pytest.fixture
def start(tmp_path):
    """A checkpoint of the data set, with the record of its training."""
    data = dataset(small_folder(tmp_path / "pets"))
    about = {"data": "pets", "steps": 7, "images_seen": 70, "seconds": 1}
    path = tmp_path / "start.safetensors"
    shape = tuple(data.x.shape[1:])
    model, schedule = small_model(shape[0], len(data.names)), Schedule.linear()
    save(path, model, schedule, data.names, shape, **about, loss_curve=[1.0])
    return path, data


def long_run(start, folder, steps):
    path, data = start
    settings = Settings(steps=8, warmup=2, batch_size=4, ema_decay=0.999)
    run = Run(load(path), data, settings, 3, folder / "state.safetensors")
    updates = run.updates()
    for _ in range(steps):
        next(updates)
    updates.close()
    return run


def test_a_long_training_goes_on_bit_for_bit_and_its_best_average_is_saved(
    start, tmp_path
):
    for name in ("once", "twice"):
        (tmp_path / name).mkdir()
    whole = long_run(start, tmp_path / "once", 8)
    long_run(start, tmp_path / "twice", 5)
    rest = long_run(start, tmp_path / "twice", 3)
    assert rest.keeper.done == 8
    for key, value in whole.averages.tensors().items():
        assert torch.equal(value, rest.averages.tensors()[key]), key
    out = tmp_path / "best.safetensors"
    rest.write(out, "pets", start[1])
    found = load(out)
    held = {float(k): v for k, v in found.meta["held_out"].items()}
    assert held.keys() == set(long_training.DECAYS)
    best = found.meta["settings"]["ema_decay"]
    assert held[best] == min(held.values())
    assert found.meta["steps"] == 8 and found.meta["images_seen"] == 102
    assert found.meta["from"] == {"images_seen": 70, "seconds": 1}
    assert len(found.meta["loss_curve"]) == 9
