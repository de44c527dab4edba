"""make train-judges: the classifiers that say which class a sample shows."""

import math
import time
from collections.abc import Iterator
from itertools import count

import torch
from torch import Tensor

from lesson_utils.checkpoint import CHECKPOINTS
from lesson_utils.cli import machine
from lesson_utils.data import SPRITE_CLASSES, sprites
from lesson_utils.metrics import Judge, label_accuracy, save_judge, train_judge
from lesson_utils.viz import progress

STEPS, BATCH = 1500, 128
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


def fresh_batches() -> Iterator[tuple[Tensor, Tensor]]:
    """Sprites drawn for each batch anew, each turned to any hue."""
    for step in count():
        x, c, _ = sprites(BATCH, FIRST_TRAINED + step)
        yield hue_shift(x, any_hue(BATCH)), c


def train_sprites_judge() -> tuple[Judge, dict]:
    """The sprites' judge and its record: fresh sprites in each step, in any colours."""
    torch.manual_seed(0)
    judge = Judge(3, SPRITE_CLASSES).to(memory_format=torch.channels_last)
    start = time.monotonic()
    train_judge(judge, progress(fresh_batches(), STEPS, "sprites' judge"), STEPS)
    seconds = round(time.monotonic() - start)
    x, c, _ = sprites(10_000, FIRST_UNSEEN)
    turned = hue_shift(x, any_hue(len(x)))
    return judge, {
        "data": "sprites drawn afresh, with turned hues and a little noise",
        "images_seen": STEPS * BATCH,
        "seconds": seconds,
        "machine": machine("cpu"),
        "unseen": len(x),
        "accuracy": label_accuracy(judge, x, c),
        "accuracy_hue_shifted": label_accuracy(judge, turned, c),
    }


def main() -> None:
    judge, record = train_sprites_judge()
    path = CHECKPOINTS / "judges/sprites.safetensors"
    save_judge(path, judge, **record)
    print(f"{path.name}: {path.stat().st_size:,} bytes")
    print(f"unseen sprites {record['accuracy']:.2%}, ", end="")
    print(f"in other hues {record['accuracy_hue_shifted']:.2%}")


if __name__ == "__main__":
    main()
