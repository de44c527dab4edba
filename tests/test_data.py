"""Data sets: the sprites, and what people bring, whole and broken."""

import io
import json
import os
import re
import shutil
import struct
import sys
import zlib
from dataclasses import asdict

import numpy as np
import pytest
import torch
from art import LOSSLESS, art, encoded, put
from conftest import needs_digits
from PIL import Image
from small import small_checkpoint

from lesson_utils import dataset, image_folder, npy_pair
from lesson_utils.data import Reading, mnist, same_data
from lesson_utils.imagefile import LARGEST_IMAGE
from lesson_utils.support.bar import progress
from lesson_utils.support.files import fingerprint, located


def as_bytes(picture):
    """(C,H,W) in [-1, 1] -> uint8 (H,W,C), exact for what came from uint8."""
    return ((picture + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()


@pytest.fixture
def pets(tmp_path):
    """Two classes of two pictures each, and what systems and people leave around."""
    root = tmp_path / "my pets"
    for name in ("dogs", "cats"):
        for i in range(2):
            put(root / name / f"{i}.png", art(seed=i + len(name)))
        (root / name / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
        (root / name / "Thumbs.db").write_bytes(b"\xd0\xcf")
    (root / ".git").mkdir()
    (root / "__MACOSX").mkdir()
    (root / "README.txt").write_text("my pets", encoding="utf-8")
    return root


@pytest.fixture
def pair(tmp_path):
    """The sprite course's two files, in a folder of their own."""
    root = tmp_path / "course"
    root.mkdir()
    np.save(root / "sprites.npy", np.stack([art(seed=i) for i in range(6)]))
    np.save(root / "a_labels.npy", np.eye(3)[[0, 1, 2, 0, 1, 2]])
    return root


def test_the_sprites_are_one_tensor_with_context():
    pictures = dataset("sprites")
    assert pictures.x.shape == (50_000, 3, 16, 16) and pictures.x.dtype == torch.float32
    assert pictures.x.min() >= -1 and pictures.x.max() == 1
    assert pictures.c.shape == (50_000, 5) and (pictures.c.sum(1) == 1).all()
    assert pictures.names == ("hero", "non-hero", "food", "spell", "side-facing")


def test_a_folder_of_class_folders(pets, monkeypatch):
    pictures = image_folder(pets)
    assert pictures.names == ("cats", "dogs")
    assert pictures.c.tolist() == [[1, 0], [1, 0], [0, 1], [0, 1]]
    assert pictures.x.shape == (4, 3, 16, 16) and pictures.x.dtype == torch.float32
    assert pictures.c.dtype == torch.float32
    assert (as_bytes(pictures.x[3]) == art(seed=1 + len("dogs"))).all()
    monkeypatch.chdir(pets)
    for same in (".", "../my pets/", str(pets), pets):
        assert torch.equal(dataset(same).x, pictures.x)
    monkeypatch.setenv("HOME", str(pets.parent))
    monkeypatch.setenv("USERPROFILE", str(pets.parent))
    assert torch.equal(dataset("~/my pets").x, pictures.x)
    assert dataset(pets, 32).x.shape == image_folder(pets, 32).x.shape == (4, 3, 32, 32)


def transparent(kind) -> Image.Image:
    """Red, half of it transparent, over a colour that must not show."""
    if kind == "key":  # one colour, 3, stands for transparency
        return Image.fromarray(np.uint8([3, 76]).repeat(8 * 16).reshape(16, 16))
    pixels = np.full((16, 16, 4), (255, 0, 0, 255), np.uint8)
    pixels[:8] = (10, 200, 30, 0)
    image = Image.fromarray(pixels)
    return image.convert("LA") if kind == "LA" else image


@pytest.mark.parametrize("kind", ["png", "webp", "tiff", "gif", "P", "LA", "key"])
def test_what_is_transparent_becomes_white(pets, kind):
    image = transparent(kind)
    options = {"transparency": 3} if kind == "key" else LOSSLESS.get(kind, {})
    (pets / "cats" / "0.png").unlink()
    path = pets / "cats" / f"0.{kind if kind in LOSSLESS else 'png'}"
    (image.quantize(8) if kind == "P" else image).save(path, **options)
    [got, *_] = dataset(pets).x
    assert (got[:, :8] == 1.0).all()
    assert (got[1:, 8:] < 0).all()


def test_the_contents_count_and_not_the_suffix(pets):
    for i, name in enumerate(("0.jpg", "1.gif", "nothing")):
        put(pets / "cats" / name, art(seed=i))
    assert len(image_folder(pets).x) == 7


def test_links_are_followed(pets, tmp_path):
    other = put(tmp_path / "elsewhere" / "a.png", art())
    (pets / "cats" / "link.png").symlink_to(other)
    (pets / "fish").symlink_to(other.parent)
    pictures = image_folder(pets)
    assert pictures.names == ("cats", "dogs", "fish") and len(pictures.x) == 6
    assert torch.equal(pictures.x[2], pictures.x[5])


def cut(kind, share=0.6) -> bytes:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    data = encoded(noise, kind)
    return data[: int(len(data) * share)]


def png_of(width, height):
    """A PNG of a few bytes that claims so many pixels."""

    def chunk(kind, data):
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(99)))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


def hole(path, size):
    """A file of so many bytes that takes no room."""
    path.touch()
    os.truncate(path, size)


# A file of the class folder "cats": its bytes, or how it is made; what the error says.
HINT, LIMIT = "none of PNG, JPEG.*save as 8-bit PNG", "sides up to 8,192"
GREY = art()[..., 0]
BROKEN = {
    "0.png": (b"no picture", HINT),
    "0.gif": (b"", HINT),
    "a.svg": (b"no picture", HINT),
    "notes.txt": (b"no picture", "no picture"),
    "cut.jpg": (cut("jpeg"), "no picture.*truncated"),
    "header.png": (cut("png", share=0.002), "no picture"),
    "bomb.png": (png_of(60_000, 60_000), LIMIT),
    "half.png": (png_of(9999, 9999), LIMIT),
    "strip.png": (png_of(10**6, 1), LIMIT),
    "flat.png": (png_of(0, 5), "no picture"),
    "e.eps": (b"%!PS-Adobe-3.0 EPSF", "8-bit PNG"),
    "floats.tiff": (encoded(GREY / 9.0, "tiff"), "8-bit"),
    "kittens": (lambda path: put(path / "0.png", art()), "inside a class"),
    "hole.png": (lambda path: hole(path, LARGEST_IMAGE + 1), "536,870,913 bytes, over"),
    "gone.png": (lambda path: path.symlink_to("nowhere"), "no picture.*broken link"),
}
BROKEN |= {f"cut.{kind}": (cut(kind), "no picture") for kind in LOSSLESS}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_picture_is_named(pets, name):
    made, why = BROKEN[name]
    path = pets / "cats" / name
    made(path) if callable(made) else path.write_bytes(made)
    with pytest.raises(ValueError, match=why) as problem:
        dataset(pets)
    assert str(path) in str(problem.value)


def test_folders_that_are_no_classes_are_refused(pets, tmp_path):
    (pets / "fish").mkdir()
    with pytest.raises(ValueError, match="my pets: two or more .*got {'fish': 0"):
        dataset(pets)
    (pets / "fish" / ".hidden.png").touch()
    with pytest.raises(ValueError, match="'fish': 0"):
        dataset(pets)
    put(tmp_path / "one" / "cats" / "0.png", art())
    alone = f"'cats': 1.; without classes, give {tmp_path / 'one' / 'cats'}$"
    with pytest.raises(ValueError, match=f"one: two or more folders.*{alone}"):
        dataset(tmp_path / "one")
    loose = put(pets / "0.JPG", art())
    with pytest.raises(ValueError, match=f"{loose}: outside the class folders; move"):
        dataset(pets)
    for path in (tmp_path / "nowhere", loose):
        with pytest.raises(ValueError, match=f"{path.name}: two or more folders"):
            image_folder(path)


def test_too_much_for_memory_is_refused_before_a_picture_is_read(pets, monkeypatch):
    monkeypatch.setattr("lesson_utils.own.LARGEST_DATA", 4 * 3 * 16**2)
    assert len(dataset(pets).x) == 4
    (pets / "cats" / "2.png").touch()
    with pytest.raises(ValueError, match="my pets: 5 files: too many for size 16"):
        dataset(pets)


@pytest.mark.parametrize("size", [0, 2, 17, 1028, 16.5, "16", True, -4])
@pytest.mark.parametrize("read", [image_folder, dataset])
def test_a_bad_size(pets, read, size):
    with pytest.raises(ValueError, match="size: "):
        read(pets, size)


def test_all_that_is_no_picture_is_named_at_once_and_can_be_left_out(pets, capsys):
    for i in range(25):
        (pets / "cats" / f"b{i:02}.jpg").write_bytes(b"no picture")
    for i in (0, 1):
        (pets / "dogs" / f"{i}.png").write_bytes(png_of(9999, 9999))
    with pytest.raises(ValueError) as problem:
        dataset(pets)
    first, *lines, last = str(problem.value).splitlines()
    assert f"{pets}: 27 files are no pictures; save as" in first
    assert "--skip-unreadable" in first and last == "  … and 7 more"
    assert (
        len(lines) == 20 and f"  {pets / 'cats' / 'b19.jpg'}: no picture" in lines[-1]
    )
    with pytest.raises(ValueError, match=f"{pets}: no image in dogs: .*b00.jpg: no pi"):
        dataset(pets, skip_unreadable=True)
    put(pets / "dogs" / "0.png", art(seed=5))
    capsys.readouterr()
    data = dataset(pets, skip_unreadable=True)
    assert len(data.x) == 3 and data.c.tolist() == [[1, 0], [1, 0], [0, 1]]
    said = capsys.readouterr().out
    assert said.startswith(f"{pets}: unreadable and left out: 26, such as ")
    assert said.count("\n") == 1
    like = checkpoint(reading={"skip_unreadable": True})
    assert torch.equal(dataset(pets, like=like).x, data.x)


@pytest.mark.parametrize("page", ["cp1252", "ascii"])
def test_an_output_that_knows_few_letters_stops_nothing(pets, monkeypatch, page):
    """Used from a program of one's own, which keeps stdout as it is."""
    home = pets.rename(pets.with_name("猫"))
    (home / "cats" / "σ.png").write_bytes(b"no picture")
    put(home / "cats" / "π.png", np.zeros((16, 16, 3), np.uint8))
    out = io.TextIOWrapper(io.BytesIO(), encoding=page)
    monkeypatch.setattr(sys, "stdout", out)
    assert len(dataset(home, skip_unreadable=True).x) == 5
    assert list(progress([1], label="猫 σ̂")) == [1]
    out.flush()
    said = out.buffer.getvalue().decode(page)
    assert f"{home.parent / '?'}: blank images: 1 of 5, such as " in said
    assert f"left out: 1, such as {home.parent / '?' / 'cats' / '?.png'}" in said
    assert "? ??: 100%" in said


def test_a_folder_without_classes(pets):
    data, cats = dataset(pets), dataset(pets / "cats")
    assert cats.names == () and cats.c.shape == (2, 0)
    assert torch.equal(cats.x, data.x[:2])
    like = checkpoint(names=())
    assert torch.equal(dataset(pets / "cats", like=like).x, cats.x)
    with pytest.raises(ValueError, match="^like: a checkpoint of the classes .'cats'"):
        dataset(pets, like=like)
    (pets / "cats" / "notes.txt").touch()
    with pytest.raises(ValueError, match=r"notes\.txt: no picture"):
        dataset(pets / "cats")


def test_deeper_folders_are_named(pets, tmp_path):
    for part in ("test", "train", "a"):
        shutil.copytree(pets, tmp_path / "all" / part, symlinks=True)
    all_of_them = tmp_path / "all"
    why = f"{all_of_them}: its folders hold folders; give one of them: "
    with pytest.raises(ValueError, match=f"{why}{all_of_them / 'train'}$"):
        dataset(all_of_them)
    shutil.rmtree(all_of_them / "train")
    with pytest.raises(ValueError, match=f"{why}{all_of_them / 'a'}$"):
        dataset(all_of_them)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("Cats", "differs from 'Cats'"),
        ("c-ats", "differs from 'c ats'"),
        ("0.5", "not a weight"),
        ("cats + dogs", "begin"),
    ],
)
def test_classes_that_no_prompt_can_tell_apart_are_refused(pets, name, why):
    """Before an image is read, not after the training."""
    put(pets / name / "0.png", art())
    put(pets / "c ats" / "0.png", art())
    with pytest.raises(ValueError, match=f"^{pets}: a class name that .*{why}"):
        dataset(pets)


