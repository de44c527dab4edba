"""Progressive distillation: one step of a student does what two of its teacher do."""

import torch
from torch import Tensor, nn

from .sampling import EpsFn, ddim_step
from .schedule import Schedule
from .support.checked import checked, tensor
from .support.rules import (
    a_schedule,
    a_student,
    an_eps_fn,
    context_for,
    level_rule,
    noisy_images,
    of_student,
    shaped_as,
    time_of_student,
    times_rule,
)


@checked(x=tensor(), v=shaped_as("x"), ab_t=level_rule("[0, 1]"))
def from_v(x: Tensor, v: Tensor, ab_t: float | Tensor) -> tuple[Tensor, Tensor]:
    """What v = √ab eps - √(1 - ab) x_0 says: the guesses (eps, x_0), each (B,C,H,W).

    x: x_t, (B,C,H,W) as v; ab_t: alpha_bar there, a number or (B,1,1,1) in [0, 1], else
    ValueError. DDIM's eq. 9 divides by √ab_t, which is 0.006 at t = T; here nothing is
    divided. Source: Salimans & Ho 2022, §4.
    """
    a, b = ab_t**0.5, (1 - ab_t) ** 0.5
    return b * x + a * v, a * x - b * v


@checked(**of_student)
class Student(nn.Module):
    """A network that answers in v, as guide and the samplers take it: answering in eps.

    network: (x, t/T, c) -> v; times: T … 0, the only ones that it knows, None for all:
    its guess at each of them is for a step to the next, and to no other time; guidance:
    the scale folded in. alpha_bar goes to the device of the network's weights. Raises
    ValueError for times that do not fall from T to 0 and a guidance below 0.
    """

    def __init__(self, network: nn.Module, schedule, times=None, guidance=1.0):
        super().__init__()
        self.network, self.times, self.guidance = network, times, guidance
        self.register_buffer("alpha_bar", schedule.alpha_bar, persistent=False)

    T = property(lambda self: len(self.alpha_bar) - 1)
    in_channels = property(lambda self: self.network.in_channels)
    context_size = property(lambda self: self.network.context_size)

    def forward(self, x: Tensor, t: Tensor, c: Tensor | None = None) -> Tensor:
        """The guess of eps (B,C,H,W): the first of guesses, which takes the same."""
        return self.guesses(x, t, c)[0]

    @checked(t=time_of_student)
    def guesses(
        self, x: Tensor, t: Tensor, c: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The guesses (eps, x_0), each (B,C,H,W) as x.

        t: (B,), in t/T; c: (B,K) or None. Raises ValueError for another shape and, on
        the CPU, for a time that the student does not know.
        """
        ab = self.alpha_bar[(t * self.T).round().long()].view(-1, 1, 1, 1)  # (B,1,1,1)
        return from_v(x, self.network(x, t, c), ab)


@checked(
    eps_fn=an_eps_fn,
    x=noisy_images,
    schedule=a_schedule,
    t=times_rule("schedule.T", "x", least=1),
    m=times_rule("schedule.T", "x", least=1, below="t"),
    s=times_rule("schedule.T", "x", below="m"),
)
@torch.no_grad()
def jump_target(eps_fn: EpsFn, x: Tensor, schedule: Schedule, t, m, s) -> Tensor:
    """The guess of x_0 with which one step of DDIM from t to s ends where the teacher's
    two steps t → m → s end: (B,C,H,W).

    eps_fn: the teacher, asked at t and m; x: x_t, (B,C,H,W); t, m, s: times (B,) int64,
    T >= t > m > s >= 0, ValueError for others. Source: Salimans & Ho 2022, alg. 2.
    """
    ab, T = schedule.alpha_bar.to(x).view(-1, 1, 1, 1), schedule.T
    x_m, _ = ddim_step(x, eps_fn(x, t / T), ab[t], ab[m])
    x_s, _ = ddim_step(x_m, eps_fn(x_m, m / T), ab[m], ab[s])
    r = ((1 - ab[s]) / (1 - ab[t])) ** 0.5
    return (x_s - r * x) / (ab[s] ** 0.5 - r * ab[t] ** 0.5)


@checked(
    student=a_student,
    x=noisy_images,
    t=times_rule("student.T", "x", least=1),
    target=shaped_as("x"),
    c=context_for("student"),
)
def distillation_loss(student: Student, x: Tensor, t, target, c=None) -> Tensor:
    """How far the student's guess of x_0 is from a target (B,C,H,W): a scalar Tensor.

    x: x_t, (B,C,H,W), t: (B,) int64 in 1..T; c: (B,K) or None; ValueError for others.
    The weight of the guess is max(ab/(1 - ab), 1), that of v is then max(ab, 1 - ab),
    so the weight of v is at least ½ at every time. Source: Salimans & Ho 2022, §4, the
    truncated SNR weight max(SNR, 1).
    """
    _, x0 = student.guesses(x, t / student.T, c)
    ab = student.alpha_bar.to(x)[t].view(-1, 1, 1, 1)
    return ((ab / (1 - ab)).clamp(min=1) * (x0 - target) ** 2).mean()
