"""The lessons run without a problem, and build the same code as lesson_utils."""

import ast
import asyncio
import inspect
import os
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from functools import partial
from itertools import pairwise, product
from pathlib import Path
from queue import Empty

import imageio.v3 as iio
import nbformat
import pytest
from conftest import needs_digits
from IPython.core.inputtransformer2 import TransformerManager
from nbformat.sign import NotebookNotary
from nbformat.v4 import new_code_cell, new_notebook, new_output

import lesson_utils
from tools import lessons, workspace

LESSONS = lessons.lesson_paths()
EXERCISE = re.compile(r"\blu\.exercises\.(\w+)\(my_\w+")
STUB = re.compile(r"(?ms)^my_\w+ = \.\.\..*?$|^def my_\w+\(.*?\n\n\n")
SOLUTION = re.compile(r"<summary>Solution</summary>\s+```python\n(.*?)```", re.DOTALL)
every_lesson = pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
# From the checkpoint: these must run without any data.
ONLY_SAMPLE = {"06_ddim", "07_speed_and_quality"}


def notebook(*sources):
    return new_notebook(cells=[new_code_cell(source) for source in sources])


# The runner, on planted notebooks


def run(folder, *sources):
    path = folder / "99_planted.ipynb"
    nbformat.write(notebook(*sources), path)
    return lessons.run_lesson(path), nbformat.read(path, as_version=4)


def test_a_clean_lesson_has_no_problem(tmp_path):
    result, nb = run(
        tmp_path,
        "import os, sys",
        "print(sys.executable)\nprint(os.getcwd())",
        "import lesson_utils\nprint('one\\rtwo')",
        "from IPython.display import HTML\nHTML('<img alt=dot src=dot.gif>')",
        "import ipywidgets\nipywidgets.IntSlider()",  # a view of a state that goes
    )
    assert result.problems == []
    assert (result.cells, result.images) == (5, 1)
    texts = ["".join(o.text for o in cell.outputs) for cell in nb.cells[:3]]
    assert texts == ["", f"{sys.executable}\n{tmp_path}\n", "two\n"]
    assert [cell.execution_count for cell in nb.cells] == [1, 2, 3, 4, 5]
    assert nb.cells[4].outputs == [] and nb.metadata == lessons.METADATA


CALLBACK = """
import warnings, ipywidgets
out, slider = ipywidgets.Output(), ipywidgets.IntSlider()
@out.capture()
def callback(change):
    {body}
slider.observe(callback, "value")
out
"""


TRACEBACK = """
import sys, traceback
try:
    1 / 0
except ZeroDivisionError:
    traceback.print_exc(file=sys.stdout)
"""


@pytest.mark.parametrize(
    ("words", "sources"),
    [
        ("code cell 2: ZeroDivisionError", ["1 + 1", "1 / 0", "2"]),
        (
            "an Output widget: KeyError: 'planted'",
            [CALLBACK.format(body="raise KeyError('planted')"), "slider.value = 3"],
        ),
        (
            "an Output widget writes to stderr",
            [CALLBACK.format(body="warnings.warn('planted')"), "slider.value = 3"],
        ),
        (
            "an Output widget: ZeroDivisionError",
            ["import ipywidgets", "ipywidgets.interact(lambda n: 1 / n, n=(0, 1));"],
        ),
        ("cell 1 writes to stderr", ["import warnings\nwarnings.warn('planted')"]),
        ("cell 1 writes to stderr", ["import sys\nprint('planted', file=sys.stderr)"]),
        ("prints a traceback", [TRACEBACK]),
        ("DeadKernelError", ["import os\nos._exit(1)"]),
    ],
)
def test_problems_are_found(tmp_path, sources, words):
    result, nb = run(tmp_path, *sources)
    assert any(words in problem for problem in result.problems), result.problems
    assert "widgets" not in nb.metadata


