"""``ssl-colorize info`` and ``ssl-colorize prior`` from the outside."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from ssl_colorize.cli import main


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, catch_exceptions=False)


def test_info_says_what_a_checkpoint_is(workplace: Path) -> None:
    result = run("info", "runs/tiny")
    assert result.exit_code == 0, result.stderr
    for word in ("eccv16", "514,241", "conv5", "8 x 8", "1 min 5 s", "0.38"):
        assert word in result.stdout
    assert result.stdout.splitlines()[-1].startswith("Next: ssl-colorize colorize")


def test_info_as_json(workplace: Path) -> None:
    about = json.loads(run("info", "runs/tiny", "--json").stdout)
    assert (about["model"], about["parameters"], about["training"]["step"]) == ("eccv16", 514_241, 7)
    assert about["layers"][-1] == {"layer": "logits", "channels": 313, "stride": 4, "height": 8, "width": 8}


def test_info_about_nothing(workplace: Path) -> None:
    result = run("info", "nowhere")
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: ") and "nowhere" in result.stderr


def test_prior_writes_numbers_a_picture_and_figures(photos: Path) -> None:
    result = run("prior", "--data", "photos", "-o", "p", "--workers", "0", "--set", "size=32", "--limit", "5", "--json")
    assert result.exit_code == 0, result.stderr
    prior, weights = np.load("p/prior.npy"), np.load("p/weights.npy")
    assert prior.shape == weights.shape == (313,)
    assert prior.sum() == pytest.approx(1)
    assert (prior * weights).sum() == pytest.approx(1, rel=1e-5)
    with Image.open("p/prior.png") as picture:
        assert picture.width > 1000
    metrics = json.loads(result.stdout)["metrics"]
    assert metrics["photos"] == 5
    assert metrics["pixels"] == 5 * 8 * 8
    assert metrics["entropy"] == pytest.approx(-(prior[prior > 0] * np.log(prior[prior > 0])).sum())
    assert "--data photos --set prior=p/prior.npy" in result.stderr


def test_mix_and_neighbors_reach_the_numbers(photos: Path) -> None:
    run("prior", "--data", "photos", "-o", "p", "--workers", "0", "--set", "size=32", "--mix", "1")
    assert np.load("p/weights.npy") == pytest.approx(1.0)
    run("prior", "--data", "photos", "-o", "q", "--workers", "0", "--set", "size=32", "--neighbors", "10")
    assert np.abs(np.load("p/prior.npy") - np.load("q/prior.npy")).max() > 1e-5


def test_prior_of_a_missing_folder(workplace: Path) -> None:
    result = run("prior", "--data", "nowhere")
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: ") and "nowhere" in result.stderr
