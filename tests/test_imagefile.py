"""One image file, whole or broken, at any size: what becomes of its pixels."""

import struct
import zlib

import numpy as np
import pytest
from art import LOSSLESS, art, encoded, enlarged, put
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin, TiffImagePlugin, features

from lesson_utils.imagefile import LARGEST_SIDE, read_picture


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


def deep_tiff(pixels, bits=16, zero_is=1, form=1):
    """A TIFF of one strip, in the byte order of the pixels (16,16)."""
    order = ">" if pixels.dtype.byteorder == ">" else "<"
    size = pixels.nbytes
    values = {256: 16, 257: 16, 258: bits, 259: 1, 262: zero_is, 273: 150, 277: 1}
    values |= {278: 16, 279: size, 339: form}
    head = struct.pack(f"{order}HIH", 42, 8, len(values))
    for tag, value in values.items():
        head += struct.pack(f"{order}HHIHH", tag, 3, 1, value, 0)
    return (
        (b"MM" if order == ">" else b"II") + head.ljust(148, b"\0") + pixels.tobytes()
    )


DEEP = np.arange(256, dtype=np.uint16).reshape(16, 16) * 257
DEEP[::2] += 128  # the most that rounds down
DEEP[1:-1:2] += 129  # and the least that rounds up


@pytest.mark.parametrize("kind", ["png", "tiff", "<", ">", "I"])
def test_grey_of_16_bits_is_rounded_to_8(tmp_path, kind, monkeypatch):
    """An old Pillow says I of a PNG."""
    path = tmp_path / "a"
    if kind in "<>":
        path.write_bytes(deep_tiff(DEEP.astype(f"{kind}u2")))
    else:
        put(path, DEEP, "tiff" if kind == "tiff" else "png")
    if kind == "I":
        modes = PngImagePlugin._MODES
        monkeypatch.setitem(modes, (16, 0), ("I", "I;16B"))
    got = read_picture(path, 16)
    assert (got == np.rint(DEEP / 257)[..., None]).all()


def test_a_key_of_16_bits_is_transparent(tmp_path):
    Image.fromarray(DEEP).save(tmp_path / "a.png", transparency=int(DEEP[0, 1]))
    got = read_picture(tmp_path / "a.png", 16, "red")
    assert got[0, 1].tolist() == [255, 0, 0] and got[0, 2].tolist() == [2, 2, 2]


@pytest.mark.parametrize(
    ("kind", "about"),
    [("<f4", (32, 1, 3)), ("<u4", (32,)), ("<i2", (16, 1, 2)), ("<u2", (16, 0))],
)
def test_other_deep_greys_are_refused(tmp_path, kind, about):
    """Fractions, 32 bits, signed ones, and white that is 0."""
    (tmp_path / "a").write_bytes(deep_tiff(DEEP.astype(kind), *about))
    with pytest.raises(ValueError, match="other than whole numbers from 0, black"):
        read_picture(tmp_path / "a", 16)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_is_turned_as_its_exif_says(tmp_path, orientation):
    turns = Image.Transpose
    undo = [None, turns.FLIP_LEFT_RIGHT, turns.ROTATE_180, turns.FLIP_TOP_BOTTOM]
    undo += [turns.TRANSPOSE, turns.ROTATE_90, turns.TRANSVERSE, turns.ROTATE_270]
    image, exif = Image.fromarray(art()), Image.Exif()
    stored = image.transpose(undo[orientation - 1]) if orientation > 1 else image
    exif[0x0112] = orientation
    for kind in ("png", "webp", "tiff"):
        stored.save(tmp_path / "a", kind, exif=exif, **LOSSLESS[kind])
        assert (read_picture(tmp_path / "a", 16) == art()).all(), kind


@pytest.mark.parametrize("kind", ["gif", "png", "webp", "tiff"])
def test_of_a_film_the_first_frame_counts(tmp_path, kind):
    frames = [Image.fromarray(art(seed=seed)) for seed in range(3)]
    path, options = tmp_path / f"a.{kind}", LOSSLESS[kind]
    frames[0].save(path, save_all=True, append_images=frames[1:], **options)
    assert (read_picture(path, 16) == art()).all()


