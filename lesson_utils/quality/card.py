"""Model cards: all that is measured of a checkpoint, as Markdown, charts and images.

A card says how a checkpoint was trained, what the judge says, and how exactly images
come back from their latents. Of one that ships these are parts of
checkpoints/README.md, each between its <!-- NAME --> marks. Any other checkpoint has a
card of its own, in a folder beside it.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import torch
from PIL import Image

from ..checkpoint import Checkpoint, checkpoint_file
from ..context import describe
from ..data import FEW, Pictures, dataset, same_data, to_unit
from ..noise import initial_noise
from ..sampling import ddim, guide, last
from ..sprites import draw_sprites
from ..support.checked import checked, choice, each, optional, refuse, whole
from ..support.device import machine
from ..support.files import (
    BUILT_IN,
    CHECKPOINTS,
    ROOT,
    write_bytes,
    write_checksums,
    write_json,
)
from ..support.words import counted
from ..viz import grid, plot, saved_png, sheet, small_png
from .experiment import (
    COPY,
    Experiment,
    Sampling,
    digest,
    evaluate,
    neighbourhood,
    sampled,
)
from .inversion import every_cell, invert_all
from .judge import (
    Judge,
    judge_path,
    knows_images_of,
    load_judge,
    quick_judge,
    save_judge,
    train_shipped_judge,
)
from .markdown import (
    distilled,
    guidance_table,
    guidance_words,
    inverted,
    inverted_tables,
    judged,
    judged_tables,
    percent,
    plain,
    solved,
    training_record,
    unjudged_tables,
)
from .metrics import nearest, nearest_others, share_interval
from .report import NO_JUDGE, chart, result_in
from .students import compare, is_of, students_of

PARTS = ("table", "guidance", "inversion", "students", "images")


@checked()
@dataclass(frozen=True)
class CardSettings:
    """What to measure for a card; its fields are the flags of the command line."""

    parts: Annotated[tuple, each(choice(*PARTS)), "what to measure"] = PARTS
    n_samples: Annotated[
        int | None, optional(whole(10, 50_000)), "for each cell of the table"
    ] = None
    inversions: Annotated[int, whole(2, 10_000), "images to invert"] = 100


LEAST = 10  # images; fewer cannot be compared with
OWN_STEPS, OWN_SAMPLES = (10, 20, 50), 500
SHOWN = 20  # steps of DDIM for the images of a card
SAMPLES = 2000  # of each cell: so many tell most differences from chance
GUIDED = {
    "sprites": Experiment(steps=20, eta=0, guidance=(1, 1.5, 2, 3), n_samples=SAMPLES),
    "mnist": Experiment(steps=50, eta=0, guidance=(1, 2), n_samples=SAMPLES),
}


class Subject(NamedTuple):
    """Whose card it is: a checkpoint of this name, its data, others of their kind.

    unseen: None where the checkpoint has seen all there are. source: the data set, as
    dataset takes it, if it is not called as the checkpoint. home: the folder of a card
    of its own, None for a checkpoint that ships.
    """

    name: str
    checkpoint: Checkpoint
    data: Pictures
    unseen: Pictures | None = None
    source: str | Path | None = None
    home: Path | None = None

    @property
    def device(self) -> torch.device:
        return next(self.checkpoint.model.parameters()).device

    @property
    def page(self) -> Path:
        """The Markdown file that the card is, or is a part of."""
        return (self.home or CHECKPOINTS) / "README.md"

    def file(self, what: str) -> Path:
        """Another file of the card, such as "table.json"."""
        if self.home is None:
            return CHECKPOINTS / f"{self.name}_{what}"
        return self.home / what


def subject(
    name_or_path: str | Path, checkpoint: Checkpoint, source: str | Path | None = None
) -> Subject:
    """The Subject of a checkpoint that load finds by this name or path.

    source: what it was trained on, as dataset takes it; None: the data of this name, or
    in this folder. ValueError if it was trained on others.
    """
    file = checkpoint_file(name_or_path)
    ships = file.parent == CHECKPOINTS and file.stem in BUILT_IN
    if source is None:
        source = file.stem if ships else name_or_path
    data, unseen = dataset(source, like=checkpoint), None
    if same_data(data, checkpoint) is False:
        what = "the data that the checkpoint was trained on"
        refuse("dataset", what, f"others: {source}")
    if source in BUILT_IN:
        unseen = dataset(source, like=checkpoint, unseen=True)
    home = None if ships else file.with_name(f"{file.stem}_card")
    return Subject(file.stem, checkpoint, data, unseen, source, home)


# What is measured: each yields for the progress bar, and goes on where it was


def table_experiments(n: int) -> list[Experiment]:
    """The paper's table; all 500 steps are taken for DDPM only."""
    etas = (0, 1, "sigma-hat")
    return [
        Experiment(steps=(10, 20, 50, 100), eta=etas, n_samples=n),
        Experiment(steps=500, eta=1, n_samples=n),
    ]


