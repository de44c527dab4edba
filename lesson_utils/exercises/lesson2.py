"""The exercises of lesson 2: the way back."""

from ..exact import Mixture
from .cases import AT_LEVELS
from .checks import exercise, prediction


@prediction(
    near=0.1,
    mistakes={
        "that is x_T itself, but at t = T nearly nothing of x_0 is left in it": (
            lambda found: found + 1.8
        ),
        "that is the likelier value; the best guess is the mean of both": (
            lambda found: found - 0.2
        ),
        "that is near the middle of the two values, but they are not equally likely": (
            lambda found: found + 0.8
        ),
        "your weights are exchanged: the value -1 has the probability 0.9": (
            lambda found: found + 1.6
        ),
    },
)
def lopsided():
    """At t = T the value of x_t says nearly nothing, so the best guess is the mean of
    the world, 0.9·(-1) + 0.1·1 = -0.8."""


@prediction(
    right="c",
    mistakes={
        "x_T holds hardly anything of an image, so nearly every image may have become "
        "it, and the steps with z sample among all of them": "a",
        "the samples share x_T, but nearly every image may have become it; what would "
        "lead the new z of each sample to the same two or three?": "b",
    },
)
def same_start():
    """The steps with z sample x_0 given x_T. Hardly anything of an image is in x_T, so
    nearly every image may have become it."""


def gaussian_with(a, b, c):
    """A wrong answer to `gaussian`: (a + b) / c, each a function of (x, ab, m, s)."""
    return lambda *given: (a(*given) + b(*given)) / c(*given)


def world(x, ab, m, s):
    return m / s**2


def seen(x, ab, m, s):
    return ab**0.5 * x / (1 - ab)


def precision(x, ab, m, s):
    return 1 / s**2 + ab / (1 - ab)


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
        "eq. 4 has the precision 1/(1-ᾱ_t) in x_t; in x_0 there is one more factor": (
            gaussian_with(world, seen, lambda x, ab, m, s: 1 / s**2 + 1 / (1 - ab))
        ),
        "this is B of section 1; the mean is B divided by the precision A": (
            gaussian_with(world, seen, lambda *given: 1)
        ),
        "m stands without its precision: it is divided by s²": (
            gaussian_with(lambda x, ab, m, s: m, seen, precision)
        ),
        "the factor of x_t is √ᾱ_t/(1-ᾱ_t); you have ᾱ_t in place of the root": (
            gaussian_with(world, lambda x, ab, m, s: ab * x / (1 - ab), precision)
        ),
        "the factor of x_t is √ᾱ_t/(1-ᾱ_t); you divide by the root": (
            gaussian_with(world, lambda x, ab, m, s: x / ab**0.5 / (1 - ab), precision)
        ),
    },
)
def gaussian(x, ab_t, m, s):
    """function(x, ab_t, m, s) must give E[x_0 given x_t = x] for x_0 ~ N(m, s²)."""
    return Mixture(0 * x[:1] + m, std=s).best_guess(x, ab_t)
