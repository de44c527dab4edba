"""The noise schedule: one tensor, from which everything else is derived."""

from dataclasses import dataclass
from math import acos, cos, pi

import torch
from torch import Tensor

from .support.checked import checked, optional, real, whole
from .support.rules import (
    FINITE,
    clean_images,
    falling,
    last_beta,
    levels_of_times,
    shaped_as,
    spacing_rule,
    steps_rule,
    times_of,
)


@checked(T=whole(1), beta_1=optional(real("(0, 1)")), beta_T=last_beta)
def linear_alpha_bar(
    T: int = 500, beta_1: float | None = None, beta_T: float | None = None
) -> Tensor:
    """alpha_bar (T+1,) for β rising in a straight line from beta_1 to beta_T (DDPM §4).

    The defaults 0.1/T and 20/T leave about √alpha_bar[T] = 0.006 of the image for any
    T of 100 and more (beta_T is held below 1 for T <= 20). Computed in float64.
    Raises ValueError for a T below 1 or betas outside 0 < beta_1 <= beta_T < 1.
    """
    beta_1 = 0.1 / T if beta_1 is None else beta_1
    beta_T = max(min(20 / T, 0.999), beta_1) if beta_T is None else beta_T
    beta = torch.linspace(beta_1, beta_T, T, dtype=torch.float64)
    return torch.cat([torch.ones(1), (1 - beta).cumprod(0)])


@checked(T=whole(1))
def cosine_alpha_bar(T: int = 500) -> Tensor:
    """alpha_bar (T+1,) with √alpha_bar a cosine (Nichol & Dhariwal 2021, eq. 17).

    Their s is 0.008. It ends at √alpha_bar[T] = 0.03 instead of nearly 0: with their
    clipped end, the first of 20 DDIM steps would multiply the network's error by 789.
    Computed in float64. Raises ValueError for a T below 1.
    """
    first = 0.008 / 1.008 * pi / 2
    end = acos(0.03 * cos(first))
    angle = torch.linspace(first, end, T + 1, dtype=torch.float64)
    return (angle.cos() / cos(first)) ** 2


@checked(
    T=whole(1),
    steps=steps_rule("T", to_0=False),
    spacing=spacing_rule,
    alpha_bar=levels_of_times,
)
def spaced_times(
    T: int,
    steps: int | list[int],
    spacing: str = "uniform",
    alpha_bar: Tensor | None = None,
) -> list[int]:
    """The steps + 1 times T … 0 of a sampler, strictly decreasing.

    steps: a number in 1..T, whether or not it divides T, or the times themselves.
    spacing: "uniform" (equal strides), "linspace" (ends with a stride of 1), "quad"
    (short strides near the image; DDIM app. D.2) or "logsnr" (equal strides from T to 1
    in λ = ½ ln(ab/(1 - ab)), ab being alpha_bar (T+1,)). ValueError for any other.
    """
    if isinstance(steps, list):
        return steps
    if spacing == "uniform":
        return [round(T - i * T / steps) for i in range(steps + 1)]
    if spacing == "linspace":
        stride = (T - 1) / max(steps - 1, 1)
        return [round(T - stride * i) for i in range(steps)] + [0]
    if spacing == "quad":
        upwards = [round(T * j**2 / steps**2) for j in range(1, steps + 1)]
    else:
        lam = alpha_bar[1:].double().logit() / 2  # (T,)
        even = torch.linspace(lam[-1], lam[0], steps, dtype=lam.dtype).flip(0)
        upwards = (1 + (lam - even[:, None]).abs().argmin(1)).tolist()
    times = [0]
    for j, t in enumerate(upwards, 1):  # no time twice, and room for those above
        times.append(min(max(t, times[-1] + 1), T - steps + j))
    return times[::-1]


@checked(alpha_bar=falling)
@dataclass(frozen=True, eq=False)
class Schedule:
    """How much of the image is left at each of the times 0 … T, T training steps.

    alpha_bar: (T+1,) float32, alpha_bar[0] == 1, strictly decreasing, above 0. Because
    alpha_bar[0] is the clean image itself, no sampler needs a special last step.
    Raises ValueError if alpha_bar is anything else.
    Source: DDPM (Ho et al. 2020), eq. 4; the alpha of DDIM (Song et al. 2021).
    """

    alpha_bar: Tensor
    T = property(lambda self: len(self.alpha_bar) - 1)

    @classmethod
    def linear(cls, T=500, beta_1=None, beta_T=None) -> "Schedule":
        """The schedule of linear_alpha_bar."""
        return cls(linear_alpha_bar(T, beta_1, beta_T).float())

    @classmethod
    def cosine(cls, T=500) -> "Schedule":
        """The schedule of cosine_alpha_bar."""
        return cls(cosine_alpha_bar(T).float())

    def timesteps(self, steps, spacing="uniform") -> list[int]:
        """The steps + 1 times T … 0 of a sampler: spaced_times."""
        return spaced_times(self.T, steps, spacing, self.alpha_bar)

    @checked(x0=clean_images, t=times_of, eps=shaped_as("x0", FINITE))
    def add_noise(self, x0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        """Sample x_t ~ q(x_t | x_0) with the given noise (DDPM eq. 4).

        x0, eps: (B,C,H,W), x0 in [-1, 1]; t: (B,) int64 in 0..T. Gives (B,C,H,W) in
        x0's type; the two factors are float32 whatever that is. Raises ValueError for
        shapes that do not fit, times outside 0..T, x0 beyond ±10, and NaN.
        """
        ab = self.alpha_bar.to(x0.device)[t].view(-1, 1, 1, 1)  # float32 for any x0
        return (ab.sqrt() * x0 + (1 - ab).sqrt() * eps).to(x0.dtype)
