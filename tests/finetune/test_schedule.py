"""Lengths, looks and learning rates, worked out by hand."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ssl_colorize.config import recipe_folder
from ssl_colorize.errors import UserError
from ssl_colorize.finetune import schedule
from ssl_colorize.finetune.config import FinetuneSettings
from ssl_colorize.finetune.schedule import Length, make_optimizer, rate_factor, seed_step
from ssl_colorize.finetune.tasks import task_type


def settings(**values: Any) -> FinetuneSettings:
    return FinetuneSettings.checked({"encoder": "random:eccv16", "data": "x", "batch_size": 4, "epochs": 3} | values)


def test_a_length_in_epochs() -> None:
    # 10 photos by 4: an epoch is two and a half steps.
    length = Length.whole(settings(), 10, looking=True)
    assert (length.steps, length.stop, length.looks) == (8, 8, {3, 5, 8})
    assert Length.whole(settings(evaluate_every=2), 10, looking=True).looks == {5, 8}
    assert Length.whole(settings(choose_length=False), 10, looking=True).looks == {8}
    assert Length.whole(settings(), 10, looking=False).looks == set()
    assert length.epochs(5, 4) == 2


def test_a_length_in_steps() -> None:
    length = Length.whole(settings(steps=7, epochs=None), 10, looking=True)
    assert (length.steps, length.looks) == (7, {3, 5, 7})


def test_a_batch_larger_than_the_photos() -> None:
    # Each step is more than an epoch, and has one look.
    assert Length.whole(settings(batch_size=16), 10, looking=True).looks == {1, 2}


def test_the_same_place_of_the_schedule_on_other_photos() -> None:
    chosen = Length.whole(settings(epochs=4), 8, looking=True)
    # After 2 of 4 epochs: 4 of 8 steps, and 6 of 12 with half as many photos more.
    again = chosen.like(4, settings(epochs=4), 12)
    assert (again.photos, again.steps, again.stop, again.looks) == (12, 12, 6, frozenset())
    # A length in steps stays one.
    steps = settings(steps=10, epochs=None)
    assert Length.whole(steps, 8, looking=True).like(4, steps, 12).stop == 4


def test_the_cosine_warms_up_and_ends_near_zero() -> None:
    each = [rate_factor(settings(warmup=2), step, 10) for step in range(10)]
    assert each[:3] == [pytest.approx(1 / 3), pytest.approx(2 / 3), pytest.approx(1)]
    # Half way between warm-up and end.
    assert each[6] == pytest.approx(0.5) and 0 < each[9] < 0.05
    assert rate_factor(settings(warmup=50), 0, 1) == 1


def test_drops() -> None:
    dropping = settings(schedule="steps", drop_every=3, drop_factor=0.5, warmup=0)
    assert [rate_factor(dropping, step, 8) for step in range(8)] == [1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25]


def test_groups_of_the_optimizer(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.ModuleDict({"body": nn.Conv2d(1, 2, 3), "head": nn.Linear(2, 2), "still": nn.Linear(1, 1)})
    model["still"].requires_grad_(False)
    monkeypatch.setattr(schedule, "backbone_of", lambda whole: whole["body"])
    optimizer = make_optimizer(model, settings(optimizer="sgd", head_factor=10, weight_decay=0.1))
    assert isinstance(optimizer, torch.optim.SGD)
    found = [(g["factor"], g["weight_decay"], [tuple(p.shape) for p in g["params"]]) for g in optimizer.param_groups]
    assert found == [(1, 0.1, [(2, 1, 3, 3)]), (1, 0, [(2,)]), (10, 0.1, [(2, 2)]), (10, 0, [(2,)])]
    assert isinstance(make_optimizer(model, settings(optimizer="adamw")), torch.optim.AdamW)


def test_muon_moves_every_direction_of_the_backbone_and_leaves_the_head_to_adam(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = nn.ModuleDict({"backbone": nn.Linear(4, 4), "head": nn.Linear(4, 4)})
    monkeypatch.setattr(schedule, "backbone_of", lambda model: model["backbone"])
    optimizer = make_optimizer(model, settings(optimizer="muon", weight_decay=0.0, head_factor=3))
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


def test_the_seed_of_a_step() -> None:
    def drawn(*at: int) -> float:
        seed_step(*at)
        return float(torch.rand(()))

    assert drawn(0, 3, 0) == drawn(0, 3, 0)
    assert len({drawn(0, 3, 0), drawn(1, 3, 0), drawn(0, 4, 0), drawn(0, 3, 1)}) == 4


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
