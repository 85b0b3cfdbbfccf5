"""VOC's average precision agrees with cases worked out by hand and with the rule written out in loops."""

import numpy as np
import pytest

from ssl_colorize.data.annotations import Boxes
from ssl_colorize.finetune.voc_ap import (
    Detections,
    average_precisions,
    eleven_points,
    interval,
    iou,
    match,
    match_photo,
)

WHOLE = (0, 0, 10, 10)
FAR = (50, 50, 60, 60)


def said(*found: tuple[tuple[float, float, float, float], int, float]) -> Detections:
    corners, labels, scores = zip(*found, strict=True) if found else ((), (), ())
    return Detections(
        np.asarray(corners, np.float32).reshape(-1, 4), np.asarray(labels, np.int64), np.asarray(scores, np.float32)
    )


def ap(found: list[Detections], truth: list[Boxes], classes: int = 1) -> list[float]:
    return average_precisions(match(found, truth, classes)).tolist()


def test_iou() -> None:
    a = np.asarray([WHOLE, (0, 0, 5, 10)], np.float32)
    b = np.asarray([WHOLE, (5, 0, 15, 10), FAR, (3, 3, 3, 3)], np.float32)
    assert iou(a, b).tolist() == [[1, 50 / 150, 0, 0], [0.5, 0, 0, 0]]


def test_verdicts() -> None:
    truth = Boxes.of([WHOLE, FAR], [0, 0], [False, True])
    found = said(
        (WHOLE, 0, 0.3),  # taken already by the next, which is surer
        ((0, 0, 10, 9), 0, 0.9),
        (WHOLE, 1, 0.8),  # another class
        (FAR, 0, 0.7),  # difficult
        (FAR, 0, 0.6),  # and again: still not counted
        ((0, 0, 5, 10), 0, 0.95),  # IoU of exactly one half: right
        ((20, 0, 30, 10), 0, 0.1),
    )
    assert match_photo(found, truth).tolist() == [0, 0, 0, -1, -1, 1, 0]
    assert match_photo(found, Boxes.of([], [])).tolist() == [0] * 7
    assert match_photo(said(), truth).tolist() == []


def test_worked_by_hand() -> None:
    two = [Boxes.of([WHOLE, FAR], [0, 0])]
    assert ap([said((WHOLE, 0, 0.9), (FAR, 0, 0.8))], two) == [1.0]
    assert ap([said()], two) == [0.0]
    # Right, then wrong: recall reaches 0.5, that is the first 6 of the 11 points, at precision 1.
    assert ap([said((WHOLE, 0, 0.9), ((20, 0, 30, 10), 0, 0.8))], two) == [pytest.approx(6 / 11)]
    # Wrong, right, right: precision 1/2 at recall 1/2 and 2/3 at recall 1, and the best at a higher recall counts.
    three = said(((20, 0, 30, 10), 0, 0.9), (WHOLE, 0, 0.8), (FAR, 0, 0.7))
    assert ap([three], two) == [pytest.approx(2 / 3)]
    # The order is that of confidence over all photos.
    one = [Boxes.of([WHOLE], [0]), Boxes.of([], []), Boxes.of([WHOLE], [0])]
    found = [said((WHOLE, 0, 0.5)), said((WHOLE, 0, 0.9)), said((WHOLE, 0, 0.4))]
    assert ap(found, one) == [pytest.approx(2 / 3)]


def test_difficult_objects_and_absent_classes() -> None:
    truth = [Boxes.of([WHOLE, FAR], [0, 0], [True, False])]
    assert ap([said((WHOLE, 0, 0.9), (FAR, 0, 0.8))], truth, 3)[0] == 1.0
    values = ap([said((FAR, 1, 0.9))], truth, 3)
    assert values[0] == 0 and np.isnan(values[1:]).all()
    assert np.isnan(ap([said()], [Boxes.of([WHOLE], [0], [True])])).all()


