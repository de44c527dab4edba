"""The judge: a small classifier that says which class an image shows."""

import math
import time
from collections.abc import Callable, Iterator
from itertools import count, islice
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..checkpoint import Checkpoint, checkpoint_file, halves, load, rebuilt
from ..data import Pictures, dataset, sprites
from ..support.checked import Call, checked, refuse, tensor, whole
from ..support.device import machine
from ..support.files import (
    CHECKPOINTS,
    fingerprint,
    foreign,
    label,
    located,
    read_tensors,
    write_tensors,
)
from ..viz import progress
from .metrics import Reference, reference, reference_rule

JUDGES = CHECKPOINTS / "judges"
BATCH = 128
FIRST_SEED = 10**6  # far from those of a checkpoint's sprites, and of unseen ones


class Judge(nn.Module):
    """A small classifier of images: x (B,C,H,W) in [-1, 1] -> logits (B,K).

    in_channels: C; names: the K classes; width: channels at full size, a multiple of 8.
    image_shape: (C,H,W) of the images that it knows and no others, None for any size.
    several: whether an image may show several classes, or none, so that each logit is
    one of its own. real: a Reference of its data, which is shipped with it, or None. It
    stays on the CPU and takes images from any device.
    """

    def __init__(
        self,
        in_channels: int,
        names: tuple[str, ...],
        width: int = 32,
        image_shape: tuple[int, int, int] | None = None,
        several: bool = False,
    ):
        super().__init__()
        self.real: Reference | None = None
        self.in_channels, self.names, self.width = in_channels, tuple(names), width
        self.image_shape = None if image_shape is None else tuple(image_shape)
        if self.image_shape is not None and self.image_shape[:1] != (in_channels,):
            refuse("image_shape", f"({in_channels},H,W)", image_shape)
        self.several = several
        layers, c = [], in_channels
        for times, stride in ((1, 1), (1, 1), (2, 2), (2, 1), (4, 2), (4, 1)):
            conv = nn.Conv2d(c, times * width, 3, stride, padding=1)
            c = times * width
            layers += [conv, nn.GroupNorm(8, c), nn.SiLU()]
        self.body, self.head = nn.Sequential(*layers), nn.Linear(c, len(self.names))

    def features(self, x: Tensor) -> Tensor:
        """What the last layer sees of x (B,C,H,W): (B, 4 width)."""
        return self.body(x).mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))

    @checked(x=tensor("N self.in_channels H W"), batch_size=whole(1))
    @torch.no_grad()
    def seen(self, x: Tensor, batch_size: int = 500) -> tuple[Tensor, Tensor]:
        """Features (N, 4 width) and logits (N,K) of x (N,C,H,W), cut off as displayed.

        Raises ValueError for other channels or sizes than its own, and NaN.
        """
        if self.image_shape not in (None, tuple(x.shape[1:])):
            refuse("x", f"images {self.image_shape}, which this judge knows,", x)
        if x.isnan().any():
            refuse("x", "a tensor without NaN", x)
        parts = x.to(self.head.weight).split(batch_size)
        features = torch.cat([self.features(part.clamp(-1, 1)) for part in parts])
        return features, self.head(features)

    def classes(self, x: Tensor, batch_size: int = 500) -> Tensor:
        """The class seen in each image of x (N,C,H,W): (N,) int64; errors of seen."""
        return self.seen(x, batch_size)[1].argmax(1)

    def accuracy(self, x: Tensor, c: Tensor) -> float:
        """The share of x (N,C,H,W) in which what c (N,K) asks for is seen: `right`."""
        return float(self.right(self.seen(x)[1], c).double().mean())

    def right(self, logits: Tensor, c: Tensor) -> Tensor:
        """Which images of these logits (N,K) show what c (N,K) asked for: (N,) bool.

        One class that was asked for must have the largest probability. Several must be
        all those, and no others, that a context of the probabilities would ask for.
        ValueError for a c of another shape.
        """
        asked = self.asked_for(tensor(f"{len(logits)} {len(self.names)}")("c", c).cpu())
        share = logits.sigmoid() if self.several else logits.softmax(1)
        right = (self.asked_for(share) == asked).all(1)
        if self.several:
            return right
        first = logits.argmax(1) == asked.byte().argmax(1)
        return torch.where(asked.sum(1) == 1, first, right)

    def asked_for(self, c: Tensor) -> Tensor:
        """The classes that contexts c (N,K) ask for: (N,K) bool.

        They have at least half the weight of the largest; where an image may show
        several, or none, a weight of at least ½.
        """
        largest = 1.0 if self.several else c.amax(1, keepdim=True)
        return (c > 0) & (c >= largest / 2)


