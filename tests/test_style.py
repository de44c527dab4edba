"""The form of lessons and code. Each check gives its complaints, and can fail."""

import ast
import inspect
import os
import re
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator
from copy import deepcopy
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

import lesson_utils
from tools.lessons import (
    CORE,
    LESSONS,
    ROOT,
    code_cells,
    lesson_paths,
    outputs,
    problems,
)

PACKAGE = ROOT / "lesson_utils"
FUNCTION, TAUGHT = 40, 900  # lines, at most: of a function, of the taught core


class Lesson(NamedTuple):
    name: str
    nb: NotebookNode
    size: int  # bytes
    folder: Path


def read(path: Path) -> Lesson:
    nb = nbformat.read(path, as_version=4)
    return Lesson(path.stem, nb, path.stat().st_size, path.parent)


# Lessons


def prose(nb: NotebookNode) -> str:
    return "\n\n".join(c.source for c in nb.cells if c.cell_type == "markdown")


def code(nb: NotebookNode) -> str:
    return "\n\n".join(cell.source for cell in code_cells(nb))


def lines(source: str) -> int:
    return len(source.strip().splitlines())


def images(markdown: str) -> list[tuple[str, str]]:
    """(alt text, source) of each image, written in Markdown or in HTML."""
    found = re.findall(r"!\[([^\]]*)\]\(\s*([^)\s]+)[^)]*\)", markdown)
    for tag in re.findall(r"<img\b[^>]*>", markdown):
        found.append((attribute(tag, "alt"), attribute(tag, "src")))
    return found


def attribute(tag: str, name: str) -> str:
    match = re.search(rf"""\b{name}=(?:"([^"]*)"|'([^']*)'|([^\s>]+))""", tag)
    return next(filter(None, match.groups()), "") if match else ""


def opening(lesson: Lesson) -> list[str]:
    first = lesson.nb.cells[0]
    if first.cell_type != "markdown" or not first.source.startswith("# "):
        return ["the first cell is no Markdown title"]
    return [] if images(first.source) else ["the first cell shows no image"]


def images_in_prose(lesson: Lesson) -> list[str]:
    found = []
    for alt, source in images(prose(lesson.nb)):
        if not alt.strip():
            found.append(f"image {source} has no alt text")
        if not (lesson.folder / source).is_file():
            found.append(f"image {source} is no file beside the lesson")
    return found


def images_in_outputs(lesson: Lesson) -> list[str]:
    shown = [o.get("data", {}).get("text/html", "") for o in outputs(lesson.nb)]
    tags = re.findall(r"<img\b[^>]*>", "".join(map("".join, shown)))
    return [
        f"an output's image has no alt text: {tag[:60]}"
        for tag in tags
        if not attribute(tag, "alt").strip()
    ]


def setup_cell(lesson: Lesson) -> list[str]:
    size = lines(code_cells(lesson.nb)[0].source)
    return [f"the setup cell has {size} lines, over 10"] if size > 10 else []


def device(lesson: Lesson) -> list[str]:
    where = [cell.source.count("best_device()") for cell in code_cells(lesson.nb)]
    once = sum(where) == where[0] == 1
    return [] if once else ["the device is not chosen once, in the first cell"]


def cell_sizes(lesson: Lesson) -> list[str]:
    sizes = sorted(lines(cell.source) for cell in code_cells(lesson.nb))
    median, most = statistics.median(sizes), sizes[-1]
    found = [f"the median cell has {median} lines, over 8"] if median > 8 else []
    if lesson.name == "02_context_unet" and most <= 50:
        most = sizes[-2]  # the UNet's own cell
    return found + ([f"a cell has {most} lines, over 25"] if most > 25 else [])


def columns(lesson: Lesson) -> list[str]:
    return [
        f"{len(line)} columns, over 88: {line}"
        for line in code(lesson.nb).splitlines()
        if len(line) > 88
    ]


def prose_between_code(lesson: Lesson) -> list[str]:
    cells, found = lesson.nb.cells, []
    for one, two in pairwise(cells):
        if one.cell_type == two.cell_type == "code":
            found.append(f"no prose before the cell: {two.source.splitlines()[:1]}")
    return found


