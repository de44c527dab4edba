"""make evaluate: all figures of a checkpoint, for its card; goes on where it was."""

import argparse

import numpy as np
import torch

from lesson_utils import (
    Checkpoint,
    Pictures,
    dataset,
    describe,
    last,
    load,
    sheet,
)
from lesson_utils.checkpoint import CHECKPOINTS
from lesson_utils.cli import best_device, machine
from lesson_utils.cli import main as command
from lesson_utils.data import UNSEEN
from lesson_utils.evaluation import (
    BATCH,
    COPY,
    Setting,
    evaluate,
    read_result,
    sampled,
    table,
)
from lesson_utils.metrics import load_judge, nearest
from lesson_utils.viz import progress
from tools.blocks import fill
from tools.pictures import write_png

# The full table; on a CPU all 500 steps are taken for three of the five η only.
TABLE = (("10,20,50,100", "0,0.2,0.5,1,sigma-hat"), ("500", "0,1,sigma-hat"))
GUIDED = {
    "sprites": [Setting(20, 0.0, scale) for scale in (1.0, 1.5, 2.0, 3.0)],
    "mnist": [Setting(50, 0.0, scale) for scale in (1.0, 2.0)],
}


def neighbours(checkpoint: Checkpoint, data: Pictures, n: int = 45) -> np.ndarray:
    """n samples of DDIM-20 in rows 1, 3, …; below each its nearest training picture.

    Under a sample stands the class asked for, under its neighbour the distance.
    """
    c = torch.eye(len(checkpoint.context)).repeat(n, 1)[:n]
    x = last(sampled(checkpoint, c, Setting(20))).cpu()
    index, distance = nearest(x, data.x)
    asked, far = describe(c, checkpoint.context), [f"{d:.2f}" for d in distance]
    pictures, captions = [], []
    for i in range(0, n, 15):
        pictures += [x[i : i + 15], data.x[index[i : i + 15]]]
        captions += asked[i : i + 15] + far[i : i + 15]
    return sheet(torch.cat(pictures), captions, 15, 3 if x.shape[-1] <= 16 else 2)


def share(value: float) -> str:
    return f"{value:.1%}"


def span(cell: dict, figure: str, form: str) -> str:
    """A figure with its interval, as Markdown."""
    low, high = cell[f"{figure}_interval"]
    return f"{cell[figure]:{form}} ({low:{form}} … {high:{form}})"


def card(result: dict, guided: dict, names: tuple[str, ...], judge: dict) -> str:
    """The figures as Markdown."""
    floor, near = result["floor"], guided["floor"]
    n, first = guided["n"], guided["cells"][0]
    lines = [
        f"Of {judge['unseen']:,} unseen pictures the judge names "
        f"{judge['accuracy']:.2%} rightly. The FCD of {floor['n']:,} unseen pictures, "
        f"in the same shares of classes, is {span(floor, 'fcd', '.3f')}: the floor.",
        "",
        f"**Fréchet classifier distance** of {result['n']:,} samples, guidance 1:",
        "",
        table(result),
        "",
        "**Class asked for = class seen**:",
        "",
        table(result, "label_accuracy", ".1%"),
        "",
        f"**Seconds** for the {result['n']:,}:",
        "",
        table(result, "seconds", ".1f"),
        "",
        f"**Guidance**, {n:,} samples each (95 % intervals in brackets; the FCD of as "
        f"many unseen pictures is {near['fcd']:.3f}, their precision "
        f"{share(near['precision'])}, recall {share(near['recall'])}, classifier score "
        f"{near['classifier_score']:.2f}):",
        "",
        "| S | guidance | class seen | FCD | kernel distance × 1000 | precision "
        f"| recall | classifier score | {' | '.join(names)} |",
        "|---:|---:|---|---|---:|---:|---:|---:|" + "---:|" * len(names),
    ]
    for cell in guided["cells"]:
        figures = [
            f"{cell['steps']} | {cell['guidance']:g}",
            span(cell, "label_accuracy", ".1%"),
            span(cell, "fcd", ".3f"),
            f"{1000 * cell['kernel_distance'][0]:.1f}",
            share(cell["precision"]),
            share(cell["recall"]),
            f"{cell['classifier_score']:.2f}",
            *map(share, cell["by_class"]),
        ]
        lines.append(f"| {' | '.join(figures)} |")
    return "\n".join(
        [
            *lines,
            "",
            "Distance to the nearest training picture (root mean square, values in "
            f"[-1, 1]): median {first['nearest_median']:.3f} for samples at "
            f"guidance 1, {near['nearest_median']:.3f} for unseen pictures; nearer "
            f"than {COPY} are {share(first['copies'])} of the samples and "
            f"{share(near['copies'])} of those.",
            "",
            f"Measured by `make evaluate DATASET={result['name']}` on: "
            f"{result['machine']}.",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", default="sprites", choices=GUIDED)
    parser.add_argument("--n-samples", type=int, default=500, help="for the table")
    chosen = parser.parse_args()
    name, path = chosen.checkpoint, CHECKPOINTS / f"{chosen.checkpoint}_table.json"
    for steps, eta in TABLE:
        options = ["--checkpoint", name, "--steps", steps, "--eta", eta]
        options += ["--n-samples", str(chosen.n_samples), "--out", str(path)]
        if command(["evaluate", *options]):
            raise SystemExit(2)
    device, data, (judge, record) = best_device(), dataset(name), load_judge(name)
    checkpoint = load(name, device)
    settings = GUIDED[name]
    n, to = 4 * chosen.n_samples, CHECKPOINTS / f"{name}_guidance.json"
    about = {"machine": machine(device), "name": name}
    work = evaluate(checkpoint, judge, settings, n, to, data, UNSEEN[name](), **about)
    total = -(-n // BATCH) * sum(setting.steps for setting in settings)
    *_, guided = progress(work, total, f"{name}, guidance")
    write_png(neighbours(checkpoint, data), CHECKPOINTS / f"{name}_nearest.png")
    text = card(read_result(path), guided, checkpoint.context, record)
    fill(CHECKPOINTS / "README.md", f"{name} judged", text)
    print(text)


if __name__ == "__main__":
    main()
