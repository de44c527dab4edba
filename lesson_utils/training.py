"""DDPM's objective and the training loop, as a generator."""

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from .checkpoint import live_tensors, load_state, save_state
from .data import Pictures
from .schedule import Schedule, whole


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
    generator: torch.Generator | None = None,
) -> Tensor:
    """How well the model guesses the noise (DDPM eq. 14, alg. 1): a scalar Tensor.

    x0: (B,C,H,W) in [-1, 1]; c: (B,K) or None. Each picture gets its own time in 1..T
    and, in a share context_dropout of them, a context of zeros, so that guidance has
    both to push apart (alg. 1 there). generator: on the CPU, whatever the device.
    """
    B, device = len(x0), x0.device
    t = torch.randint(1, schedule.T + 1, (B,), generator=generator).to(device)
    eps = torch.randn(x0.shape, generator=generator).to(device)
    keep = torch.rand(B, 1, generator=generator).to(device) >= context_dropout
    x_t = schedule.add_noise(x0, t, eps)  # (4)
    guess = model(x_t, t / schedule.T, None if c is None else c * keep)
    return F.mse_loss(guess, eps)  # (14)


def learning_rate(step: int, steps: int, peak: float, warmup: int) -> float:
    """The rate of update step, 0-based: straight up to peak, then a cosine to 0."""
    if step < warmup:
        return peak * (step + 1) / warmup
    share = (step - warmup) / max(steps - warmup, 1)
    return peak * (1 + math.cos(math.pi * share)) / 2


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
    bfloat16: bool = False,
    seed: int = 0,
    state: str | Path | None = None,
    save_seconds: float = 30.0,
) -> Iterator[Update]:
    """Train the model in place; yields an Update after each of the steps.

    AdamW with warm-up and cosine decay from the learning rate peak, gradients clipped
    to norm 1, an exponential moving average (EMA) of the weights. The draws of an
    update depend on seed and its number alone. bfloat16: autocast, for processors that
    have it. state: a file from which an unfinished run goes on, written every
    save_seconds until the last update; it must be of the same model and settings.
    Raises ValueError, at the call, for arguments that make no sense.
    """
    steps, batch_size = whole("steps", steps, 1), whole("batch_size", batch_size, 1)
    warmup, seed = whole("warmup", warmup, 0), whole("seed", seed, 0, 2**40)
    shares = {"peak": peak, "ema_decay": ema_decay, "context_dropout": context_dropout}
    if not (0 < peak < 1 and 0 <= ema_decay < 1 and 0 <= context_dropout <= 1):
        raise ValueError(f"numbers between 0 and 1 are needed, got {shares}")
    if not len(data.x) or len(data.x) != len(data.c):
        raise ValueError(f"data: {len(data.x)} pictures with {len(data.c)} contexts")
    settings = shares | {"steps": steps, "batch_size": batch_size, "warmup": warmup}
    settings |= {"seed": seed, "bfloat16": bool(bfloat16), "data": [*data.x.shape]}
    settings["schedule"] = schedule.alpha_bar[:: max(1, schedule.T // 8)].tolist()

    device = next(model.parameters()).device
    model.to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(model.parameters(), lr=peak, weight_decay=0.01)
    ema_update = get_ema_multi_avg_fn(ema_decay)
    ema = AveragedModel(model, multi_avg_fn=ema_update, use_buffers=True)
    losses, first, before = torch.zeros(steps, device=device), 0, 0.0
    if state is not None and Path(state).exists():
        live = live_tensors(model, ema, optimiser, losses)
        first, before = load_state(state, live, settings)

    def loop() -> Iterator[Update]:
        started = saved = time.monotonic()
        for step in range(first, steps):
            model.train()  # whatever a preview in between has set
            generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
            batch = torch.randint(len(data.x), (batch_size,), generator=generator)
            x0, c = data.x[batch].to(device), data.c[batch].to(device)
            with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
                loss = diffusion_loss(
                    model, schedule, x0, c, context_dropout, generator
                )
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(step, steps, peak, warmup)
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            ema.update_parameters(model)
            losses[step] = loss.detach()
            now = time.monotonic()
            seconds = before + now - started
            if state is not None and now - saved >= save_seconds and step + 1 < steps:
                live = live_tensors(model, ema, optimiser, losses)
                save_state(state, live, settings, step + 1, seconds)
                saved = now
            yield Update(step + 1, losses[: step + 1], seconds, ema)

    return loop()
