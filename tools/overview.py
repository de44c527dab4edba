"""Draw the diagram of the whole into lessons/assets/: `python -m tools.overview`.

It has no background, because pages are white or dark: words stand on shapes only, white
on a colour that both kinds of page show. Numbers in circles are lessons.
"""

import re
from collections.abc import Iterator
from html import escape
from typing import NamedTuple

import torch

from lesson_utils import Schedule, initial_noise
from lesson_utils.sprites import SIZE, draw_sprites
from tools.lessons import LESSONS, ROOT

PATH = LESSONS / "assets" / "overview.svg"
WIDTH, HEIGHT = 1000, 606
TITLE = "How the lessons fit together"
FONT = "Helvetica, Arial, 'DejaVu Sans', sans-serif"
BOLD, PLAIN = 'font-size="15.5" font-weight="bold"', 'font-size="14.5"'
BLUE, ORANGE, GREEN = "#1f6fb5", "#b3541e", "#0f7b5c"
PURPLE, GREY, INK = "#9a4f96", "#6a737d", "#1f2328"

DOT = 5  # of one pixel of an image
SIDE = SIZE * DOT
SPRITE = 3  # of seed 0
TIMES = [0, 60, 130, 220, 500]
PLACES = [(40, 76), (250, 76), (460, 76), (670, 76), (880, 76)]  # of their images
LABELS = ["x_0 = image", "x_60", "x_130", "x_220", "x_500 = noise"]
SAMPLE = 18  # of seed 0: a monster from DDIM in 20 steps with the shipped checkpoint
# Its pixels are copied here, so that the diagram stays the same after a new training.
NEW = (
    "ffffff223ffffffffffffffffffffffffffffff323fffffffff212ddd212fff21221221221221221"
    "2fff212eee223ffffff212eed767212fa5fb5e73e83fc6e83212edd212ffeeeeffffff212ddcecbf"
    "b5e73e83e83e73fb5ed9caaa88212ffffffffffff213d84e83e82e82e82e83e82d97a7acabcaa212"
    "fffffffff212d73d83efeeeedeedefe72e8376c88b212fffffffffeff423e82d72eee212212deff7"
    "3e73a34213ecd212ffffff213212e82d73eef213212deff73e73934824212ffffff212c96854d73d"
    "73e84f73e73f73f73b52212a34212fff212b86a64a64ca8864212212212b52e73e94523a34212fff"
    "212b75964964a76a75d75d75e74e63e63e63d56824212ffffff222a64954954844944a34c35a34c3"
    "3c44c54834212fffffffff212a54944b66c76c76c76d86d85d9569d714213ffffffffffff212d98b"
    "57b47c48c48a27a2694ac9b837213fffffffffffffff212934834212212b55b65213213212ffffff"
    "fffffffffffffff212212ffffff212212fffffffffffffff"
)


class Box(NamedTuple):
    """A rectangle with words: its corner, its size, lines of text, lessons."""

    x: int
    y: int
    width: int
    height: int
    colour: str
    lines: list[str]  # the first is bold, or ""; "_" lowers what follows it
    lessons: list[int]


