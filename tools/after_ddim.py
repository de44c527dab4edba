"""What lesson 10 shows: solvers at equal evaluations, and guidance in three ways.

    python -m tools.after_ddim sprites [--parts solvers guidance] [--samples 2000]

solvers: FCD and class seen over the evaluations of the network, guided ones counted
double, for DDIM, Heun, 2M and the UniPC of Diffusers. deciding: those of its cells that
answer a question, with 5,000 samples. guidance: the same and the variety for plain
guidance, guidance in an interval, and autoguidance, for which
checkpoints/NAME-worse.safetensors is the worse network. Writes a cell at a time into
checkpoints/NAME_after_ddim.json; cells that are in it, or in the results of `card`, are
not measured again. seconds: measures the time of all cells side by side.
"""

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn

from lesson_utils import (
    Checkpoint,
    Schedule,
    ddim,
    dpmpp_2m,
    guide,
    heun,
    initial_noise,
    last,
    load,
)
from lesson_utils.data import dataset
from lesson_utils.export import scheduler_config
from lesson_utils.quality.experiment import digest, figures, in_shares
from lesson_utils.quality.judge import judge_for
from lesson_utils.quality.report import committed
from lesson_utils.sampling import EpsFn
from lesson_utils.support.device import machine
from lesson_utils.support.files import BUILT_IN, CHECKPOINTS, write_json

SAMPLES = {"spacings": 500, "search": 500, "deciding": 5000}  # others: as asked for
BATCH = 25  # images at a time: with more they leave the processor's cache
RECOMMENDED = {"sprites": 2.0, "mnist": 1.5}  # guidance
WAYS = [
    ("ddim", "uniform"),
    ("ddim", "logsnr"),
    ("heun", "uniform"),
    ("dpmpp_2m", "uniform"),
    ("unipc", "uniform"),
]
EVALUATIONS = (4, 6, 8, 10, 15, 20, 50)  # of an image, without guidance
GUIDED = (4, 8, 12, 16, 20, 40)  # with guidance, where a step costs two
BANDS = ((0.0, 0.5), (0.15, 0.5), (0.25, 0.75), (0.5, 1.0), (0.25, 1.0))  # in t/T


@dataclass(frozen=True)
class Cell:
    """One way to sample. interval: the times in t/T between which there is guidance."""

    solver: str = "ddim"
    spacing: str = "uniform"
    steps: int = 20
    guidance: float = 1.0
    interval: tuple[float, float] | None = None
    worse: bool = False


BEST = {  # of what the search found: an interval, and a scale of autoguidance
    "sprites": [
        Cell(guidance=5.0, interval=(0.25, 0.75)),
        Cell("dpmpp_2m", "uniform", 26, 4.0, interval=(0.25, 0.75)),
        Cell(guidance=3.0, worse=True),
    ],
    "mnist": [
        Cell(guidance=1.5, interval=(0.15, 0.5)),
        Cell(guidance=1.5, worse=True),
    ],
}


class Counted(nn.Module):
    """A network that counts the images it is given."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model
        self.images = 0

    def forward(self, x: Tensor, t: Tensor, c: Tensor | None = None) -> Tensor:
        self.images += len(x)
        return self.model(x, t, c)


@torch.no_grad()
def unipc(eps_fn: EpsFn, x: Tensor, schedule: Schedule, steps: int, _: str) -> Tensor:
    """The images that Diffusers' UniPC gives, of order 2, in its spacing "trailing"."""
    from diffusers import UniPCMultistepScheduler  # slow to import

    settings = scheduler_config(schedule)
    theirs = UniPCMultistepScheduler.from_config(settings, final_sigmas_type="zero")
    theirs.set_timesteps(steps)
    for t in theirs.timesteps:
        eps = eps_fn(x, (t + 1).expand(len(x)) / schedule.T)
        x = theirs.step(eps, t, x).prev_sample
    return x