def plotting(lesson: Lesson) -> list[str]:
    call, found = r"(?m)^.*\b(?:plt|axe?s?|fig)\b[\[\].\w]*\.\w+\(", []
    for cell in code_cells(lesson.nb):
        count = len(re.findall(call, cell.source))
        if count > 3:
            found.append(f"{count} lines of plotting, over 3: {cell.source[:60]!r}")
    return found


def execution(lesson: Lesson) -> list[str]:
    counts = [cell.execution_count for cell in code_cells(lesson.nb)]
    in_order = counts == list(range(1, len(counts) + 1))
    return [] if in_order else [f"not executed in order: {counts}"]


def clean_outputs(lesson: Lesson) -> list[str]:
    return problems(lesson.nb)


def widget_state(lesson: Lesson) -> list[str]:
    return ["metadata.widgets is there"] if "widgets" in lesson.nb.metadata else []


def notebook_size(lesson: Lesson) -> list[str]:
    kilobytes = lesson.size / 1000
    return [f"{kilobytes:.0f} KB, over 300"] if kilobytes > 300 else []


def your_turn(lesson: Lesson) -> list[str]:
    _, _, section = prose(lesson.nb).partition("## Your turn")
    folded = re.findall(r"(?s)<details>.*?</details>", section)
    return [
        f"Your turn: no {word} folded in <details>"
        for word in ("hint", "solution")
        if not any(word in text.lower() for text in folded)
    ]


def same_code_tested(lesson: Lesson) -> list[str]:
    for i, cell in enumerate(lesson.nb.cells):
        if cell.cell_type == "markdown" and "## The same code, tested" in cell.source:
            rest = code(new_notebook(cells=lesson.nb.cells[i:]))
            ok = re.search(r"\blesson_utils\b|\blu\.", rest) and "assert" in rest
            return [] if ok else ["The same code, tested: nothing is compared"]
    return ["The same code, tested: there is no such section"]


def links(lesson: Lesson) -> list[str]:
    targets = re.findall(r"(?<!!)\[[^\]]*\]\(([^)\s#]+)[^)]*\)", prose(lesson.nb))
    return [
        f"link to {target}, which is no file"
        for target in targets
        if "://" not in target and not (lesson.folder / target).exists()
    ]


def forbidden(source: str) -> list[str]:
    words = r"import \*|\bpickle\b|\btorch\.load\b"
    return [f"uses {word!r}" for word in re.findall(words, source)]


def forbidden_in_lesson(lesson: Lesson) -> list[str]:
    installs = ["installs by pip"] * ("pip install" in code(lesson.nb))
    return forbidden(code(lesson.nb)) + installs


def private_names(lesson: Lesson) -> list[str]:
    """Imports, and attributes of the package, that are not for learners."""
    found = []
    source = TransformerManager().transform_cell(code(lesson.nb))
    for node in ast.walk(ast.parse(source)):
        names = []
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.Attribute):
            names = [ast.unparse(node)]
        for name in names:
            package, *parts = name.split(".")
            if package not in ("lu", "lesson_utils"):
                continue
            if parts[:1] == ["support"] or any(part.startswith("_") for part in parts):
                found.append(f"uses {name}, which is not public")
    return found


def example() -> NotebookNode:
    """A lesson in good form, executed."""
    nb = new_notebook(
        cells=[
            new_markdown_cell("# 5. DDIM\n\n![sprites](dot.gif)\n[next](dot.gif)"),
            new_code_cell("device = lu.best_device()", execution_count=1),
            new_markdown_cell("## The same code, tested"),
            new_code_cell("assert lesson_utils", execution_count=2),
            new_markdown_cell(
                "## Your turn\n<details><summary>Hint</summary>1</details>\n"
                "<details><summary>Solution</summary>2</details>"
            ),
            new_code_cell("'stub'", execution_count=3),
        ]
    )
    html = {"text/html": "<img alt='a dot' src='data:'>"}
    nb.cells[3].outputs = [new_output("display_data", html)]
    return nb


def plant(cell: int, **changes):
    """A fault: other contents for one cell of the example."""
    return lambda nb: nb.cells[cell].update(changes)


