"""Outlines are drawn as pycocotools draws them, and whatever it cannot draw never gets there."""

import math
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw
from pycocotools import mask as coco_tools

from ssl_colorize.data.outlines import DrawnMask, Outline, Shape, checked_shape

SIZE = (30, 20)  # width and height


def filled(shape: Shape | None) -> np.ndarray:
    assert shape is not None
    return shape.filled(*SIZE)


def test_polygons_are_filled() -> None:
    star = [15, 1, 18, 8, 28, 8, 20, 12, 24, 19, 15, 14, 6, 19, 10, 12, 2, 8, 12, 8]
    found = filled(checked_shape([star], SIZE).shape)
    # What share of each pixel is inside, by Pillow at 16 times the size.
    large = Image.new("L", (30 * 16, 20 * 16))
    ImageDraw.Draw(large).polygon([16 * side for side in star], fill=1)
    share = np.asarray(large).reshape(20, 16, 30, 16).mean((1, 3))
    assert found[share > 0.75].all() and not found[share < 0.25].any()
    assert (share > 0.75).sum() > 100


def test_run_lengths_are_those_of_pycocotools() -> None:
    chance = np.random.default_rng(0)
    for share in (0, 0.02, 0.5, 1):
        truth = chance.random(SIZE[::-1]) < share
        code = coco_tools.encode(np.asfortranarray(truth.astype(np.uint8)))
        flat = truth.T.ravel()
        edges = np.flatnonzero(np.diff(flat)) + 1
        runs = ([0] if flat[0] else []) + np.diff([0, *edges, flat.size]).tolist()
        for counts in (code["counts"], code["counts"].decode(), runs):
            assert (filled(checked_shape({"counts": counts, "size": [20, 30]}, SIZE).shape) == truth).all()


TRIANGLE = [2, 3, 12, 3, 12, 9]
BOX = (2.0, 3.0, 12.0, 9.0)


@pytest.mark.parametrize(
    "segmentation",
    [
        [TRIANGLE],
        TRIANGLE,
        [[2, 3], [12, 3], [12, 9]],
        [[[2, 3], [12, 3], [12, 9]]],
        [list(map(str, TRIANGLE))],
        [TRIANGLE, []],
        [TRIANGLE, [1, 2, 3, 4]],
    ],
)
def test_polygons_however_they_are_wrapped(segmentation: Any) -> None:
    shape = checked_shape(segmentation, SIZE).shape
    assert shape is not None and shape.box(*SIZE) == BOX
    assert (filled(shape) == filled(Shape((tuple(map(float, TRIANGLE)),)))).all()


@pytest.mark.parametrize(
    ("segmentation", "said"),
    [
        (None, "no outline"),
        ([], "no outline"),
        ({}, "no outline"),
        ([[]], "fewer than 3 points"),
        ([[1, 2, 3, 4]], "a polygon of 4 numbers, which is fewer than 3 points"),
        ([[1, 2]], "fewer than 3 points"),
        ([[1, 2, 3, 4, 5, 6, 7]], "7 numbers, which is no whole number of points"),
        ([[1, 2, 1e30, 4, 5, 6]], "far out"),
        ([[-1e9, 2, 3, 4, 5, 6]], "far out"),
        ([[1, 2, 10**400, 4, 5, 6]], "no number"),
        ([[1, 2, math.nan, 4, 5, 6]], "not finite"),
        ([[1, 2, math.inf, 4, 5, 6]], "not finite"),
        ([[1, 2, "x", 4, 5, 6]], "no number"),
        ([[1, 2, None, 4, 5, 6]], "no number"),
        ([[1, 1, 2, 2, 3, 3]], "without an area"),
        ([[4, 4, 4, 4, 4, 4]], "without an area"),
        ([None], "no number"),
        ("[[1, 2]]", "no list but str"),
        (7, "no list but int"),
        ({"counts": [600]}, "needs counts and size"),
        ({"counts": [600], "size": [30, 20]}, "for a photo of 20 x 30 px"),
        ({"counts": [599], "size": [20, 30]}, "do not come to"),
        ({"counts": [-1, 601], "size": [20, 30]}, "do not come to"),
        ({"counts": [10**30], "size": [20, 30]}, "do not come to"),
        ({"counts": [600], "size": [10**9, 10**9]}, "for a photo of"),
        ({"counts": None, "size": [20, 30]}, "cannot be read"),
        ({"counts": [600], "size": None}, "cannot be read"),
        ({"counts": "oooooooooooooooooooooooo", "size": [20, 30]}, "cannot be read"),
        ({"counts": "é", "size": [20, 30]}, "cannot be read"),
        ({"counts": "", "size": [20, 30]}, "do not come to"),
    ],
)
def test_what_cannot_be_drawn_is_said(segmentation: Any, said: str) -> None:
    checked = checked_shape(segmentation, SIZE)
    assert checked.shape is None and said in checked.problem
    assert "\n" not in checked.problem


def test_what_reaches_out_a_little_is_drawn() -> None:
    found = filled(checked_shape([[-5, -5, 8, -5, 8, 40, -5, 40]], SIZE).shape)
    assert found[:, :8].all() and not found[:, 8:].any()


def test_the_smaller_object_is_on_top_and_what_is_not_known_does_not_count() -> None:
    whole = Shape(((0.0, 0.0, 30.0, 0.0, 30.0, 20.0, 0.0, 20.0),))
    part = Shape(runs=np.asarray([0, 100, 500]))
    values = DrawnMask(SIZE, (Outline(2, part), Outline(1, whole), Outline(255, None, (28.5, 18, 31, 22)))).read()
    expected = np.ones((20, 30))
    expected[:, :5], expected[18:, 28:] = 2, 255
    assert (values == expected).all()
