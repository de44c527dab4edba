"""Everything that concerns models, from the command line.

    python -m lesson_utils train     train a checkpoint, or go on with it
    python -m lesson_utils evaluate  judge samples over steps, η and guidance
    python -m lesson_utils card      measure all that a model card says, and write it
    python -m lesson_utils info      say what is in a checkpoint

Each has --help. What goes wrong is said in one line, with exit status 2.
"""

import argparse
import json
import sys
import time
import typing
from collections.abc import Sequence
from dataclasses import asdict, fields
from itertools import islice
from pathlib import Path
from typing import NoReturn

import torch

from . import data as sources
from .checkpoint import load, save
from .quality import card, inversion
from .quality.experiment import BATCH, Experiment, evaluate
from .quality.judge import judge_for
from .quality.report import chart, table
from .schedule import Schedule
from .support.checked import refuse, whole
from .support.device import best_device, machine, usable
from .support.files import (
    BUILT_IN,
    CHECKPOINTS,
    ROOT,
    fingerprint,
    label,
    write_bytes,
)
from .support.state import read_state
from .training import Settings, train
from .unet import ContextUnet
from .viz import progress

LARGE = 400  # pixels of an image; by default larger ones, which take longer, get
SMALL_RUN = {"width": 48, "steps": 30_000}
LARGE_RUN = {"width": 32, "steps": 15_000}  # this run
STATES = ROOT / "build/train"
RESULTS = ROOT / "build/evaluate"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; gives the exit status, 2 for a wrong argument."""
    chosen = parser().parse_args(arguments)
    try:
        chosen.run(chosen)
    except (ValueError, OSError) as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        how = "the same command goes on from what was kept"
        print(f"\nstopped; {how}", file=sys.stderr)
        return 130
    return 0


# Flags


class OneLineParser(argparse.ArgumentParser):
    """Says in one line what is wrong with a command."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}; see {self.prog} --help\n")


