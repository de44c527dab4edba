"""Quality and time over samplers, their steps and η: table 1 of the DDIM paper.

`evaluate` has three parts: plan what is to be done and refuse what cannot be, sample a
cell of the table, judge a cell. What was done is never done again.
"""

import json
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product, repeat
from pathlib import Path
from statistics import median
from typing import Annotated, NamedTuple

import torch
from torch import Tensor, nn

from ..checkpoint import Checkpoint
from ..data import Pictures, same_data
from ..noise import image_generators, initial_noise
from ..samples import SAMPLERS, refuse_for_student
from ..sampling import Step, guide
from ..support.checked import (
    Call,
    checked,
    choice,
    each,
    instance,
    optional,
    real,
    refuse,
    tensor,
    whole,
)
from ..support.files import (
    fingerprint,
    located,
    read_tensors,
    write_json,
    write_tensors,
)
from ..support.processes import agreed, count, gathered, is_main
from ..support.processes import number as process
from ..support.rules import FINITE, eta_rule, numbers, spacing_rule
from ..support.words import reason
from .judge import Judge
from .metrics import (
    classifier_score,
    frechet_distance,
    interval,
    kernel_distance,
    nearest,
    precision_recall,
    share_interval,
)

BATCH = 100  # samples at a time
COPY = 0.05  # a nearer neighbour in the training data is called a copy
SOLVERS = [name for name, sampler in SAMPLERS.items() if "steps" in sampler.takes]


def solver_rule(name: str, value: object, call: Call) -> str:
    """A sampler whose steps can be chosen; one that knows no η has 0 for it."""
    solver = choice(*SOLVERS)(name, value)
    if "eta" not in SAMPLERS[solver].takes and call["eta"] != 0:
        refuse("eta", f"0 with {solver}", call["eta"])
    return solver


def solvers_rule(name: str, value: object, call: Call) -> tuple[str, ...]:
    """One or more of them; where one knows no η, 0 is among the η asked for."""
    solvers = each(choice(*SOLVERS))(name, value)
    for solver in solvers:
        if "eta" not in SAMPLERS[solver].takes and 0 not in call["eta"]:
            refuse("eta", f"with {solver}, 0 among them", call["eta"])
    return solvers


@checked()
@dataclass(frozen=True)
class Sampling:
    """How to sample, and so one cell of a table; η = 1 with all T steps is DDPM."""

    steps: Annotated[int, whole(1), "the steps S"] = 20
    eta: Annotated[float | str, eta_rule, "a number in [0, 1] or sigma-hat"] = 0.0
    guidance: Annotated[float, real("[0, inf)"), "the scale"] = 1.0
    spacing: Annotated[str, spacing_rule, "of the times"] = "uniform"
    sampler: Annotated[str, solver_rule, "or heun or dpmpp_2m, whose η is 0"] = "ddim"

    @property
    def evaluations(self) -> int:
        """Of the network, for one image; those of guidance count double."""
        once = SAMPLERS[self.sampler].evaluations(self.steps)
        return once * (1 if self.guidance in (0, 1) else 2)


@checked()
@dataclass(frozen=True)
class Experiment:
    """What to evaluate: every combination of these, so many samples for each.

    Its fields are the flags of the command line, with their rules, help and defaults.
    """

    steps: Annotated[tuple, each(whole(1)), "each of them"] = (10, 20, 50, 100, 500)
    eta: Annotated[tuple, each(eta_rule), "with each"] = (0, 0.2, 0.5, 1, "sigma-hat")
    guidance: Annotated[tuple, each(real("[0, inf)")), "and each of these scales"] = (
        1,
    )
    n_samples: Annotated[int, whole(10, 50_000), "for each combination"] = 500
    seed: Annotated[int, whole(0, 2**31), "of the noise"] = 0
    sampler: Annotated[
        tuple,
        solvers_rule,
        f"each of {', '.join(SOLVERS)}; the last two with η = 0 alone",
    ] = ("ddim",)
    spacing: Annotated[
        tuple, each(spacing_rule), "each of uniform, linspace, quad, logsnr"
    ] = ("uniform",)

    def cells(self) -> list[Sampling]:
        """All combinations that make sense, without repeats, in their order."""
        found = []
        for sampler, spacing in product(self.sampler, self.spacing):
            for steps, eta, scale in product(self.steps, self.eta, self.guidance):
                if eta == 0 or "eta" in SAMPLERS[sampler].takes:
                    found.append(Sampling(steps, eta, scale, spacing, sampler))
        return list(dict.fromkeys(found))


