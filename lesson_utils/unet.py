"""ContextUnet: the network that guesses the noise, readable from top to bottom."""

from math import log

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .support.checked import checked, choice, multiple, optional, tensor, whole
from .support.rules import context_in_loop, input_of, share_of_T


@checked(t=tensor("B"), dim=multiple(2))
def time_embedding(t: Tensor, dim: int) -> Tensor:
    """Sines and cosines of t at dim/2 frequencies (DDPM app. B, Transformer §3.5).

    t: (B,) t/T in (0, 1]. Gives (B, dim) float32; dim must be even.
    """
    powers = torch.arange(dim // 2, device=t.device) * (-log(10_000) / (dim // 2))
    angle = 1000 * t.float()[:, None] * powers.exp()  # (B, dim/2)
    return torch.cat([angle.sin(), angle.cos()], dim=1)


@checked(c_in=multiple(8), c_out=multiple(8), dim=multiple(1))
class ResBlock(nn.Module):
    """Two convolutions beside a shortcut; the embedding scales and shifts between them.

    x (B,c_in,H,W), emb (B,dim) -> (B,c_out,H,W).
    """

    def __init__(self, c_in: int, c_out: int, dim: int):
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(8, c_in), nn.GroupNorm(8, c_out)
        self.conv1 = nn.Conv2d(c_in, c_out, 3, padding=1)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1)
        self.emb = nn.Linear(dim, 2 * c_out)
        self.shortcut = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()
        nn.init.zeros_(self.conv2.weight)  # a new block adds next to nothing

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        scale, shift = self.emb(emb)[:, :, None, None].chunk(2, dim=1)  # (B,c_out,1,1)
        h = self.norm2(h) * (1 + scale) + shift
        return self.shortcut(x) + self.conv2(F.silu(h))


@checked(c=multiple(32))
class Attention(nn.Module):
    """Every place looks at every other: self-attention over H·W places.

    x (B,c,H,W) -> (B,c,H,W); c divisible by 32, one head for 32 channels.
    """

    def __init__(self, c: int):
        super().__init__()
        self.heads, self.norm = c // 32, nn.GroupNorm(8, c)
        self.qkv, self.out = nn.Conv2d(c, 3 * c, 1), nn.Conv2d(c, c, 1)
        nn.init.zeros_(self.out.weight)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(self.norm(x)).flatten(2)  # (B,3c,HW)
        q, k, v = qkv.unflatten(1, (3, self.heads, -1)).transpose(-1, -2).unbind(1)
        h = F.scaled_dot_product_attention(q, k, v)  # (B,heads,HW,32)
        h = h.transpose(-1, -2).flatten(1, 2).unflatten(-1, x.shape[2:])
        return x + self.out(h)


@checked(in_channels=choice(1, 3), context_size=whole(0, 2**20), width=multiple(16))
class ContextUnet(nn.Module):
    """Predicts the noise in a picture, knowing how noisy it is and what it shows.

    in_channels: 1 (grey) or 3 (colour); context_size: K, 0 for a model without context;
    width: channels at full size, a multiple of 16. H and W may be any multiples of 4.
    forward: x (B,C,H,W) in about [-1, 1], t (B,) t/T in (0, 1], c (B,K) or None, which
    is the same as rows of zeros -> eps (B,C,H,W). No dropout, no batch statistics: the
    same input gives the same output. x and c of another float type are given that of
    the weights. Raises ValueError for shapes that do not fit and, on the CPU, for a t
    outside [0, 1] and NaN in t or c.
    """

    def __init__(self, in_channels: int, context_size: int, width: int = 48):
        super().__init__()
        self.in_channels, self.context_size = in_channels, context_size
        self.width, w, dim = width, width, 4 * width
        self.time = nn.Sequential(nn.Linear(w, dim), nn.SiLU(), nn.Linear(dim, dim))
        if context_size:
            self.context = nn.Linear(context_size, dim, bias=False)
        self.stem = nn.Conv2d(in_channels, w, 3, padding=1)
        self.down1 = ResBlock(w, w, dim)  # H × W
        self.down2 = ResBlock(w, 2 * w, dim)  # H/2 × W/2
        self.down2b = ResBlock(2 * w, 2 * w, dim)
        self.down3 = ResBlock(2 * w, 2 * w, dim)  # H/4 × W/4
        self.attention = Attention(2 * w)
        self.up3 = ResBlock(2 * w, 2 * w, dim)
        self.up2b = ResBlock(2 * w, 2 * w, dim)
        self.up2 = ResBlock(2 * w, w, dim)
        self.up1 = ResBlock(w, w, dim)
        self.head = nn.Sequential(
            nn.GroupNorm(8, w), nn.SiLU(), nn.Conv2d(w, in_channels, 3, padding=1)
        )
        self.mix = nn.Linear(dim, 2)  # how much of x itself, how much of the rest
        nn.init.zeros_(self.head[-1].weight)
        nn.init.zeros_(self.mix.weight)

    @checked(
        x=input_of,
        t=share_of_T,
        c=optional(context_in_loop),
    )
    def forward(self, x: Tensor, t: Tensor, c: Tensor | None = None) -> Tensor:
        emb = self.time(time_embedding(t, self.width).to(x.dtype))  # (B,4w)
        if c is not None and self.context_size:
            emb = emb + self.context(c)
        emb = F.silu(emb)
        h1 = self.down1(self.stem(x), emb)  # (B,w,H,W)
        h2 = self.down2(F.avg_pool2d(h1, 2), emb)  # (B,2w,H/2,W/2)
        h2 = self.down2b(h2, emb)
        h3 = self.down3(F.avg_pool2d(h2, 2), emb)  # (B,2w,H/4,W/4)
        h = self.up3(self.attention(h3), emb)
        h = self.up2b(F.interpolate(h, scale_factor=2.0) + h2, emb)
        h = self.up2(h, emb)  # (B,w,H/2,W/2)
        h = self.up1(F.interpolate(h, scale_factor=2.0) + h1, emb)  # (B,w,H,W)
        # Near T the noise is x but for a trace, which the norms on the way blur: hand x
        # over beside them (preconditioning, Karras 2022, eq. 7).
        own, rest = self.mix(emb)[:, :, None, None].chunk(2, dim=1)  # (B,1,1,1)
        return own * x + (1 + rest) * self.head(h)
