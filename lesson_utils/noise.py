"""Noise, also such that depends on a seed and the number of its picture alone."""

import numpy as np
import torch
from torch import Tensor

from .arguments import check_generator, refuse, whole

Generators = torch.Generator | list[torch.Generator] | None


def initial_noise(n: int, shape: tuple, seed: int = 0, start: int = 0) -> Tensor:
    """Standard normal noise (n, *shape), float32, for n pictures of this shape.

    The noise of picture start + i depends on seed and start + i alone, never on n.
    Raises ValueError for an n below 1, a negative seed or start, an impossible shape.
    """
    if not isinstance(shape, list | tuple):
        refuse("shape", "sizes (C,H,W)", shape)
    shape = [whole("shape", size, 1) for size in shape]
    generators = _generators(n, seed, start, stream=0)
    return torch.stack([torch.randn(shape, generator=g) for g in generators])


def image_generators(n: int, seed: int = 0, start: int = 0) -> list[torch.Generator]:
    """One generator a picture, for the noise inside DDPM and DDIM with eta > 0.

    The generator of picture start + i depends on seed and start + i alone, and is
    independent of its initial_noise. Raises ValueError as initial_noise does.
    """
    return _generators(n, seed, start, stream=1)


def _generators(n: int, seed: int, start: int, stream: int) -> list[torch.Generator]:
    n, seed, start = whole("n", n, 1), whole("seed", seed, 0), whole("start", start, 0)
    # torch's generator keeps 32 bits of its seed: within a seed none is given twice.
    first = int(np.random.SeedSequence(seed).generate_state(1)[0]) + 2 * start + stream
    seeds = [(first + 2 * i) % 2**32 for i in range(n)]
    return [torch.Generator().manual_seed(s) for s in seeds]


def noise_like(x: Tensor, generator: Generators = None) -> Tensor:
    """Standard normal noise (B,C,H,W) for x, image by image if generator is a list."""
    check_generator(x, generator)
    if isinstance(generator, list | tuple):
        draws = [noise_like(image, g) for image, g in zip(x, generator, strict=True)]
        return torch.stack(draws)
    device = generator.device if generator is not None else x.device
    noise = torch.randn(x.shape, generator=generator, dtype=x.dtype, device=device)
    return noise.to(x.device)
