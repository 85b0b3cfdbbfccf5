"""One object's outline as COCO writes it, polygons or a run-length code, checked before anything draws it.

pycocotools' rasterizer writes where it likes on coordinates that are not finite or lie far outside, and takes a polygon
of four numbers for a box; so it only gets polygons that were looked at here. Run lengths are read here altogether.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssl_colorize.data.annotations import FAR_OUTSIDE, IGNORED

Box = tuple[float, float, float, float]


class Shape(NamedTuple):
    """Where an object is: polygons, or else runs."""

    polygons: tuple[tuple[float, ...], ...] = ()  # x, y, x, y, ... each, in pixels
    runs: NDArray[np.int64] | None = None  # pixels without and with it by turns, down the columns

    def filled(self, width: int, height: int) -> NDArray[np.bool_]:
        """(height, width), true where the object is."""
        if self.runs is not None:
            flat = np.repeat(np.arange(len(self.runs)) % 2 == 1, self.runs)
            return flat.reshape(width, height).T
        from pycocotools import mask as coco  # compiled, and only needed here

        code = coco.merge(coco.frPyObjects([list(each) for each in self.polygons], height, width))
        return np.asarray(coco.decode(code), np.bool_)

    def box(self, width: int, height: int) -> Box | None:
        """Left, top, right, bottom in pixels; None if there is nothing of it."""
        if self.runs is None:
            corners = np.concatenate([np.reshape(each, (-1, 2)) for each in self.polygons])
            (left, top), (right, bottom) = corners.min(0).tolist(), corners.max(0).tolist()
            return left, top, right, bottom
        rows, columns = np.nonzero(self.filled(width, height))
        if not len(rows):
            return None
        return float(columns.min()), float(rows.min()), float(columns.max()) + 1, float(rows.max()) + 1


class Checked(NamedTuple):
    """What is usable of an outline, None if nothing is, and what is wrong with it, "" if nothing is."""

    shape: Shape | None
    problem: str = ""


def checked_shape(segmentation: Any, size: tuple[int, int]) -> Checked:
    """Look at what COCO has under "segmentation".

    Args:
        segmentation: polygons [[x, y, x, y, ...], ...], or a run-length code {"counts", "size"} with counts as a list
            or compressed. A polygon that is not in a list of its own, or is a list of points, is understood.
        size: width and height of the photo in pixels.

    >>> checked_shape([[0, 0, 4, 0, 4, 4]], (8, 6)).shape.polygons
    ((0.0, 0.0, 4.0, 0.0, 4.0, 4.0),)
    >>> checked_shape([[0, 0, 4, 4], []], (8, 6)).problem
    'a polygon of 4 numbers, which is fewer than 3 points'
    >>> checked_shape({"counts": [2, 46], "size": [6, 8]}, (8, 6)).shape.box(8, 6)
    (0.0, 0.0, 8.0, 6.0)
    """
    if segmentation is None or (isinstance(segmentation, list | dict) and not segmentation):
        return Checked(None, "no outline")
    try:
        if isinstance(segmentation, dict):
            return Checked(Shape(runs=_runs(segmentation, size)))
        if isinstance(segmentation, list):
            return _checked_polygons(_polygons(segmentation), size)
    except (ValueError, TypeError, OverflowError, IndexError) as error:
        return Checked(None, f"an outline that cannot be read ({error})")
    return Checked(None, f"an outline that is no list but {type(segmentation).__name__}")


def _polygons(segmentation: list[Any]) -> list[list[Any]]:
    """A list of polygons, however they were wrapped."""
    if not isinstance(segmentation[0], list):
        return [segmentation]
    if all(isinstance(each, list) and len(each) == 2 for each in segmentation):
        return [list(chain.from_iterable(segmentation))]
    return [
        list(chain.from_iterable(each)) if each and all(isinstance(point, list) for point in each) else each
        for each in segmentation
    ]


def _checked_polygons(polygons: list[list[Any]], size: tuple[int, int]) -> Checked:
    usable: list[tuple[float, ...]] = []
    problems: list[str] = []
    for each in polygons:
        try:
            numbers = tuple(float(value) for value in each)
        except (ValueError, TypeError, OverflowError):
            problems.append("a polygon with what is no number")
            continue
        problem = _polygon_problem(numbers, size)
        if problem:
            problems.append(problem)
        else:
            usable.append(numbers)
    return Checked(Shape(tuple(usable)) if usable else None, problems[0] if problems else "")


def _polygon_problem(numbers: Sequence[float], size: tuple[int, int]) -> str:
    if len(numbers) % 2:
        return f"a polygon of {len(numbers)} numbers, which is no whole number of points"
    if len(numbers) < 6:
        return f"a polygon of {len(numbers)} numbers, which is fewer than 3 points"
    points = np.reshape(numbers, (-1, 2))
    if not np.isfinite(points).all():
        return "a polygon with coordinates that are not finite"
    if (np.abs(points) > FAR_OUTSIDE * max(size)).any():
        return "a polygon that reaches far out of its photo"
    x, y = points.T
    if not abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))):
        return "a polygon without an area"
    return ""


def _runs(code: dict[str, Any], size: tuple[int, int]) -> NDArray[np.int64]:
    """The run lengths of a code, checked against the size of the photo."""
    if "counts" not in code or "size" not in code:
        raise ValueError("a run-length code needs counts and size")
    height, width = (int(side) for side in code["size"])
    if (width, height) != size:
        raise ValueError(f"it is for a photo of {width} x {height} px")
    counts = code["counts"]
    runs = _decompressed(counts) if isinstance(counts, str | bytes) else [int(count) for count in counts]
    if min(runs, default=-1) < 0 or sum(runs) != width * height:
        raise ValueError(f"its runs do not come to {width} x {height} px")
    return np.asarray(runs, np.int64)


def _decompressed(text: str | bytes) -> list[int]:
    """Run lengths from COCO's characters: 5 bits each, the lowest first, from the third one on as differences.

    Source: cocoapi, common/maskApi.c, rleFrString.

    >>> _decompressed("n1R1")
    [62, 34]
    """
    codes = [code - 48 for code in (text.encode("ascii") if isinstance(text, str) else text)]
    if any(not 0 <= code < 64 for code in codes):
        raise ValueError("its characters are no run lengths")
    runs: list[int] = []
    value = shift = 0
    for code in codes:
        value |= (code & 31) << shift
        shift += 5
        if shift > 60:
            raise ValueError("a run is too long")
        if not code & 32:
            if code & 16:
                value -= 1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    if shift:
        raise ValueError("it ends within a run")
    return runs


@dataclass(frozen=True)
class Outline:
    """An object of a mask. One that cannot be drawn takes its box with it: what is there is not known."""

    value: int  # of its pixels
    shape: Shape | None
    box: Box | None = None  # where it is if it has no shape


@dataclass(frozen=True)
class DrawnMask:
    """A mask that is drawn from outlines when it is read."""

    size: tuple[int, int]  # width and height in pixels
    outlines: tuple[Outline, ...]

    def read(self) -> NDArray[np.uint8]:
        """(H, W) uint8 classes, as `annotations.Mask` has them; of two objects on a pixel the smaller one counts."""
        width, height = self.size
        drawn = [(each.value, _filled(each, width, height)) for each in self.outlines]
        values = np.zeros((height, width), np.uint8)
        for value, filled in sorted(drawn, key=lambda each: -int(each[1].sum())):
            values[filled] = value
        return values


def _filled(outline: Outline, width: int, height: int) -> NDArray[np.bool_]:
    if outline.shape is not None:
        return outline.shape.filled(width, height)
    filled = np.zeros((height, width), np.bool_)
    if outline.box is not None:
        left, top = (int(np.floor(side)) for side in outline.box[:2])
        right, bottom = (int(np.ceil(side)) for side in outline.box[2:])
        filled[max(0, top) : max(0, bottom), max(0, left) : max(0, right)] = True
    return filled


def outline_of(value: int, checked: Checked, box: Box | None) -> Outline | None:
    """What to draw of an object; None if nothing is known of where it is."""
    if checked.shape is not None:
        return Outline(value, checked.shape)
    return Outline(IGNORED, None, box) if box is not None else None
