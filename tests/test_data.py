"""Data sets: the sprites, and what people bring, whole and broken."""

import io
import os
import struct
import zlib

import numpy as np
import pytest
import torch
from conftest import needs_digits
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from small import small_checkpoint

from lesson_utils import dataset, image_folder, npy_pair
from lesson_utils.data import LARGEST_SIDE, mnist, read_picture, same_data
from lesson_utils.support.files import fingerprint, label, located

LOSSLESS = {kind: {} for kind in ("png", "gif", "bmp", "tiff")}  # and how to save it
LOSSLESS["webp"] = {"lossless": True}


def art(height=16, width=16, seed=0, colours=9):
    """Pixel art (height,width,3) uint8, whose first and last rows hold no white."""
    draw = np.random.default_rng(seed)
    return draw.integers(0, 255, (colours, 3), np.uint8)[
        draw.integers(0, colours, (height, width))
    ]


def enlarged(pixels, k):
    return pixels.repeat(k, 0).repeat(k, 1)


def encoded(pixels, kind, **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def put(path, pixels, kind="png", **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(pixels, kind, **options))
    return path


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
    (root / "README.txt").write_text("my pets")
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
        assert label(same) == "my pets"
    monkeypatch.setenv("HOME", str(pets.parent))
    monkeypatch.setenv("USERPROFILE", str(pets.parent))
    assert torch.equal(dataset("~/my pets").x, pictures.x)
    assert dataset(pets, 32).x.shape == image_folder(pets, 32).x.shape == (4, 3, 32, 32)


@pytest.mark.parametrize("kind", LOSSLESS)
@pytest.mark.parametrize("k", [1, 3, 20])
def test_enlarged_pixel_art_comes_back_bit_for_bit(tmp_path, kind, k):
    """From every lossless format, at any whole scale; and back by whole pixels."""
    path = put(tmp_path / f"a.{kind}", enlarged(art(), k), kind, **LOSSLESS[kind])
    assert (read_picture(path, 16) == art()).all()
    path = put(path, art(), kind, **LOSSLESS[kind])
    assert (read_picture(path, 16 * k) == enlarged(art(), k)).all()


@settings(max_examples=60, deadline=None)
@given(
    size=st.sampled_from([4, 8, 16, 28]),
    short=st.integers(1, 28),
    upright=st.booleans(),
    k=st.integers(1, 12),
)
def test_pictures_that_are_not_square_get_white_beside_them(
    tmp_path_factory, size, short, upright, k
):
    short = min(short, size)
    pixels = art(size, short) if upright else art(short, size)
    path = tmp_path_factory.getbasetemp() / "a.png"
    got = read_picture(put(path, enlarged(pixels, k)), size)
    left = (size - short) // 2
    got = got if upright else got.transpose(1, 0, 2)
    pixels = pixels if upright else pixels.transpose(1, 0, 2)
    assert (got[:, left : left + short] == pixels).all()
    assert (got[:, :left] == 255).all() and (got[:, left + short :] == 255).all()


def test_shrinking_averages_as_the_definition_says(tmp_path):
    """Within the rounding along each side, and of a photograph within that of JPEG."""
    ramp = np.linspace(0, 255, 160).astype(np.uint8)
    photograph = np.stack(np.broadcast_arrays(ramp[:, None], ramp, np.uint8(128)), -1)
    drawn = art(48, 48, colours=200)
    for pixels, kind, most in ((drawn, "png", 1), (photograph, "jpeg", 5)):
        k = len(pixels) // 16
        means = pixels.reshape(16, k, 16, k, 3).mean((1, 3))
        got = read_picture(put(tmp_path / "a.JPG", pixels, kind, quality=95), 16)
        assert np.abs(got - means).max() < most


def test_any_size_fits(tmp_path):
    for i, (height, width) in enumerate([(1, 1), (7, 300), (301, 2), (17, 15), (5, 3)]):
        got = read_picture(put(tmp_path / f"{i}.png", art(height, width)), 16)
        assert got.shape == (16, 16, 3) and got.dtype == np.uint8


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


def test_half_transparent_is_half_white(tmp_path):
    path = put(tmp_path / "a.png", np.full((16, 16, 4), (0, 100, 200, 128), np.uint8))
    exact = np.array([0, 100, 200]) * 128 / 255 + 255 * 127 / 255
    assert np.abs(read_picture(path, 16) - exact).max() <= 1


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "RGBA", "LA", "RGB"])
def test_every_mode_gives_three_channels(tmp_path, mode):
    grey = Image.fromarray(enlarged(art(4, 4), 8)).convert("L")
    path = tmp_path / ("a.tiff" if mode in ("CMYK", "YCbCr") else "a.png")
    image = grey.convert("RGB")
    (image.quantize(16) if mode == "P" else image.convert(mode)).save(path)
    got = read_picture(path, 16)
    assert got.shape == (16, 16, 3)
    if mode != "1":
        close = np.asarray(grey.resize((16, 16), Image.Resampling.BOX))[..., None]
        assert np.abs(got - close.astype(int)).max() <= 2


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_is_turned_as_its_exif_says(tmp_path, orientation):
    turns = Image.Transpose
    undo = [None, turns.FLIP_LEFT_RIGHT, turns.ROTATE_180, turns.FLIP_TOP_BOTTOM]
    undo += [turns.TRANSPOSE, turns.ROTATE_90, turns.TRANSVERSE, turns.ROTATE_270]
    image, exif = Image.fromarray(art()), Image.Exif()
    stored = image.transpose(undo[orientation - 1]) if orientation > 1 else image
    exif[0x0112] = orientation
    stored.save(tmp_path / "a.png", exif=exif)
    assert (read_picture(tmp_path / "a.png", 16) == art()).all()


