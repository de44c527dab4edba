"""Pictures: stills, trajectories, moving pictures, and a progress bar.

Images are float tensors (B,C,H,W) in [-1, 1], C = 1 or 3. Their way to pixels is fixed:
-1 is 0, 1 is 255. A picture that leaves this range, or never fills it, shows it.
"""

import base64
import html
import math
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm


def grid(x: Tensor, columns: int | None = None, scale: int = 4) -> np.ndarray:
    """x (B,C,H,W) in [-1, 1], row by row -> uint8 (rows*H*scale, columns*W*scale, 3).

    Values outside [-1, 1] are cut off for display only; x stays as it is. Places with
    no image are white. columns=None: about a square, and rather wide than high. Raises
    TypeError or ValueError if x is not such a tensor, is empty or holds NaN.
    """
    return _tile(_pixels(x, "x"), columns, scale)


def strip(
    frames: Iterable[Tensor], moments: int | Sequence[int] = 8, scale: int = 4
) -> np.ndarray:
    """Moments of a trajectory side by side: one row an image, one column a moment.

    frames: tensors (B,C,H,W) in [-1, 1], one shape. moments: how many, evenly spread
    from the first frame to the last (all if there are fewer), or a list of indices.
    Returns uint8 (B*H*scale, moments*W*scale, 3). Raises as `grid` does.
    """
    film = _film(frames)  # (F,B,H,W,3)
    n = len(film)
    if isinstance(moments, Sequence):
        chosen = list(moments)
        if not chosen or not all(
            isinstance(i, int | np.integer) and -n <= i < n for i in chosen
        ):
            raise ValueError(f"moments={moments!r} must be indices into {n} frames")
    else:
        m = min(_at_least(1, moments=moments), n)
        chosen = [round((n - 1) * i / (m - 1)) for i in range(m)] if m > 1 else [n - 1]
    rows = film[chosen].swapaxes(0, 1)  # (B,M,H,W,3)
    return _tile(rows.reshape(-1, *film.shape[2:]), len(chosen), scale)


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
    the last one best; fewer colours make a smaller file. All frames are kept, equal
    ones too. With a path the bytes are also written there, atomically, in a folder made
    if need be. Raises TypeError or ValueError as `grid` does, and for frames of
    different shapes and for numbers or a path that make no GIF.
    """
    for name, value, least, most in (
        ("columns", 1 if columns is None else columns, 1, 65_535),
        ("scale", scale, 1, 65_535),
        ("ms", ms, 10, 655_350),
        ("hold_ms", hold_ms, 10, 655_350),
        ("colors", colors, 2, 256),
    ):  # before frames, which may be a sampler at work
        if _at_least(least, **{name: value}) > most:
            raise ValueError(f"{name}={value} must be {most} or less")
    if path is not None and Path(path).suffix.lower() != ".gif":
        raise ValueError(f"path={str(path)!r} must end in .gif")
    film = np.stack([_tile(x, columns, 1) for x in _film(frames)])  # (F,h,w,3)
    if max(film.shape[1:3]) * scale > 65_535:
        raise ValueError(f"scale={scale} makes a picture of more than 65535 pixels")
    for limit in (min(colors, 255), min(colors, 128)):  # 128 leave a twin for each
        index, palette = _quantise(film, limit)
        big = index.repeat(scale, 1).repeat(scale, 2)
        palette = _keep_equal_frames(big, palette)
        if len(palette) <= 256:
            break
    times = [round(ms, -1)] * (len(big) - 1) + [round(hold_ms, -1)]
    data = iio.imwrite(
        "<bytes>",
        big,
        extension=".gif",
        plugin="pillow",
        mode="L",  # indices; with mode="P" Pillow spends 27 ms a frame on the palette
        is_batch=True,
        palette=palette.tobytes(),
        duration=times if len(times) > 1 else times[0],
        loop=0,
    )
    if path is not None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            part.write_bytes(data)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    return data


def show(
    *pictures: np.ndarray | Tensor | bytes | str | Path,
    titles: str | Sequence[str] | None = None,
    alt: str | Sequence[str] | None = None,
    columns: int | None = None,
    scale: int = 4,
) -> None:
    """Stills and moving pictures side by side in a notebook, each above its title.

    A picture is a uint8 array (H,W,3), a tensor (B,C,H,W) in [-1, 1] (laid out by
    `grid`), the bytes of a GIF or PNG, or the path of one. titles, alt: one text for
    each picture; alt says in words what is to be seen, and where it is left out the
    title does. Emits one HTML output, with the alt texts as plain text beside it;
    outside IPython it prints those. Raises TypeError or ValueError for anything else, a
    missing alt included.
    """
    if not pictures:
        raise ValueError("pictures=() must be one picture or more")
    titles = _texts("titles", titles or [""] * len(pictures), len(pictures))
    alts = _texts("alt", alt or titles, len(pictures))
    figures = []
    for i, (picture, title, words) in enumerate(
        zip(pictures, titles, alts, strict=True)
    ):
        if not words.strip():
            raise ValueError(f"alt={alt!r} must say what pictures[{i}] shows")
        kind, data = _encoded(picture, f"pictures[{i}]", columns, scale)
        figures.append(
            '<figure style="display:inline-block;margin:0 1em 0 0;max-width:100%">'
            f'<img alt="{html.escape(words)}" style="max-width:100%;'
            f'image-rendering:pixelated" src="data:image/{kind};base64,'
            f'{base64.b64encode(data).decode()}">'
            + (f"<figcaption>{html.escape(title)}</figcaption>" if title else "")
            + "</figure>"
        )
    plain = "\n".join(alts)
    if "IPython" in sys.modules and sys.modules["IPython"].get_ipython():
        from IPython.display import display

        html_ = f"<div>{''.join(figures)}</div>"
        display({"text/html": html_, "text/plain": plain}, raw=True)
    else:
        print(plain)


def progress(steps: Iterable, total: int | None = None, label: str = "") -> Iterator:
    """The items of steps, unchanged, with a bar on stdout that leaves one line.

    total=None takes len(steps) where there is one. The bar closes when the items end,
    the source raises or the reader stops. No item is held, and gradient mode is left
    alone. Raises TypeError if steps is not iterable, ValueError if total is negative.
    """
    if not isinstance(steps, Iterable):
        raise TypeError(f"steps={steps!r} must be iterable, such as ddim(...)")
    if total is None:
        total = len(steps) if hasattr(steps, "__len__") else None
    elif _at_least(0, total=total) == 0:
        total = None
    return _progress(steps, total, label)


def _progress(steps: Iterable, total: int | None, label: str) -> Iterator:
    bar = _Bar(
        total=total,
        desc=label or None,
        unit=" steps",
        file=sys.stdout,
        ncols=79,
        position=0,
        mininterval=0.1,
        miniters=1,
    )

    def tick(item):
        bar.update()
        return item

    with bar:
        yield from map(tick, steps)  # holds no item, as a loop's variable would


class _Bar(tqdm):
    monitor_interval = 0  # no thread


def _pixels(x: Tensor, name: str) -> np.ndarray:
    """(B,C,H,W) in [-1, 1] -> uint8 (B,H,W,3), never scaled to what x holds."""
    if not isinstance(x, Tensor) or not x.is_floating_point():
        what = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"{name} must be a float tensor (B,C,H,W), not {what}")
    if x.ndim != 4 or x.shape[1] not in (1, 3) or 0 in x.shape:
        shape = tuple(x.shape)
        raise ValueError(
            f"{name} has shape {shape}; (B,C,H,W) with C = 1 or 3 would do"
        )
    x = x.detach().float()
    if x.isnan().any():
        raise ValueError(f"{name} holds NaN, which has no colour; look for its source")
    x = ((x + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return x.permute(0, 2, 3, 1).expand(-1, -1, -1, 3).cpu().numpy()


def _film(frames: Iterable[Tensor]) -> np.ndarray:
    """Tensors (B,C,H,W) of one shape -> uint8 (F,B,H,W,3)."""
    if not isinstance(frames, Iterable):
        raise TypeError(f"frames must be tensors in a row, not {type(frames).__name__}")
    film = [_pixels(x, f"frames[{i}]") for i, x in enumerate(frames)]
    if not film:
        raise ValueError("frames is empty; one tensor (B,C,H,W) or more would do")
    for i, x in enumerate(film):
        if x.shape != film[0].shape:
            raise ValueError(
                f"frames[{i}] shows {len(x)} images of {x.shape[1:3]}, but frames[0] "
                f"{len(film[0])} of {film[0].shape[1:3]}; all must have one shape"
            )
    return np.stack(film)


def _tile(images: np.ndarray, columns: int | None, scale: int) -> np.ndarray:
    """uint8 (B,H,W,3) -> uint8 (rows*H*scale, columns*W*scale, 3)."""
    b, h, w, _ = images.shape
    scale = _at_least(1, scale=scale)
    if columns is None:
        root = math.ceil(math.sqrt(b))
        full = (c for c in range(root, int(2.5 * math.sqrt(b)) + 1) if b % c == 0)
        columns = next(full, root)
    rows = math.ceil(b / _at_least(1, columns=columns))
    places = np.full((rows * columns, h, w, 3), 255, np.uint8)
    places[:b] = images
    sheet = places.reshape(rows, columns, h, w, 3).swapaxes(1, 2)
    return sheet.reshape(rows * h, columns * w, 3).repeat(scale, 0).repeat(scale, 1)


def _quantise(film: np.ndarray, colors: int) -> tuple[np.ndarray, np.ndarray]:
    """uint8 (F,h,w,3) -> indices (F,h,w) into one palette (P <= colors, 3), all uint8.

    The palette keeps the last frame's colours exactly or, where they are too many,
    those that fill more than their share of it; Pillow finds the others in a sample.
    """
    wide = np.zeros((*film.shape[:3], 4), np.uint8)
    wide[..., 2::-1] = film
    code = wide.view("<i4").ravel()  # 0xRRGGBB
    ends = code[-film[0].size // 3 :]
    last, counts = np.unique(ends, return_counts=True)
    kept = last if len(last) <= colors else last[counts > ends.size / colors]
    grey = (film == film[..., :1]).all()  # of which an octree makes 16 levels
    method = Image.Quantize.MEDIANCUT if grey else Image.Quantize.FASTOCTREE
    for part, share in ((ends[~np.isin(ends, kept)], 3 / 4), (code[: -ends.size], 1)):
        part = _rgb(part[:: max(1, part.size // 8192)])[None]
        if part.size and (n := int((colors - len(kept)) * share)):
            tree = Image.fromarray(part).quantize(n, method)
            found = np.array(tree.getpalette()[: 3 * n], np.int32).reshape(-1, 3)
            kept = np.union1d(kept, found @ np.int32([1 << 16, 1 << 8, 1]))  # sorted
    palette = _rgb(kept)
    # the upper 5 bits of each channel, a cell, lead to the nearest colour ...
    cell = _cell(code)
    nearest = np.zeros(1 << 15, np.uint8)
    p = palette.astype(np.float32)
    p = np.concatenate([-2 * p, (p**2).sum(1, keepdims=True)], 1).T  # (4,P)
    for some in np.array_split(np.flatnonzero(np.bincount(cell)), 32):  # fits the cache
        centre = np.stack([some >> 10, some >> 5 & 31, some & 31], 1) * 8 + 3.5
        centre = np.pad(centre.astype(np.float32), ((0, 0), (0, 1)), constant_values=1)
        nearest[some] = (centre @ p).argmin(1)
    index = nearest[cell]
    # ... and a colour of the palette to itself
    taken = np.zeros(1 << 15, bool)
    taken[_cell(kept)] = True
    at = np.flatnonzero(taken[cell])
    own = np.searchsorted(kept, code[at]).clip(max=len(kept) - 1)
    index[at] = np.where(kept[own] == code[at], own, index[at])
    return index.reshape(film.shape[:3]), palette


def _rgb(code: np.ndarray) -> np.ndarray:
    return np.stack([code >> 16, code >> 8 & 255, code & 255], -1).astype(np.uint8)


def _cell(code: np.ndarray) -> np.ndarray:
    return code >> 9 & 0x7C00 | code >> 6 & 0x3E0 | code >> 3 & 0x1F


def _keep_equal_frames(index: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """Marks a frame that equals the one before, which Pillow would merge, by one pixel.

    The pixel changes its number, not its colour: index (F,H,W) is changed in place, and
    the palette comes back with the twin colours that this needs.
    """
    twins, marked = [], False
    for k in range(1, len(index)):
        marked = not marked and np.array_equal(index[k], index[k - 1])
        if marked:
            number = int(index[k, 0, 0])
            twins += [] if number in twins else [number]
            index[k, 0, 0] = (len(palette) + twins.index(number)) % 256
    return np.concatenate([palette, palette[twins]]) if twins else palette


def _encoded(picture, name: str, columns, scale) -> tuple[str, bytes]:
    """A picture as `show` takes it -> ("png" or "gif", its bytes)."""
    if isinstance(picture, Tensor):
        picture = grid(picture, columns, scale)
    elif isinstance(picture, str | Path):
        picture = Path(picture).read_bytes()
    if isinstance(picture, np.ndarray):
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
            what = f"{picture.dtype} {picture.shape}"
            raise ValueError(f"{name} is {what}; uint8 (H,W,3) would do")
        return "png", iio.imwrite("<bytes>", picture, extension=".png", plugin="pillow")
    if not isinstance(picture, bytes):
        what = type(picture).__name__
        raise TypeError(f"{name} must be array, tensor, bytes or path, not {what}")
    for kind, start in (("png", b"\x89PNG\r\n"), ("gif", b"GIF8")):
        if picture.startswith(start):
            return kind, picture
    raise ValueError(f"{name} begins with {picture[:6]!r}; a GIF or a PNG would do")


def _texts(name: str, texts: str | Sequence[str], n: int) -> list[str]:
    texts = [texts] if isinstance(texts, str) else list(texts)
    if len(texts) != n or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{name}={texts!r} must be {n} texts, one for each picture")
    return texts


def _at_least(least: int, **argument: int) -> int:
    ((name, value),) = argument.items()
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name}={value!r} must be a whole number, {least} or more")
    if value < least:
        raise ValueError(f"{name}={value} must be {least} or more")
    return int(value)
