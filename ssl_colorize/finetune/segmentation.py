"""Segmentation: every pixel's class, scored by the mean IoU over classes."""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from ssl_colorize.data import LabeledDataset
from ssl_colorize.data.annotations import IGNORED
from ssl_colorize.data.loading import annotated_holdout_batches, annotated_training_batches
from ssl_colorize.data.transforms import Plan, apply
from ssl_colorize.device import Autocast
from ssl_colorize.encoder import Encoder
from ssl_colorize.evaluate.iou import BOTH, TRUE, class_pixels, iou_figures, ious, miou_interval
from ssl_colorize.finetune import overlays
from ssl_colorize.finetune.config import FinetuneSettings, SegmentationSettings
from ssl_colorize.finetune.segmenter import make_segmenter
from ssl_colorize.finetune.tasks import (
    AnnotatedTask,
    Evaluated,
    Prediction,
    ReportUnreadable,
    Sheet,
    TrainingBatch,
    map_layers,
    to_model,
)

_PICTURES = 8


@dataclass(frozen=True)
class Shown:
    """A test photo and what was said of it, for pictures."""

    score: float  # mean IoU over the classes on it
    index: int
    said: NDArray[np.uint8]  # (H, W)


@dataclass(frozen=True)
class Details:
    """The most right and the most wrong of the test photos."""

    photos: LabeledDataset
    right: list[Shown]
    wrong: list[Shown]


