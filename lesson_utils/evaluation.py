"""Quality and time over the steps and η of a sampler: table 1 of the DDIM paper."""

import json
import time
from collections.abc import Iterator, Sequence
from itertools import repeat
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from torch import Tensor, nn

from .arguments import check_eta, finite, real, refuse, shaped, whole
from .checkpoint import (
    Checkpoint,
    fingerprint,
    read_tensors,
    replacing,
    write_tensors,
)
from .data import Pictures
from .metrics import (
    Judge,
    classifier_score,
    frechet_distance,
    interval,
    kernel_distance,
    nearest,
    precision_recall,
    share_interval,
)
from .noise import image_generators, initial_noise
from .sampling import Step, ddim, guide
from .viz import COLOURS, LINES, png

BATCH = 100  # samples at a time
COPY = 0.05  # a nearer neighbour in the training data is called a copy
ABOVE = {"xycoords": ("data", "axes fraction"), "ha": "center"}  # of a chart


class Setting(NamedTuple):
    """One cell of the table: a DDIM sampler; η = 1 with all T steps is DDPM."""

    steps: int
    eta: float | str = 0.0
    guidance: float = 1.0


def figures(judge: Judge, x: Tensor, c: Tensor, data: Pictures | None = None) -> dict:
    """All that the judge says of pictures x (N,C,H,W), asked for by c (N,K).

    data: what the model was trained on, for the figures that compare with it picture by
    picture (precision, recall, kernel distance, nearest neighbour); None leaves them
    out. Intervals: 95 %, of the FCD by resampling within each class, of the label
    accuracy Wilson's. ValueError as the metrics.
    """
    n, (features, logits) = len(x), judge.seen(x)
    wanted = c.argmax(1)
    right = (logits.argmax(1) == wanted).double()

    def fcd(i: Tensor) -> float:
        return frechet_distance(features[i], judge.real)

    each = [right[wanted == k] for k in range(c.shape[1])]
    found = {
        "n": n,
        "fcd": fcd(torch.arange(n)),
        "fcd_interval": [*interval(fcd, wanted)],
        "label_accuracy": float(right.mean()),
        "label_accuracy_interval": [*share_interval(float(right.mean()), n)],
        "by_class": [float(k.mean()) if len(k) else None for k in each],
        "classifier_score": classifier_score(logits),
    }
    if data is None:
        return found
    some = torch.randperm(len(data.x), generator=torch.Generator().manual_seed(0))
    some_features, _ = judge.seen(data.x[some[:n]])
    size = min(200, n, len(some_features))
    kernel = kernel_distance(features, some_features, 100, size)
    precision, recall = precision_recall(features, some_features)
    _, distance = nearest(x, data.x)
    return found | {
        "kernel_distance": [*kernel],
        "precision": precision,
        "recall": recall,
        "nearest_median": float(distance.median()),
        "copies": float((distance < COPY).double().mean()),
    }


def sampled(
    checkpoint: Checkpoint, c: Tensor, setting: Setting, seed: int = 0, start: int = 0
) -> Iterator[Step]:
    """The steps of DDIM towards one picture for each row of c (B,K).

    Picture start + i depends on seed and its number alone, as initial_noise has it.
    """
    device = next(checkpoint.model.parameters()).device
    x = initial_noise(len(c), checkpoint.image_shape, seed, start).to(device)
    eps_fn = guide(checkpoint.model, c.to(device), setting.guidance)
    fresh = image_generators(len(c), seed, start)
    steps, eta = setting.steps, setting.eta
    return ddim(eps_fn, x, checkpoint.schedule, steps, eta, generator=fresh)