def parser() -> argparse.ArgumentParser:
    """The commands and their flags."""
    every = OneLineParser(
        prog="python -m lesson_utils",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = every.add_subparsers(dest="command", required=True)
    for name, (add_flags, run, examples) in COMMANDS.items():
        options = commands.add_parser(
            name,
            help=run.__doc__,
            description=run.__doc__,
            epilog=f"examples:\n{examples}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        options.set_defaults(run=run)
        add_flags(options)
    return every


def add_device(options: argparse.ArgumentParser) -> None:
    options.add_argument("--device", help="cpu, cuda or mps; default: the best one")


def add_settings(options: argparse.ArgumentParser, kind: type) -> None:
    """A flag for each field of a dataclass; its rule is applied when one is made."""
    hints = typing.get_type_hints(kind, include_extras=True)
    for field in fields(kind):
        base = hints[field.name].__origin__
        text = hints[field.name].__metadata__[1]
        flag = "--" + field.name.replace("_", "-")
        about = {"default": argparse.SUPPRESS, "help": described(text, field.default)}
        if base is bool:
            options.add_argument(flag, action="store_true", **about)
        else:
            options.add_argument(flag, type=row if base is tuple else number, **about)


def described(text: str, default: object) -> str:
    """The help of a flag."""
    if default is None or default is False:
        return text
    values = default if isinstance(default, tuple) else (default,)
    return f"{text}; default {','.join(map(str, values))}"


def number(text: str) -> int | float | str:
    """A whole number, another number, or the text as it is: rules say what may be."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def row(text: str) -> tuple:
    """The values of a list such as 10,20,50."""
    return tuple(number(part.strip()) for part in text.split(","))


def made(kind: type, chosen: argparse.Namespace, **base):
    """A dataclass from base and the flags that were given; its errors name flags."""
    given = {f.name: getattr(chosen, f.name) for f in fields(kind) if f.name in chosen}
    try:
        return kind(**{**base, **given})
    except ValueError as problem:
        name, _, rest = str(problem).partition(":")
        raise ValueError(f"--{name.replace('_', '-')}:{rest}") from None


# train


def train_flags(options: argparse.ArgumentParser) -> None:
    options.add_argument(
        "--dataset", default="sprites", help="sprites, mnist or a folder"
    )
    options.add_argument("--size", type=number, help="of a folder's images; default 16")
    options.add_argument(
        "--minutes", type=float, help="in place of --steps: as many as fit"
    )
    options.add_argument(
        "--width", type=number, help="channels; default 48, for large images 32"
    )
    add_settings(options, Settings)
    options.add_argument("--out", type=Path, help="default: in checkpoints/")
    options.add_argument(
        "--overwrite", action="store_true", help="replace a checkpoint that is there"
    )
    options.add_argument("--state", type=Path, help="default: in build/train/")
    add_device(options)


def run_train(chosen: argparse.Namespace) -> None:
    """Train a checkpoint, or go on from its last state."""
    if "steps" in chosen and chosen.minutes is not None:
        raise ValueError("--minutes: not allowed with --steps; give one of them")
    made(Settings, chosen)  # what makes no sense is refused before any work
    name, out, state = places(chosen)
    device = usable(chosen.device or best_device())
    data = sources.dataset(chosen.dataset, chosen.size)
    schedule = Schedule.linear()
    usual = SMALL_RUN if data.x[0, 0].numel() <= LARGE else LARGE_RUN
    width = usual["width"] if chosen.width is None else chosen.width

    def new_model(settings: Settings) -> ContextUnet:
        torch.manual_seed(settings.seed)
        return ContextUnet(data.x.shape[1], data.c.shape[1], width).to(device)

    done, base = 0, {"steps": usual["steps"]}
    if state.exists():
        _, record = read_state(state)
        done, stored = record["step"], record["settings"]
        base = {f.name: stored[f.name] for f in fields(Settings) if f.name in stored}
        print(f"{state}: goes on after update {done:,} of {base['steps']:,}")
    elif chosen.minutes is not None:
        trial, seconds = made(Settings, chosen, steps=1000), 60 * chosen.minutes
        base["steps"] = steps_in(seconds, new_model(trial), schedule, data, trial)
    settings = made(Settings, chosen, **base)
    updates = train(new_model(settings), schedule, data, settings, state=state)
    title = f"{name} on {device}"
    for update in progress(updates, total=settings.steps - done, label=title):
        last_update = update
    record = {"data": f"{name}, {len(data.x):,} images", "machine": machine(device)}
    write_trained(out, last_update, schedule, data, settings, record)
    state.unlink(missing_ok=True)


def write_trained(out: Path, update, schedule, data, settings, record: dict) -> None:
    """Save what training gave, with its record, and say so."""
    loss = round(float(update.losses[-1000:].mean()), 5)
    save(
        out,
        update.ema,
        schedule,
        data.names,
        tuple(data.x.shape[1:]),
        **record,
        fingerprint=fingerprint(data.x, data.c),
        steps=settings.steps,
        images_seen=settings.steps * settings.batch_size,
        seconds=round(update.seconds),
        loss=loss,
        loss_curve=[round(float(v.mean()), 5) for v in update.losses.chunk(100)],
        settings=asdict(settings),
    )
    print(f"{out}: {out.stat().st_size:,} bytes, loss {loss:.4f}")


def places(chosen: argparse.Namespace) -> tuple[str, Path, Path]:
    """What a run is called, where its checkpoint goes, and where its state."""
    own = chosen.out and chosen.state  # then any folder's name will do
    name = Path(chosen.dataset).resolve().name if own else label(chosen.dataset)
    out = chosen.out or CHECKPOINTS / f"{name}.safetensors"
    state = chosen.state or STATES / f"{name}.safetensors"
    if out.suffix != ".safetensors" or out.resolve() == state.resolve():
        refuse("--out", "a .safetensors file, not --state's,", str(out))
    if out.exists() and not state.exists() and not chosen.overwrite:
        raise ValueError(
            f"--out: {out} is there already; give another --out, or --overwrite to "
            "replace it"
        )
    return name, out, state


def steps_in(seconds: float, model, schedule, data, settings: Settings) -> int:
    """How many updates fit into so many seconds, measured over 30 of them."""
    if not 0 < seconds < 1e7:
        refuse("--minutes", "a number above 0", seconds / 60)
    updates = islice(train(model, schedule, data, settings), 35)
    times = [time.perf_counter() for _ in updates]
    return max(1, round(seconds * 30 / (times[-1] - times[4])))


# evaluate


def evaluate_flags(options: argparse.ArgumentParser) -> None:
    options.add_argument("--checkpoint", default="sprites", help="a name or a path")
    options.add_argument("--dataset", help="that it was trained on; default: its name")
    add_settings(options, Experiment)
    options.add_argument("--out", type=Path, help="JSON; default: in build/evaluate/")
    add_device(options)


def run_evaluate(chosen: argparse.Namespace) -> None:
    """Judge samples over all steps, η and guidance; write JSON and a chart."""
    experiment = made(Experiment, chosen)
    device = usable(chosen.device or best_device())
    if chosen.dataset is None and chosen.checkpoint.endswith(".safetensors"):
        refuse("--dataset", "the data that the checkpoint was trained on", None)
    checkpoint = load(chosen.checkpoint, device)
    for steps in experiment.steps:
        whole(1, checkpoint.schedule.T)("--steps", steps)
    if chosen.out and chosen.out.suffix != ".json":
        refuse("--out", "a .json file", str(chosen.out))
    name = chosen.dataset or chosen.checkpoint
    data = sources.dataset(name, like=checkpoint)
    unseen = None
    if name in BUILT_IN:
        unseen = sources.dataset(name, like=checkpoint, unseen=True)
    out = chosen.out or RESULTS / f"{label(name)}.json"
    judge = judge_for(name, like=checkpoint)
    about = {"machine": machine(device), "name": str(chosen.checkpoint)}
    work = evaluate(checkpoint, judge, experiment, out, data, unseen, **about)
    *_, result = progress(work, sampler_steps(experiment), f"{name} on {device}")
    write_bytes(out.with_suffix(".png"), chart(result, experiment.guidance[0]))
    for scale in experiment.guidance:
        print(f"FCD, guidance {scale:g}:\n{table(result, guidance=scale)}")


def sampler_steps(experiment: Experiment) -> int:
    """How many steps of samplers an experiment takes, for a progress bar."""
    batches = -(-experiment.n_samples // BATCH)
    return batches * sum(cell.steps for cell in experiment.cells())


# card


def card_flags(options: argparse.ArgumentParser) -> None:
    options.add_argument("--checkpoint", default="sprites", choices=BUILT_IN)
    add_settings(options, card.CardSettings)
    add_device(options)


def run_card(chosen: argparse.Namespace) -> None:
    """Measure what the model card of a shipped checkpoint says, and write it."""
    settings = made(card.CardSettings, chosen)
    device = usable(chosen.device or best_device())
    who = card.subject(chosen.checkpoint, load(chosen.checkpoint, device))
    judge = card.ensure_judge(who)
    if "table" in settings.parts:
        for experiment in card.table_experiments(settings.n_samples):
            work = card.measure(who, judge, experiment, "table")
            run_to_end(work, sampler_steps(experiment), f"{who.name}, table")
    if "guidance" in settings.parts:
        experiment = card.GUIDED[who.name]
        work = card.measure(who, judge, experiment, "guidance")
        run_to_end(work, sampler_steps(experiment), f"{who.name}, guidance")
    if "inversion" in settings.parts:
        work = card.measure_inversion(who, settings.inversions)
        cells = len(inversion.PAPER) * len(inversion.REFINE)
        run_to_end(work, cells, f"{who.name}, inversion")
    if "images" in settings.parts:
        card.write_images(who)
    card.write_card(who)
    print("\n\n".join(card.sections(who).values()))


def run_to_end(work, total: int | None, title: str) -> None:
    for _ in progress(work, total, title):
        pass


# info


def info_flags(options: argparse.ArgumentParser) -> None:
    options.add_argument("checkpoint", help="a name or a path")
    options.add_argument("--json", action="store_true", help="for programs")


def run_info(chosen: argparse.Namespace) -> None:
    """Say what is in a checkpoint."""
    found = load(chosen.checkpoint)
    model, schedule = found.model, found.schedule
    about = {
        "images": found.image_shape,
        "classes": found.context,
        "width": model.width,
        "weights": sum(p.numel() for p in model.parameters()),
        "T": schedule.T,
        "left at T": round(float(schedule.alpha_bar[-1].sqrt()), 4),
        **found.meta,
    }
    if chosen.json:
        print(json.dumps(about, indent=1, ensure_ascii=False))
        return
    about.pop("loss_curve", None)
    for name, value in about.items():
        values = value if isinstance(value, tuple | list) else [value]
        if isinstance(value, dict):
            values = [f"{key} {setting}" for key, setting in value.items()]
        print(f"{name:12} {', '.join(map(str, values))}")


# All of them

TRAIN_EXAMPLES = """\
  python -m lesson_utils train --dataset sprites --minutes 10 --out mine.safetensors
  python -m lesson_utils train --dataset my/pets --size 32
  python -m lesson_utils train --dataset mnist --steps 15000 --batch-size 64
"""
EVALUATE_EXAMPLES = """\
  python -m lesson_utils evaluate --checkpoint sprites --steps 10,20 --eta 0,1
  python -m lesson_utils evaluate --checkpoint my/pets --guidance 1,2 --steps 20
  python -m lesson_utils evaluate --checkpoint mine.safetensors --dataset sprites
"""
CARD_EXAMPLES = """\
  python -m lesson_utils card --checkpoint sprites
  python -m lesson_utils card --checkpoint mnist --parts table,guidance
  python -m lesson_utils card --checkpoint sprites --parts images
"""
INFO_EXAMPLES = """\
  python -m lesson_utils info sprites
  python -m lesson_utils info mine.safetensors
  python -m lesson_utils info mnist --json
"""
COMMANDS = {
    "train": (train_flags, run_train, TRAIN_EXAMPLES),
    "evaluate": (evaluate_flags, run_evaluate, EVALUATE_EXAMPLES),
    "card": (card_flags, run_card, CARD_EXAMPLES),
    "info": (info_flags, run_info, INFO_EXAMPLES),
}
