"""Metrics: from features, logits and images to numbers.

The features are those of a small classifier of ours, the judge, and not of Inception:
what other places call FID is here the Fréchet classifier distance, FCD. It can only be
compared with another FCD by the same judge.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple
from warnings import catch_warnings

import torch
from torch import Tensor, nn

from ..support.checked import (
    Call,
    checked,
    real,
    refuse,
    something_to_call,
    tensor,
    whole,
)
from ..support.rules import FINITE, numbers

BIG_SEED = whole(0, 2**63)


class Reference(NamedTuple):
    """What n real images look like to a judge: the mean of their features and more.

    mean: (F,); cov: (F,F), divided by n - 1; both float32.
    """

    mean: Tensor
    cov: Tensor
    n: int


@dataclass(frozen=True)
class rows:
    """The rule for at least so many rows (N,F) of finite numbers: they become float64.

    All rows of one call have the same F.
    """

    shape: str = "N F"
    least: int = 2

    def __call__(self, name, value, call=None) -> Tensor:
        value = tensor(self.shape)(name, value, call)
        if len(value) < self.least or not value.isfinite().all():
            refuse(name, f"{self.least} or more rows of finite numbers", value)
        return value.detach().double()


def reference_rule(name: str, value: object, call: Call) -> Reference:
    """The rule for a Reference of F features."""
    if not isinstance(value, Reference):
        refuse(name, "a Reference, as reference(judge.seen(x)[0]) gives,", value)
    tensor("F")(f"{name}.mean", value.mean, call)
    tensor("F F")(f"{name}.cov", value.cov, call)
    for part in (value.mean, value.cov, value.cov.diagonal().sqrt()):
        if not part.isfinite().all():
            refuse(name, "finite numbers, and no negative variance", part)
    if not torch.allclose(value.cov, value.cov.T):
        refuse(f"{name}.cov", "a symmetric matrix", value.cov)
    return value._replace(n=whole(2)(f"{name}.n", value.n))


def classes_rule(name: str, value: object, call: Call) -> Tensor:
    """The rule for the class of each of two samples or more: they become int64."""
    needed = "int64 classes (n,) of two samples or more"
    classes = numbers(name, value, needed)
    if len(classes) < 2 or not torch.equal(classes, classes.round()):
        refuse(name, needed, value)
    return classes.long()


def exact_images(name: str, value: object, call: Call) -> Tensor:
    """The rule for images (N,C,H,W) to measure distances of, in float32 or better."""
    x = tensor("N C H W", span=FINITE)(name, value, call)
    return x.to(torch.promote_types(x.dtype, torch.float32))


@checked(features=rows())
def reference(features: Tensor) -> Reference:
    """The Reference of real images' features (N,F), N of 2 or more."""
    cov = torch.cov(features.T).view(features.shape[1], features.shape[1])
    symmetric = (cov + cov.T) / 2
    return Reference(features.mean(0).float(), symmetric.float(), len(features))


def as_seen(width: int) -> nn.Module:
    """For torchmetrics, in place of Inception: the features are there already."""
    module = nn.Identity()
    module.num_features = width
    return module


# Of several processes one judges, and has all samples: it waits for no other.
ALONE = {"sync_on_compute": False}


@checked(features=rows(), reference=reference_rule)
def frechet_distance(features: Tensor, reference: Reference) -> float:
    """The Fréchet classifier distance (FCD) of samples' features (N,F) to real ones.

    |μ - μ_r|² + tr(Σ + Σ_r - 2 (Σ Σ_r)^½), by torchmetrics: the squared distance of two
    Gaussians (Heusel et al. 2017, eq. 6, there of Inception's features). Of few samples
    it is too high: compare equal N only, and with that of N real test images.
    """
    from torchmetrics.image.fid import FrechetInceptionDistance  # slow to import

    mean, cov, n = reference.mean.double(), reference.cov.double(), reference.n
    metric = FrechetInceptionDistance(as_seen(features.shape[1]), **ALONE)
    metric.update(features, real=False)
    metric.real_features_sum = n * mean
    metric.real_features_cov_sum = (n - 1) * cov + n * mean.outer(mean)
    metric.real_features_num_samples = torch.tensor(n)
    return float(metric.compute())