def figures(
    judge: Judge | None, x: Tensor, c: Tensor, data: Pictures | None = None
) -> dict:
    """All that the judge says of images x (N,C,H,W), asked for by c (N,K).

    data: what the model was trained on, for the figures that compare with it image by
    image (precision, recall, kernel distance, nearest neighbour); None leaves them
    out. label_accuracy: the share of images that show what was asked for, and all of
    it, as `Judge.right` has it; by_class: that of those for which the class was asked.
    classifier_score: None where an image may show several classes. Intervals: 95 %, of
    the FCD by resampling within each kind of context, of the label accuracy Wilson's.
    judge: None for images without classes: the nearest neighbours alone are left.
    ValueError as the metrics.
    """
    n, x, c = len(x), x.cpu(), c.cpu()
    if judge is None:
        return {"n": n, **neighbourhood(x, data)}
    asked = judge.asked_for(c)
    _, kinds = distinct(asked)
    features, logits = judge.seen(x)
    right = judge.right(logits, c).double()

    def fcd(i: Tensor) -> float:
        return frechet_distance(features[i], judge.real)

    by_class = [right[of_class] for of_class in asked.T]
    found = {
        "n": n,
        "fcd": fcd(torch.arange(n)),
        "fcd_interval": [*interval(fcd, kinds)],
        "label_accuracy": float(right.mean()),
        "label_accuracy_interval": [*share_interval(float(right.mean()), n)],
        "by_class": [float(k.mean()) if len(k) else None for k in by_class],
        "classifier_score": None if judge.several else classifier_score(logits),
    }
    if data is not None:
        found.update(beside(features, x, judge, data))
    return found


def beside(features: Tensor, x: Tensor, judge: Judge, data: Pictures) -> dict:
    """The figures that compare n samples with n images of the training data."""
    n = len(x)
    some = torch.randperm(len(data.x), generator=torch.Generator().manual_seed(0))
    real_features, _ = judge.seen(data.x[some[:n]])
    size = min(200, n, len(real_features))
    kernel = kernel_distance(features, real_features, 100, size)
    precision, recall = precision_recall(features, real_features)
    return {
        "kernel_distance": [*kernel],
        "precision": precision,
        "recall": recall,
        **neighbourhood(x, data),
    }


def neighbourhood(x: Tensor, data: Pictures) -> dict:
    """How near images (N,C,H,W) are to the training images nearest to them."""
    _, distance = nearest(x, data.x)
    return {
        "nearest_median": float(distance.median()),
        "copies": float((distance < COPY).double().mean()),
    }


def sampled(
    checkpoint: Checkpoint, c: Tensor, cell: Sampling, seed: int = 0, start: int = 0
) -> Iterator[Step]:
    """The steps of a sampler towards one image for each row of c (B,K).

    Image start + i depends on seed and its number alone, as initial_noise has it.
    """
    device = next(checkpoint.model.parameters()).device
    x = initial_noise(len(c), checkpoint.image_shape, seed, start).to(device)
    eps_fn = guide(checkpoint.model, c.to(device), cell.guidance)
    fresh = image_generators(len(c), seed, start)
    sampler = SAMPLERS[cell.sampler]
    steps = checkpoint.times or cell.steps
    return sampler.run(eps_fn, x, checkpoint.schedule, steps, cell, fresh)


