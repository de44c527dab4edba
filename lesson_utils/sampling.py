"""DDPM and DDIM: generators that yield a Step after every evaluation of the network.

They know arithmetic only: context and guidance are inside the EpsFn, the device is that
of x, and progress bars, films and timing wrap them from outside.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .arguments import (
    check_clipping,
    check_generator,
    check_guide,
    check_sampler,
    check_step,
    refuse,
)
from .schedule import Schedule

EpsFn = Callable[[Tensor, Tensor], Tensor]  # (x (B,C,H,W), t/T (B,)) -> eps (B,C,H,W)
Generators = torch.Generator | list[torch.Generator] | None


class Step(NamedTuple):
    """What a sampler yields after each step.

    t: the time reached, in 0..T-1; x: (B,C,H,W), x_t at that time; x0: (B,C,H,W), the
    guess of the clean picture from which the step was made (DDIM eq. 9).
    """

    t: int
    x: Tensor
    x0: Tensor


Steps = Iterator[Step]


def guide(model: nn.Module, c: Tensor | None = None, scale: float = 1.0) -> EpsFn:
    """The network as an EpsFn, with its context held fixed and pushed by scale.

    model: (x, t/T, c) -> eps; c: (B,K) or None. scale 0: no context, 1: plain context,
    above 1: pushed away from no context (the paper's w is scale - 1). Any other than 0
    and 1 costs two evaluations, which run as one batch of 2 B.
    Raises ValueError for a scale that is negative or not finite, or a c not (B,K).
    Source: classifier-free guidance (Ho & Salimans 2022), eq. 6.
    """
    check_guide(model, c, scale)
    if c is None or scale in (0, 1):
        return lambda x, t: model(x, t, c if scale else None)

    def eps_fn(x: Tensor, t: Tensor) -> Tensor:
        both = torch.cat([c, torch.zeros_like(c)])
        with_c, without = model(torch.cat([x, x]), torch.cat([t, t]), both).chunk(2)
        return without + scale * (with_c - without)

    return eps_fn


def ddpm(
    eps_fn: EpsFn,
    x: Tensor,
    schedule: Schedule,
    variance: str = "posterior",
    generator: Generators = None,
) -> Steps:
    """Ancestral sampling, one step for each of the T times (DDPM alg. 2, §3.2).

    x: (B,C,H,W) noise at time T; variance: "posterior" or "beta"; generator: one, a
    list with one a picture, or None for torch's own. Yields T Steps, no gradients.
    Raises ValueError, at the call, for arguments that make no sense.
    """
    check_sampler(eps_fn, x, schedule, generator, variance=variance)
    ab = schedule.alpha_bar.tolist()

    @torch.no_grad()
    def loop(x: Tensor) -> Steps:
        for t in range(schedule.T, 0, -1):
            eps = eps_fn(x, x.new_full((len(x),), t / schedule.T))
            alpha, beta = ab[t] / ab[t - 1], 1 - ab[t] / ab[t - 1]
            x0 = (x - (1 - ab[t]) ** 0.5 * eps) / ab[t] ** 0.5
            x = (x - beta / (1 - ab[t]) ** 0.5 * eps) / alpha**0.5  # (11)
            if t > 1:  # z = 0 in the last step
                share = (1 - ab[t - 1]) / (1 - ab[t]) if variance == "posterior" else 1
                x = x + (share * beta) ** 0.5 * noise_like(x, generator)  # (7)
            yield Step(t - 1, x, x0)

    return loop(x)


def ddim_step(
    x: Tensor,
    eps: Tensor,
    ab_t: float,
    ab_s: float,
    eta: float | str = 0.0,
    noise: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """One DDIM step from time t to any time s: gives (x_s, guess of x_0).

    x, eps, noise: (B,C,H,W); ab_t, ab_s: alpha_bar at the two times. eta: 0 is
    deterministic, 1 has DDPM's posterior variance, "sigma-hat" is the mean of eta = 1
    with the larger noise of DDIM app. D.3 (none in the step to s = 0).
    Raises ValueError for an eta outside [0, 1], alpha_bars outside (0, 1], and, with an
    eta above 0, where noise is missing or s is not before t.
    Source: DDIM eq. 9 (x0), 12 (x_s) and 16 (σ).
    """
    check_step(x, eps, ab_t, ab_s, eta, noise)
    x0 = (x - (1 - ab_t) ** 0.5 * eps) / ab_t**0.5  # (9)
    if eta == 0 or ab_s == 1:  # σ = 0
        return ab_s**0.5 * x0 + (1 - ab_s) ** 0.5 * eps, x0  # (12)
    sigma_hat = (1 - ab_t / ab_s) ** 0.5
    sigma = sigma_hat * ((1 - ab_s) / (1 - ab_t)) ** 0.5  # (16), η = 1
    if eta != "sigma-hat":
        sigma = sigma_hat = eta * sigma
    x_s = ab_s**0.5 * x0 + (1 - ab_s - sigma**2) ** 0.5 * eps  # (12)
    return x_s + sigma_hat * noise, x0


def ddim(
    eps_fn: EpsFn,
    x: Tensor,
    schedule: Schedule,
    steps: int | list[int] = 20,
    eta: float | str = 0.0,
    spacing: str = "uniform",
    clip: bool = False,
    generator: Generators = None,
) -> Steps:
    """DDIM: the times between T and 0 may be any, few or many (DDIM §4.2).

    x: (B,C,H,W) noise at time T; steps, spacing: as in Schedule.timesteps; eta: a
    number in [0, 1] or "sigma-hat", as in ddim_step; clip: hold the guess of x_0 in
    [-1, 1]; generator: as in ddpm, used only if eta is not 0. Yields a Step for each
    evaluation of eps_fn, no gradients.
    Raises ValueError, at the call, for arguments that make no sense.
    """
    check_sampler(eps_fn, x, schedule, generator, eta)
    times, ab = schedule.timesteps(steps, spacing), schedule.alpha_bar.tolist()

    @torch.no_grad()
    def loop(x: Tensor) -> Steps:
        for t, s in pairwise(times):
            eps = eps_fn(x, x.new_full((len(x),), t / schedule.T))
            if clip:
                eps = clipped(x, eps, ab[t])
            noise = noise_like(x, generator) if eta and s else None
            x, x0 = ddim_step(x, eps, ab[t], ab[s], eta, noise)
            yield Step(s, x, x0)

    return loop(x)


def clipped(x: Tensor, eps: Tensor, ab_t: float) -> Tensor:
    """The eps (B,C,H,W) whose guess of x_0 is the one of eps, cut off at [-1, 1].

    The guess clipped alone would contradict eps. ab_t must be in (0, 1).
    """
    check_clipping(x, eps, ab_t)
    x0 = ((x - (1 - ab_t) ** 0.5 * eps) / ab_t**0.5).clamp(-1, 1)
    return (x - ab_t**0.5 * x0) / (1 - ab_t) ** 0.5


def noise_like(x: Tensor, generator: Generators = None) -> Tensor:
    """Standard normal noise (B,C,H,W) for x, image by image if generator is a list."""
    check_generator(x, generator)
    if isinstance(generator, list | tuple):
        draws = [noise_like(image, g) for image, g in zip(x, generator, strict=True)]
        return torch.stack(draws)
    device = generator.device if generator is not None else x.device
    noise = torch.randn(x.shape, generator=generator, dtype=x.dtype, device=device)
    return noise.to(x.device)


def last(steps: Iterable[Step]) -> Tensor:
    """Run a sampler to its end and give its last x, (B,C,H,W).

    Keeps one step at a time. Raises ValueError if there is no step.
    """
    end = deque(steps if isinstance(steps, Iterable) else (), maxlen=1)
    if not end or not isinstance(getattr(end[0], "x", None), Tensor):
        refuse("steps", "a sampler, such as ddim(…), that has not run yet,", steps)
    return end[0].x
