"""A distillation as the command line asks for it: its teacher, files and record."""

import argparse
import time
from contextlib import closing
from dataclasses import asdict, fields, replace
from itertools import islice
from pathlib import Path

import torch

from . import data as sources
from . import runs
from .checkpoint import Checkpoint, checkpoint_file, save
from .loop import DistillSettings, Stage, Update, distill, folded_in, stages_of
from .quality.experiment import digest
from .support.checked import refuse
from .support.device import machine
from .support.files import fingerprint, label_of, located
from .support.flags import made
from .support.state import read_state
from .viz import progress

TIMED = 5  # updates of a stage, over which one is timed
TRIAL = 3 + TIMED  # with those before, which are slower


def student_file(chosen: argparse.Namespace, teacher: Checkpoint, steps: int) -> Path:
    """Where a student of so many steps goes: --out, or beside its teacher."""
    if chosen.out:
        return located(chosen.out, "--out")
    file = checkpoint_file(chosen.checkpoint)
    stem = file.stem
    if teacher.times:
        stem = stem.removesuffix(f"-{len(teacher.times) - 1}")
    return file.with_stem(f"{stem}-{steps}")


def state_file(chosen: argparse.Namespace, teacher: Checkpoint) -> Path:
    """Where the state of a run lies: --state, or called as the student's file."""
    if chosen.state:
        return located(chosen.state, "--state")
    out = student_file(chosen, teacher, made(DistillSettings, chosen).steps)
    return runs.STATES / f"{label_of(out, runs.CHECKPOINTS)}.safetensors"


def place(
    chosen: argparse.Namespace,
    teacher: Checkpoint,
    settings: DistillSettings,
    state: Path,
) -> Path:
    """Where the student goes; ValueError if other files of the run lie there."""
    out = student_file(chosen, teacher, settings.steps)
    others = [state.resolve(), checkpoint_file(chosen.checkpoint).resolve()]
    if out.suffix != ".safetensors" or out.resolve() in others:
        what = "a .safetensors file, not --state's and not the checkpoint's,"
        refuse("--out", what, str(out))
    return out


def refuse_to_replace(out: Path, chosen: argparse.Namespace) -> None:
    """ValueError if a finished student would be lost."""
    if out.exists() and not chosen.overwrite:
        raise ValueError(
            f"--out: {out} is there already: a finished run; another one needs another "
            "--out, or --overwrite to replace it"
        )


def work_of(
    chosen: argparse.Namespace, teacher: Checkpoint, name: str, device: torch.device
) -> runs.Work:
    """The teacher, and the data of this name, as the teacher's training read them."""
    data = sources.dataset(name, like=teacher)
    reading = teacher.meta.get("reading", {})
    return runs.Work(
        name=located(name).name,
        data=data,
        reading=reading,
        schedule=teacher.schedule,
        usual={},
        width=teacher.network.width,
        start=teacher,
        device=device,
        compiled=False,
    )


def settings_of(chosen: argparse.Namespace, state: Path) -> tuple[int, DistillSettings]:
    """How many updates are done already, and the settings: a state has its own."""
    if not state.exists():
        return 0, made(DistillSettings, chosen)
    record = read_state(state)[1]
    stored = {**record["settings"], "steps": record["settings"].get("student_steps")}
    if stored["steps"] is None:
        refuse("--state", "that of a distillation, or none,", str(state))
    base = {f.name: stored[f.name] for f in fields(DistillSettings) if f.name in stored}
    return record["step"], made(DistillSettings, chosen, **base)


def check(
    settings: DistillSettings, teacher: Checkpoint, chosen: argparse.Namespace
) -> None:
    """ValueError for flags that have no meaning for this teacher."""
    try:
        stages_of(teacher.model, teacher.schedule, settings)
    except ValueError as problem:
        name, _, rest = str(problem).partition(":")
        flag = "checkpoint" if name == "teacher" else name.replace("_", "-")
        raise ValueError(f"--{flag}:{rest}") from None
    if teacher.times and "teacher_steps" in chosen:
        what = "none with a student as --checkpoint"
        refuse("--teacher-steps", what, chosen.teacher_steps)
    only, whose = folded_in(teacher.model), "a student as --checkpoint"
    if only is None and not teacher.context:
        only, whose = 1.0, "a checkpoint without classes"
    given = getattr(chosen, "guidance", only)
    if only is not None and given != only:
        refuse("--guidance", f"{only:g}, or none, with {whose}", given)