def test_a_reply_whose_event_is_lost_is_found_within_a_second(monkeypatch):
    asked = []

    async def get_msg(self, timeout):
        asked.append(timeout)
        if len(asked) < 3:
            raise Empty
        return "reply"

    monkeypatch.setattr(lessons.AsyncZMQSocketChannel, "get_msg", get_msg)
    channel = lessons.Channel.__new__(lessons.Channel)
    assert asyncio.run(channel.get_msg(timeout=900)) == "reply"
    assert asyncio.run(channel.get_msg()) == "reply" and asked == [1, 1, 1, 1]
    assert asyncio.run(channel.get_msg(timeout=0)) == "reply" and asked[4:] == [0]
    assert lessons.this_python("scratch").client_factory().shell_channel_class is (
        lessons.Channel
    )


# `make lessons`, on a planted folder

FILMS = "import os\nos.makedirs('films', exist_ok=True)\n"


@pytest.fixture
def planted(tmp_path, monkeypatch):
    """A project of two lessons; the first writes a film, the second fails."""
    folder = tmp_path / "lessons"
    (folder / "assets").mkdir(parents=True)
    for name, more in [("01_good", ""), ("02_bad", "\n1 / 0")]:
        source = f"{FILMS}open('films/{name}.gif', 'w').write('new'){more}"
        nbformat.write(notebook(source), folder / f"{name}.ipynb")
    monkeypatch.setattr(lessons, "ROOT", tmp_path)
    monkeypatch.setattr(lessons, "LESSONS", folder)
    monkeypatch.setattr(lessons, "BUILD", tmp_path / "build" / "lessons")
    monkeypatch.setattr(lessons, "lesson_paths", lambda: sorted(folder.glob("*.ipynb")))
    return tmp_path


def test_build_leaves_the_checkout_clean(planted, capsys):
    before = files(planted / "lessons")
    assert lessons.main([]) == 1
    assert files(planted / "lessons") == before
    built = planted / "build" / "lessons"
    assert (built / "films" / "01_good.gif").read_text(encoding="utf-8") == "new"
    assert "| 01_good |" in (built / "summary.md").read_text(encoding="utf-8")
    assert (built / "summary.json").exists()
    said = capsys.readouterr().out
    assert "FAILED" in said and "code cell 1: ZeroDivisionError" in said


def test_in_place_brings_back_only_what_ran(planted):
    bad = (planted / "lessons" / "02_bad.ipynb").read_bytes()
    assert lessons.main(["--in-place"]) == 1
    after = files(planted / "lessons")
    assert after["02_bad.ipynb"] == bad
    assert after["assets/01_good.gif"] == b"new"
    assert after.keys() == {"01_good.ipynb", "02_bad.ipynb", "assets/01_good.gif"}
    assert b'"execution_count": 1' in after["01_good.ipynb"]
    assert lessons.main(["--in-place", "01_good"]) == 0


def test_unknown_lesson(planted, capsys):
    with pytest.raises(SystemExit):
        lessons.main(["07_nothing"])
    assert "01_good" in capsys.readouterr().err


# The reader's own copy, which `make lab` opens


@pytest.fixture
def copied(planted, monkeypatch):
    """The planted project with a fresh work/: its lessons/, its work/, and fill."""
    source, work = planted / "lessons", planted / "work"
    (source / "films").mkdir()
    (source / "films" / "mine.gif").touch()
    (source / "assets" / "a.gif").write_text("old", encoding="utf-8")
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(planted / "jupyter"))
    for name in ("fill", "trust"):
        tool = getattr(workspace, name)
        monkeypatch.setattr(workspace, name, partial(tool, work, source))
    assert workspace.fill() == []
    return source, work


def edit(path, change):
    nb = nbformat.read(path, as_version=4)
    change(nb)
    nbformat.write(nb, path, indent=7)


def saved_by_jupyterlab(nb):
    nb.metadata["language_info"] = {"name": "python", "version": "3.99"}


def run_by_a_reader(nb):
    nb.cells[0].outputs = [new_output("stream", text="mine")]


def rewritten(nb):
    nb.cells[0].source = "'new'"


