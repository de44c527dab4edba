"""The loops of training and of distillation, as generators.

Each can be stopped at any time, and goes on with its state to the same weights.
"""

import copy
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from .distilling import Student, distillation_loss, jump_target
from .optimiser import Muon
from .sampling import EpsFn, guide
from .schedule import Schedule
from .support.checked import checked, flag, instance, optional, real, refuse, whole
from .support.files import fingerprint
from .support.processes import count, shared
from .support.rules import (
    a_schedule,
    pictures_for,
    pictures_of,
    seed_rule,
    state_path,
    weights_rule,
)
from .support.state import Keeper, live_tensors
from .training import diffusion_loss, learning_rate, train_step
from .unet import ContextUnet, time_embedding


class Update(NamedTuple):
    """What train and distill yield after each update of the weights.

    step: updates so far, 1..steps; losses: (step,), one for each of them; seconds: the
    time they took, in all runs; ema: the averaged model, called like the model itself;
    of distill the averaged Student, with the times that it learns just now. All of them
    share one network, which the next update moves: to keep the student of a stage,
    copy.deepcopy the ema of its last update (the command keeps only the last student).
    """

    step: int
    losses: Tensor
    seconds: float
    ema: AveragedModel | Student


@dataclass(frozen=True)
class decay_for:
    """A decay in [0, 1); None: 0.999, or less for under 10,000 updates."""

    updates: str

    def __call__(self, name: str, value: object, call) -> float:
        if value is None:
            return max(0.0, min(0.999, 1 - 10 / call[self.updates]))
        return real("[0, 1)")(name, value, call)


@checked()
@dataclass(frozen=True)
class Settings:
    """How to train. Each line is a setting's type, rule, help and default: those of
    `train`, of the flags of the command line, and of what a state and a card record.
    """

    steps: Annotated[
        int, whole(1, 10**8), "updates of the weights; for images over 20×20 15000"
    ] = 30_000
    batch_size: Annotated[int, whole(1, 10**6), "images an update"] = 64
    learning_rate: Annotated[float, real("(0, 1)"), "its peak"] = 3e-3
    warmup: Annotated[int, whole(0), "updates until the peak"] = 100
    ema_decay: Annotated[
        float | None,
        decay_for("steps"),
        "of the averaged weights; 0.999, less if short",
    ] = None
    context_dropout: Annotated[
        float, real("[0, 1]"), "share of images trained without their context"
    ] = 0.1
    gamma: Annotated[float, real("[0, inf)"), "power of the loss's weights"] = 0.5
    bfloat16: Annotated[bool, flag, "autocast"] = False
    seed: Annotated[int, seed_rule, "of weights, times and noise"] = 0


def settings_for_all(name: str, value: object, call) -> Settings:
    """Settings that leave no process without an image."""
    settings = instance(Settings, "Settings(…)")(name, value, call)
    if settings.batch_size < count():
        what = f"{count()} or more, one for each process,"
        refuse("batch_size", what, settings.batch_size)
    return settings


