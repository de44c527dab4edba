"""Samples for files: any number of them, and each the same whatever was done before.

Images are sampled in micro-batches of one size B: number k holds images kB to kB+B-1,
whether or not all of them are wanted. So an image depends on the seed and its number
alone, to the last bit: however many there are, and wherever a run goes on.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, NamedTuple

import torch
from torch import Tensor, nn

from . import data as sources
from .checkpoint import Checkpoint, check_record, checkpoint_file, load
from .context import describe, parse
from .distilling import Student
from .noise import image_generators, initial_noise
from .own import OR_SKIP
from .sampling import Step, ddim, ddpm, guide, invert, slerp
from .schedule import Schedule
from .solvers import dpmpp_2m, heun
from .support.checked import (
    checked,
    choice,
    each,
    flag,
    instance,
    optional,
    real,
    refuse,
    whole,
)
from .support.files import BUILT_IN, foreign, located
from .support.rules import eta_rule, seed_rule, spacing_rule
from .support.state import holds_state, read_state
from .support.words import counted
from .unet import ContextUnet

a_text = instance(str, "a text")


# Samplers


class Sampler(NamedTuple):
    """run: (eps_fn, x, schedule, steps, settings, generators) -> Steps, with steps a
    number or the times; steps: how many by default, None for all T; takes: the settings
    of its own that it knows; each: what a step costs in evaluations, but the last one,
    which always costs one.
    """

    run: Callable[..., Iterator[Step]]
    steps: int | None
    takes: tuple[str, ...]
    each: int = 1

    def evaluations(self, steps: int) -> int:
        """Of the network, without guidance, for so many steps down to t = 0."""
        return self.each * (steps - 1) + 1


def by_ddim(eps_fn, x, schedule: Schedule, steps, how, generators):
    eta, spacing = how.eta, how.spacing
    return ddim(eps_fn, x, schedule, steps, eta, spacing, generator=generators)


def by_ddpm(eps_fn, x, schedule: Schedule, steps, how, generators):
    return ddpm(eps_fn, x, schedule, generator=generators)


def by_solver(solver, eps_fn, x, schedule: Schedule, steps, how, generators):
    return solver(eps_fn, x, schedule, steps, how.spacing)


SAMPLERS = {
    "ddim": Sampler(by_ddim, 20, ("steps", "eta", "spacing")),
    "ddpm": Sampler(by_ddpm, None, ()),
    "heun": Sampler(partial(by_solver, heun), 10, ("steps", "spacing"), each=2),
    "dpmpp_2m": Sampler(partial(by_solver, dpmpp_2m), 10, ("steps", "spacing")),
}


# What is asked for


@checked()
@dataclass(frozen=True)
class SampleSettings:
    """What to sample. Each line is a setting's type, rule, help and default: those of
    the flags of the command line, and of what run.json records.
    """

    mode: Annotated[
        str,
        choice("sample", "interpolate", "reconstruct"),
        "sample, interpolate (rows between two latents or two prompts) or reconstruct "
        "(images to latents and back)",
    ] = "sample"
    n_samples: Annotated[
        int,
        whole(1, 10**6),
        "images; in --mode interpolate rows, in --mode reconstruct at most so many",
    ] = 16
    seed: Annotated[int, seed_rule, "of the noise"] = 0
    sampler: Annotated[str, choice(*SAMPLERS), " or ".join(SAMPLERS)] = "ddim"
    steps: Annotated[
        int | None,
        optional(whole(1)),
        "default: 20 of ddim, 10 of heun (two evaluations each) or of dpmpp_2m; ddpm "
        "takes all T, and a student its own",
    ] = None
    eta: Annotated[float | str, eta_rule, "of ddim, in [0, 1] or sigma-hat"] = 0.0
    spacing: Annotated[
        str, spacing_rule, "of the times: uniform, linspace, quad or logsnr"
    ] = "uniform"
    guidance: Annotated[float, real("[0, inf)"), "the scale"] = 1.0
    prompts: Annotated[
        Sequence[str] | None,
        optional(each(a_text)),
        'such as "seven" or "0.5 hero + 0.5 food"; P prompts take turns: image i has '
        "prompt i mod P. Default: each class in turn. In --mode interpolate two are "
        "the ends of each row, and with one or none a row has one",
    ] = None
    unconditional: Annotated[
        bool, flag, "beside each image the one of the same noise without context"
    ] = False
    batch_size: Annotated[
        int,
        whole(1, 10**5),
        "images at a time, on a GPU rather 500; the last time as many are sampled, and "
        "the rest left out. Another size rounds in another way: a pixel may change by "
        "a grey level, by two with a guidance of 8",
    ] = 32
    n_interpolate: Annotated[
        int | None, optional(whole(2, 100)), "images of a row, default 16"
    ] = None
    input_dir: Annotated[
        str | None,
        optional(a_text),
        "of the images to reconstruct; default: the data that the checkpoint has not "
        "seen",
    ] = None
    dtype: Annotated[
        str, choice("float32", "bfloat16"), "of the network, float32 or bfloat16"
    ] = "float32"
    compile: Annotated[bool, flag, "the network first, which takes a minute"] = False
    gif: Annotated[bool, flag, "a film of how the first images come about"] = False


class Network:
    """A model as samplers call it: in the type asked for, compiled if that is asked
    for, and it counts its images.
    """

    def __init__(self, model: nn.Module, settings: SampleSettings):
        self.model = torch.compile(model) if settings.compile else model
        self.lower = settings.dtype == "bfloat16"
        self.evaluated = 0

    def __call__(self, x: Tensor, t: Tensor, c: Tensor | None = None) -> Tensor:
        self.evaluated += len(x)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.lower):
            return self.model(x, t, c).float()


class Job(NamedTuple):
    """What is to be sampled, and makes sense.

    settings: with nothing left open; n: images in all; c: (P,K), the contexts that take
    turns; words: what was asked for by them, if it was; mixes: whether a row leads from
    one context to another; data: the images to reconstruct.
    """

    settings: SampleSettings
    checkpoint: Checkpoint
    network: Network
    n: int
    c: Tensor
    words: Sequence[str] | None
    mixes: bool
    data: sources.Pictures | None

    @property
    def kinds(self) -> tuple[str, ...]:
        """What is in a file's name after its number, for each image; row below row."""
        if self.settings.mode == "reconstruct":
            return "-original", ""
        return ("", "-unconditional") if self.settings.unconditional else ("",)

    @property
    def steps(self) -> int:
        """How many steps of samplers one micro-batch takes."""
        return self.settings.steps * len(self.kinds)


