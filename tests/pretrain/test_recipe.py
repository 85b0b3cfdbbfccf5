"""Recipes: the files that the package carries, what is refused, and the learning rate over time."""

import math
from pathlib import Path
from typing import Any

import pytest

from ssl_colorize.config import recipe_folder
from ssl_colorize.errors import UserError
from ssl_colorize.pretrain.config import Recipe
from ssl_colorize.pretrain.stages import schedule

# Those of fine-tuning have settings of their own.
CONFIGS = sorted(path for path in recipe_folder().glob("*.yaml") if not path.stem.startswith("finetune_"))


def learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    return recipe.learning_rate * schedule(recipe, steps)(step)


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_every_recipe_of_the_package_loads(file: Path) -> None:
    recipe = Recipe.resolve(file=file)
    assert Recipe.resolve(file=file.stem) == recipe
    # And says so that it can be written down and read back.
    assert Recipe.checked(recipe.model_dump(mode="json")) == recipe


def test_the_quickstart_file_is_the_defaults() -> None:
    assert Recipe.resolve(file="quickstart") == Recipe()


def test_the_papers_recipe() -> None:
    recipe = Recipe.resolve(file="eccv16_imagenet")
    assert (recipe.resize, recipe.crop, recipe.batch_size, recipe.betas) == ((256, 256), 176, 40, (0.9, 0.99))
    assert (recipe.model, recipe.width, recipe.init) == ("eccv16", 1.0, "kmeans")
    assert (recipe.objective, recipe.rebalance, recipe.mix, recipe.sigma, recipe.smoothing) == (
        "class",
        True,
        0.5,
        5,
        5,
    )
    # 1e-3 on a loss summed over 44 x 44 pixels.
    assert recipe.weight_decay == pytest.approx(1e-3 / 44**2, rel=0.01)
    assert recipe.steps == 450_000
    rates = {
        step: learning_rate(recipe, step, recipe.steps) for step in (0, 199_999, 200_000, 374_999, 375_000, 449_999)
    }
    assert list(rates.values()) == pytest.approx([3e-5, 3e-5, 1e-5, 1e-5, 3e-6, 3e-6])


def test_a_cosine_after_a_linear_warm_up() -> None:
    recipe = Recipe(steps=110, warmup=10, learning_rate=2.0)
    rates = [learning_rate(recipe, step, 110) for step in range(110)]
    assert rates[:10] == pytest.approx([2 * (step + 1) / 11 for step in range(10)])
    assert rates[10] == max(rates) == 2
    assert rates[60] == pytest.approx(1)
    assert rates[35] == pytest.approx(1 + math.cos(math.pi / 4))
    assert 0 < rates[-1] < 1e-3 and rates[10:] == sorted(rates[10:], reverse=True)


def test_milestones_apply_after_the_warm_up_too() -> None:
    recipe = Recipe(schedule="steps", milestones=((5, 0.1), (8, 0.01)), warmup=3, learning_rate=1.0, steps=10)
    rates = [learning_rate(recipe, step, 10) for step in range(10)]
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01])


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"crop": 128}, r"resize .*crop \(128\)"),
        ({"resize": (200, 100)}, "resize"),
        ({"resize": (96, 100, 120)}, "resize"),
        ({"data": ()}, "data"),
        ({"epochs": 2, "steps": 5}, "steps or epochs"),
        ({"steps": None}, "steps or epochs"),
        ({"steps": 0}, "steps"),
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": 2.5}, "batch_size"),
        ({"learning_rate": 0}, "learning_rate"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"width": float("inf")}, "width"),
        ({"mix": 1.2}, "mix"),
        ({"holdout": 1.0}, "holdout"),
        ({"holdout": 0}, "holdout"),
        ({"schedule": "steps"}, "milestones"),
        ({"milestones": ((5, 1e-5),)}, "milestones"),
        ({"schedule": "steps", "milestones": ((5, 1e-4), (5, 1e-5))}, "ascend"),
        ({"objective": "l2"}, "rebalance"),
        ({"objective": "huber"}, "objective"),
        ({"model": "dahl", "objective": "l2"}, "model dahl cannot be trained with objective l2"),
        ({"objective": "larsson", "rebalance": False}, "model eccv16 cannot be trained with objective larsson"),
        ({"model": "larsson", "objective": "dahl"}, "model larsson cannot be trained with objective dahl"),
        ({"model": "dahl", "rebalance": True}, "rebalance"),
        ({"model": "dahl", "trunk": "imagenet", "width": 0.5}, "width 1"),
        ({"trunk": "imagenet", "width": 1.0}, "dahl, larsson, timm:NAME"),
        ({"momentum": 1.0}, "momentum"),
        ({"init": "xavier"}, "init"),
        ({"neighbors": 0}, "neighbors"),
        ({"ema": 1.0}, "ema"),
        ({"betas": (0.9,)}, "betas"),
        ({"seed": -1}, "seed"),
        ({"lerning_rate": 1e-3}, r"Unknown setting 'lerning_rate'.*learning_rate"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused_in_one_line(values: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint) as error:
        Recipe.checked(values)
    assert "\n" not in str(error.value) and len(str(error.value)) < 700


def test_short_forms_and_derived_values() -> None:
    recipe = Recipe.checked({"data": "photos", "resize": 100, "crop": 64})
    assert (recipe.data, recipe.resize, recipe.evaluation_size) == (("photos",), (100, 100), 100)
    assert Recipe(resize=(96, 193)).evaluation_size in (144, 145)
    assert (Recipe().outputs, Recipe(objective="l2", rebalance=False).outputs) == (313, 2)
    assert Recipe.checked({"epochs": 0.5, "steps": None}).epochs == 0.5


@pytest.mark.parametrize(("model", "outputs"), [("dahl", 2), ("larsson", 64)])
def test_the_baselines_bring_their_objective_along(model: str, outputs: int) -> None:
    recipe = Recipe.checked({"model": model})
    assert (recipe.objective, recipe.rebalance, recipe.outputs) == (model, False, outputs)
    assert Recipe.checked(recipe.model_dump(mode="json")) == recipe


def test_larssons_recipe() -> None:
    recipe = Recipe.resolve(file="larsson_imagenet")
    assert (recipe.optimizer, recipe.crop, recipe.batch_size, recipe.weight_decay) == ("sgd", 352, 8, 5e-4)
    rates = [learning_rate(recipe, step, 2_000_000) for step in (0, 999_999, 1_000_000, 1_500_000, 1_750_000)]
    assert recipe.steps == 2_000_000 and rates == pytest.approx([1e-3, 1e-3, 1e-4, 1e-5, 1e-6])
