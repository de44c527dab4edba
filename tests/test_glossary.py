"""The glossary and the lessons: a term is explained where its entry says, not before.

Each check gives its complaints, and can fail.
"""

import re
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import nbformat
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from tools.lessons import LESSONS, lesson_paths

PAGE = (LESSONS / "glossary.md").read_text(encoding="utf-8")

# A name stands in a text if these words do, in any case, with or without a plural s; a
# name with a capital within it, such as SiLU, as it is; a symbol if its LaTeX does. For
# these names another expression says it: other forms of the word, or fewer, because it
# has an everyday meaning, or because a derivation has the same letter.
FORMS = {
    "background": r"\*background\*",
    "bend": r"\*bend\*",
    "best guess": r"\bbest guess",
    "class average": r"\bclass averages?\b|\baverage of (?:the|its|a) class\b",
    "class seen": r"(?i)\bclass(?: \w+)* (?:is|are|was) seen\b|\bclass seen\b",
    "consistency": r"(?i)\*consistent\*|\bconsistency\b",
    "code": r"(?i)\bcodes?\*? of\b",
    "collapse": r"\bcollaps",
    "cosine schedule": r"(?i)\bcosine schedule\b|\b(?:our|the) cosine\b",
    "decode": r"(?i)\bdecod(?:e|es|ed|ing)\b",
    "edit": r"(?i)\bedit(?:s|ed|ing)?\b",
    "error (of inversion)": r"\*error\*",
    "inversion": r"(?i)\binver(?:sion|t(?:s|ed|ing)?\b)",
    "interval": r"\b95 % intervals?\b|\*interval\*",
    "one noise": r"(?i)\*one noise\*|\bwith one noise\b",
    "sample": r"(?i)\bsampl(?:e|es|ed|ing)\b",
    "key": r"\*key\*",
    "place": r"\*place\*",
    "scale": r"\*scale\*",
    "shortcut": r"\*shortcut\*",
    "slope": r"\bslope (?:over|should)|\*slope\*",
    "spread": r"\*spread\*",
    "stage": r"\*stage\*",
    "value": r"\*value\*",
    "$\\eta$": r"η|\\eta\b",
    "sure": r"\*sure\*",
    "timestep": r"(?i)\btimesteps?\b",
    "walk": r"(?i)(?<!random )\bwalk(?:s|ed)?\b",
    "warm-up": r"(?i)\bwarm(?:s|ed)?[- ]up\b",
    "unseen image": r"(?i)\bunseen (?:image|sprite)s?\b",
    "resume": r"(?i)\bresum(?:e|es|ed|ing)\b",
    "refinement": r"(?i)\brefine(?:s|d|ments?)?\b",
    "interpolation": r"(?i)\binterpolat",
    "$g$": r"\*scale\* of the guidance",
    r"$\hat\sigma$": r"\\hat\\sigma\b|σ̂",
    "$s$": r"timestep \$s\$",
    "$S$": r"\$S\$|\bS = |\$S =",
}


class Entry(NamedTuple):
    names: list[str]
    meaning: str
    lesson: int
    link: str
    mentioned: list[int]


def entries(page: str) -> list[Entry]:
    """The rows of the tables of the glossary."""
    found = []
    for row in re.findall(r"(?m)^\| (?!symbol |term )(.*) \|$", page):
        names, meaning, lesson, _ = row.split(" | ")
        place = re.fullmatch(
            r"\[(\d+)\]\(([^)]+)\)(?:, mentioned in ([\d, ]+))?", lesson
        )
        number, link, mentioned = place.groups(default="")
        names = re.split(r", (?![^$]*\)\$)", names)
        numbers = [int(each) for each in mentioned.split(", ") if each]
        found.append(Entry(names, meaning, int(number), link, numbers))
    return found


def formulas(text: str) -> str:
    """A text whose formulas have no spaces, and | for every bar."""

    def plain(found: re.Match) -> str:
        inside = re.sub(r"\\[,;!]|\s", "", found[0])
        return re.sub(r"\\(?:mid|vert)", "|", inside)

    return re.sub(r"(?s)\$\$.+?\$\$|\$[^$]+\$", plain, text)


def prose(nb: NotebookNode) -> str:
    """What a lesson says, without code, names of other lessons, and references."""
    cells = [cell.source for cell in nb.cells if cell.cell_type == "markdown"]
    text = "\n\n".join(each for each in cells if not each.startswith("*References*"))
    text = re.sub(r"(?s)```.*?```", " ", text)
    text = re.sub(r"`[^`\n]*`", " ", text)
    text = re.sub(r"(?<!!)\[[^\]]*\]\([^)]*\)", " ", text)
    return formulas(text)


