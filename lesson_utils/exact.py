"""Distributions whose best denoiser is known: a world without a network's error.

With noise, points or Gaussians become a mixture of Gaussians at each time. Its density,
its score and the mean of x_0 given x_t are sums over the points.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import pi

import torch
from torch import Tensor

from .noise import noise_like
from .schedule import Schedule
from .support.checked import Call, checked, real, refuse, whole
from .support.rules import a_generator, a_schedule, numbers

LARGEST = 2**24  # numbers: of the pairs of x and points that are looked at together


# Rules for arguments


def points_rule(name: str, value: object, call: Call) -> Tensor:
    """One point or more, of any shape, all finite."""
    known = isinstance(value, Tensor) and value.is_floating_point()
    if not known or not value.ndim or not value.numel() or not value.isfinite().all():
        refuse(name, "a float tensor (N,…) of one finite point or more", value)
    return value.contiguous()  # flat rows of it are views, in each step of a sampler


def weights_rule(name: str, value: object, call: Call) -> Tensor | None:
    """None, or a weight for each point, of which the sum becomes 1."""
    if value is None:
        return None
    n = len(call["points"])
    needed = f"None, or numbers ({n},) of 0 or more, not all 0,"
    row = numbers(name, value, needed)
    if len(row) != n or (row < 0).any() or not 0 < row.sum() < torch.inf:
        refuse(name, needed, row.tolist())
    return row / row.sum()


def beside_points(name: str, value: object, call: Call) -> Tensor:
    """x (B,…): each of a point's shape, on the device of the points."""
    points = call["self"].points
    known = isinstance(value, Tensor) and value.is_floating_point()
    if not known or value.shape[1:] != points.shape[1:] or not value.numel():
        sizes = ",".join(["B", *map(str, points.shape[1:])])
        comma = "," * (points.ndim == 1)
        refuse(name, f"a float tensor of shape ({sizes}{comma})", value)
    if value.ndim != points.ndim:
        refuse(name, f"a float tensor with {points.ndim} dimensions", value)
    if value.device != points.device:
        refuse(name, f"a tensor on the points' device {points.device}", value.device)
    return value


def level_rule(name: str, value: object, call: Call) -> Tensor:
    """alpha_bar for all of x, or one for each, as a column (1,1) or (B,1)."""
    x, std = call["x"], call["self"].std
    span = "(0, 1]" if std else "(0, 1)"  # points without noise have no density
    if isinstance(value, Tensor) and value.ndim == 1 and len(value) != 1:
        row = numbers(name, value)
        if len(row) != len(x):
            refuse(name, f"a number in {span}, or ({len(x)},) of them,", value)
        for end in row.aminmax():
            real(span)(name, end, call)
    else:
        row = torch.tensor([real(span)(name, value, call)], dtype=torch.double)
    return row.to(x.device, torch.promote_types(x.dtype, torch.float32))[:, None]


