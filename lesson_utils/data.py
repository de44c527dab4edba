"""Training pictures: the data sets that are built in, and one's own, by one name."""

import os
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Annotated

import torch

from .own import (
    Pictures,
    colour_rule,
    image_folder,
    images_of,
    listed,
    mapped,
    names_rule,
    npy_pair,
    side_rule,
    to_unit,
)
from .sprites import SPRITE_CLASSES, draw_sprites
from .support.checked import (
    annotated_rules,
    checked,
    choice,
    fit,
    flag,
    optional,
    refuse,
)
from .support.files import BUILT_IN, ROOT, fingerprint, located

DATA = ROOT / "data"
FEW = 1000  # images; fewer are memorised


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


SOURCES = {"sprites": sprites, "mnist": mnist}
UNSEEN = {"sprites": partial(sprites, 10_000, 10**9), "mnist": partial(mnist, "test")}


@checked()
@dataclass(frozen=True)
class Reading:
    """How one's own images are read. Each line is a type, a rule, a help and a default:
    those of `dataset`, of the flags of the command line, of what a checkpoint keeps.
    """

    size: Annotated[
        int | None, optional(side_rule), "of a folder's images; default 16"
    ] = None
    background: Annotated[
        str | None,
        optional(colour_rule),
        "behind what is transparent and beside what is not square; default white",
    ] = None
    grey: Annotated[bool | None, optional(flag), "one channel in place of three"] = None
    class_names: Annotated[
        tuple[str, ...] | None,
        optional(names_rule),
        "of the labels of arrays, such as cat,dog",
    ] = None
    skip_unreadable: Annotated[bool, flag, "leave out files that are no images"] = False


a_checkpoint = fit(
    lambda value: hasattr(value, "image_shape") and hasattr(value, "context"),
    "a Checkpoint, as load gives,",
)


@checked(like=optional(a_checkpoint), unseen=flag, **annotated_rules(Reading))
def dataset(
    name_or_path: str | Path,
    size: int | None = None,
    like=None,
    unseen: bool = False,
    background: str | None = None,
    grey: bool | None = None,
    class_names: tuple[str, ...] | None = None,
    skip_unreadable: bool = False,
) -> Pictures:
    """The data set of this name or in this folder, as training uses it.

    name_or_path: "sprites", "mnist", or a folder: npy_pair's if one or two .npy files
    are in it, else image_folder's; these say what the other arguments mean. None: size
    16, a white background, the channels and the class names that there are. like: a
    Checkpoint, which says what is not given, so that its own data are read as it was
    trained on them; channels, size and classes must be the data's. unseen: images of
    the same kind that training did not use, where there are such: sprites of another
    seed, test digits. ValueError for all else.
    """
    folder, name = located(name_or_path, "name_or_path"), os.fspath(name_or_path)
    given = Reading(size, background, grey, class_names, skip_unreadable)
    if name in BUILT_IN:
        refuse_given(given, [field.name for field in fields(Reading)], name)
        found = (UNSEEN if unseen else SOURCES)[name]()
    else:
        found = own_data(folder, given, like)
    if like is not None:
        fitting(found, like)
    return found


def own_data(folder: Path, given: Reading, like) -> Pictures:
    """What is in a folder, read as is given or, by default, as training read it."""
    entries, reading = (
        listed(folder),
        given if like is None else as_trained(given, like),
    )
    arrays = [entry for entry in entries if entry.suffix.lower() == ".npy"]
    images = images_of(entries) or [entry for entry in entries if entry.is_dir()]
    if len(arrays) == 2 or (len(arrays) == 1 and not images):
        refuse_given(given, ("size", "background", "skip_unreadable"), folder)
        arrays.sort(key=lambda path: (mapped(path).ndim, mapped(path).size))
        names = names_for(arrays[0], given, like)
        return npy_pair(*arrays[::-1], class_names=names, grey=reading.grey)
    if images and not arrays:
        refuse_given(given, ("class_names",), folder)
        how = {"background": reading.background or "white", "grey": bool(reading.grey)}
        skip = reading.skip_unreadable
        return image_folder(folder, reading.size or 16, **how, skip_unreadable=skip)
    if images and arrays:
        both = f"{arrays[0].name} and {images[0].name}"
        raise ValueError(
            f"{folder}: arrays and images, or folders, lie in it: {both}; move one "
            "kind to a folder of its own"
        )
    near = get_close_matches(folder.name.lower(), BUILT_IN, 1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    wanted = "a folder of images or of class folders, or one with two .npy files"
    raise ValueError(
        f"name_or_path: {', '.join(BUILT_IN)}, {wanted}, got {folder}{hint}"
    )


def refuse_given(given: Reading, names: Sequence[str], where: str | Path) -> None:
    """ValueError for what is given of a reading, but has no meaning here."""
    for name in names:
        value = getattr(given, name)
        if value is not None and value is not False:
            refuse(name, f"none for {where}, which has its own,", value)


def as_trained(given: Reading, checkpoint) -> Reading:
    """A reading, where what is not given is as the data of a checkpoint were read."""
    kept = checkpoint.meta.get("reading")
    kept = kept if isinstance(kept, dict) else {}
    channels, _, side = checkpoint.image_shape
    return replace(
        given,
        size=side if given.size is None else given.size,
        background=given.background or kept.get("background"),
        grey=channels == 1 if given.grey is None else given.grey,
        skip_unreadable=given.skip_unreadable or kept.get("skip_unreadable", False),
    )


def names_for(labels: Path, given: Reading, like) -> tuple[str, ...] | None:
    """The class names of an array: given, or a checkpoint's if they are as many."""
    if given.class_names is not None or like is None:
        return given.class_names
    array, names = mapped(labels), tuple(like.context)
    same = array.ndim == 1 or array.shape[-1] == len(names)
    return names if names and same else None


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
