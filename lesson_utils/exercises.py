"""Self-checks of the exercises: each takes the learner's function and reports on it.

    lu.exercises.noised(my_noised)

Each is written as the right function; `exercise` makes it the check of a learner's.
"""

from collections.abc import Callable, Iterable
from copy import deepcopy
from itertools import pairwise

import torch
from torch.nn import functional as F
from torch.optim.swa_utils import get_ema_multi_avg_fn

from . import sampling
from .noise import noise_like
from .sampling import ddim_step, guide
from .schedule import Schedule
from .unet import ResBlock, time_embedding

__all__ = [
    "noised", "levels", "posterior",
    "embedding", "parameters", "attention",
    "average", "guess", "weight",
    "guided", "mixed",
    "times", "sigma", "clipped", "sigma_hat",
    "frechet", "frontier",
    "length", "blended", "refined",
    "compare",
]  # fmt: skip


def compare(function: Callable, oracle: Callable, cases: Iterable[tuple]) -> bool:
    """Compare a learner's function with the right one; prints one line, raises nothing.

    function, oracle: called with the arguments of each case, must give numbers, tensors
    or sequences of them. A function that gives None or Ellipsis is "not yet" written.
    True if all results agree to 1e-5.
    """
    cases = list(cases)
    largest = 0.0
    for case in cases:
        found = difference(function, oracle, case)
        if isinstance(found, str):
            name = getattr(function, "__name__", repr(function))  # of a partial, say
            print(f"not yet: {name}{found}")
            return False
        largest = max(largest, found)
    print(f"yes: largest difference {largest:.1e} in {len(cases)} cases")
    return True


def difference(function: Callable, oracle: Callable, case: tuple) -> float | str:
    """How far apart the results are or, in words, what is wrong with the function's."""
    where = f"({', '.join(map(brief, case))})"
    expected = torch.as_tensor(oracle(*case), dtype=torch.double)
    try:
        got = function(*deepcopy(case))  # which it may change in place
        if got is None or got is ...:
            return f" gives {got} so far"
        got = torch.as_tensor(got, dtype=torch.double)
    except Exception as problem:  # a learner's function may raise anything
        return f"{where} raises {problem!r}"
    if got.shape != expected.shape:
        return f"{where} has shape {tuple(got.shape)}, expected {tuple(expected.shape)}"
    largest = float((got - expected).abs().max())
    return largest if largest <= 1e-5 else f"{where} is off by {largest:g}"


def brief(value: object) -> str:
    """An argument in a few characters."""
    if isinstance(value, torch.Tensor):
        return f"tensor{tuple(value.shape)}"
    return f"{value:g}" if isinstance(value, int | float) else str(value)[:30]


def exercise(cases: Iterable[tuple]) -> Callable:
    """Turn a right function into the check of a learner's; name and text stay."""
    cases = list(cases)

    def decorate(oracle: Callable) -> Callable[[Callable], bool]:
        def check(function: Callable) -> bool:
            return compare(function, oracle, cases)

        check.__name__ = check.__qualname__ = oracle.__name__
        check.__doc__ = oracle.__doc__
        return check

    return decorate


RANDOM = torch.Generator().manual_seed(0)
ONE = torch.ones(1, 1, 1, 1, dtype=torch.double)
LEVELS = (0.1, 0.5, 0.9)  # of alpha_bar
PAIRS = [noise_like(ONE.expand(2, 4, 1, 4, 4), RANDOM).unbind() for _ in range(3)]
AT_LEVELS = [(*pair, ab) for pair in PAIRS for ab in LEVELS]
TIMES = [0, 1, 2, 25, 100, 101, 250, 475, 499, 500]
JUMPS = [(t, s) for s, t in pairwise(Schedule.linear().alpha_bar[TIMES].tolist())]
SHARES = [{}, {"food": 1}, {"hero": 0.5, "spell": 0.5}, {"spell": 2}]
SIZES = [(1, 4), (16, 32), (9, 2)]
PAIRED = [[(1, 3), (2, 2), (3, 1)], [(1, 2), (2, 2), (1, 2)], [(5, 1), (1, 5), (5, 5)]]


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


@exercise((t, dim) for t in (0.002, 0.01, 0.02) for dim in (2, 8, 48))
def embedding(t, dim):
    """function(t, dim) must give dim/2 sines, then dim/2 cosines, of one t/T."""
    return time_embedding(torch.tensor([t]), dim)[0]


@exercise([(8, 8, 4), (48, 96, 192), (96, 48, 192)])
def parameters(c_in, c_out, dim):
    """function(c_in, c_out, dim) must give the number of weights of a ResBlock."""
    return sum(p.numel() for p in ResBlock(c_in, c_out, dim).parameters())


@exercise(torch.randn(3, n, d, generator=RANDOM).double() for n, d in SIZES)
def attention(q, k, v):
    """function(q, k, v), all (n,d), must give softmax(qkᵀ/√d) v (Transformer eq. 1)."""
    return F.scaled_dot_product_attention(q, k, v)


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


@exercise((*pair, scale) for pair in PAIRS for scale in (0.0, 1.0, 2.5))
def guided(with_c, without_c, scale):
    """function(with_c, without_c, scale) must give the guided eps (guidance eq. 6)."""

    def model(x, t, c):
        return without_c if c is None else torch.cat([with_c, without_c])[: len(x)]

    return guide(model, torch.ones(4, 1), scale)(with_c, torch.ones(4))


@exercise((["hero", "food", "spell"], shares) for shares in SHARES)
def mixed(names, shares):
    """function(names, {name: share}) must give a context (1,K)."""
    return torch.tensor([[float(shares.get(name, 0)) for name in names]])


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