@checked(
    model=weights_rule,
    schedule=a_schedule,
    data=pictures_for,
    settings=settings_for_all,
    state=state_path,
    save_seconds=real("[0, inf)"),
    start=optional(instance(str, "a text or None")),
)
def train(
    model: nn.Module,
    schedule: Schedule,
    data,
    settings: Settings = Settings(),
    state: str | Path | None = None,
    save_seconds: float = 30.0,
    start: str | None = None,
) -> Iterator[Update]:
    """Train the model in place; yields an Update after each of settings.steps.

    data: Pictures, as dataset gives. Muon with warm-up and cosine decay, gradients
    clipped to norm 1, an exponential moving average (EMA) of the weights; batches,
    times and noise depend on the seed and the step alone. state: a file from which an
    unfinished run of the same model, data and settings goes on, written every
    save_seconds until the last update, and when the run is stopped before it: Ctrl-C
    waits for the end of an update. start: what the model's weights are of, if they are
    not fresh; a state must be of the same. Under `accelerate launch` the processes
    share each batch, and all have the same weights; the main one has the state.
    Raises ValueError, at the call, for arguments that make no sense, or if another
    training has the state; FloatingPointError if the loss is no finite number any more;
    ConnectionError if another process is lost.
    """
    model.to(memory_format=torch.channels_last)
    optimiser = Muon(model.parameters(), lr=settings.learning_rate)
    average = get_ema_multi_avg_fn(settings.ema_decay)
    ema = AveragedModel(model, multi_avg_fn=average, use_buffers=True)
    losses = torch.zeros(settings.steps, device=next(model.parameters()).device)
    made_of = asdict(settings)
    made_of["data"] = fingerprint(data.x, data.c)
    made_of["schedule"] = fingerprint(schedule.alpha_bar)
    made_of["start"] = start
    live = live_tensors(model, ema, optimiser, losses)
    about = {
        "context": list(getattr(data, "names", ())),
        "image_shape": list(data.x.shape[1:]),
        "alpha_bar": schedule.alpha_bar.tolist(),
    }
    keeper = Keeper(state, live, made_of, save_seconds, about)
    network = shared(model)

    def loop() -> Iterator[Update]:
        with keeper:
            for step in range(keeper.done, settings.steps):
                with keeper.update():
                    loss = one_loss(network, schedule, data, settings, step)
                    peak, warmup = settings.learning_rate, settings.warmup
                    rate = learning_rate(step, settings.steps, peak, warmup)
                    train_step(model, ema, optimiser, loss, rate)
                    losses[step] = loss.detach()
                yield Update(step + 1, losses[: step + 1], keeper.seconds, ema)

    return loop()


def one_loss(model, schedule, data, settings: Settings, step: int) -> Tensor:
    """The loss of update step, 0-based; its randomness comes from seed and step."""
    x0, c, generator = drawn(model, data, settings, step)
    model.train()  # whatever a preview in between has set
    with torch.autocast(x0.device.type, torch.bfloat16, enabled=settings.bfloat16):
        return diffusion_loss(
            model, schedule, x0, c, settings.context_dropout, settings.gamma, generator
        )


def drawn(model, data, settings, step: int) -> tuple[Tensor, Tensor, torch.Generator]:
    """A batch of images and their contexts, and a generator for the rest of an update.

    All of it depends on the seed and on the number of the update alone.
    """
    generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + step)
    batch = torch.randint(len(data.x), (settings.batch_size,), generator=generator)
    weight = next(model.parameters())
    x0 = data.x[batch].to(weight.device, torch.float32)
    return x0, data.c[batch].to(weight), generator


# Distillation


@checked()
@dataclass(frozen=True)
class DistillSettings:
    """How to distil; each line as in Settings. A stage is what makes one student."""

    steps: Annotated[
        int, whole(1, 512), "evaluations of the last student: 8, 4, 2 or 1 of 16"
    ] = 4
    teacher_steps: Annotated[
        int, whole(1, 512), "steps of the guided checkpoint, halved in the first stage"
    ] = 16
    guidance: Annotated[
        float, real("[1, inf)"), "the checkpoint's scale, which students have in them"
    ] = 2.0
    updates: Annotated[int, whole(1, 10**8), "of the weights in each stage"] = 4600
    batch_size: Annotated[int, whole(1, 10**6), "images an update"] = 64
    learning_rate: Annotated[float, real("(0, 1)"), "its peak in each stage"] = 5e-4
    warmup: Annotated[int, whole(0), "updates until the peak, in each stage"] = 50
    ema_decay: Annotated[
        float | None,
        decay_for("updates"),
        "of each stage's averaged weights; 0.999, less if short",
    ] = None
    context_dropout: Annotated[
        float, real("[0, 1]"), "share of images distilled without their context"
    ] = 0.1
    context_mixing: Annotated[
        float, real("[0, 1]"), "share of images with a context between two; none at T"
    ] = 0.1
    bfloat16: Annotated[bool, flag, "autocast, of the student alone"] = False
    seed: Annotated[int, seed_rule, "of times and noise"] = 0