@pytest.mark.parametrize("kind", ["gif", "png", "webp", "tiff"])
def test_of_a_film_the_first_frame_counts(tmp_path, kind):
    frames = [Image.fromarray(art(seed=seed)) for seed in range(3)]
    path, options = tmp_path / f"a.{kind}", LOSSLESS[kind]
    frames[0].save(path, save_all=True, append_images=frames[1:], **options)
    assert (read_picture(path, 16) == art()).all()


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


# A file of the class folder "cats": its bytes, or how it is made; what the error says.
HINT, LIMIT = "no picture.*save it as 8-bit PNG", "sides up to 8,192"
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
    "16bits.png": (encoded(np.uint16(GREY), "png"), "8-bit"),
    "kittens": (lambda path: put(path / "0.png", art()), "inside a class"),
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


def test_a_picture_just_within_the_limit_is_read(tmp_path):
    path = put(tmp_path / "a.png", np.zeros((2, LARGEST_SIDE), bool))
    got = read_picture(path, 4)
    assert got[0].max() == 255 and got.min() >= 250  # a thin black line on white


def test_folders_that_are_no_classes_are_refused(pets, tmp_path):
    (pets / "fish").mkdir()
    with pytest.raises(ValueError, match="my pets: two or more .* 'fish': 0"):
        dataset(pets)
    (pets / "fish" / ".hidden.png").touch()
    with pytest.raises(ValueError, match="'fish': 0"):
        dataset(pets)
    put(tmp_path / "one" / "cats" / "0.png", art())
    with pytest.raises(ValueError, match="one: two or more folders.*'cats': 1"):
        dataset(tmp_path / "one")
    loose = put(pets / "0.JPG", art())
    with pytest.raises(ValueError, match=f"{loose}: outside the class folders; move"):
        dataset(pets)
    for path in (tmp_path / "nowhere", loose):
        with pytest.raises(ValueError, match=f"{path.name}: two or more folders"):
            image_folder(path)