def test_recall_is_counted_exactly() -> None:
    # 3 of 10 objects: the points 0, 0.1, 0.2 and 0.3, which 0.1 * 3 in floating point would miss.
    right = np.asarray([1, 2, 3])
    assert eleven_points(right, right, 10) == pytest.approx(4 / 11)


def slow(found: list[Detections], truth: list[Boxes], number: int) -> float:
    """VOC's rule, by loops over one class."""
    lines = [
        (float(score), photo, [float(side) for side in box])
        for photo, each in enumerate(found)
        for box, label, score in zip(each.corners, each.labels, each.scores, strict=True)
        if label == number
    ]
    lines.sort(key=lambda line: -line[0])
    taken = set()
    hits, misses = [], []
    for _, photo, box in lines:
        best, at = -1.0, -1
        for index in range(len(truth[photo].labels)):
            if truth[photo].labels[index] != number:
                continue
            other = truth[photo].corners[index].tolist()
            width = min(box[2], other[2]) - max(box[0], other[0])
            height = min(box[3], other[3]) - max(box[1], other[1])
            if width <= 0 or height <= 0:
                continue
            areas = [(each[2] - each[0]) * (each[3] - each[1]) for each in (box, other)]
            value = width * height / (sum(areas) - width * height)
            if value > best:
                best, at = value, index
        if best >= 0.5 and truth[photo].difficult[at]:
            continue
        hit = best >= 0.5 and (photo, at) not in taken
        if hit:
            taken.add((photo, at))
        hits.append(float(hit))
        misses.append(float(not hit))
    total = sum(int(((each.labels == number) & ~each.difficult).sum()) for each in truth)
    points = []
    for point in np.arange(11) / 10:
        best = 0.0
        for end in range(1, len(hits) + 1):
            if sum(hits[:end]) / total >= point - 1e-9:
                best = max(best, sum(hits[:end]) / end)
        points.append(best)
    return sum(points) / 11


def crowd(seed: int, photos: int = 12, classes: int = 3) -> tuple[list[Detections], list[Boxes]]:
    """Objects at random, and detections near some of them."""
    chance = np.random.default_rng(seed)
    truth, found = [], []
    for _ in range(photos):
        count = int(chance.integers(0, 5))
        start = chance.uniform(0, 60, (count, 2))
        corners = np.concatenate((start, start + chance.uniform(10, 40, (count, 2))), axis=1)
        labels = chance.integers(0, classes, count)
        truth.append(Boxes.of(corners, labels, chance.random(count) < 0.2))
        near = np.repeat(np.arange(count), 3)
        moved = corners[near] + chance.normal(0, 4, (len(near), 4))
        named = np.where(chance.random(len(near)) < 0.8, labels[near], chance.integers(0, classes, len(near)))
        scores = chance.random(len(near)).astype(np.float32)
        found.append(Detections(moved.astype(np.float32), named.astype(np.int64), scores))
    return found, truth


@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_the_rule_in_loops(seed: int) -> None:
    found, truth = crowd(seed)
    values = average_precisions(match(found, truth, 3))
    assert values == pytest.approx([slow(found, truth, number) for number in range(3)])
    assert 0.2 < values.mean() < 0.99


def test_a_photo_drawn_twice_counts_as_two() -> None:
    found, truth = crowd(5)
    for again in np.random.default_rng(0).integers(0, len(found), (6, len(found))):
        expected = average_precisions(match([found[i] for i in again], [truth[i] for i in again], 3))
        assert average_precisions(match(found, truth, 3), again) == pytest.approx(expected, nan_ok=True)


def test_interval_holds_the_mean() -> None:
    matched = match(*crowd(6, photos=60), 3)
    low, high = interval(matched, seed=0, draws=120)
    assert low < average_precisions(matched).mean() < high
    assert 0.02 < high - low < 0.5
    assert interval(matched, seed=0, draws=120) == (low, high)
