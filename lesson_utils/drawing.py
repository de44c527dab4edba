"""A ContextUnet as a drawing: its layers with their names, and what they compute."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor, nn

from .support import lettering
from .support.checked import checked, fit, multiple, optional, refuse, tensor, whole
from .support.rules import shaped_as, sizes_rule
from .viz import COLOURS, grid, png, showable

# Pairs of layers of a ContextUnet, from the top of the U: how far from the side and the
# top they stand, in maps of full size, how many channels are shown of each, how much
# larger than the others, and the name of the line between the two.
STAIRS = {
    ("down1", "up1"): (2.5, 0.5, 8, 1, "skip connection"),
    ("down2b", "up2b"): (5.5, 3.1, 16, 1, "skip connection"),
    ("down3", "up3"): (5.8, 5.85, 16, 2, "attention"),
}


def a_u(value: object) -> bool:
    """Whether a value has the layers of a ContextUnet, as a lesson's own class has."""
    names = [name for pair in STAIRS for name in pair]
    return isinstance(value, nn.Module) and all(hasattr(value, name) for name in names)


@checked(
    model=fit(a_u, "a network with the layers of ContextUnet"),
    x=showable,
    t=tensor("B", like="x", span="[0, 1]", words="times t/T in (0, 1]"),
    c=optional(tensor("B model.context_size", like="x", cast=True)),
    guess=optional(shaped_as("x")),
)
@torch.no_grad()
def as_u(
    model: nn.Module,
    x: Tensor,
    t: Tensor,
    c: Tensor | None = None,
    guess: Tensor | None = None,
) -> Tensor:
    """What a ContextUnet computes from each image, drawn as a U: one page an image.

    x (B,C,H,W), t (B,) t/T and c (B,K) or None are its input; guess (B,C,H,W) is shown
    on the right, such as the guesses of x_0, and None means the output. A small square
    is one channel of a layer, orange above 0 and blue below; a layer has one scale for
    all pages. Returns (B,3,h,w) in [-1, 1]: `pages.split(1)` are frames for `gif`.
    Raises ValueError for a network without the layers of a ContextUnet and for input
    that does not fit.
    """
    maps = {}

    def note(name):
        return lambda module, inputs, output: maps.update({name: output.cpu()})

    names = [name for pair in STAIRS for name in pair]
    hooks = [getattr(model, n).register_forward_hook(note(n)) for n in names]
    try:
        output = model(x, t, c)
    finally:
        for hook in hooks:
            hook.remove()
    maps = {name: each / (1.5 * each.std() + 1e-8) for name, each in maps.items()}
    right = output if guess is None else guess
    pages = []
    for i in range(len(x)):
        of_one = {name: each[i] for name, each in maps.items()}
        pages.append(page_of(x[i], right[i], of_one))
    return torch.from_numpy(np.stack(pages)).permute(0, 3, 1, 2) / 127.5 - 1


