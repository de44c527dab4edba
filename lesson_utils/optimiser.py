"""Muon: an optimiser that learns in half the updates what AdamW does."""

from collections.abc import Callable, Iterable
from itertools import chain

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


def state_for(name: str, value: object, call: Call) -> dict:
    """The rule for the state_dict of an optimiser of the same weights."""
    try:
        state = dict(value["state"])
        groups = [list(group["params"]) for group in value["param_groups"]]
        stored = {i: shapes_in(state.get(i, {})) for i in chain(*groups)}
    except (KeyError, TypeError, AttributeError):
        refuse(name, "what optimiser.state_dict() gave", value)
    ours = [group["params"] for group in call["self"].param_groups]
    sizes, given = ([len(group) for group in each] for each in (ours, groups))
    if given != sizes:
        refuse(name, f"the state of groups of {sizes} weights", given)
    for i, p in zip(chain(*groups), chain(*ours), strict=True):
        wanted = shapes_in(fresh_state(p))
        if stored[i] and stored[i] != wanted:  # nothing is kept before the first step
            refuse(name, f"Muon's state {wanted} of weight {i}", stored[i])
    return value


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

    @checked(state_dict=state_for)
    def load_state_dict(self, state_dict: dict) -> None:
        """Take the state of the same weights; ValueError, and no change, for others."""
        super().load_state_dict(state_dict)

    def __setstate__(self, state: dict) -> None:
        """Take a state, also of matrices, in which AdamW would look for a step."""
        torch.optim.Optimizer.__setstate__(self, state)
        self.complete()

    def complete(self) -> None:
        """Give each weight its state at once, so that a stored one can be loaded."""
        for group in self.param_groups:
            for p in group["params"]:
                for name, start in fresh_state(p).items():
                    self.state[p].setdefault(name, start)

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


def fresh_state(p: Tensor) -> dict[str, Tensor]:
    """The state of a weight that has not moved yet."""
    if is_matrix(p):
        return {"momentum": torch.zeros_like(p)}
    averages = {name: torch.zeros_like(p) for name in ("exp_avg", "exp_avg_sq")}
    return averages | {"step": torch.tensor(0.0)}


def shapes_in(state: dict) -> dict[str, tuple[int, ...]]:
    """The shapes of what is kept for a weight."""
    return {name: tuple(kept.shape) for name, kept in state.items()}


def orthogonal(g: Tensor) -> Tensor:
    """g (rows, columns) with singular values near 1: five Newton-Schulz steps."""
    x = g.T if g.shape[0] > g.shape[1] else g
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x.T if g.shape[0] > g.shape[1] else x
