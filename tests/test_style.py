"""The form of lessons and code. Each check gives its complaints, and can fail.

Columns are ruff's, images test_site's, where every page must show them with words.
"""

import ast
import inspect
import os
import re
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import dropwhile, pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

import lesson_utils
from lesson_utils import cli
from tools import lessons, site
from tools.lessons import CORE, LESSONS, ROOT, code_cells, lesson_paths, problems

PACKAGE = ROOT / "lesson_utils"
FUNCTION, TAUGHT = 40, 900  # lines, at most: of a function, of the taught core


class Lesson(NamedTuple):
    name: str
    nb: NotebookNode
    size: int  # bytes
    folder: Path


@cache
def read(path: Path) -> Lesson:
    nb = nbformat.read(path, as_version=4)
    return Lesson(path.stem, nb, path.stat().st_size, path.parent)


def each_of(checks: Iterable):
    return pytest.mark.parametrize("check", checks, ids=lambda check: check.__name__)


# Lessons: each check takes one, and gives its complaints


def prose(nb: NotebookNode) -> str:
    return "\n\n".join(c.source for c in nb.cells if c.cell_type == "markdown")


def code(nb: NotebookNode) -> str:
    return "\n\n".join(cell.source for cell in code_cells(nb))


def lines(source: str) -> int:
    return len(source.strip().splitlines())


def opening(lesson: Lesson) -> Iterator[str]:
    first = lesson.nb.cells[0]
    if first.cell_type != "markdown" or not first.source.startswith("# "):
        yield "the first cell is no Markdown title"
    elif not re.search(r"!\[.+\]\(|<img\b", first.source):
        yield "the first cell shows no image"


def first_words(lesson: Lesson) -> Iterator[str]:
    """What one must know; and in the first lesson how a cell is run."""
    needed = ["*You will*", "*You need*", "*Time*"]
    needed += ["Shift+Enter"] if lesson.name.startswith("01") else []
    for words in needed:
        if words not in lesson.nb.cells[0].source:
            yield f"the first cell says nothing of {words}"


def setup_cells(lesson: Lesson) -> Iterator[str]:
    """The first finds the project, as in lesson 1; the second names the data."""
    first, second, *_ = (cell.source for cell in code_cells(lesson.nb))
    if first != FIND:
        yield "the first cell of code is not that of lesson 1"
    for source in (first, second):
        if lines(source) > 10:
            yield f"a setup cell has {lines(source)} lines, over 10"
    where = [cell.source.count("best_device()") for cell in code_cells(lesson.nb)]
    if not sum(where) == where[1] == 1:
        yield "the device is not chosen once, in the second cell"
    if second.count('\ndataset = "sprites"') != 1:
        yield "the second cell does not name the data set"


def cell_sizes(lesson: Lesson) -> Iterator[str]:
    sizes = sorted(lines(cell.source) for cell in code_cells(lesson.nb))
    median, most = statistics.median(sizes), sizes[-1]
    if lesson.name == "03_context_unet" and most <= 50:
        most = sizes[-2]  # the UNet's own cell
    if median > 8:
        yield f"the median cell has {median} lines, over 8"
    if most > 25:
        yield f"a cell has {most} lines, over 25"


def prose_between_code(lesson: Lesson) -> Iterator[str]:
    for one, two in pairwise(lesson.nb.cells):
        if one.cell_type == two.cell_type == "code":
            yield f"no prose before the cell: {two.source.splitlines()[:1]}"


def plotting(lesson: Lesson) -> Iterator[str]:
    call = r"(?m)^.*\b(?:plt|axe?s?|fig)\b[\[\].\w]*\.\w+\("
    for cell in code_cells(lesson.nb):
        count = len(re.findall(call, cell.source))
        if count > 3:
            yield f"{count} lines of plotting, over 3: {cell.source[:60]!r}"


def execution(lesson: Lesson) -> Iterator[str]:
    counts = [cell.execution_count for cell in code_cells(lesson.nb)]
    if counts != list(range(1, len(counts) + 1)):
        yield f"not executed in order: {counts}"


