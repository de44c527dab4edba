"""The sprite artist: draws labelled 16x16 sprites from a seed, without a download.

A sprite is composed like a paper doll: an archetype ("knight", "cheese") names a stack
of slots, a slot names interchangeable parts, and chance picks one part for every slot.
The parts are ASCII art in sprites.txt, whose head tells how to read it. What its sheets
leave out is added to all alike: colours, a one-pixel outline, shaded right-hand edges,
the flip, and the position. Everything is integer arithmetic on the raw stream of PCG64,
which NumPy keeps stable, so a seed gives the same bytes everywhere.
"""

import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .support.checked import checked, refuse, whole

SPRITE_CLASSES = ("hero", "non-hero", "food", "spell", "side-facing")
SIZE = 16
LEGEND = ".#w123456789abcdef~"  # a character's place is its role in the canvas
EMPTY, DARK, SHINE, FIRST, RUB_OUT = 0, 1, 2, 3, 18
a_seed = whole(0, 2**64 - 1)

# The sections of sprites.txt.
_, RAMPS, POOLS, SLOTS, *SHEETS, RECIPES = (
    Path(__file__).with_suffix(".txt").read_text("ascii").split("== ")
)
RAMPS = {
    name: [tuple(bytes.fromhex(tone)) for tone in tones.split()]
    for name, tones in re.findall(r"(\w+) +(\w+ \w+ \w+)", RAMPS)
}
HUES = " ".join([*RAMPS][:14])
POOLS = re.findall(r"(\w+): (.+)", POOLS)
POOLS = {name: ramps.replace("HUES", HUES).split() for name, ramps in POOLS}
SLOTS = dict(re.findall(r"(\w+): (.+)", SLOTS))


class Archetype(NamedTuple):
    """One recipe, ready to compose: `slots` are stacks of parts (2, n, 16, 16)."""

    label: str  # of its class
    name: str
    slots: list[np.ndarray]
    pools: list[np.ndarray]  # five arrays of ramp numbers
    rows: np.ndarray  # (choices, 16): rows to show, all of them or all but one
    cols: np.ndarray


def placed(art, x, y):
    """A part (h, w) of roles at x, y of an empty canvas; what sticks out is cut off."""
    canvas = np.zeros((3 * SIZE, 3 * SIZE), np.uint8)
    canvas[SIZE + 1 + y :, SIZE + 1 + x :][: art.shape[0], : art.shape[1]] = art
    return np.pad(canvas[SIZE + 1 : 2 * SIZE - 1, SIZE + 1 : 2 * SIZE - 1], 1)


@cache
def all_parts():
    """Every part by name: (side, top, roles (h, w)). It lies below its name."""
    parts = {"-": ("small", 0, np.zeros((1, 1), np.uint8))}
    for sheet in SHEETS:
        place, _, art = sheet.partition("\n")
        side, top = place.split()
        for band in art.strip("\n").split("\n\n"):
            names, *lines = band.split("\n")
            names = [(name.start(), name[0]) for name in re.finditer(r"\S+", names)]
            ends = [at - 1 for at, _ in names[1:]] + [len(lines[0])]
            for (at, name), end in zip(names, ends, strict=True):
                roles = [[*map(LEGEND.index, line[at:end])] for line in lines]
                parts[name] = side, int(top), np.array(roles, np.uint8)
    return parts


def options(slot, flip):
    """The parts (options, 16, 16) of one slot, such as `-|sword^2|spark>3,1`."""
    stack = []
    for option in SLOTS.get(slot, slot).split("|"):
        name, _, at = option.partition(">")
        name, _, lift = name.partition("^")
        side, top, art = all_parts()[name]
        x, y = map(int, at.split(",")) if at else (0, 0)
        if side == "half":  # light from the left, also when the whole gets flipped
            x += 7 - art.shape[1]
            art = np.hstack([art, np.where(art == FIRST, FIRST + 1, art)[:, ::-1]])
            art = art[:, ::-1] if flip else art
        elif side == "right":
            art, x = art[:, ::-1], 14 - art.shape[1]
        lift = int(lift or side in ("left", "right"))
        stack += [placed(art, x, y + top - up) for up in range(lift + 1)]
    return np.array(stack)


