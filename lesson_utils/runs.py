"""A run of training as the command line asks for it: its data, files and previews."""

import argparse
import copy
import io
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, fields
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image

from . import data as sources
from .checkpoint import Checkpoint, checkpoint_file, load, save
from .distilling import Student
from .loop import Settings, Update, train
from .noise import initial_noise
from .quality.experiment import digest
from .sampling import ddim, guide, last
from .schedule import Schedule
from .support.checked import refuse
from .support.device import machine
from .support.files import (
    BUILT_IN,
    CHECKPOINTS,
    ROOT,
    fingerprint,
    label,
    label_of,
    located,
    quoted,
    write_bytes,
)
from .support.flags import made
from .support.processes import agreed, count, is_main, main_first
from .support.state import read_state
from .support.words import counted
from .unet import ContextUnet
from .viz import progress, sheet

LARGE = 400  # pixels of an image; by default larger ones, which take longer, get
SMALL_RUN = {"width": 48, "steps": 30_000}
LARGE_RUN = {"width": 32, "steps": 15_000}  # this run
STATES = ROOT / "build/train"


class Work(NamedTuple):
    """What to train: a name for it, its data, how they are read, where it begins.

    usual: width and steps if none are given; start: the Checkpoint that is trained
    longer, or None; compiled: whether the network is compiled before it trains.
    """

    name: str
    data: sources.Pictures
    reading: dict
    schedule: Schedule
    usual: dict
    width: int
    start: Checkpoint | None
    device: torch.device
    compiled: bool

    def new_model(self, seed: int) -> ContextUnet:
        """The model before the first update."""
        torch.manual_seed(seed)
        C, K = self.data.x.shape[1], self.data.c.shape[1]
        model = ContextUnet(C, K, self.width)
        if self.start:
            model = copy.deepcopy(self.start.model)
        if self.compiled:
            model.compile()
        return model.to(self.device)


def run(chosen: argparse.Namespace, work: Work, out: Path, state: Path) -> None:
    """Train, from the last state on, write the checkpoint, and forget the state."""
    done, settings = plan(chosen, work, state)
    if len(work.data.x) < sources.FEW:
        print(memorised(work, out, chosen.dataset))
    updates = train(
        work.new_model(settings.seed),
        work.schedule,
        work.data,
        settings,
        state=state,
        start=digest(work.start.model) if work.start else None,
    )
    folder = STATES / label_of(out, CHECKPOINTS)
    if chosen.preview_every:
        print(f"{folder}: samples every {chosen.preview_every:,} updates")
    title = f"{work.name} on {work.device}"
    with closing(updates):  # an interrupt here ends it too, and its state is saved
        seen = previewed(updates, chosen.preview_every, folder, work)
        for update in progress(seen, settings.steps - done, title):
            last_update = update
    if is_main():
        write_trained(out, last_update, work, settings, chosen.start)
        state.unlink(missing_ok=True)


def memorised(work: Work, out: Path, source: str) -> str:
    """What to expect of few images, and how to see it."""
    look = f"card --checkpoint {quoted(out)} --dataset {quoted(source)}"
    return (
        f"{work.name}: {counted(len(work.data.x), 'image')}; a model memorises fewer "
        f"than {sources.FEW:,}: python -m lesson_utils {look} shows the nearest "
        "training images of its samples"
    )


def trained_on(chosen: argparse.Namespace) -> str:
    """The data set of a run: a name or a folder."""
    if chosen.dataset is not None:
        return chosen.dataset
    if chosen.start is None:
        return "sprites"
    if chosen.start in BUILT_IN or located(chosen.start, "--from").is_dir():
        return chosen.start
    refuse("--dataset", "the data that --from was trained on, or others,", None)


def places(chosen: argparse.Namespace) -> tuple[Path, Path]:
    """Where a run's checkpoint goes, and where its state."""
    out = CHECKPOINTS / f"{label(chosen.dataset)}.safetensors"
    out = located(chosen.out, "--out") if chosen.out else out
    state = STATES / f"{label_of(out, CHECKPOINTS)}.safetensors"
    state = located(chosen.state, "--state") if chosen.state else state
    if out.suffix != ".safetensors" or out.resolve() == state.resolve():
        refuse("--out", "a .safetensors file, not --state's,", str(out))
    return out, state


def refuse_to_replace(out: Path, chosen: argparse.Namespace) -> None:
    """ValueError, with what to do, if a finished checkpoint would be lost."""
    if chosen.overwrite or not out.exists():
        return
    longer = out.with_stem(f"{out.stem}-longer")
    raise ValueError(
        f"--out: {out} is there already: a finished run; another one needs another "
        "--out, or --overwrite to replace it; to train it longer: python -m "
        f"lesson_utils train --dataset {quoted(chosen.dataset)} --from {quoted(out)} "
        f"--out {quoted(longer)}"
    )