def clean_outputs(lesson: Lesson) -> list[str]:
    return problems(lesson.nb)


def widget_state(lesson: Lesson) -> Iterator[str]:
    if "widgets" in lesson.nb.metadata:
        yield "metadata.widgets is there"


def notebook_size(lesson: Lesson) -> Iterator[str]:
    if lesson.size > 300_000:
        yield f"{lesson.size / 1000:.0f} KB, over 300"


def your_turn(lesson: Lesson) -> Iterator[str]:
    _, _, section = prose(lesson.nb).partition("## Your turn")
    folded = "".join(re.findall(r"(?s)<details>.*?</details>", section)).lower()
    for word in ("hint", "solution"):
        if word not in folded:
            yield f"Your turn: no {word} folded in <details>"


def section(nb: NotebookNode, title: str) -> Iterator[NotebookNode]:
    """The cells of code between a heading and the next one."""
    inside = False
    for cell in nb.cells:
        if cell.cell_type == "code" and inside:
            yield cell
        elif title in cell.source:
            inside = True
        elif re.search(r"(?m)^## ", cell.source):
            inside = False


def same_code_tested(lesson: Lesson) -> Iterator[str]:
    title = "## The same code, tested"
    cells = dropwhile(lambda cell: title not in cell.source, lesson.nb.cells)
    rest = code(new_notebook(cells=list(cells)))
    if not re.search(r"\blesson_utils\b|\blu\.", rest) or "assert" not in rest:
        yield f"{title}: there is no such section, or nothing is compared in it"
    for cell in section(lesson.nb, title):
        if not cell.metadata.get("jupyter", {}).get("source_hidden"):
            yield f"{title}: its code is not folded"


def links(lesson: Lesson) -> Iterator[str]:
    for target in re.findall(r"(?<!!)\[[^\]]*\]\(([^)\s#]+)[^)]*\)", prose(lesson.nb)):
        if "://" not in target and not (lesson.folder / target).exists():
            yield f"link to {target}, which is no file"


def references(lesson: Lesson) -> Iterator[str]:
    """The last cell: what the lesson quotes, each title a link, and the way on."""
    *_, last = lesson.nb.cells
    cited, _, onward = last.source.partition("\n\n")
    if not cited.startswith("*References*: "):
        yield "the last cell has no references"
    unlinked = re.sub(r"\[\*[^*]+\*\]\(https://[^)]+\)", "", cited[12:])
    yield from (f"{title} has no link" for title in re.findall(r"\*[^*]+\*", unlinked))
    names = [path.name for path in lesson_paths()]
    later = [name for name in names if name > f"{lesson.name}.ipynb"]
    target = later[0] if later else "../README.md#your-own-images"
    if not re.search(rf"\bNext: \[[^\]]+\]\({re.escape(target)}\)", onward):
        yield f"the last words do not lead to {target}"


def forbidden(source: str) -> list[str]:
    words = r"import \*|\bpickle\b|\btorch\.load\b"
    return [f"uses {word!r}" for word in re.findall(words, source)]


def forbidden_in_lesson(lesson: Lesson) -> list[str]:
    pip = re.search(r"(?m)^\s*[!%]+ *(python -m )?pip\b", code(lesson.nb))
    installs = ["installs by pip"] * bool(pip)
    return forbidden(code(lesson.nb)) + installs


def private_names(lesson: Lesson) -> Iterator[str]:
    """Imports, and attributes of the package, that are not for learners."""
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
            if re.match(r"(lu|lesson_utils)\.(support\b|(.*\.)?_)", name):
                yield f"uses {name}, which is not public"


ARXIV = "https://arxiv.org/abs/"
FIND = code_cells(read(lesson_paths()[0]).nb)[0].source
FIRST = "# 5. DDIM\n\n![sprites](dot.gif)\n*You will*, *You need*, *Time*"
LAST = """*References*: Ho, [*DDPM*](https://arxiv.org/abs/2006.11239) (2020), eq. 4.

Next: [7 · Speed and quality](07_speed_and_quality.ipynb)"""


FOLDED = {"jupyter": {"source_hidden": True}}