def own_experiments(T: int, n: int) -> tuple[list[Experiment], Experiment]:
    """The table and the guidance of a card of its own: of minutes, not hours."""
    steps = tuple(S for S in OWN_STEPS if S <= T) or (T,)
    full = [Experiment(steps=steps, eta=(0, 1), n_samples=n)]
    usual = min(SHOWN, T)
    return full, Experiment(steps=usual, eta=0, guidance=(1, 2), n_samples=n)


def experiments(who: Subject, settings: CardSettings) -> list[tuple[str, Experiment]]:
    """What to evaluate of the parts that were asked for, with the parts' names."""
    n = settings.n_samples
    if who.home is None:
        full, guided = table_experiments(n or SAMPLES), GUIDED[who.name]
    else:
        T = who.checkpoint.schedule.T
        full, guided = own_experiments(T, n or OWN_SAMPLES)
    plans = [("table", experiment) for experiment in full]
    if who.checkpoint.context:
        plans.append(("guidance", guided))
    if len(who.data.x) < LEAST:
        return []
    return [plan for plan in plans if plan[0] in settings.parts]


def measure(
    who: Subject, judge: Judge | None, experiment: Experiment, what: str
) -> Iterator:
    """Evaluate an experiment into the card's JSON file of this name."""
    about = {"machine": machine(who.device), "name": who.name}
    path = who.file(f"{what}.json")
    return evaluate(
        who.checkpoint, judge, experiment, path, who.data, who.unseen, **about
    )


def inversions(who: Subject) -> list[tuple[int, int]]:
    """Each refine and S that is measured; fewer of them on a card of its own."""
    every = every_cell()
    if who.home is None:
        return every
    most = min(max(OWN_STEPS), who.checkpoint.schedule.T)
    return [(refine, S) for refine, S in every if most >= S and refine < 2]


def measure_inversion(who: Subject, n: int) -> Iterator:
    """Map n unseen images to latents and back, or training images if there are none."""
    about = {"name": who.name, "machine": machine(who.device)}
    data, path = who.unseen or who.data, who.file("inversion.json")
    if who.home:
        n = min(n, len(data.x))
    return invert_all(who.checkpoint, data, n, path, inversions(who), **about)


def measure_students(who: Subject, judge: Judge | None, n: int | None) -> Iterator:
    """Compare the students that ship with this checkpoint, where that is not done."""
    students = [] if who.home else students_of(who.name, who.page.parent)
    path, n = who.file("students.json"), n or SAMPLES
    result = result_in(path, "students")
    if not students or (result and is_of(result, who.checkpoint, students, n)):
        return iter(())
    about = {"name": who.name, "machine": machine(who.device)}
    return compare(who.checkpoint, students, judge, who.data, n, path, **about)


def ensure_judge(who: Subject) -> Judge | None:
    """The judge of the data; trained, and written, where there is none.

    None for data without classes.
    """
    if who.checkpoint and not who.checkpoint.context:
        return None
    source = who.source or who.name
    path = judge_path(source)
    if path.is_file():
        judge, record = load_judge(path)
        if source in BUILT_IN or knows_images_of(judge, record, who.checkpoint):
            return judge
    if source in BUILT_IN:
        judge, record = train_shipped_judge(source, who.data)
    else:
        judge, record = quick_judge(who.data)
    save_judge(path, judge, **record)
    return load_judge(path)[0]