LESSON_CHECKS = {
    opening: plant(0, source="No title"),
    images_in_prose: plant(0, source="# 5\n![](dot.gif)"),
    images_in_outputs: plant(
        3, outputs=[new_output("display_data", {"text/html": "<img src='data:'>"})]
    ),
    setup_cell: plant(1, source="1\n" * 11),
    device: plant(3, source="torch.zeros(1, device=lu.best_device())"),
    cell_sizes: plant(3, source="1\n" * 26),
    columns: plant(3, source="x = '" + 88 * "x" + "'"),
    prose_between_code: lambda nb: nb.cells.pop(2),
    plotting: plant(3, source="plt.plot(1)\nax[0].plot(2)\naxes.plot(3)\nfig.show()"),
    execution: plant(5, execution_count=7),
    clean_outputs: plant(3, outputs=[new_output("stream", name="stderr", text="no")]),
    widget_state: lambda nb: nb.metadata.update(widgets={}),
    notebook_size: plant(4, source=300_000 * "x"),
    your_turn: plant(4, source="## Your turn\n<details>Hint</details>"),
    same_code_tested: plant(3, source="'nothing'"),
    links: plant(2, source="[previous](04_nothing.ipynb)"),
    forbidden_in_lesson: plant(1, source="from lesson_utils import *"),
    private_names: plant(1, source="from lesson_utils.viz import _hidden"),
}


@pytest.mark.parametrize("check", LESSON_CHECKS, ids=lambda check: check.__name__)
def test_check_of_lessons(check, tmp_path):
    good, folder = example(), tmp_path
    (folder / "dot.gif").touch()
    bad = deepcopy(good)
    LESSON_CHECKS[check](bad)
    size = len(nbformat.writes(bad))
    assert check(Lesson("05_ddim", good, 1000, folder)) == []
    assert check(Lesson("05_ddim", bad, size, folder)) != []


def test_the_device_is_chosen(tmp_path):
    nb = example()
    nb.cells[1].source = "device = 'cpu'"
    assert device(Lesson("05_ddim", nb, 1, tmp_path)) != []


def test_images_must_be_files(tmp_path):
    assert images_in_prose(Lesson("05_ddim", example(), 1, tmp_path)) != []


def test_the_unet_may_have_fifty_lines(tmp_path):
    nb = example()
    nb.cells[3].source = "1\n" * 50
    assert cell_sizes(Lesson("02_context_unet", nb, 1, tmp_path)) == []
    nb.cells[5].source = "1\n" * 26
    assert cell_sizes(Lesson("02_context_unet", nb, 1, tmp_path)) != []


@pytest.mark.parametrize("check", LESSON_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("path", lesson_paths(), ids=lambda path: path.stem)
def test_lesson(path, check):
    assert check(read(path)) == []


@pytest.mark.parametrize(
    "source",
    [
        "from lesson_utils.support.checked import whole",
        "from lesson_utils import support",
        "import lesson_utils.support.files",
        "import lesson_utils._hidden",
        "%matplotlib inline\nlu._hidden()",
        "lu.ddim.__wrapped__(1)",
    ],
)
def test_private_names_are_found(source, tmp_path):
    nb = new_notebook(cells=[new_code_cell(source)])
    assert private_names(Lesson("05_ddim", nb, 1, tmp_path)) != []
    nb.cells[0].source = "import lesson_utils as lu\nself._x, lu.x, _ = lu.support_it()"
    assert private_names(Lesson("05_ddim", nb, 1, tmp_path)) == []


def large_gifs(folder: Path) -> list[str]:
    gifs = {path.name: path.stat().st_size / 1000 for path in folder.glob("*.gif")}
    return [
        f"{name}: {size:.0f} KB, over 400" for name, size in gifs.items() if size > 400
    ]


def test_gifs_are_small(tmp_path):
    (tmp_path / "large.gif").write_bytes(bytes(400_001))
    assert large_gifs(tmp_path) and large_gifs(LESSONS / "assets") == []


# Modules: each check takes {module: source}


def sources() -> dict[str, str]:
    """lesson_utils and tools; a module's name is its path in the project."""
    paths = sorted([*PACKAGE.rglob("*.py"), *(ROOT / "tools").glob("*.py")])
    return {
        path.relative_to(ROOT).with_suffix("").as_posix(): path.read_text("utf-8")
        for path in paths
    }


def functions(modules: dict[str, str]) -> Iterator[tuple[str, ast.FunctionDef]]:
    """Each function and method, under a name that says where it is."""
    for name, source in modules.items():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{name}: {node.name}", node


def length(node: ast.FunctionDef) -> int:
    """The lines of a function, from def to its end, without its docstring."""
    first, count = node.body[0], node.end_lineno - node.lineno + 1
    documented = ast.get_docstring(node) is not None
    return count - documented * (first.end_lineno - first.lineno + 1)


def long_functions(modules: dict[str, str]) -> list[str]:
    sizes = {name: length(node) for name, node in functions(modules)}
    return [
        f"{name} has {size} lines, over {FUNCTION}"
        for name, size in sizes.items()
        if size > FUNCTION
    ]


def large_core(modules: dict[str, str]) -> list[str]:
    core = [modules.get(f"lesson_utils/{name}", "") for name in CORE]
    size = sum(len(text.splitlines()) for text in core)
    return [f"the taught core has {size} lines, over {TAUGHT}"] * (size > TAUGHT)


def packing(modules: dict[str, str]) -> list[str]:
    """Tuples that have a name only to be unpacked into a call: x = a, b; f(*x)."""
    found = []
    for where, function in functions(modules):
        packed, unpacked = set(), set()
        for node in ast.walk(function):
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Tuple):
                names = [t.id for t in node.targets if isinstance(t, ast.Name)]
                packed.update(names)
            elif isinstance(node, ast.Call):
                starred = [x.value for x in node.args if isinstance(x, ast.Starred)]
                unpacked.update(x.id for x in starred if isinstance(x, ast.Name))
        found += [f"{where} packs {name}" for name in sorted(packed & unpacked)]
    return found


