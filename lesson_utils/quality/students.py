"""Students beside their teacher: what few evaluations keep, and what they lose.

Each student makes as many images, of the same noise and the same contexts, as its
teacher in 20 steps of DDIM. So its images are compared with the teacher's one by one.
"""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch
from torch import Tensor

from ..checkpoint import Checkpoint, load
from ..data import Pictures
from ..support.checked import refuse
from ..support.files import CHECKPOINTS, STUDENTS, write_json
from .experiment import (
    Sampling,
    clock_for,
    digest,
    distinct,
    figures,
    in_shares,
    sampled,
)
from .judge import Judge

USUAL = Sampling(steps=20, guidance=2.0)  # what a student is held against
BATCH = 25  # images at a time: with more they leave the processor's cache
ROUNDS = 3  # of timing


class Way(NamedTuple):
    """One way to sample: a student in its own steps, or the teacher, as cell says."""

    checkpoint: Checkpoint
    cell: Sampling


def students_of(name: str, folder: Path = CHECKPOINTS) -> list[Checkpoint]:
    """The students of a checkpoint in its folder, those with more steps first."""
    files = [folder / f"{name}-{steps}.safetensors" for steps in STUDENTS]
    return [load(file) for file in files if file.is_file()]


def is_of(result: dict, teacher: Checkpoint, students: list[Checkpoint], n: int):
    """Whether a result of compare is of these, with n samples."""
    known = [cell["student"] for cell in result["cells"] if cell["student"]]
    wanted = [digest(one.model) for one in students]
    about = (result["model"], result["n"])
    return about == (digest(teacher.model), n) and known == wanted


def ways(teacher: Checkpoint, students: list[Checkpoint]) -> list[Way]:
    """The teacher with its students' guidance, and as usual; then each student."""
    folded = students[0].model.guidance
    own = Sampling(steps=USUAL.steps, guidance=folded)
    cells = list(dict.fromkeys([own, USUAL]))
    found = [Way(teacher, cell) for cell in cells]
    return found + [Way(one, Sampling(len(one.times) - 1)) for one in students]


def batches(way: Way, c: Tensor, seed: int) -> Iterator[Tensor]:
    """The images of a way, BATCH of the rows of c (n,K) at a time."""
    for start in range(0, len(c), BATCH):
        rows = c[start : start + BATCH]
        *_, step = sampled(way.checkpoint, rows, way.cell, seed, start)
        yield step.x.cpu()


def compare(
    teacher: Checkpoint,
    students: list[Checkpoint],
    judge: Judge,
    data: Pictures,
    n: int,
    path: Path,
    seed: int = 0,
    **about,
) -> Iterator[None]:
    """Judge n images of each student and of its teacher; yields after each batch.

    path: the JSON file of the result, which is written at the end. A cell says how the
    images were made, all that `figures` says, and of a student how far an image is from
    the teacher's of the same noise: `distance`, the median root mean square, and
    `share`, that of the distance between two of the teacher's images of one class.
    `seconds`: n times those of an image, all ways in turns; also of DDPM with all T
    steps. about: what else the file should say, such as the machine. ValueError, at the
    call, without students, if they do not come from this teacher or differ in their
    guidance, or if n leaves a context with a single image.
    """
    model = digest(teacher.model)
    if not students or not all_from(teacher, students):
        refuse("students", "one or more of this teacher, of one guidance,", students)
    c = in_shares(data.c, n)
    _, kinds = distinct(c)
    if kinds.bincount().min() < 2:
        refuse("n", f"{2 * len(kinds.unique())} or more, two of each context,", n)
    result = {**about, "model": model, "n": n, "seed": seed, "cells": []}

    def loop() -> Iterator[None]:
        made = []
        for way in ways(teacher, students):
            images = []
            for x in batches(way, c, seed):
                images.append(x)
                yield
            x = torch.cat(images)
            made.append(x)
            record = described(way) | figures(judge, x, c, data)
            if way.checkpoint.times:
                record.update(beside_teacher(x, made[0], c))
            result["cells"].append(record)
        add_seconds(result, ways(teacher, students), c)
        write_json(path, result)

    return loop()


def all_from(teacher: Checkpoint, students: list[Checkpoint]) -> bool:
    """Whether each was made of this teacher, or of a student before it in the list."""
    known = [digest(teacher.model)]
    for one in students:
        if one.meta.get("teacher", {}).get("checksum") not in known:
            return False
        known.append(digest(one.model))
    return len({one.model.guidance for one in students}) == 1


def described(way: Way) -> dict:
    """How the images of a way are made."""
    if not way.checkpoint.times:
        cost = {"evaluations": way.cell.evaluations, "student": None}
        return {**asdict(way.cell), **cost}
    one = way.checkpoint
    return {
        **asdict(way.cell),
        "guidance": one.model.guidance,
        "evaluations": way.cell.steps,
        "student": digest(one.model),
        "times": one.times,
    }


def beside_teacher(x: Tensor, taught: Tensor, c: Tensor) -> dict:
    """How far images x (N,C,H,W) are from the teacher's of the same noise and c (N,K).

    The measure of it is how far the teacher's images are from those of other noise: of
    the next row of c that is the same.
    """
    distance = rms(x - taught)
    others = torch.empty(len(c), dtype=torch.long)
    _, kinds = distinct(c)
    for kind in kinds.unique():
        alike = (kinds == kind).nonzero().flatten()
        others[alike] = alike.roll(-1)
    return {"distance": distance, "share": distance / rms(taught[others] - taught)}


def rms(difference: Tensor) -> float:
    """The root mean square of each image (N,C,H,W), the median of all."""
    return float(difference.square().mean((1, 2, 3)).sqrt().median())


def add_seconds(result: dict, found: list[Way], c: Tensor) -> None:
    """The time of each way and of DDPM, in turns, for the n images of a result."""
    teacher = found[0].checkpoint
    ddpm = Way(teacher, Sampling(teacher.schedule.T, eta=1.0))
    rounds = [
        [seconds_of(way, c[:BATCH], seed) for way in (*found, ddpm)]
        for seed in range(ROUNDS)
    ]
    *each, result["ddpm_seconds"] = (
        result["n"] * median(times) for times in zip(*rounds, strict=True)
    )
    for record, seconds in zip(result["cells"], each, strict=True):
        record["seconds"] = seconds


def seconds_of(way: Way, c: Tensor, seed: int) -> float:
    """Those that an image takes."""
    clock = clock_for(way.checkpoint)
    began = clock()
    for _ in batches(way, c, seed):
        pass
    return (clock() - began) / len(c)
