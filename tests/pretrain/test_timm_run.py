"""Whole runs of timm's models: what the recipe fills in, what is written, and that they go on and begin as asked."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file

import ssl_colorize as sc
from ssl_colorize.engine.log import read_log
from ssl_colorize.errors import UserError
from ssl_colorize.models.backbone import TimmColorizer
from ssl_colorize.pretrain.config import Recipe
from ssl_colorize.pretrain.loop import train
from ssl_colorize.report.checkpoint import describe


def recipe(photo_folder: Path, **values: Any) -> Recipe:
    return Recipe.checked(
        {
            "data": str(photo_folder), "resize": (32, 40), "crop": 32, "holdout": 0.2, "init_photos": 8,
            "prior_photos": 16, "batch_size": 4, "steps": 4, "warmup": 1, "evaluate_every": 4, "checkpoint_every": 2,
            "workers": 0, "device": "cpu", "precision": "fp32", "model": "timm:test_resnet", **values,
        }
    )  # fmt: skip


def folder(tmp_path: Path, name: str) -> Path:
    path = tmp_path / name
    path.mkdir()
    return path


@pytest.mark.parametrize("model", ["timm:test_resnet", "timm:test_vit,patch_size=8"])
@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_a_run_is_of_use_by_every_door(model: str, optimizer: str, photo_folder: Path, tmp_path: Path) -> None:
    run = folder(tmp_path, "run")
    content = train(recipe(photo_folder, model=model, optimizer=optimizer), run)
    assert content["config"]["width"] == 1 and content["metrics"]["photos_seen"] == 16
    assert all(row["loss"] > 0 for row in read_log(run))
    colorizer = sc.Colorizer.load(run, device="cpu")
    assert (colorizer.pretrained.model.name, colorizer.pretrained.objective) == (model, "class")
    photo = next(photo_folder.glob("*.png"))
    with Image.open(photo) as original:
        assert colorizer.colorize(photo).size == original.size
    about = describe(colorizer.pretrained)
    assert [layer["layer"] for layer in about["layers"]] == [*colorizer.pretrained.model.layers, "logits"]
    encoder = sc.load_encoder(run)
    twin_source = f"random:timm-lightness:{model.removeprefix('timm:')}"
    assert str(encoder.untrained) == twin_source
    twin = sc.load_encoder(twin_source)
    assert twin.layers == encoder.layers and twin.fingerprint() != encoder.fingerprint()


def test_a_stopped_run_goes_on_exactly(photo_folder: Path, tmp_path: Path) -> None:
    # A schedule that does not depend on the length.
    steady = {"schedule": "steps", "milestones": [[9, 1e-9]]}
    whole, parts = folder(tmp_path, "whole"), folder(tmp_path, "parts")
    train(recipe(photo_folder, **steady), whole)
    train(recipe(photo_folder, steps=2, **steady), parts)
    train(recipe(photo_folder, **steady), parts, resume=True)
    once, twice = (load_file(run / "model.safetensors") for run in (whole, parts))
    assert all(torch.equal(value, twice[key]) for key, value in once.items())


def test_published_weights_to_begin_with(photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(3)
    published = timm.create_model("test_resnet")
    torch.save(published.state_dict(), tmp_path / "weights.pth")
    load = TimmColorizer.load_imagenet
    monkeypatch.setattr(TimmColorizer, "load_imagenet", lambda model: load(model, tmp_path / "weights.pth"))
    run = folder(tmp_path, "run")
    train(recipe(photo_folder, trunk="imagenet", steps=1, learning_rate=1e-9, weight_decay=0), run)
    weights = load_file(run / "model.safetensors")
    for key, value in published.named_parameters():
        if not key.startswith(("fc", "conv1.0")):
            torch.testing.assert_close(weights[f"body.{key}"], value.data, rtol=0, atol=1e-6)
    assert weights["logits.weight"].std() > 0


def test_what_the_recipe_says_of_timm() -> None:
    assert Recipe.checked({"model": "timm:resnet18"}).width == 1
    assert Recipe.checked({"model": "eccv16"}).width == 0.25
    assert Recipe.checked({"model": "timm:resnet18", "trunk": "imagenet"}).trunk == "imagenet"
    with pytest.raises(UserError, match="trunk imagenet is for dahl, larsson, timm:NAME at width 1"):
        Recipe.checked({"model": "eccv16", "trunk": "imagenet"})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"width": 0.5}, "timm:test_resnet comes in one width: set width to 1"),
        ({"crop": 24, "resize": (32, 32)}, "crop must be a multiple of 32 for timm:test_resnet, not 24"),
        ({"model": "timm:resnet_18"}, "timm has no model 'resnet_18'"),
    ],
)
def test_runs_that_cannot_be(values: dict[str, Any], message: str, photo_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        train(recipe(photo_folder, **values), folder(tmp_path, "run"))
