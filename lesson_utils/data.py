"""Training pictures: each source gives the same three things."""

import os
import re
import sys
from contextlib import redirect_stderr
from dataclasses import dataclass
from functools import partial
from glob import glob
from itertools import chain
from pathlib import Path
from typing import Annotated, NamedTuple
from warnings import catch_warnings

import numpy as np
import torch
from PIL import Image, ImageColor, ImageOps
from torch import Tensor

from .sprites import SPRITE_CLASSES, draw_sprites
from .support.checked import (
    checked,
    choice,
    each,
    fit,
    flag,
    instance,
    optional,
    refuse,
    whole,
)
from .support.files import BUILT_IN, ROOT, fingerprint, located

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "AVIF")  # AVIF: Pillow 11.3
LITTER = ("thumbs.db", "desktop.ini", "__macosx", "@eadir")  # left by other programs
LARGEST_SIDE = 8192  # pixels of a picture file: 64 megapixels, if it is a square
LARGEST_DATA = 2**30  # numbers of a data set: 4 GiB as float32
DATA = ROOT / "data"


class Pictures(NamedTuple):
    """A data set held as one tensor, which needs no loader and no worker processes.

    x: (N,C,H,W) float32 in [-1, 1]; c: (N,K) float32, the context of each picture;
    names: the K class names, in the order of the columns of c.
    """

    x: Tensor
    c: Tensor
    names: tuple[str, ...]


def sprites(n: int = 50_000, seed: int = 0) -> Pictures:
    """n drawn sprites with their classes: x (n,3,16,16), c (n,5).

    Same seed, same sprites, on every machine; nothing is downloaded.
    Raises ValueError for an n below 1 or a negative seed.
    """
    images, labels = draw_sprites(n, seed)
    return Pictures(to_unit(images), torch.from_numpy(labels), SPRITE_CLASSES)


@checked(split=choice("train", "test"))
def mnist(split: str = "train") -> Pictures:
    """Handwritten digits: x (60000,1,28,28), c (60000,10), names "0" … "9".

    split: "train", or "test" with 10,000 others. Looked for in the folder that the
    variable LESSONS_DATA names, else in data/ of the project, and downloaded there on
    first use. ValueError, with what to do, if they can neither be found nor loaded.
    """
    from torchvision.datasets import MNIST  # slow to import

    root = located(os.environ.get("LESSONS_DATA") or DATA, "LESSONS_DATA")
    try:
        with redirect_stderr(sys.stdout):  # the bar of a download
            digits = MNIST(root, train=split == "train", download=True)
        x, number = digits.data.numpy(), digits.targets
        fits = x.shape[1:] == (28, 28) and number.shape == (len(x),)
        if not fits or number.min() < 0 or number.max() > 9:
            raise ValueError(f"pictures {x.shape}, labels {tuple(number.shape)}")
    except Exception as problem:  # of the network, the disk or a damaged file
        raise ValueError(
            f"{root}: no MNIST here, and none can be loaded ({problem}); connect once, "
            f"or put its four files into {root / 'MNIST/raw'}, or set LESSONS_DATA to "
            "the folder that has MNIST/raw. What only samples needs no data."
        ) from None
    return Pictures(to_unit(x[..., None]), torch.eye(10)[number], tuple("0123456789"))


def side_rule(name: str, value: object, call=None) -> int:
    """The rule for the side of square images: a multiple of 4 in 4..1024."""
    side = whole(4, 1024)(name, value)
    if side % 4:
        refuse(name, "a multiple of 4 in 4..1024", value)
    return side


def colour_rule(name: str, value: object, call=None) -> str:
    """The rule for a colour: its English name, or #rrggbb."""
    known = isinstance(value, str) and re.fullmatch("#[0-9a-fA-F]{6}|[a-zA-Z]+", value)
    if not known or (value[0] != "#" and value.lower() not in ImageColor.colormap):
        refuse(name, "a colour such as 'white', 'black' or '#20a0ff'", value)
    return value.lower()


names_rule = each(instance(str, "a text"))


