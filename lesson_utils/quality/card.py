"""Model cards: all that is measured of a checkpoint, as Markdown, charts and images.

A card has parts, each between <!-- NAME --> marks of its Markdown file: the training
record, what the judge says, and the way to the latents and back.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import torch
from PIL import Image

from ..checkpoint import Checkpoint
from ..context import describe
from ..data import Pictures, dataset, to_unit
from ..noise import initial_noise
from ..sampling import ddim, guide, last
from ..sprites import draw_sprites
from ..support.checked import checked, choice, each, whole
from ..support.device import machine
from ..support.files import CHECKPOINTS, ROOT, write_bytes, write_checksums
from ..viz import grid, plot, sheet, small_png
from .experiment import COPY, Experiment, Sampling, digest, evaluate, sampled
from .inversion import inversion_table, invert_all
from .judge import Judge, judge_path, load_judge, save_judge, train_shipped_judge
from .metrics import nearest
from .report import chart, committed, table

PARTS = ("table", "guidance", "inversion", "images")


@checked()
@dataclass(frozen=True)
class CardSettings:
    """What to measure for a card; its fields are the flags of the command line."""

    parts: Annotated[tuple, each(choice(*PARTS)), "what to measure"] = PARTS
    n_samples: Annotated[int, whole(10, 50_000), "for each cell of the table"] = 500
    inversions: Annotated[int, whole(2, 10_000), "images to invert"] = 200


GUIDED = {
    "sprites": Experiment(steps=20, eta=0, guidance=(1, 1.5, 2, 3), n_samples=2000),
    "mnist": Experiment(steps=50, eta=0, guidance=(1, 2), n_samples=2000),
}


class Subject(NamedTuple):
    """Whose card it is: a checkpoint of this name, its data, others of their kind."""

    name: str
    checkpoint: Checkpoint
    data: Pictures
    unseen: Pictures

    @property
    def device(self) -> torch.device:
        return next(self.checkpoint.model.parameters()).device

    def file(self, what: str) -> Path:
        """A file of the card: "table.json" is checkpoints/NAME_table.json."""
        return CHECKPOINTS / f"{self.name}_{what}"


def subject(name: str, checkpoint: Checkpoint) -> Subject:
    """The Subject of a shipped checkpoint."""
    data = dataset(name, like=checkpoint)
    return Subject(name, checkpoint, data, dataset(name, like=checkpoint, unseen=True))


# What is measured: each yields for the progress bar, and goes on where it was


def table_experiments(n: int) -> list[Experiment]:
    """The paper's table; all 500 steps are taken for three of the five η only."""
    etas = (0, 0.2, 0.5, 1, "sigma-hat")
    return [
        Experiment(steps=(10, 20, 50, 100), eta=etas, n_samples=n),
        Experiment(steps=500, eta=(0, 1, "sigma-hat"), n_samples=n),
    ]


def measure(who: Subject, judge: Judge, experiment: Experiment, what: str) -> Iterator:
    """Evaluate an experiment into the card's JSON file of this name."""
    about = {"machine": machine(who.device), "name": who.name}
    path = who.file(f"{what}.json")
    return evaluate(
        who.checkpoint, judge, experiment, path, who.data, who.unseen, **about
    )


def measure_inversion(who: Subject, n: int) -> Iterator:
    """Map n unseen images to latents and back."""
    about = {"name": who.name, "machine": machine(who.device)}
    return invert_all(
        who.checkpoint, who.unseen, n, who.file("inversion.json"), **about
    )


def ensure_judge(who: Subject) -> Judge:
    """The judge of the data; trained, and written, where there is none."""
    path = judge_path(who.name)
    if not path.is_file():
        judge, record = train_shipped_judge(who.name, who.data)
        save_judge(path, judge, **record)
    return load_judge(who.name)[0]


# Markdown


def fill(path: Path, name: str, text: str) -> None:
    """Put text between the marks <!-- name --> and <!-- /name --> of a file.

    Raises ValueError if the file has no such marks.
    """
    pattern = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
    old = path.read_text(encoding="utf-8")
    new, found = re.subn(
        pattern, lambda m: f"{m[1]}{text}\n{m[2]}", old, flags=re.DOTALL
    )
    if found != 1:
        raise ValueError(f"{path}: marks <!-- {name} --> found {found} times, not once")
    write_bytes(path, new.encode())


