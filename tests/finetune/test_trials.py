"""Lengths, evaluations and learning rates, worked out by hand; and what a run keeps of its trials."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ssl_colorize.config import recipe_folder
from ssl_colorize.engine.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from ssl_colorize.errors import UserError
from ssl_colorize.finetune.config import FinetuneSettings
from ssl_colorize.finetune.tasks import task_type
from ssl_colorize.finetune.trainer import schedule_of, task_optimizer
from ssl_colorize.finetune.trials import Evaluation, Length, Trials, best_evaluation, from_format_1


def settings(**values: Any) -> FinetuneSettings:
    return FinetuneSettings.checked({"encoder": "random:eccv16", "data": "x", "batch_size": 4, "epochs": 3} | values)


def test_a_length_in_epochs() -> None:
    # 10 photos by 4: an epoch is two and a half steps.
    length = Length.whole(settings(), 10, evaluated=True)
    assert (length.steps, length.stop, length.evaluations) == (8, 8, {3, 5, 8})
    assert Length.whole(settings(evaluate_epochs=2), 10, evaluated=True).evaluations == {5, 8}
    assert Length.whole(settings(choose_length=False), 10, evaluated=True).evaluations == {8}
    assert Length.whole(settings(), 10, evaluated=False).evaluations == set()
    assert length.epochs(5, 4) == 2


def test_a_length_in_steps() -> None:
    length = Length.whole(settings(steps=7, epochs=None), 10, evaluated=True)
    assert (length.steps, length.evaluations) == (7, {3, 5, 7})


def test_a_batch_larger_than_the_photos() -> None:
    # Each step is more than an epoch, and has one evaluation.
    assert Length.whole(settings(batch_size=16), 10, evaluated=True).evaluations == {1, 2}


def test_the_same_place_of_the_schedule_on_other_photos() -> None:
    chosen = Length.whole(settings(epochs=4), 8, evaluated=True)
    # After 2 of 4 epochs: 4 of 8 steps, and 6 of 12 with half as many photos more.
    again = chosen.like(4, settings(epochs=4), 12)
    assert (again.photos, again.steps, again.stop, again.evaluations) == (12, 12, 6, frozenset())
    # A length in steps stays one.
    steps = settings(steps=10, epochs=None)
    assert Length.whole(steps, 8, evaluated=True).like(4, steps, 12).stop == 4


def test_the_warm_up_comes_to_its_end_in_every_training() -> None:
    each = [schedule_of(settings(warmup=2), 10)(step) for step in range(10)]
    assert each[:3] == [pytest.approx(1 / 3), pytest.approx(2 / 3), pytest.approx(1)]
    # Half way between warm-up and end.
    assert each[6] == pytest.approx(0.5) and 0 < each[9] < 0.05
    assert schedule_of(settings(warmup=50), 1)(0) == 1


def test_drops() -> None:
    dropping = schedule_of(settings(schedule="steps", drop_every=3, drop_factor=0.5, warmup=0), 8)
    assert [dropping(step) for step in range(8)] == [1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25]


def test_groups_of_the_optimizer() -> None:
    model = nn.ModuleDict({"body": nn.Conv2d(1, 2, 3), "head": nn.Linear(2, 2), "still": nn.Linear(1, 1)})
    model["still"].requires_grad_(False)
    optimizer = task_optimizer(model, model["body"], settings(optimizer="sgd", head_factor=10, weight_decay=0.1))
    assert isinstance(optimizer, torch.optim.SGD)
    found = [(g["factor"], g["weight_decay"], [tuple(p.shape) for p in g["params"]]) for g in optimizer.param_groups]
    assert found == [(1, 0.1, [(2, 1, 3, 3)]), (1, 0, [(2,)]), (10, 0.1, [(2, 2)]), (10, 0, [(2,)])]
    assert isinstance(task_optimizer(model, model["body"], settings(optimizer="adamw")), torch.optim.AdamW)


def test_muon_moves_every_direction_of_the_backbone_and_leaves_the_head_to_adam() -> None:
    model = nn.ModuleDict({"backbone": nn.Linear(4, 4), "head": nn.Linear(4, 4)})
    optimizer = task_optimizer(model, model["backbone"], settings(optimizer="muon", weight_decay=0.0, head_factor=3))
    before = [layer.weight.detach().clone() for layer in model.values()]
    for options in optimizer.param_groups:
        options["lr"] = 0.1 * options["factor"]
    for layer in model.values():
        # Of rank one, with a little of the other directions.
        layer.weight.grad = torch.outer(torch.ones(4), torch.ones(4)) + 0.01 * torch.eye(4)
        layer.bias.grad = torch.ones(4)
    optimizer.step()
    body, head = (layer.weight.detach() - old for layer, old in zip(model.values(), before, strict=True))
    sizes = torch.linalg.svdvals(body)
    assert sizes.min() > 0.5 * sizes.max()
    # AdamW moves all numbers of a gradient of one sign alike.
    assert (head < 0).all()
    torch.testing.assert_close(torch.linalg.svdvals(head)[1], torch.tensor(0.0), rtol=0, atol=1e-5)


def test_the_best_evaluation() -> None:
    low, early, late = Evaluation(0, 4, 0.5), Evaluation(0, 2, 0.75), Evaluation(1, 6, 0.75)
    assert best_evaluation([low, early]) is early
    # Of equal figures the longest training, and then the lowest learning rate.
    assert best_evaluation([low, early, late, Evaluation(2, 6, 0.75)]) is late
    assert best_evaluation([Evaluation(0, 4, float("-inf")), low]) is low


def test_trials_through_a_file(tmp_path: Path) -> None:
    evaluations = [Evaluation(0, 12, 0.25), Evaluation(1, 2, float("-inf"))]
    trials = Trials(1, 12, evaluations, {"weight": torch.arange(3.0)})
    save_checkpoint(Checkpoint("finetune", 3, extra=trials.stored()), tmp_path)
    again = Trials.restored(load_checkpoint(tmp_path, "finetune").extra)
    assert again.best is not None and torch.equal(again.best["weight"], torch.arange(3.0))
    assert (again.trial, again.logged, again.evaluations) == (1, 12, evaluations)
    again.next(5)
    assert (again.trial, again.logged) == (2, 17)


def test_a_checkpoint_of_before_is_mapped(tmp_path: Path) -> None:
    looks = [{"trial": 0, "step": 12, "figure": 0.25}]
    state = {"trial": 1, "step": 3, "logged": 12, "looks": looks, "seconds": 4.5, "best": None}
    torch.save({"state": state, "model": None, "optimizer": None}, tmp_path / "checkpoint.pt")
    found = load_checkpoint(tmp_path, "finetune", from_format_1=from_format_1)
    assert (found.step, found.model, found.optimizer, found.seconds) == (3, {}, {}, 4.5)
    assert Trials.restored(found.extra) == Trials(1, 12, [Evaluation(0, 12, 0.25)])


def test_settings_of_before_have_new_names() -> None:
    old = settings(colour=True, normalise=False, evaluate_every=3)
    assert (old.color, old.normalize, old.evaluate_epochs) == (True, False, 3)


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"rescale": True, "batchnorm": "frozen"}, "rescale works on folded BatchNorm"),
        ({"steps": 3, "epochs": 3}, "steps or epochs"),
        ({"schedule": "steps"}, "drop_every"),
        ({"drop_every": 5}, "drop_every"),
        ({"scales": (2.0, 1.0)}, "scales"),
        ({"learning_rates": ()}, "learning_rates"),
    ],
)
def test_settings_that_contradict_each_other(values: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        settings(**values)


@pytest.mark.parametrize("file", sorted(recipe_folder().glob("finetune_*.yaml")), ids=lambda file: file.stem)
def test_every_recipe_of_the_package_loads(file: Path) -> None:
    kind = task_type(file.stem.rpartition("_")[2]).settings_type
    recipe = kind.resolve(file=file.stem)
    assert kind.checked(recipe.model_dump(mode="json")) == recipe


def test_settings_that_follow_from_others() -> None:
    assert settings(rescale=True).batchnorm == "fold"
    assert settings(learning_rates=0.1).learning_rates == (0.1,)
    # Plain SGD takes larger steps than Muon and Adam.
    assert min(settings(optimizer="sgd").learning_rates) == max(settings().learning_rates) == 1e-3
    assert settings(optimizer="sgd", learning_rates=0.1).learning_rates == (0.1,)
    detection = task_type("detection").settings_type
    assert detection.checked({"encoder": "x", "data": "y", "optimizer": "sgd"}).learning_rates == (3e-3, 1e-2)
    assert FinetuneSettings.checked({"encoder": "x", "data": "y", "steps": 5}).epochs is None
    assert not settings(choose_length=False, learning_rates=(0.1,)).chooses
    assert settings(choose_length=False, learning_rates=(0.1, 0.2)).chooses
