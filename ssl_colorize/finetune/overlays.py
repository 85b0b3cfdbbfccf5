"""Boxes and masks drawn on photos, and words under them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ssl_colorize.data.annotations import IGNORED
from ssl_colorize.pictures import INK, PAPER, fit

Color = tuple[int, int, int]

RIGHT: Color = (46, 158, 91)
WRONG: Color = (209, 73, 91)
PLAIN: Color = (66, 133, 214)
NOT_COUNTED: Color = (140, 140, 148)

SIDE = 320  # long side in pixels that photos are drawn at
_FONT = 13  # px
_STRENGTH = 0.6  # of a class's color on the photo under it


class Mark(NamedTuple):
    """A box to draw."""

    corners: Sequence[float]  # left, top, right, bottom in pixels of the photo
    text: str
    color: Color


def draw_boxes(photo: Image.Image, marks: Sequence[Mark], *, side: int = SIDE) -> Image.Image:
    """The photo with boxes and their texts, its long side `side` pixels long; the last mark is on top."""
    scale = side / max(photo.size)
    drawn = fit(photo, side)
    draw = ImageDraw.Draw(drawn)
    font = ImageFont.load_default(_FONT)
    for corners, _, color in marks:
        left, top, right, bottom = (round(each * scale) for each in corners)
        draw.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), outline=color, width=2)
    for corners, text, color in marks:
        _label(draw, text, (round(corners[0] * scale), round(corners[1] * scale)), color, drawn.size, font)
    return drawn


def _label(
    draw: ImageDraw.ImageDraw, text: str, at: tuple[int, int], color: Color, size: tuple[int, int],
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:  # fmt: skip
    """White text on the color, its upper left corner at a point, moved so that it is inside the picture."""
    width, height = round(draw.textlength(text, font=font)) + 6, _FONT + 4
    left, top = (max(0, min(where, side - own)) for where, side, own in zip(at, size, (width, height), strict=True))
    draw.rectangle((left, top, left + width, top + height), fill=color)
    draw.text((left + 3, top + height / 2), text, font=font, fill="white", anchor="lm")


def class_color(number: int) -> Color:
    """VOC's color of a class: the bits of its number, spread over red, green and blue; the background is black.

    >>> class_color(0), class_color(1), class_color(15)
    ((0, 0, 0), (128, 0, 0), (192, 128, 128))
    """
    red = green = blue = 0
    for place in range(8):
        red |= (number & 1) << (7 - place)
        green |= (number >> 1 & 1) << (7 - place)
        blue |= (number >> 2 & 1) << (7 - place)
        number >>= 3
    return red, green, blue


def draw_mask(photo: Image.Image, mask: NDArray[np.uint8], classes: Sequence[str], *, side: int = SIDE) -> Image.Image:
    """The photo under the colors of its classes, which are named; the background is as it is, only paler.

    Args:
        mask: (H, W) of the photo's size; IGNORED is white.
    """
    colors = np.zeros((256, 3), np.float32)
    colors[: len(classes)] = [class_color(number) for number in range(len(classes))]
    colors[IGNORED] = 255
    strength = np.full(256, _STRENGTH, np.float32)
    strength[0] = 0.35
    weight = strength[mask][..., None]
    pixels = np.asarray(photo.convert("RGB"), np.float32)
    mixed = Image.fromarray(((1 - weight) * pixels + weight * colors[mask]).round().astype(np.uint8))
    drawn = fit(mixed, side)
    counts = np.bincount(mask.ravel(), minlength=256)
    draw, font = ImageDraw.Draw(drawn), ImageFont.load_default(_FONT)
    shown = [number for number in np.argsort(-counts, kind="stable") if 0 < number < len(classes) and counts[number]]
    for place, number in enumerate(shown[:6]):
        _label(draw, classes[number], (0, place * (_FONT + 5)), class_color(int(number)), drawn.size, font)
    return drawn


def captioned(picture: Image.Image, lines: Sequence[str], *, side: int) -> Image.Image:
    """A picture fitted into a square of `side` pixels, with lines of text under it, each shortened to fit."""
    fitted = fit(picture, side)
    font = ImageFont.load_default(max(11, side // 17))
    step = max(14, side // 13)
    whole = Image.new("RGB", (side, side + step * len(lines)), PAPER)
    whole.paste(fitted, ((side - fitted.width) // 2, side - fitted.height))
    draw = ImageDraw.Draw(whole)
    for number, line in enumerate(lines):
        shown = line
        while draw.textlength(shown, font=font) > side and len(shown) > 1:
            shown = shown[:-2] + "…"
        draw.text((side / 2, side + step * (number + 0.5)), shown, font=font, fill=INK, anchor="mm")
    return whole