def one_each(c: Tensor) -> bool:
    """Whether each context (N,K) is one class, or the shares of a mixture."""
    return bool((c >= 0).all() and ((c.sum(1) - 1).abs() < 1e-4).all())


# Files


def save_judge(path: str | Path, judge: Judge, **meta) -> None:
    """Write a judge, its class names, Reference and record to one safetensors file.

    Raises ValueError if it has no Reference, or one that is not of its features.
    """
    real = own_reference("judge.real", judge.real, judge)
    tensors = halves(judge)
    tensors["real.mean"] = real.mean.float()
    tensors["real.cov"] = real.cov.float()
    made_by = ("in_channels", "width", "image_shape", "several")
    sizes = {name: getattr(judge, name) for name in made_by}
    record = {"judge": sizes, "names": judge.names, "real": real.n, "meta": meta}
    write_tensors(path, tensors, record)


def load_judge(name_or_path: str | Path) -> tuple[Judge, dict]:
    """A judge in eval mode, and its training record: by data set's name, or by path.

    Raises ValueError if there is none, or the file is damaged or foreign.
    """
    path = located(name_or_path, "name_or_path")
    if path.suffix != ".safetensors":
        path = judge_path(name_or_path)
    if not path.is_file():
        raise ValueError(f"{path}: no such judge; judge_for trains one")
    tensors, record = read_tensors(path)
    with foreign(path, "a judge"):
        mean, cov = tensors.pop("real.mean"), tensors.pop("real.cov")
        judge = rebuilt(tensors, Judge, names=record["names"], **record["judge"])
        real = Reference(mean, cov, record["real"])
        judge.real = own_reference("real", real, judge)
        judge.eval().to(memory_format=torch.channels_last)  # faster on a CPU
        return judge, record["meta"]


def judge_path(name: str | Path) -> Path:
    """Where the judge of a data set lies."""
    return JUDGES / f"{label(name)}.safetensors"


def own_reference(name: str, real: object, judge: Judge) -> Reference:
    """real, if it is a Reference of the judge's features; else a ValueError."""
    call = Call({})
    call.sizes["F"] = judge.head.in_features
    return reference_rule(name, real, call)


# Training


def train_judge(judge: Judge, batches: Iterator[tuple[Tensor, Tensor]], steps: int):
    """Train a judge in place on so many batches of x (B,C,H,W) with c (B,K).

    Cross-entropy with the shares of c; a judge of `several` learns of each class alone.
    """
    optimiser = torch.optim.AdamW(judge.train().parameters())
    rates = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, steps)
    for x, c in islice(batches, steps):
        x = x + 0.1 * torch.rand(len(x), 1, 1, 1) * torch.randn_like(x)
        if judge.several:
            loss = F.binary_cross_entropy_with_logits(judge(x), c)
        else:
            loss = F.cross_entropy(judge(x), c, label_smoothing=0.02)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        rates.step()
    judge.eval()


def judge_for(name: str | Path, like=None, steps: int = 300) -> Judge:
    """The judge of a data set: the one on disk, or one that is trained here and now.

    name: as dataset takes it. On disk are those that ship, and those that `card` has
    trained. like: the Checkpoint whose samples are judged, None for the one of this
    name, if there is one: the judge knows images of its size and no others. steps: of
    64 images, where it is trained. ValueError for data without classes.
    """
    steps = whole(1)("steps", steps)
    if like is None:
        like = checkpoint_of(name)
    if like is not None and not like.context:
        refuse("name", "data with classes, which a judge can name,", str(name))
    if judge_path(name).is_file():
        judge, record = load_judge(name)
        if like is None or knows_images_of(judge, record, like):
            return judge
    data = dataset(name, like=like)
    if not data.names:
        refuse("name", "data with classes, which a judge can name,", str(name))
    return quick_judge(data, steps)[0]


def checkpoint_of(name: str | Path) -> Checkpoint | None:
    """The checkpoint that was trained on a data set, if there is one."""
    try:
        checkpoint_file(name)
    except ValueError:
        return None
    return load(name)


def knows_images_of(judge: Judge, record: dict, like: Checkpoint) -> bool:
    """Whether a judge of this record knows what a checkpoint was trained on.

    The images have the same shape and classes and, where both say so, are the same.
    """
    known, trained = record.get("fingerprint"), like.meta.get("fingerprint")
    same = None in (known, trained) or known == trained
    return (
        same
        and judge.image_shape == tuple(like.image_shape)
        and judge.names == like.context
    )


