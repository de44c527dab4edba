"""The exercises of lesson 2: the way back."""

from ..exact import Mixture
from .cases import AT_LEVELS
from .checks import exercise, prediction

__all__ = ["lopsided", "same_start", "gaussian"]


@prediction(
    near=0.1,
    mistakes={
        "that is x_T itself, but at t = T nearly nothing of x_0 is left in it": (
            lambda found: found + 1.8
        ),
        "that is the likelier value; the best guess is the mean of both": (
            lambda found: found - 0.2
        ),
        "that is the middle of the two values, but they are not equally likely": (
            lambda found: found + 0.8
        ),
    },
)
def lopsided():
    """At t = T the value of x_t says nearly nothing, so the best guess is the mean of
    the world, 0.9·(-1) + 0.1·1 = -0.8."""


@prediction(
    right="c",
    mistakes={
        "x_T decides next to nothing: only 0.006 of an image is in it": "a",
        "the noise z is new in each of the samples and each step, and it decides": "b",
    },
)
def same_start():
    """Only 0.006 of an image is in x_T. The noise z of the steps decides which image
    appears."""


@exercise(
    ((x, ab, m, s) for x, _, ab in AT_LEVELS for m, s in [(0.3, 0.5), (-1.0, 2.0)]),
    mistakes={
        "s is a standard deviation, and a precision is 1 over its square": (
            lambda x, ab, m, s: (
                (m / s + ab**0.5 * x / (1 - ab)) / (1 / s + ab / (1 - ab))
            )
        ),
        "you read x_t as x_0 with noise, but it is √ᾱ_t x_0 with noise": (
            lambda x, ab, m, s: (m / s**2 + x / (1 - ab)) / (1 / s**2 + 1 / (1 - ab))
        ),
        "x_t/√ᾱ_t forgets what is known before x_t: x_0 lies near m": (
            lambda x, ab, m, s: x / ab**0.5
        ),
    },
)
def gaussian(x, ab_t, m, s):
    """function(x, ab_t, m, s) must give E[x_0 given x_t = x] for x_0 ~ N(m, s²)."""
    return Mixture(0 * x[:1] + m, std=s).best_guess(x, ab_t)
