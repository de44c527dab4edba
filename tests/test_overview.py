"""The diagram of the whole: the committed file, and whether all can read it."""

import re
from collections.abc import Iterator
from xml.etree import ElementTree as ET

import pytest
from matplotlib.font_manager import FontProperties, findfont
from PIL import ImageFont

from tools import overview
from tools.lessons import lesson_paths
from tools.overview import BOXES, Box

PAGES = ("#ffffff", "#0d1117")  # light and dark, as GitHub has them
COLOURS = {box.colour for box in BOXES} | {colour for colour, _ in overview.ARROWS}


def light(colour: str) -> float:
    """The relative luminance of a colour, as WCAG defines it."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (
        v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts
    )
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(one: str, other: str) -> float:
    low, high = sorted((light(one), light(other)))
    return (high + 0.05) / (low + 0.05)


def faint(colour: str) -> Iterator[str]:
    """Where a colour of the diagram is hard to see: under white words, on a page."""
    if contrast(colour, "#ffffff") < 4.5:
        yield f"white words on {colour}"
    yield from (f"{colour} on {page}" for page in PAGES if contrast(colour, page) < 3)


def crowded(box: Box) -> Iterator[str]:
    """Words that are wider than their box, in the widest of the usual fonts."""
    for i, line in enumerate(box.lines):
        weight, size = ("normal", 14.5) if i else ("bold", 15.5)
        path = findfont(FontProperties(family="DejaVu Sans", weight=weight))
        width = ImageFont.truetype(path, size).getlength(line.replace("_", ""))
        if width > box.width - 12:
            yield f"{line}: {width:.0f} of {box.width}"


def outside(box: Box) -> Iterator[str]:
    if not 0 <= box.x <= overview.WIDTH - box.width:
        yield f"{box.lines} is beside the diagram"
    if not 0 <= box.y <= overview.HEIGHT - box.height:
        yield f"{box.lines} is above or below the diagram"


GOOD = Box(0, 0, 200, 30, overview.BLUE, ["noise", "x_t"], [1])


def test_the_checks_see_their_faults():
    assert contrast("#ffffff", "#000000") == pytest.approx(21)
    assert [*faint(overview.BLUE), *crowded(GOOD), *outside(GOOD)] == []
    assert list(faint("#8899aa")) and list(faint("#203040"))
    assert list(crowded(GOOD._replace(lines=["a network that guesses noise"])))
    assert list(crowded(GOOD._replace(lines=["", "x" * 40])))
    assert list(outside(GOOD._replace(x=900))) and list(outside(GOOD._replace(y=-1)))


@pytest.mark.parametrize("colour", sorted(COLOURS))
def test_colours_serve_on_light_and_dark_pages(colour):
    assert list(faint(colour)) == []


@pytest.mark.parametrize("box", BOXES, ids=lambda box: "".join(box.lines)[:20])
def test_words_fit(box):
    assert [*crowded(box), *outside(box)] == []


def bare(text: str) -> Iterator[str]:
    """Words of an SVG that stand on the page itself."""
    under = []
    for shape in ET.fromstring(text).iter():
        at = {name: float(v) for name, v in shape.items() if re.match(r"[\d.]+$", v)}
        if shape.tag.endswith("rect") and shape.get("fill") != "none":
            x, y = at["x"], at["y"]
            under.append((x, x + at["width"], y, y + at["height"]))
        elif shape.tag.endswith("circle"):
            x, y, r = at["cx"], at["cy"], at["r"]
            under.append((x - r, x + r, y - r, y + r))
        elif shape.tag.endswith("text"):
            x, y = at["x"], at["y"]
            if not any(a < x < b and c < y < d for a, b, c, d in under):
                yield "".join(shape.itertext())


def test_words_stand_on_shapes():
    text = overview.svg()
    assert list(bare(text)) == []
    moved = text.replace('<text x="500"', '<text x="0"', 1)
    assert list(bare(moved)) == ["x130"]


def test_each_lesson_has_its_place():
    shown = sorted(lesson for box in BOXES for lesson in box.lessons)
    assert shown == [int(path.stem[:2]) for path in lesson_paths()]


def test_the_committed_diagram_is_the_one_of_the_code():
    """If it is not: python -m tools.overview"""
    committed = overview.PATH.read_text(encoding="utf-8")
    assert committed == overview.svg() and len(committed) < 80_000
    assert not re.search(r"<script|href|<style|<image", committed)


def test_an_index_stands_lower_and_what_follows_does_not():
    low, up = '<tspan dy="4" font-size="11">{}</tspan>', '<tspan dy="-4">{}</tspan>'
    assert overview.lowered("x_60") == "x" + low.format("60")
    assert overview.lowered("x_t, t") == "x" + low.format("t") + up.format(",") + " t"
    assert overview.lowered("a < b") == "a &lt; b"
