"""The exercises of lesson 9: inversion."""

from .cases import JUMPS, PAIRS
from .checks import exercise, prediction


@prediction(
    right="b",
    mistakes={
        "the way down undoes the way up, so it ends where you began; for images of the "
        "wrong class you must change the context between the two": "a",
        "the latent is another one than with the right class, and the way down takes "
        "it back just as well: section 1 assumed nothing about eps": "c",
    },
)
def wrong_context():
    """`ddim` undoes `invert` for any function eps, if both use the same one. The wrong
    class gives other latents, and the same images come back from them."""


@prediction(
    right="c",
    mistakes={
        "real images have small latents because their background is as in training; "
        "random pixels are far away from it": "a",
        "to look like noise is not enough: the steps up enlarge whatever deviates from "
        "the training images, and here everything does": "b",
    },
)
def random_pixels():
    """the steps up enlarge what deviates from the training images. These vary little in
    many ways, and random pixels deviate from them in all of these ways."""


def factors(ab_s, ab_t):
    """u and v of x_t = u x_s + v eps."""
    u = (ab_t / ab_s) ** 0.5
    return u, (1 - ab_t) ** 0.5 - u * (1 - ab_s) ** 0.5


def solved(x_s, a, b, u, v):
    return (u * x_s + v * b) / (1 - v * a)


def explicit(x_s, a, b, ab_s, ab_t):
    u, v = factors(ab_s, ab_t)
    return u * x_s + v * (a * x_s + b)


def wrong_sign(x_s, a, b, ab_s, ab_t):
    u, v = factors(ab_s, ab_t)
    return (u * x_s + v * b) / (1 + v * a)


def divided_in_part(x_s, a, b, ab_s, ab_t):
    u, v = factors(ab_s, ab_t)
    return u * x_s / (1 - v * a) + v * b


def without_b(x_s, a, b, ab_s, ab_t):
    u, v = factors(ab_s, ab_t)
    return u * x_s / (1 - v * a)


def divided_first_part(x_s, a, b, ab_s, ab_t):
    u, v = factors(ab_s, ab_t)
    return u * x_s + v * b / (1 - v * a)


def without_old_noise(x_s, a, b, ab_s, ab_t):
    return solved(x_s, a, b, (ab_t / ab_s) ** 0.5, (1 - ab_t) ** 0.5)


def without_roots(x_s, a, b, ab_s, ab_t):
    u = ab_t / ab_s
    return solved(x_s, a, b, u, (1 - ab_t) - u * (1 - ab_s))


LINES = ((0.5, 0.2), (-0.3, 0.1), (0.7, -0.4))  # a, b


@exercise(
    [(PAIRS[0][0], a, b, s, t) for t, s in JUMPS for a, b in LINES],
    mistakes={
        "that is a step of `invert`, which asks at x_s; ask at x_t, and solve for it":
            explicit,
        "a sign: v a x_t comes to the left side as -v a x_t": wrong_sign,
        "v b is on the right side too when you divide: divide the whole sum":
            divided_in_part,
        "u x_s is on the right side too when you divide: divide the whole sum":
            divided_first_part,
        "b is missing: the answer is a x_t + b, so v b stays on the right side":
            without_b,
        "your v lacks its second part, -u √(1 - ab_s): the noise that x_s has already":
            without_old_noise,
        "roots: u and v hold roots of alpha_bar and of 1 - alpha_bar": without_roots,
        "you have ab_s and ab_t in each other's place; s is the lower timestep": (
            lambda x_s, a, b, ab_s, ab_t: solved(x_s, a, b, *factors(ab_t, ab_s))
        ),
    },
)  # fmt: skip
def upward(x_s, a, b, ab_s, ab_t):
    """function(x_s, a, b, ab_s, ab_t) must give the x_t from which DDIM's step leads to
    x_s, for eps = a x + b."""
    return solved(x_s, a, b, *factors(ab_s, ab_t))
