"""Judging samples: is the right class seen, are they like real ones, or mere copies?

The features are those of a small classifier of ours, the judge, and not of Inception:
what other places call FID is here the Fréchet classifier distance, FCD. It can only be
compared with another FCD by the same judge.
"""

import math
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple
from warnings import catch_warnings

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from .arguments import real, refuse, shaped, whole
from .checkpoint import CHECKPOINTS, halves, ours, read_tensors, rebuilt, write_tensors
from .data import dataset, label

JUDGES = CHECKPOINTS / "judges"


class Reference(NamedTuple):
    """What n real pictures look like to a judge: the mean of their features and more.

    mean: (F,); cov: (F,F), divided by n - 1; both float32.
    """

    mean: Tensor
    cov: Tensor
    n: int


class Judge(nn.Module):
    """A small classifier of pictures: x (B,C,H,W) in [-1, 1] -> logits (B,K).

    in_channels: C; names: the K classes; width: channels at full size, a multiple of 8.
    real: a Reference of its data, which is shipped with it, or None.
    """

    def __init__(self, in_channels: int, names: tuple[str, ...], width: int = 32):
        super().__init__()
        self.real: Reference | None = None
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
    def seen(self, x: Tensor, batch_size: int = 500) -> tuple[Tensor, Tensor]:
        """Features (N, 4 width) and logits (N,K) of x (N,C,H,W), cut off as displayed.

        Raises ValueError for other channels than its own, and NaN.
        """
        shaped("x", x, "N", self.in_channels, "H", "W")
        if x.isnan().any():
            refuse("x", "a tensor without NaN", x)
        parts = x.split(whole("batch_size", batch_size, 1))
        features = torch.cat([self.features(part.clamp(-1, 1)) for part in parts])
        return features, self.head(features)

    def classes(self, x: Tensor, batch_size: int = 500) -> Tensor:
        """The class seen in each picture of x (N,C,H,W): (N,) int64; errors of seen."""
        return self.seen(x, batch_size)[1].argmax(1)


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


def judge_for(name: str | Path, steps: int = 300, size: int | None = None) -> Judge:
    """The judge of a data set: the one that ships, or one that is trained here and now.

    name, size: as dataset takes them. steps: of 64 pictures, where it must be trained.
    """
    if (JUDGES / f"{label(name)}.safetensors").is_file():
        return load_judge(name)[0]
    data = dataset(name, size)
    with torch.random.fork_rng([]):  # the same judge each time
        torch.default_generator.manual_seed(0)
        judge = Judge(data.x.shape[1], data.names)
        draws = (torch.randint(len(data.x), (64,)) for _ in range(steps))
        train_judge(judge, ((data.x[i], data.c[i]) for i in draws), steps)
    judge.real = reference(judge.seen(data.x)[0])
    return judge


def save_judge(path: str | Path, judge: Judge, **meta) -> None:
    """Write a judge, its class names, Reference and record to one safetensors file.

    Raises ValueError if it has no Reference, or one that is not of its features.
    """
    mean, cov, n = of_width("judge.real", judge.real, judge.head.in_features)
    sizes = {"in_channels": judge.in_channels, "width": judge.width}
    record = {"judge": sizes, "names": judge.names, "real": n, "meta": meta}
    tensors = {"real.mean": mean.float(), "real.cov": cov.float()}
    write_tensors(path, halves(judge) | tensors, record)


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
        mean, cov = tensors.pop("real.mean"), tensors.pop("real.cov")
        judge = rebuilt(tensors, Judge, names=record["names"], **record["judge"])
        seen = Reference(mean, cov, record["real"])
        judge.real = of_width("real", seen, judge.head.in_features)
        judge.eval().to(memory_format=torch.channels_last)  # faster on a CPU
        return judge, record["meta"]


def label_accuracy(judge: Judge, x: Tensor, c: Tensor) -> float:
    """The share of x (N,C,H,W) in which the class asked for, c (N,K), is seen."""
    shaped("c", c, len(x), len(judge.names))
    return float((judge.classes(x) == c.argmax(1)).double().mean())


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


def rows(name: str, value: object, width: int | str = "F", least: int = 2) -> Tensor:
    """value (N,width) in float64, if it is so many rows of finite numbers at least."""
    shaped(name, value, "N", width)
    if len(value) < least or not value.isfinite().all():
        refuse(name, f"{least} or more rows of finite numbers", value)
    return value.detach().double()


def of_width(name: str, value: object, width: int) -> Reference:
    """value, if it is a Reference of width features."""
    if not isinstance(value, Reference):
        refuse(name, "a Reference, as reference(judge.seen(x)[0]) gives,", value)
    shaped(f"{name}.mean", value.mean, width)
    shaped(f"{name}.cov", value.cov, width, width)
    for part in (value.mean, value.cov, value.cov.diagonal().sqrt()):
        if not part.isfinite().all():
            refuse(name, "finite numbers, and no negative variance", part)
    if not torch.allclose(value.cov, value.cov.T):
        refuse(f"{name}.cov", "a symmetric matrix", value.cov)
    return value._replace(n=whole(f"{name}.n", value.n, 2))


def reference(features: Tensor) -> Reference:
    """The Reference of real pictures' features (N,F), N of 2 or more."""
    x = rows("features", features)
    cov = torch.cov(x.T).view(x.shape[1], x.shape[1])
    return Reference(x.mean(0).float(), ((cov + cov.T) / 2).float(), len(x))


def as_seen(width: int) -> nn.Module:
    """For torchmetrics, in place of Inception: the features are there already."""
    module = nn.Identity()
    module.num_features = width
    return module


