"""DDPM's objective and the training loop, as a generator."""

import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from .optimiser import Muon
from .schedule import Schedule
from .support.checked import checked, fit, flag, instance, optional, real, tensor, whole
from .support.files import fingerprint, write_tensors
from .support.rules import (
    a_generator,
    a_network,
    a_schedule,
    images,
    loss_rule,
    pictures_for,
    seed_rule,
    state_path,
    weights_rule,
)
from .support.state import live_tensors, load_state


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


@checked(
    model=a_network,
    schedule=a_schedule,
    x0=images,
    c=optional(tensor("B K")),
    context_dropout=real("[0, 1]"),
    gamma=real("[0, inf)"),
    generator=a_generator,
)
def diffusion_loss(
    model: nn.Module,
    schedule: Schedule,
    x0: Tensor,
    c: Tensor | None = None,
    context_dropout: float = 0.1,
    gamma: float = 0.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """How well the model guesses the noise (DDPM eq. 14, alg. 1): a scalar Tensor.

    x0: (B,C,H,W) in [-1, 1]; c: (B,K) or None. Each image gets its own time in 1..T
    and, in a share context_dropout of them, a context of zeros, so that guidance has
    both to push apart (alg. 1 there). gamma: above 0, times with little noise, where no
    image is decided, count less, by (1 - alpha_bar)^gamma: P2 weighting (Choi et al.
    2022, eq. 8) with k = 1. generator: on the CPU, whatever the device.
    Raises ValueError for arguments that make no sense, as all of training does.
    """
    B, device = len(x0), x0.device
    t = torch.randint(1, schedule.T + 1, (B,), generator=generator).to(device)
    eps = torch.randn(x0.shape, generator=generator).to(device)
    keep = torch.rand(B, 1, generator=generator).to(device) >= context_dropout
    x_t = schedule.add_noise(x0, t, eps)  # (4)
    guess = model(x_t, t / schedule.T, None if c is None else c * keep)
    weight = (1 - schedule.alpha_bar.to(x0)[t]) ** gamma
    return (weight.view(-1, 1, 1, 1) * (guess - eps) ** 2).mean()  # (14) for gamma = 0


@checked(steps=whole(1), step=whole(0, "steps"), peak=real("(0, 1)"), warmup=whole())
def learning_rate(step: int, steps: int, peak: float, warmup: int) -> float:
    """The rate of update step, 0-based: straight up to peak, then a cosine to 0."""
    if step < warmup:
        return peak * (step + 1) / warmup
    share = (step - warmup) / max(steps - warmup, 1)
    return peak * (1 + math.cos(math.pi * share)) / 2


@checked(
    model=weights_rule,
    ema=fit(lambda ema: hasattr(ema, "update_parameters"), "an AveragedModel"),
    optimiser=instance(torch.optim.Optimizer, "one of torch.optim, such as AdamW,"),
    loss=loss_rule,
    rate=real("[0, 1]"),
)
def train_step(
    model: nn.Module,
    ema: AveragedModel,
    optimiser: torch.optim.Optimizer,
    loss: Tensor,
    rate: float,
) -> None:
    """Move the weights against the gradient of the loss, and their average after them.

    loss: a scalar with its graph; rate: the learning rate of this step. The gradient is
    clipped to norm 1. ema keeps an exponential moving average, as DDPM app. B has.
    """
    for group in optimiser.param_groups:
        group["lr"] = rate
    optimiser.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimiser.step()
    ema.update_parameters(model)


@checked(
    model=weights_rule,
    schedule=a_schedule,
    data=pictures_for,
    settings=instance(Settings, "Settings(…)"),
    state=state_path,
    save_seconds=real("[0, inf)"),
)
def train(
    model: nn.Module,
    schedule: Schedule,
    data,
    settings: Settings = Settings(),
    state: str | Path | None = None,
    save_seconds: float = 30.0,
) -> Iterator[Update]:
    """Train the model in place; yields an Update after each of settings.steps.

    data: Pictures, as dataset gives. Muon with warm-up and cosine decay, gradients
    clipped to norm 1, an exponential moving average (EMA) of the weights; batches,
    times and noise depend on the seed and the step alone. state: a file from which an
    unfinished run of the same model, data and settings goes on, written every
    save_seconds until the last update.
    Raises ValueError, at the call, for arguments that make no sense.
    """
    model.to(memory_format=torch.channels_last)
    optimiser = Muon(model.parameters(), lr=settings.learning_rate)
    average = get_ema_multi_avg_fn(settings.ema_decay)
    ema = AveragedModel(model, multi_avg_fn=average, use_buffers=True)
    losses = torch.zeros(settings.steps, device=next(model.parameters()).device)
    live = live_tensors(model, ema, optimiser, losses)
    made_of = asdict(settings)
    made_of["data"] = fingerprint(data.x, data.c)
    made_of["schedule"] = fingerprint(schedule.alpha_bar)
    first, before = 0, 0.0
    if state is not None and state.exists():
        first, before = load_state(state, live, made_of)

    def loop() -> Iterator[Update]:
        started, saved = time.monotonic() - before, before
        for step in range(first, settings.steps):
            loss = one_loss(model, schedule, data, settings, step)
            peak, warmup = settings.learning_rate, settings.warmup
            rate = learning_rate(step, settings.steps, peak, warmup)
            train_step(model, ema, optimiser, loss, rate)
            losses[step] = loss.detach()
            seconds = time.monotonic() - started
            done = step + 1
            if state and seconds - saved >= save_seconds and done < settings.steps:
                record = {"settings": made_of, "step": done, "seconds": seconds}
                write_tensors(state, live, record)
                saved = seconds
            yield Update(done, losses[:done], seconds, ema)

    return loop()


def one_loss(model, schedule, data, settings: Settings, step: int) -> Tensor:
    """The loss of update step, 0-based; its randomness comes from seed and step."""
    generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + step)
    batch = torch.randint(len(data.x), (settings.batch_size,), generator=generator)
    weight = next(model.parameters())
    x0, c = data.x[batch].to(weight), data.c[batch].to(weight)
    model.train()  # whatever a preview in between has set
    with torch.autocast(weight.device.type, torch.bfloat16, enabled=settings.bfloat16):
        return diffusion_loss(
            model, schedule, x0, c, settings.context_dropout, settings.gamma, generator
        )
