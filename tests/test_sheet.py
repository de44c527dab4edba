"""Sheets: images with their prompts beneath them."""

import numpy as np
import pytest
import torch
from PIL import ImageDraw

from lesson_utils import grid, sheet
from lesson_utils.support import lettering

LONG = "0.1 hero + 0.2 non-hero + 0.3 food + 0.25 spell + 0.15 side-facing"
LETTERS = ["i", "W", "hero", "side-facing", LONG, "½ hero", "Å g j p q y", "été"]
LETTERS += ["W" * 200, "i" * 200, "a b " * 50, "W" * 20 + " hero"]


def blocks(b=1, size=16):
    return torch.zeros(b, 1, size, size)


def cells(out, rows, columns):
    """The parts of a sheet whose rows are equally high, row by row."""
    h, w = out.shape[0] // rows, out.shape[1] // columns
    wide = [out[i * h : (i + 1) * h] for i in range(rows)]
    return [row[:, j * w : (j + 1) * w] for row in wide for j in range(columns)]


def ink(part):
    """The box (top, bottom, left, right) of all that is not white."""
    ys, xs = np.nonzero((part != 255).any(-1))
    return ys.min(), ys.max(), xs.min(), xs.max()


def caption(part):
    """What lies beneath the grey picture of a cell."""
    grey = (part == 128).all(-1)
    below = np.nonzero(grey.sum(1) >= 16)[0].max() + 1
    return part[below:]


@pytest.mark.parametrize("scale, size", [(1, 16), (2, 28), (4, 16), (9, 16), (4, 28)])
@pytest.mark.parametrize("text", LETTERS)
def test_no_caption_is_clipped_or_meets_a_neighbour(text, scale, size):
    out = sheet(blocks(3, size=size), ["x", text, "x"], columns=3, scale=scale)
    words = caption(cells(out, 1, 3)[1])
    top, bottom, left, right = ink(words)
    assert 1 <= top <= bottom <= len(words) - 2
    assert 1 <= left <= right <= words.shape[1] - 2


@pytest.mark.parametrize("text", LETTERS)
def test_every_letter_is_drawn(text, monkeypatch):
    drawn, own = [], ImageDraw.ImageDraw.text

    def note(self, place, line, *rest, **more):
        drawn.append(line)
        own(self, place, line, *rest, **more)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", note)
    sheet(blocks(), [text])
    assert "".join("".join(drawn).split()) == "".join(text.split())


def test_pictures_and_prompts_stand_in_the_same_rows_and_columns():
    levels = torch.linspace(-1, 0.8, 6)
    x = levels.view(-1, 1, 1, 1).expand(-1, 1, 16, 16)
    texts = ["3", "seven", "0", "11111", "8 8", "nine"]
    out = sheet(x, texts, columns=3)
    parts = cells(out, 2, 3)
    for i, part in enumerate(parts):
        picture = grid(x[i : i + 1])
        assert (part[4:68, 4:68] == picture).all()
        assert (part == sheet(x[i : i + 1], texts[i : i + 1])).all()


