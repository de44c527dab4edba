"""The exercises of lesson 1: noise."""

import torch

from ..schedule import Schedule
from .cases import PAIRS
from .checks import exercise, prediction

JUMPS = [(1.0, 0.5), (0.9, 0.8), (0.9, 0.1), (0.5, 0.01)]  # alpha_bar at s and at t


@prediction(
    right="c",
    mistakes={
        "it is 1 only if the noises are independent: only then do variances add": "a",
        "noise that is always the same cannot cancel itself: it adds up": "b",
    },
)
def same_noise():
    """Copies of one noise add up like plain numbers, so the standard deviations add,
    not the variances. They grow to √0.03 / (1 − √0.97) = 11.5, where a step changes
    nothing any more.
    """


@prediction(
    right="b",
    mistakes={
        "the images keep their mean, but the mean of the noise comes nearer to 0": "a",
        "more random numbers do not hide more: their mean comes nearer to 0": "c",
    },
)
def larger_images():
    """Four times as many pixels halve the standard error of the mean of the noise. So
    the same trace is easier to find, and larger images need a smaller √ᾱ_T.
    """


@exercise(
    ((x_s, *jump, eps) for x_s, eps in PAIRS for jump in JUMPS),
    mistakes={
        "yours is the jump from x_0, but x_s has noise in it already": (
            lambda x_s, ab_s, ab_t, eps: ab_t**0.5 * x_s + (1 - ab_t) ** 0.5 * eps
        ),
        "yours is too much noise: x_s has a part of it already": (
            lambda x_s, ab_s, ab_t, eps: (
                (ab_t / ab_s) ** 0.5 * x_s + (1 - ab_t) ** 0.5 * eps
            )
        ),
        "you add no noise, but the steps from s to t do": (
            lambda x_s, ab_s, ab_t, eps: (ab_t / ab_s) ** 0.5 * x_s
        ),
        "your ratio is inverted: it is above 1, but a step must shrink x_s": (
            lambda x_s, ab_s, ab_t, eps: (
                (ab_s / ab_t) ** 0.5 * x_s + (1 - ab_t / ab_s) ** 0.5 * eps
            )
        ),
        "your factor of x_s is that of its variance: its root is missing": (
            lambda x_s, ab_s, ab_t, eps: (
                ab_t / ab_s * x_s + (1 - ab_t / ab_s) ** 0.5 * eps
            )
        ),
        "your factors are variances; the factor of a tensor is the root of one": (
            lambda x_s, ab_s, ab_t, eps: ab_t / ab_s * x_s + (1 - ab_t / ab_s) * eps
        ),
        "your noise has the variance where its standard deviation belongs": (
            lambda x_s, ab_s, ab_t, eps: (
                (ab_t / ab_s) ** 0.5 * x_s + (1 - ab_t / ab_s) * eps
            )
        ),
        "the noise that is in x_s already shrinks too, so more must be added": (
            lambda x_s, ab_s, ab_t, eps: (
                (ab_t / ab_s) ** 0.5 * x_s + (ab_s - ab_t) ** 0.5 * eps
            )
        ),
        "you subtract standard deviations, but variances are what adds up": (
            lambda x_s, ab_s, ab_t, eps: (
                (ab_t / ab_s) ** 0.5 * x_s
                + ((1 - ab_t) ** 0.5 - (1 - ab_s) ** 0.5) * eps
            )
        ),
        "you subtract the standard deviations of two noises; subtract the variances": (
            lambda x_s, ab_s, ab_t, eps: (
                (ab_t / ab_s) ** 0.5 * x_s
                + ((1 - ab_t) ** 0.5 - (ab_t / ab_s * (1 - ab_s)) ** 0.5) * eps
            )
        ),
    },
)
def onward(x_s, ab_s, ab_t, eps):
    """function(x_s, ab_s, ab_t, eps) must give x_t, in one jump from x_s."""
    from_s = Schedule([1.0, ab_t / ab_s])  # as if x_s were the image
    return from_s.add_noise(x_s, torch.ones(len(x_s), dtype=torch.int64), eps)
