"""One's own images, from a folder or from arrays, as sprites and digits come."""

from glob import glob
from itertools import chain
from pathlib import Path
from typing import NamedTuple
from warnings import catch_warnings

import numpy as np
import torch
from PIL import Image, ImageColor
from torch import Tensor

from .imagefile import FORMATS, LARGEST_SIDE, read_picture, transparent
from .support.bar import progress
from .support.checked import checked, flag, optional, refuse, whole
from .support.files import located
from .support.names import class_names as prompt_names
from .support.words import say

LITTER = ("thumbs.db", "desktop.ini", "__macosx", "@eadir")  # left by other programs
LARGEST_DATA = 2**30  # numbers of a data set: 4 GiB as float32
LISTED = 20  # files that one complaint names
OR_SKIP = ", or leave out (skip_unreadable=True, --skip-unreadable)"
LUMA = (0.299, 0.587, 0.114)  # of red, green and blue (ITU-R 601), as Pillow's "L"


class Pictures(NamedTuple):
    """A data set held as one tensor, which needs no loader and no worker processes.

    x: (N,C,H,W) float32 in [-1, 1]; c: (N,K) float32, the context of each picture;
    names: the K class names, in the order of the columns of c. K may be 0.
    """

    x: Tensor
    c: Tensor
    names: tuple[str, ...]


# Rules for arguments


def side_rule(name: str, value: object, call=None) -> int:
    """The rule for the side of square images: a multiple of 4 in 4..1024."""
    side = whole(4, 1024)(name, value)
    if side % 4:
        refuse(name, "a multiple of 4 in 4..1024", value)
    return side


def colour_rule(name: str, value: object, call=None) -> str:
    """The rule for a colour: its English name, or #rrggbb."""
    try:
        known = isinstance(value, str) and len(ImageColor.getrgb(value)) == 3
    except ValueError:
        known = False
    if not known:
        refuse(name, "a colour such as 'white', 'black' or '#20a0ff'", value)
    return value.lower()


def names_rule(name: str, value: object, call=None) -> tuple[str, ...]:
    """The rule for class names: texts that prompts tell apart, as a tuple."""
    return tuple(prompt_names(name, value))


# Folders


@checked(size=side_rule, background=colour_rule, grey=flag, skip_unreadable=flag)
def image_folder(
    path: str | Path,
    size: int = 16,
    background: str = "white",
    grey: bool = False,
    skip_unreadable: bool = False,
) -> Pictures:
    """A folder of class folders: x (N,3,size,size), c (N,K) one-hot, names sorted.

    A folder of images alone has no classes: c (N,0). size: a multiple of 4 in 4..1024;
    `read_picture` says how an image gets it. background: the name of a colour or
    #rrggbb, behind what is transparent and beside what is not square. grey: x
    (N,1,size,size). skip_unreadable: leave out files that are no images, and say so.
    Follows links; skips hidden files, LITTER and texts beside the class folders.
    ValueError, naming the files, for all else: images too large (LARGEST_SIDE), too
    many or all alike, and classes that no prompt can tell apart.
    """
    root = located(path)
    files = class_files(root)
    names = names_rule(str(root), [name for name in files if name])
    paths, C, K = [*chain(*files.values())], 1 if grey else 3, len(names)
    if len(paths) * max(C * size**2, K) > LARGEST_DATA:
        raise ValueError(f"{root}: {len(paths):,} files: too many for size {size}")
    pixels, problems = np.empty((len(paths), size, size, C), np.uint8), {}
    for i, file in enumerate(progress(paths, None, root.name, " images", delay=2)):
        try:
            pixels[i] = read_picture(file, size, background, grey)
        except ValueError as problem:
            problems[i] = problem
    found = [i for i in range(len(paths)) if i not in problems]
    numbers = np.repeat(range(len(files)), [len(each) for each in files.values()])
    if problems:
        lost = [name for k, name in enumerate(files) if k not in numbers[found]]
        leave_out(root, [*problems.values()], skip_unreadable, lost)
    x, readable = to_unit(pixels[found]), [paths[i] for i in found]
    if blank := blank_ones(x, str(root), lambda: ground(readable, background)):
        first = readable[blank[0]]
        say(f"{root}: blank images: {len(blank):,} of {len(x):,}, such as {first}")
    c = torch.eye(K)[numbers[found]] if K else torch.zeros(len(x), 0)
    return Pictures(x, c, names)


