"""``ssl-colorize linear-probe`` from the outside: figures, table, plot, and one line for a mistake."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from ssl_colorize.cli import main
from ssl_colorize.engine.signals import Interrupted
from ssl_colorize.evaluate import ProbeSettings, run_linear_probe

TINY = ("--device", "cpu", "--workers", "0", "--resize", "16", "--batch-size", "4", "--no-cache")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["linear-probe", *arguments], catch_exceptions=False)


@pytest.fixture
def classes(workplace: Path) -> Path:
    """`classes/` with ten photos each of two classes, without a split."""
    chance = np.random.default_rng(0)
    for name, light in (("dark", 40), ("light", 190)):
        (workplace / "classes" / name).mkdir(parents=True)
        for index in range(10):
            pixels = chance.normal(light, 30, (20, 20, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(workplace / "classes" / name / f"{index}.png")
    return workplace / "classes"


def test_a_whole_run(classes: Path) -> None:
    result = run("--encoder", "runs/tiny", "--data", "classes", *TINY, "--steps", "6", "-o", "out", "--seeds", "2")
    assert result.exit_code == 0, result.stderr
    for word in ("conv1", "conv7", "top-1 %", "top-5 %", "rate", "untrained top-1 %", " +- "):
        assert word in result.stdout, word
    assert "Next: look at out/layers.png" in result.stdout
    content = json.loads(Path("out/metrics.json").read_text())
    assert content["command"].startswith("ssl-colorize linear-probe --encoder runs/tiny")
    assert content["metrics"]["trunk_unchanged"] is True
    assert {"top1", "top5", "learning_rate", "low", "high", "spread"} <= set(content["metrics"]["conv5"])
    assert content["metrics"]["random"]["conv5"]["top1"] <= 1
    assert json.loads(Path("out/per_class.json").read_text())["conv5"].keys() == {"dark", "light"}
    assert Image.open("out/layers.png").size[0] > 300
    assert sorted(path.name for path in Path("out").iterdir() if "events" not in path.name) == [
        "config.yaml", "layers.png", "metrics.json", "metrics.jsonl", "per_class.json"
    ]  # fmt: skip
    assert [json.loads(row)["step"] for row in Path("out/metrics.jsonl").read_text().splitlines()] == [*range(1, 13)]
    # The written settings make the same run.
    again = run("--config", "out/config.yaml", "-o", "again", "--json")
    assert json.loads(again.stdout)["metrics"] == content["metrics"]


@pytest.mark.parametrize("engine", ["ridge", "logistic"])
def test_closed_forms(classes: Path, engine: str) -> None:
    result = run("--encoder", "runs/tiny", "--data", "classes", *TINY, "--engine", engine, "--layer", "conv2",
                 "--no-random", "--json")  # fmt: skip
    assert result.exit_code == 0, result.stderr
    metrics = json.loads(result.stdout)["metrics"]
    assert set(metrics) == {"conv2", "trunk_unchanged"}
    assert metrics["conv2"]["learning_rate"] is None and metrics["conv2"]["strength"] > 0
    assert metrics["conv2"]["top1"] == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--encoder", "runs/tiny"), "--data"),
        (("--data", "classes"), "--encoder"),
        (("--encoder", "runs/tiny", "--data", "classes", "--layer", "conv9"), "choose from conv1, conv2"),
        (("--encoder", "nothing", "--data", "classes"), "nothing"),
        (("--encoder", "runs/tiny", "--data", "classes/dark"), "labels"),
        (("--encoder", "runs/tiny", "--data", "classes", "--resize", "16", "--crop", "32"), "32"),
        (("--encoder", "runs/tiny", "--data", "classes", "--set", "learning_rate=1"), "learning_rates"),
        (("--resume", "runs/tiny"), "Nothing to resume"),
    ],
)
def test_mistakes_are_one_line(classes: Path, arguments: tuple[str, ...], said: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    lines = [line for line in result.stderr.splitlines() if not line.startswith("Read: ")]
    assert len(lines) == 1 and lines[0].startswith("Error: ") and said in lines[0], result.stderr
    assert sorted(path.name for path in Path("runs").iterdir()) == ["tiny"]


def test_a_run_is_resumed_by_its_own_settings(classes: Path) -> None:
    whole = run("--encoder", "runs/tiny", "--data", "classes", *TINY, "--steps", "4", "-o", "out", "--json")
    finished = run("--resume", "out")
    assert finished.exit_code == 2 and "Nothing to resume: out holds no checkpoint.pt" in finished.stderr

    def stop(what: str, done: int, total: int) -> None:
        # Once: a second signal acts at once.
        if done == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    Path("stopped").mkdir()
    shutil.copy("out/config.yaml", "stopped")
    with pytest.raises(Interrupted):
        run_linear_probe(ProbeSettings.resolve(file="out/config.yaml"), Path("stopped"), watch=stop)
    refused = run("--resume", "stopped", "--steps", "5")
    assert refused.exit_code == 2 and "steps 4" in refused.stderr
    again = run("--resume", "stopped", "--workers", "0", "--json")
    assert json.loads(again.stdout)["metrics"] == json.loads(whole.stdout)["metrics"]


def test_all_heads_and_further_sets_are_in_the_tables(classes: Path) -> None:
    for name in ("dark", "light", "blue"):
        (classes.parent / "more" / name).mkdir(parents=True)
        Image.new("RGB", (20, 20), (90, 90, 90)).save(classes.parent / "more" / name / "a.png")
    result = run("--encoder", "runs/tiny", "--data", "classes", *TINY, "--steps", "3", "-o", "out", "--layer", "conv1",
                 "--layer", "conv2", "--head", "linear", "--head", "attentive", "--head", "all-layers", "--also",
                 "more=more", "--corrupt", "--set", "severities=[2,4]")  # fmt: skip
    assert result.exit_code == 0, result.stderr
    for word in ("conv2/attentive", "all-layers/attentive", "on further test sets", "more", "brightness", "drop"):
        assert word in result.stdout, word
    assert "2 more" in result.stderr and "left out 1 that are no classes of the training photos: blue" in result.stderr
    metrics = json.loads(Path("out/metrics.json").read_text())["metrics"]
    assert list(metrics)[:6] == ["conv1", "conv2", "conv1/attentive", "conv2/attentive", "all-layers/attentive",
                                 "all-layers"]  # fmt: skip
    assert metrics["random"]["all-layers"]["also"]["more"]["photos"] == 2
    assert Image.open("out/layers.png").size[0] > 300
