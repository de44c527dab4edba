"""The exercises of lesson 6: DDIM."""

from .. import sampling
from .cases import AT_LEVELS
from .checks import exercise, prediction


@prediction(
    right="b",
    mistakes={
        "what counts is not how often the network is asked, but with how much noise in "
        "x_t: look at where the last jump begins": "a",
        "short steps are exact, but these end at t = 496, and the one that follows is "
        "nearly the whole way": "c",
    },
)
def crowded():
    """the last jump gives the guess of x_0 that is made at t = 496. There is as much
    noise as at 500, so that guess is as blurred as the guess of a single jump."""


@prediction(
    right="b",
    mistakes={
        "the steps that follow take an error in the first one for a part of the "
        "initial noise, and the image changes with it": "a",
        "no step comes after the last one, so its error stays in the image": "c",
    },
)
def one_error():
    """at t = 100 an error is a little noise too much on an image that the network knows
    well: the next steps remove it. After the last step nobody does, and an error in the
    first step is a slightly different initial noise: the image changes with it."""


def unclipped(x, eps, ab_t):
    return (x - (1 - ab_t) ** 0.5 * eps) / ab_t**0.5


def guess_of(x, eps, ab_t):
    return unclipped(x, eps, ab_t).clamp(-1, 1)


def noise_beside(x0, x, ab_t):
    return (x - ab_t**0.5 * x0) / (1 - ab_t) ** 0.5


def without_roots_in_the_guess(x, eps, ab_t):
    x0 = ((x - (1 - ab_t) * eps) / ab_t).clamp(-1, 1)
    return noise_beside(x0, x, ab_t)


def without_roots_in_the_noise(x, eps, ab_t):
    return (x - ab_t * guess_of(x, eps, ab_t)) / (1 - ab_t)


def without_roots(x, eps, ab_t):
    x0 = ((x - (1 - ab_t) * eps) / ab_t).clamp(-1, 1)
    return (x - ab_t * x0) / (1 - ab_t)


@exercise(
    AT_LEVELS,
    mistakes={
        "you give eps as it was, which belongs to the guess before clipping": (
            lambda x, eps, ab_t: eps
        ),
        "you clip eps; the guess of x_0 is what must lie in [-1, 1]": (
            lambda x, eps, ab_t: eps.clamp(-1, 1)
        ),
        "you give the clipped guess of x_0; what is asked for is its eps": guess_of,
        "the image in x_t is √alpha_bar times x_0: your root is missing": (
            lambda x, eps, ab_t: (x - guess_of(x, eps, ab_t)) / (1 - ab_t) ** 0.5
        ),
        "you divide by the noise's variance where its root belongs": (
            lambda x, eps, ab_t: (x - ab_t**0.5 * guess_of(x, eps, ab_t)) / (1 - ab_t)
        ),
        "what is left beside the image is √(1 - alpha_bar) eps: divide by that root": (
            lambda x, eps, ab_t: x - ab_t**0.5 * guess_of(x, eps, ab_t)
        ),
        "roots: x_t holds √alpha_bar x_0 and √(1 - alpha_bar) eps": without_roots,
        "roots, where you solve for x_0: x_t holds √alpha_bar x_0 and "
        "√(1 - alpha_bar) eps": without_roots_in_the_guess,
        "roots, where you solve for eps: x_t holds √alpha_bar x_0 and "
        "√(1 - alpha_bar) eps": without_roots_in_the_noise,
        "you cut the guess at 0 and 1; the lessons' images lie in [-1, 1]": (
            lambda x, eps, ab_t: noise_beside(
                unclipped(x, eps, ab_t).clamp(0, 1), x, ab_t
            )
        ),
    },
)
def clipped(x, eps, ab_t):
    """function(x, eps, ab_t) must give the eps whose guess of x_0 is cut at [-1, 1]."""
    return sampling.clipped(x, eps, ab_t)
