"""Differences between colorizers, paired by photo, against figures worked out by hand."""

import click
import numpy as np
import pytest
from colors import apart, auc, auc_rebalanced, by_hue, difference, named, top1, without_heaviest


def line(first: float, second: float, *, weight: float, truth: int | None = 3) -> dict:
    says = {"ours": [3, 1], "theirs": [1, 3]}
    scores = {"ours": first, "theirs": second}
    return {
        "photo": "x.jpg", "weight": weight, "class": truth,
        "methods": {
            name: {"auc": value, "auc_weighted": value, "says": says[name]} for name, value in scores.items()
        },
    }  # fmt: skip


LINES = [line(0.9, 0.8, weight=1.0), line(0.5, 0.4, weight=3.0), line(0.7, 0.6, weight=0.5, truth=None)]


def test_a_difference_that_every_photo_has_is_certain_however_the_photos_differ():
    # Unpaired, photos that lie between 0.4 and 0.9 would leave this open.
    for measure in (auc, auc_rebalanced):
        assert difference(measure(LINES, "ours"), measure(LINES, "theirs")) == pytest.approx([0.1] * 3)


def test_rebalanced_means_are_by_weight():
    shares, weights = auc_rebalanced(LINES, "ours").sum(0)
    assert shares / weights == pytest.approx((0.9 + 3 * 0.5 + 0.5 * 0.7) / 4.5)


def test_only_photos_of_known_class_count_for_the_classifier():
    ours, theirs = top1(LINES, "ours"), top1(LINES, "theirs")
    assert ours.tolist() == [[1, 1], [1, 1]] and theirs.tolist() == [[0, 1], [0, 1]]
    assert difference(ours, theirs) == [1.0, 1.0, 1.0]


def test_the_interval_is_the_bootstraps():
    # Of n differences with deviation s the mean's deviation is s / sqrt(n).
    values = np.random.default_rng(0).normal(0.02, 0.1, 400)
    ours = np.stack((values, np.ones(400)), 1)
    theirs = np.stack((np.zeros(400), np.ones(400)), 1)
    mean, low, high = difference(ours, theirs, seed=1)
    half = 1.96 * values.std() / 20
    assert mean == pytest.approx(values.mean())
    assert (low, high) == pytest.approx((mean - half, mean + half), abs=0.0015)


def test_what_was_not_measured_stays_empty():
    unweighted = [line(0.9, 0.8, weight=1.0)]
    for method in unweighted[0]["methods"].values():
        method["auc_weighted"] = None
    assert difference(auc_rebalanced(unweighted, "ours"), auc_rebalanced(unweighted, "theirs")) is None


def test_without_the_heaviest_photos_the_others_decide() -> None:
    found = without_heaviest(LINES, 1, ["ours", "theirs"])
    # The second photo weighs 3 of 4.5.
    assert found["left_out"] == 1 and found["weight"] == pytest.approx(3 / 4.5)
    assert found["auc_rebalanced"]["ours"] == pytest.approx((0.9 + 0.5 * 0.7) / 1.5)
    assert without_heaviest(LINES, 0, ["ours"])["weight"] == 0


def test_angles_between_hues_go_the_short_way() -> None:
    assert apart(np.array([350.0, 10.0, 90.0]), np.array([10.0, 350.0, 270.0])).tolist() == [20, 20, 180]


def test_hues_count_the_colorful_pixels_of_each() -> None:
    # True: red, yellow, gray (chroma under 15), blue; predicted: orange-red, blue, red, blue.
    true = np.array([[[30.0, 0.0, 5.0, 0.0]], [[10.0, 40.0, 0.0, -30.0]]], np.float32)
    predicted = np.array([[[20.0, 0.0, 9.0, 0.0]], [[20.0, -6.0, 0.0, -8.0]]], np.float32)
    found = by_hue(true, predicted)
    assert found["red"][:2].tolist() == [1, 1] and found["red"][2] == pytest.approx(np.hypot(20, 20))
    assert found["yellow"].tolist() == [1, 0, 6] and found["blue, sky"].tolist() == [1, 1, 8]
    assert sum(each[0] for each in found.values()) == 3


def test_each_network_of_a_sheet_has_one_name() -> None:
    assert named(("full=a", "l2=b=c")) == {"full": "a", "l2": "b=c"}
    with pytest.raises(click.UsageError, match="full is a already"):
        named(("full=a", "full=b"))
    with pytest.raises(click.UsageError, match="give NAME=RUN"):
        named(("runs/full",))
