"""Detectors are built right, learn, and are scored in the photos' own pixels."""

import copy
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from annotated_sets import annotation, scenes
from PIL import Image
from torch import Tensor, nn

from ssl_colorize.data.annotations import Boxes
from ssl_colorize.data.transforms import PADDING
from ssl_colorize.encoder import load_encoder
from ssl_colorize.errors import UserError
from ssl_colorize.finetune.detection import Detection, DetectionSettings, coco_figures
from ssl_colorize.finetune.detector import Detector, OwnLayers
from ssl_colorize.finetune.voc_ap import Detections

SMALL = {"size": 32, "scales": 1.0, "workers": 0, "batch_size": 2, "regions": 16, "hidden": 32}


def opened(folder: Path, **options: Any) -> Detection:
    settings = DetectionSettings.checked({"encoder": "random:eccv16@0.125", "data": str(folder), **SMALL, **options})
    return Detection.open(settings, say=lambda line: None)


def built(task: Detection, **options: Any) -> Detector:
    torch.manual_seed(0)
    encoder = load_encoder(task.settings.encoder)
    model = task.build(encoder.trainable(task.layers(encoder), **options))
    assert isinstance(model, Detector)
    return model


def losses(task: Detection, model: nn.Module) -> dict[str, Tensor]:
    (batch,) = task.batches(np.arange(task.train_count), seed=0, start=0, steps=1)
    return task.loss(model.train(), batch)


class Oracle(nn.Module):
    """Finds the brightest and the darkest rectangle of a photo, for sure."""

    def __init__(self, *, shift: float = 0.0) -> None:
        super().__init__()
        self.anything = nn.Parameter(torch.zeros(1))
        self.shift = shift

    def forward(self, photos: list[Tensor], targets: Any = None) -> list[dict[str, Tensor]]:
        found = []
        for photo in photos:
            far = (photo.float().mean(0) - 120).where((photo.float().mean(0) - 120).abs() > 45, 0)
            rows, columns = far.any(1).nonzero(), far.any(0).nonzero()
            box = torch.cat((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)).float() + self.shift
            label = 1 if far.sum() > 0 else 2
            found.append({"boxes": box[None], "labels": torch.tensor([label]), "scores": torch.tensor([0.9])})
        return found


# --- building --------------------------------------------------------------------------------------------------------


def test_losses_reach_what_learns_and_nothing_else(tmp_path: Path) -> None:
    task = opened(scenes(tmp_path))
    assert task.classes == ("cat", "dog")
    model = built(task, train_from="conv5")
    found = losses(task, model)
    assert set(found) == {"loss", "classes", "boxes", "objectness", "anchors"}
    assert found["loss"].item() == pytest.approx(sum(v.item() for k, v in found.items() if k != "loss"))
    found["loss"].backward()
    names = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert any("conv5" in name for name in names) and not any("conv4" in name for name in names)
    assert any("rpn" in name for name in names) and any("box_predictor" in name for name in names)


def test_steps_follow_from_the_seed(tmp_path: Path) -> None:
    task = opened(scenes(tmp_path))
    model = built(task)
    again = []
    for _ in range(2):
        torch.manual_seed(5)
        again.append(losses(task, copy.deepcopy(model))["loss"].item())
    assert again[0] == again[1]


def test_boxes_stay_float32_under_autocast(tmp_path: Path) -> None:
    task = opened(scenes(tmp_path))
    model = built(task)
    with torch.autocast("cpu", torch.bfloat16):
        found = losses(task, model)
        assert torch.isfinite(found["loss"]) and found["loss"].dtype == torch.float32
        seen = model.eval()([torch.randint(0, 255, (3, 32, 48), dtype=torch.uint8)])[0]
    assert seen["boxes"].dtype == seen["scores"].dtype == torch.float32
    # bfloat16 has 8 digits: corners would be whole pixels or, above 32 px, quarters of them.
    assert (seen["boxes"] != seen["boxes"].bfloat16().float()).any()


def test_pyramid(tmp_path: Path) -> None:
    task = opened(scenes(tmp_path), fpn=True, size=64)
    encoder = load_encoder(task.settings.encoder)
    assert task.layers(encoder) == ("conv2", "conv7")
    model = built(task)
    assert torch.isfinite(losses(task, model)["loss"])
    sizes = model.network.rpn.anchor_generator.sizes
    # From an eighth of the short side to all of it, over the strides 4, 8 and 16.
    assert [size for (size,) in sizes] == [8, 23, 64]
    with pytest.raises(UserError, match="one layer of each stride"):
        built(opened(tmp_path, layers=["conv3", "conv7"]))


