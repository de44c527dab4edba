"""Images to latents and back: the DDIM paper's table 2 on our data.

Unseen images are told their class and go up with invert and down with ddim in as many
steps.
"""

import json
import time
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path

import torch
from torch import Tensor

from ..checkpoint import Checkpoint
from ..data import Pictures
from ..sampling import ddim, guide, invert, last
from ..support.checked import whole
from ..support.files import write_json
from ..support.words import reason
from .experiment import digest

# S and the paper's mean squared error for CIFAR-10 test images in [0, 1].
PAPER = {10: 0.014, 20: 0.0065, 50: 0.0023, 100: 0.0009, 200: 0.0004, 500: 0.0001}
REFINE = (0, 1, 2)
BATCH = 100


def there_and_back(
    checkpoint: Checkpoint, x0: Tensor, c: Tensor, steps: int, refine: int
) -> tuple[Tensor, Tensor]:
    """The latents of images x0 (B,C,H,W) of context c (B,K), and those sampled."""
    eps_fn, schedule = guide(checkpoint.model, c), checkpoint.schedule
    latent = last(invert(eps_fn, x0, schedule, steps, refine=refine))
    return latent, last(ddim(eps_fn, latent, schedule, steps))


def errors(x0: Tensor, latent: Tensor, back: Tensor) -> dict:
    """How far (N,C,H,W) came back from x0, in [0, 1], and how normal the latents are.

    error: half of the 95 % interval of the mean; correlation: of a latent's value with
    that of its right neighbour.
    """
    each = ((back - x0) / 2).square().mean((1, 2, 3)).double()
    centred = latent - latent.mean()
    neighbours = (centred[..., 1:] * centred[..., :-1]).mean()
    return {
        "mse": float(each.mean()),
        "error": float(1.96 * each.std() / len(each) ** 0.5),
        "median": float(each.median()),
        "worst": float(each.max()),
        "mean": float(latent.mean()),
        "variance": float(centred.square().mean()),
        "correlation": float(neighbours / centred.square().mean()),
    }


def invert_all(
    checkpoint: Checkpoint,
    data: Pictures,
    n: int,
    path: Path,
    cells: Sequence[tuple[int, int]] | None = None,
    **about,
) -> Iterator[dict]:
    """Measure n images at each refine and S; yields the result after each of them.

    path: its JSON file, with which it goes on. cells: some of every_cell, None for all.
    about: what else it should say, such as the machine. ValueError, at the call, if the
    file is of another network or number.
    """
    n = whole(2, len(data.x))("n", n)
    made_of = {"n": n, "model": digest(checkpoint.model)}
    result = {**made_of, **about, "cells": []}
    if path.exists():
        result = read_inversion(path)
        if {key: result.get(key) for key in made_of} != made_of:
            raise ValueError(f"{path}: of another network or number; move it away")

    def loop() -> Iterator[dict]:
        for refine, steps in every_cell() if cells is None else cells:
            done = [(cell["refine"], cell["steps"]) for cell in result["cells"]]
            if (refine, steps) not in done:
                cell = invert_some(checkpoint, data, n, steps, refine)
                result["cells"].append(cell)
                write_json(path, result)
            yield result

    return loop()


def every_cell() -> list[tuple[int, int]]:
    """Each refine with each of the paper's S."""
    return [*product(REFINE, PAPER)]


def read_inversion(path: Path) -> dict:
    """What invert_all wrote to path; ValueError if it is none."""
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        [(cell["steps"], cell["refine"], cell["mse"]) for cell in result["cells"]]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as problem:
        raise ValueError(
            f"{path}: no result of invert_all ({reason(problem)})"
        ) from None
    return result


def invert_some(
    checkpoint: Checkpoint, data: Pictures, n: int, steps: int, refine: int
) -> dict:
    """The errors of n images of the data, chosen at random but always the same."""
    device = next(checkpoint.model.parameters()).device
    some = torch.randperm(len(data.x), generator=torch.Generator().manual_seed(0))[:n]
    start, latents, backs = time.perf_counter(), [], []
    for part in some.split(BATCH):
        x0, c = data.x[part].to(device), data.c[part].to(device)
        latent, back = there_and_back(checkpoint, x0, c, steps, refine)
        latents.append(latent.cpu())
        backs.append(back.cpu())
    return {
        "steps": steps,
        "refine": refine,
        "paper": PAPER[steps],
        **errors(data.x[some], torch.cat(latents), torch.cat(backs)),
        "seconds": time.perf_counter() - start,
    }


def inversion_table(result: dict) -> str:
    """The mean squared errors in 10⁻⁴ as Markdown, the paper's below them."""
    cells = {(cell["refine"], cell["steps"]): cell for cell in result["cells"]}
    sizes = sorted({steps for _, steps in cells})
    lines = [
        f"| | {' | '.join(f'S = {S}' for S in sizes)} |",
        "|---|" + "---:|" * len(sizes),
    ]
    for refine in sorted({refine for refine, _ in cells}):
        row = [f"{1e4 * cells[refine, S]['mse']:.2g}" for S in sizes]
        lines.append(f"| refine = {refine} | {' | '.join(row)} |")
    row = [f"{1e4 * PAPER[S]:g}" for S in sizes]
    return "\n".join([*lines, f"| the paper, CIFAR-10 | {' | '.join(row)} |"])
