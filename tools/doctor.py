"""Say whether this machine is ready for the lessons, and what to do if it is not.

python tools/doctor.py [--checkpoints FOLDER]
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import os
import platform
import shutil
import sys
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = """torch torchvision numpy safetensors torchmetrics matplotlib pillow imageio
tqdm ipywidgets ipykernel jupyterlab nbclient nbformat""".split()
FETCH = "get it back with `git checkout checkpoints`, or clone again"
REINSTALL = "run `make setup`, or the pip lines of README.md"


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
            "pip install -c constraints.txt torch torchvision"
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


def check_checkpoints(folder: Path) -> list[str]:
    """Load every checkpoint, which compares its checksum."""
    try:
        from lesson_utils import load
    except Exception as error:
        return [explain("lesson_utils", error)]
    paths = sorted(folder.glob("*.safetensors"))
    trouble = [] if paths else [f"no checkpoint in {folder}: {FETCH}"]
    for path in paths:
        try:
            load(path)
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            show("checkpoint", f"{path.name}: checksum verified, sha256 {digest[:16]}…")
        except (ValueError, OSError) as error:
            show("checkpoint", f"{path.name}: DAMAGED")
            trouble.append(f"{error}: {FETCH}")
    return trouble


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--checkpoints", type=Path, default=ROOT / "checkpoints")
    options = parser.parse_args(arguments)
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    trouble = check_python() + check_packages()
    if not trouble:
        trouble += check_torch() + check_checkpoints(options.checkpoints)
    show_room()
    show_data()
    show_browser()
    print()
    print("Not ready:" if trouble else "Ready.")
    print("".join(f"- {line}\n" for line in trouble), end="")
    return 1 if trouble else 0


if __name__ == "__main__":
    sys.exit(main())
