"""Runs of several stages: one log, one optimizer, and stops in any of them that change nothing."""

import math
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from ssl_colorize.data import training_batches
from ssl_colorize.data.sources import open_photos
from ssl_colorize.engine.checkpoint import load_checkpoint
from ssl_colorize.engine.distributed import Processes
from ssl_colorize.engine.log import read_log
from ssl_colorize.engine.signals import Interrupted, StopRequest
from ssl_colorize.engine.trainer import Session
from ssl_colorize.errors import UserError
from ssl_colorize.models import Objective, load_pretrained
from ssl_colorize.pretrain.config import Recipe
from ssl_colorize.pretrain.loop import Pretraining, train
from ssl_colorize.pretrain.pretext import Pretext
from ssl_colorize.pretrain.stages import changed_lengths, plan

FIRST = {"resize": [16, 20], "crop": 16, "batch_size": 4, "steps": 4, "checkpoint_every": 3}
SECOND = {"resize": [32, 40], "crop": 32, "batch_size": 2, "steps": 4, "learning_rate": 5e-4, "warmup": 1}


def make(photo_folder: Path, **values: Any) -> Recipe:
    return Recipe.checked(
        {
            "data": [str(photo_folder)], "resize": [24, 28], "crop": 24, "holdout": 0.2, "width": 0.125,
            "init": "lsuv", "init_photos": 8, "prior_photos": 16, "optimizer": "muon", "ema": 0.9, "schedule": "wsd",
            "decay": 0.5, "warmup": 2, "evaluate_every": 3, "checkpoint_every": 100, "workers": 0, "device": "cpu",
            "precision": "fp32", "stages": [FIRST, SECOND], **values,
        }
    )  # fmt: skip


@pytest.fixture
def recipe(photo_folder: Path) -> Recipe:
    return make(photo_folder)


def folder(tmp_path: Path, name: str) -> Path:
    path = tmp_path / name
    path.mkdir()
    return path


def rows(run: Path, *without: str) -> list[dict[str, Any]]:
    """The log without what a clock says."""
    left_out = {"photos_per_second", *without}
    return [{key: value for key, value in row.items() if key not in left_out} for row in read_log(run)]


def in_step(monkeypatch: pytest.MonkeyPatch, step: int, action: Any) -> None:
    """Do something in the middle of the step after `step` steps."""
    original = Pretext.make_objective
    count = iter(range(10**6))

    def hooked(*arguments: Any, **options: Any) -> Objective:
        objective = original(*arguments, **options)
        losses_of = objective.losses

        def losses(*given: Any) -> Any:
            if next(count) == step:
                action()
            return losses_of(*given)

        monkeypatch.setattr(objective, "losses", losses)
        return objective

    monkeypatch.setattr(Pretext, "make_objective", hooked)


def stop() -> None:
    signal.raise_signal(signal.SIGTERM)


def die() -> None:
    raise MemoryError


def same_weights(one: Path, other: Path) -> None:
    for name, value in load_file(one / "model.safetensors").items():
        assert torch.equal(load_file(other / "model.safetensors")[name], value), name


def test_a_run_goes_through_its_stages_in_one_log(recipe: Recipe, tmp_path: Path) -> None:
    run = folder(tmp_path, "run")
    content = train(recipe, run)
    log = read_log(run)
    assert [(row["step"], row["stage"]) for row in log] == [(step, step > 4) for step in range(1, 9)]
    # Each stage warms up, and falls to nothing in its second half.
    rates = [1e-3 / 3, 2e-3 / 3, 1e-3, 1e-3 * (1 - math.sqrt(0.5))]
    rates += [2.5e-4, 5e-4, 5e-4, 5e-4 * (1 - math.sqrt(0.5))]
    assert [row["learning_rate"] for row in log] == pytest.approx(rates)
    # Held-out photos at the stage's own size, and at one that compares.
    assert [row["step"] for row in log if "holdout_kl" in row and "holdout_common_kl" in row] == [3, 4, 6, 8]
    assert log[3]["holdout_loss"] != log[3]["holdout_common_loss"]
    pretrained = load_pretrained(run)
    assert pretrained.training["photos_seen"] == content["metrics"]["photos_seen"] == 4 * 4 + 4 * 2
    assert (pretrained.training["step"], pretrained.training["steps"], pretrained.input_size) == (8, 8, 36)


