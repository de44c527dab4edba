"""The exercises of lesson 8: the latent space."""

import torch

from ..sampling import ddim_step
from .cases import JUMPS, PAIRS, RANDOM
from .checks import exercise


@exercise((w,) for w in (0.0, 0.2, 0.5, 1.0))
def length(w):
    """function(w) must give the length, in √d, of a mix of two independent noises."""
    return ((1 - w) ** 2 + w**2) ** 0.5


@exercise(
    (PAIRS[0][0][:n], torch.rand(n, generator=RANDOM).double()) for n in (2, 3, 4)
)
def blended(noises, weights):
    """function(noises (n,C,H,W), weights (n,)) must give a mix of variance 1."""
    return torch.einsum("n,nchw->chw", weights, noises) / weights.norm()


@exercise((torch.tanh, PAIRS[0][0], s, t, n) for t, s in JUMPS for n in (0, 1, 5))
def refined(eps_of, x_s, ab_s, ab_t, refine):
    """function(eps_of, x_s, ab_s, ab_t, refine) must give x_t, as `invert` does."""
    x_t = x_s
    for _ in range(1 + refine):
        x_t, _ = ddim_step(x_s, eps_of(x_t), ab_s, ab_t)
    return x_t