def class_files(root: Path) -> dict[str, list[Path]]:
    """{class: its files}, of a folder without classes {"": its files}."""
    entries = listed(root)
    folders, images = [entry for entry in entries if entry.is_dir()], images_of(entries)
    if images and not folders:
        return {"": entries}
    if images:
        raise ValueError(f"{images[0]}: outside the class folders; move it into one")
    files = {folder.name: listed(folder) for folder in folders}
    refuse_nesting(root, files)
    found = {name: len(each) for name, each in files.items()}
    if len(found) < 2 or 0 in found.values():
        fewest = dict(sorted(found.items(), key=lambda item: item[1])[:LISTED])
        alone = f"; without classes, give {folders[0]}" if len(found) == 1 else ""
        wanted = f"two or more folders of pictures needed, got {fewest}"
        raise ValueError(f"{root}: {wanted}{alone}")
    return files


def images_of(entries: list[Path]) -> list[Path]:
    """The files among them that are called like images."""
    kinds = Image.registered_extensions()
    named = [entry for entry in entries if kinds.get(entry.suffix.lower()) in FORMATS]
    return [entry for entry in named if not entry.is_dir()]


def refuse_nesting(root: Path, files: dict[str, list[Path]]) -> None:
    """ValueError if class folders hold folders; it says which folder to give."""
    inner = [entry for entry in chain(*files.values()) if entry.is_dir()]
    if not inner:
        return
    if any(images_of(each) for each in files.values()):
        raise ValueError(f"{inner[0]}: a folder inside a class folder; move it away")
    sets = sorted({entry.parent for entry in inner})
    best = min(sets, key=lambda folder: not folder.name.lower().startswith("train"))
    raise ValueError(f"{root}: its folders hold folders; give one of them: {best}")


def leave_out(root: Path, problems: list, skip: bool, lost: list[str]) -> None:
    """Say which files are no images; ValueError unless they may be skipped.

    lost: the classes of which nothing is left.
    """
    n, first = len(problems), problems[0]
    if skip and lost:
        raise ValueError(f"{root}: no image in {', '.join(lost) or 'it'}: {first}")
    if skip:
        say(f"{root}: unreadable and left out: {n:,}, such as {first}")
        return
    hint = f"save as 8-bit PNG with sides up to {LARGEST_SIDE:,}, or move away{OR_SKIP}"
    if n == 1:
        raise ValueError(f"{first}; {hint}")
    lines = [f"{root}: {n:,} files are no pictures; {hint}"]
    lines += [f"  {problem}" for problem in problems[:LISTED]]
    lines += [f"  … and {n - LISTED:,} more"] * (n > LISTED)
    raise ValueError("\n".join(lines))


def ground(files: list[Path], background: str) -> str:
    """What to do if nothing is seen of images: another ground for transparent ones."""
    if not any(map(transparent, files)):
        return ""
    other = "white" if sum(ImageColor.getrgb(background)) < 384 else "black"
    how = f"background={other!r} (--background {other})"
    return (
        f" on {background}; {background} drawings on transparent ground need another "
        f"background: {how}"
    )


def listed(folder: Path) -> list[Path]:
    """What can be seen in a folder, by name, without hidden files and LITTER."""
    names = sorted(glob("*", root_dir=folder))
    return [folder / name for name in names if name.lower() not in LITTER]


# Arrays


@checked(class_names=optional(names_rule), grey=optional(flag))
def npy_pair(
    images: str | Path,
    labels: str | Path | None = None,
    class_names: tuple[str, ...] | None = None,
    grey: bool | None = None,
) -> Pictures:
    """Two .npy files: x (N,C,H,W), c (N,K), names "class 0", "class 1", …

    images: (N,H,W,3), (N,H,W,1) or (N,H,W), H and W multiples of 4 in 4..1024; uint8 in
    0..255, or floats in [0, 1] or, if some are below -0.5, in [-1, 1]. labels: finite
    numbers (N,K), or class numbers (N,) from 0 on; None: no classes, c (N,0).
    class_names: K texts. grey: True for one channel, False for three, None for what
    there is. ValueError, naming the file, for all else, before it takes memory for it.
    """
    images = located(images, "images")
    x = array_images(mapped(images), images)
    if grey and x.shape[1] == 3:
        x = torch.einsum("nchw,c->nhw", x, torch.tensor(LUMA))[:, None]
    if grey is False and x.shape[1] == 1:
        x = x.repeat(1, 3, 1, 1)
    blank_ones(x, str(images))
    if labels is None:
        if class_names:
            refuse("class_names", "none for images without labels", class_names)
        return Pictures(x, torch.zeros(len(x), 0), ())
    labels = located(labels, "labels")
    c = array_labels(mapped(labels), labels, len(x), class_names)
    K = c.shape[1]
    if class_names and len(class_names) != K:
        refuse("class_names", f"{K} names for {labels}", class_names)
    return Pictures(x, c, class_names or tuple(f"class {k}" for k in range(K)))