def test_the_common_figures_are_of_the_recipes_own_size(recipe: Recipe, photo_folder: Path, tmp_path: Path) -> None:
    run = folder(tmp_path, "run")
    same = make(photo_folder, resize=SECOND["resize"], crop=SECOND["crop"])
    train(same, run)
    last = read_log(run)[-1]
    assert last["holdout_common_loss"] == last["holdout_loss"] and last["holdout_common_kl"] == last["holdout_kl"]


def test_one_stage_is_a_plain_run(photo_folder: Path, tmp_path: Path) -> None:
    plain, staged = folder(tmp_path, "plain"), folder(tmp_path, "staged")
    train(make(photo_folder, stages=[], **FIRST), plain)
    train(make(photo_folder, stages=[FIRST]), staged)
    assert rows(plain) == rows(staged)
    same_weights(plain, staged)


def test_photos_go_on_where_the_stage_before_left_off(recipe: Recipe, tmp_path: Path) -> None:
    run = Pretraining(
        recipe,
        Session("pretrain", folder(tmp_path, "run"), torch.device("cpu"), Processes(), StopRequest()),
        Pretext,
        resume=False,
    )
    photos, _ = open_photos(recipe.data).holdout(0.2, most=512)
    # As if 16 photos had come in batches of two.
    expected = training_batches(
        photos, resize=(32, 40), crop=32, batch_size=2, seed=0, start=8, steps=12, workers=0
    )  # fmt: skip
    found = list(run.batches(4, 8, Processes()))
    for one, other in zip(found, expected, strict=True):
        assert one.indices.tolist() == other.indices.tolist() and torch.equal(one.photos, other.photos)
    assert len(found) == 4


