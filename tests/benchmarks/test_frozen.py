"""Frozen features: how few labels are drawn, what is counted, and which photos are opened."""

import json
from pathlib import Path

import frozen
import numpy as np
import pytest
import records
import torch
from click.testing import CliRunner
from PIL import Image

from ssl_colorize.color import ab_bins, lab_to_rgb
from ssl_colorize.data import LabeledDataset, open_photos
from ssl_colorize.pretrain.config import Recipe
from ssl_colorize.pretrain.loop import train


class Unread:
    """Photos that nobody opens."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def take(self, indices: list[int]) -> "Unread":
        return Unread(len(indices))


def labeled(labels: np.ndarray) -> LabeledDataset:
    return LabeledDataset(Unread(len(labels)), labels, ("a", "b"))


def test_few_labels_are_few_and_equally_of_each_class_and_drawn_several_times():
    chance = np.random.default_rng(0)
    labels = np.arange(400) % 2
    # Of 20 numbers one tells the classes apart, so that more photos find it better.
    features = chance.normal(size=(400, 20)) + np.eye(20)[0] * labels[:, None]
    train, test = labeled(labels[:300]), labeled(labels[300:])
    few, many = (frozen.few_labels(features[:300], train, features[300:], test, count=count) for count in (12, 200))
    assert (few["photos"], many["photos"]) == (12, 200)
    assert few["top1"] < many["top1"] and few["spread"] > 0


def test_machines_rank_what_can_be_told_apart():
    chance = np.random.default_rng(0)
    labels = (chance.random((120, 2)) < 0.4).astype(np.int8)
    features = np.concatenate([labels[:, :1] + 0.1 * chance.normal(size=(120, 1)), chance.normal(size=(120, 3))], 1)
    found = frozen.machines(
        features[:80], labeled(labels[:80]), features[80:], labeled(labels[80:]), seed=0
    )  # fmt: skip
    # The first class is seen, the second is not in the features: 1 and about its share.
    assert 0.6 < found["map"] < 0.85 and 0.5 < found["choosing"] < 0.95


def test_histograms_count_each_quarter_by_itself(tmp_path: Path) -> None:
    red, green = (int(((ab_bins() - torch.tensor(ab)) ** 2).sum(1).argmin()) for ab in ((60.0, 40.0), (-40.0, 40.0)))
    lab = torch.zeros(3, 32, 32)
    lab[0] = 55
    lab[1:, :16, :16] = ab_bins()[red].view(2, 1, 1)
    lab[1:, 16:, 24:] = ab_bins()[green].view(2, 1, 1)
    pixels = (lab_to_rgb(lab) * 255).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(tmp_path / "a.png")
    found = frozen.histograms(open_photos([str(tmp_path)]), side=32).reshape(313, 2, 2)
    np.testing.assert_allclose(found.sum(0), 1, rtol=1e-5)
    np.testing.assert_allclose(found[red], [[1, 0], [0, 0]])
    # Half of the last quarter.
    np.testing.assert_allclose(found[green], [[0, 0], [0, 0.5]])


def test_gray_photos_have_no_color_and_keep_their_names() -> None:
    photos = open_photos(["samples"], split="all")
    gray_ones = frozen.GrayPhotos(photos).take([1, 0])
    assert [gray_ones.name(0), gray_ones.name(1)] == [photos.name(1), photos.name(0)]
    pixels = np.asarray(gray_ones[0])
    assert pixels.shape[2] == 3 and (pixels == pixels[..., :1]).all() and pixels.std() > 10


def test_the_rank_counts_the_directions_that_are_used() -> None:
    chance = torch.Generator().manual_seed(0)
    directions = torch.linalg.qr(torch.randn(12, 12, generator=chance))[0][:3]
    maps = (torch.randn(4000, 3, generator=chance) @ directions).view(10, 20, 20, 12).permute(0, 3, 1, 2)
    assert frozen.effective_rank(maps) == pytest.approx(3, abs=0.5)
    assert frozen.effective_rank(torch.randn(10, 12, 20, 20, generator=chance)) == pytest.approx(12, abs=0.5)


def test_what_differs_is_how_it_was_trained_and_not_where() -> None:
    base = {"mix": 0.5, "init": "kmeans", "data": ["a"], "start": None}
    assert frozen.changes(base | {"mix": 0.8, "data": ["/b"]}, base) == {"mix": 0.8}
    # The start stands in for the initialization.
    assert frozen.changes(base | {"init": "lsuv", "start": "/some/runs/first"}, base) == {"start": "first"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A labeled set whose test photos are broken, and three runs on it, the last from the first's weights."""
    folder = tmp_path_factory.mktemp("runs")
    chance = np.random.default_rng(0)
    for name in ("a", "b"):
        (folder / "set" / "train" / name).mkdir(parents=True)
        (folder / "set" / "val" / name).mkdir(parents=True)
        for index in range(20):
            pixels = chance.integers(0, 256, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "set" / "train" / name / f"{index}.png")
        (folder / "set" / "val" / name / "broken.png").write_bytes(b"no photo")
    recipe = Recipe(
        data=(str(folder / "set" / "train"),), resize=(32, 40), crop=32, width=0.125, init_photos=8, prior_photos=16,
        batch_size=4, steps=2, holdout=0.2, workers=0,
    )  # fmt: skip
    for name, changed in {"one": {}, "two": {"mix": 0.8}, "three": {"start": str(folder / "one"), "steps": 1}}.items():
        (folder / name).mkdir()
        train(recipe.model_copy(update=changed), folder / name)
    return folder


def test_what_training_cost_counts_the_run_it_started_from(runs: Path) -> None:
    first, second = (records.origin(str(runs / name)) for name in ("one", "three"))
    assert (first["photos_seen"], second["photos_seen"]) == (8, 12)
    assert second["seconds"] > first["seconds"] and second["encoder"] == "three"


def test_recipes_are_judged_without_opening_a_test_photo(runs: Path, tmp_path: Path) -> None:
    arguments = ["training", "--data", f"{runs / 'set'}:32", "--base", str(runs / "one"), "--run", str(runs / "two")]
    out = tmp_path / "out" / "two-0.json"
    result = CliRunner().invoke(frozen.main, [*arguments, "-o", str(out)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    found = json.loads(out.read_text())
    assert found["changed"] == {"mix": 0.8} and found["photos_seen"] == 8
    # Three tenths at most of 40 photos, the others to fit on.
    part = found["data"]["set"]
    assert part["fit"] + part["choose"] == 40 and 8 <= part["choose"] <= 12
