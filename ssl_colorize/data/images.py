"""Any photo file in, an upright 8-bit sRGB picture out."""

import warnings
from functools import cache, lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError

from ssl_colorize.errors import UserError

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


def read_photo(source: Path | str | BinaryIO, *, short_side: int | None = None) -> Image.Image:
    """Decode a photo to mode RGB: upright, in sRGB, 8 bits a channel, the first frame, transparency laid on white.

    An embedded color profile is converted, and ignored if it is broken. 16-bit grays are scaled, not clipped. The
    result carries no metadata: what was embedded no longer describes it.

    Args:
        source: a path, or a binary file that can seek.
        short_side: the short side in pixels that is needed. A large JPEG then decodes faster, to a smaller picture
            whose short side is still at least this.

    Raises:
        UnreadablePhoto: the file is missing, truncated, not a photo, or larger than MAX_PIXELS. The size is read
            from the header, so that a decompression bomb costs nothing.

    >>> Image.new("LA", (4, 2)).save("faded.png")
    >>> photo = read_photo("faded.png")
    >>> photo.mode, photo.size, photo.getpixel((0, 0))
    ('RGB', (4, 2), (255, 255, 255))
    """
    name = source if isinstance(source, (str, Path)) else getattr(source, "name", "photo")
    try:
        # Damaged EXIF or TIFF tags make Pillow warn about things that do not matter to the pixels.
        with warnings.catch_warnings(action="ignore"), Image.open(source, formats=_formats()) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"{image.width} x {image.height} pixels are too many (at most {MAX_PIXELS:,})")
            if short_side is not None:
                image.draft(None, (short_side, short_side))
            image.load()
            return upright_srgb(image)
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged bytes.
        raise UnreadablePhoto(f"{name}: {_reason(error)}") from None


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
        with warnings.catch_warnings(action="ignore"), Image.open(source, formats=_formats()) as image:
            stored = _orientation(image)
            if image.format == "TIFF":
                image.load()  # Its reader turns pictures by itself, and says so only afterwards.
            width, height = image.size
            turned = _orientation(image) in (5, 6, 7, 8)
    except Exception as error:  # As in read_photo.
        raise UnreadablePhoto(f"{source}: {_reason(error)}") from None
    return Header((height, width) if turned else (width, height), stored if stored in _UPRIGHT else 1)


@cache
def _formats() -> tuple[str, ...]:
    """Those of the formats that this build of Pillow can open."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def upright_srgb(image: Image.Image) -> Image.Image:
    """Any loaded picture as upright sRGB, in a fresh picture of mode RGB without metadata."""
    orientation = _orientation(image)
    profile = image.info.get("icc_profile")
    image = _eight_bits(image)
    if image.has_transparency_data:
        layers = image if image.mode == "LA" else image.convert("RGBA")
        color = _to_srgb(layers.convert("L" if layers.mode == "LA" else "RGB"), profile)
        white = Image.new("RGB", image.size, "white")
        plain = Image.composite(color, white, layers.getchannel("A"))
    else:
        plain = _to_srgb(image, profile)
    if orientation in _UPRIGHT:
        plain = plain.transpose(_UPRIGHT[orientation])
    plain.info.clear()
    return plain


def _orientation(image: Image.Image) -> Any:
    """The EXIF orientation, None without one. To be asked after loading: the TIFF reader turns pictures by itself."""
    try:
        return image.getexif().get(_ORIENTATION_TAG)
    except Exception:  # Damaged EXIF says nothing about the pixels, which are fine.
        return None


def _eight_bits(image: Image.Image) -> Image.Image:
    """Bring 1-bit and 16-bit grays to 8 bits and palettes to colors; others are left as they are."""
    if image.mode == "1":
        return image.convert("L")
    if image.mode == "P" and not image.has_transparency_data:
        return image.convert("RGB")
    if image.mode == "I" or image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 0xFFFF:
            raise ValueError("32-bit pixels, whose range is not known")
        return Image.fromarray(((values * 255 + 0x7FFF) // 0xFFFF).astype(np.uint8))
    if image.mode == "F":
        raise ValueError("floating-point pixels, whose range is not known")
    return image


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """A new RGB picture, through the embedded profile where there is a usable one."""
    transform = _srgb_transform(profile, image.mode) if profile else None
    if transform is not None:
        converted = ImageCms.applyTransform(image, transform)
        assert converted is not None  # only an in-place conversion returns nothing
        return converted
    # convert() copies where it has nothing to do, which also cuts the picture loose from its file.
    return image.convert("RGB")


@lru_cache(maxsize=8)
def _srgb_transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """From a profile to sRGB; None where the profile is broken, made for another mode, or sRGB already."""
    try:
        opened = ImageCms.ImageCmsProfile(BytesIO(profile))
        if ImageCms.getProfileDescription(opened).startswith("sRGB"):
            return None
        return ImageCms.buildTransform(opened, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None


def _reason(error: Exception) -> str:
    """What is wrong with the file, on one line."""
    if isinstance(error, UnidentifiedImageError):
        return "not a photo in a format known here"
    if isinstance(error, MemoryError):
        return "not enough memory to decode it"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split()) or type(error).__name__
