"""A whole run at a tiny budget: no test photo is pretrained on, rows are not measured twice, settings are chosen."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from ssl_colorize.cli import main
from ssl_colorize.data import open_dataset
from ssl_colorize.errors import UserError
from ssl_colorize.pretrain.config import Recipe
from ssl_colorize.pretrain.photos import recipe_photos
from ssl_colorize.worth import run as worth_run
from ssl_colorize.worth.config import WorthSettings
from ssl_colorize.worth.pretraining import names_of_tested, pretraining_photos, recipe_of, with_steps
from ssl_colorize.worth.run import by_best_layer, run_worth, shares_of, subsets

RECIPE = """
resize: 16
crop: 16
model: eccv16
width: 0.125
init: plain
holdout: 0.1
batch_size: 4
prior_photos: 8
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`set/` with stripes that lie or stand, 15 photos each, `more/` without labels, and a small recipe."""
    folder = tmp_path_factory.mktemp("worth")
    chance = np.random.default_rng(0)
    for number, name in enumerate(("set/lying", "set/standing", "more")):
        (folder / name).mkdir(parents=True)
        for index in range(15 if number < 2 else 4):
            wave = 127 + 90 * np.sin(np.arange(20) * chance.uniform(0.8, 1.2) + chance.uniform(0, 6))
            light = np.tile(wave, (20, 1)) if number else np.tile(wave[:, None], (1, 20))
            pixels = light[..., None] + np.array([30, 0, -30]) * number + chance.normal(0, 40, (20, 20, 3))
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / name / f"{index}.png")
    (folder / "recipe.yaml").write_text(RECIPE)
    return folder


def made(place: Path, **changes: Any) -> WorthSettings:
    return WorthSettings(**{
        "data": str(place / "set"), "unlabeled": str(place / "more"), "recipe": str(place / "recipe.yaml"), "steps": 2,
        "shares": (0.25, 0.02), "draws": 2, "numbers": 64, "imagenet": "random:eccv16@0.125", "workers": 0,
        "device": "cpu", "no_cache": True,
    } | changes)  # fmt: skip


@pytest.fixture(scope="module")
def finished(place: Path) -> tuple[Path, dict[str, Any]]:
    """A run's folder and metrics; the "ImageNet" network is another random one."""
    folder = place / "run"
    folder.mkdir()
    return folder, run_worth(made(place), folder)


def test_every_row_at_every_share_that_has_enough_labels(finished: tuple[Path, dict[str, Any]]) -> None:
    folder, metrics = finished
    assert list(metrics["rows"]) == ["random", "k-means", "starter", "color", "random:eccv16@0.125"]
    for row in metrics["rows"].values():
        assert {share: one["photos"] for share, one in row["labels"].items()} == {"all": 24, "25 %": 6}
        assert all(one["low"] <= one["top1"] <= one["high"] and one["layer"] for one in row["labels"].values())
    assert metrics["left_out"] == [
        "2 % of 24 labels is 0, too few for 2 classes: it takes 4, of each class one to learn from and one to choose "
        "on. Left out."
    ]
    assert metrics["photos"] == {"train": 24, "test": 6, "classes": 2}
    assert metrics["pretraining"]["steps"] == 2 and metrics["pretraining"]["photos_seen"] == 8
    assert set(metrics["compared"]) == {"all labels", "25 % of the labels"} == set(metrics["imagenet"])
    assert metrics["verdict"].count("points (95 %") >= 3
    assert (folder / "pretrain" / "model.safetensors").is_file()