@cache
def lessons() -> dict[int, str]:
    """{number: prose} of all lessons."""
    return {
        int(path.stem[:2]): prose(nbformat.read(path, as_version=4))
        for path in lesson_paths()
    }


def expression(name: str) -> str:
    """A regular expression for where a name stands in prose."""
    if name in FORMS:
        return FORMS[name]
    if name.startswith("$"):
        inside = re.escape(formulas(name).strip("$"))
        return rf"(?<![A-Za-z\\])(?:{inside})(?![A-Za-z])"
    words = r"[\s-]+".join(map(re.escape, re.split(r"[\s-]", name)))
    case = "" if re.search(r"\w[A-Z]", name) else "(?i)"
    return rf"{case}(?<!\w){words}(?:e?s)?(?!\w)"


def used(name: str, text: str) -> str:
    """The first place where a text uses a name, with what stands around it."""
    if name.startswith("$") and name not in FORMS:
        for formula in re.finditer(r"(?s)\$\$.+?\$\$|\$[^$]+\$", text):
            if re.search(expression(name), formula[0]):
                return around(formula, text)
        return ""
    found = re.search(expression(name), text)
    return around(found, text) if found else ""


def around(found: re.Match, text: str) -> str:
    return " ".join(text[max(0, found.start() - 40) : found.end() + 40].split())


# Each check takes the entries and {number of a lesson: its prose}


def unexplained(found: list[Entry], texts: dict[int, str]) -> Iterator[str]:
    """Names that the lesson of their entry does not have."""
    for entry in found:
        for name in entry.names:
            if not used(name, texts.get(entry.lesson, "")):
                yield f"{name} does not stand in lesson {entry.lesson}"


def too_early(found: list[Entry], texts: dict[int, str]) -> Iterator[str]:
    """Names that a lesson uses before the one that explains them."""
    for entry in found:
        for number in range(1, entry.lesson):
            places = [used(name, texts.get(number, "")) for name in entry.names]
            if any(places) and number not in entry.mentioned:
                yield f"lesson {number} uses {entry.names[0]}: …{max(places)}…"
            if not any(places) and number in entry.mentioned:
                yield f"{entry.names[0]} is not mentioned in lesson {number}"
        if any(number >= entry.lesson for number in entry.mentioned):
            yield f"{entry.names[0]}: what is mentioned later is no exception"


CALLED = r"""(?x) (?: \bcalled\ (?:(?:the|an?)\ )? | \bcall\ (?:this|that|it)\ )
    \*{1,2}([^*]+)\* | (?:^|[.!?]\ )(?:An?|The)\ \*{1,2}([^*]+)\*{1,2}\ (?:is|are)\b"""


def unlisted(found: list[Entry], texts: dict[int, str]) -> Iterator[str]:
    """What a lesson defines in so many words, and no entry has."""
    for number, text in texts.items():
        for match in re.finditer(CALLED, text, re.MULTILINE):
            term = match[1] or match[2]
            if not any(used(name, f"*{term}*") for e in found for name in e.names):
                yield f"lesson {number} explains {term}: …{around(match, text)}…"


def form(found: list[Entry], texts: dict[int, str]) -> Iterator[str]:
    """Sentences, links, order."""
    names = [name for entry in found for name in entry.names]
    yield from (f"{name} has two entries" for name in names if names.count(name) > 1)
    terms = [e.names[0].casefold() for e in found if not e.names[0].startswith("$")]
    yield from (f"{b} stands after {a}" for a, b in pairwise(terms) if a > b)
    symbols = [e for e in found if e.names[0].startswith("$")]
    for one, other in pairwise(symbols):
        if one.lesson > other.lesson:
            yield f"{other.names[0]} of lesson {other.lesson} stands too late"
    for entry in found:
        name, words = entry.names[0], re.sub(r"\$[^$]*\$", "X", entry.meaning).split()
        if not entry.meaning.endswith(".") or re.search(r"[.!?] ", entry.meaning):
            yield f"{name}: its meaning is not one sentence"
        if len(words) > 25:
            yield f"{name}: its sentence has {len(words)} words"
        if not re.match(rf"0*{entry.lesson}_", entry.link):
            yield f"{name}: lesson {entry.lesson} is not {entry.link}"
        if not (LESSONS / entry.link).is_file():
            yield f"{name}: {entry.link} is no lesson"


def lesson(*texts: str) -> str:
    return prose(new_notebook(cells=[new_markdown_cell(text) for text in texts]))


