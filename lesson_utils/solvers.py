"""Two solvers of order two for the equation of which DDIM is Euler's method.

It is d(x/√ab) = eps d√((1 - ab)/ab) (DDIM eq. 14), ab being alpha_bar.
"""

from collections.abc import Iterator
from itertools import pairwise
from math import expm1, inf, log

import torch
from torch import Tensor

from .sampling import EpsFn, Step, ddim_step
from .schedule import Schedule
from .support.checked import checked
from .support.rules import (
    a_schedule,
    an_eps_fn,
    noisy_images,
    spacing_rule,
    steps_rule,
)


@checked(
    eps_fn=an_eps_fn,
    x=noisy_images,
    schedule=a_schedule,
    steps=steps_rule("schedule.T", to_0=False),
    spacing=spacing_rule,
)
@torch.no_grad()
def heun(
    eps_fn: EpsFn,
    x: Tensor,
    schedule: Schedule,
    steps: int | list[int] = 10,
    spacing: str = "uniform",
) -> Iterator[Step]:
    """Heun's method: a step of DDIM, repeated with the mean of eps at both its ends.

    x, steps, spacing: as in ddim, but a list of times may end above 0. A step costs two
    evaluations; that to t = 0, where no network is asked, is DDIM's and costs one.
    Yields a Step for each, no gradients. Raises ValueError, at the call, for arguments
    that make no sense. Source: Karras 2022, alg. 1, with σ = √((1 - ab)/ab).
    """
    ab = schedule.alpha_bar.tolist()
    for t, s in pairwise(schedule.timesteps(steps, spacing)):
        eps = eps_fn(x, torch.full((len(x),), t / schedule.T, device=x.device))
        x_s, x0 = ddim_step(x, eps, ab[t], ab[s])  # Euler
        if s > 0:
            t_s = torch.full((len(x),), s / schedule.T, device=x.device)
            eps = (eps + eps_fn(x_s, t_s)) / 2
            x_s, x0 = ddim_step(x, eps, ab[t], ab[s])
        x = x_s
        yield Step(s, x, x0)


@checked(**heun.rules)
@torch.no_grad()
def dpmpp_2m(
    eps_fn: EpsFn,
    x: Tensor,
    schedule: Schedule,
    steps: int | list[int] = 10,
    spacing: str = "uniform",
) -> Iterator[Step]:
    """DPM-Solver++(2M): a step of DDIM whose guess of x_0 goes on as it changed before.

    The guess is a straight line over λ = ½ ln(ab/(1 - ab)) through the last two. So the
    first step is DDIM's, and so is that to t = 0, where λ is infinite. One evaluation a
    step; all else as in heun. Source: Lu 2022, DPM-Solver++, alg. 2.
    """
    ab = schedule.alpha_bar.tolist()
    lam = [inf, *(log(a / (1 - a)) / 2 for a in ab[1:])]  # λ at t = 0 … T
    h_before = x0_before = None
    for t, s in pairwise(schedule.timesteps(steps, spacing)):
        eps = eps_fn(x, torch.full((len(x),), t / schedule.T, device=x.device))
        D = x0 = (x - (1 - ab[t]) ** 0.5 * eps) / ab[t] ** 0.5  # DDIM (9)
        h = lam[s] - lam[t]
        if h_before and s > 0:
            D = x0 + h / (2 * h_before) * (x0 - x0_before)
        x = ((1 - ab[s]) / (1 - ab[t])) ** 0.5 * x - ab[s] ** 0.5 * expm1(-h) * D
        h_before, x0_before = h, x0
        yield Step(s, x, x0)
