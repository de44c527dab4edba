"""Images in a notebook: stills, trajectories, curves, and a progress bar.

Images are float tensors (B,C,H,W) in [-1, 1], C = 1 or 3. Their way to pixels is fixed:
-1 is 0, 1 is 255. An image that leaves this range, or never fills it, shows it.
"""

import base64
import html
import io
import math
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from .support import lettering
from .support.bar import progress as progress
from .support.checked import (
    checked,
    choice,
    each,
    fit,
    instance,
    optional,
    refuse,
    whole,
)
from .support.files import located
from .support.rules import images, numbers
from .support.words import counted

# Told apart without colour vision too (Okabe & Ito 2008), and by their dashes.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
LINES = ("-", "--", "-.", ":")
GREYS = (255, 236, 170, 90, 0)  # of plots: ground, grid, the edges of letters, ink
LONGEST_PROMPT = 200  # characters
ROOM, GAP = 920, 14  # pixels of a page for pictures side by side, and between two
DENSITY = 192  # dots an inch: of pictures that are drawn at twice their size


# Rules for arguments


def showable(name: str, value: object, call=None) -> Tensor:
    """Images that have colours: one or three channels, and no NaN."""
    images(name, value, call)
    if value.shape[1] not in (1, 3):
        refuse(name, "(B,C,H,W) with C = 1 or 3", value)
    if value.isnan().any():
        raise ValueError(f"{name} holds NaN, which has no colour; look for its source")
    return value


def texts(name: str, value: object, n: int) -> list[str]:
    """One text for each of n pictures; for one alone it may stand by itself."""
    listed = [value] if isinstance(value, str) else value
    several = isinstance(listed, Sequence) and len(listed) == n
    if not several or not all(isinstance(text, str) for text in listed):
        refuse(name, f"{counted(n, 'text')}, one for each picture,", listed)
    return list(listed)


def prompts_for_x(name: str, value: object, call) -> list[str]:
    """A prompt for each of the images x, none of them too long for a caption."""
    prompts = [text.strip() for text in texts(name, value, len(call["x"]))]
    longest = max(prompts, key=len)
    if len(longest) > LONGEST_PROMPT:
        refuse(name, f"texts of at most {LONGEST_PROMPT} characters", longest)
    return prompts


def two_lengths(value: object) -> bool:
    """Whether a value is a width and a height."""
    pair = isinstance(value, tuple) and len(value) == 2
    return pair and all(isinstance(n, Real) and 0 < n < math.inf for n in value)


some_columns = optional(whole(1))
some_frames = instance(Iterable, "one tensor (B,C,H,W) or more, in a row,")


# Stills


@checked(x=showable, columns=some_columns, scale=whole(1))
def grid(x: Tensor, columns: int | None = None, scale: int = 4) -> np.ndarray:
    """x (B,C,H,W) in [-1, 1], row by row -> uint8 (rows*H*scale, columns*W*scale, 3).

    Values outside [-1, 1] are cut off for display only; x stays as it is. Places with
    no image are white. columns=None: about a square, and rather wide than high. Raises
    ValueError if x is not such a tensor, is empty or holds NaN.
    """
    return tile(pixels(x), columns, scale)


@checked(x=showable, prompts=prompts_for_x, columns=some_columns, scale=whole(1))
def sheet(
    x: Tensor, prompts: Sequence[str], columns: int | None = None, scale: int = 4
) -> np.ndarray:
    """Like `grid`, with each image's prompt beneath it, as uint8 (H,W,3) for `show`.

    x: (B,C,H,W) in [-1, 1]; prompts: B texts of at most 200 characters. A long one is
    broken into lines, "" reads "no context" in grey; where no font of this machine has
    a letter, its number stands there, such as U+732B. All rows are equally high: images
    that are compared place by place belong into one sheet. Raises ValueError as `grid`
    does.
    """
    stills = pixels(x).repeat(scale, 1).repeat(scale, 2)
    prompts = [lettering.spelt(prompt) for prompt in prompts]
    words = " ".join(prompts).split()
    longest = max(map(lettering.length, words), default=0)
    room = max(stills.shape[2], 64, min(128, math.ceil(longest)))  # for a line
    return tile(captioned(stills, prompts, room), columns, 1)


@checked(frames=some_frames, scale=whole(1))
def strip(
    frames: Iterable[Tensor], moments: int | Sequence[int] = 8, scale: int = 4
) -> np.ndarray:
    """Moments of a trajectory side by side: one row an image, one column a moment.

    frames: tensors (B,C,H,W) in [-1, 1], one shape. moments: how many, evenly spread
    from the first frame to the last (all if there are fewer), or a list of indices.
    Returns uint8 (B*H*scale, moments*W*scale, 3). Raises as `grid` does.
    """
    film = film_pixels(frames)  # (F,B,H,W,3)
    chosen = chosen_frames(moments, len(film))
    rows = film[chosen].swapaxes(0, 1)  # (B,M,H,W,3)
    return tile(rows.reshape(-1, *film.shape[2:]), len(chosen), scale)


