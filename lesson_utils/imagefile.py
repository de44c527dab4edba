"""One image file -> pixels of the size that training takes, or what is wrong."""

import struct
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import BinaryIO
from warnings import catch_warnings

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "AVIF")  # AVIF: Pillow 11.3
LARGEST_SIDE = 8192  # pixels of an image file: 64 megapixels, if it is a square
LARGEST_IMAGE = 2**29  # bytes of an image file, as large as those pixels need
PNG = b"\x89PNG\r\n\x1a\n"
ORIENTATION = 0x0112  # in EXIF
BITS, ZERO_IS = 258, 262  # of a TIFF: bits of a value, and whether 0 is black (1)
PIXEL_TAGS = {  # of a TIFF: sizes, compression, colours, strips, tiles, orientation
    *(256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 284, 292, 293, 317, 320),
    *(322, 323, 324, 325, 332, 334, 338, 339, 347, 529, 530, 531, 532),
}


def read_picture(
    path: Path, size: int, background: str = "white", grey: bool = False
) -> np.ndarray:
    """An image file as uint8 (size,size,3), or (size,size,1) if grey.

    Takes FORMATS, of a film the first frame. Transparent pixels show the background.
    An image that fits is enlarged by a whole number, one that is too large is shrunk by
    averages, and what is missing to a square is background on both sides. Enlarged
    pixel art counts as the small original. Grey of 16 bits is rounded to 8. ValueError,
    naming the file, for all else.
    """
    try:
        if not path.is_file():
            raise ValueError("a folder, or a broken link")
        image = decoded(path, 4 * size)
    except Exception as problem:  # a decoder may raise anything
        raise ValueError(f"{path}: no picture ({problem})") from None
    ground = Image.new("RGB", image.size, background)
    ground.paste(image, (0, 0), image)
    ground = original(ground.convert("L") if grey else ground, size)
    return np.asarray(fitted(ground, size, background)).reshape(size, size, -1)


def transparent(path: Path) -> bool:
    """Whether an image file that can be read has pixels that are not opaque."""
    return decoded(path, 4).getchannel("A").getextrema()[0] < 255


# Decoding


def decoded(path: Path, enough: int) -> Image.Image:
    """The image of a file in RGBA; enough: the side that a photograph needs."""
    if path.stat().st_size > LARGEST_IMAGE:
        raise ValueError(f"{path.stat().st_size:,} bytes, over {LARGEST_IMAGE:,}")
    with open(path, "rb") as file:
        for attempt in attempts(file):
            try:
                return upright(attempt, enough)
            except Exception as problem:  # of a text or a profile, perhaps
                last = problem
    raise last