class Segmentation(AnnotatedTask):
    """The class of every pixel; see `tasks.Task`."""

    name: ClassVar[str] = "segmentation"
    annotation = "masks"
    settings_type: ClassVar[type[FinetuneSettings]] = SegmentationSettings
    main = "miou"

    settings: SegmentationSettings

    def layers(self, encoder: Encoder) -> tuple[str, ...]:
        self.note_size(encoder)
        if self.settings.head == "fcn32s":
            return encoder.choose(self.settings.layers or ("fc7",))
        return map_layers(encoder, self.settings, pyramid=self.settings.fpn)

    def build(self, backbone: Encoder) -> nn.Module:
        self.note_size(backbone)
        return make_segmenter(backbone, self.settings, classes=len(self.classes))

    def batches(
        self, indices: NDArray[np.int64], *, seed: int, start: int, steps: int, rank: int = 0, world_size: int = 1
    ) -> Iterator[TrainingBatch]:
        batches = annotated_training_batches(
            self.train.take(indices), self.augmentation(self.settings.crop or self.size),
            batch_size=self.settings.batch_size, seed=seed, start=start, steps=steps, workers=self.settings.workers,
            rank=rank, world_size=world_size,
        )  # fmt: skip
        for batch in batches:
            yield TrainingBatch(batch.photos, torch.from_numpy(np.stack(batch.masks)), batch.unreadable)

    def loss(self, model: nn.Module, batch: TrainingBatch) -> dict[str, Tensor]:
        truth = to_model(model, batch.targets).long()
        logits = model(to_model(model, batch.photos))
        counted = truth != IGNORED
        total = functional.cross_entropy(logits, truth, ignore_index=IGNORED, reduction="sum")
        right = ((logits.detach().argmax(1) == truth) & counted).sum()
        # A batch of crops that show nothing but borders is no reason for a NaN.
        pixels = counted.sum().clamp(min=1)
        return {"loss": total / pixels, "accuracy": right / pixels}

    def evaluate(
        self,
        model: nn.Module,
        indices: NDArray[np.int64] | None,
        *,
        autocast: Autocast,
        unreadable: ReportUnreadable = lambda lines, read: None,
    ) -> Evaluated:
        photos = self.part(indices)
        model.eval()
        pixels: list[NDArray[np.int64]] = []
        details = Details(photos, [], [])
        for batch in annotated_holdout_batches(
            photos, short_side=self.size, long_side=self.longest(self.size), batch_size=self.settings.batch_size,
            workers=self.settings.workers,
        ):  # fmt: skip
            unreadable(batch.unreadable, len(batch.photos))
            for index, photo, mask in zip(batch.indices.tolist(), batch.each_photo(), batch.masks, strict=True):
                said = segment(model, photo, mask.shape, autocast=autocast)
                pixels.append(class_pixels(said, mask, len(self.classes)))
                if indices is None:
                    _keep_extremes(details, Shown(_photo_score(pixels[-1]), index, said.numpy()))
        each = np.stack(pixels)
        values = ious(each.sum(0))
        figures: dict[str, Any] = {**iou_figures(each)}
        if indices is None:
            figures |= self._all_figures(each, values)
        return Evaluated(figures, details)

    def _all_figures(self, pixels: NDArray[np.int64], values: NDArray[np.float64]) -> dict[str, Any]:
        low, high = miou_interval(pixels, seed=self.settings.seed)
        whole = pixels.sum(0)
        return {
            "low": low,
            "high": high,
            "iou": {name: float(value) for name, value in zip(self.classes, values, strict=True) if value == value},
            "pixel_accuracy": float(whole[BOTH].sum() / max(1, whole[TRUE].sum())),
        }

    def pictures(self, evaluated: Evaluated) -> dict[str, Sheet]:
        details: Details = evaluated.details
        named = {"most_right": details.right, "most_wrong": details.wrong}
        titles = ("photo", "truth", "found")
        return {
            name: Sheet([self._row(details.photos, each) for each in shown], titles, groups=2)
            for name, shown in named.items()
            if shown
        }

    def _row(self, photos: LabeledDataset, shown: Shown) -> tuple[Image.Image, Image.Image, Image.Image]:
        photo, truth = photos.photos.read(shown.index), photos.masks[shown.index].read()
        # Pixels that do not count are left out of what was said too, or they would look like a mistake.
        said = np.where(truth == IGNORED, np.uint8(IGNORED), shown.said)
        return photo, overlays.draw_mask(photo, truth, self.classes), overlays.draw_mask(photo, said, self.classes)

    def predict(self, model: nn.Module, photo: Image.Image) -> Prediction:
        resized = apply(Plan(self.target(photo.size)), photo, photo.size).photo
        said = segment(model, torch.from_numpy(resized), (photo.height, photo.width)).numpy()
        shares = np.bincount(said.ravel(), minlength=len(self.classes)) / said.size
        order = np.argsort(-shares, kind="stable")
        told = {self.classes[number]: round(float(shares[number]), 4) for number in order if shares[number]}
        picture = overlays.draw_mask(photo, said, self.classes, side=max(photo.size))
        return Prediction(picture, {"classes": told})


@torch.inference_mode()
def segment(model: nn.Module, photo: Tensor, size: tuple[int, ...], *, autocast: Autocast = nullcontext) -> Tensor:
    """The class of every pixel of a photo (3, h, w) at its own height and width: (H, W) uint8 on the CPU."""
    with autocast():
        logits = model(to_model(model, photo[None]))
    enlarged = functional.interpolate(logits.float(), tuple(size), mode="bilinear", align_corners=False)
    return enlarged[0].argmax(0).to(torch.uint8).cpu()


def _photo_score(pixels: NDArray[np.int64]) -> float:
    """Mean IoU over the classes on one photo; NaN if there is nothing but background."""
    there = pixels[TRUE] > 0
    return float(np.nanmean(ious(pixels)[there])) if there[1:].any() else float("nan")


def _keep_extremes(details: Details, shown: Shown) -> None:
    """Note a photo if it is among the most right or the most wrong so far."""
    if np.isnan(shown.score):
        return
    for kept, sign in ((details.right, -1), (details.wrong, 1)):
        kept.append(shown)
        kept.sort(key=lambda each: (sign * each.score, each.index))
        del kept[_PICTURES:]
