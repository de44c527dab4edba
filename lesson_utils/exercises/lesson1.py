"""The exercises of lesson 1: noise."""

import torch

from ..schedule import Schedule
from .cases import PAIRS
from .checks import exercise, prediction

__all__ = ["same_noise", "short_schedule", "onward"]

JUMPS = [(1.0, 0.5), (0.9, 0.8), (0.9, 0.1), (0.5, 0.01)]  # alpha_bar at s and at t


@prediction(
    right="c",
    mistakes={
        "it is 1 only if the noise of the steps is independent, so that variances add": (
            "a"
        ),
        "noise that is always the same cannot cancel itself: it adds up": "b",
    },
)
def same_noise():
    """Copies of one noise add up like plain numbers, so the standard deviations add,
    not the variances. They come to rest at √0.03 / (1 − √0.97) = 11.5.
    """


@prediction(
    near=0.05,
    mistakes={
        "this is ᾱ_T, the share of the variance; the factor is its root": (
            lambda measured: measured**2
        ),
        "this is the factor for T = 500; with fewer steps more of the image is left": (
            lambda measured: 0.08
        ),
        "0.006 is what 0.1/T … 20/T leaves; here β does not grow when T is smaller": (
            lambda measured: 0.006
        ),
    },
)
def short_schedule():
    """The sum of the β_t is 2.01, and e^(−2.01/2) = 0.366. The eye sees little of
    what is left, but the judge finds it easily.
    """


@exercise(
    ((x_s, *jump, eps) for x_s, eps in PAIRS for jump in JUMPS),
    mistakes={
        "yours is the jump from x_0, but x_s has noise in it already": (
            lambda x_s, ab_s, ab_t, eps: ab_t**0.5 * x_s + (1 - ab_t) ** 0.5 * eps
        ),
        "your factors are variances; the factor of a tensor is the root of one": (
            lambda x_s, ab_s, ab_t, eps: ab_t / ab_s * x_s + (1 - ab_t / ab_s) * eps
        ),
        "your noise has the variance where its standard deviation belongs": (
            lambda x_s, ab_s, ab_t, eps: (ab_t / ab_s) ** 0.5 * x_s
            + (1 - ab_t / ab_s) * eps
        ),
        "the noise that is in x_s already shrinks too, so more must be added": (
            lambda x_s, ab_s, ab_t, eps: (ab_t / ab_s) ** 0.5 * x_s
            + (ab_s - ab_t) ** 0.5 * eps
        ),
    },
)
def onward(x_s, ab_s, ab_t, eps):
    """function(x_s, ab_s, ab_t, eps) must give x_t, in one jump from x_s."""
    from_s = Schedule([1.0, ab_t / ab_s])  # as if x_s were the image
    return from_s.add_noise(x_s, torch.ones(len(x_s), dtype=torch.int64), eps)