def frechet_distance(features: Tensor, reference: Reference) -> float:
    """The Fréchet classifier distance (FCD) of samples' features (N,F) to real ones.

    |μ - μ_r|² + tr(Σ + Σ_r - 2 (Σ Σ_r)^½), by torchmetrics: the squared distance of two
    Gaussians (Heusel et al. 2017, eq. 6, there of Inception's features). Of few samples
    it is too high: compare equal N only, and with that of N real test pictures.
    """
    x = rows("features", features)
    mean, cov, n = of_width("reference", reference, x.shape[1])
    mean, cov = mean.double(), cov.double()
    metric = FrechetInceptionDistance(as_seen(x.shape[1]))
    metric.update(x, real=False)
    metric.real_features_sum = n * mean
    metric.real_features_cov_sum = (n - 1) * cov + n * mean.outer(mean)
    metric.real_features_num_samples = torch.tensor(n)
    return float(metric.compute())


def kernel_distance(
    features: Tensor, real_features: Tensor, subsets=100, subset_size=200, seed=0
) -> tuple[float, float]:
    """The kernel distance of features (N,F) to real ones (M,F): mean, and deviation.

    The squared maximum mean discrepancy for the kernel (x·y / F + 1)³, unbiased at any
    N (Bińkowski et al. 2018, there KID), by torchmetrics: mean and standard deviation
    over random subsets of subset_size each, the same for the same seed.
    """
    x = rows("features", features)
    y = rows("real_features", real_features, x.shape[1])
    size = whole("subset_size", subset_size, 2, min(len(x), len(y)))
    subsets, seed = whole("subsets", subsets, 1), whole("seed", seed, 0, 2**63)
    with catch_warnings(action="ignore"), torch.random.fork_rng([]):
        torch.default_generator.manual_seed(seed)  # the one that torchmetrics uses
        metric = KernelInceptionDistance(as_seen(x.shape[1]), subsets, size)
        metric.update(x, real=False)
        metric.update(y, real=True)
        mean, deviation = metric.compute()
    return float(mean), float(deviation)


def classifier_score(logits: Tensor) -> float:
    """exp of the mean of KL(p(y|x) ‖ p(y)) for logits (N,K): 1 … K, more is better.

    The Inception score's formula (Salimans et al. 2016) on the judge's classes: high if
    each picture shows one class clearly, and all classes are shown equally often.
    """
    each = rows("logits", logits, least=1).log_softmax(1)
    mean = each.logsumexp(0) - math.log(len(each))  # the logarithm of p(y)
    return float((each.exp() * (each - mean)).sum(1).mean().exp())


def precision_recall(
    features: Tensor, real_features: Tensor, k: int = 3
) -> tuple[float, float]:
    """Is any sample implausible, is anything missing? Of features (N,F) and real (M,F).

    Precision is the share of samples that lie among the real pictures, recall that of
    real pictures that lie among the samples: within the distance of one of the others
    to its own k-th neighbour (Kynkäänniemi et al. 2019, eq. 1, 2). Both depend on N and
    M: take N = M, and compare with N other real pictures.
    """
    x = rows("features", features)
    y = rows("real_features", real_features, x.shape[1])
    k = whole("k", k, 1, min(len(x), len(y)) - 1)
    return among(x, y, k), among(y, x, k)


def among(x: Tensor, known: Tensor, k: int) -> float:
    """The share of x (N,F) nearer to one of known (M,F) than its k-th neighbour is."""
    radius = []
    for i in torch.arange(len(known)).split(500):
        distance = torch.cdist(known[i], known)
        distance[torch.arange(len(i)), i] = math.inf  # none is its own neighbour
        radius.append(distance.kthvalue(k).values)
    radius = torch.cat(radius)
    inside = [(torch.cdist(part, known) <= radius).any(1) for part in x.split(500)]
    return float(torch.cat(inside).double().mean())


def share_interval(share: float, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval for a share of n, which is never certain."""
    share, n, z = real("share", share, "[0, 1]"), whole("n", n, 1), 1.96
    half = z * (share * (1 - share) / n + z**2 / (4 * n**2)) ** 0.5
    middle = share + z**2 / (2 * n)
    return tuple((middle + side) / (1 + z**2 / n) for side in (-half, half))


def interval(
    figure: Callable[[Tensor], float], groups: Tensor, times: int = 200, seed: int = 0
) -> tuple[float, float]:
    """A 95 % interval for a figure of n samples, by drawing them anew with repetition.

    figure: takes numbers of samples, (n,) int64, gives a float. groups: (n,) int64, the
    class of each, within which it is drawn anew, as shares of classes are not left to
    chance. The interval is that of all ± 1.96 standard deviations of those drawn anew,
    and not the percentiles of these: where samples repeat, an FCD is higher, and
    percentiles would miss its own.
    """
    if not callable(figure):
        refuse("figure", "something to call with numbers of samples", figure)
    fits = isinstance(groups, Tensor) and groups.dtype == torch.int64
    if not fits or groups.ndim != 1 or len(groups) < 2:
        refuse("groups", "int64 classes (n,) of two samples or more", groups)
    times = whole("times", times, 2)
    g = torch.Generator().manual_seed(whole("seed", seed, 0, 2**63))
    each = [(groups == k).nonzero().flatten() for k in groups.unique()]

    def anew(i: Tensor) -> Tensor:
        return i[torch.randint(len(i), i.shape, generator=g)]

    drawn = [torch.cat([anew(i) for i in each]) for _ in range(times)]
    middle, *others = [
        real("figure", figure(i), "(-inf, inf)")
        for i in (torch.arange(len(groups)), *drawn)
    ]
    half = 1.96 * float(torch.tensor(others, dtype=torch.float64).std())
    return middle - half, middle + half
