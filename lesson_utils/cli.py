"""Everything that concerns models, from the command line.

    python -m lesson_utils train     train a checkpoint, or go on with it
    python -m lesson_utils distill   make a student of it, which needs few steps
    python -m lesson_utils sample    write samples as PNGs, as many as you like
    python -m lesson_utils evaluate  judge samples over samplers, steps, η and guidance
    python -m lesson_utils card      measure all that a model card says, and write it
    python -m lesson_utils export    write a folder that Diffusers loads
    python -m lesson_utils info      say what is in a checkpoint

Each has --help. What goes wrong is said in one line, with exit status 2.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import torch

from . import data as sources
from . import distill_runs, gallery, runs, sample_runs, samples
from .checkpoint import Checkpoint, checkpoint_file, load
from .distilling import Student
from .export import export_diffusers
from .loop import DistillSettings, Settings
from .quality import card
from .quality.experiment import BATCH, Experiment, digest, evaluate
from .quality.judge import judge_for
from .quality.markdown import unjudged_tables
from .quality.report import NO_JUDGE, chart, table
from .support.checked import refuse, whole
from .support.device import best_device, machine, refuse_to_compile, usable
from .support.files import (
    BUILT_IN,
    CHECKPOINTS,
    ROOT,
    label_of,
    located,
    locked,
    write_bytes,
)
from .support.flags import OneLineParser, add_settings, made, number, printable
from .support.processes import is_main, launched, main_first, meeting
from .viz import progress

RESULTS = ROOT / "build/evaluate"
EXPORTS = {"diffusers": export_diffusers}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; gives the exit status, 2 for a wrong argument."""
    printable()
    chosen = parser().parse_args(arguments)
    try:
        if launched() and chosen.command not in MANY:
            raise ValueError(f"{chosen.command}: start it without a launcher")
        with meeting(cpu=best_device() == "cpu" or chosen.device == "cpu"):
            chosen.run(chosen)
    except (ValueError, OSError, FloatingPointError) as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        if not is_main():
            return 130
        kept = " and ".join(str(path) for path in chosen.keeps if path.exists())
        how = f"{chosen.again_by} goes on from {kept}" if kept else "nothing was kept"
        print(f"\nstopped; {how}", file=sys.stderr)
        return 130
    return 0


# Flags


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
        # The files that a stopped run goes on from, and by what.
        usual = {"again_by": "the same command", "device": None}
        options.set_defaults(run=run, keeps=[], **usual)
        add_flags(options)
    return every


def add_device(options: argparse.ArgumentParser) -> None:
    text = "cpu, cuda, mps, a GPU's number, or auto: the best one, the default"
    options.add_argument("--device", type=number, help=text)


def device_of(chosen: argparse.Namespace) -> torch.device:
    best = chosen.device in (None, "auto")
    return usable(best_device() if best else chosen.device)


# train


def train_flags(options: argparse.ArgumentParser) -> None:
    options.add_argument(
        "--dataset", help="sprites, mnist or a folder; default: sprites, or --from's"
    )
    add_settings(options, sources.Reading)
    options.add_argument(
        "--minutes", type=float, help="in place of --steps: as many as fit"
    )
    options.add_argument(
        "--width", type=number, help="channels; default 48, for large images 32"
    )
    add_settings(options, Settings)
    options.add_argument(
        "--from",
        dest="start",
        metavar="CHECKPOINT",
        help="a checkpoint to train longer: its name, its file or its data's folder; "
        "steps count anew",
    )
    options.add_argument(
        "--preview-every",
        type=number,
        metavar="N",
        help="write samples of each class into build/train/, as PNG, each N updates",
    )
    options.add_argument(
        "--compile",
        action="store_true",
        help="the network first, which takes minutes, and then trains faster",
    )
    options.add_argument("--out", type=Path, help="default: in checkpoints/")
    options.add_argument(
        "--overwrite", action="store_true", help="replace a checkpoint that is there"
    )
    options.add_argument("--state", type=Path, help="default: in build/train/")
    add_device(options)


def run_train(chosen: argparse.Namespace) -> None:
    """Train a checkpoint, go on from its last state, or train a finished one longer."""
    if "steps" in chosen and chosen.minutes is not None:
        raise ValueError("--minutes: not allowed with --steps; give one of them")
    made(Settings, chosen)  # what makes no sense is refused before any work
    if chosen.preview_every is not None:
        chosen.preview_every = whole(1)("--preview-every", chosen.preview_every)
    chosen.dataset = runs.trained_on(chosen)
    out, state = runs.places(chosen)
    chosen.keeps.append(state)
    device = device_of(chosen)
    if chosen.compile:
        refuse_to_compile(device)
    with ExitStack() as held:
        if is_main():
            held.enter_context(locked(out))
            runs.refuse_to_replace(out, chosen)
        runs.run(chosen, runs.work_of(chosen, device), out, state)


