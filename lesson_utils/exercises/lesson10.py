"""The exercises of lesson 10: solvers, and the names of one network."""

from math import expm1, log

from ..schedule import Schedule
from .cases import PAIRS
from .checks import exercise, prediction


@prediction(
    right="b",
    mistakes={
        "it has enough dots on the hill, but look at the last one of its row: there "
        "the exact world still bends, and one step of DDIM leads to t = 0": "a",
        "its last step is short, but count its dots where the hill of the exact world "
        "is high: the other two have more, so its steps there are longer": "c",
    },
)
def three_spacings():
    """`quad` and `uniform` have equally many dots where the hill is high, and `logsnr`
    has fewer. But `uniform` ends with a long step of DDIM that starts where the curve
    still bends, and the last step of `quad` is short."""


AB = Schedule.linear().alpha_bar.tolist()
TIMES = [(500, 400, 250), (400, 250, 200), (250, 100, 25), (100, 25, 1), (480, 475, 20)]
STEPS = [
    (x, x0, before, *(AB[t] for t in times))
    for (x, x0), before in zip(
        PAIRS, [PAIRS[1][0], PAIRS[2][0], PAIRS[0][0]], strict=True
    )
    for times in TIMES
]


def lam(ab: float) -> float:
    return log(ab / (1 - ab)) / 2


def step_with(weight, factor=None):
    """A step of 2M: weight(h, h_before) is that of the change of the guess."""

    def step(x, x0, x0_before, ab_before, ab_t, ab_s):
        h, h_before = lam(ab_s) - lam(ab_t), lam(ab_t) - lam(ab_before)
        D = x0 + weight(h, h_before) * (x0 - x0_before)
        share = -expm1(-h) if factor is None else factor(h)
        return ((1 - ab_s) / (1 - ab_t)) ** 0.5 * x + ab_s**0.5 * share * D

    return step


right_step = step_with(lambda h, h_before: h / (2 * h_before))


@exercise(
    STEPS,
    mistakes={
        "this is the function as it was: its bug is still there": step_with(
            lambda h, h_before: h_before / (2 * h)
        ),
        "the line must be followed to the middle of the step: a half is missing":
            step_with(lambda h, h_before: h / h_before),
        "your line goes back to the guess before: a sign is wrong": step_with(
            lambda h, h_before: -h / (2 * h_before)
        ),
        "your step takes the guess as it is, which is DDIM's step: the line is gone":
            step_with(lambda h, h_before: 0.0),
        "your weight is ½ whatever the two strides are: that is right only if they are "
        "equal": step_with(lambda h, h_before: 0.5),
        "the last line was right: the share of D is 1 - exp(-h)": step_with(
            lambda h, h_before: h / (2 * h_before), expm1
        ),
        "the last line was right: expm1(-h) is negative, its minus adds D": step_with(
            lambda h, h_before: h / (2 * h_before), lambda h: expm1(-h)
        ),
        "the last line was right: expm1 needs -h, because the noise falls": step_with(
            lambda h, h_before: h / (2 * h_before), lambda h: -expm1(h)
        ),
    },
)  # fmt: skip
def two_strides(x, x0, x0_before, ab_before, ab_t, ab_s):
    """function(x, x0, x0_before, ab_before, ab_t, ab_s) must give the x at s that 2M's
    step leads to, from the guesses at t and at the time before t."""
    return right_step(x, x0, x0_before, ab_before, ab_t, ab_s)


@exercise(
    [(*pair, q) for pair in PAIRS for q in (0.1, 0.3, 0.8)],
    mistakes={
        "you give the clean image; what is asked for is the noise": (
            lambda z, w, q: z + (1 - q) * w
        ),
        "this velocity points from the noise to the image: your sign is that of ours": (
            lambda z, w, q: z + q * w
        ),
        "you turned the velocity and not the time: q = 0 is the noise, so our r is "
        "1 - q": lambda z, w, q: z - (1 - q) * w,
        "x_0 is not 0: put z and w together, so that x_0 cancels": (
            lambda z, w, q: z / (1 - q)
        ),
        "w has x_0 in it too: you need z, so that x_0 cancels": lambda z, w, q: -w,
        "w is x_0 - eps and not eps: you need z, so that x_0 cancels": (
            lambda z, w, q: w
        ),
        "x_0 is gone, but a factor is too much: put z and w in, see what is left": (
            lambda z, w, q: (z - q * w) / (1 - q)
        ),
    },
)
def from_velocity(z, w, q):
    """function(z, w, q) must give the noise in z = q x_0 + (1 - q) eps, from the
    velocity w = x_0 - eps."""
    return z - q * w
