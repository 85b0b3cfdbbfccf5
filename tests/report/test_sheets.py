"""Sheets show the photos they are given, under their titles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ssl_colorize.report.sheets import photo_sheet

RED, GREEN, BLUE = (Image.new("RGB", (50, 30), color) for color in ((255, 0, 0), (0, 255, 0), (0, 0, 255)))


def columns_of(sheet: Image.Image, color: tuple[int, int, int]) -> tuple[int, int, int, int] | None:
    """The box that holds every pixel of exactly this color: left, top, right, bottom."""
    mask = Image.fromarray((np.asarray(sheet) == color).all(axis=2))
    return mask.getbbox()


def test_photos_stand_under_their_titles_in_order(tmp_path: Path) -> None:
    photo_sheet([(RED, GREEN, BLUE)], ("one", "two", "three"), tmp_path / "sheet.png", cell=100)
    sheet = Image.open(tmp_path / "sheet.png")
    boxes = [columns_of(sheet, color) for color in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
    assert all(box is not None and (box[2] - box[0], box[3] - box[1]) == (100, 60) for box in boxes), boxes
    first, second, third = (box for box in boxes if box)
    assert first[2] < second[0] < second[2] < third[0]
    assert first[1] == second[1] == third[1]
    # There is a title over each, in ink.
    for box in (first, second, third):
        header = np.asarray(sheet.convert("L"))[: box[1], box[0] : box[2]]
        assert header.min() < 100


def test_groups_stand_beside_each_other_and_the_last_may_be_missing(tmp_path: Path) -> None:
    rows = [(RED, RED), (GREEN, GREEN), (BLUE, BLUE)]
    photo_sheet(rows, ("a", "b"), tmp_path / "sheet.png", cell=64, groups=2)
    sheet = Image.open(tmp_path / "sheet.png")
    red, green, blue = (columns_of(sheet, color) for color in ((255, 0, 0), (0, 255, 0), (0, 0, 255)))
    assert red and green and blue
    assert red[1] == green[1] and red[2] < green[0]
    assert blue[1] > red[3] and blue[0] == red[0]


def test_long_titles_shrink_into_their_cells(tmp_path: Path) -> None:
    photo_sheet([(RED, GREEN)], ("a title that is far too long", "b"), tmp_path / "sheet.png", cell=64)
    sheet = Image.open(tmp_path / "sheet.png")
    red, green = columns_of(sheet, (255, 0, 0)), columns_of(sheet, (0, 255, 0))
    assert red and green
    between = np.asarray(sheet.convert("L"))[: red[1], red[2] : green[0]]
    assert between.min() == 255, "the title runs into its neighbor"


def test_ragged_rows_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="2 photos"):
        photo_sheet([(RED, GREEN), (RED,)], ("a", "b"), tmp_path / "sheet.png")
    with pytest.raises(ValueError, match="photos"):
        photo_sheet([], ("a",), tmp_path / "sheet.png")
