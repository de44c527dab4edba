"""The exercises of lesson 5: context."""

import torch

from ..sampling import guide
from .cases import PAIRS, SHARES
from .checks import exercise

__all__ = ["guided", "mixed"]


@exercise((*pair, scale) for pair in PAIRS for scale in (0.0, 1.0, 2.5))
def guided(with_c, without_c, scale):
    """function(with_c, without_c, scale) must give the guided eps (guidance eq. 6)."""

    def model(x, t, c):
        return without_c if c is None else torch.cat([with_c, without_c])[: len(x)]

    return guide(model, torch.ones(4, 1), scale)(with_c, torch.ones(4))


@exercise((["hero", "food", "spell"], shares) for shares in SHARES)
def mixed(names, shares):
    """function(names, {name: share}) must give a context (1,K)."""
    return torch.tensor([[float(shares.get(name, 0)) for name in names]])