def growing(modules: dict[str, str]) -> list[str]:
    """`x |= …`, unless what is added is plainly a set, or masks: `x |= a | b`."""
    found = []
    for name, source in modules.items():
        for node in ast.walk(ast.parse(source)):
            if not isinstance(node, ast.AugAssign) or not isinstance(
                node.op, ast.BitOr
            ):
                continue
            a_set = isinstance(node.value, ast.Set | ast.SetComp | ast.BinOp)
            if not a_set and not ast.unparse(node.value).startswith("set("):
                found.append(f"{name}: {ast.unparse(node)}")
    return found


def forbidden_in_modules(modules: dict[str, str]) -> list[str]:
    return [
        f"{name} {word}" for name, text in modules.items() for word in forbidden(text)
    ]


LONG = 'def f(x):\n    "One\\\n  two."\n' + "    x += 1\n" * FUNCTION
PACK = "def f():\n    ways = 1, 2\n    return g({})"
MODULE_CHECKS = {
    long_functions: [LONG, f"class A:\n    async {LONG.replace('    ', '     ')}"],
    large_core: ["1\n" * (TAUGHT + 1)],
    packing: [PACK.format("*ways"), f"class A:\n {PACK.format('0, *ways, k=1')}"],
    growing: ["x |= {'a': 1}", "x |= y", "def f():\n    self.x |= dict(a=1)"],
    forbidden_in_modules: ["import pickle", "from .viz import *", "torch.load(path)"],
}
FINE = f"""
{LONG.replace("    x += 1", "", 1)}
{PACK.format("ways, *others")}
x |= {{1}}
x |= set(y)
near |= a | b
"""


@pytest.mark.parametrize("check", MODULE_CHECKS, ids=lambda check: check.__name__)
def test_check_of_modules(check):
    assert check({"lesson_utils/unet": FINE}) == []
    for fault in MODULE_CHECKS[check]:
        assert check({"lesson_utils/unet": fault}) != [], fault


@pytest.mark.parametrize("check", MODULE_CHECKS, ids=lambda check: check.__name__)
def test_modules(check):
    assert check(sources()) == []


# Which module imports which: pyproject.toml has the rules, import-linter keeps them


def import_linter(project: Path) -> subprocess.CompletedProcess:
    command = (
        "from importlinter.cli import lint_imports; exit(lint_imports(no_cache=1))"
    )
    return subprocess.run(
        [sys.executable, "-c", command],
        cwd=project,
        env=os.environ | {"PYTHONPATH": str(project), "COLUMNS": "200"},
        capture_output=True,
        text=True,
    )


