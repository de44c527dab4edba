"""Small data, models, runs and checkpoints: the one builder of all tests."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from lesson_utils import (
    Checkpoint,
    ContextUnet,
    DistillSettings,
    Pictures,
    Schedule,
    Settings,
    distill,
    train,
)

SCHEDULE = Schedule.linear()
NAMES = tuple("abcdefghij")
OTHER = Settings(10, 5, 1e-3, 7, 0.9, 0.2, 0.0, True, 1)  # no field as in Settings()


def small_data(n=40, shape=(1, 8, 8), classes=2, seed=0) -> Pictures:
    """n images of random values in [-1, 1], whose classes take turns."""
    g = torch.Generator().manual_seed(seed)
    x = torch.rand(n, *shape, generator=g) * 2 - 1
    return Pictures(x, torch.eye(classes)[torch.arange(n) % classes], NAMES[:classes])


def small_model(channels=1, classes=2, width=16, seed=0, lively=False) -> ContextUnet:
    """A fresh network; lively: with no weight at 0, as after training."""
    torch.manual_seed(seed)
    model = ContextUnet(channels, classes, width)
    return with_all_weights(model) if lively else model


def with_all_weights(module: torch.nn.Module) -> torch.nn.Module:
    """The module with no weight at 0, so that every path through it counts."""
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    return module


def small_checkpoint(shape=(1, 8, 8), classes=2, width=16, seed=0) -> Checkpoint:
    """A Checkpoint of a lively network, as load gives it."""
    model = small_model(shape[0], classes, width, seed, lively=True).eval()
    return Checkpoint(model, SCHEDULE, NAMES[:classes], shape, {})


def small_run(model=None, data=None, schedule=SCHEDULE, files=None, **settings):
    """train of a small model, four images an update; files: its state, save_seconds."""
    settings = Settings(**{"batch_size": 4} | settings)
    model, data = model or small_model(), data or small_data()
    return train(model, schedule, data, settings, **files or {})


def small_folder(folder: Path, kind="folders") -> Path:
    """A data set as somebody brings it: two classes of four images, 24 × 24."""
    pixels = np.random.default_rng(0).integers(0, 255, (2, 4, 24, 24, 3), np.uint8)
    folder.mkdir(parents=True)
    if kind == "arrays":
        np.save(folder / "x.npy", pixels.reshape(8, 24, 24, 3))
        np.save(folder / "c.npy", np.eye(2).repeat(4, 0))
        return folder
    for name, four in zip(("cats", "dogs"), pixels, strict=True):
        (folder / name).mkdir()
        for i, image in enumerate(four):
            Image.fromarray(image).save(folder / name / f"{i}.png")
    return folder


def small_distillation(
    teacher=None, data=None, schedule=SCHEDULE, files=None, **settings
):
    """distill of a small model to two steps, in three stages of three updates."""
    usual = {"steps": 2, "teacher_steps": 16, "updates": 3, "warmup": 1}
    settings = DistillSettings(**{**usual, "batch_size": 4} | settings)
    teacher, data = teacher or small_model(lively=True), data or small_data()
    return distill(teacher, schedule, data, settings, **files or {})