def test_too_much_for_memory_is_refused_before_a_picture_is_read(pets, monkeypatch):
    monkeypatch.setattr("lesson_utils.data.LARGEST_DATA", 4 * 3 * 16**2)
    assert len(dataset(pets).x) == 4
    (pets / "cats" / "2.png").touch()
    with pytest.raises(ValueError, match="my pets: 5 files: too many for size 16"):
        dataset(pets)


@pytest.mark.parametrize("size", [0, 2, 17, 1028, 16.5, "16", True, -4])
@pytest.mark.parametrize("read", [image_folder, dataset])
def test_a_bad_size(pets, read, size):
    with pytest.raises(ValueError, match="size: "):
        read(pets, size)


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


def header(shape, kind="|u1", version=b"\x01\x00", **more):
    """A .npy file without its numbers."""
    entries = {"descr": kind, "fortran_order": False, "shape": shape} | more
    text = repr(entries).encode().ljust(117) + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text


def saved(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


IMAGES = np.zeros((6, 16, 16, 3), np.uint8)
LABELS = np.eye(3)[[0, 1, 2, 0, 1, 2]]
ZIP = io.BytesIO()
np.savez(ZIP, IMAGES)
BAD_IMAGES = {
    "floats": (saved(IMAGES / 255.0), "uint8.*got float64"),
    "grey": (saved(IMAGES[..., 0]), "uint8 .N,H,W,3.*got uint8 .6, 16, 16"),
    "channels first": (saved(IMAGES.transpose(0, 3, 1, 2)), "N,H,W,3"),
    "transparent": (saved(np.zeros((6, 16, 16, 4), np.uint8)), "N,H,W,3"),
    "uneven": (saved(IMAGES[:, :15]), "multiples of 4.*convert or pad"),
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
    "numbers of classes": (saved(np.arange(6)), r"\(6,K\).*np\.eye\(K\)\[numbers\]"),
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
    for name in ("gone.npy", "", "x\0.npy", "n" * 300, "."):
        with pytest.raises(ValueError, match="np.save"):
            npy_pair(pair / name, pair / "a_labels.npy")
    for nothing in (None, 5, b"x", ""):
        with pytest.raises(ValueError, match="name or a path"):
            npy_pair(nothing, pair / "a_labels.npy")


WANTED = r"name_or_path: sprites, mnist, a folder of class f.* two \.npy files, got "


@pytest.mark.parametrize("name", [None, 5, "", ["sprites"], b"sprites", "x\0y"])
@pytest.mark.parametrize("function", [dataset, label, image_folder])
def test_nonsense_is_no_name(name, function):
    argument = "path" if function is image_folder else "name_or_path"
    with pytest.raises(ValueError, match=f"^{argument}: a name or a path is need"):
        function(name)


def test_what_is_no_data_set_says_what_would_do(pair, pets, tmp_path, monkeypatch):
    for path in ("sprites", pair):
        with pytest.raises(ValueError, match=f"size: none for {path}, .* got 32"):
            dataset(path, 32)
    np.save(pair / "third.npy", np.zeros(3))
    np.save(pets / "one.npy", np.zeros(3))
    flat = put(tmp_path / "flat" / "0.png", art()).parent
    names = ["spirtes", "no/such/folder", "n" * 300, "."]
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    for name in (*names, pair, pets, flat, pets / "cats" / "0.png"):
        with pytest.raises(ValueError, match=f"{WANTED}{located(name)}$"):
            dataset(name)


def test_the_shipped_name_stays_its_own(pets, monkeypatch):
    monkeypatch.chdir(pets.parent)
    pets.rename("sprites")
    assert label("sprites") == "sprites" and len(dataset("sprites").x) == 50_000
    assert len(dataset("./sprites").x) == 4  # the folder
    for path in ("./sprites", pets.parent / "sprites", "Sprites", "sprites/"):
        with pytest.raises(ValueError, match="rename it, or name the checkpoint"):
            label(path)


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
        ("pets", {"shape": (1, 16, 16)}, r"images \(3, 16, 16\) .*got \(1, 16"),
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
