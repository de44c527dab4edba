"""Judging samples: is the class asked for the class seen, and are they mere copies?"""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .arguments import refuse, shaped
from .checkpoint import CHECKPOINTS, halves, ours, read_tensors, rebuilt, write_tensors
from .data import dataset, label

JUDGES = CHECKPOINTS / "judges"


class Judge(nn.Module):
    """A small classifier of pictures: x (B,C,H,W) in [-1, 1] -> logits (B,K).

    in_channels: C; names: the K classes; width: channels at full size, a multiple of 8.
    """

    def __init__(self, in_channels: int, names: tuple[str, ...], width: int = 32):
        super().__init__()
        self.in_channels, self.names, self.width = in_channels, tuple(names), width
        layers, c = [], in_channels
        for times, stride in ((1, 1), (1, 1), (2, 2), (2, 1), (4, 2), (4, 1)):
            conv = nn.Conv2d(c, c := times * width, 3, stride, padding=1)
            layers += [conv, nn.GroupNorm(8, c), nn.SiLU()]
        self.body, self.head = nn.Sequential(*layers), nn.Linear(c, len(self.names))

    def features(self, x: Tensor) -> Tensor:
        """What the last layer sees of x (B,C,H,W): (B, 4 width)."""
        return self.body(x).mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))

    @torch.no_grad()
    def classes(self, x: Tensor, batch_size: int = 500) -> Tensor:
        """The class seen in each picture of x (N,C,H,W), values cut off as for display.

        Gives (N,) int64. Raises ValueError for other channels than its own, and NaN.
        """
        shaped("x", x, "N", self.in_channels, "H", "W")
        if x.isnan().any():
            refuse("x", "a tensor without NaN", x)
        parts = x.clamp(-1, 1).split(batch_size)
        return torch.cat([self(part).argmax(1) for part in parts])


def train_judge(judge: Judge, batches: Iterator[tuple[Tensor, Tensor]], steps: int):
    """Train a judge in place on so many batches of x (B,C,H,W) with c (B,K)."""
    optimiser = torch.optim.AdamW(judge.train().parameters())
    rates = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, steps)
    for x, c in islice(batches, steps):
        x = x + 0.1 * torch.rand(len(x), 1, 1, 1) * torch.randn_like(x)
        loss = F.cross_entropy(judge(x), c, label_smoothing=0.02)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        rates.step()
    judge.eval()


def judge_for(name: str | Path, steps: int = 300) -> Judge:
    """The judge of a data set: the one that ships, or one that is trained here and now.

    name: as dataset takes it. steps: of 64 pictures, where it must be trained.
    """
    if (JUDGES / f"{label(name)}.safetensors").is_file():
        return load_judge(name)[0]
    data = dataset(name)
    judge = Judge(data.x.shape[1], data.names)
    draws = (torch.randint(len(data.x), (64,)) for _ in range(steps))
    train_judge(judge, ((data.x[i], data.c[i]) for i in draws), steps)
    return judge


def save_judge(path: str | Path, judge: Judge, **meta) -> None:
    """Write a judge, its class names and training record to one safetensors file."""
    sizes = {"in_channels": judge.in_channels, "width": judge.width}
    record = {"judge": sizes, "names": judge.names, "meta": meta}
    write_tensors(path, halves(judge), record)


def load_judge(name_or_path: str | Path) -> tuple[Judge, dict]:
    """A judge in eval mode, and its training record: by data set's name, or by path.

    Raises ValueError if there is none, or the file is damaged or foreign.
    """
    path = Path(name_or_path)
    if path.suffix != ".safetensors":
        path = JUDGES / f"{label(name_or_path)}.safetensors"
    if not path.is_file():
        raise ValueError(f"{path}: no such judge; make train-judges trains them")
    tensors, record = read_tensors(path)
    with ours(path, "a judge"):
        judge = rebuilt(tensors, Judge, names=record["names"], **record["judge"])
        return judge.eval(), record["meta"]


def label_accuracy(judge: Judge, x: Tensor, c: Tensor) -> float:
    """The share of x (N,C,H,W) in which the class asked for, c (N,K), is seen."""
    shaped("c", c, len(x), len(judge.names))
    return float((judge.classes(x) == c.argmax(1)).float().mean())


def nearest(x: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """For each picture of x (N,C,H,W) the nearest of known (M,C,H,W).

    Gives its number (N,) int64 and the distance (N,), the root mean square over pixels.
    """
    shaped("x", x, "N", "C", "H", "W")
    shaped("known", known, "M", *x.shape[1:])
    flat, found = known.flatten(1), []
    for part in x.clamp(-1, 1).flatten(1).split(100):
        found.append(torch.cdist(part, flat).min(1))
    distance = torch.cat([f.values for f in found]) / flat.shape[1] ** 0.5
    return torch.cat([f.indices for f in found]), distance
