"""Any photo file in, an upright 8-bit sRGB picture out."""

import os
import stat
import warnings
from functools import cache
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from ssl_colorize.data.deep import (
    Deep,
    alpha_is_unexplained,
    deep_colors,
    deep_grays,
    deep_tiff,
    is_tiff,
    tiff_size,
    with_true_palette,
)
from ssl_colorize.data.profiles import chunk_profile, samples_to_srgb, to_srgb
from ssl_colorize.data.walk import HEIF_SUFFIXES
from ssl_colorize.errors import UserError, printable

# 178 megapixels: above any camera's single frame, and 0.5 GiB once decoded.
MAX_PIXELS = 178_956_970

# Formats that hold photos. Pillow knows others, among them EPS, which it opens by running an interpreter on the file.
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "MPO", "AVIF", "JPEG2000", "PPM")

_ORIENTATION_TAG = 274
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class UnreadablePhoto(UserError):
    """A file that is no usable photo. The message is one line, `file: reason`."""

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


def read_photo(source: Path | str | BinaryIO, *, short_side: int | None = None) -> Image.Image:
    """Decode a photo to mode RGB: upright, in sRGB, 8 bits a channel, the first frame, transparency laid on white.

    An embedded color profile, or what a PNG's gAMA and cHRM say, is converted, and ignored if it is broken or of
    another color space. 16 bits a channel are kept until then, and rounded once. The result carries no metadata: what
    was embedded no longer describes it.

    Args:
        source: a path, or a binary file that can seek.
        short_side: the short side in pixels that is needed. A large JPEG then decodes faster, to a smaller picture
            whose short side is still at least this.

    Raises:
        UnreadablePhoto: the file is missing, truncated, not a photo, of pixels whose range is not known (floats,
            signed or 32-bit integers), or larger than MAX_PIXELS. The size is read from the header, so that a
            decompression bomb costs nothing.

    >>> Image.new("LA", (4, 2)).save("faded.png")
    >>> photo = read_photo("faded.png")
    >>> photo.mode, photo.size, photo.getpixel((0, 0))
    ('RGB', (4, 2), (255, 255, 255))
    """
    name = source if isinstance(source, (str, Path)) else getattr(source, "name", "photo")
    try:
        # Damaged EXIF or TIFF tags make Pillow warn about things that do not matter to the pixels.
        with warnings.catch_warnings(action="ignore"):
            try:
                opened = _open(source)
            except UnidentifiedImageError:
                return _other_tiff(source)
            with opened as image:
                return _decoded(image, source, short_side)
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged bytes.
        raise UnreadablePhoto(f"{name}: {_reason(error)}") from None


def _open(source: Path | str | BinaryIO) -> Image.Image:
    # Opening a pipe would wait for whoever writes to it, perhaps for ever.
    if isinstance(source, str | Path):
        # Asked once and without a Path: small photos decode in half a millisecond.
        status = os.stat(source)  # noqa: PTH116
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
            raise ValueError("no file but a pipe, socket or device")
        if stat.S_ISREG(status.st_mode) and not status.st_size:
            raise ValueError("not a photo: 0 bytes")
        if str(source).lower().endswith(tuple(HEIF_SUFFIXES)) and not reads_heif():
            raise ValueError("HEIC is read after: pip install 'ssl-colorize[heif]'")
    return Image.open(source, formats=_formats())


def _decoded(image: Image.Image, source: Path | str | BinaryIO, short_side: int | None) -> Image.Image:
    """An opened picture as `read_photo` gives it."""
    _refuse_size(image.width, image.height)
    if short_side is not None:
        image.draft(None, (short_side, short_side))
    deep = deep_colors(image, source, _open)
    if deep is not None:
        return _turned(_rounded(deep, image), deep.orientation or exif_orientation(image))
    depth = gray_depth(image)
    image.load()
    return upright_srgb(image, depth=depth)


def _other_tiff(source: Path | str | BinaryIO) -> Image.Image:
    """A TIFF of a kind that Pillow does not know."""
    if not is_tiff(source):
        raise UnidentifiedImageError
    _refuse_size(*tiff_size(source)[:2])
    deep = deep_tiff(source)
    return _turned(_rounded(deep), deep.orientation)


def _refuse_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ValueError(f"{width} x {height} pixels are too many (at most {MAX_PIXELS:,})")


class Header(NamedTuple):
    """What the header of a photo's file says."""

    size: tuple[int, int]  # width and height in pixels of the upright photo
    orientation: int = 1  # how it is stored, as EXIF counts it: 1 upright, 2 to 8 mirrored or turned


def photo_size(source: Path | str) -> tuple[int, int]:
    """Width and height in pixels of a photo as `read_photo` gives it, from the file's header alone.

    Raises:
        UnreadablePhoto: the file is missing or not a photo.
    """
    return read_header(source).size


def read_header(source: Path | str) -> Header:
    """The size of a photo as `read_photo` gives it, and how it is stored.

    Raises:
        UnreadablePhoto: the file is missing or not a photo.
    """
    try:
        with warnings.catch_warnings(action="ignore"):
            return _header(source)
    except Exception as error:  # As in read_photo.
        raise UnreadablePhoto(f"{source}: {_reason(error)}") from None


