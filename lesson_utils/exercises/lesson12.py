"""The exercises of lesson 12: out of the notebook."""

from .checks import exercise, prediction


@prediction(
    right="c",
    mistakes={
        "no layer of the network mixes the images of a batch: the others in it do not "
        "matter, only how many they are": "a",
        "the seed decides about the noise, but the context belongs to an image too": (
            "b"
        ),
    },
)
def same_files():
    """an image depends on its noise and its context. Image i has the same noise in both
    runs, and the same context only if it asked for the last class before."""


@prediction(
    right="b",
    mistakes={
        "compare how far a step goes, 500 // 300, with the distance between two "
        "timesteps at which the network is asked": "a",
        "nothing here adds fresh noise, so the latent still decides about the image": (
            "c"
        ),
    },
)
def odd_steps():
    """each step removes the noise of 500 // 300 = 1 timestep, but the timesteps that
    are visited lie 1.67 apart: noise is left over at each step. If steps divides T, as
    20 or 250 do, both distances are equal."""


def wanted(first, n, batch):
    return range(first, min(first + batch, n))


def firsts_with(condition, n, batch):
    return [s for s in range(0, n, batch) if condition(wanted(s, n, batch))]


RUNS = [  # the images that are there, n, the batch size
    ([0, 1, 2, 3, 4], 15, 5),
    ([0, 1, 2, 4, 5, 6], 12, 3),
    ([0, 1, 2, 3, 8, 9], 10, 4),
    ([], 3, 2),
    ([1, 3, 8], 11, 4),
]


@exercise(
    RUNS,
    mistakes={
        "a micro-batch is sampled again if any of its images is missing, not only if "
        "all are": (
            lambda there, n, batch: firsts_with(
                lambda images: all(i not in there for i in images), n, batch
            )
        ),
        "the images from n on are never written: they cannot be missing": (
            lambda there, n, batch: [
                s
                for s in range(0, n, batch)
                if any(i not in there for i in range(s, s + batch))
            ]
        ),
        "those are the missing images; what is asked for is where their micro-batches "
        "begin": lambda there, n, batch: [i for i in range(n) if i not in there],
        "those are the numbers of the micro-batches; give the number of the first "
        "image of each": (
            lambda there, n, batch: [
                s // batch
                for s in firsts_with(
                    lambda images: any(i not in there for i in images), n, batch
                )
            ]
        ),
        "any image of a micro-batch may be missing, not only its first one": (
            lambda there, n, batch: [s for s in range(0, n, batch) if s not in there]
        ),
        "how many images are there does not say which are missing": (
            lambda there, n, batch: list(range(len(there) // batch * batch, n, batch))
        ),
        "those are all micro-batches; some of them have all their images already": (
            lambda there, n, batch: list(range(0, n, batch))
        ),
        "several images may be missing in the same micro-batch: it is sampled once": (
            lambda there, n, batch: [
                i // batch * batch for i in range(n) if i not in there
            ]
        ),
    },
)
def restart(there, n, batch):
    """function(there, n, batch) must give the first images of the micro-batches that
    must be sampled."""
    return firsts_with(lambda images: any(i not in there for i in images), n, batch)