def test_photos_in_a_batch_are_padded_with_gray(tmp_path: Path) -> None:
    model = built(opened(scenes(tmp_path)))
    network = model.network
    bright, dark = torch.full((3, 20, 24), 200 / 255), torch.full((3, 32, 16), 20 / 255)
    images, _ = network.transform([bright, dark])
    assert images.tensors.shape == (2, 3, 32, 24)
    seen = []
    network.backbone.pyramid.forward = lambda x: seen.append(x)
    network.backbone(images.tensors)
    assert (seen[0][0, :, :20] * 255 - 200).abs().max() < 1e-3
    assert (seen[0][1, :, :, :16] * 255 - 20).abs().max() < 1e-3
    assert (seen[0][0, :, 20:] * 255 - PADDING).abs().max() < 1e-3
    assert (seen[0][1, :, :, 16:] * 255 - PADDING).abs().max() < 1e-3


def test_alexnets_own_layers_are_the_box_head(tmp_path: Path) -> None:
    task = opened(scenes(tmp_path), encoder="random:alexnet@0.05", size=64)
    model = built(task)
    head = model.network.roi_heads.box_head
    assert isinstance(head, OwnLayers) and head.cells == 6
    assert torch.isfinite(losses(task, model)["loss"])
    regions = torch.randn(3, head.fc6[0].in_channels, 6, 6)
    trunk = model.network.backbone.pyramid.backbone.trunk.model
    # A matrix product with the network's own weights, then its BatchNorm by the stored statistics.
    hidden = regions.flatten(1) @ trunk.fc6[0].weight.flatten(1).T + trunk.fc6[0].bias
    hidden = (hidden / (1 + trunk.fc6[1].eps) ** 0.5).relu()
    expected = ((hidden @ trunk.fc7[0].weight.flatten(1).T + trunk.fc7[0].bias) / (1 + 1e-5) ** 0.5).relu()
    assert torch.allclose(head.train()(regions), expected, atol=1e-5)
    assert built(opened(tmp_path, encoder="random:alexnet@0.05", reuse_fc=False)).network.roi_heads.box_head is not None


def test_difficult_objects_are_not_learnt_from(tmp_path: Path) -> None:
    folder = scenes(tmp_path)
    annotation(folder, "train0", [("cat?", 3, 3, 20, 20), ("dog", 5, 6, 20, 20)], size=(48, 32))
    task = opened(folder, batch_size=4)
    (batch,) = task.batches(np.arange(4), seed=0, start=0, steps=1)
    found = sorted((target["boxes"].shape[0], *target["labels"].tolist()) for target in batch.targets)
    assert found == [(1, 1), (1, 2), (1, 2), (1, 2)]


def test_photos_without_objects_are_learnt_from(tmp_path: Path) -> None:
    folder = scenes(tmp_path, train=4)
    annotation(folder, "train0", [("cat?", 3, 3, 20, 20)], size=(48, 32))
    annotation(folder, "val0", [], size=(48, 32))
    task = opened(folder, batch_size=4)
    found = losses(task, built(task))
    assert all(torch.isfinite(value) for value in found.values())
    assert task.evaluate(Oracle(), None, autocast=nullcontext).figures["voc_ap"] == {"dog": 1.0}


# --- scoring ---------------------------------------------------------------------------------------------------------


def test_a_detector_that_finds_all_scores_one_in_the_photos_own_pixels(tmp_path: Path) -> None:
    # Photos are shown at twice their size.
    task = opened(scenes(tmp_path, test=5), size=64)
    evaluated = task.evaluate(Oracle(), None, autocast=nullcontext)
    assert evaluated.figures["voc_map"] == evaluated.figures["ap50"] == 1.0
    # Resizing smears the edges by a pixel or so.
    assert evaluated.figures["ap"] > 0.6
    assert evaluated.figures["voc_ap"] == {"cat": 1.0, "dog": 1.0}
    # No class is on as many as 20 photos.
    assert "voc_map_common" not in evaluated.figures and len(evaluated.details.detections) == 5
    box, truth = evaluated.details.detections[0].corners[0], task.test.boxes[0].corners[0]
    assert np.abs(box - truth).max() < 1.5
    sheets = task.pictures(evaluated)
    assert set(sheets) == {"most_right", "most_wrong"}
    assert len(sheets["most_right"].rows) == 5 and len(sheets["most_right"].rows[0]) == 2