def test_a_picture_just_within_the_limit_is_read(tmp_path):
    path = put(tmp_path / "a.png", np.zeros((2, LARGEST_SIDE), bool))
    got = read_picture(path, 4)
    assert got[0].max() == 255 and got.min() >= 250  # a thin black line on white


@pytest.mark.parametrize(
    ("height", "width", "k", "size", "at"),
    [
        (15, 15, 1, 16, (0, 0, 1)),  # top, left, scale
        (18, 18, 1, 20, (1, 1, 1)),
        (15, 15, 3, 16, (0, 0, 1)),
        (15, 15, 3, 32, (1, 1, 2)),
        (10, 12, 1, 32, (6, 4, 2)),
        (5, 3, 3, 16, (0, 3, 3)),
    ],
)
def test_small_art_of_odd_size_keeps_its_pixels(tmp_path, height, width, k, size, at):
    path = put(tmp_path / "a.png", enlarged(art(height, width), k))
    top, left, scale = at
    whole = np.full((size, size, 3), 255, np.uint8)
    pixels = enlarged(art(height, width), scale)
    whole[top : top + len(pixels), left : left + pixels.shape[1]] = pixels
    assert (read_picture(path, size) == whole).all()


def test_images_of_one_size_stay_in_proportion(tmp_path):
    """Also where one of them is so plain that it might be smaller art."""
    for side, scale, margin in ((6, 2, 2), (45, 1 / 3, 0)):
        halves = np.zeros((side, side, 3), np.uint8)
        halves[side // 3 :] = 90
        got = read_picture(put(tmp_path / "a.png", halves), 16)
        inner = round(side * scale)
        dark = (got != 255).all(2)
        assert dark.sum() == inner**2 and dark[margin : margin + inner].any()


def test_what_is_too_large_lies_in_the_middle(tmp_path):
    """370 of 400 pixels: 0.6 of a row is white above, and as much below."""
    dark = np.zeros((370, 400, 3), np.uint8)
    got = read_picture(put(tmp_path / "a.png", dark), 16)[..., 0]
    assert (got[[0, -1]] == 153).all() and (got[1:-1] == 0).all()


@pytest.mark.parametrize("size", [16, 64])
def test_a_large_photograph_is_averaged_though_it_is_read_small(tmp_path, size):
    """JPEG's own coarse copy, four times what is needed, has nearly the same means."""
    ramp = np.linspace(0, 6, 1024)
    waves = np.sin(ramp[:, None] * ramp) + np.cos(5 * ramp)
    pixels = np.uint8(
        np.stack([63 * waves + 127, 255 - ramp + 0 * waves, waves + 9], -1)
    )
    k = 1024 // size
    means = pixels.reshape(size, k, size, k, 3).mean((1, 3))
    path = put(tmp_path / "a.jpg", pixels, "jpeg", quality=95)
    assert np.abs(read_picture(path, size) - means).max() < 4
    with Image.open(path) as image:
        image.draft(None, (4 * size, 4 * size))
        assert image.width == max(4 * size, 128)


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize(
    ("background", "rgb"), [("black", (0, 0, 0)), ("#20a0ff", (32, 160, 255))]
)
def test_a_background_is_behind_and_beside(tmp_path, background, rgb, grey):
    white = np.full((16, 8, 4), 255, np.uint8)
    white[:4, :, 3] = 0
    got = read_picture(put(tmp_path / "a.png", white), 16, background, grey)
    shown = [round(np.dot(rgb, (0.299, 0.587, 0.114)))] if grey else rgb
    assert got.shape == (16, 16, len(shown))
    assert (got[:4] == shown).all() and (got[:, :4] == shown).all()
    assert (got[4:, 4:12] == 255).all()


# Damage


def chunk(kind, data):
    check = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)


