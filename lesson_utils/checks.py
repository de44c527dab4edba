"""Self-checks of the exercises: each takes the learner's function and reports on it."""

from collections.abc import Callable, Iterable

import torch

from .sampling import clipped, ddim_step, noise_like
from .schedule import Schedule


def check(function: Callable, oracle: Callable, cases: Iterable[tuple]) -> bool:
    """Compare a learner's function with the right one; prints one line, raises nothing.

    function, oracle: called with the arguments of each case, must give numbers, tensors
    or sequences of them. A function that gives None or Ellipsis is "not yet" written.
    True if all results agree to 1e-5.
    """
    largest, cases = 0.0, list(cases)
    for case in cases:
        expected = torch.as_tensor(oracle(*case), dtype=torch.double)
        try:
            got = function(*case)
            if got is None or got is ...:
                print(f"not yet: {function.__name__} gives {got} so far")
                return False
            got = torch.as_tensor(got, dtype=torch.double)
        except Exception as problem:  # a learner's function may raise anything
            print(f"not yet: {function.__name__}{_brief(case)} raises {problem!r}")
            return False
        if got.shape != expected.shape:
            shapes = f"{tuple(got.shape)}, expected {tuple(expected.shape)}"
            print(f"not yet: {function.__name__}{_brief(case)} has shape {shapes}")
            return False
        difference = float((got - expected).abs().max())
        if not difference <= 1e-5:
            print(
                f"not yet: {function.__name__}{_brief(case)} is off by {difference:g}"
            )
            return False
        largest = max(largest, difference)
    print(f"yes: largest difference {largest:.1e} in {len(cases)} cases")
    return True


def check_times(function: Callable[[int, int], list[int]]) -> bool:
    """function(T, steps) must give steps + 1 uniform times T … 0, for any steps."""
    schedule = {T: Schedule.linear(T) for T in (10, 100, 500)}
    cases = [(T, S) for T in schedule for S in (1, 3, T // 2, T - 3, T)]
    return check(function, lambda T, S: schedule[T].timesteps(S), cases)


def check_sigma(function: Callable[[float, float, float], float]) -> bool:
    """function(ab_t, ab_s, eta) must give σ (DDIM eq. 16)."""
    one = torch.ones(1, 1, 1, 1, dtype=torch.double)

    def sigma(ab_t, ab_s, eta):  # what the noise adds to the step
        with_noise, _ = ddim_step(0 * one, 0 * one, ab_t, ab_s, eta, one)
        return float(with_noise)

    levels = Schedule.linear().alpha_bar[[0, 1, 25, 250, 475, 500]].tolist()
    pairs = zip(levels[1:], levels, strict=False)
    return check(function, sigma, [(t, s, e) for t, s in pairs for e in (0, 0.3, 1)])


def check_clipped(function: Callable) -> bool:
    """function(x, eps, ab_t) must give the eps whose guess of x_0 is cut at [-1, 1]."""
    generator = torch.Generator().manual_seed(0)
    x = torch.zeros(4, 1, 4, 4, dtype=torch.double)
    draws = [(noise_like(x, generator), noise_like(x, generator)) for _ in range(3)]
    return check(function, clipped, [(*d, ab) for d in draws for ab in (0.1, 0.5, 0.9)])


def _brief(case: tuple) -> str:
    shown = [
        f"tensor{tuple(a.shape)}" if isinstance(a, torch.Tensor) else f"{a:g}"
        for a in case
    ]
    return f"({', '.join(shown)})"
