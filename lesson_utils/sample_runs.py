"""A run of sampling as the command line asks for it: its folder, film and grid."""

import argparse
import json
import math
import platform
import time
from collections.abc import Generator, Iterator
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import PIL
import torch
from torch import Tensor

from . import gallery
from .gif import gif
from .samples import Job, SampleSettings, device_of, inputs, passes, words_of
from .support.checked import refuse
from .support.device import machine
from .support.files import fingerprint, located, write_json
from .support.processes import agreed, count, gathered, is_main
from .support.processes import number as process
from .support.words import counted, reason
from .viz import pixels, progress, wide

FRAMES = 60  # of a film, at most
LARGEST_TEXT = 10**7  # letters of a file of prompts


# Into a folder


def fill(job: Job, folder: Path, record: dict) -> Iterator[None]:
    """Make what a folder lacks; yields once for each image that it lacks.

    record: is written into run.json after each micro-batch. Of several processes each
    samples one micro-batch at a time, and the main one writes.
    """
    firsts = [start for start in starts(job) if lacking(job, folder, start)]
    if 0 not in firsts and lacks_film(job, folder):
        firsts = [0, *firsts]
    firsts = agreed(firsts)
    for i in range(0, len(firsts), count()):
        yield from one_round(job, folder, record, firsts[i : i + count()])
    if not is_main():
        return
    gallery.write_grid(folder, grid_rows(job))
    if job.data:
        record["mse"] = float(np.mean(record["errors"]))
    record["finished"] = True
    write_json(folder / gallery.RECORD, record)


def one_round(
    job: Job, folder: Path, record: dict, firsts: list[int]
) -> Iterator[None]:
    """Sample a micro-batch in each process, and write what is lacked.

    firsts: the first image of each. Yields once for each image.
    """
    began = time.perf_counter()
    lacks = [one for start in firsts for one in lacking(job, folder, start)]
    n = len({number for number, _ in lacks})
    film, last = None, {}
    if process() < len(firsts):
        start = firsts[process()]
        if start == 0 and lacks_film(job, folder):
            film = Film(job)
        last = yield from one_batch(job, start, n, film)
    found = gathered((last, job.network.evaluated))
    job.network.evaluated = 0
    if not is_main():
        return
    sampled = time.perf_counter()
    of_start = dict(zip(firsts, found, strict=False))  # the last round may be short
    write_round(job, folder, record, of_start, lacks)
    if film:
        film.write(folder / gallery.FILM)
    record["seconds"]["sampling"] += sampled - began
    record["seconds"]["writing"] += time.perf_counter() - sampled


def one_batch(
    job: Job, start: int, n: int, film: "Film | None"
) -> Generator[None, None, dict[str, Tensor]]:
    """Sample a micro-batch; gives its images, by their kind. Yields n times."""
    told, last = 0, {}
    for step_number, (kind, step) in enumerate(passes(job, start), 1):
        last[kind] = step.x
        if film:
            film.see(kind, step.x)
        share = n * step_number // job.steps
        yield from [None] * (share - told)
        told = share
    if job.data:
        last["-original"] = inputs(job, start)[0]
    return {kind: x.cpu() for kind, x in last.items()}


def write_round(
    job: Job, folder: Path, record: dict, of_start: dict, lacks: list
) -> None:
    """Write what is lacked of {first image: (images by their kind, evaluations)}."""
    stills = {}
    for start, (last, evaluated) in of_start.items():
        record["evaluations"]["an_image"] = evaluated // job.settings.batch_size
        record["evaluations"]["in_all"] += evaluated
        if job.data:
            note_errors(record["errors"], start, last)
        for kind, x in last.items():
            numbered = enumerate(as_pixels(x, start), start)
            stills.update({(number, kind): still for number, still in numbered})
    write_json(folder / gallery.RECORD, record)  # errors before their images
    for number, kind in lacks:
        path = folder / gallery.file_name(number, kind)
        gallery.write_image(path, stills[number, kind])


def as_pixels(x: Tensor, start: int) -> np.ndarray:
    """(B,C,H,W) -> uint8 (B,H,W,C); FloatingPointError for what is no number."""
    wrong = (~x.isfinite()).flatten(1).any(1).nonzero()
    if len(wrong):
        number = start + int(wrong[0])
        raise FloatingPointError(f"image {number}: the network gives no finite number")
    return pixels(x)[..., : x.shape[1]]


