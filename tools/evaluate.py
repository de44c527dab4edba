"""make evaluate: is the class asked for the class seen? 2,000 samples a guidance."""

import argparse
import json

import numpy as np
import torch
from torch import Tensor

from lesson_utils import (
    Checkpoint,
    Pictures,
    dataset,
    ddim,
    grid,
    guide,
    initial_noise,
    last,
    load,
)
from lesson_utils.checkpoint import CHECKPOINTS
from lesson_utils.cli import machine
from lesson_utils.metrics import Judge, load_judge, nearest
from lesson_utils.viz import progress
from tools.blocks import fill
from tools.judges import any_hue, hue_shift, sprites
from tools.pictures import write_png

GUIDANCE = (1.0, 1.5, 2.0, 3.0)
BATCH = 100


def samples(checkpoint: Checkpoint, c: Tensor, scale: float) -> Tensor:
    """DDIM with 20 steps, one sample for each row of c (N,K): (N,C,H,W)."""
    parts = []
    batches = c.split(BATCH)
    for i, part in enumerate(progress(batches, label=f"guidance {scale:g}")):
        shape = checkpoint.image_shape
        x = initial_noise(len(part), shape, seed=2026, start=i * BATCH)
        eps_fn = guide(checkpoint.model, part, scale)
        parts.append(last(ddim(eps_fn, x, checkpoint.schedule, steps=20)))
    return torch.cat(parts)


def judged(judge: Judge, x: Tensor, c: Tensor) -> dict:
    """Shares in which the class asked for is seen: in all, with interval, by class."""
    wanted = c.argmax(1)
    right = (judge.classes(x) == wanted).double()
    g = torch.Generator().manual_seed(0)
    again = torch.randint(len(right), (2000, len(right)), generator=g)
    low, high = right[again].mean(1).quantile(torch.tensor([0.025, 0.975]).double())
    turned = hue_shift(x.clamp(-1, 1), any_hue(len(x), g))
    return {
        "seen": float(right.mean()),
        "interval": [float(low), float(high)],
        "by_class": [float(right[wanted == k].mean()) for k in range(c.shape[1])],
        "hue_shifted": float((judge.classes(turned) == wanted).double().mean()),
    }


def table(result: dict) -> str:
    """The figures as Markdown."""
    names, judge, near = result["classes"], result["judge"], result["nearest"]
    rows = [
        f"{result['n']:,} samples of DDIM-20 each. Of {judge['unseen']:,} unseen drawn "
        f"sprites the judge names {judge['accuracy']:.2%} rightly, in other hues "
        f"{judge['accuracy_hue_shifted']:.2%}.",
        "",
        f"| guidance | class seen | 95 % interval | {' | '.join(names)} | other hues |",
        "|---:|---:|---|" + "---:|" * (len(names) + 1),
    ]
    for scale, r in result["guidance"].items():
        low, high = r["interval"]
        by_class = " | ".join(f"{share:.1%}" for share in r["by_class"])
        rows.append(
            f"| {scale} | {r['seen']:.1%} | {low:.1%} … {high:.1%} | {by_class} "
            f"| {r['hue_shifted']:.1%} |"
        )
    rows += [
        "",
        f"Distance to the nearest of {near['known']:,} drawn sprites (root mean "
        f"square, colours in [-1, 1]): median {near['samples']:.3f} for samples at "
        f"guidance 1, {near['drawn']:.3f} for sprites drawn afresh; below 0.05 are "
        f"{near['copies']:.1%} of the samples and {near['drawn_copies']:.1%} of those.",
        "",
        f"Measured by `make evaluate` on: {result['machine']}.",
    ]
    return "\n".join(rows)


def neighbours(x: Tensor, known: Tensor, index: Tensor) -> np.ndarray:
    """Samples in rows 1, 3, …; below each the nearest drawn sprite."""
    rows = zip(x.split(16), known[index].split(16), strict=True)
    pairs = [part for row in rows for part in row]
    return grid(torch.cat(pairs), columns=16, scale=3)


def evaluate(checkpoint: Checkpoint, judge: Judge, data: Pictures, n: int) -> dict:
    """All figures of a checkpoint, and under "picture" its neighbours."""
    K = len(checkpoint.context)
    c = torch.eye(K).repeat(-(-n // K), 1)[:n]
    found, plain = {}, None
    for scale in GUIDANCE:
        x = samples(checkpoint, c, scale)
        plain = x if plain is None else plain
        found[f"{scale:g}"] = judged(judge, x, c)
    index, distance = nearest(plain, data.x)
    _, fresh = nearest(sprites(n, seed=10**9 + 1)[0], data.x)
    return {
        "n": n,
        "classes": checkpoint.context,
        "guidance": found,
        "nearest": {
            "known": len(data.x),
            "samples": float(distance.median()),
            "drawn": float(fresh.median()),
            "copies": float((distance < 0.05).double().mean()),
            "drawn_copies": float((fresh < 0.05).double().mean()),
        },
        "machine": machine("cpu"),
        "picture": neighbours(plain[:48], data.x, index[:48]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n-samples", type=int, default=2000)
    n = parser.parse_args().n_samples
    judge, record = load_judge("sprites")
    result = evaluate(load("sprites"), judge, dataset("sprites"), n)
    write_png(result.pop("picture"), CHECKPOINTS / "sprites_nearest.png")
    result["judge"] = record
    path = CHECKPOINTS / "sprites_judged.json"
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    fill(CHECKPOINTS / "README.md", "sprites judged", table(result))
    print(table(result))


if __name__ == "__main__":
    main()
