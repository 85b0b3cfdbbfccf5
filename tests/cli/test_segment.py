"""``ssl-colorize segment`` from the outside."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from annotated_sets import scenes
from click.testing import CliRunner, Result
from PIL import Image

from ssl_colorize.cli import main

FAST = ("--layer", "conv2", "--resize", "32", "--workers", "0", "--device", "cpu", "--steps", "4")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, catch_exceptions=False)


@pytest.fixture
def voc(workplace: Path) -> Path:
    """`runs/tiny`, and `voc/` with masks."""
    scenes(workplace / "voc", train=6, test=3)
    return workplace


@pytest.mark.parametrize("method", ["linear", "neighbors"])
def test_figures_protocol_classes_and_a_picture(voc: Path, method: str) -> None:
    result = run("segment", "--encoder", "runs/tiny", "--data", "voc", *FAST, "--method", method, "--k", "5",
                 "--mask-size", "24", "-o", "out")  # fmt: skip
    assert result.exit_code == 0, result.stderr
    content = json.loads((voc / "out" / "metrics.json").read_text())
    metrics = content["metrics"]
    assert metrics["layer"] == "conv2" and set(metrics["random"]) == {"conv2"} and metrics["trunk_unchanged"] is True
    assert metrics["protocol"]["mask_size"] == 24 and metrics["protocol"]["photo_size"] == 32
    assert ("learning_rate" if method == "linear" else "temperature") in metrics["conv2"]
    assert "per_class" not in metrics["conv2"]
    classes = json.loads((voc / "out" / "per_class.json").read_text())
    assert "cat" in classes["conv2"] and "cat" in classes["random"]["conv2"]
    assert yaml.safe_load((voc / "out" / "config.yaml").read_text())["method"] == method
    assert "masks scored at a short side of 24 px" in result.stdout and "cat" in result.stdout
    assert f"{100 * metrics['conv2']['miou']:.1f}" in result.stdout and "conv2 *" in result.stdout
    assert result.stdout.splitlines()[-1].startswith("Next: look at out/segments.png")
    # Photo, truth, found and untrained beside each other, two photos a line.
    sheet = np.asarray(Image.open(voc / "out" / "segments.png"))
    assert sheet.shape[1] > 8 * 192
    assert not list((voc / "out").glob("checkpoint.pt"))


def test_a_finished_run_is_not_measured_over(voc: Path) -> None:
    arguments = ("segment", "--encoder", "runs/tiny", "--data", "voc", *FAST, "--no-random", "-o", "out", "--json")
    first = run(*arguments)
    assert json.loads(first.stdout)["metrics"]["protocol"]["mask_size"] == "original"
    again = run(*arguments)
    assert again.exit_code == 2 and "already holds a run" in again.stderr


def test_no_masks_is_one_line(voc: Path) -> None:
    result = run("segment", "--encoder", "runs/tiny", "--data", "runs", *FAST)
    assert result.exit_code == 2 and "holds no annotated photos" in result.stderr and "Traceback" not in result.stderr
