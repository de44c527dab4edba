"""The exercises of lesson 6: DDIM."""

from .. import sampling
from ..sampling import ddim_step
from ..schedule import Schedule
from .cases import AT_LEVELS, JUMPS, ONE
from .checks import exercise

__all__ = ["times", "sigma", "clipped"]


@exercise((T, S) for T in (10, 100, 500) for S in (1, 3, T // 2, T - 3, T))
def times(T, steps):
    """function(T, steps) must give steps + 1 uniform times T … 0, for any steps."""
    return Schedule.linear(T).timesteps(steps)


@exercise((*jump, eta) for jump in JUMPS for eta in (0, 0.3, 1))
def sigma(ab_t, ab_s, eta):
    """function(ab_t, ab_s, eta) must give σ (DDIM eq. 16)."""
    return ddim_step(0 * ONE, 0 * ONE, ab_t, ab_s, eta, ONE)[0].item()


@exercise(AT_LEVELS)
def clipped(x, eps, ab_t):
    """function(x, eps, ab_t) must give the eps whose guess of x_0 is cut at [-1, 1]."""
    return sampling.clipped(x, eps, ab_t)