# Light drawings on transparent ground


def test_drawings_in_the_colour_of_the_ground(pets, capsys):
    """Refused, if all images are blank; of some a line is said."""
    paths = [pets / name / f"{i}.png" for name in ("cats", "dogs") for i in (0, 1)]
    for i, path in enumerate(paths):
        pixels = np.full((16, 16, 4), 255, np.uint8)
        pixels[: i + 3, :, 3] = 0
        put(path, pixels)
    for given, other in (({}, "black"), ({"background": "#ffffff"}, "black")):
        hint = f"background='{other}' .--background {other}.$"
        with pytest.raises(
            ValueError, match=f"{pets}: all 4 images are blank .*{hint}"
        ):
            dataset(pets, **given)
    data = dataset(pets, background="Black")
    for i, x in enumerate(data.x):
        assert (x[:, : i + 3] == -1).all() and (x[:, i + 3 :] == 1).all()
    like = checkpoint(reading=asdict(Reading(background="black")))
    for got in (dataset(pets, like=like), dataset(pets, like=like, unseen=True)):
        assert torch.equal(got.x, data.x)
    put(paths[3], art())
    capsys.readouterr()
    dataset(pets)
    said = f"{pets}: blank images: 3 of 4, such as {paths[0]}\n"
    assert capsys.readouterr().out == said
    for path in paths:
        put(path, art())
    with pytest.raises(ValueError, match=f"{pets}: all 4 images are the same$"):
        dataset(pets)  # opaque: no other ground would help
    for path in paths:
        put(path, np.uint8([[(0, 0, 0, 0), (0, 0, 0, 255)]]))
    why = "are blank on #000000; #000000 drawings .* background='white' "
    with pytest.raises(ValueError, match=why):
        dataset(pets, background="#000000")
    for i, path in enumerate(paths):
        put(path, np.full((16, 16, 3), 50 * i, np.uint8))
    with pytest.raises(ValueError, match=f"{pets}: all 4 images are blank$"):
        dataset(pets)