def upright(file: BinaryIO, enough: int) -> Image.Image:
    """The image of an open file in RGBA, turned as its EXIF says, if that is whole."""
    with catch_warnings(action="ignore"), opened(file) as image:
        side = max(image.size)
        if side > LARGEST_SIDE:
            raise ValueError(f"{image.size} pixels")
        image.draft(None, [-(-n * enough // side) for n in image.size])  # of a JPEG
        deep = image.mode[0] in "IF"
        pixels = of_16_bits(image) if deep else image.convert("RGBA")
        try:
            orientation = image.getexif().get(ORIENTATION)
        except Exception:  # no pixel needs it
            orientation = 1
    if orientation not in range(2, 9):
        return pixels
    pixels.info.clear()
    pixels.getexif()[ORIENTATION] = orientation
    return ImageOps.exif_transpose(pixels)


def of_16_bits(image: Image.Image) -> Image.Image:
    """Grey values in 0..65535 in RGBA, which Pillow would cut off at 255."""
    tags = getattr(image, "tag_v2", {})  # of a TIFF
    light = (tags.get(BITS, (16,)), tags.get(ZERO_IS, 1)) == ((16,), 1)
    if not light or (image.mode == "I" and image.format != "PNG") or image.mode == "F":
        what = "grey values other than whole numbers from 0, black, to 65535, white"
        raise ValueError(f"{what} (mode {image.mode})")
    values = np.asarray(image, np.uint32)
    opaque = values != image.info.get("transparency", -1)
    both = np.stack([(values + 128) // 257, opaque * 255], -1).astype(np.uint8)
    return Image.fromarray(both).convert("RGBA")


def opened(file: BinaryIO) -> Image.Image:
    """Pillow's image, whose pixels are not read yet."""
    try:
        return Image.open(file, "r", FORMATS)
    except UnidentifiedImageError:
        raise ValueError(f"none of {', '.join(FORMATS)}") from None


# What pixels need


def attempts(file: BinaryIO) -> Iterator[BinaryIO]:
    """A file as it is, then with its metadata taken out as far as they are known."""
    head = file.read(12)
    if head.startswith(PNG):
        yield whole_chunks(file, only_pixels=False)
        yield whole_chunks(file, only_pixels=True)
        return
    yield file
    file.seek(0)
    if head.startswith((b"II*\0", b"MM\0*")):
        yield BytesIO(without_tags(bytearray(file.read())))
    if head[4:] == b"ftypavif":
        yield BytesIO(file.read().replace(b"Exif", b"free", 1))


def whole_chunks(file: BinaryIO, only_pixels: bool) -> BytesIO:
    """A PNG without its damaged chunks, or with those alone that pixels need.

    ValueError if one of these is damaged: a decoder may not notice (PNG 5.4).
    """
    file.seek(len(PNG))
    parts = [PNG]
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        data, check = file.read(length), file.read(4)
        needed = kind == b"tRNS" or kind[:1].isupper()
        whole = check == struct.pack(">I", zlib.crc32(kind + data))
        if kind == b"IEND":
            break
        if not kind.isalpha() or (needed and not whole):
            raise ValueError("truncated or damaged")
        if whole and (needed or not only_pixels):
            parts += [head, data, check]
    return BytesIO(b"".join(parts) + b"\0\0\0\0IEND\xaeB`\x82")


def without_tags(tiff: bytearray) -> bytearray:
    """A TIFF whose tags that no pixel needs hold a zero, instead of what is elsewhere.

    ValueError if its directory (TIFF 6.0, section 2) is not in it.
    """
    order = "<" if tiff.startswith(b"II") else ">"
    try:
        (start,) = struct.unpack_from(f"{order}I", tiff, 4)
        (entries,) = struct.unpack_from(f"{order}H", tiff, start)
        for at in range(start + 2, start + 2 + 12 * entries, 12):
            (tag,) = struct.unpack_from(f"{order}H", tiff, at)
            if tag not in PIXEL_TAGS:
                struct.pack_into(f"{order}HII", tiff, at + 2, 1, 1, 0)  # a BYTE
    except struct.error as problem:
        raise ValueError("truncated or damaged") from problem
    return tiff


# Sizes


def original(image: Image.Image, size: int) -> Image.Image:
    """Enlarged pixel art as small as it must be to fit, if whole blocks allow it.

    Its colours change at multiples of k alone: then a block of k × k is one pixel.
    """
    side = max(image.size)
    if side <= size:
        return image
    pixels = np.asarray(image).reshape(image.height, image.width, -1)
    k = int(np.gcd.reduce([*image.size, *edges(pixels)]))
    if k > 1:
        k = int(np.gcd.reduce([k, *edges(pixels.swapaxes(0, 1))]))
    fitting = [d for d in range(1, k + 1) if k % d == 0 and side <= d * size]
    d = fitting[0] if fitting else 1
    return image.resize([n // d for n in image.size], Image.Resampling.NEAREST)


def edges(rows: np.ndarray) -> np.ndarray:
    """Where a row differs from the one before it."""
    return np.flatnonzero((rows[1:] != rows[:-1]).any((1, 2))) + 1


def fitted(image: Image.Image, size: int, background: str) -> Image.Image:
    """The image in the middle of a square of this size."""
    side = max(image.size)
    if side <= size:
        k = size // side
        image = image.resize([n * k for n in image.size], Image.Resampling.NEAREST)
        return centred(image, size, 1, background)
    block = side // size if side % size == 0 else 1  # of a photograph of pixel art
    square = centred(image, side, block, background)
    return square.resize((size, size), Image.Resampling.BOX)


def centred(image: Image.Image, side: int, block: int, background: str) -> Image.Image:
    """The image in the middle of a square; blocks of so many pixels stay whole."""
    step = block if all(n % block == 0 for n in image.size) else 1
    place = tuple((side - n) // 2 // step * step for n in image.size)
    square = Image.new("RGB", (side, side), background).convert(image.mode)
    square.paste(image, place)
    return square
