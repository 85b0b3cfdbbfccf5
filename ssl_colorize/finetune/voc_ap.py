"""Average precision of boxes by the rules of PASCAL VOC 2007.

A detection is right if its IoU with an object of its class is at least 0.5 and no more confident detection has taken
that object; detections of difficult objects count neither as right nor as wrong. Average precision is the mean, over
the recalls 0, 0.1, ..., 1, of the best precision at that recall or a higher one (Everingham et al. 2010, section 4.2).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssl_colorize.data.annotations import Boxes
from ssl_colorize.evaluate.metrics import DRAWS, class_mean_interval

IOU = 0.5

RIGHT, WRONG, NOT_COUNTED = 1, 0, -1


class Detections(NamedTuple):
    """What a detector says about one photo, D boxes of it."""

    corners: NDArray[np.float32]  # (D, 4) left, top, right, bottom in pixels of the photo
    labels: NDArray[np.int64]  # (D,)
    scores: NDArray[np.float32]  # (D,)


@dataclass(frozen=True)
class Matched:
    """All detections that count, on N photos, held against the truth.

    Attributes:
        ranked: for each class its detections, the most confident first: the photo of each (D,), and whether it is
            right (D,).
        objects: (N, C) int64: objects that are not difficult.
    """

    ranked: list[tuple[NDArray[np.int64], NDArray[np.bool_]]]
    objects: NDArray[np.int64]


def match(found: Sequence[Detections], truth: Sequence[Boxes], classes: int) -> Matched:
    """Hold detections against the objects, photo by photo."""
    objects = np.zeros((len(truth), classes), np.int64)
    for row, boxes in zip(objects, truth, strict=True):
        row += np.bincount(boxes.labels[~boxes.difficult], minlength=classes)
    photos = np.repeat(np.arange(len(found)), [len(each.labels) for each in found])
    labels = np.concatenate([each.labels for each in found])
    verdicts = np.concatenate([match_photo(each, boxes) for each, boxes in zip(found, truth, strict=True)])
    order = np.argsort(-np.concatenate([each.scores for each in found]), kind="stable")
    order = order[verdicts[order] != NOT_COUNTED]
    of_class = [order[labels[order] == number] for number in range(classes)]
    ranked = [(photos[chosen], verdicts[chosen] == RIGHT) for chosen in of_class]
    return Matched(ranked, objects)


def match_photo(found: Detections, truth: Boxes) -> NDArray[np.int8]:
    """The verdicts (D,) on one photo's detections."""
    verdicts = np.full(len(found.labels), WRONG, np.int8)
    taken = np.zeros(len(truth.labels), np.bool_)
    overlap = iou(found.corners, truth.corners)
    # Objects of another class are nowhere near.
    overlap[found.labels[:, None] != truth.labels[None]] = -1
    for row in np.argsort(-found.scores, kind="stable") if len(taken) else ():
        best = int(overlap[row].argmax())
        if overlap[row, best] < IOU:
            continue
        if truth.difficult[best]:
            verdicts[row] = NOT_COUNTED
        elif not taken[best]:
            taken[best] = True
            verdicts[row] = RIGHT
    return verdicts


def iou(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float64]:
    """Intersection over union of boxes (D, 4) with boxes (K, 4): (D, K)."""
    a, b = first[:, None].astype(np.float64), second[None].astype(np.float64)
    sides = (np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])).clip(0)
    common = sides.prod(-1)
    union = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - common
    return np.asarray(common / np.maximum(union, np.finfo(np.float64).tiny))


def average_precisions(matched: Matched, rows: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
    """AP of each class (C,), NaN for a class without an object.

    Args:
        rows: photos drawn with replacement; all photos once if not given.
    """
    count = len(matched.objects)
    times = np.bincount(np.arange(count) if rows is None else rows, minlength=count)
    values = np.full(matched.objects.shape[1], np.nan)
    for number, there in enumerate(times @ matched.objects):
        if there:
            photos, right = matched.ranked[number]
            counts = times[photos]
            values[number] = eleven_points((counts * right).cumsum(), counts.cumsum(), int(there))
    return values


def eleven_points(right: NDArray[np.int64], detected: NDArray[np.int64], objects: int) -> float:
    """The 11-point average precision of one class.

    Args:
        right: (D,) how many of the most confident 1, 2, ..., D detections are right, ascending.
        detected: (D,) how many they are.
        objects: how many objects there are.

    >>> import numpy as np
    >>> area = eleven_points(np.array([1, 1, 2]), np.array([1, 2, 3]), objects=2)
    >>> round(area, 4)  # 6 points of precision 1, 5 of 2 / 3
    0.8485
    """
    # The best precision at a recall or a higher one; 0 beyond the last.
    precision = np.append(right / np.maximum(detected, 1), 0.0)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    # In whole numbers: a recall of 3 / 10 is exactly 0.3.
    return float(best[np.searchsorted(10 * right, np.arange(11) * objects)].mean())


def interval(matched: Matched, *, seed: int, draws: int = DRAWS) -> tuple[float, float]:
    """The 95 % interval of the mean AP over classes, by bootstrap over the photos."""
    return class_mean_interval(
        partial(average_precisions, matched), average_precisions(matched), len(matched.objects), seed=seed, draws=draws
    )