def test_one_channel(pets):
    colour, grey = dataset(pets), dataset(pets, grey=True)
    assert grey.x.shape == (4, 1, 16, 16)
    luma = torch.tensor([0.299, 0.587, 0.114])
    means = torch.einsum("nchw,c->nhw", colour.x, luma)[:, None]
    assert (grey.x - means).abs().max() <= 1 / 127.5
    assert torch.equal(dataset(pets, like=checkpoint((1, 16, 16))).x, grey.x)


# Pairs of arrays


def test_a_pair_of_arrays(pair):
    images, labels = np.load(pair / "sprites.npy"), np.load(pair / "a_labels.npy")
    pictures = npy_pair(str(pair / "sprites.npy"), pair / "a_labels.npy")
    assert pictures.names == ("class 0", "class 1", "class 2")
    assert pictures.x.shape == (6, 3, 16, 16) and pictures.x.dtype == torch.float32
    assert (np.stack([as_bytes(x) for x in pictures.x]) == images).all()
    assert pictures.c.dtype == torch.float32 and (pictures.c.numpy() == labels).all()
    assert torch.equal(dataset(pair).x, pictures.x)  # whichever comes first by name
    assert torch.equal(dataset(str(pair)).c, pictures.c)
    like = checkpoint(names=pictures.names)
    assert torch.equal(dataset(pair, like=like, unseen=True).x, pictures.x)