@checked(
    checkpoint=instance(Checkpoint, "a Checkpoint, as load gives,"),
    judge=optional(instance(Judge, "a Judge, as judge_for gives, or None,")),
    experiment=instance(Experiment, "Experiment(…)"),
    data=instance(Pictures, "Pictures(x, c, names), as dataset gives,"),
    unseen=optional(instance(Pictures, "Pictures(x, c, names), or None,")),
)
def evaluate(
    checkpoint: Checkpoint,
    judge: Judge | None,
    experiment: Experiment,
    path: str | Path,
    data: Pictures,
    unseen: Pictures | None = None,
    **about,
) -> Iterator[dict]:
    """Judge n samples of each cell; yields the result so far for each sampler step.

    judge: None for a checkpoint without classes, of which only the time and the nearest
    training images are measured. path: a JSON file of the result, written after each
    cell: those that it holds already are not sampled again. A run that was killed goes
    on at the last batch, kept beside it. data: the training data, in whose shares its
    contexts are asked for; unseen: others of their kind, the floor. about: what else
    the file should say, and must say if it is there, such as the machine. Seconds are n
    times the median over batches of the time an image took, with nothing but the
    sampler inside; on a CPU those in which this program's first thread ran, so that
    other programs do not count. Under `accelerate launch` the processes share the
    batches of a cell, to the same figures; the main one judges and writes.
    Raises ValueError, at the call, for cells that make no sense, a judge or data of
    other images, and a path with results of another model, judge, number or seed.
    """
    path = located(path)
    plan = planned(checkpoint, judge, experiment, path, data, unseen, about)

    def loop() -> Iterator[dict]:
        floor_due = judge and unseen is not None and "floor" not in plan.result
        if floor_due and is_main():
            some = like_those(judge.asked_for(unseen.c), judge.asked_for(plan.c))
            floor = figures(judge, unseen.x[some], unseen.c[some], data)
            plan.result["floor"] = floor
            write_json(plan.path, plan.result)
        for cell in plan.cells:
            if cell in [cell_of(record) for record in plan.result["cells"]]:
                batches = -(-experiment.n_samples // BATCH)
                yield from repeat(plan.result, cell.steps * batches)
                continue
            x, seconds = yield from sample_cell(plan, cell)
            if not is_main():
                continue
            plan.result["cells"].append(judge_cell(plan, cell, x, seconds))
            write_json(plan.path, plan.result)
            part_of(plan, cell).unlink()

    return loop()


# Plan


class Plan(NamedTuple):
    """An evaluation that makes sense, and how far it is.

    c: (n,K), the context of each sample; made_of: what a result must say to go on with
    it; result: what the file at path says.
    """

    checkpoint: Checkpoint
    judge: Judge | None
    data: Pictures
    cells: list[Sampling]
    c: Tensor
    seed: int
    path: Path
    made_of: dict
    result: dict


def planned(checkpoint, judge, experiment, path, data, unseen, about) -> Plan:
    """The plan of an evaluation; ValueError for what cannot be done."""
    K, n = len(checkpoint.context), experiment.n_samples
    if path.suffix != ".json":
        refuse("path", "a path that ends in .json", str(path))
    judge_fits(judge, checkpoint)
    shape = " ".join(map(str, checkpoint.image_shape))
    tensor(f"N {shape}")("data.x", data.x)
    tensor(f"{len(data.x)} {K}", span=FINITE)("data.c", data.c)
    if unseen is not None:
        tensor(f"N {shape}")("unseen.x", unseen.x)
        tensor(f"{len(unseen.x)} {K}", span=FINITE)("unseen.c", unseen.c)
    if len(data.x) < 10:
        refuse("data.x", "10 images or more", data.x)
    if same_data(data, checkpoint) is False:
        refuse("data", "what the checkpoint was trained on", f"{len(data.x)} others")
    for cell in experiment.cells():
        whole(1, checkpoint.schedule.T)("steps", cell.steps)
        if checkpoint.times:
            refuse_for_student(checkpoint, cell)
    made_of = {
        "n": n,
        "seed": experiment.seed,
        "model": digest(checkpoint.model),
        "judge": digest(judge) if judge else None,
        "data": fingerprint(data.x[:100])[-16:],
        **about,
    }
    result = read_result(path, made_of) if path.exists() else {**made_of, "cells": []}
    result = agreed(result)
    c = in_shares(data.c, n)
    cells, seed = experiment.cells(), experiment.seed
    return Plan(checkpoint, judge, data, cells, c, seed, path, made_of, result)


def judge_fits(judge: Judge | None, checkpoint: Checkpoint) -> None:
    """ValueError unless the judge knows the checkpoint's images and classes."""
    shape, K = tuple(checkpoint.image_shape), len(checkpoint.context)
    what = f"one of images {shape} and {K} classes" if K else "None without classes"
    if judge is None and K:
        refuse("judge", what, None)
    if judge is None:
        return
    known = judge.image_shape or (judge.in_channels, *shape[1:])
    if known != shape or len(judge.names) != K:
        refuse("judge", what, f"one of {known} and {len(judge.names)}")


def digest(model: nn.Module) -> str:
    """A checksum of its weights, for results that must be of the same."""
    return fingerprint(*model.state_dict().values())[-16:]


def in_shares(c: Tensor, n: int) -> Tensor:
    """n contexts, each as often as among the rows of c (N,K), shuffled: (n,K).

    Evenly instead of at random: a distance of few images is mostly one of shares.
    """
    if not c.shape[1]:
        return c.new_zeros(n, 0)
    rows, number = distinct(c)
    shares = number.bincount().cumsum(0) / len(c)
    wanted = torch.searchsorted(shares, (torch.arange(n) + 0.5) / n)
    shuffled = torch.randperm(n, generator=torch.Generator().manual_seed(0))
    return rows[wanted[shuffled]]


def distinct(rows: Tensor) -> tuple[Tensor, Tensor]:
    """The (M,K) that occur among rows (N,K), class after class; their numbers (N,)."""
    found, number = rows.unique(dim=0, return_inverse=True)
    return found.flip(0), len(found) - 1 - number


def like_those(asked: Tensor, wanted: Tensor) -> Tensor:
    """Numbers of rows of asked (N,K) at random, of each kind as many as in wanted."""
    order = torch.randperm(len(asked), generator=torch.Generator().manual_seed(0))
    _, number = distinct(torch.cat([wanted, asked[order]]))
    counts, number = number[: len(wanted)].bincount(), number[len(wanted) :]
    return torch.cat([order[number == k][:m] for k, m in enumerate(counts)])


# Sample a cell


def sample_cell(plan: Plan, cell: Sampling) -> Iterator[dict]:
    """Yields plan.result for each step; returns the samples, and seconds for all.

    What another run has sampled is taken from the file that it left. Of several
    processes each samples one batch at a time, and the main one writes.
    """
    n, part = len(plan.c), part_of(plan, cell)
    key = {**plan.made_of, "setting": asdict(cell)}
    x, times = agreed(read_part(part, key, plan.checkpoint.image_shape))
    yield from repeat(plan.result, cell.steps * len(times))
    while len(x) < n:
        firsts = range(len(x), n, BATCH)[: count()]
        own = yield from sample_batch(plan, cell, firsts)
        for images, seconds in filter(None, gathered(own)):
            x = torch.cat([x, images])
            times.append(seconds)
        if is_main():
            write_tensors(part, {"x": x}, {**key, "times": times})
    return x, n * median(times)


def sample_batch(
    plan: Plan, cell: Sampling, firsts: Sequence[int]
) -> Generator[dict, None, tuple[Tensor, float] | None]:
    """Sample the batch that begins with this process's number of firsts, if it has one.

    Yields plan.result for each step of each process's batch; returns the samples, and
    the seconds that one took.
    """
    if process() >= len(firsts):
        yield plan.result
        return None
    clock = clock_for(plan.checkpoint)
    start = firsts[process()]
    rows, spent, began = plan.c[start : start + BATCH], 0.0, clock()
    for step in sampled(plan.checkpoint, rows, cell, plan.seed, start):
        spent, x = spent + clock() - began, step.x
        yield from repeat(plan.result, len(firsts))
        began = clock()
    x = x.cpu()  # waits for a GPU
    return x, (spent + clock() - began) / len(rows)


def clock_for(checkpoint: Checkpoint) -> Callable[[], float]:
    """What measures the seconds of a sampler: on a CPU other programs do not count."""
    on_cpu = next(checkpoint.model.parameters()).device.type == "cpu"
    return time.thread_time if on_cpu else time.perf_counter


def part_of(plan: Plan, cell: Sampling) -> Path:
    """Where the samples of an unfinished cell are kept."""
    name = "-".join(map(str, asdict(cell).values()))
    return plan.path.with_suffix(f".{name}.part.safetensors")


def read_part(path: Path, key: dict, shape: tuple) -> tuple[Tensor, list[float]]:
    """The samples of an unfinished cell and the times they took: none if of another."""
    if path.exists():
        tensors, record = read_tensors(path)
        if {name: record.get(name) for name in key} == key:
            return tensors["x"], record["times"]
    return torch.zeros(0, *shape), []


# Judge a cell


def judge_cell(plan: Plan, cell: Sampling, x: Tensor, seconds: float) -> dict:
    """The record of a cell: how it was sampled, the time, and all figures."""
    return {
        **asdict(cell),
        "evaluations": cell.evaluations,
        "seconds": round(seconds, 6),
        **figures(plan.judge, x, plan.c, plan.data),
    }


def cell_of(record: dict) -> Sampling:
    """How the samples of a record were made; older records say not all of it."""
    given = {key: record[key] for key in ("steps", "eta", "guidance")}
    more = {key: record[key] for key in ("spacing", "sampler") if key in record}
    return Sampling(**given, **more)


def was_judged(result: dict) -> bool:
    """Whether there was a judge: none for images without classes."""
    return result.get("judge", "") is not None


def read_result(path: str | Path, made_of: dict | None = None) -> dict:
    """What evaluate wrote to path; ValueError if it is none, or of something else.

    made_of: what it must say, such as its n, seed, model and judge; None for anything.
    """
    try:
        result = json.loads(Path(path).read_text(encoding="utf-8"))
        if not isinstance(result["cells"], list):
            raise TypeError("cells must be a list")
        judged = was_judged(result)
        found = ("fcd", "label_accuracy") if judged else ("nearest_median", "copies")
        for record in result["cells"]:
            cell_of(record)
            for key in ("n", "seconds", *found):
                real("(-inf, inf)")(key, record[key])
            if judged:
                numbers("fcd_interval", record["fcd_interval"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as problem:
        raise ValueError(f"{path}: no result of evaluate ({reason(problem)})") from None
    other = [key for key in made_of or {} if result.get(key) != made_of[key]]
    if other:
        why = f"of another {', '.join(other)}; move it away"
        raise ValueError(f"{path}: {why}")
    return result