def test_the_copy_is_filled_once(copied):
    source, work = copied
    before = files(work)
    assert before.keys() - {workspace.RECORD} == files(source).keys() - {
        "films/mine.gif"
    }
    assert workspace.fill() == [] and files(work) == before
    (work / "01_good.ipynb").unlink()
    assert workspace.fill() == [] and files(work) == before


@pytest.mark.parametrize("mine", [None, saved_by_jupyterlab])
def test_what_the_reader_has_not_changed_is_refreshed(copied, mine):
    source, work = copied
    if mine:
        edit(work / "01_good.ipynb", mine)
    edit(source / "01_good.ipynb", rewritten)
    (source / "assets" / "a.gif").write_text("new", encoding="utf-8")
    (source / "02_bad.ipynb").unlink()
    assert workspace.fill() == []
    assert "'new'" in (work / "01_good.ipynb").read_text(encoding="utf-8")
    assert (work / "assets" / "a.gif").read_text(encoding="utf-8") == "new"
    assert not (work / "02_bad.ipynb").exists()


@pytest.mark.parametrize("mine", [run_by_a_reader, rewritten, "half written"])
def test_what_the_reader_has_changed_is_kept_and_a_newer_one_told(copied, mine, capsys):
    source, work = copied
    if callable(mine):
        edit(work / "01_good.ipynb", mine)
    else:
        (work / "01_good.ipynb").write_text(mine, encoding="utf-8")
    (work / "02_bad.ipynb").write_text("mine", encoding="utf-8")
    before = files(work)
    assert workspace.main() == 0 and capsys.readouterr().out == ""
    edit(source / "01_good.ipynb", lambda nb: nb.cells.append(new_code_cell("1")))
    (source / "02_bad.ipynb").unlink()
    for _ in range(2):
        assert workspace.main() == 0
        assert capsys.readouterr().out == (
            "work/01_good.ipynb is kept, because you changed it. lessons/ has a newer "
            "one: rename yours and start again to get it.\n"
        )
        kept = files(work)
        assert kept["01_good.ipynb"] == before["01_good.ipynb"]
        assert kept["02_bad.ipynb"] == b"mine"
    (work / "01_good.ipynb").rename(work / "mine.ipynb")
    assert workspace.fill() == []
    assert files(work)["01_good.ipynb"] == files(source)["01_good.ipynb"]
    assert files(work)["mine.ipynb"] == before["01_good.ipynb"]


def test_jupyter_trusts_the_copies_that_are_ours(copied):
    _, work = copied
    edit(work / "02_bad.ipynb", run_by_a_reader)
    edit(work / "01_good.ipynb", saved_by_jupyterlab)
    for expected in (False, True):
        known = [
            NotebookNotary().check_signature(nbformat.read(work / name, as_version=4))
            for name in ("01_good.ipynb", "02_bad.ipynb")
        ]
        assert known == [expected, False]
        workspace.main()


def test_what_a_reader_does_is_ignored_by_git():
    if not shutil.which("git") or not (lessons.ROOT / ".git").exists():
        pytest.skip("this is no checkout of git")
    ours = ["lessons/01_noise.ipynb", "lessons/assets/06_ddim.gif"]
    for name in ("sprites.safetensors", "judges/mnist.safetensors", "mnist_table.json"):
        ours.append(f"checkpoints/{name}")
    made = ["data/MNIST/raw", "my/pets/cats/tom.png", "build/a", "site/index.html"]
    for name in ("01_noise.ipynb", "films/06_ddim.gif", "saved/a.gif"):
        made.append(f"work/{name}")
    made += ["films/a.gif", "saved/a.gif", "lessons/films/06_ddim.gif"]
    made += [f"checkpoints/{x}pets-3fa2c1.safetensors" for x in ("", "judges/", ".")]
    made += ["checkpoints/pets-longer.safetensors", "mine.safetensors"]
    made += ["checkpoints/.sprites.safetensors.lock"]
    asked = subprocess.run(
        ["git", "check-ignore", "--no-index", "--stdin"],
        cwd=lessons.ROOT,
        input="\n".join([*ours, *made]),
        capture_output=True,
        text=True,
    )
    assert asked.stdout.split() == made


