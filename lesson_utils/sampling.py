"""DDPM and DDIM: generators that yield a Step after every evaluation of the network.

They know arithmetic only: context and guidance are inside the EpsFn; progress, films
and timing wrap them from outside.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .noise import Generators, noise_like
from .schedule import Schedule
from .support.checked import checked, choice, flag, optional, real, tensor, whole
from .support.rules import (
    a_network,
    a_schedule,
    an_eps_fn,
    clean_images,
    context_of,
    eta_rule,
    generators,
    interval_rule,
    level_after,
    level_before,
    no_zeros,
    noise_of_step,
    noisy_images,
    not_opposite,
    shaped_as,
    spacing_rule,
    steps_rule,
    unfinished,
    weights_of_pairs,
    worse_network,
)

EpsFn = Callable[[Tensor, Tensor], Tensor]  # (x (B,C,H,W), t/T (B,)) -> eps (B,C,H,W)


class Step(NamedTuple):
    """What a sampler yields after each step.

    t: the time reached, in 0..T; x: (B,C,H,W), x_t at that time; x0: (B,C,H,W), the
    guess of the clean image from which the step was made (DDIM eq. 9).
    """

    t: int
    x: Tensor
    x0: Tensor


@checked(interval=interval_rule, inside=an_eps_fn, outside=an_eps_fn)
def within(interval: tuple[float, float], inside: EpsFn, outside: EpsFn) -> EpsFn:
    """One EpsFn for the times low <= t/T <= high, and another one for the others.

    interval: (low, high) in t/T. Both are evaluated only where the images of a batch
    have times of both kinds. ValueError unless 0 <= low <= high <= 1.
    """
    low, high = interval

    def eps_fn(x: Tensor, t: Tensor) -> Tensor:
        here = (low <= t) & (t <= high)  # (B,)
        if here.all():
            return inside(x, t)
        if not here.any():
            return outside(x, t)
        return torch.where(here.view(-1, 1, 1, 1), inside(x, t), outside(x, t))

    return eps_fn


@checked(
    model=a_network,
    c=context_of,
    scale=real("[0, inf)"),
    interval=optional(interval_rule),
    worse=worse_network,
)
def guide(
    model: nn.Module,
    c: Tensor | None = None,
    scale: float = 1.0,
    interval: tuple[float, float] | None = None,
    worse: nn.Module | None = None,
) -> EpsFn:
    """The network as an EpsFn, with its context held fixed and pushed by scale.

    model: (x, t/T, c) -> eps; c: (B,K) or None. scale 0: no context, 1: plain context,
    above 1: pushed away from no context (scale - 1 is w in Ho & Salimans 2022, eq. 6).
    Any other than 0 and 1 costs two evaluations, which run as one batch of 2 B.
    interval: (low, high) in t/T, outside of which the scale is 1: one evaluation
    (Kynkäänniemi 2024). worse: a network of the same inputs, whose answer with c takes
    the place of that without context (autoguidance, Karras 2024); two evaluations.
    Raises ValueError for a scale that is negative or not finite, a c not (B,K) or not
    finite, an interval not in [0, 1] or reversed, and a worse one of other inputs.
    """
    if interval is not None:  # lesson 10
        return within(interval, guide(model, c, scale, None, worse), guide(model, c))
    if worse is not None and scale != 1:  # lesson 10
        return lambda x, t: (1 - scale) * worse(x, t, c) + scale * model(x, t, c)
    if c is None or scale in (0, 1):
        return lambda x, t: model(x, t, c if scale else None)

    def eps_fn(x: Tensor, t: Tensor) -> Tensor:
        both = torch.cat([c, torch.zeros_like(c)])
        with_c, without = model(torch.cat([x, x]), torch.cat([t, t]), both).chunk(2)
        return without + scale * (with_c - without)

    return eps_fn


@checked(
    eps_fn=an_eps_fn,
    x=noisy_images,
    schedule=a_schedule,
    variance=choice("posterior", "beta"),
    generator=generators,
)
@torch.no_grad()
def ddpm(
    eps_fn: EpsFn,
    x: Tensor,
    schedule: Schedule,
    variance: str = "posterior",
    generator: Generators = None,
) -> Iterator[Step]:
    """Ancestral sampling, one step for each of the T times (DDPM alg. 2, §3.2).

    x: (B,C,H,W) noise at time T; variance: "posterior" or "beta"; generator: one, a
    list with one an image, or None for torch's own. Yields T Steps, no gradients.
    eps_fn gets t/T in float32; what it gives must have the shape of x, and is given its
    type. Raises ValueError, at the call, for arguments that make no sense.
    """
    ab = schedule.alpha_bar.tolist()
    for t in range(schedule.T, 0, -1):
        eps = eps_fn(x, torch.full((len(x),), t / schedule.T, device=x.device))
        alpha, beta = ab[t] / ab[t - 1], 1 - ab[t] / ab[t - 1]
        x0 = (x - (1 - ab[t]) ** 0.5 * eps) / ab[t] ** 0.5  # DDIM (9)
        x = (x - beta / (1 - ab[t]) ** 0.5 * eps) / alpha**0.5  # (11)
        if t > 1:  # z = 0 in the last step
            share = (1 - ab[t - 1]) / (1 - ab[t]) if variance == "posterior" else 1
            x = x + (share * beta) ** 0.5 * noise_like(x, generator)  # (7)
        yield Step(t - 1, x, x0)


@checked(
    x=tensor(),
    eps=shaped_as("x"),
    eta=eta_rule,
    ab_t=level_before,
    ab_s=level_after,
    noise=noise_of_step,
)
def ddim_step(
    x: Tensor,
    eps: Tensor,
    ab_t: float | Tensor,
    ab_s: float | Tensor,
    eta: float | str = 0.0,
    noise: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """One DDIM step from time t to any time s: gives (x_s, guess of x_0).

    x, eps, noise: (B,C,H,W); ab_t, ab_s: alpha_bar at the two times, with eta = 0 also
    (B,1,1,1). eta: 0 is deterministic, 1 has DDPM's posterior variance, "sigma-hat" is
    the mean of eta = 1 with the larger noise of DDIM app. D.3 (none in the step to 0).
    Raises ValueError for an eta outside [0, 1], alpha_bars outside (0, 1], and, with an
    eta above 0, where noise is missing or s is not before t.
    Source: DDIM eq. 9 (x0), 12 (x_s) and 16 (σ).
    """
    x0 = (x - (1 - ab_t) ** 0.5 * eps) / ab_t**0.5  # (9)
    if eta == 0 or ab_s == 1:  # σ = 0
        return ab_s**0.5 * x0 + (1 - ab_s) ** 0.5 * eps, x0  # (12)
    sigma_hat = (1 - ab_t / ab_s) ** 0.5
    sigma = sigma_hat * ((1 - ab_s) / (1 - ab_t)) ** 0.5  # (16), η = 1
    if eta != "sigma-hat":
        sigma = sigma_hat = eta * sigma
    x_s = ab_s**0.5 * x0 + (1 - ab_s - sigma**2) ** 0.5 * eps  # (12)
    return x_s + sigma_hat * noise, x0


@checked(x=tensor(), eps=shaped_as("x"), ab_t=real("(0, 1)"))
def clipped(x: Tensor, eps: Tensor, ab_t: float) -> Tensor:
    """The eps (B,C,H,W) whose guess of x_0 is the one of eps, cut off at [-1, 1].

    The guess clipped alone would contradict eps. ab_t must be in (0, 1).
    """
    x0 = ((x - (1 - ab_t) ** 0.5 * eps) / ab_t**0.5).clamp(-1, 1)
    return (x - ab_t**0.5 * x0) / (1 - ab_t) ** 0.5


@checked(
    eps_fn=an_eps_fn,
    x=noisy_images,
    schedule=a_schedule,
    steps=steps_rule("schedule.T"),
    eta=eta_rule,
    spacing=spacing_rule,
    clip=flag,
    generator=generators,
)
@torch.no_grad()
def ddim(
    eps_fn: EpsFn,
    x: Tensor,
    schedule: Schedule,
    steps: int | list[int] = 20,
    eta: float | str = 0.0,
    spacing: str = "uniform",
    clip: bool = False,
    generator: Generators = None,
) -> Iterator[Step]:
    """DDIM: the times between T and 0 may be any, few or many (DDIM §4.2).

    x: (B,C,H,W) noise at time T; steps, spacing: as in Schedule.timesteps; eta: as in
    ddim_step; clip: hold the guess of x_0 in [-1, 1]; generator: as in ddpm, used only
    if eta is not 0. Yields a Step for each evaluation of eps_fn, no gradients.
    Raises ValueError, at the call, for arguments that make no sense.
    """
    ab = schedule.alpha_bar.tolist()
    for t, s in pairwise(schedule.timesteps(steps, spacing)):
        eps = eps_fn(x, torch.full((len(x),), t / schedule.T, device=x.device))
        if clip:
            eps = clipped(x, eps, ab[t])
        noise = noise_like(x, generator) if eta and s else None
        x, x0 = ddim_step(x, eps, ab[t], ab[s], eta, noise)
        yield Step(s, x, x0)


@checked(steps=unfinished)
def last(steps: Iterable[Step]) -> Tensor:
    """Run a sampler to its end and give its last x, (B,C,H,W).

    Keeps one step at a time. Raises ValueError if there is no step.
    """
    [step] = deque(steps, maxlen=1)
    return step.x


@checked(a=no_zeros, b=not_opposite, w=weights_of_pairs)
def slerp(a: Tensor, b: Tensor, w: float | Tensor) -> Tensor:
    """Latents (B,C,H,W) on the arcs from a (w = 0) to b (w = 1), one angle for a pair.

    w: in [0, 1], one for all or (B,). Spherical linear interpolation (DDIM app. D.5),
    in float32 or better.
    Raises ValueError for other w, shapes that differ, zeros and opposite latents.
    """
    w = torch.as_tensor(w).to(a).view(-1, 1, 1, 1)
    cos = F.cosine_similarity(a.flatten(1), b.flatten(1)).clamp(-1, 1)  # (B,)
    theta = cos.acos().clamp(min=1e-3).view(-1, 1, 1, 1)  # no 0/0 for a = b
    return (((1 - w) * theta).sin() * a + (w * theta).sin() * b) / theta.sin()


@checked(
    eps_fn=an_eps_fn,
    x0=clean_images,
    schedule=a_schedule,
    steps=steps_rule("schedule.T"),
    spacing=spacing_rule,
    refine=whole(0),
)
@torch.no_grad()
def invert(
    eps_fn: EpsFn,
    x0: Tensor,
    schedule: Schedule,
    steps: int | list[int] = 100,
    spacing: str = "uniform",
    refine: int = 0,
) -> Iterator[Step]:
    """From an image to its latent: DDIM with eta = 0 run upwards (DDIM §4.3, §5.4).

    x0: (B,C,H,W) in [-1, 1]; steps, spacing: as in ddim, which undoes it with the same.
    A step from s to t takes the eps of x_s at time t, as sampling will ask at t; refine
    is how often it is asked again, of the x_t just reached (fixed-point iteration).
    Yields a Step for each step, the last at T, no gradients. Raises ValueError, at the
    call, for arguments that make no sense.
    """
    x, ab = x0, schedule.alpha_bar.tolist()
    for s, t in pairwise(reversed(schedule.timesteps(steps, spacing))):
        x_t = x
        for _ in range(1 + refine):
            eps = eps_fn(x_t, torch.full((len(x),), t / schedule.T, device=x.device))
            x_t, x0 = ddim_step(x, eps, ab[s], ab[t])
        x = x_t
        yield Step(t, x, x0)