def example() -> NotebookNode:
    """A lesson in good form, executed."""
    nb = new_notebook(
        cells=[
            new_markdown_cell(FIRST),
            new_code_cell(FIND, execution_count=1),
            new_markdown_cell("The names, a seed, and the data:"),
            new_code_cell(f"{PUBLIC}\n{SETUP}", execution_count=2),
            new_markdown_cell("## The same code, tested"),
            new_code_cell("assert lesson_utils", execution_count=3, metadata=FOLDED),
            new_markdown_cell(
                "## Your turn\n<details><summary>Hint</summary>1</details>\n"
                "<details><summary>Solution</summary>2</details>"
            ),
            new_code_cell("'stub'", execution_count=4),
            new_markdown_cell(LAST),
        ]
    )
    nb.cells[5].outputs = [new_output("stream", name="stdout", text="yes")]
    return nb


def plant(cell: int, source: str | None = None, **changes):
    """A fault: other contents for one cell of the example."""
    new = changes if source is None else {"source": source}
    return lambda nb: nb.cells[cell].update(new)


PUBLIC = "import lesson_utils as lu\nself._x, lu.x, _ = lu.support_it()"
SETUP = 'device = lu.best_device()\ndataset = "sprites"  # or another'
STDERR = new_output("stream", name="stderr", text="no")
LESSON_CHECKS = {
    opening: [plant(0, "No title"), plant(0, "# 5\nNo image")],
    first_words: [plant(0, FIRST.replace("*You need*", ""))],
    setup_cells: [
        plant(1, f"{FIND}\n"),
        plant(3, SETUP + 9 * "\n1"),
        plant(3, SETUP.replace("lu.best_device()", "'cpu'")),
        plant(3, SETUP.replace("sprites", "mnist")),
        plant(5, "torch.zeros(1, device=lu.best_device())"),
    ],
    cell_sizes: [plant(5, "1\n" * 26)],
    prose_between_code: [lambda nb: nb.cells.pop(4)],
    plotting: [plant(5, "plt.plot(1)\nax[0].plot(2)\naxes.plot(3)\nfig.show()")],
    execution: [plant(7, execution_count=9)],
    clean_outputs: [plant(5, outputs=[STDERR])],
    widget_state: [lambda nb: nb.metadata.update(widgets={})],
    notebook_size: [plant(6, 300_000 * "x")],
    your_turn: [plant(6, "## Your turn\n<details>Hint</details>")],
    same_code_tested: [
        plant(5, "'nothing'"),
        plant(4, "## Another section"),
        plant(5, metadata={}),
    ],
    links: [plant(4, "[previous](04_nothing.ipynb)")],
    references: [
        plant(8, LAST.replace("*References*: ", "")),
        plant(8, LAST.replace("[*DDPM*](https://arxiv.org/abs/2006.11239)", "*DDPM*")),
        plant(8, LAST.replace("07_speed", "08_speed")),
        lambda nb: nb.cells.pop(8),
    ],
    forbidden_in_lesson: [
        plant(3, "from lesson_utils import *"),
        plant(3, "%pip install x"),
        plant(3, "!python -m pip install x"),
    ],
    private_names: [
        plant(3, "from lesson_utils.viz import _hidden"),
        plant(3, "from lesson_utils.support.checked import whole"),
        plant(3, "from lesson_utils import support"),
        plant(3, "import lesson_utils.support.files"),
        plant(3, "import lesson_utils._hidden"),
        plant(3, "%matplotlib inline\nlu._hidden()"),
        plant(3, "lu.ddim.__wrapped__(1)"),
    ],
}


@each_of(LESSON_CHECKS)
def test_check_of_lessons(check, tmp_path):
    for name in ("dot.gif", "07_speed_and_quality.ipynb"):
        (tmp_path / name).touch()
    assert list(check(Lesson("06_ddim", example(), 1000, tmp_path))) == []
    for i, spoil in enumerate(LESSON_CHECKS[check]):
        bad = example()
        spoil(bad)
        size = len(nbformat.writes(bad))
        assert list(check(Lesson("06_ddim", bad, size, tmp_path))), f"fault {i}"