def array_images(array: np.ndarray, path: Path) -> Tensor:
    """An array of images as float32 (N,C,H,W) in [-1, 1]."""
    shape, kind = array.shape, array.dtype
    if len(shape) == 3:
        array = array[..., None]
    fits = array.ndim == 4 and array.shape[3] in (1, 3) and len(array) > 0
    sides = (
        array.shape[1:3] if fits and (kind == np.uint8 or kind.kind in "bf") else [0]
    )
    if any(n % 4 or not 4 <= n <= 1024 for n in sides):
        wanted = "uint8 or floats (N,H,W,3), (N,H,W,1) or (N,H,W) are needed"
        wanted = f"{wanted}, H and W multiples of 4 in 4..1024, got {kind} {shape}"
        raise ValueError(f"{path}: {wanted}; convert, reshape or pad")
    low, high = float(array.min()), float(array.max())
    if kind == np.uint8 and high != 1:
        return to_unit(np.array(array))
    x = torch.from_numpy(np.array(array, np.float32)).permute(0, 3, 1, 2)
    if kind != np.uint8 and low >= 0 and high <= 1:
        return x.mul_(2).sub_(1)
    if -1 <= low < -0.5 and high <= 1:
        return x
    wanted = "uint8 in 0..255 or floats in [0, 1], or [-1, 1] with some below -0.5"
    got = f"{kind} from {low:.4g} to {high:.4g}"
    raise ValueError(f"{path}: {wanted}, are needed, got {got}; scale or clip them")


def array_labels(
    array: np.ndarray, path: Path, n: int, class_names: tuple[str, ...] | None
) -> Tensor:
    """An array of labels as float32 (N,K)."""
    fits = array.dtype.kind in "biuf" and len(array.shape) in (1, 2)
    if not fits or len(array) != n or (array.ndim == 2 and array.shape[1] < 2):
        wanted = f"class numbers ({n},) or numbers ({n},K), K >= 2, are needed"
        raise ValueError(f"{path}: {wanted}, got {array.dtype} {array.shape}")
    if array.ndim == 1:
        c = one_hot(np.array(array, np.float64), path, class_names)
    else:
        c = torch.from_numpy(array.astype(np.float64)).float()
    if not c.isfinite().all() or (c == c[0]).all():
        what = "NaN or infinite numbers, or the same in all rows"
        raise ValueError(f"{path}: {what}; two classes or more are needed")
    return c


def one_hot(
    numbers: np.ndarray, path: Path, class_names: tuple[str, ...] | None
) -> Tensor:
    """Class numbers (N,) as float32 (N,K); without names each of 0..K-1 must occur."""
    known = np.unique(numbers)
    K = len(class_names or known)
    if not np.isin(known, np.arange(K)).all():
        wanted = f"class numbers 0..{K - 1} are needed"
        hint = "number the classes from 0 without a gap, or give class_names"
        raise ValueError(f"{path}: {wanted}, got {known[:9].tolist()}; {hint}")
    if len(numbers) * K > LARGEST_DATA:
        raise ValueError(f"{path}: {K:,} classes: too many for memory")
    c = torch.zeros(len(numbers), K)
    c[range(len(numbers)), numbers.astype(np.int64)] = 1
    return c


def mapped(path: Path) -> np.ndarray:
    """A .npy file as an array that takes no memory yet; ValueError if it is none."""
    try:
        with catch_warnings(action="ignore"):  # of headers that lie
            array = np.lib.format.open_memmap(path, mode="r")
        if array.size > LARGEST_DATA:
            raise ValueError(f"{array.size:,} numbers, over {LARGEST_DATA:,}")
    except Exception as problem:  # a header may be anything
        what = "no whole .npy file of numbers, as np.save writes it"
        raise ValueError(f"{path}: {what} ({problem})") from None
    return array


# Both


def blank_ones(x: Tensor, where: str, advice=lambda: "") -> list[int]:
    """Which images have one colour alone; ValueError if all do, or all are the same.

    advice: what to do then, in words, or "".
    """
    blank = (x.amax((2, 3)) == x.amin((2, 3))).all(1)
    same = len(x) > 1 and torch.equal(x.amax(0), x.amin(0))
    if not blank.all() and not same:
        return blank.nonzero().flatten().tolist()
    who = f"all {len(x):,} images are" if len(x) > 1 else "the only image is"
    raise ValueError(
        f"{where}: {who} {'blank' if blank.all() else 'the same'}{advice()}"
    )


def to_unit(images) -> Tensor:
    """uint8 pictures (N,H,W,C) in 0..255 -> float32 (N,C,H,W) in [-1, 1]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
