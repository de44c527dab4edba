"""What the answers of learners are tried on."""

from itertools import pairwise

import torch

from ..noise import noise_like
from ..schedule import Schedule

RANDOM = torch.Generator().manual_seed(0)
ONE = torch.ones(1, 1, 1, 1, dtype=torch.double)
LEVELS = (0.1, 0.5, 0.9)  # of alpha_bar
PAIRS = [noise_like(ONE.expand(2, 4, 1, 4, 4), RANDOM).unbind() for _ in range(3)]
AT_LEVELS = [(*pair, ab) for pair in PAIRS for ab in LEVELS]
TIMES = [0, 1, 2, 25, 100, 101, 250, 475, 499, 500]
JUMPS = [(t, s) for s, t in pairwise(Schedule.linear().alpha_bar[TIMES].tolist())]
SIZES = [(1, 4), (16, 32), (9, 2)]
