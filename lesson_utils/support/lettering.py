"""Letters: which font of this machine has those of a text, and what has none."""

import unicodedata
from collections.abc import Iterable
from functools import cache

from PIL import ImageFont

SIZE = 11  # pixels, of captions
FOUND = []  # fonts besides the first that had a letter
MARKS = ("Mn", "Mc", "Me", "Cf")  # stand with the character before them
NO_LETTERS = ("LastResort", "Last Resort", "Color", "STIX", "cm", "Blank")


@cache
def system_fonts() -> tuple:
    """Matplotlib's entries of the upright fonts that may be taken, the best first."""
    from matplotlib import font_manager  # slow to import

    entries = []
    for entry in font_manager.fontManager.ttflist:
        odd = entry.name.strip(".").startswith(NO_LETTERS) or "Color" in entry.name
        if not odd and entry.style == "normal" and entry.size == "scalable":
            entries.append(entry)

    def rank(entry):
        plain = "Sans" in entry.name and "Mono" not in entry.name
        weight = entry.weight if isinstance(entry.weight, int) else 400
        usual = entry.name == "DejaVu Sans"
        of_matplotlib = "mpl-data" in entry.fname
        return not usual, not plain, abs(weight - 400), not of_matplotlib, entry.fname

    return tuple(sorted(entries, key=rank))


@cache
def has(path: str, character: str) -> bool:
    """Whether a font can draw a character."""
    from matplotlib.ft2font import FT2Font

    try:
        found = FT2Font(path).get_char_index(ord(character)) != 0
        return found and bool(font(path).getlength(character) or character.isspace())
    except (OSError, RuntimeError):  # of a kind that cannot be enlarged, for instance
        return False


@cache
def font(path: str) -> ImageFont.FreeTypeFont:
    """A font at the size of captions."""
    return ImageFont.truetype(path, SIZE)


@cache
def entry_for(character: str):
    """The first font that has a character, or None.

    Those that others were found in come before the hundreds that a system may have.
    """
    first, *others = system_fonts()
    for entry in (first, *FOUND, *others):
        if has(entry.fname, character):
            if entry not in (first, *FOUND):
                FOUND.append(entry)
            return entry
    return None


def spelt(text: str) -> str:
    """text, with U+732B in the place of a character that no font here has."""
    parts = []
    for character in text:
        if character.isspace() or entry_for(character):
            parts.append(character)
        elif unicodedata.category(character) not in (*MARKS, "Cc"):
            parts.append(f" U+{ord(character):04X} ")
    return " ".join("".join(parts).split())


def runs(text: str) -> list[tuple[ImageFont.FreeTypeFont, str]]:
    """text in pieces, each with the font that has its characters."""
    pieces = []  # [path, text]
    for character in text:
        last = pieces[-1][0] if pieces else system_fonts()[0].fname
        mark = character.isspace() or unicodedata.category(character) in MARKS
        if not (mark and has(last, character)):
            last = getattr(entry_for(character), "fname", last)
        if pieces and pieces[-1][0] == last:
            pieces[-1][1] += character
        else:
            pieces.append([last, character])
    return [(font(path), piece) for path, piece in pieces]


def length(text: str) -> float:
    """Pixels that a text is wide."""
    return sum(face.getlength(piece) for face, piece in runs(text))


def families(texts: Iterable[str]) -> list[str]:
    """The names, for matplotlib, of the fonts that these texts need together."""
    characters = sorted(set("".join(texts)))
    found = [system_fonts()[0], *filter(None, map(entry_for, characters))]
    return list(dict.fromkeys(entry.name for entry in found))
