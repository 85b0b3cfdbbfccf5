"""What detection and segmentation share: which layers their heads read, and the sizes of photos."""

from pathlib import Path
from typing import Any

import pytest
from annotated_sets import scenes, voc_boxes

from ssl_colorize.encoder import load_encoder
from ssl_colorize.errors import UserError
from ssl_colorize.finetune.config import FinetuneSettings
from ssl_colorize.finetune.detection import Detection, DetectionSettings
from ssl_colorize.finetune.tasks import map_layers


def layers(encoder: str, *, pyramid: bool | None = None, **options: Any) -> tuple[str, ...]:
    settings = FinetuneSettings.checked({"encoder": encoder, "data": "x", **options})
    return map_layers(load_encoder(encoder), settings, pyramid=pyramid)


def test_layers() -> None:
    assert layers("random:eccv16@0.1") == ("conv7",)
    assert layers("random:eccv16@0.1", pyramid=True) == ("conv2", "conv7")
    # Its fully connected layers, of a stride of 16 as well, are no map of the photo.
    assert layers("random:alexnet@0.05") == ("conv5",)
    assert layers("random:alexnet@0.05", layers=["fc7"]) == ("fc7",)
    # Strides of 4, 8, 16 and 32: too coarse at the end.
    assert layers("random:timm-rgb:resnet18") == ("layer2", "layer3", "layer4")
    assert layers("random:timm-rgb:resnet18", pyramid=True) == ("layer1", "layer2", "layer3", "layer4")
    assert layers("random:timm-rgb:resnet18", pyramid=False) == ("layer4",)
    with pytest.raises(UserError, match="conv9"):
        layers("random:eccv16@0.1", layers=["conv9"])


def task(folder: Path, **options: Any) -> Detection:
    values = {"encoder": "random:eccv16@0.1", "data": str(folder), **options}
    return Detection.open(DetectionSettings.checked(values), say=lambda line: None)


def test_sizes_come_from_the_encoder_unless_they_are_set(tmp_path: Path) -> None:
    opened = task(scenes(tmp_path), scales=[0.5, 1.5])
    encoder = load_encoder("random:eccv16@0.1")
    opened.layers(encoder)
    size = encoder.input_size
    assert opened.size == size
    assert opened.augmentation(None).short_side == (round(0.5 * size), round(1.5 * size))
    # No longer than 5/3 of the short side; a crop has no need of that.
    assert opened.augmentation(None).long_side == round(1000 / 600 * round(1.5 * size))
    assert opened.augmentation(40).long_side is None
    assert task(tmp_path, size=60).target((300, 100)) == (100, 33)
    assert task(tmp_path, size=60).target((150, 120)) == (75, 60)


def test_findings_are_told(tmp_path: Path) -> None:
    folder = voc_boxes(tmp_path, {"train": {"a": [("cat", 1, 1, 90, 5)]}, "val": {"b": [("cat", 1, 1, 5, 5)], "c": []}})
    first, second = task(folder).train.reading.findings + task(folder).test.reading.findings
    assert first.startswith("Photos to train on: 1 box reaches out of its photo, clipped: Annotations/a.xml")
    assert second == "Photos to test on: 1 photo without objects, kept: Annotations/c.xml"
