"""Draw the diagram of the whole into lessons/assets/: `python -m tools.overview`.

It has no background, because pages are white or dark: words stand on shapes only, white
on a colour that both kinds of page show. Numbers in circles are lessons.
"""

import re
from collections.abc import Iterator
from html import escape
from typing import NamedTuple

import torch

from lesson_utils import Schedule
from lesson_utils.sprites import SIZE, draw_sprites
from tools.lessons import LESSONS, ROOT

PATH = LESSONS / "assets" / "overview.svg"
WIDTH, HEIGHT = 1000, 556
TITLE = "How the lessons fit together"
FONT = "Helvetica, Arial, 'DejaVu Sans', sans-serif"
BOLD, PLAIN = 'font-size="15.5" font-weight="bold"', 'font-size="14.5"'
BLUE, ORANGE, GREEN = "#1f6fb5", "#b3541e", "#0f7b5c"
PURPLE, GREY, INK = "#9a4f96", "#6a737d", "#1f2328"

SPRITE = 3  # of seed 0
TIMES = [0, 60, 130, 220, 500]
LEFT = [40, 246, 452, 658, 864]  # edges of the images
TOP, DOT = 128, 6  # of the images; of one of their pixels
LABELS = ["image x_0", "x_60", "x_130", "x_220", "noise x_T"]


class Box(NamedTuple):
    """A rectangle with words: its corner, its size, lines of text, lessons."""

    x: int
    y: int
    width: int
    height: int
    colour: str
    lines: list[str]  # the first is bold, or ""; "_" lowers what follows it
    lessons: list[int]


STEPS = "DDPM 500 steps, DDIM 20"
ANSWER = ["the network guesses", "the noise in x_t"]
ASK = ["asks for a class, and", "for more of it"]
LEARN = ["compares the guess with ε,", "updates the weights"]
OUTSIDE = "out of the notebook: files, Diffusers, your own images"
BOXES = [
    Box(318, 12, 364, 38, BLUE, ["forward process: adds noise"], [1]),
    Box(318, 65, 364, 36, GREEN, ["inversion: from image to latent"], [9]),
    Box(318, 264, 364, 54, ORANGE, ["sampler: noise to image", STEPS], [2, 6]),
    Box(40, 316, 240, 54, GREY, ["speed and quality", "seconds, judge, FCD"], [7]),
    Box(720, 316, 240, 54, PURPLE, ["latent space", "noise as a code, slerp"], [8]),
    Box(385, 400, 230, 74, BLUE, ["context UNet", *ANSWER], [3]),
    Box(40, 400, 240, 74, PURPLE, ["context and guidance", *ASK], [5]),
    Box(720, 400, 240, 74, GREEN, ["training", *LEARN], [4]),
    Box(385, 506, 575, 38, GREY, [OUTSIDE], [12]),
    Box(40, 506, 240, 38, GREY, ["", "number in a circle: lesson"], []),
    Box(412, 346, 76, 26, GREY, ["", "x_t, t"], []),
    Box(512, 346, 76, 26, GREY, ["", "guess"], []),
    Box(297, 396, 62, 26, GREY, ["", "c, g"], []),
    Box(632, 396, 70, 26, GREY, ["", "weights"], []),
]
ARROWS = [  # a colour, and the corners of a line from its start to its point
    (BLUE, [(70, TOP), (70, 31), (310, 31)]),
    (BLUE, [(682, 31), (934, 31), (934, 120)]),
    (BLUE, [(934, 31), (984, 31), (984, 437), (968, 437)]),
    (GREEN, [(104, TOP), (104, 83), (310, 83)]),
    (GREEN, [(682, 83), (894, 83), (894, 120)]),
    (ORANGE, [(912, 252), (912, 291), (690, 291)]),
    (ORANGE, [(318, 291), (88, 291), (88, 260)]),
    (GREY, [(88, 291), (88, 308)]),
    (PURPLE, [(912, 291), (912, 308)]),
    (ORANGE, [(450, 318), (450, 392)]),
    (BLUE, [(550, 400), (550, 326)]),
    (PURPLE, [(280, 437), (377, 437)]),
    (GREEN, [(720, 437), (623, 437)]),
]


def svg() -> str:
    """The diagram, the same text each time."""
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}"'
        f' viewBox="0 0 {WIDTH} {HEIGHT}" font-family="{FONT}" text-anchor="middle">'
    )
    lines = [head, f"<title>{TITLE}</title>"]
    for colour, corners in ARROWS:
        lines += arrow(colour, corners)
    lines += images()
    for box in BOXES:
        lines += words(box)
    return "\n".join([*lines, "</svg>", ""])