@checked(points=points_rule, weights=weights_rule, std=real("[0, inf)"))
@dataclass(frozen=True, eq=False)
class Mixture:
    """Points, or Gaussians of one standard deviation around them, in any dimension.

    points: (N,…), such as (N,) numbers, (N,2) or images (N,C,H,W); weights: (N,), None
    for equal ones; std: 0 for the points themselves. x is (B,…); ab_t is alpha_bar at
    its time, one for all or (B,), below 1 if std is 0. A part of the points, such as
    those of one class, is a Mixture too. What is computed has the type of x.
    Raises ValueError for points that are not finite, weights that are negative or all
    0, a negative std, and an x or ab_t that does not fit.
    """

    points: Tensor
    weights: Tensor | None = None
    std: float = 0.0

    @checked(n=whole(1), generator=a_generator)
    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """n random samples of x_0: (n,…)."""
        where = "cpu" if generator is None else generator.device
        N, weights = len(self.points), self.weights
        if weights is None:
            chosen = torch.randint(N, (n,), generator=generator, device=where)
        else:
            weights = weights.to(where)
            chosen = weights.multinomial(n, replacement=True, generator=generator)
        x = self.points[chosen.to(self.points.device)]
        return x + self.std * noise_like(x, generator) if self.std else x

    @checked(x=beside_points, ab_t=level_rule)
    def best_guess(self, x: Tensor, ab_t: float | Tensor) -> Tensor:
        """E[x_0 given x_t = x], (B,…): the guess with the least squared error."""

        def guess(x: Tensor, ab: Tensor) -> Tensor:
            middle = (1 - ab) * self._middle(x, ab)
            return (middle + ab.sqrt() * self.std**2 * x) / self._variance(ab)

        return self._in_parts(guess, x, ab_t).view(x.shape)

    @checked(x=beside_points, ab_t=level_rule)
    def score(self, x: Tensor, ab_t: float | Tensor) -> Tensor:
        """The gradient of log_density with respect to x, (B,…): Tweedie's formula."""

        def score(x: Tensor, ab: Tensor) -> Tensor:
            return (ab.sqrt() * self._middle(x, ab) - x) / self._variance(ab)

        return self._in_parts(score, x, ab_t).view(x.shape)

    @checked(x=beside_points, ab_t=level_rule)
    def eps(self, x: Tensor, ab_t: float | Tensor) -> Tensor:
        """E[ε given x_t = x], (B,…): DDPM's eq. 4 solved with the best guess of x_0."""

        def eps(x: Tensor, ab: Tensor) -> Tensor:
            share = (1 - ab).sqrt() / self._variance(ab)
            return share * (x - ab.sqrt() * self._middle(x, ab))

        return self._in_parts(eps, x, ab_t).view(x.shape)

    @checked(x=beside_points, ab_t=level_rule)
    def log_density(self, x: Tensor, ab_t: float | Tensor) -> Tensor:
        """log q(x_t = x): (B,)."""

        def log_density(x: Tensor, ab: Tensor) -> Tensor:
            scale = (2 * pi * self._variance(ab)).log()  # (B,1)
            return self._logits(x, ab).logsumexp(1) - x.shape[1] / 2 * scale[:, 0]

        return self._in_parts(log_density, x, ab_t)

    @checked(schedule=a_schedule)
    def eps_fn(self, schedule: Schedule) -> Callable[[Tensor, Tensor], Tensor]:
        """`eps` as a sampler asks for it: (x, t/T (B,)) -> eps, t a whole number."""

        def eps_fn(x: Tensor, t: Tensor) -> Tensor:
            times = (t * schedule.T).round().long().cpu()
            return self.eps(x, schedule.alpha_bar[times])

        return eps_fn

    # Below, x is (B,D) and ab is (B,1), of one type.

    def _in_parts(self, function: Callable, x: Tensor, ab: Tensor) -> Tensor:
        """function(x, ab) for so many rows at a time that memory suffices."""
        rows = max(1, LARGEST // len(self.points))
        flat, ab = x.reshape(len(x), -1).to(ab), ab.expand(len(x), 1)
        parts = zip(flat.split(rows), ab.split(rows), strict=True)
        return torch.cat([function(*part) for part in parts]).to(x.dtype)

    def _variance(self, ab: Tensor) -> Tensor:
        """The variance of x_t around each of √alpha_bar times the points: (B,1)."""
        return ab * self.std**2 + 1 - ab

    def _middle(self, x: Tensor, ab: Tensor) -> Tensor:
        """The points' average, each weighted by its probability given x: (B,D)."""
        points = self.points.reshape(len(self.points), -1).to(x)
        return self._logits(x, ab).softmax(1) @ points

    def _logits(self, x: Tensor, ab: Tensor) -> Tensor:
        """log w_i - ‖x - √ab p_i‖²/2v for each of the points p_i: (B,N)."""
        points = self.points.reshape(len(self.points), -1).to(x)
        norms = torch.linalg.vector_norm(points, dim=1)
        products = ab.sqrt() * (x @ points.T)
        squares = (x**2).sum(1, keepdim=True) - 2 * products + ab * norms**2  # (B,N)
        logits = -squares / (2 * self._variance(ab))
        return logits if self.weights is None else logits + self.weights.to(x).log()
