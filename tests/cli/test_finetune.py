"""``ssl-colorize finetune`` and ``predict`` from the outside: figures, files, and one line for a mistake."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from ssl_colorize.cli import main

TINY = ("--device", "cpu", "--workers", "0", "--size", "24", "--crop", "16", "--batch-size", "8", "--layer", "conv2")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, catch_exceptions=False)


def tune(*arguments: str) -> Result:
    return run("finetune", "classification", *arguments)


@pytest.fixture
def classes(workplace: Path) -> Path:
    """`classes/` with ten photos each of two classes, without a split."""
    chance = np.random.default_rng(0)
    for name, light in (("dark", 40), ("light", 190)):
        (workplace / "classes" / name).mkdir(parents=True)
        for index in range(10):
            pixels = chance.normal(light, 30, (24, 24, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(workplace / "classes" / name / f"{index}.png")
    return workplace / "classes"


def test_a_whole_run_and_predictions_by_it(classes: Path) -> None:
    flags = ("--learning-rate", "0.01", "--learning-rate", "0.03", "--train-from", "conv2", "--rescale")
    result = tune("--encoder", "runs/tiny", "--data", "classes", *TINY, "--epochs", "2", "-o", "out", *flags)
    assert result.exit_code == 0, result.stderr
    content = json.loads(Path("out/metrics.json").read_text())
    assert content["command"].startswith("ssl-colorize finetune classification --encoder runs/tiny")
    assert {"top1", "low", "high", "learning_rate", "epochs", "choosing", "trials"} <= set(content["metrics"])
    assert content["config"]["batchnorm"] == "fold" and content["config"]["train_from"] == "conv2"
    assert json.loads(Path("out/per_class.json").read_text()).keys() == {"dark", "light"}
    for name in ("curves.png", "most_right.png", "most_wrong.png"):
        assert Image.open(f"out/{name}").size[0] > 300
    assert "top1" in result.stdout and "Next: look at out/most_wrong.png" in result.stdout
    assert "the test photos were read once" in result.stderr
    written = sorted(path.name for path in Path("out").iterdir() if not path.name.startswith("events.out"))
    assert written == ["config.yaml", "curves.png", "finetuned.safetensors", "metrics.json", "metrics.jsonl",
                       "most_right.png", "most_wrong.png", "per_class.json"]  # fmt: skip

    refused = tune("--encoder", "runs/tiny", "--data", "classes", *TINY, "-o", "out")
    assert refused.exit_code == 2 and "already holds a run" in refused.stderr

    Path("classes/dark/broken.jpg").write_bytes(b"no photo")
    said = run("predict", "out", "classes/dark", "-o", "said", "--device", "cpu", "--json")
    assert said.exit_code == 0, said.stderr
    results = json.loads(Path("said/predictions.json").read_text())
    assert len(results) == 10 and json.loads(said.stdout)["predictions"] == results
    first = results["classes/dark/0.png"]
    assert set(first["scores"]) == {"dark", "light"} and sum(first["scores"].values()) == pytest.approx(1, abs=1e-3)
    assert Image.open(first["picture"]).size[0] > 100
    assert "broken.jpg" in Path("said/unreadable.txt").read_text()


def test_the_written_settings_make_the_same_run(classes: Path) -> None:
    first = tune("--encoder", "runs/tiny", "--data", "classes", *TINY, "--steps", "2", "-o", "a", "--json")
    again = tune("--config", "a/config.yaml", "-o", "b", "--json")
    assert json.loads(again.stdout)["metrics"] == json.loads(first.stdout)["metrics"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--encoder", "runs/tiny"), "--data"),
        (("--data", "classes"), "--encoder"),
        (("--encoder", "runs/tiny", "--data", "classes", "--train-from", "conv9"), "choose from all, conv1"),
        (("--encoder", "nothing", "--data", "classes"), "nothing"),
        (("--encoder", "runs/tiny", "--data", "nowhere"), "nowhere"),
        (("--encoder", "runs/tiny", "--data", "classes", "--crop", "32", "--size", "24"), "32"),
        (("--encoder", "runs/tiny", "--data", "classes", "--set", "learning_rate=1"), "learning_rates"),
        (("--resume", "runs/tiny"), "Nothing to resume"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(classes: Path, arguments: tuple[str, ...], said: str) -> None:
    result = tune(*arguments, "--device", "cpu")
    assert result.exit_code == 2
    lines = [line for line in result.stderr.splitlines() if not line.startswith("Read: ")]
    assert len(lines) == 1 and lines[0].startswith("Error: ") and said in lines[0], result.stderr
    assert sorted(path.name for path in Path("runs").iterdir()) == ["tiny"]


def test_mistakes_of_predict(workplace: Path) -> None:
    for arguments, said in ((("nowhere", "x"), "x"), (("runs/tiny",), "No photos given"), ((), "RUN")):
        result = run("predict", *arguments)
        assert result.exit_code == 2 and said in result.stderr
    Image.new("RGB", (20, 20)).save("photo.png")
    result = run("predict", "runs/tiny", "photo.png")
    assert result.exit_code == 2 and "No fine-tuned model at runs/tiny/finetuned.safetensors" in result.stderr


def test_a_finished_run_has_nothing_to_resume_and_settings_are_kept(classes: Path) -> None:
    tune("--encoder", "runs/tiny", "--data", "classes", *TINY, "--steps", "1", "-o", "out")
    refused = tune("--resume", "out", "--steps", "5")
    assert refused.exit_code == 2 and "steps 1" in refused.stderr
    finished = tune("--resume", "out")
    assert finished.exit_code == 2 and "Nothing to resume" in finished.stderr
    # What the finished run wrote is untouched.
    assert Path("out/finetuned.safetensors").exists() and Path("out/metrics.jsonl").read_text()


@pytest.mark.parametrize("task", ["classification", "detection", "segmentation"])
def test_help_names_the_shared_flags(task: str) -> None:
    result = run("finetune", task, "--help")
    assert result.exit_code == 0
    for flag in ("--encoder", "--data", "--train-from", "--color / --gray", "--rescale", "--resume", "--refit"):
        assert flag in result.stdout
