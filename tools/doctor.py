"""Say whether this machine is ready for the lessons, and what to do if it is not.

python tools/doctor.py [--checkpoints FOLDER]
"""

from __future__ import annotations

import argparse
import importlib
import io
import os
import platform
import shlex
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = """torch torchvision numpy safetensors filelock torchmetrics matplotlib
pillow imageio tqdm ipywidgets ipykernel jupyterlab nbclient nbformat""".split()


def quoted(path: Path) -> str:
    """A path as it can be pasted into a shell."""
    text = str(path)
    windows = sys.platform == "win32"
    return subprocess.list2cmdline([text]) if windows else shlex.quote(text)


REINSTALL = f"run: make -C {quoted(ROOT)} setup (or the pip lines of README.md)"


def fetch(name: str) -> str:
    """How to get back a file that ships; name: below checkpoints/."""
    command = f"git -C {quoted(ROOT)} checkout -- checkpoints/{name}"
    return f"get it back: {command} (or clone again)"


def show(name: str, value: str) -> None:
    print(f"{name:<14}{value}")


def check_python() -> list[str]:
    show("Python", f"{platform.python_version()} in {sys.prefix}")
    show("system", platform.platform())
    if sys.version_info < (3, 11):  # noqa: UP036
        return ["Python 3.11 or later is needed"]
    return []


def check_packages() -> list[str]:
    missing = []
    for name in PACKAGES:
        try:
            show(name, metadata.version(name))
        except metadata.PackageNotFoundError:
            show(name, "missing")
            missing.append(name)
    return [f"{', '.join(missing)} missing: {REINSTALL}"] if missing else []


def check_torch() -> list[str]:
    """Import the pair, and name the best device here."""
    for name in ("torch", "torchvision"):
        try:
            importlib.import_module(name)
        except Exception as error:
            return [explain(name, error)]
    try:
        from lesson_utils.support.device import best_device, machine
    except Exception as error:
        return [explain("lesson_utils", error)]
    device = best_device()
    show("device", f"{device}: {machine(device)}")
    return []


def explain(name: str, error: Exception) -> str:
    """In plain words, why a package does not import."""
    if "torchvision::nms" in str(error):
        return (
            "torch and torchvision are not built for each other (typical: a CPU-only "
            "torch beside PyPI's torchvision). Remove both and install both again "
            "from one source, with the versions of constraints.txt: "
            "pip uninstall torch torchvision, then "
            f"pip install -c {quoted(ROOT / 'constraints.txt')} torch torchvision"
        )
    return f"{name} does not import ({type(error).__name__}: {error}): {REINSTALL}"


def show_room() -> None:
    try:
        import psutil

        memory = psutil.virtual_memory()
        gib = f"{memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GiB free"
    except ImportError:
        gib = "unknown (no psutil)"
    show("memory", gib)
    show("disk", f"{shutil.disk_usage(ROOT).free / 2**30:.1f} GiB free")


def show_data() -> None:
    """MNIST is optional: whether it is there changes no verdict."""
    folder = Path(os.environ.get("LESSONS_DATA") or ROOT / "data").expanduser()
    found = (folder / "MNIST").is_dir()
    state = "found in" if found else "not there yet; looked for (or downloaded) in"
    show("MNIST", f"{state} {folder}")


def show_browser() -> None:
    """Chromium is optional too: tests drive it."""
    names = ("chromium", "chromium-browser", "google-chrome")
    paths = [os.environ.get("CHROMIUM"), *map(shutil.which, names)]
    missing = "not found: tests that need a browser are skipped"
    show("Chromium", next(filter(None, paths), missing))


def check_sums(ships: list[str]) -> tuple[dict[str, str], list[str]]:
    """What SHA256SUMS says, and what is wrong with it."""
    from lesson_utils.support.files import read_checksums

    try:
        sums = read_checksums()
    except (ValueError, OSError) as error:
        return {}, [f"{error}: {fetch('SHA256SUMS')}"]
    lacking = ", ".join(name for name in ships if name not in sums)
    wrong = f"SHA256SUMS lacks {lacking}: {fetch('SHA256SUMS')}"
    return sums, [wrong] if lacking else []


def check_checkpoints(folder: Path) -> tuple[list[str], list[str]]:
    """Load all checkpoints and judges, and compare those that ship with SHA256SUMS.

    Gives what is in the way of the lessons, and what is only to be known. A damaged
    file of the reader's own is neither.
    """
    try:
        from lesson_utils import load
        from lesson_utils.quality.judge import load_judge
        from lesson_utils.support.files import sha256, shipped_files
    except Exception as error:
        return [explain("lesson_utils", error)], []
    ships = [path.relative_to(folder).as_posix() for path in shipped_files(folder)]
    sums, trouble = check_sums(ships)
    known = []
    found = [*folder.glob("*.safetensors"), *folder.glob("judges/*.safetensors")]
    names = {path.relative_to(folder).as_posix(): path for path in sorted(found)}
    missing = [name for name in ships if name not in names]
    trouble += [f"{folder / name} is missing: {fetch(name)}" for name in missing]
    for name, path in names.items():
        kind = "judge" if path.parent.name == "judges" else "checkpoint"
        try:
            (load_judge if kind == "judge" else load)(path)
            digest = sha256(path)
        except (ValueError, OSError):
            if name in ships:
                show(kind, f"{path.name}: DAMAGED")
                trouble.append(f"{path} is damaged: {fetch(name)}")
            else:
                show(kind, f"{path}: damaged: train it again or remove it")
            continue
        if name not in ships:
            words = "your own, checksum verified"
        elif name not in sums:
            words = "checksum verified, but not in SHA256SUMS"
        elif digest == sums[name]:
            words = "as it ships, checksum verified"
        else:
            words = "NOT the one that ships"
            known.append(
                f"{path} is not the one that ships, so what the lessons say of it may "
                f"not hold; if you did not mean to replace it, {fetch(name)}"
            )
        show(kind, f"{path.name}: {words}, sha256 {digest[:16]}…")
    return trouble, known


def main(arguments: list[str] | None = None) -> int:
    for stream in (sys.stdout, sys.stderr):  # before any import that may fail
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--checkpoints", type=Path, default=ROOT / "checkpoints")
    options = parser.parse_args(arguments)
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    trouble, known = check_python() + check_packages(), []
    if not trouble:
        trouble = check_torch()
    if not trouble:
        trouble, known = check_checkpoints(options.checkpoints)
    show_room()
    show_data()
    show_browser()
    print()
    print("Not ready:" if trouble else "Ready, but:" if known else "Ready.")
    print("".join(f"- {line}\n" for line in trouble + known), end="")
    return 1 if trouble else 0


if __name__ == "__main__":
    sys.exit(main())