def test_the_default_layout_is_that_of_grid():
    for b in (1, 2, 3, 6, 7, 10, 16, 20):
        rows, columns = (n // 16 for n in grid(blocks(b), scale=1).shape[:2])
        height, width = sheet(blocks(b), ["7"] * b).shape[:2]
        assert width == columns * 72
        assert height == rows * sheet(blocks(), ["7"]).shape[0]


def test_places_without_a_picture_are_white():
    out = sheet(blocks(5), ["7"] * 5, columns=3)
    assert (cells(out, 2, 3)[5] == 255).all()
    assert (cells(out, 2, 3)[4] != 255).any()


def test_all_rows_of_a_sheet_are_equally_high():
    """So that the same place in two rows is the same place beneath each other."""
    one, more = sheet(blocks(), ["hero"]), sheet(blocks(), [LONG])
    assert len(more) > len(one) > 64
    both = sheet(blocks(4), ["hero", "hero", "hero", LONG], columns=2)
    assert len(both) == 2 * len(more)
    assert (both[: len(one), :72] == one).all()


WITHOUT_FONT = {"猫": "U+732B", "a 猫犬 b": "a U+732B U+72AC b", "猫\u200d": "U+732B"}


@pytest.mark.parametrize("text, said", WITHOUT_FONT.items())
def test_a_letter_that_no_font_has_is_told_by_its_number(text, said, monkeypatch):
    """Issue 12 (n): such letters were equal boxes."""
    own = lettering.entry_for

    def latin_alone(letter):
        return own(letter) if ord(letter) < 0x2000 else None

    monkeypatch.setattr(lettering, "entry_for", latin_alone)
    assert lettering.spelt(text) == said
    assert (sheet(blocks(), [text]) == sheet(blocks(), [said])).all()
    assert not np.array_equal(sheet(blocks(), ["猫"]), sheet(blocks(), ["犬"]))


def test_a_letter_comes_from_a_font_of_the_system_that_has_it(monkeypatch):
    """Any other font of matplotlib's stands for one of the system."""
    first, *others = lettering.system_fonts()
    letter = next(c for c in "ﻼ⡇𝒜🀀①" if lettering.has(first.fname, c))
    other = next(e for e in others if e.name != first.name)

    def has(path, character):
        return path == other.fname if character == letter else path == first.fname

    lettering.entry_for.cache_clear()
    monkeypatch.setattr(lettering, "FOUND", [])
    monkeypatch.setattr(lettering, "has", has)
    try:
        assert lettering.spelt(f"a{letter}") == f"a{letter}"
        paths = [face.path for face, _ in lettering.runs(f"a{letter} b")]
        assert paths == [first.fname, other.fname, first.fname]
        assert lettering.families([letter]) == [first.name, other.name]
        assert sheet(blocks(), [f"a{letter}"]).min() == 0
    finally:
        lettering.entry_for.cache_clear()


def test_no_context_is_said_in_grey():
    out = {text: caption(sheet(blocks(), [text])) for text in ("", " \n", "no context")}
    assert (out[""] == out[" \n"]).all()
    assert out["no context"].min() < 30 < 110 < out[""].min() < 130
    assert ((out[""] != 255) == (out["no context"] != 255)).mean() > 0.99


def test_colours_stay_and_out_of_range_is_cut_as_in_grid():
    x = 1.5 * torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    out = sheet(x, ("hero", "food"), columns=2, scale=5)
    assert out.dtype == np.uint8 and out.shape[2] == 3
    pictures = grid(x, columns=2, scale=5)
    assert (out[4:84, 4:84] == pictures[:, :80]).all()
    assert (out[4:84, 92:172] == pictures[:, 80:]).all()


def test_small_pictures_stand_in_the_middle_above_readable_words():
    out = sheet(blocks(size=16), ["side-facing"], scale=1)
    assert out.shape[1] == 72
    assert (out[4:20, 28:44] == 128).all()
    top, bottom, left, right = ink(caption(out))
    assert bottom - top >= 8 and abs(left + right - 71) <= 2


def test_a_word_is_broken_only_if_it_is_very_long():
    assert len(sheet(blocks(), ["paper-folding"])) == len(sheet(blocks(), ["hero"]))
    assert sheet(blocks(), ["W" * 200]).shape[1] == 128 + 8


@pytest.mark.parametrize(
    "prompts, complaint",
    [
        ("seven", "2 texts, one for each.*'seven'"),
        ([], r"2 texts.*\[\]"),
        (["a", "b", "c"], "2 texts"),
        (["a", None], "2 texts.*None"),
        (None, "2 texts"),
        (torch.zeros(2, 10), r"2 texts.*\(2, 10\)"),
        (["a", "b" * 201], "texts of at most 200 characters.*bbb"),
        (["a", "b " * 10**6], "texts of at most 200 characters"),
    ],
)
def test_prompts_that_are_none(prompts, complaint):
    with pytest.raises(ValueError, match=f"^prompts: {complaint}"):
        sheet(blocks(2), prompts)