def test_the_unet_may_have_fifty_lines(tmp_path):
    nb = example()
    nb.cells[5].source = "1\n" * 50
    assert list(cell_sizes(Lesson("03_context_unet", nb, 1, tmp_path))) == []
    nb.cells[7].source = "1\n" * 26
    assert list(cell_sizes(Lesson("03_context_unet", nb, 1, tmp_path))) != []


@each_of(LESSON_CHECKS)
@pytest.mark.parametrize("path", lesson_paths(), ids=lambda path: path.stem)
def test_lesson(path, check):
    assert list(check(read(path))) == []


def test_a_paper_has_one_address_in_all_lessons():
    last = [read(path).nb.cells[-1].source for path in lesson_paths()]
    cited = re.findall(r"\[\*([^*]+)\*\]\(([^)]+)\)", "\n".join(last))
    assert len(dict(cited)) == len(set(cited)) == len({url for _, url in cited})
    assert ("Denoising Diffusion Implicit Models", ARXIV + "2010.02502") in cited
    for _, url in cited:
        assert ARXIV not in url or re.fullmatch(rf"{ARXIV}\d{{4}}\.\d{{5}}", url)


def large_gifs(folder: Path) -> Iterator[str]:
    for path in folder.glob("*.gif"):
        kilobytes = path.stat().st_size / 1000
        if kilobytes > 400:
            yield f"{path.name}: {kilobytes:.0f} KB, over 400"


def test_gifs_are_small(tmp_path):
    (tmp_path / "large.gif").write_bytes(bytes(400_001))
    assert list(large_gifs(tmp_path)) and list(large_gifs(LESSONS / "assets")) == []


# README.md quotes what the code says


README = (ROOT / "README.md").read_text(encoding="utf-8")
OF_OTHERS = ("operator torchvision::nms", "No module named")


def texts(source: str) -> Iterator[str]:
    """Each text in a module, of an f-string its parts."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def unsaid(readme: str) -> list[str]:
    """What the heads of Troubleshooting quote, and no module or lesson says."""
    _, _, section = readme.partition("## Troubleshooting")
    heads = re.findall(r"(?m)^- \*(.*?)\*", section)
    quoted = [text for head in heads for text in re.findall(r"`([^`]+)`", head)]
    cells = [code(nbformat.read(path, as_version=4)) for path in lesson_paths()]
    plain = [TransformerManager().transform_cell(cell) for cell in cells]
    said = [text for source in [*sources().values(), *plain] for text in texts(source)]
    return [
        words
        for words in quoted
        if not words.startswith(OF_OTHERS) and not any(words in text for text in said)
    ]


def test_the_readme_quotes_what_is_said():
    assert unsaid(README) == []
    planted = README.replace("damaged (its checksum)", "damaged (a rumour)")
    assert unsaid(planted) == ["damaged (a rumour)"]


def test_the_readme_names_flags_that_there_are(capsys):
    for command in cli.COMMANDS:
        with pytest.raises(SystemExit):
            cli.main([command, "--help"])
    for tool in (lessons, site):
        with pytest.raises(SystemExit):
            tool.main(["--help"])
    known = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    known |= {"--ip", "--multi_gpu", "--num_processes", "--cpu"}  # of other programs
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z_-]+", README))
    assert named - known == set()
    assert {"--from", "--background", "--in-place", "--out"} <= named


# Modules: each check takes {module: source}


def sources() -> dict[str, str]:
    """lesson_utils and tools; a module's name is its path in the project."""
    paths = sorted([*PACKAGE.rglob("*.py"), *(ROOT / "tools").glob("*.py")])
    return {
        path.relative_to(ROOT).with_suffix("").as_posix(): path.read_text(
            encoding="utf-8"
        )
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


def long_functions(modules: dict[str, str]) -> Iterator[str]:
    for name, node in functions(modules):
        if length(node) > FUNCTION:
            yield f"{name} has {length(node)} lines, over {FUNCTION}"


def large_core(modules: dict[str, str]) -> Iterator[str]:
    core = [modules.get(f"lesson_utils/{name}", "") for name in CORE]
    size = sum(len(text.splitlines()) for text in core)
    if size > TAUGHT:
        yield f"the taught core has {size} lines, over {TAUGHT}"


def packing(modules: dict[str, str]) -> Iterator[str]:
    """Tuples that have a name only to be unpacked into a call: x = a, b; f(*x)."""
    for where, function in functions(modules):
        packed, unpacked = set(), set()
        for node in ast.walk(function):
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Tuple):
                packed.update(map(ast.unparse, node.targets))
            elif isinstance(node, ast.Call):
                starred = [x.value for x in node.args if isinstance(x, ast.Starred)]
                unpacked.update(map(ast.unparse, starred))
        for name in sorted(packed & unpacked):
            yield f"{where} packs {name}"