def arrow(colour: str, corners: list[tuple[int, int]]) -> Iterator[str]:
    """A line around corners, with a point of eight pixels beyond its end."""
    (x, y), (before_x, before_y) = corners[-1], corners[-2]
    right, down = (x > before_x) - (x < before_x), (y > before_y) - (y < before_y)
    path = " ".join(f"{x},{y}" for x, y in corners)
    yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="3"/>'
    ends = [(x + 8 * right, y + 8 * down), (x - 6 * down, y + 6 * right)]
    ends += [(x + 6 * down, y - 6 * right)]
    path = " ".join(f"{x},{y}" for x, y in ends)
    yield f'<polygon points="{path}" fill="{colour}"/>'


def images() -> Iterator[str]:
    """One sprite with the noise of five timesteps, and what is written below each."""
    sprite = torch.from_numpy(draw_sprites(SPRITE + 1, 0)[0][SPRITE])  # (16,16,3)
    x0 = sprite.permute(2, 0, 1)[None] / 127.5 - 1
    eps = torch.randn(x0.shape, generator=torch.Generator().manual_seed(0))
    schedule, side = Schedule.linear(max(TIMES)), SIZE * DOT
    for left, t, label in zip(LEFT, TIMES, LABELS, strict=True):
        x = schedule.add_noise(x0, torch.tensor([t]), eps)[0].permute(1, 2, 0)
        levels = ((x.clamp(-1, 1) + 1) * 7.5).round().int().tolist()  # (16,16,3), 0…15
        yield f'<g transform="translate({left} {TOP})" shape-rendering="crispEdges">'
        yield from pixels(levels)
        edge = f'width="{side}" height="{side}" fill="none" stroke="{GREY}"'
        yield f'<rect {edge} stroke-width="2"/></g>'
        yield from words(Box(left, TOP + side + 3, side, 24, GREY, [label], []))


def pixels(levels: list[list[list[int]]]) -> Iterator[str]:
    """A path for each colour of an image, one dash for each of its pixels."""
    dashes = {}
    for row, line in enumerate(levels):
        for column, rgb in enumerate(line):
            colour = "#" + "".join(f"{level:x}" for level in rgb)
            place = f"M{DOT * column} {DOT * row + DOT // 2}h{DOT}"
            dashes[colour] = dashes.get(colour, "") + place
    for colour, path in dashes.items():
        yield f'<path stroke="{colour}" stroke-width="{DOT}" d="{path}"/>'


def words(box: Box) -> Iterator[str]:
    """A box with its lines, the first one bold, and its lessons in circles."""
    x, y, width, height, colour, lines, lessons = box
    corner = f'x="{x}" y="{y}" width="{width}" height="{height}" rx="7"'
    yield f'<rect {corner} fill="{colour}"/>'
    middle, step = x + width / 2, 20
    shown = [line for line in lines if line]
    y_of_first = y + height / 2 - step * (len(shown) - 1) / 2 + 5
    for i, line in enumerate(shown):
        look = BOLD if line == lines[0] else PLAIN
        place = f'x="{middle:g}" y="{y_of_first + step * i:g}"'
        yield f'<text {place} fill="#ffffff" {look}>{lowered(line)}</text>'
    for i, lesson in enumerate(lessons):
        at = x + 6 + 30 * i
        look = f'r="13" fill="#ffffff" stroke="{colour}" stroke-width="3"'
        yield f'<circle cx="{at}" cy="{y + 2}" {look}/>'
        look = f'fill="{INK}" font-size="14" font-weight="bold"'
        yield f'<text x="{at}" y="{y + 7}" {look}>{lesson}</text>'


def lowered(line: str) -> str:
    """A line of text; the letters and digits after a "_" stand lower."""
    low = r'<tspan dy="4" font-size="11">\1</tspan>'
    # The next letter, if there is one, goes up again by as much.
    up = r'<tspan dy="-4">\2</tspan>'
    text = re.sub(r"_(\w+)(\W)", low + up, escape(line))
    return re.sub(r"_(\w+)$", low, text)


if __name__ == "__main__":
    PATH.write_text(svg(), encoding="utf-8")
    print(f"wrote {PATH.relative_to(ROOT)}")
