"""Noise, also such that depends on a seed and the number of its image alone."""

import numpy as np
import torch
from torch import Tensor

from .support.checked import checked, tensor, whole
from .support.rules import generators, sizes_rule

Generators = torch.Generator | list[torch.Generator] | None


@checked(n=whole(1), shape=sizes_rule, seed=whole(), start=whole())
def initial_noise(n: int, shape: tuple, seed: int = 0, start: int = 0) -> Tensor:
    """Standard normal noise (n, *shape), float32, for n images of this shape.

    The noise of image start + i depends on seed and start + i alone, never on n. It is
    made on the CPU, whatever the device that it goes to.
    Raises ValueError for an n below 1, a negative seed or start, an impossible shape.
    """
    streams = seeded(n, seed, start, stream=0)
    return torch.stack([torch.randn(shape, generator=g) for g in streams])


@checked(n=whole(1), seed=whole(), start=whole())
def image_generators(n: int, seed: int = 0, start: int = 0) -> list[torch.Generator]:
    """One generator an image, for the noise inside DDPM and DDIM with eta > 0.

    The generator of image start + i depends on seed and start + i alone, and is
    independent of its initial_noise. Raises ValueError as initial_noise does.
    """
    return seeded(n, seed, start, stream=1)


def seeded(n: int, seed: int, start: int, stream: int) -> list[torch.Generator]:
    """The generators of n images from start on, for one of two uses."""
    # torch's generator keeps 32 bits of its seed: within a seed none is given twice.
    first = int(np.random.SeedSequence(seed).generate_state(1)[0]) + 2 * start + stream
    seeds = [(first + 2 * i) % 2**32 for i in range(n)]
    return [torch.Generator().manual_seed(s) for s in seeds]


@checked(x=tensor(), generator=generators)
def noise_like(x: Tensor, generator: Generators = None) -> Tensor:
    """Standard normal noise (B,C,H,W) for x, image by image if generator is a list."""
    if isinstance(generator, list | tuple):
        return torch.stack(
            [noise_like(image, g) for image, g in zip(x, generator, strict=True)]
        )
    device = generator.device if generator is not None else x.device
    noise = torch.randn(x.shape, generator=generator, dtype=x.dtype, device=device)
    return noise.to(x.device)
