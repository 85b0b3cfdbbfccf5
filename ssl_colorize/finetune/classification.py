"""Fine-tuning for classification: one label a photo, or several as in VOC."""

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torchvision.transforms.functional import ten_crop

from ssl_colorize.data import LabeledDataset, holdout_batches, training_batches
from ssl_colorize.data.transforms import resized_window
from ssl_colorize.device import Autocast
from ssl_colorize.encoder import Encoder
from ssl_colorize.errors import UserError
from ssl_colorize.evaluate.metrics import Predictions, average_precisions, common_mean, summarize
from ssl_colorize.finetune.config import ClassificationSettings, FinetuneSettings
from ssl_colorize.finetune.neck import ChannelNorm
from ssl_colorize.finetune.overlays import captioned
from ssl_colorize.finetune.tasks import (
    Evaluated,
    OnPhotos,
    Prediction,
    ReportUnreadable,
    Say,
    Sheet,
    TrainingBatch,
    to_model,
)
from ssl_colorize.models import ColorizationModel

# The short side of photos and the window that the paper's layout of alexnet is for.
PAPER_SIZE, PAPER_CROP = 256, 227
# Photos on a sheet, in columns, and the side of one in pixels.
_SHOWN, _COLUMNS, _CELL = 12, 4, 240
# Of a photo to predict: the side of its picture, classes that its caption names, classes that are listed with scores.
_PREDICTED, _NAMED, _LISTED = 480, 3, 20


class PooledHead(nn.Module):
    """Maps averaged over the photo, normalized by channel, and a linear classifier."""

    def __init__(self, backbone: Encoder, classes: int, *, normalize: bool, dropout: float) -> None:
        super().__init__()
        self.backbone = backbone
        channels = sum(info["num_chs"] for info in backbone.feature_info)
        self.norm = ChannelNorm(channels) if normalize else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(channels, classes)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, photos: Tensor) -> Tensor:
        """(B, 3, H, W) -> scores (B, C)."""
        pooled = torch.cat([x.mean((2, 3), keepdim=True) for x in self.backbone(photos).values()], dim=1)
        scores: Tensor = self.classifier(self.dropout(self.norm(pooled).flatten(1)))
        return scores