def test_photos_to_choose_on_are_those_asked_for(tmp_path: Path) -> None:
    task = opened(scenes(tmp_path, train=6))
    fit, choose = task.split(fraction=0.34, seed=0)
    assert len(fit) + len(choose) == 6
    evaluated = task.evaluate(Oracle(), choose, autocast=nullcontext)
    assert set(evaluated.figures) == {"voc_map"} and evaluated.figures["voc_map"] == 1.0
    assert len(evaluated.details.detections) == len(choose)
    assert task.evaluate(Oracle(shift=20.0), choose, autocast=nullcontext).figures["voc_map"] == 0.0


def test_unreadable_photos_are_left_out_and_told(tmp_path: Path) -> None:
    task = opened(scenes(tmp_path, test=3))
    (tmp_path / "JPEGImages" / "val1.png").write_bytes(b"gone bad")
    told: list[str] = []
    evaluated = task.evaluate(Oracle(), None, autocast=nullcontext, unreadable=lambda lines, read: told.extend(lines))
    assert len(evaluated.details.photos) == 2 and evaluated.figures["voc_map"] == 1.0
    assert len(told) == 1 and "val1.png" in told[0]


def one(corners: tuple[float, ...], score: float = 0.9) -> Detections:
    return Detections(np.asarray([corners], np.float32), np.zeros(1, np.int64), np.asarray([score], np.float32))


def test_coco_figures() -> None:
    truth = [Boxes.of([(0, 0, 10, 10)], [0])]
    # An IoU of 0.82: right at the 7 thresholds 0.5, 0.55, ..., 0.8 of 10.
    assert coco_figures([one((0, 0, 10, 8.2))], truth) == {"ap": pytest.approx(0.7), "ap50": pytest.approx(1.0)}
    hard = [Boxes.of([(0, 0, 10, 10), (50, 50, 60, 60)], [0, 0], [False, True])]
    both = Detections(
        np.asarray([(0, 0, 10, 10), (50, 50, 60, 60)], np.float32), np.zeros(2, np.int64), np.float32([0.5, 0.9])
    )
    assert coco_figures([both], hard)["ap"] == pytest.approx(1.0)
    assert np.isnan(coco_figures([one((0, 0, 1, 1))], [Boxes.of([], [])])["ap"])


def test_predictions_are_told_and_drawn(tmp_path: Path) -> None:
    task = Detection.trained(opened(scenes(tmp_path)).settings, ["cat", "dog"])
    with Image.open(tmp_path / "JPEGImages" / "train1.png") as photo:
        said = task.predict(Oracle(), photo.convert("RGB"))
    (found,) = said.result["objects"]
    assert found["class"] == "dog" and found["score"] == 0.9
    assert 0 <= found["box"][0] < found["box"][2] <= 48
    assert said.picture.size == (48, 32)


# --- learning --------------------------------------------------------------------------------------------------------


def test_fast_r_cnn_learns_to_tell_given_regions(tmp_path: Path) -> None:
    folder = scenes(tmp_path, train=4, test=2)
    regions = {}
    for file in (folder / "Annotations").iterdir():
        text = file.read_text()
        sides = [float(text.split(f"<{name}>")[1].split("<")[0]) for name in ("xmin", "ymin", "xmax", "ymax")]
        regions[file.stem] = np.asarray([[sides[0] - 1, sides[1] - 1, *sides[2:]], [0, 0, 9, 9], [30, 20, 48, 32]])
    np.savez(tmp_path / "regions.npz", **regions)
    # The first layers alone, through which gradients reach the first one of a network without any training.
    task = opened(folder, proposals=str(tmp_path / "regions.npz"), batch_size=4, regions=8, layers=["conv2"])
    model = built(task).train()
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    for batch in task.batches(np.arange(4), seed=0, start=0, steps=25):
        found = task.loss(model, batch)
        assert set(found) == {"loss", "classes", "boxes"}
        optimizer.zero_grad()
        found["loss"].backward()
        optimizer.step()
    assert task.evaluate(model, None, autocast=nullcontext).figures["voc_map"] > 0.9
    with pytest.raises(UserError, match="proposals"):
        task.predict(model, Image.new("RGB", (48, 32)))


def test_weights_come_back_into_a_model_built_anew(tmp_path: Path) -> None:
    task = opened(scenes(tmp_path))
    model = built(task).eval()
    other = built(Detection.trained(task.settings, task.classes))
    other.load_state_dict(model.state_dict(), strict=True)
    photo = torch.randint(0, 255, (3, 32, 48), dtype=torch.uint8)
    first, second = (each.eval()([photo])[0] for each in (model, other))
    assert torch.equal(first["boxes"], second["boxes"]) and torch.equal(first["scores"], second["scores"])