def evaluate(
    checkpoint: Checkpoint,
    judge: Judge,
    settings: Sequence[Setting],
    n: int,
    path: str | Path,
    data: Pictures,
    unseen: Pictures | None = None,
    seed: int = 0,
    **about,
) -> Iterator[dict]:
    """Judge n samples at each setting; yields the result so far for each sampler step.

    path: a JSON file of the result, written after each setting: those that it holds
    already are not sampled again. A run that was killed goes on at the last batch, kept
    beside it. data: the training data, in whose shares the classes are asked for;
    unseen: others of their kind, the floor. about: what else the file should say, and
    must say if it is there, such as the machine. Seconds are n times the median over
    batches of the time a picture took, with nothing but the sampler inside; on a CPU
    those in which this program's first thread ran, so that other programs do not count.
    Raises ValueError, at the call, for settings that make no sense, a judge or data of
    other pictures, and a path with results of another model, judge, number or seed.
    """
    n, path, K = whole("n", n, 10, 50_000), Path(path), len(checkpoint.context)
    if path.suffix != ".json":
        refuse("path", "a path that ends in .json", str(path))
    if judge.in_channels != checkpoint.image_shape[0] or len(judge.names) != K:
        what = f"one of {checkpoint.image_shape[0]} channels and {K} classes"
        refuse("judge", what, f"{judge.in_channels} and {len(judge.names)}")
    for name, pictures in (("data.x", data), ("unseen.x", unseen)):
        if pictures is not None:
            shaped(name, pictures.x, "N", *checkpoint.image_shape)
    if len(data.x) < 10:
        refuse("data.x", "10 pictures or more", data.x)
    todo = [checked(setting, checkpoint.schedule.T) for setting in settings]
    if not todo:
        refuse("settings", "one Setting or more", settings)
    made = {"n": n, "seed": whole("seed", seed, 0, 2**31)}
    made |= {"model": digest(checkpoint.model), "judge": digest(judge)}
    made |= {"data": fingerprint(data.x[:100])[-16:], **about}
    result = read_result(path, made) if path.exists() else made | {"cells": []}
    wanted = in_shares(data.c, n)
    c = torch.eye(K)[wanted]
    done = {setting_of(cell) for cell in result["cells"]}
    on_cpu = next(checkpoint.model.parameters()).device.type == "cpu"
    clock = time.thread_time if on_cpu else time.perf_counter

    def keep() -> None:
        with replacing(path) as file:
            file.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")

    def loop() -> Iterator[dict]:
        if unseen is not None and "floor" not in result:
            some = of_classes(unseen.c, wanted)
            result["floor"] = figures(judge, unseen.x[some], unseen.c[some], data)
            keep()
        for setting in todo:
            if setting in done:
                yield from repeat(result, setting.steps * -(-n // BATCH))
                continue
            key = made | {"setting": list(setting)}
            name = "-".join(map(str, setting))
            part = path.with_suffix(f".{name}.part.safetensors")
            x, times = read_part(part, key, checkpoint.image_shape)
            yield from repeat(result, setting.steps * len(times))
            while len(x) < n:
                rows, spent, began = c[len(x) : len(x) + BATCH], 0.0, clock()
                for step in sampled(checkpoint, rows, setting, seed, len(x)):
                    spent, last_x = spent + clock() - began, step.x
                    yield result
                    began = clock()
                last_x = last_x.cpu()  # waits for a GPU
                times.append((spent + clock() - began) / len(rows))
                x = torch.cat([x, last_x])
                write_tensors(part, {"x": x}, key | {"times": times})
            evaluations = setting.steps * (1 if setting.guidance in (0, 1) else 2)
            cell = setting._asdict() | {"evaluations": evaluations}
            cell["seconds"] = round(n * median(times), 6)
            result["cells"].append(cell | figures(judge, x, c, data))
            done.add(setting)
            keep()
            part.unlink()

    return loop()


def digest(model: nn.Module) -> str:
    """A checksum of its weights, for results that must be of the same."""
    return fingerprint(*model.state_dict().values())[-16:]


def in_shares(c: Tensor, n: int) -> Tensor:
    """n classes, each as often as in the rows of c (N,K), shuffled: (n,) int64.

    Evenly instead of at random: a distance of few pictures is mostly one of shares.
    """
    shares = c.argmax(1).bincount(minlength=c.shape[1]).cumsum(0) / len(c)
    wanted = torch.searchsorted(shares, (torch.arange(n) + 0.5) / n)
    return wanted[torch.randperm(n, generator=torch.Generator().manual_seed(0))]


def of_classes(c: Tensor, wanted: Tensor) -> Tensor:
    """Numbers of rows of c (N,K) at random, of each class as many as wanted has."""
    order = torch.randperm(len(c), generator=torch.Generator().manual_seed(0))
    number, counts = c[order].argmax(1), wanted.bincount(minlength=c.shape[1])
    return torch.cat([order[number == k][:m] for k, m in enumerate(counts)])


def checked(setting: Setting, T: int) -> Setting:
    """The setting with its numbers as such; ValueError if DDIM cannot run it."""
    steps = whole("steps", setting.steps, 1, T)
    check_eta(setting.eta)
    eta = setting.eta if setting.eta == "sigma-hat" else float(setting.eta)
    return Setting(steps, eta, real("guidance", setting.guidance, "[0, inf)"))


def setting_of(cell: dict) -> Setting:
    """The setting of a result's cell."""
    return Setting(cell["steps"], cell["eta"], cell["guidance"])


def read_result(path: str | Path, made: dict | None = None) -> dict:
    """What evaluate wrote to path; ValueError if it is none, or not of what made says.

    made: what it must say, such as its n, seed, model and judge; None for anything.
    """
    try:
        result = json.loads(Path(path).read_text(encoding="utf-8"))
        if not isinstance(result["cells"], list):
            raise TypeError("cells must be a list")
        for cell in result["cells"]:
            checked(setting_of(cell), 10**6)
            for key in ("n", "seconds", "fcd", "label_accuracy"):
                real(key, cell[key], "(-inf, inf)")
            finite("fcd_interval", cell["fcd_interval"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as problem:
        raise ValueError(f"{path}: no result of evaluate ({problem!r})") from None
    other = [key for key in made or {} if result.get(key) != made[key]]
    if other:
        why = f"of another {', '.join(other)}; move it away, or give another --out"
        raise ValueError(f"{path}: {why}")
    return result


def read_part(path: Path, key: dict, shape: tuple) -> tuple[Tensor, list[float]]:
    """The samples of an unfinished cell and the times they took: none if of another."""
    if path.exists():
        tensors, record = read_tensors(path)
        if {name: record.get(name) for name in key} == key:
            return tensors["x"], record["times"]
    return torch.zeros(0, *shape), []


def by_eta(result: dict, guidance: float = 1.0) -> dict[float | str, list[dict]]:
    """The cells of a guidance: for each η, σ̂ last, those of rising steps."""
    cells = [cell for cell in result["cells"] if cell["guidance"] == guidance]
    cells.sort(key=lambda cell: cell["steps"])
    etas = {cell["eta"] for cell in cells}
    ordered = sorted(etas, key=lambda eta: (eta == "sigma-hat", eta))
    return {eta: [cell for cell in cells if cell["eta"] == eta] for eta in ordered}


def table(result: dict, figure="fcd", form=".3f", guidance=1.0) -> str:
    """A figure of every cell in the layout of the paper's table 1, as Markdown."""
    rows = by_eta(result, guidance)
    steps = sorted({cell["steps"] for row in rows.values() for cell in row})
    lines = [f"| η | {' | '.join(f'S = {S}' for S in steps)} |"]
    lines.append("|---|" + "---:|" * len(steps))
    for eta, row in rows.items():
        texts = {cell["steps"]: format(cell[figure], form) for cell in row}
        texts = [texts.get(S, "–") for S in steps]
        lines.append(f"| {label_of(eta)} | {' | '.join(texts)} |")
    return "\n".join(lines)


def chart(result: dict, guidance: float = 1.0) -> bytes:
    """FCD over the time of a picture, a line for each η, as the bytes of a PNG.

    The dots that none with as many steps or fewer beats are ringed: the frontier.
    """
    figure = Figure(figsize=(7.5, 4.2), dpi=100, layout="constrained")
    axes = figure.subplots()
    axes.set(xscale="log", yscale="log", xlabel="milliseconds for a picture")
    axes.set_ylabel("Fréchet classifier distance (FCD)")
    dots = []  # (steps, FCD, milliseconds)
    for i, (eta, row) in enumerate(by_eta(result, guidance).items()):
        x = [1000 * cell["seconds"] / cell["n"] for cell in row]
        y = [max(cell["fcd"], 1e-9) for cell in row]  # rounding may make it negative
        high = [cell["fcd_interval"][1] - fcd for cell, fcd in zip(row, y, strict=True)]
        low = [min(h, 0.9 * fcd) for h, fcd in zip(high, y, strict=True)]
        look = {"color": COLOURS[i % len(COLOURS)], "ls": LINES[i % len(LINES)]}
        label = f"η = {label_of(eta)}"
        axes.errorbar(x, y, [low, high], label=label, marker="o", ms=4, **look)
        steps = [cell["steps"] for cell in row]
        dots += zip(steps, y, x, strict=True)
        for S, place in zip(steps, x, strict=True) if eta == 0 else ():
            axes.annotate(f"S = {S}", (place, 1.02), **ABOVE)
    best = [p for p in dots if not any(q[0] <= p[0] and q[1] < p[1] for q in dots)]
    _, y, x = zip(*best, strict=True)
    axes.plot(x, y, "ko", ms=11, mfc="none", mew=0.8, label="the frontier")
    x = [ms for *_, ms in dots]
    axes.set_xlim(min(x) / 1.3, max(x) * 1.3)  # a single dot has none of its own
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(NullFormatter())
    if "floor" in result:
        words = f"{result['floor']['n']:,} real\npictures:\nthe floor"
        axes.axhline(result["floor"]["fcd"], color="0.5", lw=1, label=words)
    figure.legend(frameon=False, loc="outside right center")
    axes.grid(alpha=0.25, which="both")
    return png(figure, 96)


def label_of(eta: float | str) -> str:
    """η as tables and charts name it."""
    return "σ̂" if eta == "sigma-hat" else f"{eta:g}"
