"""Whole runs of a few steps: what they write, how they stop, and that they go on as if they never had."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from ssl_colorize.engine import trainer
from ssl_colorize.engine.checkpoint import load_checkpoint
from ssl_colorize.engine.log import read_log
from ssl_colorize.engine.signals import Interrupted
from ssl_colorize.errors import UserError
from ssl_colorize.models import Objective, load_pretrained
from ssl_colorize.pretrain.config import Recipe
from ssl_colorize.pretrain.loop import train
from ssl_colorize.pretrain.pretext import Pretext


@pytest.fixture
def recipe(photo_folder: Path) -> Recipe:
    return Recipe(
        data=(str(photo_folder),), resize=(32, 40), crop=32, holdout=0.2, width=0.125, init="lsuv", init_photos=8,
        prior_photos=16, batch_size=4, steps=8, warmup=2, evaluate_every=4, checkpoint_every=4, workers=0,
        device="cpu", precision="fp32",
    )  # fmt: skip


def changed(recipe: Recipe, **values: Any) -> Recipe:
    return Recipe.checked(recipe.model_dump() | values)


def folder(tmp_path: Path, name: str) -> Path:
    path = tmp_path / name
    path.mkdir()
    return path


def rows(run: Path) -> list[dict[str, Any]]:
    """The log without what a clock says."""
    return [{key: value for key, value in row.items() if key != "photos_per_second"} for row in read_log(run)]


def at_step(monkeypatch: pytest.MonkeyPatch, step: int, action: Any) -> None:
    """Do something in the middle of the step after `step` steps, once."""
    original = Pretext.make_objective
    count = iter(range(10**6))

    def hooked(*arguments: Any, **options: Any) -> Objective:
        objective = original(*arguments, **options)
        losses_of = objective.losses

        def losses(output: Tensor, examples: Any) -> dict[str, Tensor]:
            losses = losses_of(output, examples)
            return (action(losses) or losses) if next(count) == step else losses

        monkeypatch.setattr(objective, "losses", losses)
        return objective

    monkeypatch.setattr(Pretext, "make_objective", hooked)


def interrupt(_: object) -> None:
    signal.raise_signal(signal.SIGTERM)


# ---- what a run writes ----------------------------------------------------------------------------------------------


def test_a_run_writes_what_it_promises(recipe: Recipe, tmp_path: Path) -> None:
    run = folder(tmp_path, "run")
    content = train(recipe, run)

    assert Recipe.resolve(file=run / "config.yaml") == recipe
    log = read_log(run)
    assert [row["step"] for row in log] == list(range(1, 9))
    assert all(math.isfinite(row["loss"]) and row["kl"] < row["cross_entropy"] for row in log)
    assert log[0]["learning_rate"] == pytest.approx(recipe.learning_rate / 3)
    assert [row["step"] for row in log if "holdout_loss" in row] == [4, 8]
    assert list(run.glob("events.out.tfevents*"))

    assert content == json.loads((run / "metrics.json").read_text())
    metrics = content["metrics"]
    assert {"loss", "loss_constant", "cross_entropy", "kl", "chroma", "chroma_true", "photos_per_second"} <= set(
        metrics
    )
    assert metrics["photos_seen"] == 32
    assert metrics["loss"] == log[-1]["holdout_loss"]
    assert content["config"] == recipe.model_dump(mode="json") and content["seed"] == 0

    pretrained = load_pretrained(run)
    assert (pretrained.temperature, pretrained.mix, pretrained.input_size, pretrained.objective) == (
        0.38,
        0.5,
        36,
        "class",
    )
    assert pretrained.prior is not None and pretrained.prior.sum().item() == pytest.approx(1, abs=1e-5)
    assert pretrained.training["step"] == 8 and pretrained.training["holdout"]["loss"] == metrics["loss"]
    state = load_checkpoint(run, "pretrain").model
    assert all(torch.equal(value, state[key]) for key, value in pretrained.model.state_dict().items())
    # Nothing but finished files.
    assert not list(run.glob(".*"))


def test_the_first_losses_are_those_of_the_constant(recipe: Recipe, tmp_path: Path) -> None:
    # The initialized network predicts the best constant and little else; so a wrong prior, bias, or weight would show.
    run = folder(tmp_path, "run")
    train(changed(recipe, steps=1, learning_rate=1e-9), run)
    row = read_log(run)[0]
    assert row["holdout_loss"] == pytest.approx(row["holdout_loss_constant"], rel=0.02)


def test_training_lowers_the_loss_below_the_constant(recipe: Recipe, tmp_path: Path) -> None:
    content = train(changed(recipe, steps=60, evaluate_every=60, checkpoint_every=60), folder(tmp_path, "run"))
    assert content["metrics"]["loss"] < 0.97 * content["metrics"]["loss_constant"]


def test_the_same_recipe_gives_the_same_run_and_another_seed_another(recipe: Recipe, tmp_path: Path) -> None:
    short = changed(recipe, steps=2)
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(changed(short, seed=seed), folder(tmp_path, name))
    assert rows(tmp_path / "a") == rows(tmp_path / "b") != rows(tmp_path / "c")


def test_epochs_in_place_of_steps(recipe: Recipe, tmp_path: Path) -> None:
    # 14 photos, of which some are held out; the rest twice, four a step.
    run = folder(tmp_path, "run")
    train(changed(recipe, steps=None, epochs=2), run)
    pretrained = load_pretrained(run)
    held_out = max(1, round(14 * 0.2))
    assert pretrained.training["steps"] == math.ceil(2 * (14 - held_out) / 4)


@pytest.mark.parametrize(
    "values", [{"objective": "l2", "rebalance": False}, {"rebalance": False}, {"model": "alexnet", "width": 0.03}]
)
def test_the_other_objectives_and_networks_train(recipe: Recipe, tmp_path: Path, values: dict[str, Any]) -> None:
    run = folder(tmp_path, "run")
    metrics = train(changed(recipe, steps=2, **values), run)["metrics"]
    pretrained = load_pretrained(run)
    assert math.isfinite(metrics["loss"]) and math.isfinite(metrics["loss_constant"])
    if values.get("objective") == "l2":
        assert (metrics["kl"], pretrained.objective, pretrained.model.outputs) == (None, "l2", 2)
        assert set(read_log(run)[0]) == {"step", "loss", "learning_rate", "photos_per_second"}
    if not values.get("rebalance", True):
        assert pretrained.mix is None
        # Without class weights the objective is the unweighted figure: no photo here is gray.
        assert metrics["cross_entropy"] in (None, pytest.approx(metrics["loss"], rel=1e-4))


def test_every_look_and_every_checkpoint_is_logged_in_long_runs(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = folder(tmp_path, "run")
    # Every third step is logged; neither 4 nor 5 is among them.
    monkeypatch.setattr(trainer, "LOG_ROWS", 3)
    train(changed(recipe, steps=9, evaluate_every=4, checkpoint_every=5), run)
    log = read_log(run)
    assert [row["step"] for row in log] == [1, 3, 4, 5, 6, 8, 9]
    assert [row["step"] for row in log if "holdout_loss" in row] == [4, 8, 9]


# ---- what stops a run -----------------------------------------------------------------------------------------------


def broken(losses: dict[str, Tensor]) -> dict[str, Tensor]:
    return losses | {"loss": losses["loss"] * torch.nan}


def test_a_loss_that_blows_up_is_told_and_never_kept(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = folder(tmp_path, "run")
    # Step 4, a checkpoint, is not among the logged steps.
    monkeypatch.setattr(trainer, "LOG_ROWS", 3)
    at_step(monkeypatch, 3, broken)
    with pytest.raises(
        UserError, match=r"The loss became nan at step 4: lower the learning rate, .*untouched"
    ) as error:
        train(changed(recipe, steps=9, evaluate_every=9, checkpoint_every=2), run)
    assert "\n" not in str(error.value)
    assert load_checkpoint(run, "pretrain").step == 2
    assert all(value.isfinite().all() for value in load_file(run / "model.safetensors").values())


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"crop": 36, "resize": (40, 40)}, "crop must be a multiple of 8 for eccv16, not 36"),
        ({"model": "vgg"}, "Unknown model 'vgg'"),
        ({"data": ("/nowhere/photos",)}, "/nowhere/photos"),
        ({"prior": "/nowhere/prior.npy"}, r"prior\.npy"),
        ({"width": 9.0}, "width"),
    ],
)
def test_what_cannot_be_done_is_told(recipe: Recipe, tmp_path: Path, values: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        train(changed(recipe, **values), folder(tmp_path, "run"))


def test_a_disk_that_fills_up_leaves_the_last_checkpoint(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = folder(tmp_path, "run")
    original = os.replace

    def full(source: Path, target: Path) -> None:
        if Path(target).name == "checkpoint.pt" and Path(target).exists():
            raise OSError(28, "No space left on device")
        original(source, target)

    monkeypatch.setattr("ssl_colorize.runs.os.replace", full)
    with pytest.raises(UserError, match=r"Cannot write .*checkpoint\.pt: No space left on device"):
        train(recipe, run)
    assert load_checkpoint(run, "pretrain").step == 4 and load_pretrained(run).training["step"] == 4
    assert not list(run.glob(".*"))


# ---- going on -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"objective": "l2", "rebalance": False},
        {"direction": "ab-to-L", "rebalance": False},
        {"ema": 0.9},
        {"precision": "bf16", "schedule": "steps", "milestones": ((5, 1e-4),), "clip": None},
        {"workers": 1, "init": "kmeans"},
        {"model": "alexnet", "width": 0.03},
        {"optimizer": "muon"},
        {"model": "dahl", "objective": "dahl", "rebalance": False, "optimizer": "sgd"},
        # Dropout, and pixels drawn at random.
        {"model": "larsson", "objective": "larsson", "rebalance": False},
    ],
    ids=str,
)
def test_a_stopped_run_goes_on_to_the_bit(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, values: dict[str, Any]
) -> None:
    recipe = changed(recipe, **values)
    whole, parts = folder(tmp_path, "whole"), folder(tmp_path, "parts")
    expected = train(recipe, whole)["metrics"]
    with monkeypatch.context() as patch:
        # Not where a checkpoint falls anyway.
        at_step(patch, 4, interrupt)
        with pytest.raises(Interrupted, match=f"after step 5; saved. Go on with: .*--resume {parts}") as stopped:
            train(recipe, parts)
    assert stopped.value.signum == signal.SIGTERM
    assert [row["step"] for row in read_log(parts)] == [1, 2, 3, 4, 5]
    # Whatever happened to the random numbers of this process meanwhile.
    torch.manual_seed(123)
    metrics = train(recipe, parts, resume=True)["metrics"]

    assert rows(parts) == rows(whole)
    speed = "photos_per_second"
    assert {**metrics, speed: 0} == {**expected, speed: 0}
    for name, value in load_file(whole / "model.safetensors").items():
        assert torch.equal(load_file(parts / "model.safetensors")[name], value), name
    for name, value in load_checkpoint(whole, "pretrain").model.items():
        assert torch.equal(load_checkpoint(parts, "pretrain").model[name], value), name


def test_signal_handlers_are_put_back(recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    at_step(monkeypatch, 0, interrupt)
    with pytest.raises(Interrupted):
        train(recipe, folder(tmp_path, "run"))
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_killed_run_does_its_last_steps_again(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts = folder(tmp_path, "whole"), folder(tmp_path, "parts")
    train(recipe, whole)

    def die(_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        at_step(patch, 6, die)
        with pytest.raises(MemoryError):
            train(recipe, parts)
    # A checkpoint after step 4, and a log that is further, cut off in a line.
    assert load_checkpoint(parts, "pretrain").step == 4
    assert [row["step"] for row in read_log(parts)] == [1, 2, 3, 4, 5, 6]
    with (parts / "metrics.jsonl").open("a") as log:
        log.write('{"step": 7, "loss": 1.')
    train(recipe, parts, resume=True)
    assert rows(parts) == rows(whole)


def test_a_finished_run_resumes_to_its_own_figures(recipe: Recipe, tmp_path: Path) -> None:
    run = folder(tmp_path, "run")
    recipe = changed(recipe, steps=2)
    first = train(recipe, run)["metrics"]
    again = train(recipe, run, resume=True)["metrics"]
    assert again["loss"] == first["loss"] and again["photos_seen"] == 8
    assert [row["step"] for row in read_log(run)] == [1, 2]


def test_nothing_to_resume(recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Nothing to resume"):
        train(recipe, folder(tmp_path, "run"), resume=True)


@pytest.mark.skipif(os.name != "posix", reason="signals to a process group")
@pytest.mark.slow
def test_ctrl_c_saves_and_says_how_to_go_on(photo_folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    settings = ("resize=40", "crop=32", "width=0.125", "init=lsuv", "init_photos=8", "prior_photos=16", "workers=1")
    command = [sys.executable, "-m", "ssl_colorize", "pretrain", "--data", str(photo_folder), "-o", str(run)]
    command += ["--steps", "100000", "--batch-size", "4", "--device", "cpu"]
    command += [part for setting in settings for part in ("--set", setting)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        deadline = time.monotonic() + 90
        while not read_log(run) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        # As a terminal does it: to the workers as well.
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, said
    step = load_checkpoint(run, "pretrain").step
    assert step >= 1 and f"Stopped after step {step}; saved." in said and f"--resume {run}" in said
    assert "Traceback" not in said
    assert read_log(run)[-1]["step"] <= step