@checked()
@dataclass(frozen=True)
class Reading:
    """How one's own images are read. Each line is a type, a rule, a help and a default:
    those of `dataset` and of the flags of the command line. None: as `dataset` says.
    """

    size: Annotated[
        int | None, optional(side_rule), "of a folder's images; default 16"
    ] = None
    background: Annotated[
        str | None,
        optional(colour_rule),
        "behind transparent images and beside those that are not square; default white",
    ] = None
    grey: Annotated[bool | None, optional(flag), "one channel in place of three"] = None
    class_names: Annotated[
        tuple | None, optional(names_rule), "of the labels of arrays, such as cat,dog"
    ] = None
    skip_unreadable: Annotated[bool, flag, "leave out files that are no images"] = False


@checked(size=side_rule)
def image_folder(path: str | Path, size: int = 16) -> Pictures:
    """A folder of class folders: x (N,3,size,size), c (N,K) one-hot, names sorted.

    size: a multiple of 4 in 4..1024. Takes FORMATS, of a film the first frame; follows
    links; skips hidden files, LITTER and texts beside the class folders. ValueError,
    naming the file, for all else, pictures too large (LARGEST_SIDE) or too many.
    """
    root, kinds = located(path), Image.registered_extensions()
    folders = [entry for entry in listed(root) if entry.is_dir()]
    for entry in listed(root):
        if entry not in folders and kinds.get(entry.suffix.lower()) in FORMATS:
            raise ValueError(f"{entry}: outside the class folders; move it into one")
    files = {folder.name: listed(folder) for folder in folders}
    found, K = {name: len(each) for name, each in files.items()}, len(files)
    if K < 2 or 0 in found.values():
        raise ValueError(f"{root}: two or more folders of pictures needed, got {found}")
    classes = [k for k, n in enumerate(found.values()) for _ in range(n)]
    if len(classes) * max(3 * size**2, K) > LARGEST_DATA:
        raise ValueError(f"{root}: {len(classes):,} files: too many for size {size}")
    images = np.stack([read_picture(p, size) for p in chain(*files.values())])
    return Pictures(to_unit(images), torch.eye(K)[classes], tuple(files))


