"""The exercises of lesson 5: context."""

import torch

from .checks import exercise, prediction

GENERATOR = torch.Generator().manual_seed(5)
ANSWERS = [torch.randn(3, 2, 1, 4, 4, generator=GENERATOR).double() for _ in range(2)]
SCALES = ((0, 0), (1, 0), (2.5, 0.5), (2, 1))


@prediction(
    right="c",
    mistakes={
        "the push is g times a direction, so -1 reverses it": "a",
        "g = 0 gives unconditional samples; -1 pushes away from the class as well": "b",
    },
)
def minus_one():
    """g = -1 follows the score of p(x) / p(c | x), which makes images that show the
    class rare."""


@prediction(
    right="b",
    mistakes={
        "so early nearly nothing of an image is in x_t, not even its large forms": "a",
        "the first steps leave too little of the first class in x_t for a mixture": "c",
    },
)
def decided():
    """While nearly all of x_t is noise, as at 0.65 T, the network believes the context
    that it is told then."""


def towards_b(eps_none, eps_a, eps_b, g, h):
    return eps_none + g * (eps_a - eps_none) + h * (eps_b - eps_none)


def whole_answers(eps_none, eps_a, eps_b, g, h):
    return eps_none + g * eps_a - h * eps_b


def from_b(eps_none, eps_a, eps_b, g, h):
    return eps_b + g * (eps_a - eps_b)


def one_more(eps_none, eps_a, eps_b, g, h):
    return eps_a + g * (eps_a - eps_none) - h * (eps_b - eps_none)


def without_p_x(eps_none, eps_a, eps_b, g, h):
    return g * (eps_a - eps_none) - h * (eps_b - eps_none)


def from_b_to_a(eps_none, eps_a, eps_b, g, h):
    return eps_none + (g + h) * (eps_a - eps_b)


def half_a_push(eps_none, eps_a, eps_b, g, h):
    return eps_none + g * (eps_a - eps_none) - h * eps_b


def only_g(eps_none, eps_a, eps_b, g, h):
    return eps_none + g * (eps_a - eps_b)


def bare_answers(eps_none, eps_a, eps_b, g, h):
    return g * eps_a - h * eps_b


def without_b(eps_none, eps_a, eps_b, g, h):
    return eps_none + g * (eps_a - eps_none)


def h_from_a_to_b(eps_none, eps_a, eps_b, g, h):
    return eps_none + g * (eps_a - eps_none) + h * (eps_a - eps_b)


def all_reversed(eps_none, eps_a, eps_b, g, h):
    return eps_none - g * (eps_a - eps_none) + h * (eps_b - eps_none)


@exercise(
    ((*answers, *scales) for answers in ANSWERS for scales in SCALES),
    mistakes={
        "yours goes towards b; 1 / p(b | x)^h has the logarithm -h log p(b | x)": (
            towards_b
        ),
        "yours adds whole answers; a push is a difference to the unconditional one": (
            whole_answers
        ),
        "yours puts b in the place of the unconditional answer, and loses p(x)": from_b,
        "yours starts at the answer for a; with g = h = 0 only p(x) is left": one_more,
        "yours has lost p(x); with g = h = 0 the unconditional answer is left": (
            without_p_x
        ),
        "yours pushes from b to a; a push of line 4 starts at the unconditional one": (
            from_b_to_a
        ),
        "your push away from b is a whole answer; by line 4 it is a difference": (
            half_a_push
        ),
        "yours does not use h; with h = 0, b must not matter": only_g,
        "yours has no unconditional answer; with g = h = 0 only p(x) is left": (
            bare_answers
        ),
        "yours has no push away from b; h must matter": without_b,
        "your push away from b starts at a; line 4 starts at the unconditional one": (
            h_from_a_to_b
        ),
        "both pushes have the wrong sign; the score is -ε times a positive number": (
            all_reversed
        ),
    },
)
def away(eps_none, eps_a, eps_b, g, h):
    """function(eps_none, eps_a, eps_b, g, h) must give the eps of the score of
    p(x) p(a | x)^g / p(b | x)^h."""
    return eps_none + g * (eps_a - eps_none) - h * (eps_b - eps_none)