def chosen_frames(moments: int | Sequence[int], n: int) -> list[int]:
    """The indices, among n frames, of so many moments or of those that are named."""
    if not isinstance(moments, Sequence):
        m = min(whole(1)("moments", moments), n)
        return [round((n - 1) * i / (m - 1)) for i in range(m)] if m > 1 else [-1]
    try:
        return list(each(whole(-n, n - 1))("moments", moments))
    except ValueError:
        refuse("moments", f"a number, or indices into {n} frames,", moments)


@checked(
    curves=instance(Mapping, "{label: numbers}"),
    log=choice("", "x", "y", "xy"),
    size=fit(two_lengths, "(width, height)"),
)
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
    are logarithmic, "", "x", "y" or "xy"; size: in hundreds of pixels, of which the PNG
    has twice as many for sharp screens. Raises ValueError for a curve that is not as
    long as x, or is not finite.
    """
    from matplotlib import rc_context  # slow to import

    words = [written(text) for text in (xlabel, ylabel, *curves)]
    with rc_context({"font.family": lettering.families(words)}):
        return png(figure_of(curves, x, words, log, size))


def figure_of(curves, x, words: Sequence[str], log: str, size: tuple[float, float]):
    """The matplotlib Figure of `plot`; words: of the axes, then of the curves."""
    from matplotlib.figure import Figure

    places = None if x is None else numbers("x", x)
    figure = Figure(figsize=size, dpi=100, layout="constrained")
    axes = figure.subplots()
    axes.set(xlabel=words[0], ylabel=words[1])
    for axis in log:
        axes.set(**{f"{axis}scale": "log"})
    for i, (label, values) in enumerate(curves.items()):
        y = numbers(f"curves[{label!r}]", values)
        at = torch.arange(len(y)) if places is None else places
        if len(y) != len(at):
            refuse(f"curves[{label!r}]", f"a number for each of {len(at)} x", y)
        style = {"color": COLOURS[i % len(COLOURS)], "ls": LINES[i % len(LINES)]}
        axes.plot(at, y, marker="." if len(y) < 20 else None, **style)
    axes.grid(alpha=0.25)
    if any(curves):
        name_curves(figure, axes, words[2:])
    return figure


def name_curves(figure, axes, names: Sequence[str]) -> None:
    """A legend where no curve is: among them, or above them if they leave no room."""
    legend = axes.legend(axes.lines, names, frameon=False)
    figure.draw_without_rendering()  # puts everything in its place
    box = legend.get_window_extent().padded(4)
    drawn = [
        line.get_transform().transform_path(line.get_path()) for line in axes.lines
    ]
    if any(path.intersects_bbox(box, filled=False) for path in drawn):
        legend.remove()
        for columns in range(len(names), 0, -1):
            place = {"loc": "outside upper center", "ncols": columns}
            legend = figure.legend(axes.lines, names, frameon=False, **place)
            figure.draw_without_rendering()
            if columns == 1 or legend.get_window_extent().width < figure.bbox.width:
                break
            legend.remove()


def written(text: str) -> str:
    """text as matplotlib shall draw it: letters that it has, and no formulas."""
    return lettering.spelt(text).replace("$", r"\$")


def png(figure) -> bytes:
    """A matplotlib Figure at twice its size, in few colours, as the bytes of a PNG."""
    file = io.BytesIO()
    figure.savefig(file, dpi=2 * figure.dpi)
    picture = Image.open(file).convert("RGB")
    palette = palette_of(np.asarray(picture))
    wanted = Image.new("P", (1, 1))
    wanted.putpalette(np.resize(palette, (256, 3)).tobytes())
    few = picture.quantize(palette=wanted, dither=Image.Dither.NONE)
    index = Image.fromarray(np.asarray(few) % len(palette))
    index.putpalette(palette.tobytes())
    return saved_png(index, dpi=(DENSITY, DENSITY))


def palette_of(plot: np.ndarray) -> np.ndarray:
    """Greys, and each of COLOURS that a plot (H,W,3) has, whole and half: (P,3)."""
    shades = [(grey,) * 3 for grey in GREYS]
    for colour in COLOURS:
        whole_one = np.frombuffer(bytes.fromhex(colour[1:]), np.uint8)
        if whole_one.any() and (plot == whole_one).all(-1).sum() > 20:
            shades += [whole_one, whole_one // 2 + 128]
    return np.array(shades, np.uint8)


def small_png(picture: Image.Image, colours: int, method: Image.Quantize) -> bytes:
    """A picture as the bytes of a PNG of so many colours."""
    few = picture.convert("RGB").quantize(colours, method, dither=Image.Dither.NONE)
    return saved_png(few)


def saved_png(picture: Image.Image, **more) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True, **more)
    return file.getvalue()


# In a notebook


@checked(
    pictures=fit(bool, "one picture or more"),
    columns=some_columns,
    scale=whole(1),
    colors=optional(whole(2, 256)),
)
def show(
    *pictures: np.ndarray | Tensor | bytes | str | Path,
    titles: str | Sequence[str] | None = None,
    alt: str | Sequence[str] | None = None,
    columns: int | None = None,
    scale: int = 4,
    colors: int | None = None,
) -> None:
    """Stills and moving images side by side in a notebook, each above its title.

    A picture is a uint8 array (H,W,3), a tensor (B,C,H,W) in [-1, 1] (laid out by
    `grid`), the bytes of a GIF or PNG, or the path of one. titles, alt: one text for
    each picture; alt says in words what is to be seen, and where it is left out the
    title does. scale: of tensors, or less where they would not stand side by side in a
    page. colors: an array or a tensor is shown in so many, 2 to 256, for half the size;
    None keeps all. Emits one HTML output, with the alt texts as plain text beside it;
    outside IPython it prints those. Raises ValueError for all else and a missing alt.
    """
    page, plain = markup(pictures, titles, alt, columns, scale, colors)
    if "IPython" in sys.modules and sys.modules["IPython"].get_ipython():
        from IPython.display import display

        display({"text/html": page, "text/plain": plain}, raw=True)
    else:
        print(plain)


def markup(
    pictures, titles=None, alt=None, columns=None, scale=4, colors=None
) -> tuple[str, str]:
    """What `show` shows, as HTML and as plain text."""
    titles = texts("titles", titles or [""] * len(pictures), len(pictures))
    alts = texts("alt", alt or titles, len(pictures))
    for i, words in enumerate(alts):
        if not words.strip():
            refuse("alt", f"a text that says what pictures[{i}] shows", alt)
    known = [known_picture(p, f"pictures[{i}]") for i, p in enumerate(pictures)]
    scale = fitting(known, columns, scale)
    figures = []
    for i, picture in enumerate(known):
        data = encoded(picture, columns, scale, colors)
        last = i == len(known) - 1
        figures.append(figure_tag(data, titles[i], alts[i], last))
    look = f"display:flex;flex-wrap:wrap;align-items:flex-start;column-gap:{GAP}px"
    return f'<div style="{look}">{"".join(figures)}</div>', "\n".join(alts)


def figure_tag(data: bytes, title: str, words: str, last: bool) -> str:
    """An image above its title, which takes more room than that only if it is last."""
    width, smooth = size_shown(data)
    look = f"margin:0;max-width:100%;flex:{int(last)} 1 {max(width, 100)}px"
    caption = f"<figcaption>{html.escape(title)}</figcaption>" if title else ""
    drawn = f'width="{width}" style="max-width:100%;image-rendering:'
    drawn += "auto" if smooth else "pixelated"
    source = data_url(kind_of(data), data)
    image = f'<img alt="{html.escape(words)}" {drawn}" src="{source}">'
    return f'<figure style="{look}">{image}{caption}</figure>'


def data_url(kind: str, data: bytes) -> str:
    """The bytes of a PNG or a GIF as the address of an image."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def known_picture(picture, name: str) -> Tensor | np.ndarray | bytes:
    """A picture as `show` takes it; a file as its bytes."""
    if isinstance(picture, Tensor):
        return showable(name, picture)
    if isinstance(picture, str | Path):
        path = located(picture, name)
        if not path.is_file():
            refuse(name, "the path of a GIF or a PNG that is there", str(picture))
        picture = path.read_bytes()
    if isinstance(picture, np.ndarray):
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
            refuse(name, "uint8 (H,W,3)", picture)
    elif not isinstance(picture, bytes) or not kind_of(picture):
        needed = "an array, a tensor, a path, or the bytes of a GIF or a PNG"
        refuse(name, needed, picture)
    return picture