# The first cell, in kernels that know nothing of the project

FIRST = lessons.code_cells(nbformat.read(LESSONS[0], as_version=4))[0].source
# As if lesson_utils were not installed: found by no path, and by no finder of its own.
ALONE = """
import os, sys
sys.path = [p for p in sys.path if not os.path.isdir(f"{p}/lesson_utils")]
sys.meta_path = [f for f in sys.meta_path if "editable" not in str(f).lower()]
"""


@pytest.mark.parametrize("found", [True, False])
def test_the_first_cell_finds_the_project_or_says_what_to_run(
    tmp_path, monkeypatch, found
):
    path = tmp_path / "project" / "work" / "99_planted.ipynb"
    path.parent.mkdir(parents=True)
    if found:
        package = lessons.ROOT / "lesson_utils"
        (tmp_path / "project" / "lesson_utils").symlink_to(package)
    nbformat.write(notebook(ALONE, FIRST, "lu.__file__"), path)
    monkeypatch.setattr(lessons, "ROOT", tmp_path / "elsewhere")
    monkeypatch.delenv("PYTHONPATH", raising=False)
    result = lessons.run_lesson(path)
    nb = nbformat.read(path, as_version=4)
    if found:
        assert result.problems == []
        assert str(tmp_path) in nb.cells[2].outputs[0].data["text/plain"]
    else:
        assert nb.cells[1].outputs[0].evalue == (
            "No module named 'lesson_utils': "
            "run %pip install -e PATH-OF-THE-PROJECT, and restart the kernel"
        )


# The lessons themselves