# Planning


def planned(asked: SampleSettings, checkpoint: Checkpoint, name: str = "") -> Job:
    """What is asked for of a checkpoint of this name, as a Job.

    Raises ValueError, naming a flag, for what makes no sense.
    """
    refuse_together(asked, checkpoint)
    steps = asked.steps or usual_steps(asked.sampler, checkpoint)
    if checkpoint.times:
        refuse_for_student(checkpoint, replace(asked, steps=steps), "--")
    settings = replace(asked, steps=steps)
    data, n = None, settings.n_samples
    if settings.mode == "interpolate":
        settings = replace(settings, n_interpolate=settings.n_interpolate or 16)
        n *= settings.n_interpolate
    if settings.mode == "reconstruct":
        data, folder = originals(settings.input_dir, checkpoint, name)
        settings = replace(settings, input_dir=folder)
        n = min(n, len(data.x))
    own = data is not None and settings.prompts is None
    words = None if own else list(settings.prompts or checkpoint.context or [""])
    c = context_of(data, checkpoint) if own else contexts(words, checkpoint)
    mixes = settings.mode == "interpolate" and len(settings.prompts or ()) == 2
    network = Network(checkpoint.model, settings)
    return Job(settings, checkpoint, network, n, c, words, mixes, data)


def refuse_together(asked: SampleSettings, checkpoint: Checkpoint) -> None:
    """ValueError for settings that have no meaning beside others."""
    T, sampler, mode = checkpoint.schedule.T, SAMPLERS[asked.sampler], asked.mode
    if asked.steps is not None:
        whole(1, T)("--steps", asked.steps)
    plain = {"steps": (None, T), "eta": (0,), "spacing": ("uniform",)}
    for name, values in plain.items():
        value = getattr(asked, name)
        if name not in sampler.takes and value not in values:
            refuse(f"--{name}", f"none with {asked.sampler}", value)
    if asked.n_interpolate is not None and mode != "interpolate":
        refuse("--n-interpolate", "none but in --mode interpolate", asked.n_interpolate)
    if asked.input_dir is not None and mode != "reconstruct":
        refuse("--input-dir", "none but in --mode reconstruct", asked.input_dir)
    if mode == "interpolate" and len(asked.prompts or ()) > 2:
        refuse("--prompts", "two or fewer in --mode interpolate", asked.prompts)
    if mode == "reconstruct" and (asked.sampler, asked.eta) != ("ddim", 0):
        how = f"{asked.sampler} with eta {asked.eta}"
        refuse("--mode", "with reconstruct, --sampler ddim and --eta 0", how)
    if asked.unconditional and (mode == "reconstruct" or not checkpoint.context):
        what = "an image" if mode == "reconstruct" else "a checkpoint without classes"
        refuse("--unconditional", f"none for {what}", True)


