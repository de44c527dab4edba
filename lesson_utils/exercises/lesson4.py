"""The exercises of lesson 4: training."""

from torch.optim.swa_utils import get_ema_multi_avg_fn

from ..sampling import ddim_step
from .cases import AT_LEVELS, LEVELS, PAIRS
from .checks import exercise

__all__ = ["average", "guess", "weight"]


@exercise((*pair, decay) for pair in PAIRS for decay in (0.0, 0.9, 0.99))
def average(average, weights, decay):
    """function(average, weights, decay) must give the next moving average."""
    average = average.clone()
    get_ema_multi_avg_fn(decay)([average], [weights], 1)
    return average


@exercise(AT_LEVELS)
def guess(x_t, eps, ab_t):
    """function(x_t, eps, ab_t) must give the guess of x_0 (DDIM eq. 9)."""
    return ddim_step(x_t, eps, ab_t, 1.0)[1]


@exercise((ab, gamma) for ab in LEVELS for gamma in (0.0, 0.5, 1.0))
def weight(ab_t, gamma):
    """function(ab_t, gamma) must give the P2 weight of a time with k = 1."""
    return (1 - ab_t) ** gamma