class Stage(NamedTuple):
    """A part of a distillation, which makes one student.

    times: T … 0, those of the student; finer: those of its teacher, with twice as many
    steps; start, end: the numbers of its first update and of that after its last.
    """

    times: list[int]
    finer: list[int]
    start: int
    end: int


def even_times(schedule: Schedule, steps: int) -> list[int]:
    """The steps + 1 times T … 0 between which √ab grows by equal strides.

    √ab is the share of the image in x_t. With equal strides in t a student would have
    little to learn near T, and nearly all of it in one step in the middle.
    """
    T, share = schedule.T, schedule.alpha_bar.double().sqrt()  # (T+1,)
    even = torch.linspace(1, float(share[T]), steps + 1, dtype=share.dtype)
    nearest = (share - even[:, None]).abs().argmin(1).tolist()
    times = [0]
    for j in range(1, steps + 1):  # no time twice, and room for those above
        times.append(min(max(nearest[j], times[-1] + 1), T - steps + j))
    return times[::-1]


def stages_of(
    teacher: nn.Module, schedule: Schedule, settings: DistillSettings
) -> list[Stage]:
    """The stages that lead from a teacher to a student of so many steps.

    ValueError if no halving does.
    """
    stages, times = [], getattr(teacher, "times", None)
    if times is None:
        steps, T = settings.teacher_steps, schedule.T
        if min(steps, T) % 2:
            up_to = f" up to T = {T}" if steps > T else ""
            refuse("teacher_steps", f"an even number{up_to}", steps)
        times = even_times(schedule, min(steps, T))
    elif len(times) % 2 == 0:
        size = "two steps or more" if len(times) == 2 else "an even number of steps"
        refuse("teacher", f"a student of {size}", times)
    while len(times) % 2:  # an even number of steps: the 0 is none
        finer, times, start = times, times[::2], len(stages) * settings.updates
        stages.append(Stage(times, finer, start, start + settings.updates))
    offered = [len(stage.times) - 1 for stage in stages]
    if settings.steps not in offered:
        refuse("steps", " or ".join(map(str, offered)), settings.steps)
    return stages[: offered.index(settings.steps) + 1]


@torch.no_grad()
def turn_to_v(
    network: ContextUnet, schedule: Schedule, times: list[int], c: Tensor
) -> None:
    """Let a ContextUnet that answers in eps answer in v at these times, untrained.

    Its answer is own x + (1 + rest) head, and v = (eps - √(1 - ab) x)/√ab is so too, of
    other own and rest. These two are what its layer mix makes of the time and the
    context; the layer is solved for them, by least squares, at contexts c (N,K). Where
    √ab is small, a trained network's 1 + rest is as small, so no weight becomes large;
    for one that is hardly trained √ab is held where half precision has room for them.
    """
    rows, wanted, ab = [], [], schedule.alpha_bar.tolist()
    for t in times[:-1]:
        a, b = max(ab[t] ** 0.5, 0.005), (1 - ab[t]) ** 0.5
        share = torch.full((len(c),), t / schedule.T, device=c.device)
        emb = network.time(time_embedding(share, network.width))
        emb = F.silu(emb + network.context(c) if network.context_size else emb)
        own, rest = network.mix(emb).cpu().double().T  # which not all devices have
        rows.append(F.pad(emb, (0, 1), value=1.0).cpu().double())  # with the bias
        wanted.append(torch.stack([(own - b) / a, (1 + rest) / a - 1], 1))
    A, y = torch.cat(rows), torch.cat(wanted)
    ridge = 1e-9 * torch.eye(A.shape[1]).to(A)  # A may have fewer rows than columns
    solved = torch.linalg.solve(A.T @ A + ridge, A.T @ y).to(network.mix.weight.dtype)
    network.mix.weight.copy_(solved[:-1].T)
    network.mix.bias.copy_(solved[-1])


