"""A moving image: the frames of a trajectory as a GIF, with one palette for all.

Films that are compared may share one, so that equal images have equal colours.
"""

from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops
from PIL.GifImagePlugin import getdata, getheader
from torch import Tensor

from .support.checked import checked, fit, optional, refuse, whole
from .support.files import located, write_bytes
from .viz import film_pixels, some_frames, tile

LARGEST_SIDE = 65_535  # pixels, and 655,350 ms: what 16 bits of the format can say
FAR_APART = Image.Quantize.MAXCOVERAGE
a_duration = whole(10, 655_350)


def names_a_gif(path: object) -> bool:
    """Whether a value is the path of a GIF."""
    return isinstance(path, str | Path) and Path(path).suffix.lower() == ".gif"


@checked(
    path=optional(fit(names_a_gif, "a path that ends in .gif")),
    columns=optional(whole(1, LARGEST_SIDE)),
    scale=whole(1, LARGEST_SIDE),
    ms=a_duration,
    hold_ms=a_duration,
    colors=whole(2, 256),
    like=optional(some_frames),
    frames=some_frames,
)
def gif(
    frames: Iterable[Tensor],
    path: str | Path | None = None,
    columns: int | None = None,
    scale: int = 4,
    ms: int = 60,
    hold_ms: int = 1500,
    colors: int = 256,
    like: Iterable[Tensor] | None = None,
) -> bytes:
    """A GIF that plays for ever: tensors (B,C,H,W) in [-1, 1], each laid out by `grid`.

    A frame lasts ms milliseconds, the last one hold_ms (GIF counts in tens; browsers
    play less than 20 slower). One palette of at most `colors` serves all frames: they
    are exact if it holds all their colours, else the last one is nearest; fewer colours
    make a smaller file. like: the frames of a film to compare with; gif(a, like=b) and
    gif(b, like=a) have the same palette, made for both. Equal frames are kept. path:
    the bytes are also written there, atomically, in a folder made if need be. Raises
    ValueError as `grid` does, and for shapes, numbers or a path that make no GIF.
    """
    film = tiled(frames, columns)
    if max(film.shape[1:3]) * scale > LARGEST_SIDE:
        refuse("scale", f"a picture of at most {LARGEST_SIDE} pixels a side", scale)
    films = [film] if like is None else [film, tiled(like, columns)]
    palette = best_palette(films, colors)
    index = in_palette(film, palette).repeat(scale, 1).repeat(scale, 2)
    times = [round(ms, -1)] * (len(film) - 1) + [round(hold_ms, -1)]
    data = in_file(list(map(Image.fromarray, index)), rgb(palette).tobytes(), times)
    if path is not None:
        write_bytes(located(path), data)
    return data


def tiled(frames: Iterable[Tensor], columns: int | None) -> np.ndarray:
    """Tensors (B,C,H,W) -> uint8 (F,h,w,3), each frame laid out."""
    return np.stack([tile(stills, columns, 1) for stills in film_pixels(frames)])


def best_palette(films: list[np.ndarray], colors: int) -> np.ndarray:
    """At most so many colours 0xRRGGBB, sorted, for films uint8 (F,h,w,3) in any order.

    All that there are, two at least; or where those are too many, the last frames', or
    the ones that fill more than their share of them; Pillow finds others in a sample.
    """
    codes = [numbered(film) for film in films]
    if len(np.unique(sampled(codes))) <= colors:  # quick to say no
        seen = np.zeros(1 << 24, bool)
        for code in codes:
            seen[code] = True
        every = np.flatnonzero(seen).astype(np.int32)
        if len(every) <= colors:
            return every if len(every) > 1 else np.union1d(every, every ^ 1)
    ends = np.concatenate([numbered(film[-1:]) for film in films])
    last, counts = np.unique(ends, return_counts=True)
    kept = last if len(last) <= colors else last[counts > ends.size / colors]
    before = [numbered(film[:-1]) for film in films]
    for parts, share in (([ends[~np.isin(ends, kept)]], 3 / 4), (before, 1)):
        sample = rgb(sampled(parts))
        n = int((colors - len(kept)) * share)
        if len(sample) and n:
            # As far apart as can be, then each moved to the mean of what is nearest.
            few = Image.fromarray(sample[None]).quantize(n, FAR_APART, kmeans=1)
            found = np.array(few.getpalette()[: 3 * n], np.int32).reshape(-1, 3)
            kept = np.union1d(kept, found @ np.int32([1 << 16, 1 << 8, 1]))  # sorted
    return kept


def sampled(codes: list[np.ndarray]) -> np.ndarray:
    """Some 2,048 numbers or more of each array, sorted: whose they were is lost."""
    return np.sort(np.concatenate([c[:: max(1, c.size // 2048)] for c in codes]))


def in_palette(film: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """uint8 (F,h,w,3) -> uint8 (F,h,w), the number of each pixel's colour."""
    wanted = Image.new("P", (1, 1))
    ring = np.resize(rgb(palette), (256, 3))  # its colours, again and again
    wanted.putpalette(ring.tobytes())
    tall = Image.fromarray(film.reshape(-1, *film.shape[2:]))
    index = np.array(tall.quantize(palette=wanted, dither=Image.Dither.NONE))
    index = index.ravel().astype(np.int32) % len(palette)
    # What Pillow finds is near; a colour of the palette itself becomes just that.
    code = numbered(film)
    place = np.zeros(1 << 24, np.uint8)
    place[palette] = np.arange(len(palette))
    own = place[code]
    index = np.where(palette[own] == code, own, index)
    return index.astype(np.uint8).reshape(film.shape[:3])


def numbered(film: np.ndarray) -> np.ndarray:
    """uint8 (F,h,w,3) -> the colours of all pixels as int32 (F*h*w,), 0xRRGGBB."""
    wide = np.zeros((*film.shape[:3], 4), np.uint8)
    wide[..., 2::-1] = film
    return wide.view("<i4").ravel()


def rgb(code: np.ndarray) -> np.ndarray:
    """Colours 0xRRGGBB (N,) -> uint8 (N,3)."""
    return np.stack([code >> 16, code >> 8 & 255, code & 255], -1).astype(np.uint8)


def in_file(stills: list[Image.Image], palette: bytes, times: list[int]) -> bytes:
    """Frames of colour numbers as a GIF: of each the part that changed, if only a dot.

    Piece by piece: Pillow's `save` would merge equal frames, and sort colours in each.
    """
    pieces, _ = getheader(stills[0].copy(), palette, {"loop": 0})
    pieces += getdata(stills[0], duration=times[0])
    for (before, still), time in zip(pairwise(stills), times[1:], strict=True):
        box = ImageChops.difference(before, still).getbbox() or (0, 0, 1, 1)
        pieces += getdata(still.crop(box), box[:2], duration=time)
    return b"".join([*pieces, b";"])