@pytest.mark.parametrize("step", [3, 6])
def test_a_run_stopped_in_any_stage_goes_on_to_the_bit(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    whole, parts = folder(tmp_path, "whole"), folder(tmp_path, "parts")
    train(recipe, whole)
    with monkeypatch.context() as patch:
        in_step(patch, step, stop)
        with pytest.raises(Interrupted):
            train(recipe, parts)
    # A signal in the last step of a stage stops the run after the first of the next.
    assert read_log(parts)[-1]["step"] == (5 if step == 3 else step + 1)
    torch.manual_seed(123)
    train(recipe, parts, resume=True)
    assert rows(parts) == rows(whole)
    same_weights(parts, whole)
    assert Recipe.resolve(file=parts / "config.yaml").history == ()


@pytest.mark.parametrize(("step", "saved"), [(4, 4)])
def test_a_run_killed_between_stages_goes_on_to_the_bit(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int, saved: int
) -> None:
    whole, parts = folder(tmp_path, "whole"), folder(tmp_path, "parts")
    train(recipe, whole)
    with monkeypatch.context() as patch:
        in_step(patch, step, die)
        with pytest.raises(MemoryError):
            train(recipe, parts)
    assert load_checkpoint(parts, "pretrain").step == saved
    train(recipe, parts, resume=True)
    assert rows(parts) == rows(whole)
    same_weights(parts, whole)


def test_a_plain_run_goes_on_as_the_first_of_several_stages(
    recipe: Recipe, photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts = folder(tmp_path, "whole"), folder(tmp_path, "parts")
    train(recipe, whole)
    with monkeypatch.context() as patch:
        in_step(patch, 1, stop)
        with pytest.raises(Interrupted):
            # At a rate that does not depend on its length yet.
            longer = FIRST | {"steps": 50, "schedule": "steps", "milestones": [[9, 1]]}
            train(make(photo_folder, stages=[], **longer), parts)
    # As versions did that knew no stages.
    content = torch.load(parts / "checkpoint.pt", weights_only=True)
    del content["extra"]["stages"]
    torch.save(content, parts / "checkpoint.pt")
    train(recipe, parts, resume=True)
    assert rows(parts, "stage")[2:] == rows(whole, "stage")[2:]
    same_weights(parts, whole)
    history = yaml.safe_load((parts / "config.yaml").read_text())["history"]
    assert history == ["after step 2: stages.0.steps 50 -> 4, stages.1.steps none -> 4"]


def test_the_present_stage_may_be_cut_and_that_is_written_down(
    recipe: Recipe, photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = folder(tmp_path, "run")
    with monkeypatch.context() as patch:
        in_step(patch, 1, stop)
        with pytest.raises(Interrupted):
            train(recipe, run)
    shorter = make(photo_folder, stages=[FIRST | {"steps": 3}, SECOND])
    train(shorter, run, resume=True)
    assert [row["stage"] for row in read_log(run)] == [0, 0, 0, 1, 1, 1, 1]
    change = "after step 2: stages.0.steps 4 -> 3"
    saved = Recipe.resolve(file=run / "config.yaml")
    assert saved.history == (change,) and load_pretrained(run).training["recipe"]["history"] == [change]
    # A new run by the same file begins without it.
    again = folder(tmp_path, "again")
    train(saved.model_copy(update={"stages": saved.stages[:1]}), again)
    assert Recipe.resolve(file=again / "config.yaml").history == ()


@pytest.mark.parametrize(
    ("before", "step", "complaint"),
    [
        ([6, 4], 8, "stages.0.steps: that stage is over, after 6 steps"),
        ([9, 4], 4, "stages.0.steps: 4 steps are done already: give at least 5"),
        ([4, 9], 8, "stages.1.steps: 4 steps are done already: give at least 5"),
    ],
)
def test_what_is_done_cannot_be_changed(recipe: Recipe, before: list[int], step: int, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        changed_lengths(before, plan(recipe, 10), step)


@pytest.mark.parametrize(
    ("assignments", "complaint"),
    [
        (
            ["stages.0.cropp=3"],
            r"Unknown setting 'stages\.0\.cropp' in .*: choose from batch_size, checkpoint_every, crop,",
        ),
        (["stages.2.steps=3"], r"stages are 0 to 1"),
        (["stages.first.steps=3"], r"stages are 0 to 1"),
        (["model.steps=3"], "model has no settings of its own"),
        (["stages.1.crop=64"], r"stages\.1: resize must be at least crop \(64\)"),
        (["stages.1.steps=null"], r"stages\.1 .*: give steps or epochs"),
        (["steps=9"], r"steps and epochs are each stage's own"),
        (["batch_size=9"], r"batch_size would have no effect: every stage has its own; set stages\.0\.batch_size"),
    ],
)
def test_settings_of_stages_that_make_no_sense_are_refused(
    recipe: Recipe, tmp_path: Path, assignments: list[str], complaint: str
) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    with pytest.raises(UserError, match=complaint) as error:
        Recipe.resolve(file=file, assignments=assignments)
    assert "\n" not in str(error.value)


def test_any_setting_of_a_stage_can_be_changed(recipe: Recipe, tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    changed = Recipe.resolve(file=file, assignments=["stages.0.epochs=2", "stages.1.resize=50", "stages.1.crop=48"])
    first, second = changed.in_stages()
    assert (first.steps, first.epochs, first.crop) == (None, 2, 16)
    assert (second.resize, second.crop, second.steps, second.learning_rate) == ((50, 50), 48, 4, 5e-4)


def test_the_growing_recipe_sees_the_photos_that_it_says() -> None:
    stages = plan(Recipe.resolve(file="eccv16_half_growing"), photos=100_000)
    seen = [stage.steps * stage.recipe.batch_size for stage in stages]
    assert seen == pytest.approx([4e6, 2e6, 3e5], rel=1e-3)
    assert [stage.recipe.crop for stage in stages] == [32, 64, 128]