def sample(eps_fn: EpsFn, x: Tensor, schedule: Schedule, cell: Cell) -> Tensor:
    """The images of a cell, from noise x (B,C,H,W)."""
    if cell.solver == "unipc":
        return unipc(eps_fn, x, schedule, cell.steps, cell.spacing)
    solver = {"ddim": ddim, "heun": heun, "dpmpp_2m": dpmpp_2m}[cell.solver]
    return last(solver(eps_fn, x, schedule, cell.steps, spacing=cell.spacing))


def measured(
    checkpoint: Checkpoint, worse: nn.Module | None, cell: Cell, c: Tensor, seed: int
) -> tuple[Tensor, float]:
    """The samples of a cell, one for each row of c (n,K), and the evaluations for an
    image.
    """
    model = Counted(checkpoint.model)
    other = Counted(worse) if cell.worse else None
    x = []
    for start in range(0, len(c), BATCH):
        rows = c[start : start + BATCH]
        noise = initial_noise(len(rows), checkpoint.image_shape, seed, start)
        eps_fn = guide(model, rows, cell.guidance, cell.interval, other)
        x.append(sample(eps_fn, noise, checkpoint.schedule, cell))
    images = model.images + (other.images if other else 0)
    return torch.cat(x), images / len(c)


def solver_cells(guidance: float) -> Iterator[Cell]:
    """Each solver, with as many steps as the evaluations allow."""
    each = 1 if guidance == 1 else 2
    for evaluations in EVALUATIONS if each == 1 else GUIDED:
        for solver, spacing in WAYS:
            calls = evaluations // each
            steps = (calls + 1) // 2 if solver == "heun" else calls
            yield Cell(solver, spacing, steps, guidance)


def spacing_cells() -> Iterator[Cell]:
    """Each solver of ours in each spacing, with ten evaluations or nine."""
    for solver, steps in {"ddim": 10, "heun": 5, "dpmpp_2m": 10}.items():
        for spacing in ("uniform", "linspace", "quad", "logsnr"):
            yield Cell(solver, spacing, steps)


def deciding_cells(name: str) -> Iterator[Cell]:
    """Does a solver reach the FCD of DDIM with 100 steps in ten evaluations? And an
    interval half of that of plain guidance with the scale 2?
    """
    for solver, spacing in WAYS:
        yield Cell(solver, spacing, steps=5 if solver == "heun" else 10)
    yield Cell(steps=100)
    yield Cell(guidance=2.0)
    yield from (cell for cell in BEST[name] if cell.interval)


def search_cells() -> Iterator[Cell]:
    """Guidance in an interval, with a worse network, and both, with DDIM and with the
    solvers of order 2. The best are measured with more samples.
    """
    for guidance in (1.25, 1.5, 2.0, 3.0, 5.0):
        yield Cell(guidance=guidance)
        for interval in (None, (0.0, 0.5), (0.25, 0.75)):
            yield Cell(guidance=guidance, interval=interval, worse=True)
        for interval in BANDS:
            yield Cell(guidance=guidance, interval=interval)
    for guidance in (1.5, 2.0, 3.0, 4.0, 5.0, 7.0):
        for solver, steps in {"dpmpp_2m": 26, "heun": 13}.items():
            yield Cell(solver, "uniform", steps, guidance, interval=(0.25, 0.75))


def guidance_cells(name: str) -> list[Cell]:
    """Plain guidance, and the best that the search found of the other two ways."""
    return [Cell(guidance=scale) for scale in (1.0, 1.5, 2.0, 3.0)] + BEST[name]


def parts_of(name: str) -> dict[str, list[Cell]]:
    """The cells of each part."""
    solvers = [*solver_cells(1.0), *solver_cells(RECOMMENDED[name])]
    return {
        "spacings": [*spacing_cells()],
        "search": [*search_cells()],
        "guidance": guidance_cells(name),
        "solvers": [*solvers, Cell(steps=100)],
        "deciding": [*deciding_cells(name)],
    }


