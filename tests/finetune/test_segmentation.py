"""Segmenters are built right, learn, and are scored pixel by pixel at the photos' own size."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from annotated_sets import mask, scenes
from PIL import Image
from torch import Tensor, nn

from ssl_colorize.encoder import load_encoder
from ssl_colorize.errors import UserError
from ssl_colorize.finetune.segmentation import Segmentation, SegmentationSettings
from ssl_colorize.finetune.segmenter import Segmenter
from ssl_colorize.finetune.tasks import TrainingBatch

SMALL = {"size": 32, "scales": 1.0, "workers": 0, "batch_size": 2, "hidden": 16}
CAT, DOG = 8, 12


def opened(folder: Path, **options: Any) -> Segmentation:
    values = {"encoder": "random:eccv16@0.125", "data": str(folder), **SMALL, **options}
    return Segmentation.open(SegmentationSettings.checked(values), say=lambda line: None)


def built(task: Segmentation, **options: Any) -> Segmenter:
    torch.manual_seed(0)
    encoder = load_encoder(task.settings.encoder)
    model = task.build(encoder.trainable(task.layers(encoder), **options))
    assert isinstance(model, Segmenter)
    return model


class Oracle(nn.Module):
    """Bright is a cat and dark a dog."""

    def __init__(self) -> None:
        super().__init__()
        self.anything = nn.Parameter(torch.zeros(1))

    def forward(self, photos: Tensor) -> Tensor:
        light = photos.float().mean(1) - 120
        logits = torch.full((len(photos), 21, *photos.shape[-2:]), -1e3)
        logits[:, 0], logits[:, CAT], logits[:, DOG] = 45 - light.abs(), light - 45, -light - 45
        return logits


# --- figures ---------------------------------------------------------------------------------------------------------


def test_a_model_that_knows_all_scores_one(tmp_path: Path) -> None:
    task = opened(scenes(tmp_path, test=4))
    evaluated = task.evaluate(Oracle(), None, autocast=nullcontext)
    assert evaluated.figures["miou"] == 1.0 == evaluated.figures["pixel_accuracy"]
    assert evaluated.figures["iou"] == {"background": 1.0, "cat": 1.0, "dog": 1.0}
    assert (evaluated.figures["low"], evaluated.figures["high"]) == (1.0, 1.0)
    sheets = task.pictures(evaluated)
    assert len(sheets["most_right"].rows) == 4 and len(sheets["most_wrong"].rows[0]) == 3
    fit, choose = task.split(fraction=0.3, seed=0)
    assert set(task.evaluate(Oracle(), choose, autocast=nullcontext).figures) == {"miou", "miou_present"}
    assert len(fit) + len(choose) == 4


def test_photos_are_scored_at_their_own_size(tmp_path: Path) -> None:
    task = opened(scenes(tmp_path, test=2), size=16)
    evaluated = task.evaluate(Oracle(), None, autocast=nullcontext)
    # Half the pixels were seen, and all 48 x 32 are judged.
    assert evaluated.details.right[0].said.shape == (32, 48)
    assert 0.8 < evaluated.figures["miou"] < 1


def test_photos_that_exif_turns_are_scored_with_their_masks(tmp_path: Path) -> None:
    folder = scenes(tmp_path, test=8)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[274] = orientation
        file = folder / "JPEGImages" / f"val{orientation - 1}.png"
        with Image.open(file) as photo:
            photo.load()
        photo.save(file, exif=exif)
    task = opened(folder)
    # Whether an upside-down photo was turned before its mask was made is taken from the others.
    assert [each.kind for each in task.test.findings].count("turned") == 4
    assert [each.kind for each in task.test.findings].count("orientation") == 3
    assert task.evaluate(Oracle(), None, autocast=nullcontext).figures["miou"] == 1.0


class Bright(Oracle):
    """Whatever is bright is class 1 of 2."""

    def forward(self, photos: Tensor) -> Tensor:
        light = photos.float().mean(1) - 165
        return torch.stack((-light, light), 1)


def test_masks_of_0_and_255_are_scored_as_what_they_are_said_to_be(tmp_path: Path) -> None:
    folder = scenes(tmp_path, test=4)
    for file in (folder / "SegmentationClass").iterdir():
        with Image.open(file) as picture:
            values = np.where(np.asarray(picture) == 0, 0, 255).astype(np.uint8)
        Image.fromarray(values).save(file)
    with pytest.raises(UserError, match="--mask-values 0,255"):
        opened(folder)
    task = opened(folder, mask_values="0,255")
    assert task.classes == ("background", "object")
    figures = task.evaluate(Bright(), None, autocast=nullcontext).figures
    # The dark ones, which are objects too, are missed.
    masks = {file.stem: np.asarray(Image.open(file)) > 0 for file in (folder / "SegmentationClass").iterdir()}
    total = 4 * 32 * 48
    bright, dark = (sum(masks[f"val{number}"].sum() for number in numbers) for numbers in ((0, 2), (1, 3)))
    assert figures["iou"]["object"] == pytest.approx(bright / (bright + dark), abs=1e-9)
    assert figures["iou"]["background"] == pytest.approx((total - bright - dark) / (total - bright), abs=1e-9)
    assert figures["miou"] == pytest.approx(np.mean(list(figures["iou"].values())))


def test_the_most_right_and_the_most_wrong(tmp_path: Path) -> None:
    folder = scenes(tmp_path, test=12)
    mask(folder / "SegmentationClass" / "val3.png", np.full((32, 48), CAT))
    task = opened(folder)
    details = task.evaluate(Oracle(), None, autocast=nullcontext).details
    assert details.wrong[0].index == sorted(["val3", *(f"val{i}" for i in range(12) if i != 3)]).index("val3")
    assert len(details.right) == len(details.wrong) == 8
    assert details.wrong[0].index not in [each.index for each in details.right]


def test_predictions_are_told_and_drawn(tmp_path: Path) -> None:
    task = Segmentation.trained(opened(scenes(tmp_path)).settings, ["background", *(f"c{i}" for i in range(1, 21))])
    task.note_size(load_encoder("random:eccv16@0.125"))
    with Image.open(tmp_path / "JPEGImages" / "train1.png") as photo:
        said = task.predict(Oracle(), photo.convert("RGB"))
    assert list(said.result["classes"]) == ["background", "c12"]
    assert sum(said.result["classes"].values()) == pytest.approx(1, abs=1e-3)
    assert said.picture.size == (48, 32)


# --- networks --------------------------------------------------------------------------------------------------------


def test_loss_leaves_out_what_does_not_count(tmp_path: Path) -> None:
    task = opened(scenes(tmp_path))
    photos = torch.full((1, 3, 4, 4), 120, dtype=torch.uint8)
    truth = torch.zeros(1, 4, 4, dtype=torch.uint8)
    right = task.loss(Oracle(), TrainingBatch(photos, truth))
    assert right["loss"].item() < 1e-6 and right["accuracy"].item() == 1
    truth[0, :2] = 255
    assert task.loss(Oracle(), TrainingBatch(photos, truth))["accuracy"].item() == 1
    truth[0, 2:] = DOG
    assert task.loss(Oracle(), TrainingBatch(photos, truth))["loss"].item() == pytest.approx(90, rel=1e-3)
    nothing = task.loss(Oracle(), TrainingBatch(photos, torch.full_like(truth, 255)))
    assert nothing["loss"].item() == 0


@pytest.mark.parametrize("fpn", [False, True])
def test_logits_have_the_photos_size_and_the_heads_stride(tmp_path: Path, fpn: bool) -> None:
    task = opened(scenes(tmp_path), fpn=fpn)
    model = built(task, train_from="conv6").train()
    photos = torch.randint(0, 255, (2, 3, 40, 27), dtype=torch.uint8)
    assert model(photos).shape == (2, 21, 40, 27)
    assert model.coarse(photos).shape[-2:] == ((10, 7) if fpn else (5, 4))
    model(photos).sum().backward()
    learnt = {name for name, each in model.features.named_parameters() if each.grad is not None}
    assert any("conv7" in name for name in learnt) and not any("conv5" in name for name in learnt)


def test_fcn_32s(tmp_path: Path) -> None:
    task = opened(scenes(tmp_path), encoder="random:alexnet@0.05", head="fcn32s")
    model = built(task).eval()
    photos = torch.randint(0, 255, (1, 3, 224, 160), dtype=torch.uint8)
    assert model.coarse(photos).shape[-2:] == (7, 5)
    assert model.coarse(photos[..., :225, :150]).shape[-2:] == (7, 5)
    assert model(photos).shape[-2:] == (224, 160)
    with pytest.raises(UserError, match="fcn32s"):
        built(opened(tmp_path, head="fcn32s", layers=["conv7"]))


def test_fcn_32s_cells_lie_where_the_photo_has_them(tmp_path: Path) -> None:
    model = built(opened(scenes(tmp_path), encoder="random:alexnet@0.05", head="fcn32s")).eval()
    network = model.features.backbone.trunk.model
    with torch.no_grad():
        for name, each in network.named_modules():
            if isinstance(each, nn.Conv2d) and not name.startswith("logits"):
                # Every layer passes on how much light there is around its middle.
                each.weight.zero_()
                each.bias.zero_()
                middle = slice(2, 4) if each.kernel_size[0] == 6 else slice(each.kernel_size[0] // 2, None)
                stop = middle.stop or middle.start + 1
                each.weight[:, :, middle.start : stop, middle.start : stop] = 1 / each.weight.shape[1]
        # Lighter than mid-gray in the cell of column 3 and row 2 alone.
        photo = torch.full((1, 3, 224, 224), 119, dtype=torch.uint8)
        photo[..., 64:96, 96:128] = 255
        found = model.features(photo)[0, 0]
    assert divmod(int(found.argmax()), found.shape[1]) == (2, 3)


def test_it_learns(tmp_path: Path) -> None:
    # The first layer alone, as little comes through a deep network without any training.
    task = opened(scenes(tmp_path, train=4, test=2), batch_size=4, layers=["conv1"])
    model = built(task)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    for batch in task.batches(np.arange(4), seed=0, start=0, steps=30):
        found = task.loss(model.train(), batch)
        optimizer.zero_grad()
        found["loss"].backward()
        optimizer.step()
    assert task.evaluate(model, None, autocast=nullcontext).figures["miou"] > 0.6