ADD = ["forward process: adds noise"]
STEPS = "DDPM 500 steps, DDIM 20, 2M 10, student 4"
ANSWER = ["the network guesses", "the noise in x_t"]
ASK = ["asks for a class,", "and how strongly"]
LEARN = ["compares guess and noise,", "updates the weights"]
CODE = "noise as a code; mix noises"
INVERT = "inversion: any image to its noise"
OUTSIDE = "out of the notebook: files, Diffusers, your own images"
BOXES = [
    Box(318, 16, 364, 38, BLUE, ADD, [1]),
    Box(40, 233, 240, 74, GREEN, ["training", *LEARN], [4, 11]),
    Box(400, 233, 200, 74, BLUE, ["context UNet", *ANSWER], [3]),
    Box(750, 233, 210, 74, PURPLE, ["context, guidance", *ASK], [5]),
    Box(318, 365, 364, 54, ORANGE, ["sampler: noise to image", STEPS], [2, 6, 10]),
    Box(318, 494, 364, 38, GREEN, [INVERT], [9]),
    Box(720, 486, 240, 54, PURPLE, ["latent space", CODE], [8]),
    Box(40, 562, 190, 38, GREY, ["speed and quality"], [7]),
    Box(254, 562, 508, 38, GREY, [OUTSIDE], [12]),
    Box(786, 562, 174, 38, GREY, ["", "circle: lesson number"], []),
    Box(203, 194, 118, 24, GREY, ["", "x_t, t, noise"], []),
    Box(306, 239, 68, 24, GREY, ["", "guess"], []),
    Box(302, 277, 76, 24, GREY, ["", "weights"], []),
    Box(608, 241, 122, 24, GREY, ["", "class, strength"], []),
    Box(418, 324, 64, 24, GREY, ["", "x_t, t"], []),
    Box(516, 324, 68, 24, GREY, ["", "guess"], []),
]
ARROWS = [  # a colour, and the corners of a line from its start to its point
    (BLUE, [(80, 76), (80, 35), (310, 35)]),
    (BLUE, [(682, 35), (920, 35), (920, 68)]),
    (BLUE, [(262, 180), (262, 225)]),
    (BLUE, [(400, 251), (288, 251)]),
    (GREEN, [(280, 289), (392, 289)]),
    (PURPLE, [(750, 279), (608, 279)]),
    (ORANGE, [(450, 365), (450, 315)]),
    (BLUE, [(550, 307), (550, 357)]),
    (ORANGE, [(880, 392), (690, 392)]),
    (ORANGE, [(318, 392), (128, 392)]),
    (GREY, [(72, 459), (72, 554)]),
    (GREEN, [(100, 459), (100, 513), (310, 513)]),
    (GREEN, [(682, 513), (712, 513)]),
    (PURPLE, [(920, 486), (920, 469)]),
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
    """The noise of five timesteps on one sprite, and a sample with its own noise."""
    sprite = torch.from_numpy(draw_sprites(SPRITE + 1, 0)[0][SPRITE])  # (16,16,3)
    x0 = sprite.permute(2, 0, 1)[None] / 127.5 - 1
    eps = torch.randn(x0.shape, generator=torch.Generator().manual_seed(0))
    schedule = Schedule.linear(max(TIMES))
    for place, t, label in zip(PLACES, TIMES, LABELS, strict=True):
        x = schedule.add_noise(x0, torch.tensor([t]), eps)[0]
        yield from image(place, levels(x), label)
    noise = initial_noise(SAMPLE + 1, x0.shape[1:], seed=0)[SAMPLE]
    yield from image((880, 352), levels(noise), "new noise")
    sample = torch.tensor([int(level, 16) for level in NEW]).view(SIZE, SIZE, 3)
    yield from image((40, 352), sample.tolist(), "new image")


def levels(x: torch.Tensor) -> list[list[list[int]]]:
    """An image (3,16,16) as (16,16,3) levels from 0 to 15."""
    return ((x.permute(1, 2, 0).clamp(-1, 1) + 1) * 7.5).round().int().tolist()


def image(
    place: tuple[int, int], shown: list[list[list[int]]], label: str
) -> Iterator[str]:
    """An image in a frame, and its label below."""
    x, y = place
    yield f'<g transform="translate({x} {y})" shape-rendering="crispEdges">'
    yield f'<g stroke-width="{DOT}">'
    yield from pixels(shown)
    edge = f'width="{SIDE}" height="{SIDE}" fill="none" stroke="{GREY}"'
    yield f'</g><rect {edge} stroke-width="2"/></g>'
    width = 36 + 8 * len(label.replace("_", ""))
    left = x + (SIDE - width) // 2
    yield from words(Box(left, y + SIDE + 3, width, 24, GREY, [label], []))


def pixels(shown: list[list[list[int]]]) -> Iterator[str]:
    """A path for each colour of an image, one dash for each of its pixels."""
    dashes = {}
    for row, line in enumerate(shown):
        for column, rgb in enumerate(line):
            colour = "#" + "".join(f"{level:x}" for level in rgb)
            place = f"M{DOT * column} {DOT * row + DOT / 2:g}h{DOT}"
            dashes[colour] = dashes.get(colour, "") + place
    for colour, path in dashes.items():
        yield f'<path stroke="{colour}" d="{path}"/>'


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
