"""The exercises of lesson 4: training."""

from ..sampling import ddim_step
from .cases import LEVELS, ONE
from .checks import exercise, prediction


@prediction(
    right="b",
    mistakes={
        "with hardly any noise the image itself shows its class, and little is left "
        "for the context to say": "a",
        "near T the context only chooses one average in place of another; in between "
        "it rules out whole images, and helps more": "c",
    },
)
def class_helps():
    """In between. There the image is half visible: the class rules out many of the
    images that it could have been, and so changes the best guess most. With little
    noise the image shows its class anyway. With much noise the best guess is the
    average of the class instead of that of all images, which helps less.
    """


@prediction(
    right="c",
    mistakes={
        "AdamW divides a gradient by its usual size, so a factor in the loss cancels; "
        "it does not act like a higher learning rate": "a",
        "the learning rate is outside AdamW's fraction: a hundred times the rate moves "
        "the weights a hundred times as far": "b",
    },
)
def hundredfold():
    """AdamW divides each gradient by its usual size, in which the factor 100 cancels.
    The learning rate is what remains: about the largest distance that a weight moves
    at an update. 0.3 is far more than the size of most weights of a new network.
    """


def inverse(ab_t):
    """The error of eps from that of x_0: the wrong way round."""
    return ab_t / (1 - ab_t)


def root(ab_t):
    """The factor of the error itself, whose square is wanted."""
    return ((1 - ab_t) / ab_t) ** 0.5


def noise_only(ab_t):
    """Forgets to divide by the share of the image."""
    return 1 - ab_t


def image_only(ab_t):
    """Forgets the share of the noise."""
    return 1 / ab_t


def signal_left_out(ab_t):
    """The inverse of the noise's share alone."""
    return 1 / (1 - ab_t)


def squared(ab_t):
    """The square of the right factor."""
    return ((1 - ab_t) / ab_t) ** 2


@exercise(
    [(ab,) for ab in (0.01, *LEVELS, 0.99)],
    mistakes={
        "that is the factor of the error itself; the loss has its square": root,
        "that is the way back, from the error of the image to that of the noise": (
            inverse
        ),
        "the guess of x_0 is also divided by √ᾱ_t": noise_only,
        "the noise also has a factor in front of it, √(1 − ᾱ_t)": image_only,
        "1 − ᾱ_t, the share of the noise, multiplies the error; ᾱ_t divides it": (
            signal_left_out
        ),
        "that is squared once too often: 1 − ᾱ_t is a square already": squared,
    },
)
def error_factor(ab_t):
    """function(ab_t) must give the squared error of x_0 for one of 1 in eps."""
    _, x0 = ddim_step(0 * ONE, ONE, ab_t, 1.0)
    return x0.square().item()