def drops(letters, cuts):
    """Index arrays (choices, 16) that show all lines, or all but the named ones."""
    choices = [np.arange(SIZE)]
    for cut in cuts:
        if cut[0] not in letters:
            continue
        lines, k = np.arange(SIZE), int(cut[1:]) + 1
        lines[: k + 1] = np.r_[0, :k]
        if cut[0] == "m":  # the mirrored column goes too
            lines[SIZE - 1 - k :] = np.r_[SIZE - k : SIZE, SIZE - 1]
        choices.append(lines)
    return np.array(choices)


def archetypes():
    """Every Archetype, class by class."""
    order = {name: i for i, name in enumerate(RAMPS)}
    found = []
    for line in RECIPES.split("\n")[1:-1]:
        name, colon, recipe = line.partition(":")
        if not colon:
            label = name
            continue
        fields = [field.split() for field in recipe.split("/")]
        slots, pools, cuts = fields + [[], ["r10", "r12"]][len(fields) - 1 :]
        pools += ["cloth", "cloth", "gold", "skin", "hair"][len(pools) :]
        slots = [np.stack([options(slot, f) for f in (0, 1)]) for slot in slots]
        pools = [np.array([order[r] for r in POOLS.get(p, (p,))]) for p in pools]
        rows, cols = drops("r", cuts), drops("cm", cuts)
        found.append(Archetype(label, name, slots, pools, rows, cols))
    return found


def pick(die, sides):
    """A fair choice in 0..sides-1 from 16 random bits."""
    return (die * sides) >> 16


def compose(kind, dice):
    """Roles (m, 16, 16) without outline, and ramp numbers (m, 5), of one archetype."""
    flip, dy, dx, row, col = dice.T[2:7]
    flip = pick(flip, 2)
    canvas = np.zeros((len(dice), SIZE, SIZE), np.uint8)
    for slot, die in zip(kind.slots, dice.T[12:], strict=False):
        part = slot[flip, pick(die, slot.shape[1])]
        canvas = np.where(part, part, canvas)
    canvas[canvas == RUB_OUT] = EMPTY
    rows = kind.rows[pick(row, len(kind.rows))]
    cols = kind.cols[pick(col, len(kind.cols))]
    cols = np.where(flip[:, None], cols[:, ::-1], cols)
    rows = centre(canvas.any(2), rows, pick(dy, 3) - 1)
    cols = centre(canvas.any(1), cols, pick(dx, 3) - 1)
    every = np.arange(len(dice))[:, None, None]
    canvas = canvas[every, rows[:, :, None], cols[:, None, :]]

    ramps = np.zeros((len(kind.pools), len(dice)), np.int64)
    for k, pool in enumerate(kind.pools):
        choice = pick(dice[:, 7 + k], len(pool))
        ramps[k] = pool[choice]
        for step in (3, 5, 7):  # go on in the pool while a neighbour is taken already
            taken = (abs(ramps[:k] - ramps[k]) <= 2).any(0)
            ramps[k] = np.where(taken, pool[(choice + step) % len(pool)], ramps[k])
    return canvas, ramps.T