def _header(source: Path | str) -> Header:
    try:
        with _open(source) as image:
            stored = exif_orientation(image)
            if image.format == "TIFF":
                image.load()  # Its reader turns pictures by itself, and says so only afterwards.
            width, height = image.size
            turned = exif_orientation(image) in (5, 6, 7, 8)
    except UnidentifiedImageError:
        if not is_tiff(source):
            raise
        width, height, stored = tiff_size(source)
        turned = stored in (5, 6, 7, 8)
    return Header((height, width) if turned else (width, height), stored if stored in _UPRIGHT else 1)


@cache
def _formats() -> tuple[str, ...]:
    """Those of the formats that this build of Pillow can open."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN) + (("HEIF",) if reads_heif() else ())


@cache
def reads_heif() -> bool:
    """Whether HEIC photos can be read: the extra [heif] is installed; Pillow then knows them."""
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


def upright_srgb(image: Image.Image, *, depth: int = 8) -> Image.Image:
    """Any loaded picture as upright sRGB, in a fresh picture of mode RGB without metadata.

    Args:
        image: of any of Pillow's modes.
        depth: bits that its grays had in a PNG, whose transparent color is a number of so many.

    Raises:
        ValueError: its numbers have no range that is known (floats, signed or 32-bit integers).
    """
    orientation = exif_orientation(image)
    deep = deep_grays(image)
    if deep is not None:
        return _turned(_rounded(deep, image), orientation)
    color, alpha = _layers(with_true_palette(image), depth)
    plain = to_srgb(color, _profile(image, gray=color.mode == "L"))
    if alpha is not None:
        plain = Image.composite(plain, Image.new("RGB", image.size, "white"), alpha)
    return _turned(plain, orientation)


def _turned(plain: Image.Image, orientation: int) -> Image.Image:
    """Upright, without metadata."""
    if orientation in _UPRIGHT:
        plain = plain.transpose(_UPRIGHT[orientation])
    plain.info.clear()
    return plain


def _rounded(deep: Deep, image: Image.Image | None = None) -> Image.Image:
    """16 bits a channel, of an opened picture, in sRGB, laid on white, and rounded."""
    profile = deep.profile
    if profile is None and image is not None:
        profile = _profile(image, gray=deep.color.shape[2] == 1)
    values = samples_to_srgb(deep.color, profile)
    if deep.alpha is not None:
        values += (255 - values) * (1 - deep.alpha[..., None] / np.float32(0xFFFF))
    return Image.fromarray((values + 0.5).astype(np.uint8))


def exif_orientation(image: Image.Image) -> int:
    """How a picture is stored, as EXIF counts it: 1 upright, 2 to 8 mirrored or turned; 1 where it does not say.

    To be asked after loading for what is left to do: the TIFF reader turns pictures by itself.
    """
    try:
        stored = image.getexif().get(_ORIENTATION_TAG)
    except Exception:  # Damaged EXIF says nothing about the pixels, which are fine.
        return 1
    return int(stored) if stored in _UPRIGHT else 1


def _profile(image: Image.Image, *, gray: bool) -> bytes | None:
    """The ICC profile of a picture: the embedded one, or what a PNG says of gamma and primaries."""
    embedded = image.info.get("icc_profile")
    if embedded:
        return embedded if isinstance(embedded, bytes) else None
    return chunk_profile(image.info, gray=gray) if "gamma" in image.info or "chromaticity" in image.info else None


def gray_depth(image: Image.Image) -> int:
    """Bits of a gray that Pillow spreads over 8, of a picture that is not loaded."""
    tiles = getattr(image, "tile", None)
    return {"L;2": 2, "L;4": 4}.get(tiles[0][3], 8) if tiles and image.format == "PNG" else 8


def _layers(image: Image.Image, depth: int) -> tuple[Image.Image, Image.Image | None]:
    """A picture's color (of mode L, RGB, CMYK or LAB) and alpha (L), None where it is opaque."""
    if image.mode == "La":
        image = image.convert("LA")
    if not image.has_transparency_data:
        modes = {"1": "L", "I": "L", "LAB": "LAB", "CMYK": "CMYK", "L": "L"}
        mode = modes.get(image.mode, "RGB")
        return (image if image.mode == mode else image.convert(mode)), None
    if image.mode in ("1", "L"):
        key = image.info["transparency"]
        # Pillow spreads the grays, but not the one that is transparent.
        scale = 255 // ((1 << depth) - 1) if image.mode == "L" else 1
        gray = image.convert("L")
        return gray, gray.point([0 if level == key * scale else 255 for level in range(256)])
    layers = image if image.mode == "LA" else image.convert("RGBA")
    alpha = layers.getchannel("A")
    color = layers.convert("L" if layers.mode == "LA" else "RGB")
    unexplained = alpha_is_unexplained(image)
    return color, None if unexplained and alpha.getextrema() == (0, 0) else alpha


def _reason(error: Exception) -> str:
    """What is wrong with the file, on one line."""
    if isinstance(error, UnidentifiedImageError):
        return "not a photo in a format known here"
    if isinstance(error, MemoryError):
        return "not enough memory to decode it"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split()) or type(error).__name__