def test_imports_keep_to_the_house():
    said = import_linter(ROOT)
    assert said.returncode == 0 and " 0 broken" in said.stdout, said.stdout


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    """A copy of what import-linter reads."""
    project = tmp_path_factory.mktemp("copied")
    shutil.copy(ROOT / "pyproject.toml", project)
    for name in ("lesson_utils", "tools"):
        shutil.copytree(ROOT / name, project / name)
    return project


@pytest.mark.parametrize(
    ("module", "fault", "words"),
    [
        ("unet", "from .schedule import Schedule", ".unet -> lesson_utils.schedule"),
        ("sampling", "import lesson_utils.unet", ".sampling -> lesson_utils.unet"),
        ("sampling", "from lesson_utils import viz", ".sampling -> lesson_utils.viz"),
        ("training", "def f():\n    from .data import sprites", ".training -> "),
        ("support/files", "from ..schedule import Schedule", ".support.files -> "),
        ("viz", "from .checkpoint import load", ".viz -> lesson_utils.checkpoint"),
        ("checkpoint", "from .data import dataset", ".checkpoint -> lesson_utils.data"),
        ("data", "from .checkpoint import load", ".data -> lesson_utils.checkpoint"),
        ("data", "from .quality import metrics", ".data -> lesson_utils.quality"),
        ("schedule", "import lesson_utils", ".schedule -> lesson_utils "),
        ("__init__", "from .cli import main", "lesson_utils -> lesson_utils.cli"),
        ("cli", "from .widgets import playground", ".cli -> lesson_utils.widgets"),
        ("data", "import tools.lessons", ".data -> tools.lessons"),
        ("data", "import lessons", ".data -> lessons"),
        ("../tools/site", "from lesson_utils import cli", "tools.site -> lesson_utils"),
        ("homeless", "", "- lesson_utils.homeless"),
    ],
)
def test_a_wrong_import_is_found(copied, module, fault, words):
    path = copied / "lesson_utils" / f"{module}.py"
    before = path.read_text() if path.exists() else None
    path.write_text(f"{before or ''}\n{fault}\n")
    said = import_linter(copied)
    path.unlink() if before is None else path.write_text(before)
    assert said.returncode and words in said.stdout


def test_no_test_module_imports_another():
    found = {}
    for path in sorted((ROOT / "tests").glob("*.py")):
        text = path.read_text(encoding="utf-8")
        if others := re.findall(
            r"(?m)^\s*(?:from|import) +(?:tests\.)?(test_\w+)", text
        ):
            found[path.name] = others
    assert found == {}


def undocumented(module) -> list[str]:
    found = []
    for name in module.__all__:
        public = getattr(module, name)
        if inspect.isfunction(public) or inspect.isclass(public):
            text = public.__doc__ or ""
            if not text or text.startswith(f"{name}("):  # dataclasses write their own
                found.append(name)
    return found


def test_public_names_are_documented():
    class Pair(NamedTuple):
        one: int

    fault = SimpleNamespace(__all__=["Pair", "f"], Pair=Pair, f=lambda: None)
    assert undocumented(fault) == ["Pair", "f"]
    assert undocumented(lesson_utils) == []


# All files


def machine_bound(text: str) -> list[str]:
    """Paths of somebody's machine, and the hosts of package registries."""
    places = [re.escape(str(ROOT)), re.escape(str(Path.home())) + r"/\w"]
    places += [r"(?<![\w.])/(?:home|Users)/\w+", r"[A-Z]:\\Users"]
    hosts = [r"pypi\.org", r"pythonhosted\.org", r"anaconda\.(?:org|com)"]
    hosts += [r"download\.pytorch\.org"]
    return re.findall("|".join(places + hosts), text)


def project_files() -> list[Path]:
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listing.returncode:
        pytest.skip(f"not a git checkout: {listing.stderr.strip()}")
    paths = [ROOT / line for line in listing.stdout.splitlines()]
    binary = {".gif", ".png", ".safetensors"}
    return [path for path in paths if path.is_file() and path.suffix not in binary]


def test_nothing_is_bound_to_a_machine():
    assert machine_bound(f"open('{ROOT / 'README.md'}')")
    assert machine_bound("pip install -i https://" + "pypi" + ".org/simple")
    found = {
        path.name: machine_bound(path.read_text(encoding="utf-8"))
        for path in project_files()
    }
    assert {name: what for name, what in found.items() if what} == {}
