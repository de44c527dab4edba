"""A folder of samples: one PNG an image, each whole or not there at all.

    000000.png 000001.png …    the images, in their own size
    000000-unconditional.png   what belongs to an image, if anything does
    grid.png prompts.txt       the first images side by side, and what was asked for
    film.gif                   how the first of them came about
    run.json                   how all of it was made

Whatever ends a run, its folder says how far it is, and the next one goes on.
"""

import io
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from .support.checked import refuse
from .support.files import locked, write_bytes, write_json
from .support.words import reason
from .viz import saved_png, tile

RECORD, GRID, PROMPTS, FILM = "run.json", "grid.png", "prompts.txt", "film.gif"
IMAGE = re.compile(r"\d{6,}(-[a-z]+)?\.png")
BESIDE = re.compile(r"\..+\.(part|lock)")  # of a run that goes on, or was killed
SHOWN = 100  # images of the grid, at most; of a longer row one row
WIDTH = 64  # pixels of an image in it, or more


def file_name(number: int, kind: str = "") -> str:
    """What the PNG of an image is called; kind: "-unconditional", for instance."""
    return f"{number:06}{kind}.png"


@contextmanager
def opened(
    folder: Path, made_of: dict, resume: bool = False, overwrite: bool = False
) -> Iterator[dict]:
    """The record of a folder that is ours alone until the end: made_of, and more.

    made_of: what a record must say to go on with it. Raises ValueError for a folder
    that holds something, without resume or overwrite; with resume, for one that was
    made of something else; OSError if nothing can be written there.
    """
    if os.path.lexists(folder) and not folder.is_dir():
        refuse("--save-dir", "a folder", str(folder))
    with locked(folder / RECORD, "sampling"):
        names = {name for name in os.listdir(folder) if not BESIDE.fullmatch(name)}
        if names and resume:
            yield earlier_record(folder, made_of)
            return
        if names and not overwrite:
            raise ValueError(
                f"--save-dir: {folder} is not empty; --resume makes what it lacks, "
                "--overwrite replaces the images in it, or give another folder"
            )
        clear(folder, names)
        write_json(folder / RECORD, made_of)
        yield dict(made_of)


def clear(folder: Path, names: set[str]) -> None:
    """Remove what another run wrote; files that no run writes stay."""
    ours = [RECORD, GRID, PROMPTS, FILM]  # without its record no run goes on from it
    ours += [name for name in names if IMAGE.fullmatch(name)]
    for name in ours:
        try:
            (folder / name).unlink(missing_ok=True)
        except OSError as problem:
            raise OSError(f"{folder / name}: cannot be removed ({problem})") from None


def earlier_record(folder: Path, made_of: dict) -> dict:
    """The record of a folder that was made of the same; ValueError for any other."""
    path = folder / RECORD
    if not path.is_file():
        why = "holds no run.json: no run of sample goes on there"
        raise ValueError(f"--resume: {folder} {why}; give another folder")
    record = read_record(path)
    other = [key for key in made_of if record.get(key) != made_of[key]]
    if "settings" in other and isinstance(record.get("settings"), dict):
        settings, known = made_of["settings"], record["settings"]
        names = [k for k in settings if settings[k] != known.get(k)]
        other = [key for key in other if key != "settings"]
        other += [f"--{name.replace('_', '-')}" for name in names]
    if other:
        why = f"is of another run ({', '.join(other)})"
        raise ValueError(f"--resume: {folder} {why}; ask for the same, or --overwrite")
    return record


def read_record(path: Path) -> dict:
    """What a run.json says; ValueError if it is none."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(record["settings"], dict):
            raise TypeError("its settings are no object")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as problem:
        raise ValueError(f"{path}: no run.json of sample ({reason(problem)})") from None
    return record


def there(path: Path) -> bool:
    """Whether a file is there, and not empty, as a machine that failed may leave it."""
    try:
        return path.stat().st_size > 0
    except OSError:
        return False


def write_image(path: Path, pixels: np.ndarray) -> None:
    """uint8 (H,W,3) or (H,W,1) as a PNG."""
    file = io.BytesIO()
    still = pixels[..., 0] if pixels.shape[2] == 1 else pixels
    Image.fromarray(still).save(file, "PNG")
    write_bytes(path, file.getvalue())


# The grid


def write_grid(folder: Path, rows: list[list[tuple[str, str]]]) -> None:
    """grid.png of cells (file, words) in rows, and prompts.txt with their words.

    Each line of it is a row of the grid; a tab stands between two columns.
    """
    columns = len(rows[0])  # of which a later row may have fewer
    stills = [[read_image(folder / name) for name, _ in row] for row in rows]
    blank = np.full_like(stills[0][0], 255)
    filled = [row + [blank] * (columns - len(row)) for row in stills]
    scale = max(1, WIDTH // blank.shape[1])
    picture = Image.fromarray(tile(np.concatenate(filled), columns, scale))
    write_bytes(folder / GRID, saved_png(picture))
    text = "".join("\t".join(words for _, words in row) + "\n" for row in rows)
    write_bytes(folder / PROMPTS, text.encode())


def read_image(path: Path) -> np.ndarray:
    """A PNG as uint8 (H,W,3)."""
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except OSError as problem:
        raise ValueError(f"{path}: no image ({problem}); remove it") from None