def percent(value: float) -> str:
    return f"{value:.1%}"


def span(cell: dict, figure: str, form: str) -> str:
    """A figure with its interval, as Markdown."""
    low, high = cell[f"{figure}_interval"]
    return f"{cell[figure]:{form}} ({low:{form}} … {high:{form}})"


def training_record(checkpoint: Checkpoint) -> str:
    """How the checkpoint was trained, as a Markdown table."""
    meta, ab = checkpoint.meta, checkpoint.schedule.alpha_bar
    weights = sum(w.numel() for w in checkpoint.model.parameters())
    batch = meta["settings"]["batch_size"]
    rows = {
        "data": meta["data"],
        "weights": f"{weights:,}, width {checkpoint.model.width}",
        "schedule": f"{len(ab) - 1} steps, √alpha_bar[T] = {ab[-1].sqrt():.4f}",
        "updates": f"{meta['steps']:,} of {batch} images, "
        f"{meta['images_seen']:,} in all",
        "settings": ", ".join(f"{k} {v}" for k, v in meta["settings"].items()),
        "loss": f"{meta['loss']} (mean of the last 1,000 updates)",
        "time": f"{meta['seconds'] / 60:.0f} minutes",
        "machine": meta["machine"],
    }
    lines = [f"| {key} | {value} |" for key, value in rows.items()]
    return "\n".join(["| | |", "|---|---|", *lines])


def judged(full: dict, guided: dict, names: tuple[str, ...], judge: dict) -> str:
    """What the judge says of a table and of guidance, as Markdown."""
    floor = full["floor"]
    return "\n\n".join(
        [
            f"Of {judge['unseen']:,} unseen images the judge names "
            f"{judge['accuracy']:.2%} rightly. The FCD of {floor['n']:,} unseen "
            f"images, in the same shares of classes, is {span(floor, 'fcd', '.3f')}: "
            "the floor.",
            f"**Fréchet classifier distance** of {full['n']:,} samples, guidance 1:",
            table(full),
            "**Class asked for = class seen**:",
            table(full, "label_accuracy", ".1%"),
            f"**Seconds** for the {full['n']:,}:",
            table(full, "seconds", ".1f"),
            guidance_words(guided),
            guidance_table(guided, names),
            copies_words(guided),
            f"Measured by `make card DATASET={full['name']}` on: {full['machine']}.",
        ]
    )


def guidance_words(guided: dict) -> str:
    """What stands above the table of guidance."""
    near = guided["floor"]
    return (
        f"**Guidance**, {guided['n']:,} samples each (95 % intervals in brackets; the "
        f"FCD of as many unseen images is {near['fcd']:.3f}, their precision "
        f"{percent(near['precision'])}, recall {percent(near['recall'])}, classifier "
        f"score {near['classifier_score']:.2f}):"
    )


def guidance_table(guided: dict, names: tuple[str, ...]) -> str:
    """All figures of each guidance."""
    lines = [
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
            percent(cell["precision"]),
            percent(cell["recall"]),
            f"{cell['classifier_score']:.2f}",
            *map(percent, cell["by_class"]),
        ]
        lines.append(f"| {' | '.join(figures)} |")
    return "\n".join(lines)


def copies_words(guided: dict) -> str:
    """Whether the samples are copies of training images."""
    first, near = guided["cells"][0], guided["floor"]
    return (
        "Distance to the nearest training image (root mean square, values in [-1, 1]): "
        f"median {first['nearest_median']:.3f} for samples at guidance 1, "
        f"{near['nearest_median']:.3f} for unseen images; nearer than {COPY} are "
        f"{percent(first['copies'])} of the samples and {percent(near['copies'])} of "
        "those."
    )