def some_contexts(c: Tensor, most: int = 64) -> Tensor:
    """The different rows of c (N,K), of many some from all of them, and one of zeros.

    The first images of a folder are of one class: they would say nothing of others.
    """
    rows = c.unique(dim=0) if c.shape[1] else c[:0]
    stride = max(1, -(-len(rows) // most))
    return torch.cat([rows[::stride], c.new_zeros(1, c.shape[1])])


def folded_in(teacher: nn.Module) -> float | None:
    """The guidance that a student has in it; None for a model that is to be guided."""
    known = isinstance(teacher, Student)
    if known and (teacher.times is not None or teacher.guidance != 1):
        return teacher.guidance
    return None


def between(c: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Contexts (B,K), a share of them moved towards that of another image, at random.

    So a student learns what the teacher shows between two classes. That is not asked of
    a teacher at T, where its guess is eps divided by a √ab of 0.006: between classes,
    where it was not trained, it has errors there of several times an image.
    """
    moved = torch.rand(len(c), 1, generator=generator) < share
    w = torch.rand(len(c), 1, generator=generator) * moved
    return torch.lerp(c, c.roll(1, 0), w.to(c))


class Pupil:
    """The parts of a distillation that its updates change, and what does not change.

    teacher: that of the first stage; network: answers in v, and learns; old: as it was
    when the stage began, its teacher from the second one on; average: the moving one of
    its weights.
    """

    def __init__(self, teacher: nn.Module, schedule: Schedule, data, settings, stages):
        known, folded = isinstance(teacher, Student), folded_in(teacher)
        network = teacher.network if known else teacher
        asked = settings.guidance if data.c.shape[1] else 1.0
        self.scale = asked if folded is None else 1.0  # of the teacher
        self.guidance = asked if folded is None else folded  # of the student
        self.teacher, self.schedule, self.settings = teacher, schedule, settings
        self.network = copy.deepcopy(network).to(memory_format=torch.channels_last)
        if not known and isinstance(network, ContextUnet):
            c = some_contexts(data.c).to(next(network.parameters()))
            turn_to_v(self.network, schedule, stages[0].times, c)
        self.old = copy.deepcopy(self.network).requires_grad_(False)
        self.optimiser = Muon(self.network.parameters(), lr=settings.learning_rate)
        average = get_ema_multi_avg_fn(settings.ema_decay)
        self.average = AveragedModel(
            self.network, multi_avg_fn=average, use_buffers=True
        )

    def live(self, losses: Tensor) -> dict[str, Tensor]:
        """All that an update changes, and the teacher."""
        tensors = live_tensors(self.network, self.average, self.optimiser, losses)
        tensors.update({f"old.{k}": v for k, v in self.old.state_dict().items()})
        return tensors

    def begin(self) -> None:
        """A stage: the average becomes the teacher, and the student starts from it."""
        weights = self.average.module.state_dict()
        self.old.load_state_dict(weights)
        self.network.load_state_dict(weights)
        self.average.n_averaged.zero_()
        for kept in self.optimiser.state.values():
            for value in kept.values():
                value.zero_()

    def student(self, network: nn.Module, times: list[int]) -> Student:
        return Student(network, self.schedule, times, self.guidance)

    def taught(self, stage: Stage, c: Tensor) -> EpsFn:
        """The teacher of a stage, with contexts (B,K)."""
        if stage.start == 0:
            return guide(self.teacher, c, self.scale)
        return guide(self.student(self.old, stage.finer), c)

    def loss(self, stage: Stage, data, step: int) -> Tensor:
        """That of update step; its randomness comes from seed and step alone.

        In bfloat16 only the student answers: for the target the teacher's answer is
        divided, at T by a √ab of 0.006, and its rounding with it.
        """
        x0, c, generator = drawn(self.network, data, self.settings, step)
        B, S = len(x0), len(stage.times) - 1
        i = (torch.randint(S, (1,), generator=generator) + torch.arange(B) * S // B) % S
        finer, first = torch.tensor(stage.finer), 2 * i
        t = finer[first].to(x0.device)
        m = finer[first + 1].to(x0.device)
        s = finer[first + 2].to(x0.device)
        eps = torch.randn(x0.shape, generator=generator).to(x0)
        x = self.schedule.add_noise(x0, t, eps)
        keep = torch.rand(B, 1, generator=generator) >= self.settings.context_dropout
        mixed = between(c, self.settings.context_mixing, generator)
        c = torch.where((t < self.schedule.T)[:, None], mixed, c) * keep.to(c)
        target = jump_target(self.taught(stage, c), x, self.schedule, t, m, s)
        student, half = self.student(self.network, stage.times), self.settings.bfloat16
        with torch.autocast(x0.device.type, torch.bfloat16, enabled=half):
            return distillation_loss(student, x, t, target, c)


@checked(
    teacher=weights_rule,
    schedule=a_schedule,
    data=pictures_of("teacher"),
    settings=instance(DistillSettings, "DistillSettings(…)"),
    state=state_path,
    save_seconds=real("[0, inf)"),
)
def distill(
    teacher: nn.Module,
    schedule: Schedule,
    data,
    settings: DistillSettings = DistillSettings(),
    state: str | Path | None = None,
    save_seconds: float = 30.0,
) -> Iterator[Update]:
    """Distil a teacher, which stays as it is, into a student of settings.steps steps.

    Yields an Update after each update of the weights; the last one's ema is what was
    asked for. teacher: a network that answers in eps, of which, guided, the first stage
    halves settings.teacher_steps, with a student that answers in v; or a Student, whose
    steps are halved. Each stage starts from its teacher's weights with a new optimiser.
    data, state, save_seconds: as in train. Raises as train does, and ValueError for
    steps to which no halving leads.
    """
    stages = stages_of(teacher, schedule, settings)
    pupil, total = Pupil(teacher, schedule, data, settings, stages), stages[-1].end
    losses = torch.zeros(total, device=next(pupil.network.parameters()).device)
    made_of = asdict(settings)
    made_of["student_steps"] = settings.steps
    made_of["steps"] = total  # of the run, as in train
    made_of["data"] = fingerprint(data.x, data.c)
    made_of["schedule"] = fingerprint(schedule.alpha_bar)
    made_of["start"] = fingerprint(*teacher.state_dict().values())
    made_of["teacher"] = None  # answers in eps
    if isinstance(teacher, Student):
        made_of["teacher"] = {"times": teacher.times, "guidance": teacher.guidance}
    about = {
        "context": list(getattr(data, "names", ())),
        "image_shape": list(data.x.shape[1:]),
        "alpha_bar": schedule.alpha_bar.tolist(),
    }
    keeper = Keeper(state, pupil.live(losses), made_of, save_seconds, about)

    def loop() -> Iterator[Update]:
        with keeper:
            for step in range(keeper.done, total):
                stage = next(one for one in stages if step < one.end)
                made = pupil.student(pupil.average.module, stage.times)
                with keeper.update():
                    about["student"] = {"times": made.times, "guidance": made.guidance}
                    losses[step] = advance(pupil, stage, data, step)
                yield Update(step + 1, losses[: step + 1], keeper.seconds, made)

    return loop()


def advance(pupil: Pupil, stage: Stage, data, step: int) -> Tensor:
    """Make update step, 0-based, of its stage, which the first of them begins.

    Gives the loss () before the update, without its graph.
    """
    if step == stage.start > 0:
        pupil.begin()
    pupil.network.train()
    loss = pupil.loss(stage, data, step)
    steps = stage.end - stage.start
    peak, warmup = pupil.settings.learning_rate, pupil.settings.warmup
    rate = learning_rate(step - stage.start, steps, peak, warmup)
    train_step(pupil.network, pupil.average, pupil.optimiser, loss, rate)
    return loss.detach()
