"""Images that tests draw, and how they become files."""

import io

import numpy as np
import torch
from PIL import Image

LOSSLESS = {kind: {} for kind in ("png", "gif", "bmp", "tiff")}  # and how to save it
LOSSLESS["webp"] = {"lossless": True}


def art(height=16, width=16, seed=0, colours=9):
    """Pixel art (height,width,3) uint8, whose first and last rows hold no white."""
    draw = np.random.default_rng(seed)
    return draw.integers(0, 255, (colours, 3), np.uint8)[
        draw.integers(0, colours, (height, width))
    ]


def enlarged(pixels, k):
    return pixels.repeat(k, 0).repeat(k, 1)


def encoded(pixels, kind, **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def put(path, pixels, kind="png", **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(pixels, kind, **options))
    return path


def noise(*shape, seed=0):
    """Images of noise of this shape, always the same."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def pixels_of(data):
    """The rows of colours in the bytes of a PNG."""
    return np.array(Image.open(io.BytesIO(data)).convert("RGB"))


def has(picture, colour):
    """Whether a picture (H,W,3) has some pixels near a colour "#rrggbb"."""
    near = abs(picture.astype(int) - [*bytes.fromhex(colour[1:])]).max(-1) < 24
    return near.sum() > 30
