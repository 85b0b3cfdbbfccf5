"""Recipes are ranked by photos of the training sets, and the table says what differs."""

import json
from pathlib import Path

import numpy as np
import pytest
import recipes
import studies
from click.testing import CliRunner
from PIL import Image

from ssl_colorize.errors import UserError
from ssl_colorize.pretrain.config import Recipe
from ssl_colorize.pretrain.loop import train


def content(top1: float, **changed: object) -> dict:
    """As `measure` writes it: one data set, four layers, of which the third and fourth are deep."""
    layers = {
        f"conv{number}": {"probe": {"top1": top1 + number / 100}, "knn": {"top1": top1}} for number in range(1, 5)
    }
    return {"changed": changed, "photos_seen": 640, "kl": 2.0, "data": {"photos": {"layers": layers}}}


def test_the_best_recipe_comes_after_the_base_and_says_what_differs(tmp_path: Path):
    for name, one in {
        "base": content(0.2), "worse": content(0.1, mix=0.8), "better": content(0.3, steps=20)
    }.items():  # fmt: skip
        (tmp_path / f"{name}-0.json").write_text(json.dumps(one))
    _, _, *rows = recipes.measured(folder=tmp_path).splitlines()
    assert [row.split(" | ")[0] for row in rows] == ["| base", "| better", "| worse"]
    # Best layer 30 + 4, the deep ones' mean 30 + 3.5, kNN 30, and the mean of the three.
    assert rows[1] == "| better | steps 20 | 640 | 2.000 | 34.0 | 33.5 | 30.0 | 32.5 |"


def test_what_differs_is_how_it_was_trained_and_not_where():
    base = {"mix": 0.5, "init": "kmeans", "data": ["a"], "start": None}
    assert recipes.changes(base | {"mix": 0.8, "data": ["/b"]}, base) == {"mix": 0.8}
    # The start stands in for the initialization.
    assert recipes.changes(base | {"init": "lsuv", "start": "/some/runs/first"}, base) == {"start": "first"}


def test_what_training_cost_counts_the_run_it_started_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for index in range(4):
        pixels = np.random.default_rng(index).integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{index}.png")
    recipe = Recipe(
        data=(str(tmp_path),), resize=(32, 40), crop=32, width=0.125, init_photos=4, prior_photos=4, batch_size=2,
        steps=3, holdout=0.25, workers=0,
    )  # fmt: skip
    for name, changed in {"first": {}, "second": {"start": "first", "steps": 2}}.items():
        (tmp_path / name).mkdir()
        train(recipe.model_copy(update=changed), tmp_path / name)
    first, second = (studies.origin(name) for name in ("first", "second"))
    assert (first["photos_seen"], second["photos_seen"]) == (6, 10)
    assert second["seconds"] > first["seconds"]


def test_a_table_without_its_base_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match="lacks the run base"):
        recipes.measured(folder=tmp_path)


def test_no_test_photo_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    chance = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / "set" / "train" / name).mkdir(parents=True)
        (tmp_path / "set" / "val" / name).mkdir(parents=True)
        for index in range(20):
            pixels = chance.integers(0, 256, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "set" / "train" / name / f"{index}.png")
        (tmp_path / "set" / "val" / name / "broken.png").write_bytes(b"no photo")
    recipe = Recipe(
        data=("set/train",), resize=(32, 40), crop=32, width=0.125, init_photos=8, prior_photos=16, batch_size=4,
        steps=2, holdout=0.2, workers=0,
    )  # fmt: skip
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    train(recipe, tmp_path / "one")
    train(recipe.model_copy(update={"mix": 0.8}), tmp_path / "two")
    arguments = ["measure", "--data", "set:32", "--base", "one", "--run", "two=two", "-o", "out"]
    result = CliRunner().invoke(recipes.main, arguments, catch_exceptions=False)
    assert result.exit_code == 0 and "mix 0.8" in result.output
    found = json.loads((tmp_path / "out" / "two-0.json").read_text())
    assert found["changed"] == {"mix": 0.8} and found["photos_seen"] == 8
    # Three tenths at most of 40 photos, the others to fit on.
    part = found["data"]["set"]
    assert part["fit"] + part["choose"] == 40 and 8 <= part["choose"] <= 12
