"""The exercises of lesson 5: context."""

import torch

from .checks import exercise, prediction

__all__ = ["opposite", "decided", "away"]

GENERATOR = torch.Generator().manual_seed(5)
ANSWERS = [torch.randn(3, 2, 1, 4, 4, generator=GENERATOR).double() for _ in range(2)]
SCALES = ((0, 0), (1, 0), (2.5, 0.5), (2, 1))


@prediction(
    right="c",
    mistakes={
        "the sign matters: the push is g times a direction, and -1 reverses it": "a",
        "g = 0 gives unconditional samples; -1 pushes away from the class as well": "b",
    },
)
def opposite():
    """g = -1 follows the score of p(x) / p(c | x), which makes images that show the
    class rare."""


@prediction(
    right="b",
    mistakes={
        "so early nearly nothing of an image is in x_t: the large forms are decided "
        "later": "a",
        "the first steps leave too little of the first class in x_t for a mixture": "c",
    },
)
def decided():
    """At 0.65 T nearly all of x_t is noise, so the network believes the context that it
    is told now. The class is decided later."""


def towards_a(eps_none, eps_a, eps_b, g, h):
    return eps_none + g * (eps_a - eps_none) + h * (eps_b - eps_none)


def whole_answers(eps_none, eps_a, eps_b, g, h):
    return eps_none + g * eps_a - h * eps_b


def from_b(eps_none, eps_a, eps_b, g, h):
    return eps_b + g * (eps_a - eps_b)


def one_more(eps_none, eps_a, eps_b, g, h):
    return eps_a + g * (eps_a - eps_none) - h * (eps_b - eps_none)


@exercise(
    ((*answers, *scales) for answers in ANSWERS for scales in SCALES),
    mistakes={
        "yours goes towards b: 1 / p(b | x)^h has the logarithm -h log p(b | x)": (
            towards_a
        ),
        "yours adds whole answers; a push is a difference to the unconditional one": (
            whole_answers
        ),
        "yours puts b in the place of the unconditional answer, and loses p(x)": from_b,
        "yours starts at the answer for a: with g = h = 0 only p(x) is left": one_more,
    },
)
def away(eps_none, eps_a, eps_b, g, h):
    """function(eps_none, eps_a, eps_b, g, h) must give the eps of the score of
    p(x) p(a | x)^g / p(b | x)^h."""
    return eps_none + g * (eps_a - eps_none) - h * (eps_b - eps_none)
