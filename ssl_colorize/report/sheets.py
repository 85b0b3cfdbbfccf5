"""Sheets of photos: the same photos under several titles, side by side.

Photos are fitted into square cells with their aspect kept; a line of the sheet is only as high as its highest photo,
so landscape photos leave no gaps.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from ssl_colorize.pictures import encode
from ssl_colorize.runs import write_atomically

PAPER = (255, 255, 255)
INK = (40, 40, 46)


def _fit(photo: Image.Image, cell: int) -> Image.Image:
    """The photo in RGB with its long side `cell` pixels long."""
    scale = cell / max(photo.size)
    width, height = (max(1, round(side * scale)) for side in photo.size)
    return photo.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)


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
    cells = [[_fit(photo, cell) for row in line for photo in row] for line in lines]
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
