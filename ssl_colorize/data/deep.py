"""Pictures of 16 bits a channel, all 16 of them: Pillow keeps them of grays alone.

Of colors it keeps the upper byte. The lower one comes by reading the file once more, in the other order of bytes.
Kinds of TIFF that Pillow does not know come from tifffile.
"""

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

Source = Path | str | BinaryIO
Opener = Callable[[Source], Image.Image]

_TOP = 0xFFFF
_BITS, _PHOTOMETRIC, _ORIENTATION, _SAMPLES, _PLANAR, _COLOR_MAP = 258, 262, 274, 277, 284, 320
_EXTRA, _SAMPLE_FORMAT, _PROFILE = 338, 339, 34675
_MIN_IS_WHITE, _MIN_IS_BLACK, _RGB, _SEPARATE, _ASSOCIATED, _SIGNED = 0, 1, 2, 2, 1, 2
# What Pillow calls the pixels of a file of 16 bits, in which order of bytes ("N" is the machine's, and libtiff's).
_RAW = re.compile(r"(RGB|RGBA|RGBa|RGBX|LA);16([BLN])")
_OTHER_ORDER = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}


@dataclass(frozen=True)
class Deep:
    """Samples of 16 bits.

    Attributes:
        color: (H, W, C), of 1 channel for gray or 3 for RGB, 0 is black.
        alpha: (H, W), 0xFFFF is opaque; None of what is opaque everywhere.
        profile: the embedded ICC profile.
        orientation: EXIF's number of how it lies.
    """

    color: NDArray[np.uint16]
    alpha: NDArray[np.uint16] | None = None
    profile: bytes | None = None
    orientation: Any = None


def deep_colors(image: Image.Image, source: Source, reopen: Opener) -> Deep | None:
    """The samples of an opened picture, not loaded yet, in which Pillow would lose some bits; None of all others.

    Args:
        image: nothing is loaded of it.
        source: that it was opened from.
        reopen: opens it once more.

    Raises:
        OSError, ValueError, SyntaxError: the file is damaged, as of Pillow.
    """
    if image.format not in ("PNG", "TIFF"):
        return None
    tags = getattr(image, "tag_v2", {})
    bits, samples_of_pixel = np.atleast_1d(tags.get(_BITS, 1)), tags.get(_SAMPLES, 1)
    if _SIGNED in np.atleast_1d(tags.get(_SAMPLE_FORMAT, 0)) and max(bits) <= 16:
        raise ValueError("signed pixels, whose range is not known: save it with unsigned ones")
    if tags.get(_PLANAR) == _SEPARATE and (samples_of_pixel == 2 or (samples_of_pixel > 1 and 16 in bits)):
        return deep_tiff(source)
    raw = _raw_mode(image)
    kind = _RAW.fullmatch(raw)
    if kind is None:
        return None
    channels, order = kind.groups()
    if channels == "LA":
        # Four bytes a pixel, as 8 bits of RGBA have them.
        samples: NDArray[np.uint16] = _bytes_as(image, "RGBA").view(">u2").astype(np.uint16)
    else:
        channels = channels.replace("a", "A")
        with reopen(source) as again:
            low = _bytes_as(again, f"{channels};16{_OTHER_ORDER[order]}")
        samples = (_bytes_as(image, f"{channels};16{order}").astype(np.uint16) << 8 | low).astype(np.uint16)
    if raw.startswith("RGBa"):
        return Deep(_divided(samples[..., :3], samples[..., 3]), samples[..., 3])
    if samples.shape[2] == 3:
        return Deep(samples, _keyed_out(samples, image.info.get("transparency")))
    color, alpha = samples[..., :-1], samples[..., -1]
    return Deep(color, None if alpha_is_unexplained(image) and not alpha.any() else alpha)