def quick_judge(data: Pictures, steps: int = 300) -> tuple[Judge, dict]:
    """A judge trained on some data here and now, the same each time; and its record.

    It learns from four fifths of the images; its accuracy is that of the others, which
    are as many as the record's unseen. Its weights are those that a file keeps.
    """
    if not ((data.c >= 0) & (data.c <= 1)).all():
        refuse("data.c", "weights in [0, 1], which a judge can learn,", data.c)
    start, shape = time.monotonic(), tuple(data.x.shape[1:])
    learned, kept = four_fifths(data.c)
    with torch.random.fork_rng([]):
        torch.default_generator.manual_seed(0)
        several = not one_each(data.c)
        judge = Judge(shape[0], data.names, image_shape=shape, several=several)
        judge.to(memory_format=torch.channels_last)
        numbers = (torch.randint(len(learned), (64,)) for _ in range(steps))
        batches = ((data.x[learned[i]], data.c[learned[i]]) for i in numbers)
        bar = progress(batches, steps, "judge", delay=2)
        train_judge(judge, bar, steps)
    judge.load_state_dict({k: v.float() for k, v in halves(judge).items()})
    judge.real = reference(judge.seen(data.x)[0])
    record = {
        "data": f"four fifths of {len(data.x):,} images",
        "fingerprint": fingerprint(data.x, data.c),
        "images_seen": steps * 64,
        "seconds": round(time.monotonic() - start),
        "machine": machine("cpu"),
        "unseen": len(kept),
        "accuracy": judge.accuracy(data.x[kept], data.c[kept]) if len(kept) else None,
    }
    return judge, record


def four_fifths(c: Tensor) -> tuple[Tensor, Tensor]:
    """Numbers of rows of c (N,K) to learn from, and of every fifth of each kind."""
    order = torch.randperm(len(c), generator=torch.Generator().manual_seed(0))
    kinds = c[order].unique(dim=0, return_inverse=True)[1]
    order = order[kinds.argsort(stable=True)]
    fifth = torch.arange(len(c)) % 5 == 4
    return order[~fifth], order[fifth]


# The judges that ship: fresh or changed images in each batch


class Recipe(NamedTuple):
    """How the judge of a built-in data set is trained, and by what it is tested.

    batches: data -> (x, c) for ever; tests: what the record calls it -> images.
    """

    width: int
    steps: int
    about: str
    batches: Callable[[Pictures], Iterator[tuple[Tensor, Tensor]]]
    tests: dict[str, Callable[[], Pictures]]


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


def fresh_sprites(data: Pictures) -> Iterator[tuple[Tensor, Tensor]]:
    """Sprites drawn for each batch anew, each turned to any hue."""
    for step in count():
        x, c, _ = sprites(BATCH, FIRST_SEED + step)
        yield hue_shift(x, any_hue(BATCH)), c


def bent_digits(data: Pictures) -> Iterator[tuple[Tensor, Tensor]]:
    """All digits in turn, in a new order each time, and each a little bent."""
    while True:
        for i in torch.randperm(len(data.x)).split(BATCH):
            yield bent(data.x[i]), data.c[i]


def turned_sprites() -> Pictures:
    """Unseen sprites in other hues."""
    data = dataset("sprites", unseen=True)
    return data._replace(x=hue_shift(data.x, any_hue(len(data.x))))


RECIPES = {
    "sprites": Recipe(
        width=32,
        steps=1500,
        about="sprites drawn afresh, with turned hues and a little noise",
        batches=fresh_sprites,
        tests={
            "accuracy": lambda: dataset("sprites", unseen=True),
            "accuracy_hue_shifted": turned_sprites,
        },
    ),
    "mnist": Recipe(
        width=24,
        steps=2400,
        about="the 60,000 training images of MNIST, a little bent and noisy",
        batches=bent_digits,
        tests={"accuracy": lambda: dataset("mnist", unseen=True)},
    ),
}


def train_shipped_judge(name: str, data: Pictures) -> tuple[Judge, dict]:
    """Train the judge of a built-in data set; gives it, and its record."""
    recipe = RECIPES[name]
    torch.manual_seed(0)
    shape = tuple(data.x.shape[1:])
    judge = Judge(shape[0], data.names, recipe.width, shape)
    judge.to(memory_format=torch.channels_last)
    start = time.monotonic()
    batches = progress(recipe.batches(data), recipe.steps, f"judge of {name}")
    train_judge(judge, batches, recipe.steps)
    record = {
        "data": recipe.about,
        "images_seen": recipe.steps * BATCH,
        "seconds": round(time.monotonic() - start),
        "machine": machine("cpu"),
    }
    for figure, images in recipe.tests.items():
        test = images()
        record["unseen"] = len(test.x)
        record[figure] = judge.accuracy(test.x, test.c)
    judge.real = reference(judge.seen(data.x)[0])
    return judge, record
