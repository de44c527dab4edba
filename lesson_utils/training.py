"""DDPM's objective, and what one update of the weights does."""

import math

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from .schedule import Schedule
from .support.checked import checked, fit, instance, real, whole
from .support.rules import (
    a_generator,
    a_schedule,
    context_of,
    images_to_noise,
    loss_rule,
    network_of_any_type,
    weights_rule,
)


@checked(
    x0=images_to_noise,
    c=context_of,
    model=network_of_any_type,
    schedule=a_schedule,
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

    x0: (B,C,H,W) in [-1, 1]; c: (B,K) or None. Each image gets its own timestep, all of
    1..T equally likely; those of a batch are spread evenly from one random offset, so
    that the loss varies less from batch to batch (low-discrepancy sampling, Kingma et
    al. 2021, "Variational diffusion models", app. I.1; here in whole numbers). A share
    context_dropout of the images gets a context of zeros, so that guidance has both to
    push apart (alg. 1 there). gamma: above 0, timesteps with little noise, where no
    image is decided, count less, by (1 - alpha_bar)^gamma: P2 weighting (Choi et al.
    2022, eq. 8) with k = 1. generator: on the CPU, whatever the device. The noise and
    the loss are float32 for a model in bfloat16 too, which sees x_t in its own type.
    Raises ValueError for arguments that make no sense, as all of training does.
    """
    B, T, device = len(x0), schedule.T, x0.device
    offset = torch.randint(T, (1,), generator=generator)
    t = (1 + (offset + torch.arange(B) * T // B) % T).to(device)  # evenly spread
    eps = torch.randn(x0.shape, generator=generator).to(device)
    keep = torch.rand(B, 1, generator=generator).to(device) >= context_dropout
    x_t = schedule.add_noise(x0, t, eps)  # (4)
    guess = model(x_t, t / T, None if c is None else c * keep)
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
