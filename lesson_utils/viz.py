"""Pictures: stills, trajectories, moving pictures, and a progress bar.

Images are float tensors (B,C,H,W) in [-1, 1], C = 1 or 3. Their way to pixels is fixed:
-1 is 0, 1 is 255. A picture that leaves this range, or never fills it, shows it.
"""

import base64
import html
import io
import math
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import torch
from matplotlib import get_data_path
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from tqdm import tqdm

from .arguments import finite, refuse, shaped, whole
from .checkpoint import replacing

# Told apart without colour vision too (Okabe & Ito 2008), and by their dashes.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
LINES = ("-", "--", "-.", ":")


def grid(x: Tensor, columns: int | None = None, scale: int = 4) -> np.ndarray:
    """x (B,C,H,W) in [-1, 1], row by row -> uint8 (rows*H*scale, columns*W*scale, 3).

    Values outside [-1, 1] are cut off for display only; x stays as it is. Places with
    no image are white. columns=None: about a square, and rather wide than high. Raises
    ValueError if x is not such a tensor, is empty or holds NaN.
    """
    return _tile(_pixels(x, "x"), columns, scale)


def sheet(
    x: Tensor, prompts: Sequence[str], columns: int | None = None, scale: int = 4
) -> np.ndarray:
    """Like `grid`, with each picture's prompt beneath it, as uint8 (H,W,3) for `show`.

    x: (B,C,H,W) in [-1, 1]; prompts: B texts of at most 200 characters. A long one is
    broken into lines, "" reads "no context" in grey. Raises ValueError as `grid` does.
    """
    scale = whole("scale", scale, 1)
    images = _pixels(x, "x").repeat(scale, 1).repeat(scale, 2)
    columns = _tile(images[:, :1, :1], columns, 1).shape[1]  # checked, or chosen
    prompts = [text.strip() for text in _texts("prompts", prompts, len(images))]
    if max(map(len, prompts)) > 200:
        refuse("prompts", "texts of at most 200 characters", max(prompts, key=len))
    font = ImageFont.truetype(f"{get_data_path()}/fonts/ttf/DejaVuSans.ttf", 11)
    h, w = images.shape[1:3]
    longest = max(map(font.getlength, " ".join(prompts).split()), default=0)
    room = max(w, 64, min(128, math.ceil(longest)))  # for a line, in pixels
    captions, rows = [_lines(text or "no context", font, room) for text in prompts], []
    for i in range(0, len(images), columns):
        row = images[i : i + columns]
        high = h + 8 + 14 * max(map(len, captions[i : i + columns]))
        cells = np.full((len(row), high, room + 8, 3), 255, np.uint8)
        left = 4 + (room - w) // 2
        cells[:, 4 : h + 4, left : left + w] = row
        for cell, text, lines in zip(cells, prompts[i:], captions[i:], strict=False):
            canvas = Image.fromarray(cell)
            for j, line in enumerate(lines):
                place, grey = (4 + room / 2, h + 5 + 14 * j), 0 if text else 118
                ImageDraw.Draw(canvas).text(place, line, (grey,) * 3, font, anchor="ma")
            cell[:] = canvas
        rows.append(_tile(cells, columns, 1))
    return np.concatenate(rows)


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
    if not isinstance(moments, Sequence):
        m = min(whole("moments", moments, 1), n)
        moments = [round((n - 1) * i / (m - 1)) for i in range(m)] if m > 1 else [-1]
    chosen = [i for i in moments if isinstance(i, int | np.integer) and -n <= i < n]
    if not chosen or len(chosen) < len(moments):
        refuse("moments", f"a number, or indices into {n} frames,", moments)
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
    the last one best; fewer colours make a smaller file. Equal frames are kept. path:
    the bytes are also written there, atomically, in a folder made if need be. Raises
    ValueError as `grid` does, and for shapes, numbers or a path that make no GIF.
    """
    # Before frames, which may be a sampler at work.
    columns = None if columns is None else whole("columns", columns, 1, 65_535)
    scale, colors = whole("scale", scale, 1, 65_535), whole("colors", colors, 2, 256)
    ms, hold_ms = whole("ms", ms, 10, 655_350), whole("hold_ms", hold_ms, 10, 655_350)
    named = isinstance(path, str | Path) and Path(path).suffix.lower() == ".gif"
    if path is not None and not named:
        refuse("path", "a path that ends in .gif", path)
    film = np.stack([_tile(x, columns, 1) for x in _film(frames)])  # (F,h,w,3)
    if max(film.shape[1:3]) * scale > 65_535:
        refuse("scale", "a picture of at most 65535 pixels a side", scale)
    for limit in (min(colors, 255), min(colors, 128)):  # 128 leave a twin for each
        index, palette = _quantise(film, limit)
        big = index.repeat(scale, 1).repeat(scale, 2)
        palette = _keep_equal_frames(big, palette)
        if len(palette) <= 256:
            break
    times = [round(ms, -1)] * (len(big) - 1) + [round(hold_ms, -1)]
    # Indices: with mode "P" Pillow spends 27 ms a frame on the palette.
    ways = {"mode": "L", "is_batch": True, "palette": palette.tobytes()}
    ways |= dict(duration=times if len(times) > 1 else times[0], loop=0)
    data = iio.imwrite("<bytes>", big, extension=".gif", plugin="pillow", **ways)
    if path is not None:
        with replacing(path) as part:
            part.write_bytes(data)
    return data


def plot(
    curves: Mapping[str, Sequence[float] | Tensor],
    x: Sequence[float] | Tensor | None = None,
    xlabel: str = "",
    ylabel: str = "",
    log: str = "",
    size: tuple[float, float] = (4.5, 3.0),
) -> bytes:
    """Curves with a legend, as the bytes of a PNG for `show`, which wants its alt text.

    curves: {label: N values}; x: their N places, None for 0, 1, 2, …; log: which axes
    are logarithmic, "", "x", "y" or "xy"; size: in hundreds of pixels. Raises
    ValueError for a curve that is not as long as x, or is not finite.
    """
    if not isinstance(curves, Mapping):
        refuse("curves", "{label: numbers}", curves)
    if log not in ("", "x", "y", "xy"):
        refuse("log", "'', 'x', 'y' or 'xy'", log)
    if not isinstance(size, tuple) or len(size) != 2:
        refuse("size", "(width, height)", size)
    places = None if x is None else finite("x", x)
    figure = Figure(figsize=size, dpi=100, layout="constrained")
    axes = figure.subplots()
    axes.set(xlabel=xlabel, ylabel=ylabel)
    for axis in log:
        axes.set(**{f"{axis}scale": "log"})
    for i, (label, values) in enumerate(curves.items()):
        y = finite(f"curves[{label!r}]", values)
        places = torch.arange(len(y)) if x is None else places
        if len(y) != len(places):
            refuse(f"curves[{label!r}]", f"a number for each of {len(places)} x", y)
        style = {"color": COLOURS[i % len(COLOURS)], "ls": LINES[i % len(LINES)]}
        axes.plot(places, y, label=label, marker="." if len(y) < 20 else None, **style)
    if any(curves):
        axes.legend(frameon=False)
    axes.grid(alpha=0.25)
    return png(figure)


def png(figure: Figure, colours: int = 32) -> bytes:
    """A matplotlib figure as the bytes of a small PNG of so many colours."""
    figure.savefig(file := io.BytesIO())
    return _small_png(Image.open(file), colours, Image.Quantize.MEDIANCUT)


def _small_png(picture: Image.Image, colours: int, method: Image.Quantize) -> bytes:
    picture = picture.convert("RGB")
    picture = picture.quantize(colours, method, dither=Image.Dither.NONE)
    picture.save(file := io.BytesIO(), "PNG", optimize=True)
    return file.getvalue()


def show(
    *pictures: np.ndarray | Tensor | bytes | str | Path,
    titles: str | Sequence[str] | None = None,
    alt: str | Sequence[str] | None = None,
    columns: int | None = None,
    scale: int = 4,
    colors: int | None = None,
) -> None:
    """Stills and moving pictures side by side in a notebook, each above its title.

    A picture is a uint8 array (H,W,3), a tensor (B,C,H,W) in [-1, 1] (laid out by
    `grid`), the bytes of a GIF or PNG, or the path of one. titles, alt: one text for
    each picture; alt says in words what is to be seen, and where it is left out the
    title does. colors: an array or a tensor is shown in so many, 2 to 256, for half the
    size; None keeps all. Emits one HTML output, with the alt texts as plain text beside
    it; outside IPython it prints those. Raises ValueError for all else and a missing
    alt.
    """
    html_, plain = markup(pictures, titles, alt, columns, scale, colors)
    if "IPython" in sys.modules and sys.modules["IPython"].get_ipython():
        from IPython.display import display

        display({"text/html": html_, "text/plain": plain}, raw=True)
    else:
        print(plain)


def markup(
    pictures, titles=None, alt=None, columns=None, scale=4, colors=None
) -> tuple[str, str]:
    """What `show` shows, as HTML and as plain text."""
    colors = None if colors is None else whole("colors", colors, 2, 256)
    if not pictures:
        refuse("pictures", "one picture or more", pictures)
    titles = _texts("titles", titles or [""] * len(pictures), len(pictures))
    alts = _texts("alt", alt or titles, len(pictures))
    figures = []
    for i, (title, words) in enumerate(zip(titles, alts, strict=True)):
        if not words.strip():
            refuse("alt", f"a text that says what pictures[{i}] shows", alt)
        kind, data = _encoded(pictures[i], f"pictures[{i}]", columns, scale, colors)
        figures.append(
            '<figure style="display:inline-block;margin:0 1em 0 0;max-width:100%">'
            f'<img alt="{html.escape(words)}" style="max-width:100%;'
            f'image-rendering:pixelated" src="data:image/{kind};base64,'
            f'{base64.b64encode(data).decode()}">'
            + (f"<figcaption>{html.escape(title)}</figcaption>" if title else "")
            + "</figure>"
        )
    return f"<div>{''.join(figures)}</div>", "\n".join(alts)


def progress(steps: Iterable, total: int | None = None, label: str = "") -> Iterator:
    """The items of steps, unchanged, with a bar on stdout that leaves one line.

    total=None takes len(steps) where there is one. The bar closes when the items end,
    the source raises or the reader stops. No item is held, and gradient mode is left
    alone. Raises ValueError if steps is not iterable or total is negative.
    """
    if not isinstance(steps, Iterable):
        refuse("steps", "a sampler or a sequence, such as ddim(...),", steps)
    if total is None and hasattr(steps, "__len__"):
        total = len(steps)
    total = None if total is None else whole("total", total, 0)

    def loop() -> Iterator:  # begins with the first item
        def tick(item):
            bar.update()
            return item

        look = {"unit": " steps", "file": sys.stdout, "ncols": 79, "position": 0}
        with _Bar(total=total or None, desc=label or None, miniters=1, **look) as bar:
            yield from map(tick, steps)  # holds no item, as a loop's variable would

    return loop()


class _Bar(tqdm):
    monitor_interval = 0  # no thread


def _pixels(x: Tensor, name: str) -> np.ndarray:
    """(B,C,H,W) in [-1, 1] -> uint8 (B,H,W,3), never scaled to what x holds."""
    shaped(name, x, "B", "C", "H", "W")
    if x.shape[1] not in (1, 3):
        refuse(name, "(B,C,H,W) with C = 1 or 3", x)
    x = x.detach().float()
    if x.isnan().any():
        raise ValueError(f"{name} holds NaN, which has no colour; look for its source")
    x = ((x + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return x.permute(0, 2, 3, 1).expand(-1, -1, -1, 3).cpu().numpy()


def _film(frames: Iterable[Tensor]) -> np.ndarray:
    """Tensors (B,C,H,W) of one shape -> uint8 (F,B,H,W,3)."""
    film = []
    for i, x in enumerate(frames if isinstance(frames, Iterable) else ()):
        film.append(_pixels(x, f"frames[{i}]"))
        if film[i].shape != film[0].shape:
            b, h, w, _ = film[0].shape
            needed = f"one shape for all, as frames[0] with B,H,W = {b},{h},{w},"
            refuse(f"frames[{i}]", needed, x)
    if not film:
        refuse("frames", "one tensor (B,C,H,W) or more, in a row,", frames)
    return np.stack(film)


def _tile(images: np.ndarray, columns: int | None, scale: int) -> np.ndarray:
    """uint8 (B,H,W,3) -> uint8 (rows*H*scale, columns*W*scale, 3)."""
    b, h, w, _ = images.shape
    scale = whole("scale", scale, 1)
    if columns is None:
        root = math.ceil(math.sqrt(b))
        full = (c for c in range(root, int(2.5 * math.sqrt(b)) + 1) if b % c == 0)
        columns = next(full, root)
    columns = whole("columns", columns, 1)
    rows = math.ceil(b / columns)
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
    wanted = Image.new("P", (1, 1))
    wanted.putpalette(np.resize(palette, (256, 3)).tobytes())  # its colours, in a ring
    tall = Image.fromarray(film.reshape(-1, *film.shape[2:]))
    index = np.array(tall.quantize(palette=wanted, dither=Image.Dither.NONE))
    index = (index.ravel() % len(kept)).astype(np.uint8)
    # What Pillow finds is near; a colour of the palette itself becomes just that.
    own = np.searchsorted(kept, code).clip(max=len(kept) - 1)
    index = np.where(kept[own] == code, own, index).astype(np.uint8)
    return index.reshape(film.shape[:3]), palette


def _rgb(code: np.ndarray) -> np.ndarray:
    return np.stack([code >> 16, code >> 8 & 255, code & 255], -1).astype(np.uint8)


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


def _encoded(picture, name: str, columns, scale, colors) -> tuple[str, bytes]:
    """A picture as `show` takes it -> ("png" or "gif", its bytes)."""
    if isinstance(picture, Tensor):
        picture = grid(picture, columns, scale)
    elif isinstance(picture, str | Path):
        picture = Path(picture).read_bytes()
    if isinstance(picture, np.ndarray):
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
            refuse(name, "uint8 (H,W,3)", picture)
        if colors:
            rare = Image.Quantize.MAXCOVERAGE  # keeps these too
            return "png", _small_png(Image.fromarray(picture), colors, rare)
        return "png", iio.imwrite("<bytes>", picture, extension=".png", plugin="pillow")
    for kind, start in (("png", b"\x89PNG\r\n"), ("gif", b"GIF8")):
        if isinstance(picture, bytes) and picture.startswith(start):
            return kind, picture
    refuse(name, "an array, a tensor, a path, or the bytes of a GIF or a PNG", picture)


def _texts(name: str, texts: str | Sequence[str], n: int) -> list[str]:
    texts = [texts] if isinstance(texts, str) else texts
    several = isinstance(texts, Sequence) and len(texts) == n
    if not several or not all(isinstance(text, str) for text in texts):
        refuse(name, f"{n} texts, one for each picture,", texts)
    return texts


def _lines(text: str, font: ImageFont.FreeTypeFont, room: int) -> list[str]:
    """text in lines of at most room pixels, broken inside a word only if need be."""
    for n in range(min(len(text), room // 3), 0, -1):  # characters in a line
        lines = textwrap.wrap(text, n, break_on_hyphens=False)
        if all(font.getlength(line) <= room for line in lines):
            break
    return lines