@pytest.mark.parametrize("kind", ["?", "i1", "u8", ">i4", "f2", ">f8", "f4"])
def test_labels_may_be_any_numbers(pair, kind):
    labels = np.eye(3)[[2, 1, 0, 2, 1, 0]]
    np.save(pair / "a_labels.npy", np.asfortranarray(labels.astype(kind)))
    images = np.asfortranarray(np.stack([art(8, 20, seed=i) for i in range(6)]))
    np.save(pair / "sprites.npy", images)
    pictures = dataset(pair)
    assert (pictures.c.numpy() == labels).all()
    assert (as_bytes(pictures.x[4]) == images[4]).all()


def test_images_of_an_array_in_other_forms(pair):
    """Floats in [0, 1] or [-1, 1], bits, one channel: the same images."""
    images = np.stack([art(seed=i) for i in range(6)])
    whole, grey, bits = dataset(pair).x, images[..., 0], images[..., :1] > 99
    unit = torch.from_numpy(grey).float()[:, None] / 127.5 - 1
    forms = [
        (images / 255, whole),
        (np.float16(images / 255), whole),
        (np.float32(images / 127.5 - 1), whole),
        (grey, unit),
        (grey[..., None] / 255.0, unit),
        (bits, torch.from_numpy(bits).permute(0, 3, 1, 2) * 2.0 - 1),
    ]
    for array, x in forms:
        np.save(pair / "sprites.npy", array)
        got = dataset(pair).x
        assert got.shape == x.shape and (got - x).abs().max() < 1e-3
        assert dataset(pair, grey=False).x.shape == (6, 3, 16, 16)
    three = np.stack([grey, grey, grey], -1)
    np.save(pair / "sprites.npy", three)
    like = checkpoint((1, 16, 16), names=("a", "b", "c"))
    for got in (dataset(pair, grey=True), dataset(pair, like=like)):
        assert (got.x - unit).abs().max() < 1e-5
    (pair / "a_labels.npy").unlink()  # no labels: no classes
    got = dataset(pair)
    assert got.c.shape == (6, 0) and got.names == () and got.x.shape == (6, 3, 16, 16)


