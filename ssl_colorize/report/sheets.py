"""Sheets of photos: the same photos under several titles, side by side.

Photos are fitted into square cells with their aspect kept; a line of the sheet is only as high as its highest photo,
so landscape photos leave no gaps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from ssl_colorize.colorize import Colorizer, gray
from ssl_colorize.data import Photos, UnreadablePhoto
from ssl_colorize.data.annotations import IGNORED
from ssl_colorize.finetune.overlays import RIGHT, WRONG, captioned, draw_mask
from ssl_colorize.pictures import INK, PAPER, encode, fit
from ssl_colorize.pretrain.photos import held_out_by
from ssl_colorize.runs import write_atomically

if TYPE_CHECKING:
    from ssl_colorize.data import LabeledDataset
    from ssl_colorize.evaluate.knn import Examples
    from ssl_colorize.evaluate.retrieval import RetrievedLayer
    from ssl_colorize.evaluate.segment import SegmentedExamples
    from ssl_colorize.finetune.tasks import Sheet
    from ssl_colorize.pretrain.config import Recipe

# Long sides in pixels: of a colored sample, enough for a dense screen; of a neighbor, in whose border lies the answer;
# of a task's pictures, at most.
_SAMPLE, _NEIGHBOR, _LARGEST = 192, 128, 400
_BORDER = 6  # px


def _draw_titles(sheet: Image.Image, titles: Sequence[str], *, lefts: Sequence[float], cell: int, top: float) -> None:
    """Write each title centered over its column, all in one size: the largest at which the longest fits its cell."""
    draw = ImageDraw.Draw(sheet)
    size = float(_title_size(cell))
    widest = max(draw.textlength(title, font=ImageFont.load_default(size)) for title in titles)
    font = ImageFont.load_default(min(size, size * cell / max(widest, 1.0)))
    for title, left in zip(titles, lefts, strict=True):
        draw.text((left + cell / 2, top), title, font=font, fill=INK, anchor="mm")


def _title_size(cell: int) -> int:
    return max(11, min(28, cell // 11))


def photo_sheet(
    rows: Sequence[Sequence[Image.Image]],
    titles: Sequence[str],
    path: str | Path,
    *,
    cell: int = 192,
    groups: int = 1,
) -> None:
    """Write a PNG sheet of photos in columns with a title each.

    Args:
        rows: photos of any size and mode; every row has one for each title.
        titles: a title for each column.
        path: the PNG to write, atomically.
        cell: the long side of a photo on the sheet, in pixels.
        groups: how many rows stand beside each other on one line of the sheet (2 turns eight rows of three photos
            into four lines of six), each group under titles of its own.

    Raises:
        ValueError: there are no rows, or a row does not have one photo for each title.
    """
    if not rows or not titles or any(len(row) != len(titles) for row in rows):
        raise ValueError(f"every row of a sheet needs {len(titles)} photos; got rows of {[len(row) for row in rows]}")
    groups = min(groups, len(rows))
    lines = [rows[start : start + groups] for start in range(0, len(rows), groups)]
    gap, between, margin = max(4, cell // 32), max(12, cell // 8), max(12, cell // 12)
    group_width = len(titles) * (cell + gap) - gap
    lefts = [margin + g * (group_width + between) + t * (cell + gap) for g in range(groups) for t in range(len(titles))]
    cells = [[fit(photo, cell) for row in line for photo in row] for line in lines]
    heights = [max(photo.height for photo in line) for line in cells]
    header = margin + _title_size(cell) * 3 // 2
    height = header + sum(heights) + gap * (len(lines) - 1) + margin

    sheet = Image.new("RGB", (lefts[-1] + cell + margin, height), PAPER)
    _draw_titles(sheet, list(titles) * groups, lefts=lefts, cell=cell, top=(header + margin / 2) / 2)
    top = header
    for line, line_height in zip(cells, heights, strict=True):
        for photo, left in zip(line, lefts, strict=False):  # the last line may be short of a group
            sheet.paste(photo, (left + (cell - photo.width) // 2, top))
        top += line_height + gap
    write_atomically(Path(path), encode(sheet, "png"))


# ---- sheets of runs --------------------------------------------------------------------------------------------------


def samples_sheet(folder: Path, recipe: Recipe, *, count: int = 8) -> Path:
    """Color some of a run's held-out photos and write samples.png into its folder; returns the path.

    The photos are spread evenly over the held-out set, whatever they look like.

    Raises:
        UserError: the folder holds no network, or the photos are no longer there.
    """
    held_out = held_out_by(folder, recipe)
    colorizer = Colorizer.load(folder, device=recipe.device)
    rows = [(gray(photo), colorizer.colorize(photo), photo) for photo in _spread(held_out, count)]
    path = folder / "samples.png"
    if rows:
        photo_sheet(rows, ("gray", "predicted", "true"), path, cell=_SAMPLE, groups=2)
    return path


def _spread(photos: Photos, count: int) -> list[Image.Image]:
    """Up to `count` readable photos at even distances, no larger than the sheet needs."""
    count = min(count, len(photos))
    chosen = []
    for place in range(count):
        try:
            photo = photos.read((2 * place + 1) * len(photos) // (2 * count), short_side=2 * _SAMPLE)
        except UnreadablePhoto:
            continue
        photo.thumbnail((4 * _SAMPLE, 4 * _SAMPLE))
        chosen.append(photo)
    return chosen


def neighbors_sheet(examples: Examples, path: Path) -> Path:
    """Write a PNG: a query a row, then its neighbors, with a green border where they share a class, else a red one."""
    rows = []
    for number, near in enumerate(examples.neighbors):
        query = _bordered(examples.queries, number, INK)
        colors = [RIGHT if right else WRONG for right in examples.right[number]]
        rows.append([query, *(_bordered(near, place, color) for place, color in enumerate(colors))])
    titles = ["query", *(str(place + 1) for place in range(examples.right.shape[1]))]
    photo_sheet(rows, titles, path, cell=_NEIGHBOR, groups=2 if len(rows) > 1 else 1)
    return path


def retrieval_sheet(layer: RetrievedLayer, path: Path) -> Path:
    """Write a PNG: a query a row, then its neighbors with their similarity; below it what untrained features find."""
    rows = []
    most = max(len(each.indices) for each in layer.found)
    for number, near in enumerate(layer.found):
        query = _shown(layer.queries, number)
        several = (
            [("", near)] if layer.untrained is None else [("trained", near), ("untrained", layer.untrained[number])]
        )
        for words, each in several:
            photos = [_shown(layer.bank, index) for index in each.indices]
            shown = [captioned(photo, [f"{similarity:.4f}"], side=_NEIGHBOR)
                     for photo, similarity in zip(photos, each.similarity, strict=True)]  # fmt: skip
            blank = Image.new("RGB", (_NEIGHBOR, _NEIGHBOR), PAPER)
            rows.append([captioned(query, [words], side=_NEIGHBOR), *shown, *[blank] * (most - len(shown))])
    titles = [layer.layer, *(str(place + 1) for place in range(most))]
    photo_sheet(rows, titles, path, cell=rows[0][0].height)
    return path


def _shown(photos: Photos, index: int) -> Image.Image:
    try:
        return photos.read(index, short_side=2 * _NEIGHBOR)
    except UnreadablePhoto:
        return Image.new("RGB", (_NEIGHBOR, _NEIGHBOR), (230, 230, 230))


def _bordered(photos: LabeledDataset, index: int, color: tuple[int, int, int]) -> Image.Image:
    """The photo at the sheet's size, so that every border is as wide; a blank if it has gone since it was measured."""
    return ImageOps.expand(fit(_shown(photos.photos, index), _NEIGHBOR - 2 * _BORDER), _BORDER, color)