# distill


def distill_flags(options: argparse.ArgumentParser) -> None:
    options.add_argument(
        "--checkpoint",
        default="sprites",
        help="the teacher: a name or a path; a student is halved further",
    )
    options.add_argument("--dataset", help="that it was trained on; default: its name")
    add_settings(options, DistillSettings)
    options.add_argument(
        "--minutes",
        type=float,
        help="of a stage on average, in place of the updates: as many as fit",
    )
    options.add_argument(
        "--preview-every",
        type=number,
        metavar="N",
        help="write samples of each class into build/train/, as PNG, each N updates",
    )
    text = "default: beside the checkpoint, its name followed by the steps"
    options.add_argument("--out", type=Path, help=text)
    options.add_argument(
        "--overwrite", action="store_true", help="replace a student that is there"
    )
    options.add_argument("--state", type=Path, help="default: in build/train/")
    add_device(options)


def run_distill(chosen: argparse.Namespace) -> None:
    """Make a student that needs few steps, or go on from its last state."""
    if "updates" in chosen and chosen.minutes is not None:
        raise ValueError("--minutes: not allowed with --updates; give one of them")
    made(DistillSettings, chosen)  # what makes no sense is refused before any work
    if chosen.preview_every is not None:
        chosen.preview_every = whole(1)("--preview-every", chosen.preview_every)
    device = device_of(chosen)
    teacher = load(chosen.checkpoint, device)
    name = data_of(chosen, teacher)
    state = distill_runs.state_file(chosen, teacher)
    done, settings = distill_runs.settings_of(chosen, state)
    distill_runs.check(settings, teacher, chosen)
    out = distill_runs.place(chosen, teacher, settings, state)
    chosen.keeps.append(state)
    with locked(out, "distillation"):
        distill_runs.refuse_to_replace(out, chosen)
        work = distill_runs.work_of(chosen, teacher, name, device)
        distill_runs.run(chosen, work, done, settings, out, state)


# sample


def sample_flags(options: argparse.ArgumentParser) -> None:
    text = "a name, a path, or the state of a training (a copy of it, to resume or "
    text += "repeat the samples: a training writes its state anew); default: sprites"
    options.add_argument("--checkpoint", help=text)
    options.add_argument(
        "--ema",
        action=argparse.BooleanOptionalAction,
        help="of a state: its averaged weights, the default, or its last ones",
    )
    options.add_argument("--save-dir", required=True, help="a new or an empty folder")
    add_settings(options, samples.SampleSettings)
    options.add_argument(
        "--prompts-file",
        type=Path,
        metavar="FILE",
        help="with a prompt in each line, in place of --prompts",
    )
    options.add_argument(
        "--again",
        type=Path,
        metavar="RUN.JSON",
        help="take every setting from the run.json of another folder",
    )
    there = options.add_mutually_exclusive_group()
    there.add_argument(
        "--resume", action="store_true", help="make only what the folder lacks"
    )
    there.add_argument(
        "--overwrite",
        action="store_true",
        help="replace the images in the folder; other files in it stay",
    )
    add_device(options)


def run_sample(chosen: argparse.Namespace) -> None:
    """Write samples as PNGs, with a grid, and with all that repeats them."""
    if chosen.prompts_file:
        chosen.prompts = sample_runs.prompts_in(chosen)
    asked = made(samples.SampleSettings, chosen)
    earlier = None
    if chosen.again:
        asked, earlier = sample_runs.asked_again(chosen)
    name = "sprites" if chosen.checkpoint is None else chosen.checkpoint
    folder = located(chosen.save_dir, "--save-dir")
    device = device_of(chosen)
    if asked.compile:
        refuse_to_compile(device)
    checkpoint = samples.model_of(name, chosen.ema, device)
    job = samples.planned(asked, checkpoint, name)
    if earlier:
        sample_runs.refuse_other(job, earlier, chosen.again)
    about = {
        "checkpoint": {"file": str(checkpoint_file(name)), "ema": chosen.ema},
        "machine": machine(device),
        "versions": sample_runs.versions(),
    }
    chosen.keeps.append(folder / gallery.RECORD)
    chosen.again_by = "the same command with --resume"
    if chosen.overwrite:
        chosen.again_by += " in place of --overwrite"
    record = sample_runs.into_folder(
        job, folder, about, chosen.resume, chosen.overwrite
    )
    print(sample_runs.summary(record, folder))


# evaluate


def evaluate_flags(options: argparse.ArgumentParser) -> None:
    options.add_argument("--checkpoint", default="sprites", help="a name or a path")
    options.add_argument("--dataset", help="that it was trained on; default: its name")
    add_settings(options, Experiment)
    options.add_argument("--out", type=Path, help="JSON; default: in build/evaluate/")
    add_device(options)