def usual_steps(sampler: str, checkpoint: Checkpoint) -> int:
    """How many steps a sampler takes by default: a student's own, or T at most."""
    if checkpoint.times:
        return len(checkpoint.times) - 1
    T = checkpoint.schedule.T
    return min(SAMPLERS[sampler].steps or T, T)


def refuse_for_student(checkpoint: Checkpoint, how, flag: str = "") -> None:
    """ValueError for what a student cannot do, or has not learnt.

    how: with steps, spacing, guidance, sampler, and mode if there is one; flag: what
    stands before their names.
    """
    times, folded = checkpoint.times, checkpoint.model.guidance
    n = len(times) - 1
    who = f"a student of {counted(n, 'step')}"
    solvers = [name for name, sampler in SAMPLERS.items() if sampler.steps]
    if how.sampler not in solvers:
        refuse(f"{flag}sampler", f"{' or '.join(solvers)} with {who}", how.sampler)
    if how.steps != n:
        refuse(f"{flag}steps", f"{n} with {who}", how.steps)
    if how.spacing != "uniform":
        what = f"none with {who}, which has the times {times},"
        refuse(f"{flag}spacing", what, how.spacing)
    if how.guidance != 1:
        why = f"1 with {who}, which has guidance {folded:g} in it,"
        refuse(f"{flag}guidance", why, how.guidance)
    if getattr(how, "mode", "") == "reconstruct":
        what = f"sample or interpolate with {who}, which knows the way down alone,"
        refuse(f"{flag}mode", what, how.mode)


def contexts(prompts: Sequence[str], checkpoint: Checkpoint) -> Tensor:
    """The contexts (P,K) of P prompts."""
    try:
        return parse(prompts, checkpoint.context)
    except ValueError as problem:
        _, _, why = str(problem).partition(": ")
        raise ValueError(f"--prompts: {why}") from None


def context_of(data: sources.Pictures, checkpoint: Checkpoint) -> Tensor:
    """The contexts (N,K) of data, zeros if they have no classes."""
    K = len(checkpoint.context)
    return data.c if data.names else torch.zeros(len(data.x), K)


def originals(
    folder: str | None, checkpoint: Checkpoint, name: str
) -> tuple[sources.Pictures, str | None]:
    """The images to reconstruct, read as training read its own; their folder's path."""
    if folder is None:
        known = str(checkpoint.meta.get("data", "")).partition(",")[0]
        source = name if name in BUILT_IN else known
        if source not in BUILT_IN:
            refuse("--input-dir", f"the images, as {name} has no unseen data,", None)
        return sources.dataset(source, like=checkpoint, unseen=True), None
    where = located(folder, "--input-dir")
    if not where.is_dir():
        refuse("--input-dir", "a folder of images", folder)
    try:
        found = sources.own_data(where, sources.Reading(), checkpoint)
    except ValueError as problem:
        said = str(problem).removeprefix("name_or_path: ")
        said = said.replace(OR_SKIP, "")  # this command has no such flag
        raise ValueError(f"--input-dir: {said}") from None
    shape = tuple(checkpoint.image_shape)
    if tuple(found.x.shape[1:]) != shape:
        refuse("--input-dir", f"images {shape}", tuple(found.x.shape[1:]))
    if found.names not in ((), tuple(checkpoint.context)):
        wanted = f"the classes {', '.join(checkpoint.context)}, or none,"
        refuse("--input-dir", wanted, ", ".join(found.names))
    return found, str(where)


# Checkpoints and states


def model_of(name: str, ema: bool | None, device: torch.device) -> Checkpoint:
    """The checkpoint of this name, or what the state of a training would give.

    ema: of a state its averaged weights, the default, or the last ones.
    """
    path = checkpoint_file(name)
    if holds_state(path):
        return from_state(path, ema is not False, device)
    if ema is not None:
        flag_given = "--ema" if ema else "--no-ema"
        refuse(flag_given, "the state of a training as --checkpoint", name)
    return load(name, device)