def segments_sheet(examples: SegmentedExamples, path: Path) -> Path:
    """Write a PNG: of each photo the photo, its true classes, what was found, and what untrained features found."""
    columns = {"found": examples.said} | ({"untrained": examples.untrained} if examples.untrained else {})
    rows = []
    for number, mask in enumerate(examples.photos.masks):
        photo, truth = examples.photos.photos.read(number), mask.read()
        # What does not count is left out of what was found too, or it would look like a mistake.
        found = (np.where(truth == IGNORED, np.uint8(IGNORED), said[number]) for said in columns.values())
        rows.append([photo, *(draw_mask(photo, each, examples.photos.classes) for each in (truth, *found))])
    photo_sheet(rows, ("photo", "truth", *columns), path, cell=_SAMPLE, groups=2 if len(rows) > 1 else 1)
    return path


def write_sheets(sheets: Mapping[str, Sheet], folder: Path) -> list[Path]:
    """Write a task's sheets of pictures as PNG files of their names; returns their paths."""
    paths = []
    for name, sheet in sheets.items():
        if sheet.rows:
            paths.append(folder / f"{name}.png")
            # As large as the pictures are, since their captions are part of them.
            cell = min(_LARGEST, max(side for row in sheet.rows for picture in row for side in picture.size))
            photo_sheet(sheet.rows, sheet.titles, paths[-1], cell=cell, groups=sheet.groups)
    return paths