def forget_others(who: Subject) -> None:
    """Remove what a card of its own says of an older network in the same file."""
    for what in ("table", "guidance", "inversion", "nearest"):
        path = who.file(f"{what}.json")
        result = result_in(path, what) if who.home else None
        if result and result.get("model") != digest(who.checkpoint.model):
            path.unlink()
            print(f"{path}: was of an older network of this name, and is removed")


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


def sections(who: Subject) -> dict[str, str]:
    """The parts of the card of a checkpoint that ships, by the names of their marks."""
    full, guided = measured(who, "table"), measured(who, "guidance")
    record = load_judge(who.name)[1]
    parts = {
        who.name: training_record(who.checkpoint),
        f"{who.name} judged": judged(full, guided, who.checkpoint.context, record),
        f"{who.name} inverted": inverted(measured(who, "inversion")),
    }
    if result := found(who, "after_ddim"):
        parts[f"{who.name} solvers"] = solved(result)
    if text := students_words(who, full):
        parts[f"{who.name} students"] = text
    return parts


def students_words(who: Subject, full: dict) -> str:
    """What is said of the students that ship, "" without them or their figures.

    ValueError for figures of other students than those that are there.
    """
    students = students_of(who.name, who.page.parent)
    result = found(who, "students")
    if not students or result is None:
        return ""
    if not is_of(result, who.checkpoint, students, result["n"]):
        path = who.file("students.json")
        again = "card --parts students measures it"
        raise ValueError(f"{path} is of other students; {again}")
    return distilled(result, full, students)


def measured(who: Subject, what: str) -> dict:
    """A measured result; ValueError if it is missing, or of another network."""
    path, again = who.file(f"{what}.json"), f"card --parts {what} measures it"
    if what == "after_ddim":
        again = f"python -m tools.after_ddim {who.name} measures it"
    result = result_in(path, what)
    if result is None:
        raise ValueError(f"{path} is missing; {again}")
    if result["model"] != digest(who.checkpoint.model):
        raise ValueError(f"{path} is of another network; {again}")
    return result


def write_card(who: Subject) -> str:
    """Write all that was measured into the card, and give that as Markdown.

    The card of a checkpoint that ships is its parts of checkpoints/README.md. The
    checksums beside it are written anew: a judge may have been trained for it.
    """
    if who.home:
        text = own_card(who)
        write_bytes(who.page, text.encode())
        return text
    parts = sections(who)
    for name, text in parts.items():
        fill(who.page, name, text)
    write_checksums()
    return "\n\n".join(parts.values())


# A card of its own


def own_card(who: Subject) -> str:
    """The whole card of a checkpoint that does not ship, as Markdown."""
    what, T = facts(who), who.checkpoint.schedule.T
    real = "unseen images" if who.unseen else "training images"
    parts = [
        f"# {plain(who.name)}",
        what,
        "## Training",
        training_record(who.checkpoint),
    ]
    if who.file("loss.png").is_file():
        parts.append("![The loss over the updates](loss.png)")
    if who.file("samples.png").is_file():
        alike = " of the same classes" if has_classes(who) else ""
        parts += [
            "## Samples",
            f"![{real.capitalize()} at the left, samples at the right](samples.png)",
            f"*Left: {real}. Right: samples{alike}, "
            f"DDIM, {min(SHOWN, T)} steps, guidance 1, not picked.*",
        ]
    if near := found(who, "nearest"):
        parts += ["## Are samples copies of training images?", nearest_words(who, near)]
    parts += ["## What the judge says", own_judged(who)]
    if result := found(who, "inversion"):
        about = f"The images are {real}."
        parts += ["## To the latents and back", inverted_tables(result), about]
    written = f"Written by `python -m lesson_utils card` on: {machine(who.device)}."
    return "\n\n".join([*parts, written]) + "\n"


