"""Settings that fine-tuning shares between its tasks; each task adds its own beside it, in its own file."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from ssl_colorize.config import (
    BatchSize,
    DeviceName,
    OneOrMany,
    Precision,
    Range,
    Seed,
    Share,
    StepsOrEpochs,
    Workers,
)  # fmt: skip


class FinetuneSettings(StepsOrEpochs):
    """What decides a fine-tuning run, whatever the task. Lengths are in pixels.

    A task's subclass adds fields and may give others another default. Those of the optimization are for Muon;
    `with_sgd` says which others go with plain SGD, where they are not given.
    """

    renamed: ClassVar[Mapping[str, str]] = {"colour": "color", "normalise": "normalize"}
    with_sgd: ClassVar[Mapping[str, Any]] = {
        "learning_rates": (1e-3, 3e-3, 1e-2), "head_factor": 1.0, "weight_decay": 5e-4,
    }  # fmt: skip

    # What learns
    encoder: str = Field(description="what load_encoder takes")
    train_from: str = Field("all", description="the first layer that learns; all, or head for the head alone")
    layers: OneOrMany[str] = Field((), description="layers that the head reads; the task's own choice if not given")
    color: bool | None = Field(None, description="see color: an ab stem that starts at zero; as the encoder if null")
    batchnorm: Literal["frozen", "train", "fold"] = Field(
        "frozen", description="stored statistics, those of each batch, or folded into the convolutions"
    )
    rescale: bool = Field(False, description="fold BatchNorm, then bring the layers to learn at similar rates")
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    normalize: bool | None = Field(
        None, description="a new head reads maps of mean 0 and variance 1 by channel; by itself unless it has a pyramid"
    )

    # Photos
    data: OneOrMany[str] = Field(min_length=1)
    limit: Annotated[int, Field(ge=2)] | None = Field(None, description="train on so many photos at most")
    size: Annotated[int, Field(ge=8)] | None = Field(None, description="short side; the encoder's own if not given")
    scales: Range[PositiveFloat] = Field((1.0, 1.25), description="of a training photo, against size")

    # Optimization
    optimizer: Literal["muon", "adamw", "sgd"] = Field("muon", description="muon: AdamW for the head")
    learning_rates: OneOrMany[PositiveFloat] = Field((1e-4, 3e-4, 1e-3), min_length=1, description="one is chosen")
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
    evaluate_every: PositiveInt = Field(1, description="epochs between looks at the photos to choose on")
    refit: bool = Field(True, description="train again on all training photos with what was chosen")

    # The run
    seed: Seed = 0
    device: DeviceName = "auto"
    precision: Precision = "auto"
    workers: Workers = 2
    checkpoint_every: PositiveInt = Field(500, description="steps")

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
