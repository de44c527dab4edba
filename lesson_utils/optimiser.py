"""Muon: an optimiser that learns in half the updates what AdamW does."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from .support.checked import Call, checked, real, refuse


def weights_of(name: str, value: object, call: Call) -> list[nn.Parameter]:
    """The rule for what model.parameters() gives."""
    rowed = isinstance(value, Iterable) and not isinstance(value, Tensor)
    given = list(value) if rowed else []
    if not given or not all(isinstance(p, nn.Parameter) for p in given):
        refuse(name, "model.parameters()", value)
    return given


@checked(parameters=weights_of, lr=real("(0, 1)"), weight_decay=real("[0, 1)"))
class Muon(torch.optim.AdamW):
    """Momentum with orthogonal steps for matrices, AdamW for all other weights.

    A gradient's few large singular values would decide the whole step; here each step
    of a matrix has singular values near 1, so that the rare directions learn too. A
    convolution (c_out,c_in,3,3) counts as a matrix (c_out, 9 c_in); what has less than
    16 rows or columns, and every bias, is left to AdamW.
    lr: AdamW's learning rate; a matrix moves by 5 times as much. weight_decay: of both.
    Copies, pickles, state_dict and further groups work as those of torch's optimisers.
    Source: Jordan et al., "Muon" (2024).
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr=3e-3, weight_decay=0.01):
        super().__init__(parameters, lr=lr, weight_decay=weight_decay)

    def add_param_group(self, param_group: dict) -> None:
        """Add weights with settings of their own, {"params": …, "lr": …}."""
        super().add_param_group(param_group)
        self.complete()

    def __setstate__(self, state: dict) -> None:
        """Take a state, also of matrices, in which AdamW would look for a step."""
        for p, kept in state["state"].items():
            if kept and isinstance(p, Tensor) and kept.keys() != names_of(p):
                refuse("state_dict", f"Muon's state, {names_of(p)},", set(kept))
        torch.optim.Optimizer.__setstate__(self, state)
        self.complete()

    def complete(self) -> None:
        """Give each weight its state at once, so that a stored one can be loaded."""
        for group in self.param_groups:
            for p in group["params"]:
                for name in sorted(names_of(p) - self.state[p].keys()):
                    start = torch.tensor(0.0) if name == "step" else torch.zeros_like(p)
                    self.state[p][name] = start

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """Move every weight that has a gradient; those of matrices are used up.

        closure: computes the loss again, with gradients; step gives it back.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in filter(is_matrix, group["params"]):
                if p.grad is not None:
                    self.move(p, group["lr"], group["weight_decay"])
        super().step()
        return loss

    def move(self, p: nn.Parameter, lr: float, weight_decay: float) -> None:
        """Move one matrix against its gradient, which is then used up."""
        momentum = self.state[p]["momentum"].lerp_(p.grad, 0.05)
        step = orthogonal(p.grad.lerp(momentum, 0.95).flatten(1))  # Nesterov
        tall = max(1, step.shape[0] / step.shape[1]) ** 0.5
        p.mul_(1 - lr * weight_decay)
        p.add_(step.view(p.shape), alpha=-5 * lr * tall)
        p.grad = None


def is_matrix(p: Tensor) -> bool:
    """Whether Muon's own rule applies to this weight."""
    return p.ndim > 1 and min(p.shape[0], p[0].numel()) >= 16


def names_of(p: Tensor) -> set[str]:
    """What the state of a weight is made of."""
    return {"momentum"} if is_matrix(p) else {"exp_avg", "exp_avg_sq", "step"}


def orthogonal(g: Tensor) -> Tensor:
    """g (rows, columns) with singular values near 1: five Newton-Schulz steps."""
    x = g.T if g.shape[0] > g.shape[1] else g
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x.T if g.shape[0] > g.shape[1] else x