def note_errors(errors: list, start: int, last: dict[str, Tensor]) -> None:
    """Each image's mean squared error, of pixels in [0, 1] as its file has them."""
    apart = (last[""].cpu().clamp(-1, 1) - last["-original"].cpu()) / 2
    for i, error in enumerate(apart.square().mean((1, 2, 3)).tolist()):
        if start + i < len(errors):
            errors[start + i] = error


def starts(job: Job) -> range:
    """The first image of each micro-batch."""
    return range(0, job.n, job.settings.batch_size)


def lacking(job: Job, folder: Path, start: int) -> list[tuple[int, str]]:
    """The (number, kind) of a micro-batch's images that are not in the folder."""
    end = min(start + job.settings.batch_size, job.n)
    every = [(i, kind) for i in range(start, end) for kind in job.kinds]
    return [one for one in every if not gallery.there(folder / gallery.file_name(*one))]


def images_lacking(job: Job, folder: Path) -> int:
    """How many images are to be sampled."""
    each_batch = (lacking(job, folder, start) for start in starts(job))
    return sum(len({number for number, _ in lacks}) for lacks in each_batch)


def lacks_film(job: Job, folder: Path) -> bool:
    return job.settings.gif and not gallery.there(folder / gallery.FILM)


# The command


def prompts_in(chosen: argparse.Namespace) -> list[str]:
    """The prompts of the file that was named, one a line; "" is no context."""
    path = located(chosen.prompts_file, "--prompts-file")
    if "prompts" in chosen:
        refuse("--prompts-file", "no --prompts beside it", str(path))
    try:
        with open(path, encoding="utf-8-sig") as file:
            text = file.read(LARGEST_TEXT + 1)
    except (OSError, UnicodeError) as problem:
        why = reason(problem)
        raise ValueError(f"--prompts-file: {path} is no text ({why})") from None
    if len(text) > LARGEST_TEXT:
        refuse("--prompts-file", f"at most {LARGEST_TEXT:,} letters", str(path))
    return text.splitlines()


def asked_again(chosen: argparse.Namespace) -> tuple[SampleSettings, dict]:
    """The settings that the run.json named by --again says, and all that it says.

    Where nothing else is chosen, its checkpoint and its device are too. ValueError if
    it is no run.json, or settings are given beside it.
    """
    path, names = chosen.again, [field.name for field in fields(SampleSettings)]
    if given := [f"--{n.replace('_', '-')}" for n in names if n in chosen]:
        refuse("--again", "no other settings beside it", ", ".join(given))
    record = gallery.read_record(path)
    try:
        settings = record["settings"] | {"n_samples": record["n_samples"]}
        chosen.checkpoint = chosen.checkpoint or record["checkpoint"]["file"]
        chosen.device = chosen.device or record["device"]
        chosen.ema = record["checkpoint"]["ema"] if chosen.ema is None else chosen.ema
        return SampleSettings(**settings), record
    except (KeyError, TypeError, ValueError) as problem:
        raise ValueError(f"{path}: no run.json of sample ({problem})") from None


def refuse_other(job: Job, record: dict, path: Path) -> None:
    """ValueError unless the record at path is of the same checkpoint, data and device;
    says so if it is from another machine, which may round in another way.
    """
    here = made_of(job)
    other = [key for key in here if record.get(key) != here[key]]
    if other:
        why = f"made of other {', '.join(other)}; they must be the same"
        raise ValueError(f"--again: {path} was {why}")
    then = [record.get("machine"), record.get("versions")]
    if then != [machine(device_of(job)), versions()]:
        print(f"{path}: from {then[0]}; here a pixel may differ by a grey level")


def made_of(job: Job) -> dict:
    """What the images of a job depend on, as run.json says it; not their number."""
    data = job.data and fingerprint(job.data.x, job.data.c)
    settings = asdict(job.settings)
    del settings["n_samples"]
    weights = job.checkpoint.model.state_dict().values()
    schedule = job.checkpoint.schedule.alpha_bar
    found = {
        "settings": settings,
        "weights": fingerprint(*weights, schedule)[-16:],
        "device": device_of(job).type,
        "data": data,
    }
    return json.loads(json.dumps(found))


