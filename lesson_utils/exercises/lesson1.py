"""The exercises of lesson 1: noise."""

import torch

from ..sampling import ddim_step
from ..schedule import Schedule
from .cases import AT_LEVELS, JUMPS, ONE
from .checks import exercise

__all__ = ["noised", "levels", "posterior"]


@exercise((x0, ab, eps) for x0, eps, ab in AT_LEVELS)
def noised(x0, ab_t, eps):
    """function(x0, ab_t, eps) must give x_t (DDPM eq. 4)."""
    return Schedule([1.0, ab_t]).add_noise(x0, torch.ones(4, dtype=torch.int64), eps)


@exercise((torch.linspace(0.1 / T, 20 / T, T).tolist(),) for T in (25, 100, 500))
def levels(betas):
    """function([β_1, …, β_T]) must give the T + 1 values of alpha_bar, from 1 on."""
    return Schedule.linear(len(betas), betas[0], betas[-1]).alpha_bar


@exercise(JUMPS)
def posterior(ab_t, ab_s):
    """function(ab_t, ab_s) must give DDPM's posterior variance (DDPM eq. 7)."""
    with_noise, _ = ddim_step(0 * ONE, 0 * ONE, ab_t, ab_s, 1.0, ONE)
    return float(with_noise) ** 2  # what the noise adds to a step of η = 1, squared
