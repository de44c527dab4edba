"""README.md: what a newcomer sees first, and the table of the lessons."""

import re
from collections.abc import Iterator

import nbformat
import pytest

from tools.lessons import LESSONS, ROOT, lesson_paths

README = (ROOT / "README.md").read_text(encoding="utf-8")
TIME = r"\*Time\*: (\d+) minutes, and (\d+) for the exercises\. The cells run in about "
TIME += r"(.+?) on two cores"
ROW = r"\| \[(\d+ · .+?)\]\(lessons/(\S+\.ipynb)\) \| (.+?) \| (.+?) \| (.+?) \|(.*)\|"

IMAGE = r' <img src="\S+" width="160" alt="[^"]+"> '


def first_screen(readme: str) -> Iterator[str]:
    """What this is, what to type, where to go, and the diagram: before any section."""
    head = readme.partition("\n## ")[0]
    for words in ("\n```\nmake lab\n```\n", "Python 3.11", "DDPM", "DDIM", "GPU"):
        if words not in head:
            yield f"no {words.strip()}"
    for link in ("#the-lessons", "lessons/glossary.md", "lessons/cheat_sheet.md"):
        if f"]({link})" not in head:
            yield f"no link to {link}"
    if "](lessons/assets/overview.svg)" not in head:
        yield "no diagram"
    text = head.partition("![")[0]
    if len(text.split()) > 130:
        yield f"{len(text.split())} words before the diagram"


def table(readme: str) -> Iterator[str]:
    """Rows that do not say what the first cell of their lesson says, or are missing."""
    section = readme.partition("\n## The lessons\n")[2].partition("\n## ")[0]
    rows = re.findall(f"(?m)^{ROW}$", section)
    names, paths = [row[1] for row in rows], lesson_paths()
    if names != [path.name for path in paths]:
        yield f"the table has {names}"
        return
    for (title, name, can, minutes, runs, image), path in zip(rows, paths, strict=True):
        first = nbformat.read(path, as_version=4).cells[0].source
        if not first.startswith(f"# {title}"):
            yield f"{name} is not called {title}"
        found = re.search(TIME, first)
        if not found:
            yield f"{name} does not say how long it takes"
        elif (minutes, runs) != (f"{found[1]} + {found[2]} min", found[3]):
            yield f"{name}: {minutes}, {runs}; the lesson says {found[0]}"
        if not 5 <= len(can.split()) <= 25:
            yield f"{name}: {can}"
        if image.strip() and not re.fullmatch(IMAGE, image):
            yield f"{name}: {image}"


def dead(readme: str) -> Iterator[str]:
    """Links and images that lead nowhere, other sites left aside."""
    slugs = re.findall(r"(?m)^#+ (.+)$", readme)
    slugs = [re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in slugs]
    plain = re.sub(r"(?s)```.*?```", "", readme)
    for target in re.findall(r'\]\(([^)\s]+)\)|src="([^"]+)"', plain):
        path, _, anchor = "".join(target).partition("#")
        if ":" not in path and not (ROOT / path).exists():
            yield path
        if not path and anchor not in slugs:
            yield f"#{anchor}"


LAST = lesson_paths()[-1].name
FAULTS = {
    first_screen: [
        ("make lab\n```", "make test\n```"),
        ("](lessons/glossary.md)", ""),
        ("](lessons/assets/overview.svg)", "](lessons/assets/sprites.png)"),
        ("Python 3.11", "Python"),
        ("Hands-on", 100 * "very " + "hands-on"),
    ],
    table: [
        ("1 · Noise]", "1 · Sound]"),
        (" + 24 min", " + 25 min"),
        ("| 20 seconds |", "| 20 minutes |"),
        (f"lessons/{LAST}", "lessons/14_more.ipynb"),
        ('width="160" alt="Film: six', 'width="160" title="Film: six'),
    ],
    dead: [
        ("](lessons/glossary.md)", "](lessons/glossar.md)"),
        ("](#the-lessons)", "](#lessons)"),
        ('src="lessons/assets/01', 'src="lessons/assets/00'),
    ],
}


@pytest.mark.parametrize("check", FAULTS, ids=lambda check: check.__name__)
def test_readme(check):
    assert list(check(README)) == []
    for right, wrong in FAULTS[check]:
        assert right in README, right
        assert list(check(README.replace(right, wrong))), wrong


def eaten(page: str) -> list[str]:
    r"""What GitHub takes from a formula: the backslash before a mark, as in \|."""
    formulas = re.findall(r"(?s)\$\$.+?\$\$|\$[^$]+\$", page)
    return [each for text in formulas for each in re.findall(r"\\[^A-Za-z]", text)]


def test_github_shows_the_formulas_of_the_sheets():
    assert eaten(r"$a\,b$ and $$\|x\|^2$$") == [r"\,", r"\|", r"\|"]
    for name in ("glossary.md", "cheat_sheet.md"):
        assert eaten((LESSONS / name).read_text(encoding="utf-8")) == []


def test_the_lessons_and_their_sheets_lead_to_each_other():
    for name in ("glossary.md", "cheat_sheet.md"):
        text = (LESSONS / name).read_text(encoding="utf-8")
        assert "](../README.md#the-lessons)" in text
        assert f"](lessons/{name})" in README