def into_folder(
    job: Job, folder: Path, about: dict, resume: bool = False, overwrite: bool = False
) -> dict:
    """Sample a job into a folder, with a bar, or what it lacks; gives its record.

    about: what else run.json says. Raises as `gallery.opened` does, and ValueError for
    a folder that has more images than are asked for.
    """
    if not is_main():
        for _ in fill(job, folder, {}):
            pass
        return agreed({})
    with gallery.opened(folder, made_of(job), resume, overwrite) as record:
        asked, known = job.settings.n_samples, record.get("n_samples", 0)
        if asked < known:
            refuse("--n-samples", f"{known} or more, as there are in {folder},", asked)
        if asked > known:
            (folder / gallery.FILM).unlink(missing_ok=True)  # of fewer images
        total = images_lacking(job, folder)
        if total < job.n:
            print(f"{folder}: {counted(job.n - total, 'image')} of {job.n:,} are there")
        record.update(about, n_samples=asked, images=job.n, finished=False)
        record.setdefault("evaluations", {"an_image": 0, "in_all": 0})
        record.setdefault("seconds", {"sampling": 0.0, "writing": 0.0})
        known = record.setdefault("errors", []) if job.data else []
        known += [None] * (job.n - len(known))
        title = f"{folder.name} on {device_of(job)}"
        for _ in progress(fill(job, folder, record), total, title, " images"):
            pass
        return agreed(record)


def summary(record: dict, folder: Path) -> str:
    """What was made, in a line."""
    spent = record["seconds"]["sampling"] + record["seconds"]["writing"]
    images = counted(record["images"], "image")
    error = f", mean squared error {record['mse']:.2g}" if "mse" in record else ""
    each_image = f"{record['evaluations']['an_image']:g} evaluations of the network"
    return f"{folder}: {images}, {each_image} each, {spent:.1f} s{error}"


def versions() -> dict[str, str]:
    """What the images may depend on, beside the machine."""
    found = {"python": platform.python_version(), "torch": torch.__version__}
    return {**found, "numpy": np.__version__, "pillow": PIL.__version__}


# Seen together


def columns_of(job: Job) -> int:
    """Of the grid: a row for each interpolation; else about a square, and a prompt for
    each column where that is possible.
    """
    if job.settings.mode == "interpolate":
        return job.settings.n_interpolate
    n, turn = min(job.n, gallery.SHOWN), len(job.c)
    square = wide(n)
    return turn * max(1, round(square / turn)) if turn <= min(n, 20) else square


def grid_rows(job: Job) -> list[list[tuple[str, str]]]:
    """The (file, words) of the grid, row by row: images, and what belongs to them."""
    columns = columns_of(job)
    n = min(job.n, columns * max(1, gallery.SHOWN // columns))
    rows = []
    for first in range(0, n, columns):
        numbers = range(first, min(first + columns, n))
        for kind in job.kinds:
            files = [gallery.file_name(i, kind) for i in numbers]
            words = [words_of(job, i, kind) for i in numbers]
            rows.append(list(zip(files, words, strict=True)))
    return rows


class Film:
    """The first images of the first micro-batch, at FRAMES moments or fewer."""

    def __init__(self, job: Job):
        steps = job.steps if job.data else job.settings.steps
        count = min(FRAMES, steps)
        self.moments = {math.ceil(steps * (i + 1) / count) for i in range(count)}
        self.shown = min(job.n, job.settings.batch_size, gallery.SHOWN)
        self.columns = min(columns_of(job), self.shown)
        self.frames, self.seen = [], 0

    def see(self, kind: str, x: Tensor) -> None:
        """x (B,C,H,W): after one step."""
        self.seen += kind != "-unconditional"
        if kind != "-unconditional" and self.seen in self.moments:
            self.frames.append(x[: self.shown].cpu())

    def write(self, path: Path) -> None:
        scale = max(1, gallery.WIDTH // self.frames[0].shape[3])
        gif(self.frames, path, self.columns, scale)
