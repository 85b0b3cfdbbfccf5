"""``ssl-colorize knn`` and ``ssl-colorize svm`` from the outside."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner, Result
from PIL import Image

from ssl_colorize.cli import main

FAST = ("--layer", "conv1", "--resize", "32", "--workers", "0", "--no-cache", "--device", "cpu")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, catch_exceptions=False)


@pytest.fixture
def folders(workplace: Path) -> Path:
    """`runs/tiny`, and `set/` with two classes of ten photos."""
    random = np.random.default_rng(0)
    for name in ("noise", "smooth"):
        (workplace / "set" / name).mkdir(parents=True)
        for number in range(10):
            pixels = random.integers(0, 256, (40, 40, 3) if name == "noise" else (3, 3, 3), dtype=np.uint8)
            photo = Image.fromarray(pixels).resize((40, 40), Image.Resampling.BICUBIC)
            photo.save(workplace / "set" / name / f"{number}.png")
    return workplace


def test_knn_writes_figures_classes_and_a_picture(folders: Path) -> None:
    result = run("knn", "--encoder", "runs/tiny", "--data", "set", *FAST, "-o", "out", "--k", "1", "--k", "5",
                 "--temperature", "0.1", "--seed", "3")  # fmt: skip
    assert result.exit_code == 0, result.stderr
    content = json.loads((folders / "out" / "metrics.json").read_text())
    metrics = content["metrics"]
    assert content["seed"] == 3 and content["command"].startswith("ssl-colorize knn --encoder runs/tiny")
    assert set(metrics["conv1"]) == {"k1_t0.1", "k5_t0.1"} == set(metrics["random"]["conv1"])
    assert {"top1", "top5", "low", "high"} == set(metrics["conv1"]["k5_t0.1"])
    assert metrics["trunk_unchanged"] is True
    classes = json.loads((folders / "out" / "per_class.json").read_text())
    assert set(classes["conv1"]["k1_t0.1"]) == {"noise", "smooth"} == set(classes["random"]["conv1"]["k1_t0.1"])
    assert yaml.safe_load((folders / "out" / "config.yaml").read_text())["k"] == [1, 5]
    assert "95 % interval" in result.stdout and f"{100 * metrics['conv1']['k1_t0.1']['top1']:.1f}" in result.stdout
    assert result.stdout.splitlines()[-1].startswith("Next: look at out/neighbors.png")
    sheet = np.asarray(Image.open(folders / "out" / "neighbors.png"))
    assert (sheet == (46, 158, 91)).all(2).any(), "no neighbor is marked as right"


def test_knn_as_json_from_its_own_configuration(folders: Path) -> None:
    first = run("knn", "--encoder", "runs/tiny", "--data", "set", *FAST, "-o", "a", "--k", "3", "--no-random", "--json")
    again = run("knn", "--config", "a/config.yaml", "-o", "b", "--json")
    one, other = (json.loads(result.stdout) for result in (first, again))
    assert one["metrics"] == other["metrics"] and one["config"] == other["config"]
    assert "random" not in one["metrics"]


def test_seeds_give_a_spread_in_one_table(folders: Path) -> None:
    for verb in ("knn", "svm"):
        more = ("--k", "3") if verb == "knn" else ("--cost", "1")
        result = run(verb, "--encoder", "runs/tiny", "--data", "set", *FAST, "-o", verb, "--seeds", "2", *more)
        assert result.exit_code == 0, result.stderr
        metrics = json.loads((folders / verb / "metrics.json").read_text())["metrics"]
        untrained = metrics["random"]["conv1"]
        assert len((untrained["k3_t0.07"] if verb == "knn" else untrained)["runs"]) == 2
        # The title, a blank line, the columns, a rule, the one row of the layer, a blank line, what is next.
        lines = [line.strip() for line in result.stdout.splitlines()]
        assert lines[0].startswith("runs/tiny on set") and lines[-1].startswith("Next: ")
        assert sum(line.startswith("conv1") for line in lines) == 1 and " +- " in result.stdout
        assert not any(line.startswith("seconds") for line in lines)


def test_svm_writes_ap_and_low_shot(folders: Path) -> None:
    result = run("svm", "--encoder", "runs/tiny", "--data", "set", *FAST, "-o", "out", "--low-shot", "--shots", "1",
                 "--shots", "4", "--draws", "2", "--cost", "1", "--cost", "10")  # fmt: skip
    assert result.exit_code == 0, result.stderr
    metrics = json.loads((folders / "out" / "metrics.json").read_text())["metrics"]
    assert set(metrics["conv1"]["ap"]) == {"noise", "smooth"}
    assert set(metrics["conv1"]["cost"].values()) <= {1, 10}
    assert list(metrics["conv1"]["low_shot"]) == ["1", "4"] == list(metrics["random"]["conv1"]["low_shot"])
    assert "positives" in result.stdout and "+-" in result.stdout
    assert result.stdout.splitlines()[-1].startswith("Next: ")


@pytest.mark.parametrize("verb", ["knn", "svm"])
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--data", "set"), "--encoder"),
        (("--encoder", "runs/tiny"), "--data"),
        (("--encoder", "runs/tiny", "--data", "set", "--layer", "conv9"), "conv1, conv2"),
        (("--encoder", "runs/nothing", "--data", "set"), "runs/nothing"),
        (("--encoder", "runs/tiny", "--data", "nowhere"), "nowhere"),
        (("--encoder", "runs/tiny", "--data", "set", "--set", "kk=1"), "kk"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(
    folders: Path, verb: str, arguments: tuple[str, ...], said: str
) -> None:
    result = run(verb, *arguments, "-o", "out", "--workers", "0", "--no-cache")
    assert result.exit_code == 2
    lines = [line for line in result.stderr.splitlines() if not line.startswith("Read: ")]
    assert lines[-1].startswith("Error: ") and said in lines[-1] and len(lines) == 1, result.stderr
    assert not (folders / "out").exists()


def test_k_beyond_the_photos_there_are(folders: Path) -> None:
    result = run("knn", "--encoder", "runs/tiny", "--data", "set", *FAST, "-o", "out", "--k", "20")
    assert result.exit_code == 2 and "--k 16 or less" in result.stderr
    assert not (folders / "out").exists()


def test_neighbors_of_a_photo_need_no_labels(folders: Path) -> None:
    result = run("knn", "--encoder", "runs/tiny", "--data", "set/noise", *FAST, "-o", "out", "--neighbors-of",
                 "set/noise/3.png", "--neighbors-of", "set/smooth/1.png")  # fmt: skip
    assert result.exit_code == 0, result.stderr
    metrics = json.loads((folders / "out" / "metrics.json").read_text())["metrics"]
    near = next(iter(metrics["conv1"]["neighbors"].values()))
    assert len(near) == 6 and near[0]["photo"] in result.stdout and "random" in metrics
    assert result.stdout.splitlines()[-1] == "Next: look at out/neighbors-conv1.png"
    assert Image.open(folders / "out" / "neighbors-conv1.png").width > 7 * 128


def test_knn_is_judged_on_more(folders: Path) -> None:
    result = run("knn", "--encoder", "runs/tiny", "--data", "set", *FAST, "-o", "out", "--k", "1", "--corrupt",
                 "--set", "severities=3")  # fmt: skip
    assert result.exit_code == 0, result.stderr
    metrics = json.loads((folders / "out" / "metrics.json").read_text())["metrics"]
    assert metrics["conv1"]["k1_t0.07"]["corrupt"]["jpeg"]["3"]["top1"] <= 1
    assert "corruption" in result.stdout and "conv1, k 1, T 0.07 on the test photos made worse" in result.stdout
