"""Watching features while a network learns: on what, beside what, within what time; and that it changes nothing."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_colorize.data import open_dataset, open_photos
from ssl_colorize.encoder import load_encoder
from ssl_colorize.engine.log import read_log
from ssl_colorize.evaluate import extract, knn_predict, linear_probe
from ssl_colorize.evaluate.watching import Watching, effective_rank
from ssl_colorize.models import create_model
from ssl_colorize.pretrain.config import Recipe
from ssl_colorize.pretrain.loop import train


@pytest.fixture
def labeled(tmp_path: Path) -> Path:
    """Two classes, stripes across and down, 30 photos to train on and 10 to test on each."""
    chance = np.random.default_rng(0)
    for part, count in (("train", 30), ("test", 10)):
        for name in ("across", "down"):
            folder = tmp_path / "labeled" / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                wave = np.sin(np.arange(32) / chance.uniform(0.8, 1.5) + chance.uniform(0, 6))
                light = np.repeat(wave[:, None], 32, axis=1) if name == "across" else np.repeat(wave[None], 32, axis=0)
                color = chance.uniform(60, 120, 3) + 60 * light[:, :, None] + chance.normal(0, 5, (32, 32, 3))
                Image.fromarray(color.clip(0, 255).astype(np.uint8)).save(folder / f"{number}.png")
    return tmp_path / "labeled"


def watching(labeled: Path, **options: object) -> Watching:
    return Watching([str(labeled)], size=32, layers=("conv2", "conv4"), device="cpu", precision="fp32", **options)  # type: ignore[arg-type]


def test_figures_are_those_of_the_plain_functions_on_the_training_part(labeled: Path) -> None:
    model = create_model("eccv16", width=0.125)
    watch = watching(labeled)
    watch.begin(model, open_photos(["samples"]), None)
    figures, lines = watch(model, seconds=0.0, always=True)

    train_part = open_dataset([str(labeled)])[0]
    one = watch.sets[0]
    named = {one.photos.photos.name(index) for index in range(len(one.photos))}
    assert len(named) == 60 and not set(one.bank) & set(one.held) and len(one.bank) + len(one.held) == 60
    assert {train_part.photos.stamp(index) for index in range(60)} == {
        one.photos.photos.stamp(index) for index in range(60)
    }
    torch.manual_seed(1)
    untrained = load_encoder("random:eccv16@0.125", seed=0)
    features = extract(untrained, one.photos.photos, layers=("conv4",), resize=32).features["conv4"]
    bank, held, labels = features[one.bank], features[one.held], one.photos.labels
    votes = knn_predict(bank, labels[one.bank], held, k=20, classes=2).argmax(1)
    ridge = linear_probe(bank, labels[one.bank], held, classes=2, seed=0).scores.argmax(1)
    assert figures["watch_labeled_conv4_knn_untrained"] == pytest.approx((votes == labels[one.held]).mean())
    assert figures["watch_labeled_conv4_ridge_untrained"] == pytest.approx((ridge == labels[one.held]).mean())
    assert figures["watch_labeled_conv4_rank_untrained"] == pytest.approx(effective_rank(torch.from_numpy(features)))
    assert "conv4 knn" in lines[0] and "untrained" in lines[0]


def test_watching_keeps_within_its_share_of_the_time(labeled: Path) -> None:
    model = create_model("eccv16", width=0.125)
    watch = watching(labeled, share=0.1)
    watch.begin(model, open_photos(["samples"]), None)
    spent = watch.state["seconds"]
    assert spent > 0 and watch(model, seconds=spent, always=False) == ({}, [])
    assert watch(model, seconds=100 * spent + 60, always=False)[0]
    assert watch.state["seconds"] > spent
    # What a run that goes on knows.
    again = watching(labeled, share=0.1)
    again.begin(model, open_photos(["samples"]), watch.state)
    assert again.state == watch.state


def test_photos_that_are_trained_on_are_told_and_a_collapse_once(labeled: Path) -> None:
    model = create_model("eccv16", width=0.125)
    watch = watching(labeled)
    (line,) = watch.begin(model, open_photos([str(labeled / "train" / "across")]), None)
    assert "48 photos of its training part" in line and "30 of them are also trained on" in line
    watch(model, seconds=0.0, always=True)
    with torch.no_grad():
        # One direction for all channels.
        for module in model.modules():
            if isinstance(module, torch.nn.Conv2d):
                module.weight.copy_(module.weight[:1].expand_as(module.weight).clone())
    _, lines = watch(model, seconds=0.0, always=True)
    assert any("Collapse alarm: features of labeled conv4 have an effective rank of" in line for line in lines)
    assert not any("Collapse" in line for line in watch(model, seconds=0.0, always=True)[1])


def test_a_watched_run_is_the_same_run(labeled: Path, tmp_path: Path) -> None:
    recipe = Recipe(
        data=(str(labeled),), resize=(32, 36), crop=32, width=0.125, init="lsuv", init_photos=8, prior_photos=16,
        batch_size=4, steps=4, warmup=1, evaluate_every=2, workers=0, device="cpu", precision="fp32",
    )  # fmt: skip
    losses = []
    for name, watch in (("plain", None), ("watched", watching(labeled, share=0.99))):
        run = tmp_path / name
        run.mkdir()
        train(recipe, run, watch=watch)
        losses.append([row["loss"] for row in read_log(run)])
    assert losses[0] == losses[1]
    last = read_log(run)[-1]
    assert 0 <= last["watch_labeled_conv4_knn"] <= 1 and "watch_labeled_conv4_ridge_untrained" in last


def test_the_effective_rank_is_the_number_of_equal_directions() -> None:
    chance = torch.Generator().manual_seed(0)
    points = torch.randn(4000, 3, generator=chance)
    assert effective_rank(points) == pytest.approx(3, abs=0.05)
    assert effective_rank(points @ torch.randn(3, 12, generator=chance)) <= 3.01
    # By hand, of a covariance with shares 0.75 and 0.25: standardized columns (x, x, x, y).
    shares = np.array([0.75, 0.25])
    mixed = torch.stack((points[:, 0], points[:, 0], points[:, 0], points[:, 1]), dim=1)
    assert effective_rank(mixed) == pytest.approx(float(np.exp(-(shares * np.log(shares)).sum())), abs=0.02)