def test_class_numbers_and_class_names(pair):
    rows = dataset(pair)
    for kind in ("i8", "u1", "f4"):
        np.save(pair / "a_labels.npy", np.array([0, 1, 2, 0, 1, 2], kind))
        got = dataset(pair)
        assert torch.equal(got.c, rows.c) and got.names == rows.names
    names = ("cat", "dog", "fish", "bird")
    got = dataset(pair, class_names=names)  # of which one has no image here
    assert got.names == names and torch.equal(got.c[:, :3], rows.c)
    like = checkpoint(names=names)
    assert dataset(pair, like=like).names == names
    assert torch.equal(dataset(pair, like=like).c, got.c)
    with pytest.raises(
        ValueError, match=r"class numbers 0\.\.1 are needed, got .*2\.0"
    ):
        dataset(pair, class_names=names[:2])
    np.save(pair / "a_labels.npy", np.eye(3)[[0, 1, 2, 0, 1, 2]])
    assert dataset(pair, class_names=list(names[:3])).names == names[:3]
    with pytest.raises(ValueError, match="^class_names: 3 names for .*a_labels.npy is"):
        dataset(pair, class_names=names)
    for nonsense, why in ((("a", "A", "b"), "differs"), (("0.5", "a", "b"), "weight")):
        with pytest.raises(ValueError, match=f"^class_names: .*{why}"):
            dataset(pair, class_names=nonsense)


def test_the_larger_array_is_the_images(pair):
    """So that a message is about the right file."""
    np.save(pair / "sprites.npy", np.zeros((6, 784), np.uint8))
    with pytest.raises(ValueError, match=r"sprites.npy: uint8 or floats .*\(6, 784\)"):
        dataset(pair)


def header(shape, kind="|u1", version=b"\x01\x00", **more):
    """A .npy file without its numbers."""
    entries = {"descr": kind, "fortran_order": False, "shape": shape} | more
    text = repr(entries).encode().ljust(117) + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text


