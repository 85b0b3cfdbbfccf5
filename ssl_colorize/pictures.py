"""Pictures that this package makes and writes: sRGB, said so in the file, and signed, so that it knows them again."""

from __future__ import annotations

import io
import warnings
from functools import lru_cache
from pathlib import Path
from typing import Literal

from PIL import Image, ImageCms

PictureFormat = Literal["png", "jpg"]

PAPER = (255, 255, 255)
INK = (40, 40, 46)

SOFTWARE_TAG = 0x0131  # EXIF "Software"
SIGNATURE = "ssl-colorize"


# Of EXIF, what stays true of a photo in other colors: who, when, where and with what it was taken.
_KEPT = (0x010E, 0x010F, 0x0110, 0x0132, 0x013B, 0x8298)  # description, make, model, date, artist, copyright
_KEPT_INNER = (0x829A, 0x829D, 0x8827, 0x9003, 0x9004, 0x9010, 0x9011, 0x9012, 0x9291, 0x9292, 0x920A, 0xA432, 0xA434)
_INNER, _GPS = 0x8769, 0x8825

# libjpeg's.
LONGEST_JPEG = 65_500


def kept_exif(path: Path) -> Image.Exif:
    """What a photo's EXIF says of who took it, when, where and with what; nothing of how its pixels are stored.

    Its orientation, thumbnail and maker's notes are of the file that they were in.
    """
    kept = Image.Exif()
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path) as photo:
            found = photo.getexif()
            kept.update({tag: found[tag] for tag in _KEPT if tag in found})
            inner = {tag: value for tag, value in found.get_ifd(_INNER).items() if tag in _KEPT_INNER}
            for place, values in ((_INNER, inner), (_GPS, found.get_ifd(_GPS))):
                if values:
                    kept.get_ifd(place).update(values)
            kept.tobytes()  # damaged values fail here
    except Exception:  # Damaged EXIF says nothing about the pixels, which are fine.
        return Image.Exif()
    return kept


def encode(picture: Image.Image, kind: PictureFormat, exif: Image.Exif | None = None) -> bytes:
    """A picture as the bytes of a PNG (exact) or JPEG (quality 95, colors at full resolution) file in sRGB.

    `exif` goes into the file, signed.
    """
    exif = Image.Exif() if exif is None else exif
    exif[SOFTWARE_TAG] = SIGNATURE
    encoded = io.BytesIO()
    if kind == "png":
        # Level 3 takes about half the time of the usual 6, for some per cent of size.
        picture.save(encoded, format="PNG", exif=exif, icc_profile=_srgb_profile(), compress_level=3)
    else:
        picture.save(encoded, format="JPEG", exif=exif, icc_profile=_srgb_profile(), quality=95, subsampling=0)
    return encoded.getvalue()


def made_here(path: Path) -> bool:
    """Whether a file is a picture that `encode` made; False for anything else, readable or not."""
    if not path.is_file():  # a pipe would be waited for
        return False
    try:
        with Image.open(path) as picture:
            return bool(picture.getexif().get(SOFTWARE_TAG) == SIGNATURE)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False


def fit(picture: Image.Image, side: int) -> Image.Image:
    """The picture in RGB with its long side `side` pixels long.

    >>> fit(Image.new("L", (100, 50)), 30).size
    (30, 15)
    """
    scale = side / max(picture.size)
    width, height = (max(1, round(each * scale)) for each in picture.size)
    return picture.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)


@lru_cache
def _srgb_profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