def growing(modules: dict[str, str]) -> Iterator[str]:
    """`x |= …`, unless what is added is plainly a set, or masks: `x |= a | b`."""
    for name, source in modules.items():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.AugAssign) and isinstance(node.op, ast.BitOr):
                a_set = isinstance(node.value, ast.Set | ast.SetComp | ast.BinOp)
                if not a_set and not ast.unparse(node.value).startswith("set("):
                    yield f"{name}: {ast.unparse(node)}"


def forbidden_in_modules(modules: dict[str, str]) -> Iterator[str]:
    for name, text in modules.items():
        yield from (f"{name} {word}" for word in forbidden(text))


LINE = "    x += 1\n"
LONG = 'def f(x):\n    "One\\\n  two."\n' + LINE * FUNCTION
PACK = "def f():\n    ways = 1, 2\n    return g({})"
MODULE_CHECKS = {
    long_functions: [LONG, f"class A:\n    async {LONG.replace('    ', '     ')}"],
    large_core: ["1\n" * (TAUGHT + 1)],
    packing: [PACK.format("*ways"), f"class A:\n {PACK.format('0, *ways, k=1')}"],
    growing: ["x |= {'a': 1}", "x |= y", "def f():\n    self.x |= dict(a=1)"],
    forbidden_in_modules: ["import pickle", "from .viz import *", "torch.load(path)"],
}
FINE = f"""
{LONG.removesuffix(LINE)}
{PACK.format("ways, *others")}
x |= {{1}}
x |= set(y)
near |= a | b
"""


@each_of(MODULE_CHECKS)
def test_check_of_modules(check):
    assert list(check({"lesson_utils/unet": FINE})) == []
    for fault in MODULE_CHECKS[check]:
        assert list(check({"lesson_utils/unet": fault})) != [], fault


@each_of(MODULE_CHECKS)
def test_modules(check):
    assert list(check(sources())) == []


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
    before = path.read_text(encoding="utf-8") if path.exists() else None
    path.write_text(f"{before or ''}\n{fault}\n", encoding="utf-8")
    said = import_linter(copied)
    path.unlink() if before is None else path.write_text(before, encoding="utf-8")
    assert said.returncode and words in said.stdout


def test_no_test_module_imports_another():
    imports = re.compile(r"(?m)^\s*(?:from|import) +(?:tests\.)?(test_\w+)")
    for path in sorted((ROOT / "tests").glob("*.py")):
        assert imports.findall(path.read_text(encoding="utf-8")) == [], path.name


def undocumented(module) -> list[str]:
    public = {name: getattr(module, name) for name in module.__all__}
    return [
        name
        for name, each in public.items()
        if (inspect.isfunction(each) or inspect.isclass(each))
        # Dataclasses write their own.
        and (each.__doc__ or f"{name}(").startswith(f"{name}(")
    ]


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


def test_nothing_is_bound_to_a_machine():
    assert machine_bound(f"open('{ROOT / 'README.md'}')")
    assert machine_bound("pip install -i https://" + "pypi" + ".org/simple")
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listing.returncode:
        pytest.skip(f"not a git checkout: {listing.stderr.strip()}")
    for name in listing.stdout.splitlines():
        binary = name.endswith((".gif", ".png", ".safetensors"))
        if not binary and (ROOT / name).is_file():
            assert machine_bound((ROOT / name).read_text(encoding="utf-8")) == [], name
