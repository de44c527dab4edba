"""A moving image: the frames of a trajectory as a GIF, with one palette for all."""

from collections.abc import Iterable
from pathlib import Path

import imageio.v3 as iio
import numpy as np
from PIL import Image
from torch import Tensor

from .support.checked import checked, fit, optional, refuse, whole
from .support.files import located, write_bytes
from .viz import film_pixels, some_frames, tile

LARGEST_SIDE = 65_535  # pixels, and 655,350 ms: what 16 bits of the format can say
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
) -> bytes:
    """A GIF that plays for ever: tensors (B,C,H,W) in [-1, 1], each laid out by `grid`.

    A frame lasts ms milliseconds, the last one hold_ms (GIF counts in tens; browsers
    play less than 20 slower). One palette of at most `colors` serves all frames, and
    the last one best; fewer colours make a smaller file. Equal frames are kept. path:
    the bytes are also written there, atomically, in a folder made if need be. Raises
    ValueError as `grid` does, and for shapes, numbers or a path that make no GIF.
    """
    film = np.stack([tile(stills, columns, 1) for stills in film_pixels(frames)])
    if max(film.shape[1:3]) * scale > LARGEST_SIDE:
        refuse("scale", f"a picture of at most {LARGEST_SIDE} pixels a side", scale)
    index, palette = in_one_palette(film, scale, colors)
    times = [round(ms, -1)] * (len(film) - 1) + [round(hold_ms, -1)]
    data = iio.imwrite(
        "<bytes>",
        index,
        extension=".gif",
        plugin="pillow",
        mode="L",  # with mode "P" Pillow spends 27 ms a frame on the palette
        is_batch=True,
        palette=palette.tobytes(),
        duration=times if len(times) > 1 else times[0],
        loop=0,
    )
    if path is not None:
        write_bytes(located(path), data)
    return data


def in_one_palette(
    film: np.ndarray, scale: int, colors: int
) -> tuple[np.ndarray, np.ndarray]:
    """uint8 (F,h,w,3), enlarged, as indices (F,H,W) into one palette (P,3), P <= 256.

    No frame's indices equal those of the frame before it.
    """
    for most in (min(colors, 255), min(colors, 128)):  # 128 leave a twin for each
        palette = best_palette(film, most)
        index = in_palette(film, palette).repeat(scale, 1).repeat(scale, 2)
        table = keep_equal_frames(index, rgb(palette))
        if len(table) <= 256:
            break
    return index, table


def best_palette(film: np.ndarray, colors: int) -> np.ndarray:
    """At most so many colours 0xRRGGBB, sorted, for a film uint8 (F,h,w,3).

    They are the last frame's, exactly, or where those are too many, the ones that fill
    more than their share of it; Pillow finds the others in a sample.
    """
    code = numbered(film)
    ends = code[-film[0].size // 3 :]
    last, counts = np.unique(ends, return_counts=True)
    kept = last if len(last) <= colors else last[counts > ends.size / colors]
    grey = (film == film[..., :1]).all()  # of which an octree makes 16 levels
    method = Image.Quantize.MEDIANCUT if grey else Image.Quantize.FASTOCTREE
    for part, share in ((ends[~np.isin(ends, kept)], 3 / 4), (code[: -ends.size], 1)):
        n = int((colors - len(kept)) * share)
        if part.size and n:
            sample = rgb(part[:: max(1, part.size // 8192)])
            tree = Image.fromarray(sample[None]).quantize(n, method)
            found = np.array(tree.getpalette()[: 3 * n], np.int32).reshape(-1, 3)
            kept = np.union1d(kept, found @ np.int32([1 << 16, 1 << 8, 1]))  # sorted
    return kept


def in_palette(film: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """uint8 (F,h,w,3) -> uint8 (F,h,w), the number of each pixel's colour."""
    wanted = Image.new("P", (1, 1))
    ring = np.resize(rgb(palette), (256, 3))  # its colours, again and again
    wanted.putpalette(ring.tobytes())
    tall = Image.fromarray(film.reshape(-1, *film.shape[2:]))
    index = np.array(tall.quantize(palette=wanted, dither=Image.Dither.NONE))
    index = index.ravel() % len(palette)
    # What Pillow finds is near; a colour of the palette itself becomes just that.
    code = numbered(film)
    own = np.searchsorted(palette, code).clip(max=len(palette) - 1)
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


def keep_equal_frames(index: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """Marks a frame that equals the one before, which Pillow would merge, by one pixel.

    The pixel changes its number, not its colour: index (F,H,W) is changed in place, and
    the palette comes back with the twin colours that this needs.
    """
    twins = []
    marked = False
    for k in range(1, len(index)):
        marked = not marked and np.array_equal(index[k], index[k - 1])
        if marked:
            number = int(index[k, 0, 0])
            if number not in twins:
                twins.append(number)
            index[k, 0, 0] = (len(palette) + twins.index(number)) % 256
    return np.concatenate([palette, palette[twins]]) if twins else palette
