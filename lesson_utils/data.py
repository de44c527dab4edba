"""Training pictures: each source gives the same three things."""

from typing import NamedTuple

import torch
from torch import Tensor

from .sprites import SPRITE_CLASSES, draw_sprites


class Pictures(NamedTuple):
    """A data set held as one tensor, which needs no loader and no worker processes.

    x: (N,C,H,W) float32 in [-1, 1]; c: (N,K) float32, the context of each picture;
    names: the K class names, in the order of the columns of c.
    """

    x: Tensor
    c: Tensor
    names: tuple[str, ...]


def sprites(n: int = 50_000, seed: int = 0) -> Pictures:
    """n drawn sprites with their classes: x (n,3,16,16), c (n,5).

    Same seed, same sprites, on every machine; nothing is downloaded.
    Raises ValueError for an n below 1 or a negative seed.
    """
    images, labels = draw_sprites(n, seed)
    return Pictures(to_unit(images), torch.from_numpy(labels), SPRITE_CLASSES)


def to_unit(images) -> Tensor:
    """uint8 pictures (N,H,W,C) in 0..255 -> float32 (N,C,H,W) in [-1, 1]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


SOURCES = {"sprites": sprites}


def dataset(name: str) -> Pictures:
    """The data set of this name, as training uses it.

    Raises ValueError for an unknown name.
    """
    if name not in SOURCES:
        raise ValueError(f"name: one of {', '.join(SOURCES)}, got {name!r}")
    return SOURCES[name]()
