"""The exercises of lesson 7: speed and quality."""

import torch

from ..sampling import ddim_step
from .cases import JUMPS, ONE, PAIRED, RANDOM
from .checks import exercise


@exercise((t, s) for t, s in JUMPS if s < 1)
def sigma_hat(ab_t, ab_s):
    """function(ab_t, ab_s) must give σ̂, the noise of a jump (DDIM app. D.3)."""
    return ddim_step(0 * ONE, 0 * ONE, ab_t, ab_s, "sigma-hat", ONE)[0].item()


@exercise(torch.rand(4, n, generator=RANDOM).double().unbind() for n in (1, 3, 96))
def frechet(mean, variance, real_mean, real_variance):
    """function(μ, σ², μ_r, σ_r²), all (F,), must give their Fréchet distance."""
    shift = (mean - real_mean).square().sum()
    spread = (variance + real_variance - 2 * (variance * real_variance) ** 0.5).sum()
    return shift + spread


@exercise((pairs,) for pairs in PAIRED)
def frontier(pairs):
    """function([(seconds, FCD), …]) must give the numbers of those that none beats."""

    def beats(q, p):
        return q[0] <= p[0] and q[1] <= p[1] and q != p

    return [i for i, p in enumerate(pairs) if not any(beats(q, p) for q in pairs)]
