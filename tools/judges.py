"""make train-judges: the classifiers that say which class a sample shows."""

import argparse
import math
import time
from collections.abc import Iterator
from itertools import count

import torch
from torch import Tensor
from torch.nn import functional as F

from lesson_utils.cli import machine
from lesson_utils.data import Pictures, dataset, mnist, sprites
from lesson_utils.metrics import (
    JUDGES,
    Judge,
    label_accuracy,
    reference,
    save_judge,
    train_judge,
)
from lesson_utils.viz import progress

STEPS = {"sprites": 1500, "mnist": 2400}  # of the batches below
BATCH = 128
FIRST_TRAINED, FIRST_UNSEEN = 10**6, 10**9  # seeds, far from those of the checkpoint


def hue_shift(x: Tensor, angle: Tensor) -> Tensor:
    """x (B,3,H,W) with its colours turned by angle (B,) about the axis of the greys.

    White, grey and dark stay; what leaves [-1, 1] is cut off.
    """
    mean = torch.full((3, 3), 1 / 3)
    cross = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / 3**0.5
    a = angle.view(-1, 1, 1)
    turn = mean + a.cos() * (torch.eye(3) - mean) + a.sin() * cross  # (B,3,3)
    return torch.einsum("bij,bjhw->bihw", turn, x).clamp(-1, 1)


def any_hue(n: int, generator: torch.Generator | None = None) -> Tensor:
    """Angles (n,), uniform in 0 … 2π."""
    return 2 * math.pi * torch.rand(n, generator=generator)


def bent(x: Tensor) -> Tensor:
    """x (B,1,H,W), each turned up to 12°, scaled up to 12 % and moved up to 8 %.

    What comes in at the border is the border's colour.
    """
    angle, wide, high, right, down = torch.rand(5, len(x)).mul(2).sub(1)
    angle = math.radians(12) * angle
    cos, sin = angle.cos(), angle.sin()
    wide, high = 1 + 0.12 * wide, 1 + 0.12 * high
    rows = [wide * cos, -high * sin, 0.16 * right, wide * sin, high * cos, 0.16 * down]
    where = F.affine_grid(torch.stack(rows, 1).view(-1, 2, 3), x.shape, False)
    return F.grid_sample(x, where, padding_mode="border", align_corners=False)


def fresh_sprites() -> Iterator[tuple[Tensor, Tensor]]:
    """Sprites drawn for each batch anew, each turned to any hue."""
    for step in count():
        x, c, _ = sprites(BATCH, FIRST_TRAINED + step)
        yield hue_shift(x, any_hue(BATCH)), c


def fresh_digits(data: Pictures) -> Iterator[tuple[Tensor, Tensor]]:
    """All digits in turn, in a new order each time, and each a little bent."""
    while True:
        for i in torch.randperm(len(data.x)).split(BATCH):
            yield bent(data.x[i]), data.c[i]


def trained(judge: Judge, batches: Iterator, steps: int, label: str) -> dict:
    """Train a judge in place; gives the first part of its record."""
    judge.to(memory_format=torch.channels_last)
    start = time.monotonic()
    train_judge(judge, progress(batches, steps, label), steps)
    seconds = round(time.monotonic() - start)
    seen = {"images_seen": steps * BATCH, "seconds": seconds}
    return seen | {"machine": machine("cpu")}


def sprites_judge(data: Pictures) -> tuple[Judge, dict]:
    """The sprites' judge and its record: fresh sprites in each step, in any colours."""
    torch.manual_seed(0)
    judge = Judge(3, data.names)
    record = trained(judge, fresh_sprites(), STEPS["sprites"], "sprites' judge")
    x, c, _ = sprites(10_000, FIRST_UNSEEN)
    turned = hue_shift(x, any_hue(len(x)))
    return judge, {
        "data": "sprites drawn afresh, with turned hues and a little noise",
        **record,
        "unseen": len(x),
        "accuracy": label_accuracy(judge, x, c),
        "accuracy_hue_shifted": label_accuracy(judge, turned, c),
    }


def mnist_judge(data: Pictures) -> tuple[Judge, dict]:
    """The digits' judge and its record: judged by the 10,000 test images."""
    unseen = mnist("test")
    torch.manual_seed(0)
    judge = Judge(1, data.names, width=24)
    record = trained(judge, fresh_digits(data), STEPS["mnist"], "digits' judge")
    return judge, {
        "data": "the 60,000 training images of MNIST, a little bent and noisy",
        **record,
        "unseen": len(unseen.x),
        "accuracy": label_accuracy(judge, unseen.x, unseen.c),
    }


TRAINED = {"sprites": sprites_judge, "mnist": mnist_judge}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help=f"any of: {', '.join(STEPS)}")
    names = parser.parse_args().names or list(STEPS)
    if unknown := set(names) - set(STEPS):
        parser.error(f"no judge is trained for {', '.join(sorted(unknown))}")
    for name in names:
        try:
            data = dataset(name)
        except ValueError as problem:  # no MNIST, and no network
            print(f"{name}: its judge is left out ({problem})")
            continue
        judge, record = TRAINED[name](data)
        judge.real = reference(judge.seen(data.x)[0])
        path = JUDGES / f"{name}.safetensors"
        save_judge(path, judge, **record)
        print(f"{path.name}: {path.stat().st_size:,} bytes, {record['seconds']} s")
        for key in (key for key in record if key.startswith("accuracy")):
            print(f"{key} on {record['unseen']:,} unseen pictures: {record[key]:.2%}")


if __name__ == "__main__":
    main()
