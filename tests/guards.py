"""What test modules share: denoisers that are known, and guards to hold for ours.

A guard takes a function and fails if that makes a mistake; test_mistakes.py gives each
of them a wrong one too.
"""

from itertools import pairwise

import torch

from lesson_utils import Schedule, initial_noise

SHAPE = (1, 4, 4)


def noise(n: int, dtype=torch.double, seed=0) -> torch.Tensor:
    """Noise for n images of SHAPE."""
    return initial_noise(n, SHAPE, seed).to(dtype)


# Denoisers: eps_fn(x, t/T), as a sampler takes it


def stub(x, t):
    """Some smooth function of both arguments, as a network could be."""
    return torch.tanh(x + t.view(-1, 1, 1, 1)) + 0.1 * x


def gaussian(schedule, mean=0.3, std=0.5):
    """The exact one for data ~ N(mean, std²)."""
    return mixture(schedule, (mean,), std)


def mixture(schedule, means=(-0.8, 0.1, 0.9), std=0.2):
    """The exact one for a mixture of Gaussians, for each pixel alone."""

    def eps_fn(x, t):
        times = (t * schedule.T).round().long()
        ab = schedule.alpha_bar.double()[times].view(-1, 1, 1, 1)
        variance = ab * std**2 + 1 - ab
        offsets = torch.stack([x - ab.sqrt() * m for m in means])  # (M,B,C,H,W)
        weights = (-(offsets**2) / (2 * variance)).softmax(0)
        return (1 - ab).sqrt() * (weights * offsets).sum(0) / variance

    return eps_fn


# Guards


def times_fall(times, T=500, spacing="uniform") -> None:
    """times(T, steps, spacing) are steps + 1 whole numbers from T down to 0."""
    for steps in range(1, T + 1):
        found = times(T, steps, spacing)
        assert len(found) == steps + 1 and found[0] == T and found[-1] == 0
        assert all(type(t) is int for t in found)
        assert all(t > s for t, s in pairwise(found))


def gradient_mode_does_not_leak(sampler) -> None:
    """Mistake 17: a `with torch.no_grad()` around a yield leaks into the caller."""
    seen = []

    def eps_fn(x, t):
        seen.append(torch.is_grad_enabled())
        return stub(x, t)

    x = noise(1).requires_grad_()
    steps = sampler(eps_fn, x, Schedule.linear())
    step = next(steps)
    assert (
        torch.is_grad_enabled() and not step.x.requires_grad and seen and not any(seen)
    )
    with torch.no_grad():
        next(steps)
        assert not torch.is_grad_enabled()
    steps.close()
    again = sampler(eps_fn, x, Schedule.linear(100))
    assert torch.is_grad_enabled() and not any(s.x.requires_grad for s in again)
