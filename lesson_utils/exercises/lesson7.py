"""The exercises of lesson 7: speed and quality."""

import functools
import math

import torch

from .checks import exercise, prediction

Z = 1.96


@prediction(
    right="b",
    mistakes={
        "the error of a mean falls so, but the distance adds up squares of errors": "a",
        "the sampler has not changed, but the distance sees the chance in its samples: "
        "with more of them there is less": "c",
    },
)
def fourfold():
    """the distance of a perfect sampler is a sum of squared errors. Each of them falls
    like 1/n, so four times as many samples leave a quarter."""


class Mean:
    """A figure for `resampled`: the mean of numbers, whose classes lie far apart.

    half: half the width of its interval, known from theory.
    """

    def __init__(self, sizes: tuple[int, ...]):
        g = torch.Generator().manual_seed(len(sizes))
        parts = [
            10.0 * k + torch.randn(n, generator=g).double() for k, n in enumerate(sizes)
        ]
        self.values = torch.cat(parts)
        self.each = torch.arange(len(self.values)).split(sizes)
        variance = sum(len(part) * float(part.var(correction=0)) for part in parts)
        self.half = Z * variance**0.5 / len(self.values)

    def __call__(self, i: torch.Tensor) -> float:
        return float(self.values[i].mean())

    def __repr__(self) -> str:
        return "figure"


class Different:
    """A figure for `resampled` of which new sets have less: the share of different
    samples among all; 1, while that of a new set is about 1 - 1/e."""

    def __init__(self, sizes: tuple[int, ...]):
        self.n = sum(sizes)
        self.each = torch.arange(self.n).split(sizes)
        variance = self.n * (1 / math.e - 2 / math.e**2)  # of their number, large n
        self.half = Z * variance**0.5 / self.n

    def __call__(self, i: torch.Tensor) -> float:
        return len(i.unique()) / self.n

    def __repr__(self) -> str:
        return "figure"


def settled(function):
    """A function that resamples, from a fixed seed, and without its last digits.

    What it gives is an interval by chance: its middle becomes the nearest whole
    number of right widths away from the right one, and its half width the nearest
    power of 1.35 times the right one.
    """

    @functools.wraps(function)
    def wrapped(figure, each):
        with torch.random.fork_rng([]):
            torch.default_generator.manual_seed(0)
            found = function(figure, each)
        if found is None or found is ...:
            return found
        found = torch.as_tensor(found, dtype=torch.double)
        if found.shape != (2,):
            raise ValueError("return two numbers, low and high")
        low, high = found.tolist()
        middle, half = (low + high) / 2, (high - low) / 2
        right = figure(torch.cat(list(each)))
        middle = right + 2 * figure.half * round((middle - right) / (2 * figure.half))
        if half > 1e-9:
            half = figure.half * 1.35 ** round(math.log(half / figure.half, 1.35))
        return middle - half, middle + half

    return wrapped


def again(each) -> torch.Tensor:
    """As many numbers of each class, at random, with repeats."""
    return torch.cat([i[torch.randint(len(i), (len(i),))] for i in each])


def of_all(each) -> torch.Tensor:
    """As many numbers of all classes together, at random, with repeats."""
    i = torch.cat(list(each))
    return i[torch.randint(len(i), (len(i),))]


def from_zero(each) -> torch.Tensor:
    """Places within each class, as if they were the numbers of its samples."""
    return torch.cat([torch.randint(len(i), (len(i),)) for i in each])


def without_repeats(each) -> torch.Tensor:
    return torch.cat([i[torch.randperm(len(i))] for i in each])


def interval_by(pick=again, factor: float = Z, root: bool = False, about: str = "all"):
    """The right function, or a wrong one: how it resamples, and its factor.

    root: whether it divides by the root of the number of samples. about: whether the
    interval stands around the figure of "all" samples, the "mean" of the new sets, or
    has "percentiles" of these for its ends.
    """

    def resample(figure, each):
        every = torch.cat(list(each))
        values = [figure(pick(each)) for _ in range(200)]
        values = torch.tensor(values, dtype=torch.double)
        half = factor * float(values.std()) / (len(every) ** 0.5 if root else 1)
        middle = figure(every) if about == "all" else float(values.mean())
        if about == "percentiles":
            return tuple(values.quantile(torch.tensor([0.025, 0.975]).double()))
        return middle - half, middle + half

    return resample


MISTAKES = {
    "you resample all classes together, so their shares change by chance, and the "
    "interval is too wide": interval_by(of_all),
    "your new sets hold each sample once: resample with repeats, as torch.randint "
    "does": interval_by(without_repeats),
    "torch.randint gives places within a class: the numbers of its samples are i[…] at "
    "these places": interval_by(from_zero),
    "that is one standard deviation to each side: 95 % take 1.96 of them": interval_by(
        factor=1
    ),
    "you divided by √200, but a mean of 200 values is not what you ask for: their "
    "spread is itself the error of one": interval_by(factor=Z / 200**0.5),
    "you divided by the root of the number of samples, but each new set has that many "
    "already: the spread of their figures is itself the error": interval_by(root=True),
    "your interval stands around the mean of the new sets, which repeats can shift: it "
    "belongs around the value for all samples": interval_by(about="mean"),
    "percentiles of the new sets are shifted where repeats shift the figure: take its "
    "value for all samples ± 1.96 standard deviations": interval_by(
        about="percentiles"
    ),
}
FIGURES = Mean((400,)), Mean((150, 250, 100)), Different((400,))
CASES = [(figure, figure.each) for figure in FIGURES]


def resampled(function) -> bool:
    """function(figure, each) must give a 95 % interval (low, high) by resampling.

    figure: takes numbers of samples (n,) int64, gives a number. each: of each class the
    numbers of its samples. The two ends may differ from ours by chance.
    """
    return settled_check(settled(function))


settled_check = exercise(CASES, {k: settled(wrong) for k, wrong in MISTAKES.items()})(
    settled(interval_by())
)
resampled.mistakes = MISTAKES


@prediction(
    right="b",
    mistakes={
        "each image is good, but the distance does not look at images one by one: it "
        "compares distributions, and here nothing varies within a class": "a",
        "the mean of a class is that of a single image, and nothing varies about it: "
        "both count against it, more than all faults of the 20 steps": "c",
    },
)
def one_each():
    """the judge finds the right class in every image, and the distance sees what it
    does not: a class with one image has another mean than the class, and no
    variance."""