def work_of(chosen: argparse.Namespace, device: torch.device) -> Work:
    """What the flags say to train."""
    start = load(chosen.start, device) if chosen.start else None
    if start and isinstance(start.model, Student):
        refuse("--from", "a model that answers in eps, no student,", chosen.start)
    schedule = start.schedule if start else Schedule.linear()
    reading = asdict(made(sources.Reading, chosen))
    with main_first():  # it may have to be fetched
        data = sources.dataset(chosen.dataset, like=start, **reading)
    usual = SMALL_RUN if data.x[0, 0].numel() <= LARGE else LARGE_RUN
    width = usual["width"] if chosen.width is None else chosen.width
    if start:
        width = start.model.width
        if chosen.width not in (None, width):
            refuse("--width", f"with --from its own {width}, or none,", chosen.width)
        given = {k: value for k, value in reading.items() if value}
        reading = {**start.meta.get("reading", {}), **given}
    return Work(
        name=located(chosen.dataset).name,
        data=data,
        reading=reading,
        schedule=schedule,
        usual=usual,
        width=width,
        start=start,
        device=device,
        compiled=chosen.compile,
    )


def plan(chosen: argparse.Namespace, work: Work, state: Path) -> tuple[int, Settings]:
    """How many updates are done already, and the settings for all of them."""
    done, base = 0, {"steps": work.usual["steps"]}
    record = agreed(read_state(state)[1] if is_main() and state.exists() else None)
    if record:
        done, stored = record["step"], record["settings"]
        base = {f.name: stored[f.name] for f in fields(Settings) if f.name in stored}
        print(f"{state}: goes on after update {done:,} of {base['steps']:,}")
    elif chosen.minutes is not None:
        trial = made(Settings, chosen, steps=1000)
        base["steps"] = agreed(steps_in(60 * chosen.minutes, work, trial))
    return done, made(Settings, chosen, **base)


def steps_in(seconds: float, work: Work, settings: Settings) -> int:
    """How many updates fit into so many seconds, measured over 30 of them."""
    if not 0 < seconds < 1e7:
        refuse("--minutes", "a number above 0", seconds / 60)
    model = work.new_model(settings.seed)
    updates = islice(train(model, work.schedule, work.data, settings), 35)
    times = [time.perf_counter() for _ in updates]
    return max(1, round(seconds * 30 / (times[-1] - times[4])))


def previewed(updates, every: int | None, folder: Path, work: Work) -> Iterator[Update]:
    """The same updates; after each so many, a sheet of samples is in the folder."""
    for update in updates:
        if every and update.step % every == 0 and is_main():
            write_bytes(folder / f"{update.step:06}.png", preview(update.ema, work))
        yield update


def preview(average: torch.nn.Module, work: Work) -> bytes:
    """A PNG with four samples of each class, of at most 16: DDIM, 20 steps.

    Those of a student are made in its own steps.
    """
    names = work.data.names[:16]
    c = torch.eye(work.data.c.shape[1])[: len(names)].repeat_interleave(4, 0)
    noise = initial_noise(len(c) or 8, tuple(work.data.x.shape[1:]))
    eps_fn = guide(average.eval(), c if names else None)
    steps = getattr(average, "times", None) or min(20, work.schedule.T)
    x = last(ddim(eps_fn, noise.to(work.device), work.schedule, steps))
    prompts = [name for name in names for _ in range(4)] or [""] * len(x)
    file = io.BytesIO()
    Image.fromarray(sheet(x, prompts, 4)).save(file, "PNG")
    return file.getvalue()


def write_trained(
    out: Path, update: Update, work: Work, settings: Settings, start: str | None
) -> None:
    """Save what training gave, with its record, and say so."""
    data, earlier = work.data, work.start.meta if work.start else {}
    where = machine(work.device)
    if count() > 1:
        where = f"{count()} processes, each with {where}"
    record = {"data": f"{work.name}, {len(data.x):,} images", "machine": where}
    if work.start:
        record["from"] = {
            "file": checkpoint_file(start).name,
            "images_seen": earlier.get("images_seen"),
            "seconds": earlier.get("seconds"),
        }
    loss = round(float(update.losses[-1000:].mean()), 5)
    curve = [round(float(v.mean()), 5) for v in update.losses.chunk(100)]
    save(
        out,
        update.ema,
        work.schedule,
        data.names,
        tuple(data.x.shape[1:]),
        **record,
        fingerprint=fingerprint(data.x, data.c),
        reading=work.reading,
        steps=settings.steps,
        images_seen=settings.steps * settings.batch_size
        + earlier.get("images_seen", 0),
        seconds=round(update.seconds + earlier.get("seconds", 0)),
        loss=loss,
        loss_curve=[*earlier.get("loss_curve", []), *curve],
        settings=asdict(settings),
    )
    print(f"{out}: {out.stat().st_size:,} bytes, loss {loss:.4f}")
