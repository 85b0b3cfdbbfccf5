"""Detection: Faster R-CNN or Fast R-CNN, scored by VOC's 11-point mAP and COCO's AP."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from ssl_colorize.data import Boxes, LabeledDataset
from ssl_colorize.data.annotations import read_proposals
from ssl_colorize.data.loading import Batch, annotated_holdout_batches, annotated_training_batches
from ssl_colorize.data.transforms import Plan, apply
from ssl_colorize.device import Autocast
from ssl_colorize.encoder import Encoder
from ssl_colorize.errors import UserError
from ssl_colorize.evaluate.metrics import common_mean
from ssl_colorize.finetune import overlays
from ssl_colorize.finetune.config import DetectionSettings, FinetuneSettings
from ssl_colorize.finetune.detector import Detector
from ssl_colorize.finetune.tasks import (
    AnnotatedTask,
    Evaluated,
    Prediction,
    ReportUnreadable,
    Say,
    Sheet,
    TrainingBatch,
    map_layers,
    to_model,
)
from ssl_colorize.finetune.voc_ap import (
    NOT_COUNTED,
    RIGHT,
    Detections,
    Matched,
    average_precisions,
    interval,
    match,
    match_photo,
)

SHOWN = 0.5  # confidence from which on a detection is drawn
TOLD = 0.05  # and from which on `predict` tells it
_PICTURES = 8

_LOSSES = {
    "loss_classifier": "classes",
    "loss_box_reg": "boxes",
    "loss_objectness": "objectness",
    "loss_rpn_box_reg": "anchors",
}


@dataclass(frozen=True)
class Found:
    """Test photos and what was found on them, for pictures."""

    photos: LabeledDataset
    detections: list[Detections]


class Detection(AnnotatedTask):
    """Objects and their boxes; see `tasks.Task`."""

    name: ClassVar[str] = "detection"
    annotation = "boxes"
    settings_type: ClassVar[type[FinetuneSettings]] = DetectionSettings
    main = "voc_map"

    settings: DetectionSettings

    @classmethod
    def open(cls, settings: DetectionSettings, *, say: Say) -> Self:
        """The task with its photos, and their proposals where a file has them."""
        task = super().open(settings, say=say)
        if settings.proposals is not None:
            known = read_proposals(settings.proposals)
            train, test = (part.with_proposals(known, file=settings.proposals) for part in (task.train, task.test))
            return cls(settings, task.classes, (train, test))
        return task

    def layers(self, encoder: Encoder) -> tuple[str, ...]:
        self.note_size(encoder)
        return map_layers(encoder, self.settings, pyramid=self.settings.fpn)

    def build(self, backbone: Encoder) -> nn.Module:
        self.note_size(backbone)
        return Detector(backbone, self.settings, classes=len(self.classes), size=self.size)

    def batches(
        self, indices: NDArray[np.int64], *, seed: int, start: int, steps: int, rank: int = 0, world_size: int = 1
    ) -> Iterator[TrainingBatch]:
        batches = annotated_training_batches(
            self.train.take(indices), self.augmentation(self.settings.crop), batch_size=self.settings.batch_size,
            seed=seed, start=start, steps=steps, workers=self.settings.workers, rank=rank, world_size=world_size,
        )  # fmt: skip
        return (_training_batch(batch) for batch in batches)

    def loss(self, model: nn.Module, batch: TrainingBatch) -> dict[str, Tensor]:
        photos = [to_model(model, photo) for photo in batch.photos]
        targets = [{name: to_model(model, value) for name, value in target.items()} for target in batch.targets]
        parts = model(photos, targets)
        total = torch.stack(list(parts.values())).sum()
        return {"loss": total} | {_LOSSES.get(name, name): value.detach() for name, value in parts.items()}

    def evaluate(
        self,
        model: nn.Module,
        indices: NDArray[np.int64] | None,
        *,
        autocast: Autocast,
        unreadable: ReportUnreadable = lambda lines, read: None,
    ) -> Evaluated:
        photos = self.part(indices)
        found: list[Detections] = []
        read: list[int] = []
        model.eval()
        for batch in annotated_holdout_batches(
            photos, short_side=self.size, long_side=self.longest(self.size), batch_size=self.settings.batch_size,
            workers=self.settings.workers,
        ):  # fmt: skip
            unreadable(batch.unreadable, len(batch.photos))
            indices_read = batch.indices.tolist()
            sizes = photos.sizes[indices_read].tolist()
            found += detect(model, batch.each_photo(), sizes, proposals=batch.proposals, autocast=autocast)
            read += indices_read
        photos = photos.take(read)
        matched = match(found, photos.boxes, len(self.classes))
        values = average_precisions(matched)
        figures: dict[str, Any] = {"voc_map": float(np.nanmean(values))}
        figures |= common_mean("voc_map_common", values, photos.labels)
        if indices is None:
            figures |= self._all_figures(photos, found, matched, values)
        return Evaluated(figures, Found(photos, found))

    def _all_figures(
        self, photos: LabeledDataset, found: Sequence[Detections], matched: Matched, values: NDArray[np.float64]
    ) -> dict[str, Any]:
        low, high = interval(matched, seed=self.settings.seed)
        by_class = {name: float(value) for name, value in zip(self.classes, values, strict=True) if value == value}
        return {
            "low": low,
            "high": high,
            "voc_ap": by_class,
            **coco_figures(found, photos.boxes),
        }

    def pictures(self, evaluated: Evaluated) -> dict[str, Sheet]:
        found: Found = evaluated.details
        marks = [_agreement(said, truth) for said, truth in zip(found.detections, found.photos.boxes, strict=True)]
        with_objects = [index for index, truth in enumerate(found.photos.boxes) if (~truth.difficult).any()]
        order = sorted(with_objects, key=lambda index: marks[index], reverse=True)
        chosen = {"most_right": order[:_PICTURES], "most_wrong": order[::-1][:_PICTURES]}
        titles = ("truth", "found (green: right)")
        return {
            name: Sheet([self._pair(found, index) for index in places], titles, groups=2)
            for name, places in chosen.items()
            if places
        }

    def _pair(self, found: Found, index: int) -> tuple[Image.Image, Image.Image]:
        """The photo with its objects, and with what was found."""
        photo = found.photos.photos.read(index)
        said, truth = _shown(found.detections[index]), found.photos.boxes[index]
        verdicts = match_photo(said, truth)
        colors = {RIGHT: overlays.RIGHT, NOT_COUNTED: overlays.NOT_COUNTED}
        objects = [
            overlays.Mark(box, self.classes[label], overlays.NOT_COUNTED if hard else overlays.PLAIN)
            for box, label, hard in zip(truth.corners.tolist(), truth.labels, truth.difficult, strict=True)
        ]
        marks = self._marks(said, [colors.get(int(verdict), overlays.WRONG) for verdict in verdicts])
        return overlays.draw_boxes(photo, objects), overlays.draw_boxes(photo, marks)

    def _marks(self, found: Detections, colors: Sequence[overlays.Color]) -> list[overlays.Mark]:
        """What to draw, the surest one last and so on top."""
        each = zip(found.corners.tolist(), found.labels, found.scores, colors, strict=True)
        marks = [overlays.Mark(box, f"{self.classes[label]} {score:.2f}", color) for box, label, score, color in each]
        return marks[::-1]

    def predict(self, model: nn.Module, photo: Image.Image) -> Prediction:
        if self.settings.proposals is not None:
            raise UserError("This model was trained on proposals from a file, and has none for new photos.")
        resized = apply(Plan(self.target(photo.size)), photo, photo.size).photo
        (found,) = detect(model, [torch.from_numpy(resized)], [photo.size], autocast=nullcontext)
        shown = _shown(found)
        marks = self._marks(shown, [overlays.class_color(int(label) + 1) for label in shown.labels])
        told = [
            {"class": self.classes[label], "score": round(float(score), 4), "box": [round(side, 1) for side in box]}
            for box, label, score in zip(found.corners.tolist(), found.labels, found.scores, strict=True)
            if score >= TOLD
        ]
        return Prediction(overlays.draw_boxes(photo, marks, side=max(photo.size)), {"objects": told})


def _training_batch(batch: Batch) -> TrainingBatch:
    """Difficult objects are not learned from."""
    targets = []
    for boxes in batch.boxes:
        easy = boxes.take(~boxes.difficult)
        # torchvision's class 0 is the background.
        targets.append({"boxes": torch.from_numpy(easy.corners), "labels": torch.from_numpy(easy.labels) + 1})
    for target, proposals in zip(targets, batch.proposals, strict=False):
        target["proposals"] = _solid(torch.from_numpy(proposals))
    return TrainingBatch(batch.each_photo(), targets, batch.unreadable)


def _solid(proposals: Tensor) -> Tensor:
    """Without those that a crop cut away; one at least is left, so that there is something to learn from."""
    solid = proposals[(proposals[:, 2:] - proposals[:, :2] >= 1).all(1)]
    return solid if len(solid) else proposals[:1] + proposals.new_tensor([0, 0, 1, 1])


@torch.inference_mode()
def detect(
    model: nn.Module,
    photos: Sequence[Tensor],
    sizes: Sequence[Sequence[int]],
    *,
    proposals: Sequence[NDArray[np.float32]] = (),
    autocast: Autocast,
) -> list[Detections]:
    """What a detector in eval mode finds on some photos.

    Args:
        photos: (3, H, W) uint8 each, as the network gets them.
        sizes: width and height that each photo has by itself; boxes are in its pixels.
        proposals: (P, 4) regions of each photo as the network gets it, for a detector that looks at given ones.
    """
    targets = None
    if proposals:
        nothing = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
        targets = [
            {name: to_model(model, value) for name, value in (nothing | {"proposals": torch.from_numpy(each)}).items()}
            for each in proposals
        ]
    with autocast():
        found = model([to_model(model, photo) for photo in photos], targets)
    made = []
    for each, photo, (width, height) in zip(found, photos, sizes, strict=True):
        scale = torch.tensor([width / photo.shape[-1], height / photo.shape[-2]] * 2)
        corners = each["boxes"].float().cpu() * scale
        labels, scores = each["labels"].cpu() - 1, each["scores"].float().cpu()
        made.append(Detections(corners.numpy(), labels.numpy(), scores.numpy()))
    return made


def coco_figures(found: Sequence[Detections], truth: Sequence[Boxes]) -> dict[str, float]:
    """COCO's AP, the mean over IoU thresholds 0.5, 0.55, ..., 0.95, and at 0.5; NaN without objects.

    Difficult objects are COCO's crowds: what is found in them does not count.
    """
    from torchmetrics.detection import MeanAveragePrecision  # takes a second

    with warnings.catch_warnings(action="ignore"):  # that there are more than 100 detections on a photo
        metric = MeanAveragePrecision(box_format="xyxy", iou_type="bbox", backend="pycocotools")
        metric.update(
            [
                {"boxes": torch.from_numpy(each.corners), "labels": torch.from_numpy(each.labels),
                 "scores": torch.from_numpy(each.scores)}
                for each in found
            ],
            [
                {"boxes": torch.from_numpy(each.corners), "labels": torch.from_numpy(each.labels),
                 "iscrowd": torch.from_numpy(each.difficult.astype(np.int64))}
                for each in truth
            ],
        )  # fmt: skip
        values = metric.compute()
    figures = {"ap": float(values["map"]), "ap50": float(values["map_50"])}
    # Its sign that there is nothing to find.
    return {name: value if value >= 0 else float("nan") for name, value in figures.items()}


def _shown(found: Detections) -> Detections:
    sure = found.scores >= SHOWN
    return Detections(found.corners[sure], found.labels[sure], found.scores[sure])


def _agreement(found: Detections, truth: Boxes) -> tuple[float, int, float]:
    """How right the shown detections of a photo are: F1 score, then how many are right less wrong, then confidence."""
    shown = _shown(found)
    verdicts = match_photo(shown, truth)
    right, wrong = int((verdicts == RIGHT).sum()), int((verdicts == 0).sum())
    missed = int((~truth.difficult).sum()) - right
    score = 2 * right / max(1, 2 * right + wrong + missed)
    return score, right - wrong - missed, float(shown.scores.mean()) if len(shown.scores) else 0.0