class Classification(OnPhotos):
    """Photos with labels, and classifiers of them."""

    name: ClassVar[str] = "classification"
    settings_type: ClassVar[type[FinetuneSettings]] = ClassificationSettings

    settings: ClassificationSettings

    def __init__(
        self,
        settings: ClassificationSettings,
        classes: Sequence[str],
        parts: tuple[LabeledDataset, LabeledDataset] | None = None,
    ) -> None:
        super().__init__(settings, classes, parts)
        self.main = "map" if settings.multilabel else "top1"
        self._size, self._crop = 0, 0

    @classmethod
    def open(cls, settings: ClassificationSettings, *, say: Say) -> Self:
        task = super().open(settings, say=say)
        multilabel = task.train.multilabel
        if settings.multilabel not in (None, multilabel):
            kind = "several labels" if multilabel else "one label"
            raise UserError(f"Setting multilabel: these photos have {kind} each; leave it away.")
        return cls(settings.model_copy(update={"multilabel": multilabel}), task.classes, (task.train, task.test))

    def layers(self, encoder: Encoder) -> tuple[str, ...]:
        return encoder.choose(self.settings.layers or encoder.layers[-1:])

    # ---- the model ---------------------------------------------------------------------------------------------------

    def build(self, backbone: Encoder) -> nn.Module:
        settings = self.settings
        alexnet = _with_window(backbone) if settings.paper_layout else None
        self._size = settings.size or (PAPER_SIZE if alexnet else backbone.input_size)
        # Whole multiples of 8, which eccv16 needs no padding for.
        self._crop = settings.crop or (PAPER_CROP if alexnet else max(8, round(self._size * 7 / 64) * 8))
        if self._crop > self._size:
            raise UserError(f"A crop of {self._crop} px does not fit in photos resized to {self._size} px.")
        if alexnet is None:
            return PooledHead(
                backbone, len(self.classes), normalize=settings.normalize is not False, dropout=settings.dropout
            )
        if self._crop < PAPER_CROP:
            raise UserError(f"alexnet's fc6 needs a crop of {PAPER_CROP} px or more; or set paper_layout to false.")
        alexnet.lay_out_for_window(dropout=settings.dropout)
        # Where fc7 learns, its own dropout is on.
        dropout = 0.0 if "fc7" in backbone.trained else settings.dropout
        return PooledHead(backbone, len(self.classes), normalize=False, dropout=dropout)

    def batches(
        self, indices: NDArray[np.int64], *, seed: int, start: int, steps: int, rank: int = 0, world_size: int = 1
    ) -> Iterator[TrainingBatch]:
        settings = self.settings
        part = self.part(indices)
        low, high = (max(self._crop, round(scale * self._size)) for scale in settings.scales)
        labels = torch.from_numpy(np.asarray(part.labels)).long()
        batches = training_batches(
            part.photos, resize=(low, high), crop=self._crop, batch_size=settings.batch_size, seed=seed, start=start,
            steps=steps, workers=settings.workers, rank=rank, world_size=world_size,
        )  # fmt: skip
        for batch in batches:
            yield TrainingBatch(batch.photos, labels[batch.indices], batch.unreadable)

    def loss(self, model: nn.Module, batch: TrainingBatch) -> dict[str, Tensor]:
        scores = model(to_model(model, batch.photos)).float()
        return {"loss": classification_loss(scores, batch.targets.to(scores.device))}

    # ---- figures -----------------------------------------------------------------------------------------------------

    def evaluate(
        self,
        model: nn.Module,
        indices: NDArray[np.int64] | None,
        *,
        autocast: Autocast,
        unreadable: ReportUnreadable = lambda lines, read: None,
    ) -> Evaluated:
        model.eval()
        part = self.part(indices)
        found: list[Tensor] = []
        kept: list[Tensor] = []
        size, crop = self._size, self._size if self.settings.ten_crops else self._crop
        batches = holdout_batches(
            part.photos, resize=size, crop=crop, batch_size=self.settings.batch_size, workers=self.settings.workers
        )
        for batch in batches:
            unreadable(batch.unreadable, len(batch.photos))
            with autocast():
                found.append(self._scores(model, to_model(model, batch.photos)).cpu())
            kept.append(batch.indices)
        scores, rows = torch.cat(found), torch.cat(kept).numpy()
        predictions = Predictions.of(scores, np.asarray(part.labels)[rows])
        if indices is not None:
            return Evaluated({self.main: predictions.value, **self._common(predictions)})
        return Evaluated(self._figures(predictions), details=(rows, self._probabilities(scores).numpy()))

    @torch.no_grad()
    def _scores(self, model: nn.Module, photos: Tensor) -> Tensor:
        """(B, 3, H, W) on the model's device -> (B, C) float32, of ten windows their mean."""
        if not self.settings.ten_crops:
            return model(photos).float()  # type: ignore[no-any-return]
        windows = ten_crop(photos, [self._crop, self._crop])
        return torch.stack([model(window).float() for window in windows]).mean(0)

    @staticmethod
    def _common(predictions: Predictions) -> dict[str, float]:
        """Of several labels, the figure of common classes."""
        if predictions.scores is None:
            return {}
        return common_mean("map_common", average_precisions(predictions.scores, predictions.truth), predictions.truth)

    def _figures(self, predictions: Predictions) -> dict[str, Any]:
        """The test photos': with their intervals, and by class."""
        found = summarize([predictions], self.classes, seed=self.settings.seed)
        per_class = found.pop("per_class")
        return found | {"ap" if self.settings.multilabel else "per_class": per_class}

    def _probabilities(self, scores: Tensor) -> Tensor:
        return scores.sigmoid() if self.settings.multilabel else scores.softmax(1)

    # ---- pictures ----------------------------------------------------------------------------------------------------

    def pictures(self, evaluated: Evaluated) -> dict[str, Sheet]:
        rows, probabilities = evaluated.details
        truth = np.asarray(self.test.labels)[rows]
        order = np.argsort(-sureness(probabilities, truth), kind="stable")
        chosen = {"most_right": order[:_SHOWN], "most_wrong": order[::-1][:_SHOWN]}
        sheets = {}
        for name, places in chosen.items():
            cells = [self._cell(int(rows[place]), probabilities[place], truth[place]) for place in places]
            blank = Image.new("RGB", cells[0].size, "white")
            cells += [blank] * (-len(cells) % _COLUMNS)
            lines = [cells[at : at + _COLUMNS] for at in range(0, len(cells), _COLUMNS)]
            sheets[name] = Sheet(lines, [name.replace("_", " "), *[""] * (_COLUMNS - 1)])
        return sheets

    def _cell(self, index: int, probabilities: NDArray[np.float32], truth: Any) -> Image.Image:
        if self.settings.multilabel:
            there = [name for name, label in zip(self.classes, truth, strict=True) if label == 1]
        else:
            there = [self.classes[int(truth)]]
        lines = [f"says {self._said(probabilities)}", f"is {', '.join(there) or 'none'}"]
        return captioned(self.test.photos.read(index, short_side=_CELL), lines, side=_CELL)

    def _said(self, probabilities: NDArray[np.float32]) -> str:
        """The likeliest class; of several labels all from one half up."""
        best = np.argsort(-probabilities, kind="stable")[:_NAMED]
        if self.settings.multilabel:
            best = np.asarray([number for number in best if probabilities[number] >= 0.5] or best[:1])
        else:
            best = best[:1]
        return ", ".join(f"{self.classes[number]} {100 * probabilities[number]:.0f}%" for number in best)

    def predict(self, model: nn.Module, photo: Image.Image) -> Prediction:
        side = self._size if self.settings.ten_crops else self._crop
        window = resized_window(photo, short_side=self._size, crop=side, across=0.5, down=0.5)
        pixels = torch.from_numpy(np.asarray(window).transpose(2, 0, 1).copy())[None]
        probabilities = self._probabilities(self._scores(model, to_model(model, pixels)))[0].cpu().numpy()
        order = np.argsort(-probabilities, kind="stable")
        there = order[probabilities[order] >= 0.5] if self.settings.multilabel else order[:1]
        result = {
            "labels": [self.classes[number] for number in there],
            "scores": {self.classes[number]: round(float(probabilities[number]), 4) for number in order[:_LISTED]},
        }
        return Prediction(captioned(photo, [self._said(probabilities)], side=_PREDICTED), result)


