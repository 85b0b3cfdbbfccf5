"""The speed measurements run and say what they mean, at sizes where only that can be tested."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import speed
import torch
from click.testing import CliRunner, Result
from speed import TARGETS, KnnSizes, SpeedSettings

from ssl_colorize.errors import UserError

SMALL = ("--width", "0.0625", "--device", "cpu", "--set", "probe_crop=16", "--set", "probe_batch=4",
         "--set", "extraction_crop=16", "--set", "extraction_photos=8",
         "--set", "knn={bank: 120, queries: 60, width: 16, ks: [3, 9], classes: 5}")  # fmt: skip


def run(*arguments: str) -> Result:
    return CliRunner().invoke(speed.main, arguments, catch_exceptions=False)


def settings(**values: Any) -> SpeedSettings:
    return SpeedSettings(width=0.125, device="cpu", probe_crop=16, probe_batch=4, extraction_crop=16,
                         extraction_photos=8, **values)  # fmt: skip


def verdicts(metrics: dict[str, float]) -> dict[str, str]:
    return {target.figure: target.row(metrics)[-1] for target in TARGETS if target.figure in metrics}


def test_parts_asked_for_and_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("--what", "knn", "--what", "probe", *SMALL, "-o", "out")
    assert result.exit_code == 0, result.output
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())["metrics"]
    assert {name.split("_")[0] for name in metrics} == {"probe", "knn"}
    for words in ("linear probe at 16 px", "kNN of k = 9 against", "kNN of all k", "same answers"):
        assert words in result.stdout
    assert "extraction" not in result.stdout


@pytest.mark.slow
def test_all_parts_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*SMALL, "--crop", "16", "--batch-size", "2", "--set", "memory_batch=2", "--set", "repeats=1", "--json")
    assert result.exit_code == 0, result.output
    metrics = json.loads(result.stdout)["metrics"]
    assert {"color_share", "probe_ratio", "extraction_ratio", "knn_speedup_one_k"} < set(metrics)


def test_an_unknown_part_or_setting_is_a_mistake() -> None:
    assert run("--what", "speed").exit_code == 2
    with pytest.raises(UserError, match="Unknown setting 'knns'"):
        run("--set", "knns=3")


def test_ratios_are_of_what_was_timed() -> None:
    found = speed.measure_probe(settings(), classes=3, repeats=1)
    found |= speed.measure_extraction(settings(), batch_size=4, workers=0, repeats=1)
    assert found["probe_ratio"] == found["probe_seconds_all"] / found["probe_seconds_one"]
    share = found["photos_per_second_extracted"] / found["photos_per_second_bare"]
    assert share == pytest.approx(found["extraction_ratio"], abs=1e-6)
    assert found["probe_heads"] == 56


def test_targets_are_judged_the_right_way_round() -> None:
    figures = {"probe_ratio": 1.4, "extraction_ratio": 0.95, "probe_heads": 56.0, "probe_crop": 8, "extraction_crop": 8,
               "knn_memory_ratio_lightly": 0.6, "knn_speedup": 1.9, "knn_agreement": 0.999}  # fmt: skip
    assert verdicts(figures) == {"probe_ratio": "no", "extraction_ratio": "yes", "knn_memory_ratio_lightly": "no",
                                 "knn_speedup": "no", "knn_agreement": "no"}  # fmt: skip
    probe = next(target for target in TARGETS if target.figure == "probe_ratio")
    assert probe.row(figures) == ("linear probe at 8 px, 56 heads against 1", "1.40 x", "at most 1.30 x", "no")


def test_both_ways_of_knn_give_the_same_answers() -> None:
    found = speed.measure_knn(settings(knn=KnnSizes(bank=300, queries=120, width=16, ks=(3, 20), classes=6, memory=1)))
    assert found["knn_agreement"] == 1
    assert all(value > 0 for value in found.values())


def test_one_wrong_answer_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = speed.one_hot_answers

    def spoilt(*arguments: torch.Tensor, k: int, sizes: KnnSizes) -> torch.Tensor:
        said = usual(*arguments, k=k, sizes=sizes)
        said[3] = (said[3] + (k == 3)) % sizes.classes
        return said

    monkeypatch.setattr(speed, "one_hot_answers", spoilt)
    found = speed.measure_knn(settings(knn=KnnSizes(bank=90, queries=50, width=16, ks=(3, 20), classes=6, memory=1)))
    assert found["knn_agreement"] == 0.98
    assert verdicts(found)["knn_agreement"] == "no"
