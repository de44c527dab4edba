"""Execute the lessons: `python tools/lessons.py [--in-place] [lesson ...]`.

A lesson runs in a copy of lessons/, in build/lessons/, and writes its films into films/
beside that copy. With --in-place the notebook comes back to be committed, and each of
its films as the file of that name in assets/, if the lesson ran without a problem. Exit
status 1: one had a problem.
"""

import argparse
import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import Empty

import nbformat
from jupyter_client.asynchronous import AsyncKernelClient
from jupyter_client.channels import AsyncZMQSocketChannel
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import (
    CellExecutionError,
    CellTimeoutError,
    DeadKernelError,
)
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parent.parent
LESSONS = ROOT / "lessons"
BUILD = ROOT / "build" / "lessons"
# The taught core: what the lessons build, each name in one lesson.
CORE = ["schedule", "unet", "sampling", "solvers", "training", "distilling"]
CELL_TIMEOUT = 900  # seconds; a lesson takes at most 180 on two cores
WIDGET_STATE = "application/vnd.jupyter.widget-state+json"
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
METADATA = {
    "kernelspec": {
        "display_name": "Python 3 (ipykernel)",
        "language": "python",
        "name": "python3",
    },
    "language_info": {
        "file_extension": ".py",
        "mimetype": "text/x-python",
        "name": "python",
        "pygments_lexer": "ipython3",
    },
}


@dataclass(frozen=True)
class Run:
    """What came of one lesson."""

    lesson: str
    seconds: float
    cells: int
    images: int
    kilobytes: int
    problems: list[str]


def lesson_paths(folder: Path = LESSONS) -> list[Path]:
    """The lessons of a folder, NN_topic.ipynb, in their order."""
    return sorted(folder.glob("[0-9][0-9]_*.ipynb"))


def copy_lessons(folder: Path) -> None:
    """Copy lessons/, assets included, to `folder`."""
    left = shutil.ignore_patterns(".*", "films", "saved")
    shutil.copytree(LESSONS, folder, ignore=left, dirs_exist_ok=True)


def code_cells(nb: NotebookNode) -> list[NotebookNode]:
    """The code cells that hold code."""
    return [c for c in nb.cells if c.cell_type == "code" and c.source.strip()]


def run_lesson(path: Path, on_cell: Callable[[], None] = lambda: None) -> Run:
    """Execute the notebook at `path`, in its folder, and write it back there.

    on_cell is called after each code cell. Nothing is raised for a lesson that fails:
    its outputs up to there are written, and the problem is in the result.
    """
    # Built now, not while a lesson draws: it would say so on stderr.
    import matplotlib.font_manager  # noqa: F401

    nb = nbformat.read(path, as_version=4)
    for cell in code_cells(nb):
        cell.outputs, cell.execution_count = [], None
    failure = []
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        client = NotebookClient(
            nb,
            km=this_python(scratch),
            timeout=CELL_TIMEOUT,
            coalesce_streams=True,
            record_timing=False,
            resources={"metadata": {"path": str(path.parent)}},
            on_cell_executed=lambda **_: on_cell(),
        )
        try:
            client.execute(cleanup_kc=True, env=kernel_environment(scratch))
        except CellExecutionError:
            client.set_widgets_metadata()  # the error itself is in the cell's outputs
        except (CellTimeoutError, DeadKernelError) as error:
            failure = [f"{type(error).__name__}: {error}"]
    seconds = time.perf_counter() - start
    found = problems(nb) + failure
    tidy(nb)
    write(nb, path)
    return Run(
        lesson=path.stem,
        seconds=round(seconds, 1),
        cells=len(code_cells(nb)),
        images=sum(map(is_image, outputs(nb))),
        kilobytes=path.stat().st_size // 1000,
        problems=found,
    )


class Channel(AsyncZMQSocketChannel):
    """A channel that looks for a message every second.

    What nbclient sends for an Output widget goes around asyncio and may swallow the
    event of a reply that has come: without a look it would wait for CELL_TIMEOUT.
    """

    async def get_msg(self, timeout: float | None = None) -> dict:
        until = time.monotonic() + (float("inf") if timeout is None else timeout)
        while (left := until - time.monotonic()) > 1:
            try:
                return await super().get_msg(timeout=1)
            except Empty:
                continue
        return await super().get_msg(timeout=max(left, 0))


class Client(AsyncKernelClient):
    shell_channel_class = Channel


def this_python(scratch: str) -> AsyncKernelManager:
    """A kernel of the Python that runs this, whatever kernels the user has."""
    # Without folders to search, there is no other. Its sockets are files, where the
    # system has such: no port is opened, and ipykernel does not warn about one.
    specs = KernelSpecManager(kernel_dirs=[])
    manager = AsyncKernelManager(kernel_spec_manager=specs, client_factory=Client)
    if os.name != "nt":
        manager.transport = "ipc"
        manager.ip = os.path.join(scratch, "socket")
    return manager


def kernel_environment(scratch: str) -> dict[str, str]:
    """The environment of a lesson's kernel: quiet, and nobody's personal set-up."""
    found = [str(ROOT), os.environ.get("PYTHONPATH")]
    env = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, found)),
        "IPYTHONDIR": scratch,
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }
    env.pop("MPLBACKEND", None)  # figures go into the notebook
    return env


def outputs(nb: NotebookNode) -> Iterator[NotebookNode]:
    for cell in code_cells(nb):
        yield from cell.outputs


def is_image(output: NotebookNode) -> bool:
    data = output.get("data", {})
    if "<img" in "".join(data.get("text/html", "")):
        return True
    return any(kind.startswith("image/") for kind in data)


