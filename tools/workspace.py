"""Fill work/, the reader's own copy of lessons/: `python -m tools.workspace`.

A file that is missing is copied. One that the reader has not changed follows lessons/:
it is refreshed, or removed where lessons/ has it no more. One that the reader has
changed is kept, and a line says so if lessons/ has a newer one.
"""

import hashlib
import json
import sys
from pathlib import Path

import nbformat
from nbformat.sign import NotebookNotary

from tools.lessons import LESSONS, ROOT, copy_whole

WORK = ROOT / "work"
RECORD = ".copied.json"  # {file: what was copied}, so that changes can be told
NOT_COPIED = {"films", "saved"}  # folders that running a lesson fills


def contents(path: Path) -> str:
    """What stands for a file's contents; of a notebook its cells and their outputs.

    JupyterLab writes other metadata and other spaces whenever it saves a notebook.
    """
    data = path.read_bytes()
    if path.suffix == ".ipynb":
        try:
            cells = nbformat.reads(data.decode(), as_version=4).cells
        except Exception:  # somebody's half-written file: its bytes then
            cells = []
        parts = [(c.cell_type, c.source, c.get("outputs")) for c in cells]
        data = json.dumps(parts, sort_keys=True).encode() if parts else data
    return hashlib.sha256(data).hexdigest()


def files(folder: Path) -> dict[str, Path]:
    """{path in the folder: file}, without hidden files and NOT_COPIED."""
    found = {}
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in inside.parts)
        if path.is_file() and not hidden and inside.parts[0] not in NOT_COPIED:
            found[inside.as_posix()] = path
    return found


def fill(work: Path = WORK, lessons: Path = LESSONS) -> list[str]:
    """Bring work/ up to date; gives the files that the reader has changed in vain.

    These are kept as they are, although lessons/ has newer ones.
    """
    work.mkdir(exist_ok=True)
    record = work / RECORD
    copied = json.loads(record.read_text("utf-8")) if record.is_file() else {}
    sources, kept = files(lessons), []
    for name, source in sources.items():
        mine, newest = work / name, contents(source)
        if mine.is_file() and contents(mine) not in (copied.get(name), newest):
            kept += [name] if copied.get(name) != newest else []
            continue
        if not mine.is_file() or contents(mine) != newest:
            copy_whole(source, mine)
        copied[name] = newest
    for name in copied.keys() - sources.keys():
        mine, old = work / name, copied.pop(name)
        if mine.is_file() and contents(mine) == old:
            mine.unlink()
    record.write_text(json.dumps(copied, indent=1) + "\n", encoding="utf-8")
    return kept


def trust(work: Path = WORK, lessons: Path = LESSONS) -> None:
    """Tell Jupyter that the notebooks that are ours come from somebody known.

    Of others it shows the outputs without their styles: images enlarged with a blur.
    """
    notary = NotebookNotary()
    for name, source in files(lessons).items():
        mine = work / name
        if mine.suffix == ".ipynb" and contents(mine) == contents(source):
            notary.sign(nbformat.read(mine, as_version=4))


def main() -> int:
    kept = fill()
    trust()
    for name in kept:
        print(
            f"work/{name} is kept, because you changed it. lessons/ has a newer one: "
            "rename yours and start again to get it."
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