def run_evaluate(chosen: argparse.Namespace) -> None:
    """Judge samples over samplers, steps, η and guidance; write JSON and a chart."""
    experiment = made(Experiment, chosen)
    device = device_of(chosen)
    checkpoint = load(chosen.checkpoint, device)
    name = data_of(chosen, checkpoint)
    if checkpoint.times:
        experiment = made(Experiment, chosen, steps=len(checkpoint.times) - 1, eta=0)
        for cell in experiment.cells():
            samples.refuse_for_student(checkpoint, cell, "--")
    for steps in experiment.steps:
        whole(1, checkpoint.schedule.T)("--steps", steps)
    if chosen.out and chosen.out.suffix != ".json":
        refuse("--out", "a .json file", str(chosen.out))
    unseen = None
    with main_first():  # they may have to be fetched
        data = sources.dataset(name, like=checkpoint)
        if name in BUILT_IN:
            unseen = sources.dataset(name, like=checkpoint, unseen=True)
    called = label_of(checkpoint_file(chosen.checkpoint), CHECKPOINTS)
    out = located(chosen.out or RESULTS / f"{called}.json", "--out")
    chosen.keeps.append(out)
    judge = judge_for(name, like=checkpoint) if checkpoint.context else None
    about = {"machine": machine(device), "name": called}
    work = evaluate(checkpoint, judge, experiment, out, data, unseen, **about)
    title = f"{located(name).name} on {device}"
    *_, result = progress(work, sampler_steps(experiment), title)
    if not is_main():
        return
    if judge is None:
        print(f"{NO_JUDGE}\n\n{unjudged_tables(result)}")
        return
    write_bytes(out.with_suffix(".png"), chart(result, experiment.guidance[0]))
    for scale in experiment.guidance:
        print(f"FCD, guidance {scale:g}:\n{table(result, guidance=scale)}")


def data_of(chosen: argparse.Namespace, checkpoint: Checkpoint) -> str:
    """What the checkpoint was trained on: --dataset, or its own name or folder.

    Of a student also a built-in data set that its record names.
    """
    name = chosen.dataset or chosen.checkpoint
    recorded = str(checkpoint.meta.get("data", "")).partition(",")[0]
    if chosen.dataset is None and checkpoint.times and recorded in BUILT_IN:
        return recorded
    known = name in BUILT_IN or located(name).is_dir()
    if chosen.dataset is None and not known:
        refuse("--dataset", "the data that the checkpoint was trained on", None)
    return name