def kind_of(data: bytes) -> str | None:
    """What the bytes of an image are, "png" or "gif", if either."""
    if data.startswith(b"\x89PNG\r\n"):
        return "png"
    return "gif" if data.startswith(b"GIF8") else None


def size_shown(data: bytes) -> tuple[int, bool]:
    """The width of a GIF or PNG in a page, and whether it is drawn at twice that."""
    picture = Image.open(io.BytesIO(data))
    dense = round(picture.info.get("dpi", (0, 0))[0]) == DENSITY
    return (picture.width // 2 if dense else picture.width), dense


def fitting(pictures: Sequence, columns: int | None, scale: int) -> int:
    """At most this scale: one at which the tensors stand beside the other pictures.

    If there is none above 1, one at which each of them fits alone.
    """
    tensors = [p for p in pictures if isinstance(p, Tensor)]
    widths = [(columns or wide(len(p))) * p.shape[3] for p in tensors]
    free = ROOM - GAP * (len(pictures) - 1)
    for picture in pictures:
        if isinstance(picture, np.ndarray):
            free -= picture.shape[1]
        elif isinstance(picture, bytes):
            free -= size_shown(picture)[0]
    together = free // max(sum(widths), 1)
    alone = ROOM // max(widths, default=1)
    return min(scale, together if together > 1 else max(alone, 1))


def encoded(picture: Tensor | np.ndarray | bytes, columns, scale, colors) -> bytes:
    """A picture as the bytes of a PNG or a GIF."""
    if isinstance(picture, bytes):
        return picture
    if isinstance(picture, Tensor):
        picture = tile(pixels(picture), columns, scale)
    if colors is not None:
        rare = Image.Quantize.MAXCOVERAGE  # keeps rare colours too
        return small_png(Image.fromarray(picture), colors, rare)
    return iio.imwrite("<bytes>", picture, extension=".png", plugin="pillow")


# Pixels


def pixels(x: Tensor) -> np.ndarray:
    """(B,C,H,W) in [-1, 1] -> uint8 (B,H,W,3), never scaled to what x holds."""
    x = x.detach().float()
    x = ((x + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return x.permute(0, 2, 3, 1).expand(-1, -1, -1, 3).cpu().numpy()


def film_pixels(frames: Iterable[Tensor]) -> np.ndarray:
    """Tensors (B,C,H,W) of one shape -> uint8 (F,B,H,W,3)."""
    film = []
    for i, x in enumerate(frames):
        film.append(pixels(showable(f"frames[{i}]", x)))
        if film[i].shape != film[0].shape:
            b, h, w, _ = film[0].shape
            needed = f"one shape for all, as frames[0] with B,H,W = {b},{h},{w},"
            refuse(f"frames[{i}]", needed, x)
    if not film:
        refuse("frames", some_frames.words, frames)
    return np.stack(film)


def tile(stills: np.ndarray, columns: int | None, scale: int) -> np.ndarray:
    """uint8 (B,H,W,3) -> uint8 (rows*H*scale, columns*W*scale, 3)."""
    b, h, w, _ = stills.shape
    columns = wide(b) if columns is None else columns
    rows = math.ceil(b / columns)
    places = np.full((rows * columns, h, w, 3), 255, np.uint8)
    places[:b] = stills
    whole_sheet = places.reshape(rows, columns, h, w, 3).swapaxes(1, 2)
    whole_sheet = whole_sheet.reshape(rows * h, columns * w, 3)
    return whole_sheet.repeat(scale, 0).repeat(scale, 1)


def wide(b: int) -> int:
    """The columns of a sheet of b images: about a square, and rather wide than high."""
    root = math.ceil(math.sqrt(b))
    full = (c for c in range(root, int(2.5 * math.sqrt(b)) + 1) if b % c == 0)
    return next(full, root)


def captioned(stills: np.ndarray, prompts: Sequence[str], room: int) -> np.ndarray:
    """uint8 (B,h,w,3) -> uint8 (B,H,W,3), equally high, with the prompts beneath."""
    b, h, w, _ = stills.shape
    captions = [broken(text or "no context", room) for text in prompts]
    high = h + 8 + 14 * max(map(len, captions))
    left = 4 + (room - w) // 2
    cells = np.full((b, high, room + 8, 3), 255, np.uint8)
    cells[:, 4 : h + 4, left : left + w] = stills
    for cell, text, lines in zip(cells, prompts, captions, strict=True):
        canvas = Image.fromarray(cell)
        grey = 0 if text else 118
        for j, line in enumerate(lines):
            x, y = 4 + (room - lettering.length(line)) / 2, h + 16 + 14 * j
            for font, piece in lettering.runs(line):
                ImageDraw.Draw(canvas).text((x, y), piece, (grey,) * 3, font, "ls")
                x += font.getlength(piece)
        cell[:] = canvas
    return cells


def broken(text: str, room: int) -> list[str]:
    """text in lines of at most room pixels, broken inside a word only if need be."""
    for n in range(min(len(text), room // 3), 0, -1):  # characters in a line
        lines = textwrap.wrap(text, n, break_on_hyphens=False)
        if all(lettering.length(line) <= room for line in lines):
            break
    return lines