@checked(features=rows(), real_features=rows("M F"), subsets=whole(1), seed=BIG_SEED)
def kernel_distance(
    features: Tensor, real_features: Tensor, subsets=100, subset_size=200, seed=0
) -> tuple[float, float]:
    """The kernel distance of features (N,F) to real ones (M,F): mean, and deviation.

    The squared maximum mean discrepancy for the kernel (x·y / F + 1)³, unbiased at any
    N (Bińkowski et al. 2018, there KID), by torchmetrics: mean and standard deviation
    over random subsets of subset_size each, the same for the same seed.
    """
    from torchmetrics.image.kid import KernelInceptionDistance  # slow to import

    most = min(len(features), len(real_features))
    size = whole(2, most)("subset_size", subset_size)
    with catch_warnings(action="ignore"), torch.random.fork_rng([]):
        torch.default_generator.manual_seed(seed)  # the one that torchmetrics uses
        seen = as_seen(features.shape[1])
        metric = KernelInceptionDistance(seen, subsets, size, **ALONE)
        metric.update(features, real=False)
        metric.update(real_features, real=True)
        mean, deviation = metric.compute()
    return float(mean), float(deviation)


@checked(logits=rows("N K", least=1))
def classifier_score(logits: Tensor) -> float:
    """exp of the mean of KL(p(y|x) ‖ p(y)) for logits (N,K): 1 … K, more is better.

    The Inception score's formula (Salimans et al. 2016) on the judge's classes: high if
    each image shows one class clearly, and all classes are shown equally often.
    """
    each = logits.log_softmax(1)
    mean = each.logsumexp(0) - math.log(len(each))  # the logarithm of p(y)
    return float((each.exp() * (each - mean)).sum(1).mean().exp())


@checked(features=rows(), real_features=rows("M F"))
def precision_recall(
    features: Tensor, real_features: Tensor, k: int = 3
) -> tuple[float, float]:
    """Is any sample implausible, is anything missing? Of features (N,F) and real (M,F).

    Precision is the share of samples that lie among the real images, recall that of
    real images that lie among the samples: within the distance of one of the others
    to its own k-th neighbour (Kynkäänniemi et al. 2019, eq. 1, 2). Both depend on N and
    M: take N = M, and compare with N other real images.
    """
    k = whole(1, min(len(features), len(real_features)) - 1)("k", k)
    return among(features, real_features, k), among(real_features, features, k)


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


@checked(x=exact_images, known=tensor("M C H W", like="x", cast=True, span=FINITE))
def nearest(x: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """For each image of x (N,C,H,W) the nearest of known (M,C,H,W).

    Gives its number (N,) int64 and the distance (N,), the root mean square over pixels.
    """
    flat, found = known.flatten(1), []
    for part in x.clamp(-1, 1).flatten(1).split(100):
        found.append(torch.cdist(part, flat).min(1))
    distance = torch.cat([f.values for f in found]) / flat.shape[1] ** 0.5
    return torch.cat([f.indices for f in found]), distance


@torch.no_grad()
def nearest_others(x: Tensor, some: Tensor) -> Tensor:
    """How far each of some images of x (N,C,H,W) is from the nearest other one.

    some: (n,) numbers of images, N of 2 or more. Gives (n,), as `nearest` measures.
    """
    flat, found = x.flatten(1), []
    for part in some.split(100):
        distance = torch.cdist(flat[part], flat)
        distance[torch.arange(len(part)), part] = math.inf
        found.append(distance.amin(1))
    return torch.cat(found) / flat.shape[1] ** 0.5


@checked(share=real("[0, 1]"), n=whole(1))
def share_interval(share: float, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval for a share of n, which is never certain."""
    z = 1.96
    half = z * (share * (1 - share) / n + z**2 / (4 * n**2)) ** 0.5
    middle = share + z**2 / (2 * n)
    return (middle - half) / (1 + z**2 / n), (middle + half) / (1 + z**2 / n)


@checked(
    figure=something_to_call("one that takes numbers of samples"),
    groups=classes_rule,
    times=whole(2),
    seed=BIG_SEED,
)
def interval(
    figure: Callable[[Tensor], float], groups: Tensor, times: int = 200, seed: int = 0
) -> tuple[float, float]:
    """A 95 % interval for a figure of n samples, by sampling them again, with repeats.

    figure: takes numbers of samples, (n,) int64, gives a float. groups: (n,) int64, the
    class of each, within which it is sampled again, as shares of classes are not left
    to chance. The interval is that of all ± 1.96 standard deviations of those found
    so, and not the percentiles of these: where samples repeat, an FCD is higher, and
    percentiles would miss its own.
    """
    g = torch.Generator().manual_seed(seed)
    each = [(groups == k).nonzero().flatten() for k in groups.unique()]

    def again() -> Tensor:
        return torch.cat([i[torch.randint(len(i), i.shape, generator=g)] for i in each])

    def value(i: Tensor) -> float:
        return real("(-inf, inf)")("figure", figure(i))

    middle = value(torch.arange(len(groups)))
    others = [value(i) for i in [again() for _ in range(times)]]
    half = 1.96 * float(torch.tensor(others, dtype=torch.float64).std())
    return middle - half, middle + half
