"""``ssl-colorize bench`` at sizes where only its form can be tested."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ssl_colorize.cli import main

SMALL = ("--width", "0.0625", "--device", "cpu", "--set", "probe_crop=16", "--set", "probe_batch=4",
         "--set", "extraction_crop=16", "--set", "extraction_photos=8",
         "--set", "knn={bank: 120, queries: 60, width: 16, ks: [3, 9], classes: 5}")  # fmt: skip


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["bench", *arguments], catch_exceptions=False)


def test_parts_asked_for_and_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("--what", "knn", "--what", "probe", *SMALL, "-o", "out")
    assert result.exit_code == 0, result.output
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())["metrics"]
    assert {name.split("_")[0] for name in metrics} == {"probe", "knn"}
    for words in ("linear probe at 16 px", "kNN of k = 9 against", "kNN of all k", "same answers"):
        assert words in result.stdout
    assert "extraction" not in result.stdout


def test_all_parts_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*SMALL, "--crop", "16", "--batch-size", "2", "--set", "memory_batch=2", "--set", "repeats=1", "--json")
    assert result.exit_code == 0, result.output
    metrics = json.loads(result.stdout)["metrics"]
    assert {"color_share", "probe_ratio", "extraction_ratio", "knn_speedup_one_k"} < set(metrics)


def test_an_unknown_part_is_one_line() -> None:
    result = CliRunner().invoke(main, ["bench", "--what", "speed"])
    assert result.exit_code == 2 and "training" in result.stderr