def found(who: Subject, what: str) -> dict | None:
    """A measured result, or None if it is missing."""
    return measured(who, what) if who.file(f"{what}.json").is_file() else None


def has_classes(who: Subject) -> bool:
    return bool(who.checkpoint.context)


def facts(who: Subject) -> str:
    """What the checkpoint makes, and of what it was trained, in sentences."""
    C, H, W = who.checkpoint.image_shape
    counts = (who.data.c > 0).sum(0).tolist()
    pairs = zip(who.checkpoint.context, counts, strict=True)
    classes = ", ".join(f"{plain(name)} ({n:,})" for name, n in pairs)
    how_many = f"{len(counts)} classes: {classes}" if counts else "no classes"
    return (
        f"A `ContextUnet` for {W}×{H} images with {counted(C, 'channel')}, trained on "
        f"{counted(len(who.data.x), 'image')} with {how_many}."
    )


def nearest_words(who: Subject, near: dict) -> str:
    """Whether samples are copies, and the images that show it."""
    words = (
        f"Of {near['n']} samples {percent(near['copies'])} are nearer than {COPY} to a "
        "training image, and the median distance to the nearest one is "
        f"{near['nearest_median']:.3f}. For a training image and the nearest other "
        f"training image it is {near['between']:.3f}. Distances are root mean squares; "
        "values lie in [-1, 1]."
    )
    if len(who.data.x) < FEW:
        words += (
            f" Trained for long, a network memorises data of fewer than {FEW:,} images:"
            " compare the rows below."
        )
    return "\n\n".join(
        [
            words,
            "![Rows of samples, each above its nearest training image](nearest.png)",
            "*Rows 1, 3 and 5: samples. Below each: its nearest training image, and "
            "how far that is.*",
        ]
    )


def own_judged(who: Subject) -> str:
    """What the judge says, or why it says nothing."""
    full, guided = found(who, "table"), found(who, "guidance")
    if len(who.data.x) < LEAST:
        return f"Nothing: {LEAST} images or more are needed."
    if full is None:
        return "Nothing yet: `card --parts table,guidance` asks it."
    if not has_classes(who):
        return f"{NO_JUDGE}\n\n{unjudged_tables(full)}"
    parts = [how_good(who), judged_tables(full)]
    if guided:
        names = who.checkpoint.context
        parts += [guidance_words(guided), guidance_table(guided, names)]
    return "\n\n".join(parts)


def how_good(who: Subject) -> str:
    """How far the judge can be trusted."""
    record = load_judge(judge_path(who.source or who.name))[1]
    n, share = record["unseen"], record["accuracy"]
    if share is None:
        return "How good the judge is cannot be said: there are too few images."
    low, high = share_interval(share, n)
    return (
        f"The judge is a small classifier, trained on {plain(record['data'])}. Of "
        f"{counted(n, 'image')} that it has not seen it names {percent(share)} rightly "
        f"(95 % interval {percent(low)} … {percent(high)}). The figures "
        "below are only as reliable as this judge."
    )


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
    """n real images at the left, n of DDIM-20 of the same classes at the right.

    The real ones are unseen or, if there are none such, training images at random.
    """
    real = who.unseen or who.data
    some = torch.arange(min(n, len(real.x)))
    if who.unseen is None:
        some = torch.randperm(len(real.x), generator=torch.Generator().manual_seed(0))
        some = some[:n]
    if has_classes(who):
        some = some[real.c[some].argmax(1).argsort(stable=True)]
    shape, schedule = who.checkpoint.image_shape, who.checkpoint.schedule
    noise = initial_noise(len(some), shape, seed=2026).to(who.device)
    eps_fn = guide(who.checkpoint.model, real.c[some].to(who.device))
    x = last(ddim(eps_fn, noise, schedule, steps=min(SHOWN, schedule.T)))
    scale = enlargement(x, 4)
    left = grid(real.x[some], 8, scale)
    gap = np.full((len(left), 32, 3), 255, np.uint8)
    return np.concatenate([left, gap, grid(x, 8, scale)], axis=1)


