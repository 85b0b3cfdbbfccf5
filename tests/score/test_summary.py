"""Lines that survive a crash, and from lines to rows, by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ssl_colorize.errors import UserError
from ssl_colorize.score.methods import Gray
from ssl_colorize.score.summary import Journal, best_temperatures, heaviest_share, ratio_interval, summarize


def line(auc: float, weighted: float | None, weight: float | None, **more: Any) -> dict[str, Any]:
    row = {"auc": auc, "auc_weighted": weighted, "psnr": 20.0, "ssim": auc, "lpips": None, "colorfulness": 4.0,
           "says": more.get("says"), "seconds": 0.1}  # fmt: skip
    return {"photo": "x", "class": more.get("truth"), "weight": weight, "enlarged": False,
            "says": more.get("true_says"), "colorfulness": 8.0, "methods": {"gray": row}}  # fmt: skip


def test_means_over_photos_and_weights_over_pixels() -> None:
    lines = [line(0.9, 0.5, 1.0), line(0.7, 0.1, 3.0), {"photo": "broken", "unreadable": "why"}]
    found = summarize(lines, [Gray("gray")], seed=0)["gray"]
    assert found["auc"] == pytest.approx(0.8) and found["auc_rebalanced"] == pytest.approx((0.5 + 0.3) / 4)
    assert found["lpips"] is None and found["classifier_top1"] is None and found["seconds_per_photo"] is None
    low, high = found["intervals"]["auc"]
    assert (low, high) == (0.7, 0.9)
    assert found["intervals"]["auc_rebalanced"] == pytest.approx([0.1, 0.5])
    assert heaviest_share(lines) == 0.75


def test_without_weights_there_is_no_rebalanced_area() -> None:
    found = summarize([line(0.9, None, None)], [Gray("gray")], seed=0)["gray"]
    assert found["auc_rebalanced"] is None and "auc_rebalanced" not in found["intervals"]
    assert heaviest_share([line(0.9, None, None)]) is None


def test_the_classifier_is_right_only_where_the_class_is_known() -> None:
    lines = [
        line(1.0, None, None, truth=4, true_says=4, says=[4, 1, 2, 3, 5]),
        line(1.0, None, None, truth=4, true_says=4, says=[9, 1, 2, 3, 4]),
        line(1.0, None, None, truth=6, true_says=1, says=[1, 2, 3, 4, 5]),
        line(1.0, None, None, true_says=1, says=[2, 1, 3, 4, 5]),
    ]
    found = summarize(lines, [Gray("gray")], seed=0)["gray"]
    assert found["classifier_top1"] == pytest.approx(1 / 3) and found["classifier_top5"] == pytest.approx(2 / 3)
    assert found["classifier_agreement"] == pytest.approx(2 / 4)


def test_without_classes_only_agreement() -> None:
    found = summarize([line(1.0, None, None, true_says=1, says=[1, 2, 3, 4, 5])], [Gray("gray")], seed=0)["gray"]
    assert found["classifier_agreement"] == 1.0 and found["classifier_top1"] is None


def test_interval_of_a_ratio() -> None:
    weights = np.linspace(1, 5, 400)
    values = np.random.default_rng(0).uniform(0.4, 0.6, 400)
    low, high = ratio_interval(weights * values, weights, seed=1)
    ratio = (weights * values).sum() / weights.sum()
    # The spread of a weighted mean of N values, to the first order.
    spread = np.sqrt((weights**2 * (values - ratio) ** 2).sum()) / weights.sum()
    assert low == pytest.approx(ratio - 1.96 * spread, abs=0.002)
    assert high == pytest.approx(ratio + 1.96 * spread, abs=0.002)


def test_best_temperature_by_each_measure() -> None:
    figures = {
        "truth": {"auc": 1.0, "colorfulness": 30.0},
        "full@0": {"auc": 0.8, "ssim": 0.5, "colorfulness": 44.0, "fid": 9.0, "psnr": None},
        "full@0.38": {"auc": 0.85, "ssim": 0.5, "colorfulness": 31.0, "fid": 3.0, "psnr": None},
        "full@1": {"auc": 0.9, "ssim": 0.4, "colorfulness": 12.0, "fid": 5.0, "psnr": None},
    }
    best = best_temperatures(figures, [0.0, 0.38, 1.0], true_colorfulness=30.0)
    assert best == {"full": {"auc": 1.0, "ssim": 0.0, "fid": 0.38, "colorfulness": 0.38}}


NAMES = ["a", "b", "c"]


def test_half_a_line_does_not_count(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "photos.jsonl")
    assert journal.lines() == []
    journal.append([{"photo": "a", "auc": 0.1}, {"photo": "b", "auc": 1 / 3}])
    with journal.path.open("a") as file:
        file.write('{"photo": "c", "a')
    assert [line["photo"] for line in journal.lines()] == ["a", "b"]
    journal.keep(2, NAMES)
    journal.append([{"photo": "c"}])
    assert [line["photo"] for line in journal.lines()] == NAMES
    assert journal.lines()[1]["auc"] == 1 / 3
    journal.keep(1, NAMES)
    assert journal.path.read_text() == '{"photo": "a", "auc": 0.1}\n'


def test_other_photos_are_refused(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "photos.jsonl")
    journal.append([{"photo": "a"}, {"photo": "x"}])
    with pytest.raises(UserError, match="goes on with x where the photos now have b"):
        journal.keep(2, NAMES)
    journal.keep(1, NAMES)
    assert len(journal.lines()) == 1