def test_a_run_that_goes_on_repeats_no_row_and_gives_the_same(
    place: Path, finished: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, metrics = finished
    monkeypatch.setattr(worth_run, "load_encoder", lambda *_, **__: pytest.fail("measured again"))
    monkeypatch.setattr("ssl_colorize.worth.pretraining.train", lambda *_, **__: pytest.fail("trained again"))
    assert run_worth(made(place), folder) == metrics
    # Of other photos rows tell nothing.
    shutil.copytree(place / "set", tmp_path / "set")
    with pytest.raises(UserError, match=r"The photos changed since .*random.npz was measured"):
        run_worth(made(place, data=str(tmp_path / "set")), folder)


def test_no_test_photo_is_pretrained_on_under_whatever_name(place: Path, tmp_path: Path) -> None:
    _, test = open_dataset([str(place / "set")])
    tested = {str(Path(each).name) for each in map(test.photos.name, range(len(test)))}
    assert len(test) == 6 and tested
    held = {test.photos.stamp(index) for index in range(len(test))}
    for changes in ({}, {"unlabeled": str(place)}, {"data": (), "train": str(place / "set")}):
        settings = made(place, **changes)
        photos = pretraining_photos(settings)
        names = names_of_tested(photos, test.photos)
        exclude = tmp_path / "exclude.txt"
        exclude.write_text("".join(f"{name}\n" for name in names))
        recipe = recipe_of(settings, exclude if names else None)
        seen = [each.stamp(index) for each in recipe_photos(recipe) for index in range(len(each))]
        assert len(seen) > 20 and not held & set(seen), changes


def test_a_share_without_enough_labels_is_left_out_with_a_line(place: Path) -> None:
    train, _ = open_dataset([str(place / "set")])
    shares, left_out = shares_of(train, made(place, shares=(0.1, 0.5)))
    assert list(shares) == ["all", "50 %"] and len(left_out) == 1 and left_out[0].startswith("10 % of 24 labels is 2,")
    labels = np.repeat([0, 1], 50)
    for rows in subsets(labels, 0.1, draws=3):
        assert np.bincount(labels[rows]).tolist() == [5, 5]


def test_the_layer_is_chosen_without_the_test_labels() -> None:
    chance = np.random.default_rng(0)
    labels, truth = chance.integers(0, 2, 60), chance.integers(0, 2, 40)
    good, noise = labels[:, None] + chance.normal(0, 0.1, (60, 1)), chance.normal(size=(60, 1))
    # On the test photos it is the other layer that knows.
    queries = {"good": chance.normal(size=(40, 1)), "noise": truth[:, None] + chance.normal(0, 0.1, (40, 1))}
    found = by_best_layer(
        {"good": good, "noise": noise}, labels, queries, truth, classes=2, subsets=[np.arange(60)], seed=0
    )
    assert found.layer == "good" and found.choosing == 1.0


def test_budgets() -> None:
    assert WorthSettings(data="x", steps=5).minutes is None and WorthSettings(data="x").minutes == 10
    with pytest.raises(ValueError, match="steps or minutes"):
        WorthSettings(data="x", steps=5, minutes=3)
    short = with_steps(Recipe(data="samples", epochs=3, warmup=50), 20)
    assert (short.steps, short.epochs, short.warmup, short.evaluate_every) == (20, None, 2, 20)


def test_the_verb_ends_with_a_page(place: Path, finished: tuple[Path, dict[str, Any]]) -> None:
    folder, metrics = finished
    if not (folder / "config.yaml").is_file():
        (folder / "config.yaml").write_text(json.dumps(made(place).model_dump(mode="json")))
    result = CliRunner().invoke(main, ["worth", "--resume", str(folder)], catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    assert " ".join(result.stdout.split()).startswith(metrics["verdict"][:60])
    page = (folder / "worth.md").read_text()
    assert metrics["verdict"] in page and "| color" in page and "never pretrained on" in page
    assert Image.open(folder / "worth.png").size[0] > 800
    assert json.loads((folder / "metrics.json").read_text())["metrics"]["rows"].keys() == metrics["rows"].keys()
    again = CliRunner().invoke(main, ["worth", "--data", str(place / "set"), "-o", str(folder)])
    assert again.exit_code == 2 and "already holds a run" in again.stderr