def files(folder: Path) -> dict[str, bytes]:
    """Each file of a folder with its bytes."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def set_dataset(path: Path, word: str) -> None:
    """Write the word into the one line of a lesson that names its data set."""
    nb = nbformat.read(path, as_version=4)
    [cell] = [c for c in lessons.code_cells(nb) if 'dataset = "sprites"' in c.source]
    cell.source = cell.source.replace('"sprites"', f'"{word}"')
    nbformat.write(nb, path)


def add_solutions(path: Path) -> list[str]:
    """Put the solved exercise behind each exercise of a lesson; their names."""
    nb, names = nbformat.read(path, as_version=4), []
    for cell, after in pairwise(list(nb.cells)):
        call = EXERCISE.search(cell.source)
        if cell.cell_type == "code" and call:
            [code] = SOLUTION.findall(after.source)
            rest = re.sub(
                r"(?ms)^my_\w+ = \.\.\..*?$|^def my_\w+\(.*?\n\n\n", "", cell.source
            )
            solved = new_code_cell(f"{code}\n\n{rest}", metadata={"exercise": call[1]})
            nb.cells.insert(nb.cells.index(after), solved)
            names.append(call[1])
    nbformat.write(nb, path)
    return names


def said_to(path: Path):
    """What each of these solved exercises was told."""
    for cell in nbformat.read(path, as_version=4).cells:
        if "exercise" in cell.metadata:
            yield (
                cell.metadata["exercise"],
                "".join(o.get("text", "") for o in cell.outputs),
            )


def of_both_data_sets():
    """Each lesson with each word, and what must be on the disk for that."""
    for path in LESSONS:
        yield pytest.param(path, "sprites", id=f"{path.stem}-sprites")
        marks = () if path.stem in ONLY_SAMPLE else needs_digits
        yield pytest.param(path, "mnist", marks=marks, id=f"{path.stem}-mnist")


@pytest.mark.parametrize(("path", "word"), list(of_both_data_sets()))
def test_lesson_runs(path, word, tmp_path, monkeypatch):
    none = tmp_path / "none"
    if path.stem in ONLY_SAMPLE:
        monkeypatch.setenv("LESSONS_DATA", str(none))
    checkout = files(lessons.LESSONS)
    copy = tmp_path / "lessons"
    lessons.copy_lessons(copy)
    set_dataset(copy / path.name, word)
    names = add_solutions(copy / path.name)
    result = lessons.run_lesson(copy / path.name)
    assert result.problems == []
    assert {name: "yes: " in said for name, said in said_to(copy / path.name)} == (
        dict.fromkeys(names, True)
    )
    assert result.images
    made = {film.name for film in (copy / "films").glob("*")}
    shown = {image.name for image in (copy / "assets").glob(f"{path.name[:2]}_*")}
    assert {name for name in shown if name.endswith(".gif")} <= made <= shown
    assert made
    assert files(copy / "assets") == files(lessons.LESSONS / "assets")
    assert files(lessons.LESSONS) == checkout
    assert not none.exists()  # where a download would have begun


def test_there_are_lessons_and_some_run_without_data():
    assert {path.stem for path in LESSONS} > ONLY_SAMPLE


# With the reader's own images: a project beside this one, whose checkpoints are theirs

KINDS = ("bat", "cheese", "star")
SIZES = {"large": 32, "small": 16, "alone": 16}  # of each folder's images, in pixels
# Lesson 4 trains: there own images change neither code nor time. With all lessons at 32
# the tests would take minutes more, and without classes as well.
WITH = {
    "large": ("01", "02", "03", "05", "06"),
    "small": ("07", "08", "09", "10", "11"),
}
WITH |= {"alone": ("02", "03", "06", "08", "09", "10", "11", "12")}
OWN = [
    (folder, path.name)
    for folder, numbers in WITH.items()
    for path in LESSONS
    if path.name[:2] in numbers
]


@pytest.fixture(scope="module")
def own_project(tmp_path_factory):
    """A copy with images, in classes or alone, and networks trained on them."""
    root = tmp_path_factory.mktemp("own")
    for folder in ("lesson_utils", "lessons"):
        copied = shutil.ignore_patterns("__pycache__", ".*")
        shutil.copytree(lessons.ROOT / folder, root / folder, ignore=copied)
    for folder, kind in product(SIZES, KINDS):
        place = root / "my" / folder / ("" if folder == "alone" else kind)
        place.mkdir(parents=True, exist_ok=True)
        images = lesson_utils.draw_archetype(kind, 40, seed=1)
        for i, image in enumerate(images.repeat(4, 1).repeat(4, 2)):
            iio.imwrite(place / f"{kind}{i}.png", image)
    for folder, size in SIZES.items():
        train = [sys.executable, "-m", "lesson_utils", "train", "--size", str(size)]
        subprocess.run(
            [*train, "--dataset", f"my/{folder}", "--steps", "20", "--width", "16"],
            cwd=root,
            env=os.environ | {"PYTHONPATH": str(root)},
            check=True,
            capture_output=True,
        )
    return root


@pytest.mark.parametrize(("folder", "name"), OWN)
def test_lesson_runs_with_own_images(folder, name, own_project, monkeypatch):
    assert run_own(own_project, folder, name, monkeypatch).problems == []


def run_own(project, folder, name, monkeypatch):
    """Run a lesson with one of the folders of images."""
    monkeypatch.setattr(lessons, "ROOT", project)
    path = project / "lessons" / f"{folder}_{name}"
    shutil.copy(path.with_name(name), path)
    set_dataset(path, f"../my/{folder}")
    return lessons.run_lesson(path)


@pytest.mark.parametrize("name", ["05_context.ipynb", "07_speed_and_quality.ipynb"])
def test_a_lesson_that_needs_classes_says_so(name, own_project, monkeypatch):
    [problem] = run_own(own_project, "alone", name, monkeypatch).problems
    assert problem.startswith(
        "code cell 3: ValueError: this lesson needs images with classes, and yours "
        "have none\n"
    )


# One code: what a lesson builds is what lesson_utils holds


def definitions(nb) -> dict[str, list[ast.AST]]:
    """The functions and classes defined at top level in a notebook."""
    found = defaultdict(list)
    for cell in lessons.code_cells(nb):
        for node in ast.parse(TransformerManager().transform_cell(cell.source)).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                found[node.name].append(node)
    return found


def tree(node: ast.AST) -> str:
    """The syntax tree, but for docstrings, annotations, places and `@checked(…)`."""
    for part in ast.walk(node):
        if isinstance(part, ast.FunctionDef | ast.ClassDef):
            if ast.get_docstring(part):
                part.body = part.body[1:] or [ast.Pass()]
            part.decorator_list = [d for d in part.decorator_list if not is_checked(d)]
        if isinstance(part, ast.FunctionDef):
            part.returns = None
        if isinstance(part, ast.arg):
            part.annotation = None
        if isinstance(part, ast.AnnAssign):  # a dataclass's field keeps its name
            part.annotation = ast.Constant(None)
    return ast.dump(node)


def is_checked(decorator: ast.expr) -> bool:
    return ast.unparse(decorator).partition("(")[0] == "checked"


def module_tree(name: str) -> str:
    [node] = ast.parse(inspect.getsource(getattr(lesson_utils, name))).body
    return tree(node)


def drift(nb) -> list[str]:
    """Exported names that the notebook defines in another way than lesson_utils."""
    return [
        f"{name} differs from lesson_utils.{name}"
        for name, nodes in definitions(nb).items()
        for node in nodes
        if name in lesson_utils.__all__ and tree(node) != module_tree(name)
    ]


def built_twice(notebooks: dict[str, nbformat.NotebookNode]) -> list[str]:
    """Names of the taught core that more than one lesson builds."""
    core = {f"lesson_utils.{module}" for module in lessons.CORE}
    found = []
    for name in lesson_utils.__all__:
        if getattr(getattr(lesson_utils, name), "__module__", None) in core:
            where = [
                which for which, nb in notebooks.items() if name in definitions(nb)
            ]
            if len(where) > 1:
                found.append(f"{name} is built in {' and '.join(where)}")
    return found


@every_lesson
def test_lesson_builds_the_code_of_lesson_utils(path):
    assert drift(nbformat.read(path, as_version=4)) == []


def test_each_name_is_built_in_one_lesson():
    read = {path.stem: nbformat.read(path, as_version=4) for path in LESSONS}
    assert built_twice(read) == []


def test_drift_is_found():
    source = inspect.getsource(lesson_utils.ddim_step)
    taught = source[source.index("def ") :]
    other = taught.replace('"""', '"""Otherwise. ', 1)
    same = notebook(f"%matplotlib inline\n{other}")
    assert source.startswith("@checked(") and other != taught
    assert drift(same) == drift(notebook(source)) == []
    for other in (taught.replace("return", "return -1,", 1), f"@cached\n{taught}"):
        assert drift(notebook(other)) == [
            "ddim_step differs from lesson_utils.ddim_step"
        ]
    assert drift(notebook("def ddim_step_naive(x):\n    return x")) == []
    assert built_twice({"04": same, "05": same}) == ["ddim_step is built in 04 and 05"]
    assert built_twice({"05": same, "06": notebook("1")}) == []


CLASS = """
@checked()
@dataclass(frozen=True)
class A:
    x: int = 3
    def f(self, x: int) -> int:
        y: int = x
        return y
"""


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("@checked()", "", True),
        ("@checked()", "@checked(x=whole(1))", True),
        ("x: int = 3", "x: Annotated[int, whole(1), 'words'] = 3", True),
        ("x: int) -> int", "x)", True),
        ("y: int =", "y: float =", True),
        ("@dataclass(frozen=True)", "@dataclass", False),
        ("@dataclass(frozen=True)", "", False),
        ("x: int = 3", "x: int = 4", False),
        ("x: int = 3", "z: int = 3", False),
        ("x: int = 3", "", False),
        ("x: int) -> int", "x: int = 2) -> int", False),
        ("return y", "return x", False),
    ],
)
def test_what_counts_as_the_same_code(old, new, same):
    assert old in CLASS
    one, two = ast.parse(CLASS).body[0], ast.parse(CLASS.replace(old, new)).body[0]
    assert (tree(one) == tree(two)) is same
