"""Settings of fine-tuning: those that its tasks share, those of each task, and those of predicting."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from ssl_colorize.config import (
    BatchSize,
    DataChanged,
    DeviceName,
    EncoderSource,
    Limit,
    MaskSource,
    MeasuringSource,
    OneOrMany,
    Precision,
    Range,
    Seed,
    Settings,
    Share,
    StepsOrEpochs,
    Workers,
)  # fmt: skip


class FinetuneSettings(StepsOrEpochs, MeasuringSource):
    """What decides a fine-tuning run, whatever the task. Lengths are in pixels.

    A task's subclass adds fields and may give others another default. Those of the optimization are for Muon;
    `with_sgd` says which others go with plain SGD, where they are not given.
    """

    renamed: ClassVar[Mapping[str, str]] = {
        "colour": "color", "normalise": "normalize", "evaluate_every": "evaluate_epochs",
    }  # fmt: skip
    with_sgd: ClassVar[Mapping[str, Any]] = {
        "learning_rates": (1e-3, 3e-3, 1e-2), "head_factor": 1.0, "weight_decay": 5e-4,
    }  # fmt: skip

    # What learns
    encoder: EncoderSource
    train_from: str = Field("all", description="first layer that learns: all of them, one by name, or head for none")
    layers: OneOrMany[str] = Field((), description="layers that the head reads; the task's own choice if not given")
    color: bool | None = Field(
        None, description="what the encoder sees, color by an ab stem that starts at zero; as it learned if not given"
    )
    batchnorm: Literal["frozen", "train", "fold"] = Field(
        "frozen", description="stored statistics, those of each batch, or folded into the convolutions"
    )
    rescale: bool = Field(False, description="fold BatchNorm, then bring the layers to learn at similar rates")
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    normalize: bool | None = Field(
        None, description="a new head reads maps of mean 0 and variance 1 by channel; by itself unless it has a pyramid"
    )

    # Photos
    data: OneOrMany[str] = Field((), description="class folders, a list, a VOC folder or a torchvision data set")
    limit: Annotated[int, Field(ge=2)] | None = Field(
        None, description="train on so many photos at most, for a quick look"
    )
    size: Annotated[int, Field(ge=8)] | None = Field(
        None, description="short side of photos, in pixels; the encoder's own if not given"
    )
    scales: Range[PositiveFloat] = Field((1.0, 1.25), description="of a training photo, against size")

    # Optimization
    optimizer: Literal["muon", "adamw", "sgd"] = Field("muon", description="muon: AdamW for the head")
    learning_rates: OneOrMany[PositiveFloat] = Field(
        (1e-4, 3e-4, 1e-3), min_length=1, description="highest of the schedule; of several one is chosen"
    )
    head_factor: PositiveFloat = Field(3.0, description="on the learning rate of the head")
    momentum: Annotated[float, Field(ge=0, lt=1)] = Field(0.9, description="of sgd")
    weight_decay: NonNegativeFloat = Field(0.01, description="of weights; neither of biases nor of normalization")
    batch_size: BatchSize = Field(16, description="photos at a time, of all processes together")
    epochs: PositiveFloat | None = Field(20, description="passes over the photos")
    schedule: Literal["cosine", "steps"] = "cosine"
    drop_every: PositiveInt | None = Field(None, description="of schedule steps: steps between drops")
    drop_factor: Share = 0.1
    warmup: Annotated[int, Field(ge=0)] = Field(20, description="steps of linear warm-up")
    clip: PositiveFloat | None = Field(None, description="largest norm of the gradient")

    # Choosing
    choosing: Share = Field(0.2, description="share of the training photos that rate and length are chosen on")
    choose_length: bool = Field(True, description="choose the best epoch; else train for the whole length")
    evaluate_epochs: PositiveInt = Field(1, description="epochs between evaluations on the photos to choose on")
    refit: bool = Field(True, description="train again on all training photos, with what was chosen")

    # The run
    seed: Seed = 0
    device: DeviceName = "auto"
    precision: Precision = "auto"
    workers: Workers = 2
    checkpoint_every: PositiveInt = Field(500, description="steps")
    data_changed: DataChanged = "refuse"

    @classmethod
    def implied(cls, asked: Mapping[str, Any]) -> dict[str, Any]:
        """What was asked for; rescaling works on folded BatchNorm."""
        return ({"batchnorm": "fold"} if asked.get("rescale") else {}) | super().implied(asked)

    @model_validator(mode="before")
    @classmethod
    def _with_sgd(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or values.get("optimizer") != "sgd":
            return values
        return {**cls.with_sgd, **values}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.rescale and self.batchnorm != "fold":
            raise ValueError("rescale works on folded BatchNorm: set batchnorm to fold")
        if (self.schedule == "steps") != (self.drop_every is not None):
            raise ValueError("drop_every belongs to schedule: steps, which needs it")
        return self

    @property
    def chooses(self) -> bool:
        """Whether anything is left to choose, which takes photos held out from training."""
        return self.choose_length or len(self.learning_rates) > 1


class ClassificationSettings(FinetuneSettings):
    """Settings of `ssl-colorize finetune classification`."""

    crop: PositiveInt | None = Field(None, description="side of the window, in pixels; 7/8 of size if not given")
    paper_layout: bool = Field(True, description="alexnet without padding, so that fc6 and fc7 see the whole window")
    ten_crops: bool = Field(False, description="judge by ten windows of a photo, not one")
    multilabel: bool | None = Field(None, description="several labels a photo; as the photos are if not given")


class DetectionSettings(FinetuneSettings):
    """Settings of fine-tuning on detection."""

    with_sgd: ClassVar[Mapping[str, Any]] = {**FinetuneSettings.with_sgd, "learning_rates": (3e-3, 1e-2)}

    data: OneOrMany[str] = Field((), description="a VOC or COCO folder")
    learning_rates: OneOrMany[PositiveFloat] = Field(
        (3e-4, 1e-3), min_length=1, description="highest of the schedule; of several one is chosen"
    )
    batch_size: BatchSize = Field(8, description="photos at a time, of all processes together")
    warmup: Annotated[int, Field(ge=0)] = 100
    clip: Annotated[float, Field(gt=0)] | None = 10.0
    proposals: str | None = Field(None, description="file of regions (.npz, .json): Fast R-CNN; else Faster R-CNN")
    fpn: bool | None = Field(None, description="a feature pyramid; by itself where the deepest stride is above 16")
    reuse_fc: bool = Field(True, description="alexnet: the box head starts as its fc6 and fc7")
    crop: Annotated[int, Field(ge=8)] | None = Field(None, description="train on squares of so many pixels")
    regions: PositiveInt = Field(64, description="of a photo, learned from in a step")
    hidden: PositiveInt = Field(512, description="units of a new box head")
    nms: Share = Field(0.3, description="of two detections whose IoU is above this the surer one is kept")
    detections: PositiveInt = Field(100, description="kept a photo")


class SegmentationSettings(FinetuneSettings, MaskSource):
    """Settings of fine-tuning on segmentation."""

    with_sgd: ClassVar[Mapping[str, Any]] = {**FinetuneSettings.with_sgd, "learning_rates": (1e-2, 3e-2)}

    data: OneOrMany[str] = Field((), description="a VOC or COCO folder")
    learning_rates: OneOrMany[PositiveFloat] = Field(
        (3e-4, 1e-3), min_length=1, description="highest of the schedule; of several one is chosen"
    )
    # Little of a photo is anything but background, and a head that learns slowly never says so.
    head_factor: PositiveFloat = Field(10.0, description="on the learning rate of the head")
    batch_size: BatchSize = Field(8, description="photos at a time, of all processes together")
    clip: Annotated[float, Field(gt=0)] | None = 10.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    head: Literal["context", "fcn32s"] = Field("context", description="fcn32s: the paper's, for alexnet")
    hidden: PositiveInt = Field(128, description="channels of the context head")
    fpn: bool | None = Field(None, description="a feature pyramid; by itself where the deepest stride is above 16")
    crop: Annotated[int, Field(ge=8)] | None = Field(None, description="side of a training square; size by itself")


class PredictSettings(Settings):
    """Settings of `ssl-colorize predict`."""

    run: str = Field(description="folder of a `ssl-colorize finetune` run, or the file in it")
    photos: tuple[str, ...] = Field((), description="files, and folders that are searched to any depth")
    device: DeviceName = "auto"
    limit: Limit = None