def read_picture(path: Path, size: int) -> np.ndarray:
    """A picture as uint8 (size,size,3), on a white square: averages shrink it."""
    try:
        if not path.is_file():
            raise ValueError("a folder inside a class folder, or a broken link")
        with catch_warnings(action="ignore"), Image.open(path, "r", FORMATS) as image:
            if max(image.size) > LARGEST_SIDE or image.mode[0] in "IF":
                raise ValueError(f"{image.size} pixels of mode {image.mode}")
            image = ImageOps.exif_transpose(image).convert("RGBA")
    except Exception as problem:  # a decoder may raise anything
        hint = f"save it as 8-bit PNG, sides up to {LARGEST_SIDE:,}, or move it away"
        raise ValueError(f"{path}: no picture ({problem}); {hint}") from None
    side = max(image.size)
    block = max(side // size, 1)  # of enlarged pixel art: none is cut in two
    place = tuple((side - n) // 2 // block * block for n in image.size)
    square = Image.new("RGB", (side, side), "white")
    square.paste(image, place, image)
    how = Image.Resampling.BOX if side > size else Image.Resampling.NEAREST
    return np.asarray(square.resize((size, size), how))


def npy_pair(images: str | Path, labels: str | Path) -> Pictures:
    """Two .npy files: x (N,3,H,W), c (N,K), names "class 0", "class 1", …

    images: uint8 (N,H,W,3), H and W multiples of 4 in 4..1024; labels: finite numbers
    (N,K). ValueError, naming the file, for all else, before it takes memory for it.
    """
    x, c = mapped(images), mapped(labels)
    sides = x.shape[1:3] if x.ndim == 4 and x.shape[3] == 3 and len(x) else [0]
    if x.dtype != np.uint8 or any(n % 4 or not 4 <= n <= 1024 for n in sides):
        wanted = "uint8 (N,H,W,3) is needed, H and W multiples of 4 in 4..1024"
        raise ValueError(f"{images}: {wanted}, got {x.dtype} {x.shape}; convert or pad")
    if c.dtype.kind not in "biuf" or c.ndim != 2 or len(c) != len(x) or c.shape[1] < 2:
        wanted = f"numbers ({len(x)},K), K >= 2, are needed, got {c.dtype} {c.shape}"
        raise ValueError(f"{labels}: {wanted}; of classes, np.eye(K)[numbers] are such")
    c = torch.from_numpy(c.astype(np.float64)).float()
    if not c.isfinite().all() or (c == c[0]).all():
        what = "NaN or infinite numbers, or the same in all rows"
        raise ValueError(f"{labels}: {what}; two classes or more are needed")
    names = tuple(f"class {k}" for k in range(c.shape[1]))
    return Pictures(to_unit(np.array(x)), c, names)


def mapped(path: str | Path) -> np.ndarray:
    """A .npy file as an array that takes no memory yet; ValueError if it is none."""
    try:
        with catch_warnings(action="ignore"):  # of headers that lie
            array = np.lib.format.open_memmap(located(path), mode="r")
        if array.size > LARGEST_DATA:
            raise ValueError(f"{array.size:,} numbers, over {LARGEST_DATA:,}")
    except Exception as problem:  # a header may be anything
        what = "no whole .npy file of numbers, as np.save writes it"
        raise ValueError(f"{path}: {what} ({problem})") from None
    return array


def listed(folder: Path) -> list[Path]:
    """What can be seen in a folder, by name, without hidden files and LITTER."""
    names = sorted(glob("*", root_dir=folder))
    return [folder / name for name in names if name.lower() not in LITTER]


def to_unit(images) -> Tensor:
    """uint8 pictures (N,H,W,C) in 0..255 -> float32 (N,C,H,W) in [-1, 1]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


SOURCES = {"sprites": sprites, "mnist": mnist}
UNSEEN = {"sprites": partial(sprites, 10_000, 10**9), "mnist": partial(mnist, "test")}


a_checkpoint = fit(
    lambda value: hasattr(value, "image_shape") and hasattr(value, "context"),
    "a Checkpoint, as load gives,",
)


@checked(like=optional(a_checkpoint), unseen=flag)
def dataset(
    name_or_path: str | Path,
    size: int | None = None,
    like=None,
    unseen: bool = False,
    background: str | None = None,
    grey: bool | None = None,
    class_names: tuple | None = None,
    skip_unreadable: bool = False,
) -> Pictures:
    """The data set of this name or in this folder, as training uses it.

    name_or_path: "sprites", "mnist", or a folder: npy_pair's if two .npy files are in
    it, else image_folder's, where size counts, 16 if None. like: a Checkpoint, whose
    size is taken, and whose channels and classes must be the data's. unseen: images of
    the same kind that training did not use, where there are such: sprites of another
    seed, test digits. ValueError for all else.
    """
    folder = located(name_or_path, "name_or_path")
    name, inside = os.fspath(name_or_path), listed(folder)
    arrays = [entry for entry in inside if entry.suffix.lower() == ".npy"]
    own = name in BUILT_IN or bool(arrays)
    if size is not None and own:
        refuse("size", f"none for {name}, which has its own,", size)
    if like is not None and size is None and not own:
        size = like.image_shape[-1]
    if name in BUILT_IN:
        found = (UNSEEN if unseen else SOURCES)[name]()
    elif len(arrays) == 2:
        found = npy_pair(*sorted(arrays, key=lambda path: -mapped(path).ndim))
    elif not arrays and any(entry.is_dir() for entry in inside):
        found = image_folder(folder, 16 if size is None else size)
    else:
        wanted = "a folder of class folders with pictures, or one with two .npy files"
        raise ValueError(f"name_or_path: {', '.join(BUILT_IN)}, {wanted}, got {folder}")
    if like is not None:
        fitting(found, like)
    return found


def fitting(data: Pictures, checkpoint) -> None:
    """ValueError unless the data's images and classes are those of the checkpoint."""
    shape = tuple(data.x.shape[1:])
    if shape != tuple(checkpoint.image_shape):
        refuse("like", f"a checkpoint of images {shape}", checkpoint.image_shape)
    if data.names != tuple(checkpoint.context):
        refuse("like", f"a checkpoint of the classes {data.names}", checkpoint.context)


def same_data(data: Pictures, checkpoint) -> bool | None:
    """Whether a checkpoint was trained on just this data; None if it does not say."""
    known = checkpoint.meta.get("fingerprint")
    return None if known is None else known == fingerprint(data.x, data.c)
