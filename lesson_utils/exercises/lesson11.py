"""The exercises of lesson 11: what a student learns, and what it does not."""

from .cases import JUMPS, PAIRS
from .checks import exercise, prediction


@prediction(
    right="c",
    mistakes={
        "the one-step student of section 3 came from sixteen steps, by four stages; "
        "this one has never seen more than two": "b",
        "one step of a student does what two of its teacher do, and the two steps of "
        "DDIM do not end in the middle": "a",
    },
)
def hurry():
    """A stage makes one step of its teacher's two steps and knows nothing else. These
    two end far from the truth, so the student does too."""


@prediction(
    right="b",
    mistakes={
        "the two-step student was trained for the jumps 500 → 250 and 250 → 0; this "
        "one for jumps of half their length": "a",
        "its answers know the curve for half of each jump, and those of DDIM only at "
        "its start": "c",
    },
)
def two_of_four():
    """An answer of a student belongs to a jump from t to s. Half of each jump is in the
    answers here, and the bend of the other half is missing."""


def sigma(ab: float) -> float:
    """The noise in x/√ab."""
    return ((1 - ab) / ab) ** 0.5


def slope(x_t, x_s, ab_t, ab_s):
    return (x_s / ab_s**0.5 - x_t / ab_t**0.5) / (sigma(ab_s) - sigma(ab_t))


def guess_of_image(x_t, x_s, ab_t, ab_s):
    r = ((1 - ab_s) / (1 - ab_t)) ** 0.5
    return (x_s - r * x_t) / (ab_s**0.5 - r * ab_t**0.5)


@exercise(
    [(*pair, ab_t, ab_s) for pair in PAIRS for ab_t, ab_s in JUMPS],
    mistakes={
        "that is the target of section 2, a guess of x_0: the student shall answer in "
        "ε": guess_of_image,
        "your slope has the wrong sign: both differences must go the same way": (
            lambda x_t, x_s, ab_t, ab_s: -slope(x_t, x_s, ab_t, ab_s)
        ),
        "you took x in place of y: divide each x by its √ᾱ": (
            lambda x_t, x_s, ab_t, ab_s: (x_s - x_t) / (sigma(ab_s) - sigma(ab_t))
        ),
        "each x must be divided by the root of its ᾱ, not by ᾱ": (
            lambda x_t, x_s, ab_t, ab_s: (
                (x_s / ab_s - x_t / ab_t) / (sigma(ab_s) - sigma(ab_t))
            )
        ),
        "your line ends at ς = 0, and the step ends at the ς of s": (
            lambda x_t, x_s, ab_t, ab_s: (
                (x_t / ab_t**0.5 - x_s / ab_s**0.5) / sigma(ab_t)
            )
        ),
        "your slope is upside down: y rises, and ς is what it goes over": (
            lambda x_t, x_s, ab_t, ab_s: 1 / slope(x_t, x_s, ab_t, ab_s)
        ),
    },
)
def chord(x_t, x_s, ab_t, ab_s):
    """function(x_t, x_s, ab_t, ab_s) must give the ε with which one step of DDIM leads
    from x_t to x_s."""
    return slope(x_t, x_s, ab_t, ab_s)
