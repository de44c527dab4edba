"""What test modules share: denoisers that are known, and guards to hold for ours.

A guard takes a function or a class and fails if that makes the mistake it is about;
test_mistakes.py gives each of them a wrong one too.
"""

import torch

from lesson_utils import Schedule, ddim, ddim_step, initial_noise

SHAPE = (1, 4, 4)


def noise(n: int, dtype=torch.double, seed=0) -> torch.Tensor:
    """Noise for n images of SHAPE."""
    return initial_noise(n, SHAPE, seed).to(dtype)


# Denoisers: eps_fn(x, t/T), as a sampler takes it


def stub(x, t):
    """Some smooth function of both arguments, as a network could be."""
    return torch.tanh(x + t.view(-1, 1, 1, 1)) + 0.1 * x


def alpha_bar_at(schedule, t):
    """alpha_bar (B,1,1,1) at t/T (B,)."""
    times = (t * schedule.T).round().long()
    return schedule.alpha_bar.double()[times].view(-1, 1, 1, 1)


def gaussian(schedule, mean=0.3, std=0.5):
    """The exact one for data ~ N(mean, std²)."""

    def eps_fn(x, t):
        ab = alpha_bar_at(schedule, t)
        return (1 - ab).sqrt() * (x - ab.sqrt() * mean) / (ab * std**2 + 1 - ab)

    return eps_fn


def mixture(schedule, means=(-0.8, 0.1, 0.9), std=0.2):
    """The exact one for a mixture of Gaussians, for each pixel alone."""

    def eps_fn(x, t):
        ab = alpha_bar_at(schedule, t)
        variance = ab * std**2 + 1 - ab
        offsets = torch.stack([x - ab.sqrt() * m for m in means])  # (M,B,C,H,W)
        weights = (-(offsets**2) / (2 * variance)).softmax(0)
        return (1 - ab).sqrt() * (weights * offsets).sum(0) / variance

    return eps_fn


# Guards


def noise_has_the_right_size(kind: type) -> None:
    """Mistake 1: (1 - alpha_bar) ε instead of its root is 13 times too small at 10."""
    schedule = kind.linear()
    x0, eps = torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1)
    noise = float(schedule.add_noise(x0, torch.tensor([10]), eps))
    share = 1 - float(schedule.alpha_bar[10])
    assert abs(noise / share**0.5 - 1) < 1e-6 and noise / share > 13


def clipping_recomputes_eps(cut) -> None:
    """Mistake 11: x̂_0 and ε must go on telling the same story."""
    x, ab = 3 * noise(4), float(Schedule.linear().alpha_bar[250])
    eps = stub(x, torch.ones(4))
    _, x0 = ddim_step(x, eps, ab, 0.9)
    _, new_x0 = ddim_step(x, cut(x, eps, ab), ab, 0.9)
    assert x0.abs().max() > 1.5
    assert torch.allclose(new_x0, x0.clamp(-1, 1), atol=1e-12)


def inversion_asks_as_sampling_does(upwards) -> None:
    """Mistake 12: the same times, each at its upper end, so never t = 0."""
    schedule, asked = Schedule.linear(), []

    def eps_fn(x, t):
        asked.append(round(float(t[0]) * 500))
        return gaussian(schedule)(x, t)

    x0 = 0.3 + 0.5 * noise(4)
    *_, top = upwards(eps_fn, x0, schedule, 50)
    up = list(asked)
    asked.clear()
    *_, back = ddim(eps_fn, top.x, schedule, 50)
    assert up == asked[::-1] and len(up) == 50 and 0 not in up
    assert (back.x - x0).abs().mean() < 0.03


def gradient_mode_does_not_leak(sampler) -> None:
    """Mistake 17: a `with torch.no_grad()` around a yield leaks into the caller."""
    seen = []

    def eps_fn(x, t):
        seen.append(torch.is_grad_enabled())
        return stub(x, t)

    x = noise(1).requires_grad_()
    steps = sampler(eps_fn, x, Schedule.linear())
    step = next(steps)
    assert torch.is_grad_enabled() and not step.x.requires_grad and seen == [False]
    with torch.no_grad():
        next(steps)
        assert not torch.is_grad_enabled()
    steps.close()
    assert torch.is_grad_enabled()
