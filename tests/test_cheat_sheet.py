"""The cheat sheet: its code is the module's, and its example runs."""

import ast
import re
from collections.abc import Iterator

import pytest
import torch

from tools.lessons import LESSONS, ROOT

SHEET = (LESSONS / "cheat_sheet.md").read_text(encoding="utf-8")
PARTS = ["Schedule", "Training", "DDPM", "DDIM", "Inversion", "Guidance"]
FROM = r"(?ms)^From ([^\n]+) in `([\w/.]+)`:\n\n```python\n(.*?)```"


def lines_of(path: str, names: list[str]) -> list[str]:
    """The lines of these functions of a module, one after the other, not indented."""
    source = (ROOT / path).read_text(encoding="utf-8")
    lines = source.splitlines()
    found = {
        node.name: [line.strip() for line in lines[node.lineno - 1 : node.end_lineno]]
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef)
    }
    missing = [name for name in names if name not in found]
    if missing:
        return [f"{path} has no {missing[0]}"]
    return [line for name in names for line in found[name]]


def foreign(sheet: str) -> Iterator[str]:
    """Lines of code that the named functions lack, or have in another order."""
    for names, path, code in re.findall(FROM, sheet):
        rest = iter(lines_of(path, re.findall(r"`(\w+)`", names)))
        for line in code.strip().splitlines():
            if line.strip() not in rest:  # which goes on behind the line found
                yield f"{path} has no such line: {line.strip()}"
                break


def incomplete(sheet: str) -> Iterator[str]:
    """Parts without a formula, a lesson and three lines of the module."""
    sections = dict(re.findall(r"(?ms)^## ([^\n]+)\n(.*?)(?=^## |\Z)", sheet))
    if list(sections) != [*PARTS, "All of it in use"]:
        yield f"its parts are {list(sections)}"
    for name in PARTS:
        text = sections.get(name, "")
        code = "".join(found[2] for found in re.findall(FROM, text))
        if text.count("$$") != 2:
            yield f"{name}: no formula"
        if not re.search(r"\[lesson \d+\]\(\d\d_\w+\.ipynb\)", text):
            yield f"{name}: no lesson"
        if len(code.strip().splitlines()) != 3 or text.count("```") != 2:
            yield f"{name}: not three lines of the module"


def dead_links(sheet: str) -> Iterator[str]:
    for target in re.findall(r"\]\(([^)#]+)", sheet):
        if not (LESSONS / target).is_file():
            yield target


LINE = "with_c, without = model(torch.cat([x, x]), torch.cat([t, t]), both).chunk(2)\n"
FAULTS = {
    foreign: [
        ("without + scale *", "without + scale*"),
        (LINE, LINE.replace("2)", "3)")),
        ("`ddpm` in", "`ddim` in"),
        ("`ddpm` in", "`ddpn` in"),
        (f"{LINE}return", f"{LINE}{LINE}return"),
    ],
    incomplete: [
        ("## DDPM", "## DDPMs"),
        ("$$L =", "$L ="),
        ("([lesson 9](09_inversion.ipynb))", ""),
        (LINE, ""),
        ("From `guide` in", "Of `guide` in"),
    ],
    dead_links: [("05_context", "05_contest"), ("overview", "overseen")],
}


@pytest.mark.parametrize("check", FAULTS, ids=lambda check: check.__name__)
def test_the_sheet(check):
    assert list(check(SHEET)) == []
    for right, wrong in FAULTS[check]:
        assert right in SHEET and list(check(SHEET.replace(right, wrong))), wrong


def test_the_example_runs(capsys):
    [code] = re.findall(r"(?s)## All of it in use\n\n```python\n(.*?)```", SHEET)
    names = {}
    exec(code, names)
    assert names["x"].shape == (3, 3, 16, 16) and torch.isfinite(names["x"]).all()
