"""make inversion: pictures to latents and back, the DDIM paper's table 2 on our data.

Test digits, or sprites of another seed, are told their class and go up with invert and
down with ddim in as many steps. Writes checkpoints/NAME_inversion.json by cells, goes
on where it was, and fills the model card.
"""

import argparse
import json
import time

import torch
from torch import Tensor

from lesson_utils import Checkpoint, ddim, guide, invert, last, load, progress
from lesson_utils.checkpoint import CHECKPOINTS, replacing
from lesson_utils.cli import best_device, machine
from lesson_utils.data import UNSEEN
from lesson_utils.evaluation import digest
from tools.blocks import fill

# S and the paper's mean squared error for CIFAR-10 test pictures in [0, 1].
PAPER = {10: 0.014, 20: 0.0065, 50: 0.0023, 100: 0.0009, 200: 0.0004, 500: 0.0001}
REFINE = (0, 1, 2)
BATCH = 100


def there_and_back(
    checkpoint: Checkpoint, x0: Tensor, c: Tensor, steps: int, refine: int
) -> tuple[Tensor, Tensor]:
    """The latents of pictures x0 (B,C,H,W) of context c (B,K), and those sampled."""
    eps_fn, schedule = guide(checkpoint.model, c), checkpoint.schedule
    latent = last(invert(eps_fn, x0, schedule, steps, refine=refine))
    return latent, last(ddim(eps_fn, latent, schedule, steps))


def figures(x0: Tensor, latent: Tensor, back: Tensor) -> dict:
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


def measure(name: str, n: int) -> dict:
    """Fill checkpoints/NAME_inversion.json; ValueError if it is of another network."""
    path, device = CHECKPOINTS / f"{name}_inversion.json", best_device()
    checkpoint, data = load(name, device), UNSEEN[name]()
    some = torch.randperm(len(data.x), generator=torch.Generator().manual_seed(0))[:n]
    made = {"name": name, "n": n, "model": digest(checkpoint.model)}
    result = {**made, "machine": machine(device), "cells": []}
    if path.exists():
        result = json.loads(path.read_text(encoding="utf-8"))
        if {key: result[key] for key in made} != made:
            raise ValueError(f"{path}: of another network or number; move it away")
    done = {(cell["steps"], cell["refine"]) for cell in result["cells"]}
    wanted = [(steps, refine) for refine in REFINE for steps in PAPER]
    for steps, refine in progress([w for w in wanted if w not in done], label=name):
        start, found = time.perf_counter(), []
        for part in some.split(BATCH):
            x0, c = data.x[part].to(device), data.c[part].to(device)
            pair = there_and_back(checkpoint, x0, c, steps, refine)
            found.append([tensor.cpu() for tensor in (x0, *pair)])
        cell = {"steps": steps, "refine": refine, "paper": PAPER[steps]}
        cell |= figures(*map(torch.cat, zip(*found, strict=True)))
        result["cells"].append(cell | {"seconds": time.perf_counter() - start})
        result["cells"].sort(key=lambda cell: (cell["refine"], cell["steps"]))
        with replacing(path) as part:
            part.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return result


def table(result: dict) -> str:
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


def card(result: dict) -> str:
    """All that was measured, as Markdown for the model card."""
    lines = [
        f"Mean squared error of {result['n']} pictures that went up with `invert` and "
        "down with `ddim`, S steps each; values in [0, 1], errors in units of 10⁻⁴:",
        "",
        table(result),
        "",
        "| refine | S | mean, 10⁻⁴ | median | worst | latents: mean "
        "| variance | correlation of neighbours |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for cell in result["cells"]:
        lines.append(
            f"| {cell['refine']} | {cell['steps']} | {1e4 * cell['mse']:.2g} ± "
            f"{1e4 * cell['error']:.2g} | {1e4 * cell['median']:.2g} "
            f"| {1e4 * cell['worst']:.3g} | {cell['mean']:.2f} "
            f"| {cell['variance']:.2f} | {cell['correlation']:.2f} |"
        )
    made = f"Measured by `make inversion DATASET={result['name']}` on: "
    return "\n".join([*lines, "", f"{made}{result['machine']}."])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--checkpoint", default="sprites", choices=UNSEEN)
    parser.add_argument("--n", type=int, default=200, help="pictures")
    chosen = parser.parse_args()
    text = card(measure(chosen.checkpoint, chosen.n))
    fill(CHECKPOINTS / "README.md", f"{chosen.checkpoint} inverted", text)
    print(text)


if __name__ == "__main__":
    main()