def saved(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


IMAGES = np.stack([art(seed=i) for i in range(6)])
LABELS = np.eye(3)[[0, 1, 2, 0, 1, 2]]
ZIP = io.BytesIO()
np.savez(ZIP, IMAGES)
BAD_IMAGES = {
    "large floats": (saved(IMAGES / 1.0), "floats in .0, 1.*float64 from 2 to 254"),
    "which floats": (saved(IMAGES / 255 - 0.1), "some below -0.5.*from -0.09"),
    "lost floats": (saved(IMAGES / 255 * np.nan), "from nan to nan"),
    "nearly black": (saved(IMAGES // 128), "uint8 from 0 to 1; scale"),
    "whole numbers": (saved(IMAGES.astype(int)), "uint8 or floats.*got int64"),
    "rows": (saved(IMAGES.reshape(6, -1)), r"got uint8 \(6, 768\); convert, reshape"),
    "all the same": (saved(IMAGES[[0] * 6]), "all 6 images are the same$"),
    "blank": (saved(0 * IMAGES), "all 6 images are blank$"),
    "channels first": (saved(IMAGES.transpose(0, 3, 1, 2)), "N,H,W,3"),
    "transparent": (saved(np.zeros((6, 16, 16, 4), np.uint8)), "N,H,W,3"),
    "uneven": (saved(IMAGES[:, :15]), "multiples of 4.*reshape or pad"),
    "too wide": (saved(np.zeros((1, 4, 1028, 3), np.uint8)), "multiples of 4 in 4"),
    "none": (saved(IMAGES[:0]), "sprites"),
    "no height": (saved(IMAGES[:, :0]), "sprites"),
    "truncated": (saved(IMAGES)[:-1], "no whole .npy"),
    "empty file": (b"", "np.save"),
    "text": (b"no array", "np.save"),
    "zip": (ZIP.getvalue(), "np.save"),
    "huge": (header((2**20, 1024, 1024, 3)), "no whole .npy"),
    "beyond 64 bits": (header((2**40, 2**40, 1024, 3)), "no whole .npy"),
    "wraps to 0": (header((2**32, 2**32, 16, 3)), "no whole .npy"),
    "negative": (header((-4, -4, 16, 3)) + bytes(768), "no whole .npy"),
    "no shape": (header(5), "no whole .npy"),
    "an odd type": (header((6, 16, 16, 3), "what"), "no whole .npy"),
    "version 9": (header((6, 16, 16, 3), version=b"\x09\0") + bytes(4608), "np.save"),
    "deep header": (b"\x93NUMPY\1\0\x10\x27" + b"(" * 10_000, "np.save"),
    "pickled": (saved(np.array([[1], "a"], dtype=object)), "numbers"),
}
BAD_LABELS = {
    "a class left out": (
        saved(np.int8([0, 1, 3] * 2)),
        r"0\.\.2 .*, 3\.0\]; number the",
    ),
    "from 1 on": (saved(np.arange(1, 7)), r"class numbers 0\.\.5 .*from 0 without"),
    "no number": (saved(np.array([0, 1, np.nan] * 2)), "class numbers .*nan"),
    "beyond numbers": (saved(np.array([0, 1e300] * 3)), "class numbers"),
    "one number": (saved(np.zeros(6)), "the same in all rows"),
    "too few": (saved(LABELS[:5]), r"\(6,K\).*got float64 \(5, 3\)"),
    "no columns": (saved(LABELS[:, :0]), "labels"),
    "one column": (saved(LABELS[:, :1]), "K >= 2"),
    "one class": (saved(np.eye(3)[[1] * len(LABELS)]), "the same in all rows"),
    "three axes": (saved(LABELS[None]), r"\(6,K\)"),
    "words": (saved(np.full((6, 2), "cat")), "numbers"),
    "complex": (saved(LABELS * 1j), "numbers.*complex"),
    "dates": (saved(LABELS.astype("M8[s]")), "numbers"),
    "NaN": (saved(LABELS + np.nan), "NaN or infinite.*needed"),
    "infinite": (saved(LABELS - np.inf), "NaN or infinite"),
    "beyond float32": (saved(LABELS * 1e300), "NaN or infinite"),
    "truncated": (saved(LABELS)[:-8], "no whole .npy"),
    "pickled": (saved(np.array([{}] * 6, dtype=object)), "file of numbers"),
    "two pictures": (saved(IMAGES), "a_labels"),
}


@pytest.mark.parametrize(
    ("file", "data", "why"),
    [pytest.param("sprites.npy", *bad, id=how) for how, bad in BAD_IMAGES.items()]
    + [pytest.param("a_labels.npy", *bad, id=how) for how, bad in BAD_LABELS.items()],
)
def test_bad_files_of_a_pair_are_named(pair, file, data, why):
    (pair / file).write_bytes(data)
    with pytest.raises(ValueError, match=why) as problem:
        npy_pair(pair / "sprites.npy", pair / "a_labels.npy")
    assert str(pair / file) in str(problem.value)
    with pytest.raises(ValueError, match=str(pair)):
        dataset(pair)


def test_pickles_are_never_run(pair):
    class Harm:
        def __reduce__(self):
            return os.mkdir, (str(pair / "harm"),)

    np.save(pair / "sprites.npy", np.array([Harm()], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="sprites"):
        dataset(pair)
    assert not (pair / "harm").exists()


def test_arrays_too_large_for_memory_are_not_read(pair):
    with open(pair / "sprites.npy", "wb") as file:  # a file that is all hole
        file.write(header((400_000, 32, 32, 3)))
        file.truncate(file.tell() + 400_000 * 32 * 32 * 3)
    with pytest.raises(ValueError, match=r"sprites\.npy.*1,228,800,000 numbers, over"):
        dataset(pair)


def test_a_missing_array_is_named(pair):
    for name in ("gone.npy", "", "n" * 300, "."):
        with pytest.raises(ValueError, match="np.save"):
            npy_pair(pair / name, pair / "a_labels.npy")
    for nothing in (None, 5, b"x", "", "x\0.npy"):
        with pytest.raises(ValueError, match="^images: a name or a path"):
            npy_pair(nothing, pair / "a_labels.npy")


WANTED = r"name_or_path: sprites, mnist, a folder of images .* two \.npy files, got "


@pytest.mark.parametrize("name", [None, 5, "", ["sprites"], b"sprites", "x\0y"])
@pytest.mark.parametrize("function", [dataset, image_folder])
def test_nonsense_is_no_name(name, function):
    argument = "path" if function is image_folder else "name_or_path"
    with pytest.raises(ValueError, match=f"^{argument}: a name or a path is need"):
        function(name)


def test_what_is_no_data_set_says_what_would_do(pair, pets, tmp_path, monkeypatch):
    of_folders = {"size": 32, "background": "black", "skip_unreadable": True}
    own = {"grey": True, "class_names": ("a", "b")}
    lacking = {"sprites": of_folders | own, "mnist": own, pair: of_folders}
    lacking[pets] = {"class_names": ("a", "b")}
    for path, arguments in lacking.items():
        for name, value in arguments.items():
            with pytest.raises(ValueError, match=f"^{name}: none for {path}, "):
                dataset(path, **{name: value})
    np.save(pair / "third.npy", np.zeros(3))
    np.save(pets / "one.npy", np.zeros(3))
    flat = put(tmp_path / "flat" / "0.png", art()).parent
    np.save(flat / "one.npy", np.zeros(3))
    names = ["no/such/folder", "n" * 300, "."]
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    for both, other in ((pets, "cats"), (flat, "0.png")):
        why = f"^{both}: arrays and images, or folders, .*: one.npy and {other}; move"
        with pytest.raises(ValueError, match=why):
            dataset(both)
    for name in (*names, pair, pets / "cats" / "0.png"):
        with pytest.raises(ValueError, match=f"{WANTED}{located(name)}$"):
            dataset(name)
    meant = {"MNIST": "mnist", "Sprites": "sprites", "sprite": "sprites"}
    for name, other in meant.items():
        hint = re.escape(f"{located(name)} (did you mean {other!r}?)")
        with pytest.raises(ValueError, match=f"{WANTED}{hint}$"):
            dataset(name)


def test_the_shipped_name_stays_its_own(pets, monkeypatch):
    monkeypatch.chdir(pets.parent)
    pets.rename("sprites")
    assert len(dataset("sprites").x) == 50_000
    assert len(dataset("./sprites").x) == 4  # the folder


# For a checkpoint


def checkpoint(shape=(3, 16, 16), names=("cats", "dogs"), **meta):
    got = small_checkpoint(shape, len(names))
    return got._replace(context=names, meta=meta)


@pytest.mark.parametrize("side", [8, 16, 32])
def test_a_folder_comes_at_the_size_of_the_checkpoint(pets, side):
    like, data = checkpoint((3, side, side)), dataset(pets, side)
    for got in (dataset(pets, like=like), dataset(pets, side, like=like)):
        assert got.x.shape == (4, 3, side, side) and torch.equal(got.x, data.x)
    assert torch.equal(dataset(pets, like=like, unseen=True).x, data.x)
    with pytest.raises(ValueError, match=r"^like: a checkpoint of images \(3, 64, 64"):
        dataset(pets, 64, like=like)


@pytest.mark.parametrize(
    ("which", "like", "why"),
    [
        ("pets", {"shape": (3, 16, 20)}, r"images \(3, 20, 20\) .*got \(3, 16, 20"),
        ("pets", {"names": ("dogs", "cats")}, "classes .'cats', 'dogs'.* got .'dogs'"),
        ("pets", {"names": ("cats", "dogs", "fish")}, "classes .*got .*'fish'"),
        ("pair", {}, "classes .'class 0', 'class 1', 'class 2'"),
        ("pair", {"shape": (3, 32, 32)}, r"images \(3, 16, 16\)"),
        ("sprites", {"shape": (1, 28, 28)}, r"images \(3, 16, 16\)"),
        ("sprites", {}, "classes .'hero'.*got .'cats', 'dogs'"),
    ],
)
def test_data_of_another_checkpoint_is_refused(request, which, like, why):
    name = which if which == "sprites" else request.getfixturevalue(which)
    with pytest.raises(ValueError, match=f"^like: a checkpoint of (the )?{why}"):
        dataset(name, like=checkpoint(**like))


@pytest.mark.parametrize(
    ("name", "share"), [("sprites", 0.2), pytest.param("mnist", 0, marks=needs_digits)]
)
def test_unseen_images_are_others(name, share):
    """Of the same kind. Sprites are so small that some are drawn twice."""
    seen, unseen = dataset(name), dataset(name, unseen=True)
    known = {image.numpy().tobytes() for image in seen.x}
    again = sum(image.numpy().tobytes() in known for image in unseen.x)
    assert len(unseen.x) == 10_000 and again <= share * 10_000
    assert seen.names == unseen.names and seen.x.shape[1:] == unseen.x.shape[1:]
    assert (seen.c.mean(0) - unseen.c.mean(0)).abs().max() < 0.02


def test_whether_a_checkpoint_was_trained_on_this_data(pets):
    data = dataset(pets)
    like = checkpoint(fingerprint=fingerprint(data.x, data.c))
    assert same_data(dataset(pets, like=like), like) is True
    assert same_data(data, checkpoint()) is None
    put(pets / "cats" / "0.png", art(seed=9))
    assert same_data(dataset(pets, like=like), like) is False


@pytest.mark.parametrize(
    ("which", "reading"),
    [
        ("pets", Reading(32, "black", True, None, True)),
        ("pets", Reading(20, "#20a0ff")),
        ("pair", Reading(class_names=("a", "b", "c"), grey=True)),
    ],
)
def test_a_checkpoint_says_how_its_data_were_read(request, which, reading):
    path = request.getfixturevalue(which)
    data = dataset(path, **asdict(reading))
    meta = json.loads(json.dumps({"reading": asdict(reading)}))
    like = checkpoint(data.x.shape[1:], data.names, **meta)
    again = dataset(path, like=like)
    assert fingerprint(again.x, again.c) == fingerprint(data.x, data.c)
    assert again.names == data.names
    odd = like._replace(meta={"reading": "?"})
    assert dataset(path, **asdict(reading), like=odd).names == data.names


# MNIST, as torchvision reads it


def idx(kind, *sizes, data):
    """The bytes of an IDX file of bytes: a magic number, the sizes, the data."""
    return struct.pack(f">{1 + len(sizes)}I", 0x0800 + kind, *sizes) + bytes(data)


def digits(root, images=None, labels=None):
    """Six planted digits in a folder as MNIST has them: digit i has brightness 40 i."""
    raw = root / "MNIST/raw"
    raw.mkdir(parents=True)
    pixels = np.repeat(np.arange(6, dtype=np.uint8) * 40, 28 * 28).tobytes()
    images = idx(3, 6, 28, 28, data=pixels) if images is None else images
    labels = idx(1, 6, data=range(6)) if labels is None else labels
    for part in ("train", "t10k"):
        (raw / f"{part}-images-idx3-ubyte").write_bytes(images)
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(labels)
    return root


def test_mnist_is_read_from_where_lessons_data_points(tmp_path, monkeypatch):
    monkeypatch.setenv("LESSONS_DATA", str(digits(tmp_path)))
    data = dataset("mnist")
    assert data.x.shape == (6, 1, 28, 28) and data.x.dtype == torch.float32
    assert (as_bytes(data.x[3]) == 120).all()
    assert data.names == tuple("0123456789")
    assert torch.equal(data.c, torch.eye(10)[:6])
    for other in (mnist("test"), dataset("mnist", unseen=True)):
        assert torch.equal(other.x, data.x)
    with pytest.raises(ValueError, match="split: 'train' or 'test' is needed"):
        mnist("validation")


def test_without_mnist_the_error_says_what_to_do(tmp_path, monkeypatch):
    def download(self):
        raise RuntimeError("no network here")

    monkeypatch.setattr("torchvision.datasets.MNIST.download", download)
    monkeypatch.setenv("LESSONS_DATA", str(tmp_path))
    with pytest.raises(ValueError, match="no network here.*LESSONS_DATA") as problem:
        dataset("mnist")
    assert str(tmp_path / "MNIST/raw") in str(problem.value)
    monkeypatch.delenv("LESSONS_DATA")
    monkeypatch.setattr("lesson_utils.data.DATA", tmp_path / "data")
    with pytest.raises(ValueError, match="data: no MNIST here"):
        mnist("test")


@pytest.mark.parametrize(
    "bad",
    [
        {"images": b""},
        {"images": b"<html>not found</html>"},
        {"images": idx(3, 6, 28, 28, data=range(200))},
        {"images": idx(3, 6, 27, 28, data=bytes(6 * 27 * 28))},
        {"images": idx(3, 5, 28, 28, data=bytes(5 * 28 * 28))},
        {"images": idx(3, 2**31, 28, 28, data=b"")},
        {"labels": idx(1, 6, data=(0, 1, 2, 3, 4, 10))},
        {"labels": idx(1, 5, data=range(5))},
        {"labels": idx(3, 6, 28, 28, data=bytes(6 * 28 * 28))},
    ],
)
def test_damaged_mnist_is_refused(tmp_path, monkeypatch, bad):
    monkeypatch.setenv("LESSONS_DATA", str(digits(tmp_path, **bad)))
    with pytest.raises(ValueError, match="no MNIST here, and none can be loaded"):
        dataset("mnist")


@needs_digits
def test_the_real_mnist():
    for split, n in (("train", 60_000), ("test", 10_000)):
        data = mnist(split)
        assert data.x.shape == (n, 1, 28, 28)
        assert data.x.aminmax() == (-1, 1)
        assert data.c.mean(0).min() > 0.08 and data.c.mean(0).max() < 0.12