def deep_grays(image: Image.Image) -> Deep | None:
    """The samples of a loaded picture of one channel of more than 8 bits; None of all others.

    Raises:
        ValueError: what range they have is not known.
    """
    if image.mode == "F":
        raise ValueError("floating-point pixels, whose range is not known: save it with 8 or 16 bits")
    if image.mode != "I" and not image.mode.startswith("I;16"):
        return None
    values = np.asarray(image).astype(np.int64)[..., None]
    tags = getattr(image, "tag_v2", {})
    if values.min() < 0 or values.max() > _TOP:
        raise ValueError("32-bit pixels, whose range is not known: save it with 8 or 16 bits")
    samples = values.astype(np.uint16)
    if 12 in np.atleast_1d(tags.get(_BITS, 0)):
        samples = (values * _TOP // 0xFFF).astype(np.uint16)
    alpha = _keyed_out(samples, image.info.get("transparency"))
    return Deep(_TOP - samples if tags.get(_PHOTOMETRIC) == _MIN_IS_WHITE else samples, alpha)


def alpha_is_unexplained(image: Image.Image) -> bool:
    """Whether a fourth channel may be alpha or nothing: where it is 0 everywhere, it is nothing.

    So it is of BMP, whose fourth byte many programs leave 0, and of TIFF without a word on what is extra.
    """
    if image.format == "TIFF":
        return _EXTRA not in getattr(image, "tag_v2", {})
    return image.format in ("BMP", "DIB")


def with_true_palette(image: Image.Image) -> Image.Image:
    """A loaded picture; of a TIFF that has its palette in 8 bits, where TIFF has 16, a copy with the right one."""
    colors = getattr(image, "tag_v2", {}).get(_COLOR_MAP, ())
    if image.mode not in ("P", "PA") or not colors or max(colors) > 0xFF:
        return image
    palette = np.array(colors, np.uint8).reshape(3, -1).T
    brightened = image.copy()
    brightened.putpalette(palette.tobytes())
    return brightened


def _raw_mode(image: Image.Image) -> str:
    """What Pillow calls the pixels in the file."""
    tiles = getattr(image, "tile", None)
    if not tiles:
        return ""
    arguments = tiles[0][3]
    return str(arguments[0] if isinstance(arguments, tuple) else arguments)


def _bytes_as(image: Image.Image, raw: str) -> NDArray[np.uint8]:
    """Load a picture, taking the pixels in the file for others: (H, W, C)."""
    tiles: Any = image
    tiles.tile = [
        tile._replace(args=(raw, *tile.args[1:]) if isinstance(tile.args, tuple) else raw) for tile in tiles.tile
    ]
    image.load()
    return np.array(image)


def _divided(color: NDArray[np.uint16], alpha: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Colors that were multiplied with alpha as they were before."""
    whole = color.astype(np.float32) * _TOP / np.maximum(alpha, 1)[..., None]
    return whole.round().clip(0, _TOP).astype(np.uint16)


def _keyed_out(color: NDArray[np.uint16], key: Any) -> NDArray[np.uint16] | None:
    """Alpha of a picture one color of which is transparent."""
    if not isinstance(key, int | tuple):
        return None
    opaque: NDArray[np.bool_] = (color != np.array(key, np.int64)).any(axis=2)
    return np.where(opaque, np.uint16(_TOP), np.uint16(0))


# ---- what Pillow does not know of TIFF -------------------------------------------------------------------------------


def is_tiff(source: Source) -> bool:
    """Whether a file begins as TIFF does."""
    if isinstance(source, str | Path):
        with Path(source).open("rb") as file:
            return is_tiff(file)
    source.seek(0)
    return source.read(4) in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def tiff_size(source: Source) -> tuple[int, int, Any]:
    """Width and height of a TIFF as it is stored, and EXIF's orientation.

    Raises:
        ValueError, OSError: it is damaged.
    """
    with tifffile.TiffFile(source) as file:
        page: Any = file.pages[0]
        return page.imagewidth, page.imagelength, _tag(page, _ORIENTATION)


def deep_tiff(source: Source) -> Deep:
    """A TIFF of 8 or 16 bits a sample: gray or RGB, with alpha or without, of any layout; 8 are widened.

    Raises:
        ValueError: it is of another kind, damaged, or compressed in a way that needs the package imagecodecs.
    """
    with tifffile.TiffFile(source) as file:
        page: Any = file.pages[0]
        channels = {_MIN_IS_WHITE: 1, _MIN_IS_BLACK: 1, _RGB: 3}.get(page.photometric, 0)
        known = page.dtype in (np.uint8, np.uint16) and page.bitspersample == 8 * page.dtype.itemsize
        if not known or not 0 < channels <= page.samplesperpixel:
            what = f"{page.samplesperpixel} x {page.bitspersample} bits of {page.dtype}"
            raise ValueError(f"a TIFF of pixels not read here ({what}): save it as RGB or gray of 8 or 16 bits")
        samples = _decoded(page).reshape(page.shaped)
        extra, profile, orientation = page.extrasamples, _tag(page, _PROFILE), _tag(page, _ORIENTATION)
        separate, wide = page.planarconfig == _SEPARATE, 257 if page.bitspersample == 8 else 1
    # tifffile's own order: planes, depth, height, width, samples of a pixel.
    samples = (samples[:, 0, :, :, 0].transpose(1, 2, 0) if separate else samples[0, 0]).astype(np.uint16) * np.uint16(
        wide
    )
    color = samples[..., :channels]
    if page.photometric == _MIN_IS_WHITE:
        color = _TOP - color
    # An extra sample of no said meaning is no alpha.
    alpha = samples[..., channels] if extra and extra[0] in (1, 2) else None
    if alpha is not None and extra[0] == _ASSOCIATED:
        color = _divided(color, alpha)
    return Deep(color, alpha, profile, orientation)


def _decoded(page: Any) -> NDArray[Any]:
    try:
        values: NDArray[Any] = page.asarray()
    except KeyError as error:
        # What packages are missing to decompress it.
        raise ValueError(str(error.args[0])) from None
    return values


def _tag(page: Any, code: int) -> Any:
    tag = page.tags.get(code)
    return None if tag is None else tag.value
