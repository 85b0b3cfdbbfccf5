"""Segmentation with frozen features as a whole: it learns, chooses without the test masks, and resumes exactly."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from annotated_sets import mask, scenes
from PIL import Image

from ssl_colorize.engine.log import read_log
from ssl_colorize.engine.signals import Interrupted
from ssl_colorize.errors import UserError
from ssl_colorize.evaluate.segment import run_segment, scored_mask
from ssl_colorize.evaluate.settings import SegmentSettings
from ssl_colorize.models import Pretrained, create_model, save_pretrained

CAT, DOG = 8, 12
METHODS: dict[str, dict[str, Any]] = {
    "linear": {"steps": 30, "learning_rates": (0.03, 0.3, 1.0), "pixels": 64, "checkpoint_every": 100},
    "neighbors": {"method": "neighbors", "bank": 300, "k": (1, 5), "temperature": (0.02, 0.1), "patch": 4},
}


@pytest.fixture(scope="module")
def rectangles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scenes(tmp_path_factory.mktemp("scenes"), train=10, test=6)


def made(data: Path, method: str = "linear", **changes: Any) -> SegmentSettings:
    return SegmentSettings(**{
        "encoder": "random:eccv16@0.125", "data": (str(data),), "layers": ("conv1", "conv2"), "resize": 32,
        "batch_size": 4, "workers": 0, "random": False, "device": "cpu", "scales": 1.0,
    } | METHODS[method] | changes)  # fmt: skip


def figures(metrics: dict[str, Any]) -> str:
    return json.dumps(metrics, sort_keys=True)


@pytest.mark.parametrize("method", METHODS)
def test_bright_and_dark_rectangles_are_told_apart(rectangles: Path, method: str, tmp_path: Path) -> None:
    found = run_segment(made(rectangles, method), tmp_path)
    metrics = found.metrics
    assert list(metrics) == ["conv1", "conv2", "trunk_unchanged", "layer", "protocol"]
    best = metrics[metrics["layer"]]
    assert best["choosing"] == max(metrics[layer]["choosing"] for layer in ("conv1", "conv2"))
    assert best["miou_present"] > 0.6, "background alone gives about 0.2"
    assert set(best["per_class"]) >= {"background", "cat", "dog"}
    assert best["low"] <= best["miou"] <= best["high"]
    about = metrics["protocol"]
    assert (about["photo_size"], about["mask_size"], about["test_photos"]) == (32, "original", 6)
    assert about["rare"] == ["background", "cat", "dog"] and not about["common"] and len(about["absent"]) == 18
    # What the picture shows is what was scored.
    assert found.examples is not None and found.examples.layer == metrics["layer"]
    truth = np.stack([each.read() for each in found.examples.photos.masks])
    right = (np.stack(found.examples.said) == truth).mean()
    assert right == pytest.approx(best["pixel_accuracy"])


@pytest.mark.parametrize("method", METHODS)
def test_test_masks_have_no_say_in_what_is_chosen(method: str, tmp_path: Path) -> None:
    folder = scenes(tmp_path / "scenes", train=8, test=3)
    run = made(folder, method) if method == "neighbors" else made(folder, steps=6)
    honest = run_segment(run, tmp_path).metrics
    for path in (folder / "SegmentationClass").glob("val*.png"):
        mask(path, np.full((32, 48), 8))
    other = run_segment(run, tmp_path).metrics
    assert honest["conv1"]["miou"] != other["conv1"]["miou"]
    names = ("choosing", "learning_rate") if method == "linear" else ("choosing", "k", "temperature")
    for layer in ("conv1", "conv2"):
        assert [honest[layer][name] for name in names] == [other[layer][name] for name in names]


def test_the_size_that_masks_are_scored_at_is_told_and_matters(rectangles: Path, tmp_path: Path) -> None:
    own, small = (
        run_segment(made(rectangles, mask_size=size, layers=("conv1",), steps=6), tmp_path).metrics
        for size in (None, 8)
    )
    assert small["protocol"]["mask_size"] == 8
    assert own["conv1"]["miou"] != small["conv1"]["miou"]
    values = np.arange(6 * 10, dtype=np.uint8).reshape(6, 10)
    reduced = scored_mask(values, 3)
    reference = Image.fromarray(values).resize((5, 3), Image.Resampling.NEAREST)
    assert reduced.tolist() == np.asarray(reference).tolist()


@pytest.mark.parametrize("method", METHODS)
def test_with_its_untrained_twin_over_two_seeds(rectangles: Path, method: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    torch.manual_seed(5)
    save_pretrained(Pretrained(model=create_model("eccv16", width=0.125), input_size=32), path)
    run = made(rectangles, method, encoder=str(path), random=True, seeds=2, layers=("conv2",), examples=2)
    if method == "linear":
        run = run.model_copy(update={"steps": 5})
    found = run_segment(run, tmp_path)
    one, beside = found.metrics["conv2"], found.metrics["random"]["conv2"]
    assert len(one["runs"]) == 2 == len(beside["runs"]) and one["miou"] != beside["miou"]
    assert found.metrics["trunk_unchanged"] is True
    assert found.examples is not None and len(found.examples.untrained) == 2 == len(found.examples.said)


@pytest.mark.parametrize(("what", "after"), [("Training the heads", 3), ("Testing", 3)])
def test_a_stopped_run_goes_on_exactly(rectangles: Path, what: str, after: int, tmp_path: Path) -> None:
    run = made(rectangles, steps=8, seeds=2, checkpoint_every=3)
    (tmp_path / "whole").mkdir()
    whole = run_segment(run, tmp_path / "whole")
    calls = 0

    def stop(named: str, done: int, total: int) -> None:
        nonlocal calls
        calls += named == what
        if named == what and calls == after:
            os.kill(os.getpid(), signal.SIGTERM)

    folder = tmp_path / "stopped"
    folder.mkdir()
    with pytest.raises(Interrupted, match="segment --resume"):
        run_segment(run, folder, watch=stop)
    assert figures(run_segment(run, folder, resume=True).metrics) == figures(whole.metrics)
    logged = [[(row["step"], row["loss"]) for row in read_log(place)] for place in (folder, tmp_path / "whole")]
    assert logged[0] == logged[1] and len(logged[0]) == 16


def test_nothing_to_resume_is_one_line(rectangles: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Nothing to resume"):
        run_segment(made(rectangles), tmp_path, resume=True)


def test_a_bank_smaller_than_the_photos_or_than_k(rectangles: Path, tmp_path: Path) -> None:
    few = made(rectangles, "neighbors", bank=6, k=(1,), layers=("conv2",))
    assert run_segment(few, tmp_path).metrics["conv2"]["miou"] > 0
    with pytest.raises(UserError, match="--k 7: the bank holds only 6 patches"):
        run_segment(few.model_copy(update={"k": (7,)}), tmp_path)


def test_labels_alone_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "cat" / "0.png")
    with pytest.raises(UserError, match="holds no annotated photos"):
        run_segment(made(tmp_path), tmp_path)
