"""The pixels of picture files that are masks, as the numbers or colors that they hold, and masks by their names."""

import os
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ssl_colorize.data.images import MAX_PIXELS, exif_orientation, gray_depth
from ssl_colorize.data.orientation import turn_pixels
from ssl_colorize.data.walk import is_photo_name
from ssl_colorize.errors import UserError

Pixels = NDArray[np.integer]

_EXACT = ("PNG", "BMP", "DIB", "GIF", "TIFF", "PPM", "TGA")  # formats that keep a pixel's value

# What may stand between the name of a photo and the suffix of its mask.
_ENDINGS = tuple(
    mark + word
    for word in ("mask", "masks", "L", "label", "labels", "labelIds", "gt", "seg", "segmentation")
    for mark in ("_", "-", ".")
)


class Raw(NamedTuple):
    """The pixels of a file."""

    numbers: tuple[Pixels, ...] = ()  # (H, W) as numbers, the likeliest reading first; none of colors
    colors: Pixels | None = None  # (H, W) as `packed` has them, of a picture in colors
    palette: tuple[int, ...] | None = None  # colors of numbers 0, 1, ..., where they are not all gray

    def levels(self) -> tuple[Pixels, ...]:
        """The grays that a palette gives the numbers, where it gives all of them one."""
        grays = [color & 255 if color == (color & 255) * 0x010101 else -1 for color in self.palette or ()]
        table = dict(enumerate(grays))
        usable = bool(grays) and all(table.get(number, -1) >= 0 for number in seen_in(self.numbers[0]))
        return (through(self.numbers[0], table),) if usable else ()

    def values(self) -> list[int]:
        pixels = self.numbers[0] if self.numbers else self.colors
        assert pixels is not None
        return seen_in(pixels)


def open_pixels(path: str, *, exif: bool) -> tuple[Raw, str, int]:
    """A mask's pixels; its format if that blurs values, else ""; and the EXIF orientation that it was turned by."""
    with warnings.catch_warnings(action="ignore"), Image.open(path) as picture:
        if picture.width * picture.height > MAX_PIXELS:
            raise ValueError(f"{picture.width} x {picture.height} pixels are too many")
        kind, bits = picture.format or "", gray_depth(picture)
        picture.load()
        squeezed = "jpeg" in str(picture.info.get("compression", "")).lower()
        blurred = "" if kind in _EXACT and not squeezed else f"{kind}{' of TIFF' if squeezed else ''}"
        orientation = exif_orientation(picture) if exif else 1
        return _raw(picture, orientation, bits), blurred, orientation


def _raw(picture: Image.Image, orientation: int, bits: int) -> Raw:
    mode = picture.mode
    pixels = np.asarray(picture)

    def upright(values: NDArray[np.generic]) -> Pixels:
        whole = values if values.dtype in (np.uint8, np.uint16) else values.astype(np.int64)
        return turn_pixels(whole, orientation)

    if mode == "1":
        ones = upright(pixels)
        return Raw((ones, ones * 255))
    if mode in ("P", "PA"):
        numbers = upright(pixels if mode == "P" else pixels[..., 0])
        flat = np.reshape(picture.getpalette("RGB") or [], (-1, 3)).astype(np.int64)
        colors = (flat[:, 0] << 16 | flat[:, 1] << 8 | flat[:, 2]).tolist()
        if colors == [gray * 0x010101 for gray in range(len(colors))]:
            return Raw((numbers,))
        return Raw((numbers,), palette=tuple(colors))
    if mode == "L" and bits < 8:
        # Pillow spreads the numbers of 2 and of 4 bits over the grays.
        return Raw((upright(pixels // (255 // ((1 << bits) - 1))), upright(pixels)))
    if mode in ("L", "LA") or mode == "I" or mode.startswith("I;16"):
        return Raw((upright(pixels) if mode != "LA" else upright(_painted(pixels[..., 0], pixels[..., 1])),))
    if mode == "F":
        if not np.isfinite(pixels).all() or (pixels != np.rint(pixels)).any():
            raise ValueError("its pixels are fractions, not class numbers")
        return Raw((upright(pixels),))
    if mode in ("RGB", "RGBA"):
        red, green, blue = (pixels[..., channel].astype(np.int64) for channel in range(3))
        coded = red << 16 | green << 8 | blue
        painted = upright(_painted(coded, pixels[..., 3]) if mode == "RGBA" else coded)
        gray = np.array_equal(painted, (painted & 255) * 0x010101)
        return Raw((painted & 255,) if gray else (), painted)
    raise ValueError(f"its pixels are {mode}, neither class numbers nor RGB colors")


def _painted(codes: NDArray[np.generic], alpha: NDArray[np.generic]) -> Pixels:
    """Pixels with nothing where they are transparent; a channel that is the same everywhere says nothing."""
    values = codes.astype(np.int64)
    hidden = alpha == 0
    if hidden.any() and not hidden.all():
        under = set(np.unique(values[hidden]).tolist())
        if len(under) > 1 or (under != {0} and under & set(np.unique(values[~hidden]).tolist())):
            raise ValueError("it is transparent where it has colors: save it without transparency")
        values = np.where(hidden, 0, values)
    return values


class MaskFolder:
    """The masks in a folder, by the names of their photos."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        found: dict[str, list[str]] = {}
        with os.scandir(folder) as entries:
            for entry in entries:
                if is_photo_name(entry.name) and not entry.name.startswith("."):
                    found.setdefault(entry.name.rpartition(".")[0], []).append(entry.path)
        self._found = found

    def __contains__(self, stem: str) -> bool:
        return any(name in self._found for name in self._names(stem))

    def path(self, stem: str) -> str:
        """The mask of a photo: NAME.png, or another suffix, or NAME_mask.png and the like.

        Raises:
            UserError: there are several.
        """
        for name in self._names(stem):
            files = sorted(self._found.get(name, ()))
            exact = [file for file in files if not file.lower().endswith((".jpg", ".jpeg", ".webp", ".avif"))]
            if len(exact) > 1:
                raise UserError(f"{exact[0]} and {Path(exact[1]).name} are both the mask of {stem}: leave one there.")
            if files:
                return (exact or files)[0]
        return str(self.folder / f"{stem}.png")

    @staticmethod
    def _names(stem: str) -> Iterable[str]:
        yield stem
        yield from (stem + ending for ending in (*_ENDINGS, ".jpg", ".jpeg", ".png"))


# ---- numbers ---------------------------------------------------------------------------------------------------------


def seen_in(codes: Pixels) -> list[int]:
    """Which numbers there are, in order."""
    if _few(codes):
        return np.flatnonzero(np.bincount(codes.ravel())).tolist()  # without sorting
    found: list[int] = np.unique(codes).tolist()
    return found


def _few(codes: Pixels) -> bool:
    """Whether a table by number is small."""
    return bool(codes.size) and int(codes.min()) >= 0 and int(codes.max()) <= 0xFFFF


def through(numbers: Pixels, table: dict[int, int]) -> Pixels:
    """Each number as what a table has for it."""
    if _few(numbers):
        # What is beyond the table is nowhere in the numbers.
        short = np.zeros(int(numbers.max()) + 1, np.int64)
        keys = [key for key in table if 0 <= key < len(short)]
        short[keys] = [table[key] for key in keys]
        return short[numbers]
    keys = sorted(table)
    return np.asarray([table[key] for key in keys], np.int64)[np.searchsorted(keys, numbers)]
