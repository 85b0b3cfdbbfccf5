"""The eight ways that EXIF says a photo is stored, and what each does to boxes and masks that were drawn on it."""

from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ssl_colorize.data.images import Header

# On which of a photo's two forms something was drawn: as it is shown, as it is stored, one of the two, or neither.
Frame = Literal["upright", "stored", "either", "neither"]


def stored_size(header: Header) -> tuple[int, int]:
    """Width and height in pixels of a photo before it is turned upright."""
    return header.size[::-1] if header.orientation >= 5 else header.size


def frame_of(size: tuple[int, int] | None, header: Header) -> Frame:
    """Which form of a photo an annotation belongs to, by the width and height that it was made at.

    >>> frame_of((30, 40), Header((40, 30), 6)), frame_of((40, 30), Header((40, 30), 6))
    ('stored', 'upright')
    >>> frame_of((30, 30), Header((30, 30), 6)), frame_of((40, 30), Header((40, 30), 3))
    ('either', 'either')
    """
    stored = stored_size(header)
    if size is not None and size not in (header.size, stored):
        return "neither"
    if header.orientation == 1:
        return "upright"
    if size is None or header.size == stored:
        return "either"
    return "upright" if size == header.size else "stored"


def prevailing(frames: Iterable[tuple[Frame, Header]]) -> Frame:
    """What to take annotations for that do not tell: "stored" if all those of the set that tell are, else "upright".

    >>> turned = Header((30, 40), 6)
    >>> prevailing([("stored", turned), ("either", Header((40, 30), 3))]), prevailing([("either", turned)])
    ('stored', 'upright')
    """
    told = {frame for frame, header in frames if header.orientation != 1 and frame != "either"}
    return "stored" if told == {"stored"} else "upright"


def turn_corners(corners: NDArray[np.float32], header: Header) -> NDArray[np.float32]:
    """Boxes (K, 4) of the stored photo, in its pixels, as boxes of the upright one.

    >>> turn_corners(np.array([[1, 2, 5, 4]], np.float32), Header((30, 40), 6)).tolist()
    [[26.0, 1.0, 28.0, 5.0]]
    """
    width, height = stored_size(header)
    left, top, right, bottom = corners.T
    if header.orientation in (2, 3, 7, 8):
        left, right = width - right, width - left
    if header.orientation in (3, 4, 6, 7):
        top, bottom = height - bottom, height - top
    if header.orientation >= 5:
        left, top, right, bottom = top, left, bottom, right
    return np.stack((left, top, right, bottom), axis=1).astype(np.float32)


def turn_pixels(values: NDArray[Any], orientation: int) -> NDArray[Any]:
    """A mask (H, W) of the stored photo as one of the upright photo.

    >>> turn_pixels(np.array([[1, 2, 3]], np.uint8), 6).tolist()
    [[1], [2], [3]]
    """
    turned = values
    if orientation in (2, 3, 7, 8):
        turned = turned[:, ::-1]
    if orientation in (3, 4, 6, 7):
        turned = turned[::-1]
    return np.ascontiguousarray(turned.T if orientation >= 5 else turned)