def centre(filled, lines, jitter):
    """Shift the index arrays `lines` (m, 16) so that what is filled lies central."""
    seen = np.take_along_axis(filled, lines, 1)
    low, high = seen.argmax(1), SIZE - 1 - seen[:, ::-1].argmax(1)
    shift = np.clip((SIZE - 1 - low - high) // 2 + jitter, 1 - low, SIZE - 2 - high)
    at = np.clip(np.arange(SIZE) - shift[:, None], 0, SIZE - 1)
    return np.take_along_axis(lines, at, 1)


def outline(canvas):
    """Add the dark outline and shade the right-hand edges, in place."""
    filled = canvas > EMPTY  # nowhere at the border
    solid = np.pad(canvas > DARK, ((0, 0), (1, 1), (1, 1)))  # dark stays a thin line
    near = solid[:, :-2, 1:-1] | solid[:, 2:, 1:-1]
    near |= solid[:, 1:-1, :-2] | solid[:, 1:-1, 2:]
    inner = canvas[:, :, 1:-1]
    edge = filled[:, :, :-2] & (inner >= FIRST) & ~filled[:, :, 2:]
    inner += edge & ((inner - FIRST) % 3 < 2)
    canvas[near & ~filled] = DARK


def colour(canvas, ramps):
    """Roles (n, 16, 16) and ramp numbers (n, 5) to RGB (n, 16, 16, 3)."""
    table = np.array(list(RAMPS.values()), np.uint8)
    palette = np.empty((len(canvas), RUB_OUT, 3), np.uint8)
    palette[:, EMPTY] = 255
    palette[:, DARK] = table[ramps[:, 0], 2] // 16 * 5
    palette[:, SHINE] = 244, 244, 240
    palette[:, FIRST:] = table[ramps].reshape(len(canvas), 15, 3)
    return palette[np.arange(len(canvas))[:, None, None], canvas]


def draw(kinds, which, dice):
    """Draw sprite i as `kinds[which[i]]` with the throws `dice[i]` (24 of 16 bits)."""
    canvas = np.empty((len(dice), SIZE, SIZE), np.uint8)
    ramps = np.empty((len(dice), 5), np.int64)
    order = np.argsort(which, kind="stable")
    for group in np.split(order, np.flatnonzero(np.diff(which[order])) + 1):
        canvas[group], ramps[group] = compose(kinds[which[group[0]]], dice[group])
    outline(canvas)
    return colour(canvas, ramps)


def throw(n, seed):
    """Numbers of 16 bits (n, 24), int64; row i is the same for any n."""
    raw = np.random.PCG64(seed).random_raw(6 * n).astype("<u8")
    return raw.view("<u2").reshape(n, 24).astype(np.int64)


@checked(n=whole(1), seed=a_seed)
def draw_sprites(n, seed):
    """Draw n sprites of the five classes, equally likely.

    Returns images (n, 16, 16, 3) uint8 RGB on white, and one-hot labels (n, 5) float32
    in the order of SPRITE_CLASSES. Sprite i depends on seed and i alone. Raises
    ValueError unless n is whole and at least 1, and seed whole and in 0..2**64-1.
    """
    dice = throw(n, seed)
    classes = pick(dice[:, 0], len(SPRITE_CLASSES))
    sizes = np.array([len(names) for names in ARCHETYPES.values()])
    which = np.r_[0, sizes.cumsum()][classes] + pick(dice[:, 1], sizes[classes])
    images = np.empty((n, SIZE, SIZE, 3), np.uint8)
    for start in range(0, n, 8192):
        part = slice(start, start + 8192)
        images[part] = draw(KINDS, which[part], dice[part])
    return images, np.eye(len(SPRITE_CLASSES), dtype=np.float32)[classes]


@checked(n=whole(1), seed=a_seed)
def draw_archetype(name, n, seed):
    """Draw n sprites of one archetype: "apple", or "hero/mage" where two share a name.

    Returns (n, 16, 16, 3) uint8. Raises ValueError for an unknown name, n or seed.
    """
    dice = throw(n, seed)
    kinds = [kind for kind in KINDS if name in (kind.name, f"{kind.label}/{kind.name}")]
    if not kinds:
        refuse("name", f"one of ARCHETYPES, {ARCHETYPES},", name)
    return draw(kinds[:1], np.zeros(n, np.int64), dice)


KINDS = archetypes()
ARCHETYPES = {
    label: tuple(kind.name for kind in KINDS if kind.label == label)
    for label in SPRITE_CLASSES
}
