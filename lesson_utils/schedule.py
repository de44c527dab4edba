"""The noise schedule: one tensor, from which everything else is derived."""

from dataclasses import dataclass
from itertools import pairwise
from math import acos, cos, pi

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Schedule:
    """How much of the picture is left at each of the times 0 … T.

    alpha_bar: (T+1,) float32, alpha_bar[0] == 1, strictly decreasing, above 0. Because
    alpha_bar[0] is the clean picture itself, no sampler needs a special last step.
    Raises ValueError if alpha_bar is anything else.
    Source: DDPM (Ho et al. 2020), eq. 4; the alpha of DDIM (Song et al. 2021).
    """

    alpha_bar: Tensor

    def __post_init__(self):
        ab = torch.as_tensor(self.alpha_bar).detach().float().cpu().clone()
        falling = ab.ndim == 1 and len(ab) > 1 and bool((ab.diff() < 0).all())
        if not falling or ab[0] != 1 or not ab[-1] > 0:
            raise ValueError(
                "alpha_bar: shape (T+1,), falling strictly from 1 to a value above 0, "
                f"is needed, got shape {tuple(ab.shape)}, {ab.flatten()[:3].tolist()} …"
            )
        object.__setattr__(self, "alpha_bar", ab)

    @classmethod
    def linear(
        cls, T: int = 500, beta_1: float | None = None, beta_T: float | None = None
    ) -> "Schedule":
        """β rising in a straight line from beta_1 to beta_T (DDPM §4).

        The defaults 0.1/T and 20/T leave about √alpha_bar[T] = 0.006 of the picture for
        any T of 100 and more (beta_T is held below 1 for T <= 20).
        Raises ValueError for a T below 1 or betas outside 0 < beta_1 <= beta_T < 1.
        """
        T = whole("T", T, 1)
        beta_1 = 0.1 / T if beta_1 is None else beta_1
        beta_T = max(min(20 / T, 0.999), beta_1) if beta_T is None else beta_T
        if not 0 < beta_1 <= beta_T < 1:
            raise ValueError(f"beta_1, beta_T: not 0 < {beta_1} <= {beta_T} < 1")
        beta = torch.linspace(beta_1, beta_T, T, dtype=torch.float64)
        return cls(torch.cat([torch.ones(1), (1 - beta).cumprod(0)]))

    @classmethod
    def cosine(cls, T: int = 500) -> "Schedule":
        """√alpha_bar as a cosine (Nichol & Dhariwal 2021, eq. 17, s = 0.008).

        It ends at √alpha_bar[T] = 0.03 instead of nearly 0: with the paper's clipped
        end, the first of 20 DDIM steps would multiply the network's error by 789.
        Raises ValueError for a T below 1.
        """
        first = 0.008 / 1.008 * pi / 2
        end = acos(0.03 * cos(first))
        angle = torch.linspace(first, end, whole("T", T, 1) + 1, dtype=torch.float64)
        return cls((angle.cos() / cos(first)) ** 2)

    @property
    def T(self) -> int:
        """The number of training steps."""
        return len(self.alpha_bar) - 1

    def timesteps(self, steps: int | list[int], spacing: str = "uniform") -> list[int]:
        """The steps + 1 times T … 0 of a sampler, strictly decreasing.

        steps: a number in 1..T, whether or not it divides T, or the times themselves.
        spacing: "uniform" (equal strides), "linspace" (ends with a stride of 1) or
        "quad" (short strides near the picture; DDIM app. D.2).
        Raises ValueError for any other number, list or spacing.
        """
        T = self.T
        if isinstance(steps, list | tuple):
            times = [whole("steps", t, 0, T) for t in steps]
            falling = all(t > s for t, s in pairwise(times))
            if not falling or times[:1] != [T] or times[-1] != 0:
                raise ValueError(f"steps: must fall from {T} to 0, got {steps}")
            return times
        S = whole("steps", steps, 1, T)
        if spacing == "uniform":
            return [round(T - i * T / S) for i in range(S + 1)]
        if spacing == "linspace":
            stride = (T - 1) / max(S - 1, 1)
            return [round(T - stride * i) for i in range(S)] + [0]
        if spacing == "quad":
            times = [0]
            for j in range(1, S + 1):
                times.append(max(round(T * j**2 / S**2), times[-1] + 1))
            return times[::-1]
        raise ValueError(f"spacing: uniform, linspace or quad, got {spacing!r}")

    def add_noise(self, x0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        """Draw x_t ~ q(x_t | x_0) with the given noise (DDPM eq. 4).

        x0, eps: (B,C,H,W), x0 in [-1, 1]; t: (B,) int64 in 0..T. Gives (B,C,H,W).
        Raises ValueError for shapes that do not fit and times outside 0..T.
        """
        fits = x0.ndim == 4 and x0.shape == eps.shape and t.shape == x0.shape[:1]
        if not fits or not x0.is_floating_point():
            shapes = tuple(x0.shape), tuple(t.shape), tuple(eps.shape)
            raise ValueError(f"x0, t, eps: no such pictures: {x0.dtype}, {shapes}")
        if t.dtype != torch.int64 or ((t < 0) | (t > self.T)).any():
            raise ValueError(f"t: int64 times in 0..{self.T} are needed, got {t}")
        ab = self.alpha_bar.to(x0)[t].view(-1, 1, 1, 1)
        return ab.sqrt() * x0 + (1 - ab).sqrt() * eps


def whole(name: str, value: object, least: int, most: int | None = None) -> int:
    """value as an int, or ValueError naming the argument if it is no such number."""
    try:
        number = int(value)
        fits = number == value and not isinstance(value, bool | str)
    except (TypeError, ValueError, OverflowError):
        fits = False
    if not fits or number < least or (most is not None and number > most):
        span = f"of {least} or more" if most is None else f"in {least}..{most}"
        raise ValueError(f"{name}: a whole number {span} is needed, got {value!r}")
    return number
