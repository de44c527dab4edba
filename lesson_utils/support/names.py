"""Class names as prompts are read, and the rule for names that prompts tell apart."""

import re
import unicodedata
from collections.abc import Sequence

from .checked import Call, refuse

WORDS = "zero one two three four five six seven eight nine ten".split()
NUMBER = r"-?(?:\d+(?:\.\d*)?|\.\d+)(?:e-?\d+)?|nan|inf|½"
WEIGHT = rf"(?:({NUMBER})(?: ?[*×] ?| |(?=[^\W\d])))"


def all_texts(values: Sequence) -> bool:
    return all(isinstance(value, str) for value in values)


def as_read(name: str) -> str:
    """A name as prompts are read: its case and the kinds of its gaps do not count."""
    return gaps_as_read(folded(name))


def folded(text: str) -> str:
    """A text without its case, in Unicode's form NFC: "é" may be stored as "e" and "´".

    Names of folders come in either form (macOS writes the longer one).
    """
    apart = unicodedata.normalize("NFD", text).casefold()
    return " ".join(unicodedata.normalize("NFC", apart).split())


def gaps_as_read(text: str) -> str:
    """A part of a prompt with one space for each of its gaps, also at its ends."""
    return re.sub("[ _-]+", " ", text)


def classes_by_key(names: Sequence[str]) -> dict[str, int]:
    """{name as prompts are read: its class}, with the words for numbers."""
    keys = {as_read(name): k for k, name in enumerate(names)}
    words = {word: keys[str(n)] for n, word in enumerate(WORDS) if str(n) in keys}
    return words | keys


def as_weight(number: str) -> float:
    """The weight that a NUMBER of a prompt says."""
    return float(number.replace("½", "0.5"))


def class_names(name: str, value: object, call: Call | None = None) -> Sequence[str]:
    """The rule for class names that a prompt can tell apart, in a list or tuple.

    They differ in more than case, spaces, hyphens and underscores, and in more than
    Unicode's two ways to store an accent. None is a weight such as "0.5", begins with
    "*", or begins as a prompt for another class does, as "a + b" beside "a". So `parse`
    reads whatever `describe` writes.
    """
    several = isinstance(value, Sequence) and not isinstance(value, str)
    if not several or not all_texts(value):
        refuse(name, "a list of class names", value)
    first: dict[str, str] = {}
    for one in value:
        key = as_read(one)
        if not key:
            refuse(name, "a class name that is not empty", one)
        if key in first:
            known = f"a class name that differs from {first[key]!r} in more than"
            refuse(name, f"{known} case, spaces, hyphens and underscores", one)
        first[key] = one
    for one in value:
        text = folded(one)
        if re.fullmatch(NUMBER, text) and 0 < as_weight(text) < 1:
            refuse(name, "a class name that is not a weight below 1", one)
        if text[0] in "*×":
            refuse(name, "a class name that does not begin with * or ×", one)
        other = first.get(read_first(text, first))
        if other is not None:
            refuse(name, f"a class name that begins unlike a prompt for {other!r}", one)
    return value


def read_first(text: str, keys: dict) -> str | None:
    """The one of the keys with which a prompt begins, if more than that is there.

    More: a "+" after it; or a weight below 1 before it, and then its beginning will do.
    """
    match = re.match(WEIGHT, text)
    weighted = match is not None and 0 < as_weight(match[1]) < 1
    rest = text[match.end() :] if weighted else text
    bare = {key.strip(): key for key in keys}  # a gap at an end may be one of a prompt
    for plus in re.finditer(r"\+", rest):
        if (key := as_read(rest[: plus.start()]).strip()) in bare:
            return bare[key]
    start = as_read(rest).strip()
    same = (bare[key] for key in bare if weighted and key.startswith(start))
    return next(same, None)