def page_of(x: Tensor, guess: Tensor, maps: Mapping[str, Tensor]) -> np.ndarray:
    """One page of `as_u`, uint8 (h,w,3), of x and guess (C,H,W) and maps (c,h,w)."""
    scale = max(1, round(48 / max(x.shape[1:])))
    v, u = scale * x.shape[1], scale * x.shape[2]  # pixels of a map of full size
    page = Image.new("RGB", (18 * u + 16, round(8.9 * v) + 24), "white")
    pen = ImageDraw.Draw(page)
    for image, text, left in ((x, "x_t", 8), (guess, "guess", 16 * u + 8)):
        page.paste(Image.fromarray(grid(image[None], scale=2 * scale)), (left, 24))
        write(pen, (left, 18), text)
    for (down, up), (start, top, n, larger, between) in STAIRS.items():
        high = round(top * v) + 24
        one, other = (
            Image.fromarray(tinted(maps[name], n, larger * scale))
            for name in (down, up)
        )
        left = round(start * u)
        right = page.width - left - other.width
        page.paste(one, (left, high))
        page.paste(other, (right, high))
        channels, *size = maps[down].shape
        shown = f"{down}: {n} of {channels}, {size[0]}×{size[1]}"
        write(pen, (left, high - 6), shown)
        write(pen, (right, high - 6), up)
        ends = (left + one.width + 8, right - 8)
        pen.line([(end, high + one.height // 2) for end in ends], "#aaaaaa", 2)
        middle = (page.width - round(lettering.length(between))) // 2
        write(pen, (middle, high + one.height // 2 - 6), between)
    return np.asarray(page)


def write(pen: ImageDraw.ImageDraw, place: tuple[float, float], text: str) -> None:
    """A line of small letters, from the left end of its base line."""
    x, y = place
    for font, piece in lettering.runs(text):
        pen.text((x, y), piece, "#333333", font, "ls")
        x += font.getlength(piece)


def tinted(maps: Tensor, n: int, scale: int) -> np.ndarray:
    """n of the maps (c,h,w), four in a row, uint8: orange for 1, blue for -1."""
    maps = maps[:: max(1, len(maps) // n)][:n].float().clamp(-1, 1)
    maps = (4 * maps).round() / 4  # nine colours make a small file
    maps = nn.functional.pad(maps, (0, 1, 0, 1))[:, None]  # a white edge
    full = [torch.tensor([*bytes.fromhex(colour[1:])]) for colour in COLOURS[:2]]
    blue, orange = (2 - each.view(3, 1, 1) / 127.5 for each in full)
    colours = 1 - maps.clamp(min=0) * orange + maps.clamp(max=0) * blue
    return grid(colours, columns=4, scale=scale)


# The boxes of `u_diagram`: how far right they stand, on which level, and their channels
# in widths (0: those of an image).
BOXES = {
    "stem": (1.55, 0, 1),
    "down1": (2.6, 0, 1),
    "down2": (2.6, 1, 2),
    "down2b": (3.6, 1, 2),
    "down3": (3.6, 2, 2),
    "attention": (4.6, 2, 2),
    "up3": (5.6, 2, 2),
    "up2b": (5.6, 1, 2),
    "up2": (6.6, 1, 1),
    "up1": (6.6, 0, 1),
    "head": (7.65, 0, 0),
}
LEVELS = (3.95, 2.45, 0.95)  # how high these are
BLUE, ORANGE, GREEN, PINK, GREY = *COLOURS[:4], "#5a5a5a"
KINDS = {"stem": GREY, "head": GREY, "attention": ORANGE}  # the others are ResBlocks
FLOWS = [  # from … to, all in hundreds of pixels
    ((0.75, 3.95), (1.13, 3.95)),
    ((1.97, 3.95), (2.18, 3.95)),
    ((2.6, 3.62), (2.6, 2.78)),
    ((3.02, 2.45), (3.18, 2.45)),
    ((3.6, 2.12), (3.6, 1.28)),
    ((4.02, 0.95), (4.18, 0.95)),
    ((5.02, 0.95), (5.18, 0.95)),
    ((5.6, 1.28), (5.6, 1.6)),
    ((5.6, 1.8), (5.6, 2.12)),
    ((6.02, 2.45), (6.18, 2.45)),
    ((6.6, 2.78), (6.6, 3.1)),
    ((6.6, 3.3), (6.6, 3.62)),
    ((7.02, 3.95), (7.23, 3.95)),
    ((8.07, 3.95), (8.3, 3.95)),
    ((8.5, 3.95), (8.73, 3.95)),
]
EMBEDDED = [
    ((1.73, 1.42), (2.13, 1.14)),
    ((1.73, 0.48), (2.13, 0.76)),
    ((2.37, 0.95), (2.68, 0.95)),
]
SKIPS = [  # around what corners
    [(2.6, 3.2), (6.5, 3.2)],
    [(3.6, 1.7), (5.5, 1.7)],
    [(0.45, 4.2), (0.45, 4.62), (8.4, 4.62), (8.4, 4.05)],
]
SUMS = [(5.6, 1.7), (6.6, 3.2), (8.4, 3.95), (2.25, 0.95)]


@checked(width=multiple(16), context_size=whole(0, 2**20))
def u_diagram(
    image_shape: Sequence[int], width: int = 48, context_size: int = 0
) -> bytes:
    """The layers of a ContextUnet as a labelled drawing, the bytes of a PNG for `show`.

    image_shape: (C,H,W), which are multiples of 4; width: channels of full size;
    context_size: K. A box is a layer with the channels of its output. Raises ValueError
    for other numbers.
    """
    from matplotlib import rc_context  # slow to import
    from matplotlib.figure import Figure

    sizes = sizes_rule("image_shape", image_shape, None)
    if len(sizes) != 3 or sizes[1] % 4 or sizes[2] % 4:
        refuse("image_shape", "(C,H,W), H and W multiples of 4,", image_shape)
    channels, high, wide_ = sizes
    with rc_context({"font.family": lettering.families(["×·ε"])}):
        figure = Figure(figsize=(9.2, 4.95), dpi=100)
        axes = figure.add_axes((0, 0, 1, 1), xlim=(0, 9.2), ylim=(0, 4.95))
        axes.axis("off")
        flows(axes)
        for name, (x, level, times) in BOXES.items():
            y, colour = LEVELS[level], KINDS.get(name, BLUE)
            box(axes, x, y, f"{name}\n{times * width or channels}", colour)
            if colour == BLUE:
                axes.plot(x - 0.36, y + 0.27, "o", color=PINK, markersize=8)
        for level, y in zip((1, 2, 4), (3.95, 2.45, 1.42), strict=True):
            size = f"{high // level}×{wide_ // level}"
            axes.text(4.6, y, size, ha="center", va="center", size=14)
        lettered(axes, channels, 4 * width, context_size)
        return png(figure)


def box(axes, x: float, y: float, text: str, colour: str, wide_: float = 0.84) -> None:
    """A box with two lines of text, light inside and dark at its edge."""
    from matplotlib.patches import Rectangle

    light = [(int(colour[i : i + 2], 16) // 2 + 128) / 255 for i in (1, 3, 5)]
    fill = "#ececec" if colour == GREY else light
    corner = (x - wide_ / 2, y - 0.33)
    look = {"facecolor": fill, "edgecolor": colour, "linewidth": 1.5, "zorder": 2}
    axes.add_patch(Rectangle(corner, wide_, 0.66, **look))
    axes.text(x, y - 0.02, text, ha="center", va="center", size=10, linespacing=1.4)


def flows(axes) -> None:
    """The arrows of `u_diagram`, and the places where two things are added."""
    arrow = {"arrowstyle": "-|>", "shrinkA": 0, "shrinkB": 0, "linewidth": 1.5}
    for colour, pairs in ((GREY, FLOWS), (PINK, EMBEDDED)):
        for start, end in pairs:
            axes.annotate("", end, start, arrowprops=arrow | {"color": colour})
    for corners in SKIPS:
        colour = GREEN if len(corners) == 2 else GREY  # grey: around everything
        axes.plot(*zip(*corners[:-1], strict=True), color=colour, linewidth=1.5)
        last = arrow | {"color": colour}
        axes.annotate("", corners[-1], corners[-2], arrowprops=last)
    for x, y in SUMS:
        look = {"markerfacecolor": "white", "markeredgecolor": GREY}
        axes.plot(x, y, "o", markersize=14, **look)
        axes.text(x, y - 0.01, "+", ha="center", va="center", size=12)


def lettered(axes, channels: int, dim: int, context_size: int) -> None:
    """The words of `u_diagram` beside its boxes."""
    box(axes, 0.95, 1.5, "time t: sines,\n2 linear layers", PINK, 1.5)
    context = f"context c: {context_size},\n1 linear layer"
    box(axes, 0.95, 0.4, context if context_size else "no context", PINK, 1.5)
    for x, y in ((2.8, 0.95), (8.4, 4.38)):
        axes.plot(x, y, "o", color=PINK, markersize=8, zorder=3)
    words = [
        (0.4, 3.95, f"x_t\n{channels}", "center"),
        (8.95, 3.95, f"ε\n{channels}", "center"),
        (4.6, 4.74, "x_t itself, times own", "center"),
        (8.62, 3.45, "plus the head,\ntimes 1 + rest", "center"),
        (8.52, 4.38, "mix", "left"),
        (4.6, 3.32, "skip connection", "center"),
        (4.6, 1.82, "skip connection", "center"),
        (2.5, 2.98, "half the size", "right"),
        (3.5, 1.48, "half the size", "right"),
        (6.75, 3.0, "twice the size", "left"),
        (5.75, 1.4, "twice the size", "left"),
        (7.0, 1.05, "blue: ResBlock", "left"),
        (7.0, 0.8, "orange: Attention", "left"),
        (7.0, 0.45, f"pink dot: {dim} numbers of\ntime and context enter here", "left"),
    ]
    for x, y, text, side in words:
        axes.text(x, y, text, ha=side, va="center", size=9)
