"""Losses, views and figures of classification, worked out by hand."""

import math
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from ssl_colorize.data import LabeledDataset
from ssl_colorize.data.photos import PhotoFiles
from ssl_colorize.encoder import load_encoder
from ssl_colorize.errors import UserError
from ssl_colorize.finetune.building import make_trainable
from ssl_colorize.finetune.classification import (
    Classification,
    ClassificationSettings,
    classification_loss,
    sureness,
)

TINY = {"encoder": "random:eccv16@0.125", "layers": ("conv1",), "data": ("x",), "size": 24, "crop": 16, "workers": 0}


def settings(**values: Any) -> ClassificationSettings:
    return ClassificationSettings.checked(TINY | {"batch_size": 4} | values)


def built(task: Classification) -> nn.Module:
    encoder = load_encoder(task.settings.encoder)
    return task.build(make_trainable(encoder, task.layers(encoder), task.settings))


def test_the_loss_of_one_label() -> None:
    scores = torch.tensor([[0.0, math.log(3)], [0.0, 0.0]])
    # Probabilities of the true ones: 3/4 and 1/2.
    expected = -(math.log(3 / 4) + math.log(1 / 2)) / 2
    assert classification_loss(scores, torch.tensor([1, 0])).item() == pytest.approx(expected, rel=1e-6)


def test_the_loss_of_several_labels_leaves_out_what_is_difficult() -> None:
    scores = torch.tensor([[0.0, math.log(3), 50.0], [0.0, 0.0, 0.0]])
    targets = torch.tensor([[0, 1, -1], [1, 0, 0]])
    # -log of 1/2 and 3/4 on the first photo, three times 1/2 on the second: summed over classes, averaged over photos.
    expected = (4 * math.log(2) + math.log(4 / 3)) / 2
    assert classification_loss(scores, targets).item() == pytest.approx(expected, rel=1e-6)


def test_how_sure_a_model_is_of_what_is_true() -> None:
    single = sureness(np.array([[0.2, 0.8], [0.5, 0.5]], np.float32), np.array([1, 0]))
    assert single == pytest.approx([math.log(0.8), math.log(0.5)], rel=1e-5)
    several = sureness(np.array([[0.9, 0.4, 0.3]], np.float32), np.array([[1, 0, -1]]))
    assert several == pytest.approx([math.log(0.9) + math.log(0.6)], rel=1e-5)
    # A model that was certain and wrong is still a finite distance off.
    assert np.isfinite(sureness(np.array([[1.0, 0.0]], np.float32), np.array([1]))).all()


def test_alexnet_laid_out_as_in_the_paper() -> None:
    task = Classification(settings(encoder="random:alexnet@0.03", layers=(), size=None, crop=None), ("a", "b", "c"))
    encoder = load_encoder(task.settings.encoder)
    backbone = make_trainable(encoder, task.layers(encoder), task.settings)
    model = task.build(backbone).eval()
    sides: dict[str, int] = {}
    for name, x in backbone.trunk.model.stages(torch.rand(1, 1, 227, 227) * 100):
        sides[name] = x.shape[-1]
    assert sides == {"conv1": 55, "conv2": 27, "conv3": 13, "conv4": 13, "conv5": 13, "fc6": 1, "fc7": 1, "logits": 29}
    assert model(torch.zeros(2, 3, 227, 227, dtype=torch.uint8)).shape == (2, 3)
    assert (task._size, task._crop) == (256, 227)
    with pytest.raises(UserError, match="a crop of 227 px or more; or set paper_layout to false"):
        built(Classification(settings(encoder="random:alexnet@0.03", layers=(), size=128, crop=100), ("a", "b")))


def test_alexnet_in_color_is_laid_out_as_well() -> None:
    chosen = {"encoder": "random:alexnet@0.03", "layers": (), "size": None, "crop": None}
    gray, color = (
        built(Classification(settings(**chosen, color=color), ("a", "b"))).eval().backbone for color in (None, True)
    )
    photos = torch.zeros(1, 3, 227, 227, dtype=torch.uint8)
    assert color(photos)["fc7"].shape[2:] == (1, 1)
    assert torch.equal(color(photos)["fc7"], gray(photos)["fc7"])


def test_dropout_of_alexnet_is_on_where_its_layer_learns() -> None:
    def active(train_from: str) -> list[str]:
        chosen = settings(
            encoder="random:alexnet@0.03", layers=(), size=None, crop=None, dropout=0.5, train_from=train_from
        )
        model = built(Classification(chosen, ("a", "b"))).train()
        return [name for name, m in model.named_modules() if isinstance(m, nn.Dropout) and m.training and m.p > 0]

    assert active("conv1") == ["backbone.trunk.model.fc6.3", "backbone.trunk.model.fc7.3"]
    assert active("fc7") == ["backbone.trunk.model.fc7.3"]
    # fc8 is the paper's name of the head.
    assert active("fc8") == ["dropout"]