def enlargement(x: torch.Tensor, of_small: int) -> int:
    """How many times images (N,C,H,W) are enlarged, large ones less than small ones."""
    side = x.shape[-1]
    return of_small if side <= 16 else 2 if side <= 32 else 1


def some_samples(who: Subject, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """n samples of DDIM-20, of each class in turn, and their contexts (n,K)."""
    K, T = len(who.checkpoint.context), who.checkpoint.schedule.T
    c = torch.eye(K).repeat(math.ceil(n / max(K, 1)), 1)[:n] if K else torch.zeros(n, 0)
    return last(sampled(who.checkpoint, c, Sampling(min(SHOWN, T)))).cpu(), c


def neighbours(who: Subject, n: int = 45) -> np.ndarray:
    """n samples of DDIM-20 in rows 1, 3, …; below each its nearest training image.

    Under a sample stands the class asked for, under its neighbour the distance.
    """
    return above_nearest(who, *some_samples(who, n))


def above_nearest(who: Subject, x: torch.Tensor, c: torch.Tensor) -> np.ndarray:
    """The same sheet of some samples x (n,C,H,W) and what was asked for, c (n,K)."""
    n = len(x)
    index, distance = nearest(x, who.data.x)
    asked = describe(c, who.checkpoint.context) if has_classes(who) else ["sample"] * n
    far = [f"{d:.2f}" for d in distance]
    images, captions = [], []
    for i in range(0, n, 15):
        images += [x[i : i + 15], who.data.x[index[i : i + 15]]]
        captions += asked[i : i + 15] + far[i : i + 15]
    return sheet(torch.cat(images), captions, 15, enlargement(x, 3))


def nearness(who: Subject, x: torch.Tensor) -> dict:
    """How near samples x (n,C,H,W) are to training images, in numbers.

    between: how far some training images are from the nearest other one, the median.
    """
    known = who.data.x
    some = torch.randperm(len(known), generator=torch.Generator().manual_seed(0))[:500]
    return {
        "model": digest(who.checkpoint.model),
        "n": len(x),
        **neighbourhood(x, who.data),
        "between": float(nearest_others(known, some).median()),
    }


def loss_curve(checkpoint: Checkpoint) -> bytes:
    """The loss over the updates of the recorded training, as the bytes of a PNG.

    Where a checkpoint was trained longer, the updates before come first.
    """
    meta = checkpoint.meta
    losses, steps, before = meta["loss_curve"], meta["steps"], 0
    new = min(len(losses), len(torch.arange(steps).chunk(100)))  # as training kept them
    old = len(losses) - new
    if old:
        before = meta["images_seen"] / meta["settings"]["batch_size"] - steps
    middle = np.concatenate(
        [
            (np.arange(old) + 0.5) * before / max(old, 1),
            before + (np.arange(new) + 0.5) * steps / new,
        ]
    )
    words = "mean squared error of the noise"
    return plot({"": losses}, middle, "updates", words, log="y", size=(6, 3))


def write_images(who: Subject) -> None:
    """The images of the card, and for sprites the README's contact sheet."""
    if who.home:
        write_own_images(who)
        return
    if who.name == "sprites":
        write_png(contact_sheet(), ROOT / "lessons/assets/sprites.png")
    write_png(samples_beside_real(who), who.file("samples.png"))
    write_png(neighbours(who), who.file("nearest.png"))
    write_bytes(who.file("loss.png"), loss_curve(who.checkpoint))
    write_bytes(who.file("table.png"), chart(measured(who, "table")))


def write_own_images(who: Subject) -> None:
    """The images of a card of its own, in all their colours, as photographs need it."""
    x, c = some_samples(who, 45)
    images = {
        "samples.png": samples_beside_real(who),
        "nearest.png": above_nearest(who, x, c),
    }
    for name, image in images.items():
        write_bytes(who.file(name), saved_png(Image.fromarray(image)))
    write_json(who.file("nearest.json"), nearness(who, x))
    if who.checkpoint.meta.get("loss_curve"):
        write_bytes(who.file("loss.png"), loss_curve(who.checkpoint))