def classification_loss(scores: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy averaged over the photos.

    Args:
        scores: (B, C).
        targets: (B,) classes; or (B, C) of 1, 0 and -1 for what is not judged: sigmoid cross-entropy, summed over
            classes.
    """
    if targets.ndim == 1:
        return functional.cross_entropy(scores, targets)
    each = functional.binary_cross_entropy_with_logits(scores, targets.clamp(min=0).to(scores), reduction="none")
    return (each * (targets >= 0)).sum() / len(targets)


def sureness(probabilities: NDArray[np.float32], truth: NDArray[Any]) -> NDArray[np.float64]:
    """(N,): the log of the probability given to each photo's true labels, over the classes that are judged."""
    known = np.clip(probabilities.astype(np.float64), 1e-12, 1 - 1e-12)
    if truth.ndim == 1:
        return np.asarray(np.log(known[np.arange(len(truth)), truth]))
    each = np.where(truth == 1, np.log(known), np.log1p(-known))
    return np.asarray((each * (truth >= 0)).sum(1))


def _with_window(backbone: Encoder) -> ColorizationModel | None:
    """The network, if the head reads a fully connected layer, which sees a window as a whole."""
    model = backbone.trunk.colorizer
    return model if model is not None and backbone.layers[-1] in model.fully_connected else None