def test_features_of_several_layers_are_put_together() -> None:
    model = built(Classification(settings(layers=("conv1", "conv2")), ("a", "b")))
    assert model.classifier.in_features == 8 + 16


class Constant(nn.Module):
    """Scores that say where a window lies: the mean red of its left and of its right half."""

    def __init__(self) -> None:
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros(1))

    def forward(self, photos: Tensor) -> Tensor:
        red = photos[:, 0].float()
        return torch.stack((red[..., :8].mean((1, 2)), red[..., 8:].mean((1, 2))), dim=1)


def test_ten_crops_are_the_mean_of_their_windows() -> None:
    task = Classification(settings(ten_crops=True), ("left", "right"))
    built(task)
    photos = torch.zeros(1, 3, 24, 24, dtype=torch.uint8)
    photos[:, 0, :, 8:16] = 90
    # Of 16 columns: windows from 0 show 90 on the right half, from 8 on the left, from 4 half on each; and mirrored.
    assert task._scores(Constant(), photos).tolist() == [[45.0, 45.0]]
    task.settings = settings(ten_crops=False)
    assert task._scores(Constant(), photos[..., :16]).tolist() == [[0.0, 90.0]]


@pytest.fixture
def several(tmp_path: Path) -> LabeledDataset:
    """Four gray photos, 25 times over, with two labels; the last of each is difficult in the first."""
    paths = []
    for index, light in enumerate((10, 90, 170, 250)):
        for copy in range(25):
            paths.append(tmp_path / f"{index}-{copy}.png")
            Image.new("RGB", (30, 24), (light,) * 3).save(paths[-1])
    labels = np.repeat(np.array([[1, 0], [0, 1], [1, 0], [-1, 0]], np.int8), 25, axis=0)
    labels[26:, 1] = np.where(np.arange(26, 100) < 44, labels[26:, 1], 0)
    return LabeledDataset(PhotoFiles([str(path) for path in paths], [0] * 100), labels, ("odd", "seldom"))


class Brightness(Constant):
    """The brighter a photo, the more of both classes: light ones are sure of the first, dark ones are not."""

    def forward(self, photos: Tensor) -> Tensor:
        light = photos.float().mean((1, 2, 3)) / 255
        return torch.stack((light, -light), dim=1)


def test_figures_of_several_labels(several: LabeledDataset) -> None:
    task = Classification(settings(multilabel=True), several.classes, (several, several))
    built(task)
    evaluated = task.evaluate(Brightness(), None, autocast=nullcontext)
    # odd: the brightest are difficult and not judged; then 25 right, 25 wrong, 25 right:
    # precision 1 up to recall 1/2, 50/75 at recall 1.
    # seldom: 19 of the 25 of one brightness, behind 25 that are darker; all come at once, at 19 / 50.
    ap = {"odd": 1 / 2 + 1 / 2 * 50 / 75, "seldom": 19 / 50}
    assert evaluated.figures["ap"] == pytest.approx(ap, abs=1e-6)
    assert evaluated.figures["map"] == pytest.approx(sum(ap.values()) / 2)
    # Fewer than 20 test photos show the second class.
    assert evaluated.figures["map_common"] == pytest.approx(ap["odd"])
    assert evaluated.figures["low"] <= evaluated.figures["map"] <= evaluated.figures["high"]
    few = task.evaluate(Brightness(), np.arange(10, 60), autocast=nullcontext)
    assert set(few.figures) == {"map", "map_common"} and few.details is None


def test_sheets_show_the_surest_and_the_most_mistaken(several: LabeledDataset) -> None:
    task = Classification(settings(multilabel=True), several.classes, (several, several))
    built(task)
    sheets = task.pictures(task.evaluate(Brightness(), None, autocast=nullcontext))
    assert list(sheets) == ["most_right", "most_wrong"]
    for sheet in sheets.values():
        assert [len(row) for row in sheet.rows] == [4, 4, 4] and len(sheet.titles) == 4
        assert len({cell.size for row in sheet.rows for cell in row}) == 1


def test_batches_follow_from_the_seed_and_the_step(several: LabeledDataset) -> None:
    task = Classification(settings(multilabel=True), several.classes, (several, several))
    built(task)
    indices = np.arange(0, 100, 3)
    whole = list(task.batches(indices, seed=3, start=0, steps=4))
    later = list(task.batches(indices, seed=3, start=2, steps=4))
    assert torch.equal(whole[2].photos, later[0].photos) and torch.equal(whole[3].targets, later[1].targets)
    half = next(task.batches(indices, seed=3, start=1, steps=2, rank=1, world_size=2))
    assert torch.equal(half.photos, whole[1].photos[2:]) and torch.equal(half.targets, whole[1].targets[2:])
    assert whole[0].photos.shape == (4, 3, 16, 16) and whole[0].targets.shape == (4, 2)