def run(
    chosen: argparse.Namespace,
    work: runs.Work,
    done: int,
    settings: DistillSettings,
    out: Path,
    state: Path,
) -> None:
    """Distil, from the last state on, write the student, and forget the state."""
    teacher, schedule = work.start.model, work.schedule
    if chosen.minutes is not None and not done:
        fit = updates_in(60 * chosen.minutes, work, settings)
        settings = made(DistillSettings, chosen, updates=fit)
    stages = stages_of(teacher, schedule, settings)
    steps = " → ".join(str(len(stage.times) - 1) for stage in stages)
    total = stages[-1].end
    if done:
        print(f"{state}: goes on after update {done:,}")
    print(f"{work.name}: students of {steps} steps, {total:,} updates in all")
    updates = distill(teacher, schedule, work.data, settings, state)
    folder = runs.STATES / label_of(out, runs.CHECKPOINTS)
    if chosen.preview_every:
        print(f"{folder}: samples every {chosen.preview_every:,} updates")
    with closing(updates):  # an interrupt here ends it too, and its state is saved
        seen = runs.previewed(updates, chosen.preview_every, folder, work)
        for update in progress(seen, total - done, f"{work.name} on {work.device}"):
            last_update = update
    teacher_file = checkpoint_file(chosen.checkpoint)
    write_student(out, last_update, work, settings, stages, teacher_file)
    state.unlink(missing_ok=True)


def updates_in(seconds: float, work: runs.Work, settings: DistillSettings) -> int:
    """How many updates a stage fit into so many seconds on average, by a trial."""
    if not 0 < seconds < 1e7:
        refuse("--minutes", "a number above 0", seconds / 60)
    teacher, schedule = work.start.model, work.schedule
    count = len(stages_of(teacher, schedule, settings))
    trial = replace(settings, updates=TRIAL)
    short = distill(teacher, schedule, work.data, trial)
    times = [time.perf_counter() for _ in islice(short, TRIAL * min(count, 2))]
    ends = range(TRIAL - 1, len(times), TRIAL)  # the last update of each stage
    each = [(times[i] - times[i - TIMED]) / TIMED for i in ends]
    spent = each[0] + (count - 1) * each[-1]  # by an update in each stage
    return max(1, round(count * seconds / spent))


def write_student(
    out: Path,
    update: Update,
    work: runs.Work,
    settings: DistillSettings,
    stages: list[Stage],
    teacher: Path,
) -> None:
    """Save what a distillation gave, with its record, and say so.

    Its settings are those in force, whatever was asked for: a student has a guidance
    and steps of its own.
    """
    data, start = work.data, work.start
    earlier = start.meta if start.times else {}
    in_force = asdict(settings)
    in_force["guidance"] = update.ema.guidance
    in_force["teacher_steps"] = len(stages[0].finer) - 1
    losses = {}
    for one in stages:
        of_stage = update.losses[one.start : one.end]
        losses[len(one.times) - 1] = round(float(of_stage[-100:].mean()), 6)
    save(
        out,
        update.ema,
        work.schedule,
        start.context,
        tuple(data.x.shape[1:]),
        data=f"{work.name}, {len(data.x):,} images",
        machine=machine(work.device),
        teacher={"file": teacher.name, "checksum": digest(start.model)},
        fingerprint=fingerprint(data.x, data.c),
        reading=work.reading,
        updates=update.step + earlier.get("updates", 0),
        images_seen=update.step * settings.batch_size + earlier.get("images_seen", 0),
        seconds=round(update.seconds + earlier.get("seconds", 0)),
        loss=losses[settings.steps],
        losses={**earlier.get("losses", {}), **losses},
        settings=in_force,
    )
    print(f"{out}: {out.stat().st_size:,} bytes, loss {losses[settings.steps]:.4f}")
