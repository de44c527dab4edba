"""The exercises of lesson 8: the latent space."""

from math import log

from .checks import exercise, prediction


@exercise(
    [(5, 0.3, 25, 0.04), (25, 0.04, 250, 0.0042), (10, 2.0, 20, 1.0)],
    mistakes={
        "that is the slope on plain axes; a logarithmic axis shows the logarithm": (
            lambda S_1, d_1, S_2, d_2: (d_2 - d_1) / (S_2 - S_1)
        ),
        "your slope is upside down: divide the change of log d by that of log S": (
            lambda S_1, d_1, S_2, d_2: log(S_2 / S_1) / log(d_2 / d_1)
        ),
        "the sign: the distance falls, so the slope is negative": (
            lambda S_1, d_1, S_2, d_2: -log(d_2 / d_1) / log(S_2 / S_1)
        ),
        "only the distances are logarithms; the axis of S is logarithmic too": (
            lambda S_1, d_1, S_2, d_2: log(d_2 / d_1) / (S_2 - S_1)
        ),
        "only the numbers of steps are logarithms; the other axis is one too": (
            lambda S_1, d_1, S_2, d_2: (d_2 - d_1) / log(S_2 / S_1)
        ),
        "you divide the quotients; take the logarithm of each first": (
            lambda S_1, d_1, S_2, d_2: (d_2 / d_1) / (S_2 / S_1)
        ),
        "a slope needs both points: differences of logarithms, then their quotient": (
            lambda S_1, d_1, S_2, d_2: log(d_2) / log(S_2)
        ),
    },
)
def slope(S_1, d_1, S_2, d_2):
    """function(S_1, d_1, S_2, d_2) must give the slope on two logarithmic axes."""
    return log(d_2 / d_1) / log(S_2 / S_1)


@prediction(
    right="b",
    mistakes={
        "short latents lie near each other; long ones lie further apart, so their "
        "images differ more": "a",
        "the mean's latents were too short, and these are too long: the network never "
        "met so much noise, and the images have stray details": "c",
    },
)
def long():
    """long latents lie further apart, so their images differ more. Training never
    showed such an x_T, so the images have stray details, and the confidence falls."""


@prediction(
    right="b",
    mistakes={
        "each answer of the network depends on the whole of x_t, and images with seams "
        "were not in its training: the halves agree on one object": "a",
        "look at each half alone: it is nearest to the image whose noise it has": "c",
    },
)
def halves():
    """the noise of a region acts mostly there, so each half keeps something of its
    latent. The network looks at the whole, so the halves agree on one object."""