def inverted(result: dict) -> str:
    """How exactly images came back from their latents, as Markdown."""
    lines = [
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
    return "\n\n".join(
        [
            f"Mean squared error of {result['n']} images that went up with `invert` "
            "and down with `ddim`, S steps each; values in [0, 1], errors in units of "
            "10⁻⁴:",
            inversion_table(result),
            "\n".join(lines),
            f"Measured by `make card DATASET={result['name']}` on: "
            f"{result['machine']}.",
        ]
    )


def sections(who: Subject) -> dict[str, str]:
    """The parts of a card by the names of their marks, from what is committed."""
    full, guided = measured(who, "table"), measured(who, "guidance")
    record = load_judge(who.name)[1]
    return {
        who.name: training_record(who.checkpoint),
        f"{who.name} judged": judged(full, guided, who.checkpoint.context, record),
        f"{who.name} inverted": inverted(measured(who, "inversion")),
    }


def measured(who: Subject, what: str) -> dict:
    """A committed result; ValueError if it is missing, or of another network."""
    result, again = committed(who.name, what), f"card --parts {what} measures it"
    if result is None:
        raise ValueError(f"{who.file(what)}.json is missing; {again}")
    if result["model"] != digest(who.checkpoint.model):
        raise ValueError(f"{who.file(what)}.json is of another network; {again}")
    return result


def write_card(who: Subject) -> None:
    """Fill the parts of checkpoints/README.md that are about this checkpoint.

    The checksums beside it are written anew: a judge may have been trained for it.
    """
    for name, text in sections(who).items():
        fill(CHECKPOINTS / "README.md", name, text)
    write_checksums()


# Images


def write_png(image: np.ndarray, path: Path) -> None:
    """An image of few colours (H,W,3) as a PNG with a palette."""
    method = Image.Quantize.MEDIANCUT
    write_bytes(path, small_png(Image.fromarray(image), 256, method))


def contact_sheet(rows: int = 12, columns: int = 20) -> np.ndarray:
    """Drawn sprites, as they come: uint8 (rows*64, columns*64, 3)."""
    images, _ = draw_sprites(rows * columns, seed=3)
    return grid(to_unit(images), columns=columns, scale=4)


def samples_beside_real(who: Subject, n: int = 64) -> np.ndarray:
    """n unseen images at the left, n of DDIM-20 of the same classes at the right."""
    n = min(n, len(who.unseen.x))
    order = who.unseen.c[:n].argmax(1).argsort(stable=True)
    noise = initial_noise(n, who.checkpoint.image_shape, seed=2026).to(who.device)
    eps_fn = guide(who.checkpoint.model, who.unseen.c[order].to(who.device))
    x = last(ddim(eps_fn, noise, who.checkpoint.schedule, steps=20))
    scale = 4 if x.shape[-1] <= 16 else 2
    left = grid(who.unseen.x[order], 8, scale)
    gap = np.full((len(left), 32, 3), 255, np.uint8)
    return np.concatenate([left, gap, grid(x, 8, scale)], axis=1)


def neighbours(who: Subject, n: int = 45) -> np.ndarray:
    """n samples of DDIM-20 in rows 1, 3, …; below each its nearest training image.

    Under a sample stands the class asked for, under its neighbour the distance.
    """
    c = torch.eye(len(who.checkpoint.context)).repeat(n, 1)[:n]
    x = last(sampled(who.checkpoint, c, Sampling(20))).cpu()
    index, distance = nearest(x, who.data.x)
    asked = describe(c, who.checkpoint.context)
    far = [f"{d:.2f}" for d in distance]
    images, captions = [], []
    for i in range(0, n, 15):
        images += [x[i : i + 15], who.data.x[index[i : i + 15]]]
        captions += asked[i : i + 15] + far[i : i + 15]
    return sheet(torch.cat(images), captions, 15, 3 if x.shape[-1] <= 16 else 2)


def loss_curve(checkpoint: Checkpoint) -> bytes:
    """The loss over the updates of the recorded training, as the bytes of a PNG."""
    losses, steps = checkpoint.meta["loss_curve"], checkpoint.meta["steps"]
    middle = (np.arange(len(losses)) + 0.5) * steps / len(losses)
    words = "mean squared error of the noise"
    return plot({"": losses}, middle, "updates", words, log="y", size=(6, 3))


def write_images(who: Subject) -> None:
    """The images of the card, and for sprites the README's contact sheet."""
    if who.name == "sprites":
        write_png(contact_sheet(), ROOT / "lessons/assets/sprites.png")
    write_png(samples_beside_real(who), who.file("samples.png"))
    write_png(neighbours(who), who.file("nearest.png"))
    write_bytes(who.file("loss.png"), loss_curve(who.checkpoint))
    write_bytes(who.file("table.png"), chart(measured(who, "table")))
