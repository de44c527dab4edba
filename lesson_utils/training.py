"""DDPM's objective and the training loop, as a generator."""

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from .arguments import check_loss, check_rate, check_training, check_update
from .checkpoint import fingerprint, live_tensors, load_state, write_tensors
from .data import Pictures
from .optimiser import Muon
from .schedule import Schedule


class Update(NamedTuple):
    """What train yields after each update of the weights.

    step: updates so far, 1..steps; losses: (step,), one for each of them; seconds: the
    time they took, in all runs; ema: the averaged model, called like the model itself.
    """

    step: int
    losses: Tensor
    seconds: float
    ema: AveragedModel


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

    x0: (B,C,H,W) in [-1, 1]; c: (B,K) or None. Each picture gets its own time in 1..T
    and, in a share context_dropout of them, a context of zeros, so that guidance has
    both to push apart (alg. 1 there). gamma: above 0, times with little noise, where no
    picture is decided, count less, by (1 - alpha_bar)^gamma: P2 weighting (Choi et al.
    2022, eq. 8) with k = 1. generator: on the CPU, whatever the device.
    Raises ValueError for arguments that make no sense, as all of training does.
    """
    check_loss(model, schedule, x0, c, context_dropout, gamma, generator)
    B, device = len(x0), x0.device
    t = torch.randint(1, schedule.T + 1, (B,), generator=generator).to(device)
    eps = torch.randn(x0.shape, generator=generator).to(device)
    keep = torch.rand(B, 1, generator=generator).to(device) >= context_dropout
    x_t = schedule.add_noise(x0, t, eps)  # (4)
    guess = model(x_t, t / schedule.T, None if c is None else c * keep)
    weight = (1 - schedule.alpha_bar.to(x0)[t]) ** gamma
    return (weight.view(-1, 1, 1, 1) * (guess - eps) ** 2).mean()  # (14) for gamma = 0


def learning_rate(step: int, steps: int, peak: float, warmup: int) -> float:
    """The rate of update step, 0-based: straight up to peak, then a cosine to 0."""
    check_rate(step, steps, peak, warmup)
    if step < warmup:
        return peak * (step + 1) / warmup
    share = (step - warmup) / max(steps - warmup, 1)
    return peak * (1 + math.cos(math.pi * share)) / 2


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
    check_update(model, ema, optimiser, loss, rate)
    for group in optimiser.param_groups:
        group["lr"] = rate
    optimiser.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimiser.step()
    ema.update_parameters(model)


def train(
    model: nn.Module,
    schedule: Schedule,
    data: Pictures,
    steps: int,
    batch_size: int = 64,
    peak: float = 3e-3,
    warmup: int = 100,
    ema_decay: float = 0.999,
    context_dropout: float = 0.1,
    gamma: float = 0.5,
    bfloat16: bool = False,
    seed: int = 0,
    state: str | Path | None = None,
    save_seconds: float = 30.0,
) -> Iterator[Update]:
    """Train the model in place; yields an Update after each of the steps.

    Muon with warm-up and cosine decay from the learning rate peak, gradients clipped to
    norm 1, an exponential moving average (EMA) of the weights; draws depend on seed and
    step alone. bfloat16: autocast. state: a file from which an unfinished run of the
    same model and settings goes on, written every save_seconds until the last update.
    Raises ValueError, at the call, for arguments that make no sense.
    """
    settings = dict(steps=steps, batch_size=batch_size, peak=peak, warmup=warmup)
    settings |= dict(ema_decay=ema_decay, context_dropout=context_dropout, gamma=gamma)
    settings |= dict(bfloat16=bfloat16, seed=seed)
    settings = check_training(model, schedule, data, state, save_seconds, settings)
    settings["data"] = fingerprint(data.x, data.c)
    settings["schedule"] = fingerprint(schedule.alpha_bar)

    device = next(model.parameters()).device
    model.to(memory_format=torch.channels_last)
    optimiser = Muon(model.parameters(), lr=peak)
    ema_update = get_ema_multi_avg_fn(ema_decay)
    ema = AveragedModel(model, multi_avg_fn=ema_update, use_buffers=True)
    losses, first, before = torch.zeros(steps, device=device), 0, 0.0
    live = live_tensors(model, ema, optimiser, losses)
    if state is not None and Path(state).exists():
        first, before = load_state(state, live, settings)

    def loop() -> Iterator[Update]:
        started, saved = time.monotonic() - before, before
        for step in range(first, steps):
            generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
            batch = torch.randint(len(data.x), (batch_size,), generator=generator)
            x0, c = data.x[batch].to(device), data.c[batch].to(device)
            model.train()  # whatever a preview in between has set
            with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
                ways = context_dropout, gamma, generator
                loss = diffusion_loss(model, schedule, x0, c, *ways)
            rate = learning_rate(step, steps, peak, warmup)
            train_step(model, ema, optimiser, loss, rate)
            losses[step] = loss.detach()
            seconds = time.monotonic() - started
            if state and seconds - saved >= save_seconds and step + 1 < steps:
                record = {"settings": settings, "step": step + 1, "seconds": seconds}
                write_tensors(state, live, record)
                saved = seconds
            yield Update(step + 1, losses[: step + 1], seconds, ema)

    return loop()
