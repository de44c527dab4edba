"""The exercises of lesson 3: the context UNet."""

import torch
from torch.nn import functional as F

from ..unet import ResBlock, time_embedding
from .cases import RANDOM, SIZES
from .checks import exercise

__all__ = ["embedding", "parameters", "attention"]


@exercise((t, dim) for t in (0.002, 0.01, 0.02) for dim in (2, 8, 48))
def embedding(t, dim):
    """function(t, dim) must give dim/2 sines, then dim/2 cosines, of one t/T."""
    return time_embedding(torch.tensor([t]), dim)[0]


@exercise([(8, 8, 4), (48, 96, 192), (96, 48, 192)])
def parameters(c_in, c_out, dim):
    """function(c_in, c_out, dim) must give the number of weights of a ResBlock."""
    return sum(p.numel() for p in ResBlock(c_in, c_out, dim).parameters())


@exercise(torch.randn(3, n, d, generator=RANDOM).double() for n, d in SIZES)
def attention(q, k, v):
    """function(q, k, v), all (n,d), must give softmax(qkᵀ/√d) v (Transformer eq. 1)."""
    return F.scaled_dot_product_attention(q, k, v)
