"""``ssl-colorize pretrain`` from the outside: what it passes on, writes and refuses. The loop has tests of its own."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

import ssl_colorize.pretrain.loop as loop
from ssl_colorize.cli import main
from ssl_colorize.engine.signals import Interrupted
from ssl_colorize.pretrain.config import Recipe

TINY = ["--data", "photos", "--width", "0.125", "--batch-size", "2", "--workers", "0", "--device", "cpu"] + [
    part for pair in ("resize=40", "crop=32", "prior_photos=8", "init_photos=8") for part in ("--set", pair)
]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["pretrain", *arguments], catch_exceptions=False)


class Trained:
    """Stands in for the loop, and notes what it was asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[tuple[Recipe, Path, bool]] = []
        monkeypatch.setattr(loop, "train", self)
        monkeypatch.setattr("ssl_colorize.cli.pretrain._draw", lambda *_: None)

    def __call__(self, recipe: Recipe, folder: Path, *, resume: bool = False, watch: Any = None) -> dict[str, Any]:
        self.calls.append((recipe, folder, resume))
        folder.joinpath("config.yaml").write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
        folder.joinpath("checkpoint.pt").touch()
        return {"command": "?", "metrics": {"loss": 1.5}}


@pytest.fixture
def trained(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Trained:
    return Trained(monkeypatch)


def test_a_whole_run_with_its_pictures(photos: Path) -> None:
    result = run(*TINY, "--steps", "2", "-o", "run", "--json")
    assert result.exit_code == 0, result.stderr
    content = json.loads(result.stdout)
    assert content == json.loads(Path("run/metrics.json").read_text())
    assert content["command"].startswith("ssl-colorize pretrain --data photos --width 0.125")
    assert content["metrics"]["photos_seen"] == 4
    for name in ("config.yaml", "metrics.jsonl", "model.safetensors", "loss.png", "samples.png"):
        assert Path("run", name).exists(), name
    assert "--checkpoint run" in result.stderr
    # What it wrote is the newest run for `colorize`, once it lies under runs/.
    assert CliRunner().invoke(main, ["info", "run"]).exit_code == 0


def test_flags_reach_the_recipe(trained: Trained) -> None:
    run("--data", "a", "--data", "b", "--learning-rate", "0.01", "--seed", "5", "--limit", "9", "--model", "alexnet")
    ((recipe, folder, resume),) = trained.calls
    assert recipe.data == ("a", "b")
    assert (recipe.learning_rate, recipe.seed, recipe.limit, recipe.model) == (0.01, 5, 9, "alexnet")
    assert recipe.steps == Recipe().steps and recipe.epochs is None
    assert folder.parent == Path("runs") and folder.name.startswith("pretrain-")
    assert not resume


def test_epochs_replace_steps_and_the_other_way_round(trained: Trained) -> None:
    run("--epochs", "3", "-o", "a")
    Path("c.yaml").write_text("steps: null\nepochs: 4\n")
    run("--config", "c.yaml", "--steps", "5", "-o", "b")
    assert [(recipe.steps, recipe.epochs) for recipe, _, _ in trained.calls] == [(None, 3.0), (5, None)]
    assert run("--epochs", "3", "--set", "steps=5", "-o", "c").exit_code == 2


@pytest.mark.parametrize("how", [("--resume", "run"), ("--resume", "-o", "run"), ("-o", "run", "--resume")])
def test_resume_goes_on_by_the_runs_own_settings(trained: Trained, how: tuple[str, ...]) -> None:
    run("--steps", "50", "--width", "0.5", "-o", "run")
    result = run(*how, "--workers", "1", "--steps", "60")
    assert result.exit_code == 0, result.stderr
    recipe, folder, resume = trained.calls[-1]
    assert (recipe.steps, recipe.width, recipe.workers) == (60, 0.5, 1)
    assert folder == Path("run") and resume


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--resume", "run", "--width", "0.5"), "width 0.25"),
        (("--resume", "run", "--set", "crop=32"), "crop 64"),
        (("--resume", "run", "--data", "elsewhere"), "data"),
        (("--resume", "run", "--config", "c.yaml"), "--config"),
        (("--resume", "run", "-o", "other"), "other"),
        (("--resume", "nowhere"), "nowhere"),
        (("--resume",), "which run"),
        (("-o", "run"), "already holds a run"),
    ],
)
def test_what_contradicts_a_run_is_refused(trained: Trained, arguments: tuple[str, ...], said: str) -> None:
    run("--steps", "50", "-o", "run")
    result = run(*arguments)
    assert result.exit_code == 2
    assert said in result.stderr and result.stderr.count("\n") == 1
    assert len(trained.calls) == 1


def test_an_interrupted_run_says_how_to_go_on(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(recipe: Recipe, folder: Path, *, resume: bool, watch: Any) -> None:
        raise Interrupted(folder, signal.SIGTERM, verb="pretrain", step=12)

    monkeypatch.setattr(loop, "train", stop)
    result = run("-o", "run")
    assert result.exit_code == 128 + signal.SIGTERM
    assert "--resume run" in result.stderr and "Traceback" not in result.stderr


def test_only_the_first_process_draws_and_prints(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    result = run("-o", "run")
    assert (result.exit_code, result.stdout) == (0, "")
    assert not Path("run/metrics.json").exists()
    # Each process would make up a folder of its own.
    assert run().exit_code == 2