def sampler_steps(experiment: Experiment) -> int:
    """How many steps of samplers an experiment takes, for a progress bar."""
    batches = -(-experiment.n_samples // BATCH)
    return batches * sum(cell.steps for cell in experiment.cells())


# card


def card_flags(options: argparse.ArgumentParser) -> None:
    options.add_argument("--checkpoint", default="sprites", help="a name or a path")
    options.add_argument("--dataset", help="that it was trained on; default: its name")
    add_settings(options, card.CardSettings)
    add_device(options)


def run_card(chosen: argparse.Namespace) -> None:
    """Measure what a model card says, and write it: of your own, beside its file."""
    settings = made(card.CardSettings, chosen)
    device = device_of(chosen)
    checkpoint = load(chosen.checkpoint, device)
    if isinstance(checkpoint.model, Student):
        refuse("--checkpoint", "no student, which evaluate judges,", chosen.checkpoint)
    who = card.subject(chosen.checkpoint, checkpoint, data_of(chosen, checkpoint))
    parts = ("table", "guidance", "inversion")
    chosen.keeps.extend(who.file(f"{part}.json") for part in parts)
    card.forget_others(who)
    plans = card.experiments(who, settings)
    judge = card.ensure_judge(who) if plans or not who.home else None
    for what, experiment in plans:
        work = card.measure(who, judge, experiment, what)
        run_to_end(work, sampler_steps(experiment), f"{who.name}, {what}")
    if "inversion" in settings.parts:
        work = card.measure_inversion(who, settings.inversions)
        run_to_end(work, len(card.inversions(who)), f"{who.name}, inversion")
    if "students" in settings.parts:
        work = card.measure_students(who, judge, settings.n_samples)
        run_to_end(work, None, f"{who.name}, students")
    if "images" in settings.parts:
        card.write_images(who)
    print(card.write_card(who))
    print(f"wrote {who.page}")


def run_to_end(work, total: int | None, title: str) -> None:
    for _ in progress(work, total, title):
        pass


# export


def export_flags(options: argparse.ArgumentParser) -> None:
    options.add_argument("folder", type=Path, help="a new or an empty one")
    options.add_argument("--checkpoint", default="sprites", help="a name or a path")
    options.add_argument(
        "--to", default="diffusers", choices=list(EXPORTS), help="default: diffusers"
    )
    options.add_argument(
        "--overwrite", action="store_true", help="replace an export that is there"
    )


def run_export(chosen: argparse.Namespace) -> None:
    """Write a checkpoint as a folder that Diffusers loads, without lesson_utils."""
    checkpoint = load(chosen.checkpoint)
    export = EXPORTS[chosen.to]
    folder = export(checkpoint, chosen.folder, chosen.overwrite)
    print(f"wrote {folder}; its README.md shows how Diffusers loads it")


# info


def info_flags(options: argparse.ArgumentParser) -> None:
    options.add_argument("checkpoint", help="a name or a path")
    options.add_argument("--json", action="store_true", help="for programs")


def run_info(chosen: argparse.Namespace) -> None:
    """Say what is in a checkpoint."""
    found = load(chosen.checkpoint)
    model, schedule = found.network, found.schedule
    about = {
        "images": found.image_shape,
        "classes": found.context or "none",
        "width": model.width,
        "weights": sum(p.numel() for p in model.parameters()),
        "T": schedule.T,
        "left at T": round(float(schedule.alpha_bar[-1].sqrt()), 4),
        **student_words(found),
        "checksum": digest(found.model),  # that a student's record has of its teacher
        **found.meta,
    }
    if chosen.json:
        print(json.dumps(about, indent=1))  # plain letters, whatever the terminal
        return
    about.pop("loss_curve", None)
    for name, value in about.items():
        values = value if isinstance(value, tuple | list) else [value]
        if isinstance(value, dict):
            given = {k: v for k, v in value.items() if v is not None}
            values = [f"{key} {setting}" for key, setting in given.items()]
        print(f"{name:12} {', '.join(map(str, values))}")


def student_words(checkpoint: Checkpoint) -> dict:
    """What info says of a student alone."""
    model = checkpoint.model
    if not isinstance(model, Student):
        return {}
    times = "any" if model.times is None else model.times
    return {"answers in": "v", "times": times, "guidance in": model.guidance}


# All of them

TRAIN_EXAMPLES = """\
  python -m lesson_utils train --dataset sprites --minutes 10 --out mine.safetensors
  python -m lesson_utils train --dataset my/pets --size 32
  python -m lesson_utils train --from my/pets --minutes 30 --out longer.safetensors
"""
DISTILL_EXAMPLES = """\
  python -m lesson_utils distill --checkpoint sprites --steps 4 --out few.safetensors
  python -m lesson_utils distill --checkpoint few.safetensors --steps 1
  python -m lesson_utils distill --checkpoint my/pets --steps 4 --guidance 1.5
"""
SAMPLE_EXAMPLES = """\
  python -m lesson_utils sample --n-samples 100 --guidance 2 --gif --save-dir samples
  python -m lesson_utils sample --checkpoint mnist --prompts 7 "" --save-dir sevens
  python -m lesson_utils sample --again samples/run.json --save-dir samples-again
"""
EVALUATE_EXAMPLES = """\
  python -m lesson_utils evaluate --sampler ddim,heun,dpmpp_2m --steps 5,10 --eta 0,1
  python -m lesson_utils evaluate --checkpoint my/pets --guidance 1,2 --steps 20
  python -m lesson_utils evaluate --checkpoint mine --dataset sprites --steps 20
"""
CARD_EXAMPLES = """\
  python -m lesson_utils card --checkpoint sprites
  python -m lesson_utils card --checkpoint mnist --parts table,guidance
  python -m lesson_utils card --checkpoint my/pets --n-samples 200
"""
EXPORT_EXAMPLES = """\
  python -m lesson_utils export --to diffusers --checkpoint mnist digits
  python -m lesson_utils export --checkpoint my/pets pets-for-diffusers
  python -m lesson_utils export --checkpoint mine.safetensors --overwrite mine
"""
INFO_EXAMPLES = """\
  python -m lesson_utils info sprites
  python -m lesson_utils info mine.safetensors
  python -m lesson_utils info mnist --json
"""
COMMANDS = {
    "train": (train_flags, run_train, TRAIN_EXAMPLES),
    "distill": (distill_flags, run_distill, DISTILL_EXAMPLES),
    "sample": (sample_flags, run_sample, SAMPLE_EXAMPLES),
    "evaluate": (evaluate_flags, run_evaluate, EVALUATE_EXAMPLES),
    "card": (card_flags, run_card, CARD_EXAMPLES),
    "export": (export_flags, run_export, EXPORT_EXAMPLES),
    "info": (info_flags, run_info, INFO_EXAMPLES),
}
MANY = ("train", "sample", "evaluate")  # that several processes can share