def problems(nb: NotebookNode) -> list[str]:
    """Errors, warnings and anything on stderr: in cells, and hidden in widgets.

    An error inside an Output widget (a callback's, for instance) shows in no cell, only
    in the widgets' saved state: call this before that state is stripped.
    """
    found = []
    for number, cell in enumerate(code_cells(nb), 1):
        for output in cell.outputs:
            found += complaint(output, f"code cell {number}")
    saved = nb.metadata.get("widgets", {}).get(WIDGET_STATE, {}).get("state", {})
    for widget in saved.values():
        for output in widget["state"].get("outputs", []):
            found += complaint(output, "an Output widget")
    return found


def complaint(output: dict, where: str) -> list[str]:
    """What is wrong with one output, if anything is."""
    if output["output_type"] == "error":
        trace = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(output["traceback"]))
        return [f"{where}: {output['ename']}: {output['evalue']}\n{trace}"]
    if output["output_type"] == "stream":
        text = "".join(output["text"])
        if output["name"] == "stderr":
            return [f"{where} writes to stderr: {text.strip()}"]
        if "Traceback (most recent call last)" in text:
            return [f"{where} prints a traceback: {text.strip()}"]
    return []


def tidy(nb: NotebookNode) -> None:
    """Leave in the notebook what is the same on every machine.

    The widgets' state goes (GitHub shows "Invalid Notebook" for it), and with it the
    views, which without their state read "model not found".
    """
    nb.metadata = nbformat.from_dict(METADATA)
    for cell in code_cells(nb):
        cell.outputs = [o for o in cell.outputs if WIDGET_VIEW not in o.get("data", {})]


def write(nb: NotebookNode, path: Path) -> None:
    """Write a notebook, whole or not at all."""
    nbformat.validate(nb)
    part = path.with_suffix(".tmp")
    nbformat.write(nb, part)
    part.replace(path)


def summary(runs: list[Run]) -> str:
    """The runs as a Markdown table."""
    rows = [
        "| lesson | seconds | cells | images | KB | |",
        "|---|---:|---:|---:|---:|---|",
    ]
    for run in runs:
        verdict = "failed" if run.problems else "ok"
        rows.append(
            f"| {run.lesson} | {run.seconds:.1f} | {run.cells} | {run.images} "
            f"| {run.kilobytes} | {verdict} |"
        )
    rows.append(f"| all | {sum(run.seconds for run in runs):.1f} | | | | |")
    return "\n".join(rows)


def run_aloud(path: Path) -> Run:
    """run_lesson, telling how it goes."""
    print(f"{path.stem} ", end="", flush=True)
    run = run_lesson(path, on_cell=lambda: print(".", end="", flush=True))
    print(f" {run.seconds:.1f} s{', FAILED' if run.problems else ''}", flush=True)
    print("".join(f"\n{problem}\n" for problem in run.problems), end="")
    return run


def build(lessons: list[str]) -> list[Run]:
    """Execute a copy of the lessons in build/lessons/ and write a summary there."""
    shutil.rmtree(BUILD, ignore_errors=True)
    copy_lessons(BUILD)
    runs = [run_aloud(BUILD / lesson) for lesson in lessons]
    (BUILD / "summary.md").write_text(summary(runs) + "\n", encoding="utf-8")
    record = [asdict(run) for run in runs]
    text = json.dumps(record, indent=1) + "\n"
    (BUILD / "summary.json").write_text(text, encoding="utf-8")
    print(f"\nThe executed lessons and their films are in {BUILD.relative_to(ROOT)}/")
    return runs


def execute_in_place(lessons: list[str]) -> list[Run]:
    """Execute each lesson in a copy; bring back what ran without a problem."""
    runs = []
    with tempfile.TemporaryDirectory(prefix="lessons-") as folder:
        for lesson in lessons:
            copy = Path(folder) / Path(lesson).stem
            copy_lessons(copy)
            run = run_aloud(copy / lesson)
            if not run.problems:
                bring_back(copy, lesson)
            runs.append(run)
    return runs


def bring_back(copy: Path, lesson: str) -> None:
    """Put an executed lesson into lessons/, and the films it made into its assets/."""
    made = {copy / lesson: LESSONS / lesson}
    for film in sorted((copy / "films").glob("*")):
        made[film] = LESSONS / "assets" / film.name
    for new, old in made.items():
        if not old.exists() or old.read_bytes() != new.read_bytes():
            copy_whole(new, old)
            print(f"wrote {old.relative_to(ROOT)}")


def copy_whole(source: Path, target: Path) -> None:
    """Copy a file, whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.tmp")
    shutil.copyfile(source, part)
    part.replace(target)


def main(arguments: list[str] | None = None) -> int:
    from lesson_utils.support.flags import printable  # with torch: slow to import

    printable()
    parser = argparse.ArgumentParser(description="Execute the lessons.")
    parser.add_argument("lessons", nargs="*", help="for instance 06_ddim; default: all")
    parser.add_argument(
        "--in-place", action="store_true", help="to commit them; else build/lessons/"
    )
    options = parser.parse_args(arguments)
    known = [path.name for path in lesson_paths()]
    if not known:
        parser.error("there is no lesson NN_topic.ipynb in lessons/")
    wanted = [f"{Path(lesson).stem}.ipynb" for lesson in options.lessons]
    for lesson in wanted:
        if lesson not in known:
            parser.error(f"no lesson {lesson}; there are {', '.join(known)}")
    chosen = [lesson for lesson in known if not wanted or lesson in wanted]
    runs = execute_in_place(chosen) if options.in_place else build(chosen)
    print(f"\n{summary(runs)}")
    return 1 if any(run.problems for run in runs) else 0


if __name__ == "__main__":
    sys.exit(main())
