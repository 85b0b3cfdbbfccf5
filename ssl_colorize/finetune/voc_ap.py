"""Average precision of boxes by the rules of PASCAL VOC 2007.

A detection is right if its IoU with an object of its class is at least 0.5 and no more confident detection has taken
that object; detections of difficult objects count neither as right nor as wrong. Average precision is the mean, over
the recalls 0, 0.1, ..., 1, of the best precision at that recall or a higher one (Everingham et al. 2010, section 4.2).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssl_colorize.data.annotations import Boxes
from ssl_colorize.evaluate.scoring import DRAWS, drawn_interval

IOU = 0.5
# Draws of the bootstrap at a time: enough for a matrix product's worth of work, few enough for any memory.
_CHUNK = 50

RIGHT, WRONG, NOT_COUNTED = 1, 0, -1


class Detections(NamedTuple):
    """What a detector says about one photo, D boxes of it."""

    corners: NDArray[np.float32]  # (D, 4) left, top, right, bottom in pixels of the photo
    labels: NDArray[np.int64]  # (D,)
    scores: NDArray[np.float32]  # (D,)


@dataclass(frozen=True)
class Matched:
    """All detections on N photos, held against the truth.

    Attributes:
        photos: (D,) which photo each detection is on.
        labels: (D,) its class.
        scores: (D,) its confidence.
        verdicts: (D,) int8: RIGHT, WRONG or NOT_COUNTED.
        objects: (N, C) int64: objects that are not difficult.
    """

    photos: NDArray[np.int64]
    labels: NDArray[np.int64]
    scores: NDArray[np.float32]
    verdicts: NDArray[np.int8]
    objects: NDArray[np.int64]


def match(found: Sequence[Detections], truth: Sequence[Boxes], classes: int) -> Matched:
    """Hold detections against the objects, photo by photo."""
    objects = np.zeros((len(truth), classes), np.int64)
    for row, boxes in zip(objects, truth, strict=True):
        row += np.bincount(boxes.labels[~boxes.difficult], minlength=classes)
    verdicts = [judge(each, boxes) for each, boxes in zip(found, truth, strict=True)]
    return Matched(
        np.repeat(np.arange(len(found)), [len(each.labels) for each in found]),
        np.concatenate([each.labels for each in found]) if found else np.zeros(0, np.int64),
        np.concatenate([each.scores for each in found]) if found else np.zeros(0, np.float32),
        np.concatenate(verdicts) if verdicts else np.zeros(0, np.int8),
        objects,
    )


def judge(found: Detections, truth: Boxes) -> NDArray[np.int8]:
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


def average_precisions(matched: Matched, times: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
    """AP of each class (C,), NaN for a class without an object.

    Args:
        times: (R, N) how often each photo counts, in R draws; the result is (R, C) then.
    """
    drawn = np.ones((1, len(matched.objects)), np.int64) if times is None else times
    values = np.full((len(drawn), matched.objects.shape[1]), np.nan)
    for number in range(values.shape[1]):
        chosen = np.flatnonzero((matched.labels == number) & (matched.verdicts != NOT_COUNTED))
        chosen = chosen[np.argsort(-matched.scores[chosen], kind="stable")]
        counts = drawn[:, matched.photos[chosen]]
        right = (counts * (matched.verdicts[chosen] == RIGHT)).cumsum(1)
        there = drawn @ matched.objects[:, number]
        with_objects = there > 0
        values[with_objects, number] = eleven_points(right, counts.cumsum(1), there)[with_objects]
    return values[0] if times is None else values


def eleven_points(right: NDArray[np.int64], told: NDArray[np.int64], there: NDArray[np.int64]) -> NDArray[np.float64]:
    """The 11-point average precision (R,) of R lists.

    Args:
        right: (R, D) how many of the most confident 1, 2, ..., D detections are right.
        told: (R, D) how many they are.
        there: (R,) how many objects there are.
    """
    if not right.shape[1]:
        return np.zeros(len(right))
    precision = right / np.maximum(told, 1)
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    total = np.zeros(len(right))
    for tenth in range(11):
        # In whole numbers: a recall of 3 / 10 is exactly 0.3.
        reached = 10 * right >= tenth * there[:, None]
        first = reached.argmax(1)
        total += np.where(reached.any(1), best[np.arange(len(right)), first], 0.0)
    return total / 11


def interval(matched: Matched, *, seed: int, draws: int = DRAWS) -> tuple[float, float]:
    """The 95 % interval of the mean AP over classes, by bootstrap over the photos."""
    chance = np.random.default_rng(seed)
    count = len(matched.objects)
    whole = average_precisions(matched)
    found: list[NDArray[np.float64]] = []
    for start in range(0, draws, _CHUNK):
        size = min(_CHUNK, draws - start)
        times = np.stack([np.bincount(chance.integers(0, count, count), minlength=count) for _ in range(size)])
        values = average_precisions(matched, times)
        # A draw without any object of a class says nothing about the class, and leaves its figure as it is.
        found.append(np.where(np.isnan(values), whole, values))
    return drawn_interval(np.concatenate(found), whole)