BOMB = zlib.compress(bytes(2**23))
EXTRA = {  # chunks of a PNG that no pixel needs
    "text": chunk(b"tEXt", b"Comment\0a cat"),
    "profile": chunk(b"iCCP", b"sRGB\0\0" + zlib.compress(b"profile" * 99)),
    "exif": chunk(b"eXIf", b"MM\0*" + bytes(40)),
    "density": chunk(b"pHYs", bytes(9)),
    "unknown": chunk(b"zzZz", bytes(9)),
}
DAMAGED = {name: data[:-7] + b"\xff" + data[-6:] for name, data in EXTRA.items()}
DAMAGED |= {
    "text bomb": chunk(b"zTXt", b"a\0\0" + BOMB),
    "profile bomb": chunk(b"iCCP", b"a\0\0" + BOMB),
    "no profile": chunk(b"iCCP", b"a\0\0no zlib"),
    "no exif": chunk(b"eXIf", b"no TIFF"),
    "short": chunk(b"pHYs", b"") + chunk(b"gAMA", b"") + chunk(b"cHRM", b"1"),
    "film": chunk(b"acTL", b"") + chunk(b"fcTL", b"x"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_that_no_pixel_needs_is_passed_over(tmp_path, name):
    """Wherever it stands in a PNG: before the pixels or behind them."""
    data = encoded(art(), "png")
    end = len(data) - 12
    for at in (33, end):
        path = tmp_path / f"{at}.png"
        path.write_bytes(data[:at] + DAMAGED[name] + data[at:])
        assert (read_picture(path, 16) == art()).all()


@pytest.mark.parametrize("kind", ["png", "webp", "jpeg", "avif"])
def test_damaged_exif_is_passed_over(tmp_path, kind):
    exif, options = Image.Exif(), LOSSLESS.get(kind, {})
    exif[0x010F] = "maker"
    exif.get_ifd(0x8769)[0x9003] = "2020:01:01 00:00:00"
    if kind == "avif" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    whole = put(tmp_path / "whole", art(), kind, **options)
    damaged = put(tmp_path / "damaged", art(), kind, exif=exif.tobytes(), **options)
    data = damaged.read_bytes()
    start = data.index(b"MM\0*")
    damaged.write_bytes(data[:start] + b"\xff" * 20 + data[start + 20 :])
    assert (read_picture(damaged, 16) == read_picture(whole, 16)).all()


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_deflate"])
def test_damaged_tags_of_a_tiff_are_passed_over(tmp_path, compression):
    """Its EXIF among them: they say that something lies where the file has ended."""
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[271], tags[305] = "a maker of cameras", "a program"
    path = tmp_path / "a"
    put(path, art(), "tiff", tiffinfo=tags, compression=compression)
    data, known = path.read_bytes(), 0
    (start,) = struct.unpack("<I", data[4:8])
    (entries,) = struct.unpack_from("<H", data, start)
    for at in range(start + 2, start + 2 + 12 * entries, 12):
        lost = bytearray(data)
        lost[at + 4 : at + 12] = struct.pack("<II", 9999, len(data) + 99)
        path.write_bytes(lost)
        (tag,) = struct.unpack_from("<H", data, at)
        if tag in (271, 305):
            known += 1
            assert (read_picture(path, 16) == art()).all()
        elif tag in (256, 257, 273):  # width, height, strips
            with pytest.raises(ValueError, match="no picture"):
                read_picture(path, 16)
    assert known == 2


def test_damage_in_pixels_is_refused(tmp_path):
    """Any flipped bit of a PNG's size, palette, transparency or pixels."""
    grey = np.linspace(0, 255, 64).astype(np.uint8)
    image = Image.fromarray(grey[:, None].repeat(64, 1)).quantize(8)
    path = tmp_path / "a.png"
    image.save(path, transparency=3)
    data = path.read_bytes()
    read_picture(path, 16)
    name = data.index(b"tRNS")  # under another name it might be anything
    places = {*range(8, len(data) - 12)} - {*range(name, name + 4)}
    assert data.index(b"PLTE") in places and data.index(b"IDAT") in places
    for i in places:
        path.write_bytes(data[:i] + bytes([data[i] ^ 4]) + data[i + 1 :])
        with pytest.raises(ValueError, match="no picture"):
            read_picture(path, 16)