SMALL = """
| symbol | meaning | lesson | other names |
|---|---|---|---|
| $x_t$ | The noisy image. | [1](01_noise.ipynb) | – |
| $q(a \\mid b)$ | The density of $a$. | [2](02_the_way_back.ipynb) | – |

| term | meaning | lesson | other names |
|---|---|---|---|
| EMA, running mean | A mean. | [2](02_the_way_back.ipynb) | – |
| loss | The error. | [2](02_the_way_back.ipynb), mentioned in 1 | – |
| noise | Random numbers. | [1](01_noise.ipynb) | – |
"""
GOOD = {
    1: lesson("Noises are in $x_t = x$, as in $$x_ t$$; see the loss of lesson 2."),
    2: lesson("The losses of $q(a\\,\\vert\\,b)$. The *EMA* is a running-mean."),
}
# Another glossary, or another text of one lesson.
FAULTS = {
    unexplained: [
        SMALL.replace("noise |", "noises of all kinds |"),
        SMALL.replace("$x_t$", "$x_0$"),
        {1: lesson("In $x_t$ is no such word.")},
        {1: lesson("In `noise`, $x_t$, [the noise](03_x.ipynb)")},
        {2: lesson("The losses of $q(a|b)$ and the EMA.")},
        {2: lesson("The losses of $q(a)$. The EMA is a running mean.")},
    ],
    too_early: [
        {1: lesson("Noise in $x_t$, loss, EMA")},
        {1: lesson("Noise in $x_t$, loss, $$q(a \\mid b)$$")},
        {1: lesson("Noise in $x_t$")},
        SMALL.replace("mentioned in 1", "mentioned in 2"),
        SMALL.replace(", mentioned in 1", ""),
    ],
    unlisted: [
        {1: lesson("Noise in $x_t$ is called the *dust*; loss")},
        {1: lesson("Noise in $x_t$; loss. A *speck* is new.")},
        {1: lesson("Noise in $x_t$; loss. We call that *dust*.")},
    ],
    form: [
        SMALL.replace("A mean.", "A mean. It moves."),
        SMALL.replace("A mean.", "A mean"),
        SMALL.replace("A mean.", "A" + 25 * " mean" + "."),
        SMALL.replace("[1](01_noise.ipynb)", "[1](02_the_way_back.ipynb)"),
        SMALL.replace("[1](01_noise.ipynb)", "[1](01_nothing.ipynb)"),
        SMALL.replace("| noise |", "| aaa |"),
        SMALL.replace("| noise |", "| loss |"),
        SMALL.replace("[1](01_noise.ipynb)", "[7](07_speed_and_quality.ipynb)"),
    ],
}


@pytest.mark.parametrize("check", FAULTS, ids=lambda check: check.__name__)
def test_check(check):
    assert list(check(entries(SMALL), GOOD)) == []
    for i, fault in enumerate(FAULTS[check]):
        page, texts = SMALL, GOOD
        if isinstance(fault, str):
            page = fault
            assert page != SMALL
        else:
            texts = GOOD | fault
        assert list(check(entries(page), texts)), f"fault {i}"


@pytest.mark.parametrize("check", FAULTS, ids=lambda check: check.__name__)
def test_glossary(check):
    assert list(check(entries(PAGE), lessons())) == []


@pytest.mark.parametrize("term", ["guidance", "judge", r"$\bar\alpha_t$", "EMA"])
def test_the_real_glossary_can_be_wrong(term):
    """An entry that names a later lesson, and a lesson that uses a term too early."""
    found, texts = entries(PAGE), lessons()
    [entry] = [entry for entry in found if term in entry.names]
    late = [e._replace(lesson=6) if e == entry else e for e in found]
    assert any(
        term in each or entry.names[0] in each for each in too_early(late, texts)
    )
    if entry.lesson > 2:
        early = texts | {2: f"{texts[2]} As with {term}."}
        assert any(entry.names[0] in each for each in too_early(found, early))


def test_no_row_is_lost():
    rows = [line for line in PAGE.splitlines() if line.startswith("|")]
    assert len(entries(PAGE)) == len(rows) - 4 > 100
    assert {entry.lesson for entry in entries(PAGE)} == lessons().keys()


def test_the_forms_are_of_names_that_there_are():
    names = [name for entry in entries(PAGE) for name in entry.names]
    assert set(FORMS) <= set(names)


def test_prose_is_neither_code_nor_a_reference():
    cells = ["a ```b``` `c` [d](e.ipynb) $f\\,g$", "*References*: h"]
    nb = new_notebook(cells=[new_markdown_cell(text) for text in cells])
    nb.cells.append(new_code_cell("i"))
    assert prose(nb).split() == ["a", "$fg$"]
