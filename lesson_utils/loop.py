"""The training loop, as a generator that goes on where it was stopped."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from .optimiser import Muon
from .schedule import Schedule
from .support.checked import checked, flag, instance, optional, real, refuse, whole
from .support.files import fingerprint
from .support.processes import count, shared
from .support.rules import (
    a_schedule,
    pictures_for,
    seed_rule,
    state_path,
    weights_rule,
)
from .support.state import Keeper, live_tensors
from .training import diffusion_loss, learning_rate, train_step


class Update(NamedTuple):
    """What train yields after each update of the weights.

    step: updates so far, 1..steps; losses: (step,), one for each of them; seconds: the
    time they took, in all runs; ema: the averaged model, called like the model itself.
    """

    step: int
    losses: Tensor
    seconds: float
    ema: AveragedModel


def average_decay(name: str, value: object, call) -> float:
    """A decay in [0, 1); None: 0.999, or less for a run of under 10,000 updates."""
    if value is None:
        return max(0.0, min(0.999, 1 - 10 / call["steps"]))
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
        float | None, average_decay, "of the averaged weights; 0.999, less if short"
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
    generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + step)
    batch = torch.randint(len(data.x), (settings.batch_size,), generator=generator)
    weight = next(model.parameters())
    x0 = data.x[batch].to(weight.device, torch.float32)
    c = data.c[batch].to(weight)
    model.train()  # whatever a preview in between has set
    with torch.autocast(weight.device.type, torch.bfloat16, enabled=settings.bfloat16):
        return diffusion_loss(
            model, schedule, x0, c, settings.context_dropout, settings.gamma, generator
        )
