"""The measurements of lesson 10: what a cell costs, and whose figures are committed."""

import json
from dataclasses import asdict

import pytest
import torch
from small import small_checkpoint

from lesson_utils import ddim, guide, initial_noise, last, load
from lesson_utils.quality.experiment import digest
from lesson_utils.quality.report import committed
from lesson_utils.support.files import BUILT_IN, write_json
from tools import after_ddim
from tools.after_ddim import Cell, key_of, measured, solver_cells


@pytest.mark.parametrize(
    ("cell", "evaluations"),
    [
        (Cell(steps=4), 4),
        (Cell("heun", steps=4), 7),
        (Cell("dpmpp_2m", "logsnr", steps=4), 4),
        (Cell("unipc", steps=4), 4),
        (Cell(steps=4, guidance=2.0), 8),
        (Cell(steps=4, guidance=2.0, worse=True), 8),
        (Cell(steps=4, guidance=2.0, interval=(0.4, 0.8)), 6),  # t/T: 1, ¾, ½, ¼
    ],
)
@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # inside theirs
def test_a_cell_counts_what_the_networks_were_asked(cell, evaluations):
    checkpoint = small_checkpoint()
    c = torch.eye(2)[torch.arange(3) % 2]
    x, counted = measured(checkpoint, checkpoint.model, cell, c, seed=0)
    assert x.shape == (3, *checkpoint.image_shape) and counted == evaluations


def test_a_cell_is_sampled_as_the_lesson_does():
    checkpoint = small_checkpoint()
    c = torch.eye(2)
    x, _ = measured(checkpoint, None, Cell(steps=5, guidance=2.0), c, seed=3)
    noise = initial_noise(2, checkpoint.image_shape, seed=3)
    eps_fn = guide(checkpoint.model, c, 2.0)
    assert torch.equal(x, last(ddim(eps_fn, noise, checkpoint.schedule, 5)))


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_solvers_are_compared_at_equal_evaluations(guidance):
    """Heun, whose evaluations are odd, has one less or as many."""
    each = 1 if guidance == 1 else 2
    wanted = after_ddim.EVALUATIONS if each == 1 else after_ddim.GUIDED
    cells = list(solver_cells(guidance))
    for evaluations, row in zip(wanted, batched(cells, 5), strict=True):
        for cell in row:
            calls = 2 * cell.steps - 1 if cell.solver == "heun" else cell.steps
            assert evaluations - each <= each * calls <= evaluations


def test_ten_evaluations_decide():
    """Beside DDIM with 100 steps, the cells of the chart with nine or ten."""
    cells = list(after_ddim.deciding_cells("sprites"))
    at = cells.index(Cell(steps=100))
    few, guided = cells[:at], cells[at + 1 :]
    assert guided[0] == Cell(guidance=2.0) and all(c.interval for c in guided[1:])
    assert {(c.solver, c.spacing) for c in few} == {*after_ddim.WAYS}
    assert {c.steps for c in few} == {5, 10} and len(few) == len(after_ddim.WAYS)
    assert {*few} <= {*solver_cells(1.0)}


def test_the_time_of_each_cell_is_measured_side_by_side(monkeypatch, tmp_path):
    checkpoint, asked = small_checkpoint(), []
    monkeypatch.setattr(after_ddim, "networks", lambda name: (checkpoint, None))
    monkeypatch.setattr(after_ddim, "measured", lambda *given: asked.append(given[2]))
    ticks = iter(range(0, 100, 2))  # two seconds for a cell of 25 images
    monkeypatch.setattr(after_ddim.time, "thread_time", lambda: next(ticks))
    records = [
        {**asdict(cell), "n": n} for cell, n in ((Cell(), 50), (Cell(steps=3), 100))
    ]
    path = tmp_path / "cells.json"
    write_json(path, {"cells": [*records, {**asdict(Cell()), "n": 500}]})
    after_ddim.add_seconds("sprites", path)
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    assert [cell["seconds"] for cell in cells] == [4, 8, 40]
    assert asked == [Cell()] * 3 + [Cell(steps=3)] * 3


def batched(row: list, n: int) -> list[list]:
    return [row[i : i + n] for i in range(0, len(row), n)]


@pytest.mark.parametrize("name", BUILT_IN)
def test_the_committed_figures_are_of_the_shipped_network(name):
    result = committed(name, "after_ddim")
    assert result["model"] == digest(load(name).model)
    keys = [(key_of(cell), cell["n"]) for cell in result["cells"]]
    assert len(keys) == len(set(keys))
    again = json.loads(json.dumps(result["cells"][-1]))
    assert key_of(again) == keys[-1][0]


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_cell_is_measured(name):
    result = committed(name, "after_ddim")
    known = {(key_of(cell), cell["n"]) for cell in result["cells"]}
    for part, cells in after_ddim.parts_of(name).items():
        assert {(cell, after_ddim.SAMPLES.get(part, 2000)) for cell in cells} <= known
    assert all(cell["seconds"] > 0 for cell in result["cells"])


@pytest.mark.parametrize("name", BUILT_IN)
def test_what_the_card_has_measured_is_the_same_figure(name):
    result = committed(name, "after_ddim")
    known = {(key_of(cell), cell["n"]): cell["fcd"] for cell in result["cells"]}
    from_card = after_ddim.from_card(name, result["model"])
    assert len(from_card) >= 5
    for cell in from_card:
        assert known[key_of(cell), cell["n"]] == cell["fcd"]
    assert after_ddim.from_card(name, "of another network") == []