def from_state(path: Path, ema: bool, device: torch.device) -> Checkpoint:
    """A Checkpoint from the state of a training; ValueError if it cannot be one."""
    tensors, record = read_state(path)
    about, part = record.get("about"), "ema.module." if ema else "model."
    if about is None:
        todo = "train one more update, and it will"
        raise ValueError(f"{path}: an old state, which does not say its images; {todo}")
    weights = {
        k.removeprefix(part): v for k, v in tensors.items() if k.startswith(part)
    }
    with foreign(path, "a state"):
        width, channels = weights["stem.weight"].shape[:2]
        model = ContextUnet(channels, len(about["context"]), width)
        model.load_state_dict(weights)
        check_record(model, about["context"], about["image_shape"], {})
        schedule = Schedule(torch.tensor(about["alpha_bar"]))
        names, shape = tuple(about["context"]), tuple(about["image_shape"])
        if "student" in about:
            model = Student(model, schedule, **about["student"])
    model.eval().to(device, memory_format=torch.channels_last)
    return Checkpoint(model, schedule, names, shape, {})


# A micro-batch


def passes(job: Job, start: int) -> Iterator[tuple[str, Step]]:
    """The steps towards the micro-batch that begins with image start, with their kind.

    The last step of a kind has its images, that of "-original" their latents.
    """
    how, schedule = job.settings, job.checkpoint.schedule
    sampler, device = SAMPLERS[how.sampler], device_of(job)
    x, c, who = inputs(job, start)
    x, c = x.to(device), c.to(device) if c.shape[1] else None
    for kind in job.kinds:
        context = None if kind == "-unconditional" else c
        eps_fn = guide(job.network, context, how.guidance)
        steps = invert(eps_fn, x, schedule, how.steps, how.spacing)
        if kind != "-original":
            generators = [image_generators(1, how.seed, i)[0] for i in who.tolist()]
            steps = job.checkpoint.times or how.steps
            steps = sampler.run(eps_fn, x, schedule, steps, how, generators)
        for step in steps:
            yield kind, step
        if kind == "-original":
            x = step.x


def device_of(job: Job) -> torch.device:
    return next(job.checkpoint.model.parameters()).device


def inputs(job: Job, start: int) -> tuple[Tensor, Tensor, Tensor]:
    """What a micro-batch begins with: latents, or originals (B,C,H,W); their contexts
    (B,K); and (B,) the numbers whose noise goes into their steps, if any does.
    """
    how, shape = job.settings, job.checkpoint.image_shape
    numbers = torch.arange(start, start + how.batch_size)
    turn = numbers % len(job.c)
    if how.mode == "sample":
        return initial_noise(len(numbers), shape, how.seed, start), job.c[turn], numbers
    if how.mode == "reconstruct":
        return job.data.x[numbers % len(job.data.x)], job.c[turn], numbers
    row, w = places(job, numbers)
    first, rows = int(row[0]), int(row[-1] - row[0]) + 1
    if job.mixes:  # one noise a row
        x = initial_noise(rows, shape, how.seed, first)[row - first]
        return x, torch.lerp(job.c[0], job.c[1], w[:, None]), row
    ends = initial_noise(2 * rows, shape, how.seed, 2 * first)
    a, b = ends[0::2][row - first], ends[1::2][row - first]
    return slerp(a, b, w), job.c[row % len(job.c)], row


def places(job: Job, numbers: Tensor) -> tuple[Tensor, Tensor]:
    """The rows of images, and how far along them they are, from 0 to 1."""
    M = job.settings.n_interpolate
    return numbers // M, (numbers % M).float() / (M - 1)


def words_of(job: Job, number: int, kind: str) -> str:
    """What an image was asked for by, in words."""
    if kind:
        return "original" if kind == "-original" else "no context"
    turn = number
    if job.settings.mode == "interpolate":
        row, w = places(job, torch.tensor([number]))
        turn = int(row)
        if job.mixes:
            return in_words(torch.lerp(job.c[0], job.c[1], float(w)), job)
    c = job.c[turn % len(job.c)]
    text = job.words[turn % len(job.c)] if job.words else in_words(c, job)
    return " ".join(text.split()) or "no context"


def in_words(c: Tensor, job: Job) -> str:
    """A context (K,) as a prompt, or its numbers where no prompt says them."""
    rounded = ((c.double() * 100).round() / 100).float()
    if not ((rounded >= 0) & (rounded <= 1)).all():
        return str(rounded.tolist())
    return describe(rounded, job.checkpoint.context) or "no context"
