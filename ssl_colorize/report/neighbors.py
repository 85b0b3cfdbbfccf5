"""The picture of a kNN evaluation: queries, and the photos that the features find most like them."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageOps

from ssl_colorize.data import LabeledDataset, UnreadablePhoto
from ssl_colorize.evaluate.knn import Examples
from ssl_colorize.report.sheets import INK, photo_sheet

CELL = 128
BORDER = 6  # px
RIGHT, WRONG = (46, 158, 91), (209, 73, 91)


def neighbors_sheet(examples: Examples, path: Path) -> Path:
    """Write a PNG: a query a row, then its neighbors, with a green border where they share a class, else a red one."""
    rows = []
    for number, near in enumerate(examples.neighbors):
        query = _photo(examples.queries, number, INK)
        colors = [RIGHT if right else WRONG for right in examples.right[number]]
        rows.append([query, *(_photo(near, place, color) for place, color in enumerate(colors))])
    titles = ["query", *(str(place + 1) for place in range(examples.right.shape[1]))]
    photo_sheet(rows, titles, path, cell=CELL, groups=2 if len(rows) > 1 else 1)
    return path


def _photo(photos: LabeledDataset, index: int, color: tuple[int, int, int]) -> Image.Image:
    """The photo at the sheet's size, so that every border is as wide; a blank if it has gone since it was measured."""
    try:
        photo = photos.photos.read(index, short_side=2 * CELL)
    except UnreadablePhoto:
        photo = Image.new("RGB", (CELL, CELL), (230, 230, 230))
    scale = (CELL - 2 * BORDER) / max(photo.size)
    width, height = (max(1, round(side * scale)) for side in photo.size)
    return ImageOps.expand(photo.resize((width, height), Image.Resampling.LANCZOS), BORDER, color)