def key_of(record: dict) -> Cell:
    """The Cell of a record."""
    given = {name: record[name] for name in asdict(Cell())}
    between = given["interval"]
    return Cell(**{**given, "interval": tuple(between) if between else None})


def from_card(name: str, model: str) -> list[dict]:
    """The records of cells that `card` has measured already, of this model."""
    found = {}
    for what in ("table", "guidance"):
        result = committed(name, what)
        if result is None or result["model"] != model:
            continue
        for cell in result["cells"]:
            if cell["eta"] == 0 and cell.get("spacing", "uniform") == "uniform":
                how = Cell(steps=cell["steps"], guidance=cell["guidance"])
                figures = {
                    key: cell[key] for key in cell if key not in ("eta", "sampler")
                }
                found[how] = {**figures, **asdict(how), "seed": result["seed"]}
    return list(found.values())


def networks(name: str) -> tuple[Checkpoint, nn.Module]:
    """The checkpoint and the worse network, in the memory format that is faster."""
    checkpoint = load(name)
    worse = load(CHECKPOINTS / f"{name}-worse.safetensors").model
    for model in (checkpoint.model, worse):
        model.to(memory_format=torch.channels_last)
    return checkpoint, worse


def run(name: str, cells: list[Cell], n: int, seed: int, path: Path) -> None:
    """Measure the cells that the file at path does not hold, and add them to it."""
    data = dataset(name)
    checkpoint, other = networks(name)
    judge = judge_for(name, checkpoint)
    about = {"name": name, "model": digest(checkpoint.model), "machine": machine("cpu")}
    result = {**about, "cells": from_card(name, about["model"])}
    if path.exists():
        result = json.loads(path.read_text(encoding="utf-8"))
        if result["model"] != about["model"]:
            raise SystemExit(f"{path}: of another checkpoint; move it away")
    known = [(key_of(record), record["n"]) for record in result["cells"]]
    c = in_shares(data.c, n)
    for cell in cells:
        if (cell, n) in known:
            continue
        x, evaluations = measured(checkpoint, other, cell, c, seed)
        how = {**asdict(cell), "evaluations": evaluations}
        result["cells"].append({**how, "seed": seed, **figures(judge, x, c, data)})
        write_json(path, result)
        print(line_of(result["cells"][-1]), flush=True)


def add_seconds(name: str, path: Path) -> None:
    """Measure the time of each cell in the file at path, on a machine that is idle."""
    data = dataset(name)
    checkpoint, other = networks(name)
    result = json.loads(path.read_text(encoding="utf-8"))
    c = in_shares(data.c, BATCH)
    seconds = {}
    for cell in {key_of(record): None for record in result["cells"]}:
        spent = []
        for seed in range(3):
            began = time.thread_time()
            measured(checkpoint, other, cell, c, seed)
            spent.append(time.thread_time() - began)
        seconds[cell] = median(spent) / len(c)
    for record in result["cells"]:
        record["seconds"] = record["n"] * seconds[key_of(record)]
    write_json(path, result)


def line_of(record: dict) -> str:
    """A record in one line."""
    form = (
        "{n} {evaluations:6.1f} evaluations: FCD {fcd:.4f}, class {label_accuracy:.2%}"
    )
    return f"{key_of(record)}\n    " + form.format(**record)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("name", choices=BUILT_IN)
    parts = ("spacings", "search", "guidance", "solvers", "deciding", "seconds")
    parser.add_argument("--parts", nargs="+", choices=parts, default=parts)
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    path = chosen.out or CHECKPOINTS / f"{chosen.name}_after_ddim.json"
    for part in chosen.parts:
        if part == "seconds":
            add_seconds(chosen.name, path)
            continue
        searching = part == "search"  # with other noise than what is then measured
        n = SAMPLES.get(part, chosen.samples)
        run(chosen.name, parts_of(chosen.name)[part], n, int(searching), path)


if __name__ == "__main__":
    main()
