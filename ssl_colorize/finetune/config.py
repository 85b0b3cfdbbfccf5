"""Settings that fine-tuning shares between its tasks; each task adds its own beside it, in its own file."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from ssl_colorize.config import Settings
from ssl_colorize.device import DeviceName, Precision

NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(gt=0, lt=1)]


class FinetuneSettings(Settings):
    """What decides a fine-tuning run, whatever the task. Lengths are in pixels.

    A task's subclass adds fields and may give others another default. Those of the optimization are for Muon;
    `with_sgd` says which others go with plain SGD, where they are not given.
    """

    with_sgd: ClassVar[Mapping[str, Any]] = {
        "learning_rates": (1e-3, 3e-3, 1e-2), "head_factor": 1.0, "weight_decay": 5e-4,
    }  # fmt: skip

    # What learns
    encoder: str = Field(description="what load_encoder takes")
    train_from: str = Field("all", description="the first layer that learns; all, or head for the head alone")
    layers: tuple[str, ...] = Field((), description="layers that the head reads; the task's own choice if not given")
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
    data: tuple[str, ...] = Field(min_length=1)
    limit: Annotated[int, Field(ge=2)] | None = Field(None, description="train on so many photos at most")
    size: Annotated[int, Field(ge=8)] | None = Field(None, description="short side; the encoder's own if not given")
    scales: tuple[PositiveFloat, PositiveFloat] = Field((1.0, 1.25), description="of a training photo, against size")

    # Optimization
    optimizer: Literal["muon", "adamw", "sgd"] = Field("muon", description="muon: AdamW for the head")
    learning_rates: tuple[PositiveFloat, ...] = Field((1e-4, 3e-4, 1e-3), min_length=1, description="one is chosen")
    head_factor: PositiveFloat = Field(3.0, description="on the learning rate of the head")
    momentum: Annotated[float, Field(ge=0, lt=1)] = Field(0.9, description="of sgd")
    weight_decay: NotNegative = Field(0.01, description="of weights; neither of biases nor of normalization")
    batch_size: PositiveInt = Field(16, description="of all processes together")
    epochs: PositiveFloat | None = 20
    steps: PositiveInt | None = Field(None, description="in place of epochs")
    schedule: Literal["cosine", "steps"] = "cosine"
    drop_every: PositiveInt | None = Field(None, description="of schedule steps: steps between drops")
    drop_factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    warmup: Annotated[int, Field(ge=0)] = Field(20, description="steps of linear warm-up")
    clip: PositiveFloat | None = Field(None, description="largest norm of the gradient")

    # Choosing
    choosing: Share = Field(0.2, description="share of the training photos that rate and length are chosen on")
    choose_length: bool = Field(True, description="choose the best epoch; else train for the whole length")
    evaluate_every: PositiveInt = Field(1, description="epochs between looks at the photos to choose on")
    refit: bool = Field(True, description="train again on all training photos with what was chosen")

    # The run
    seed: Annotated[int, Field(ge=0)] = 0
    device: DeviceName = "auto"
    precision: Precision = "auto"
    workers: Annotated[int, Field(ge=0)] = 2
    checkpoint_every: PositiveInt = Field(500, description="steps")

    @field_validator("data", "layers", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @field_validator("learning_rates", mode="before")
    @classmethod
    def _one_rate_or_many(cls, value: object) -> object:
        return (value,) if isinstance(value, int | float) else value

    @field_validator("scales", mode="before")
    @classmethod
    def _fixed_or_range(cls, value: object) -> object:
        return (value, value) if isinstance(value, int | float) else value

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        filled = dict(values)
        if filled.get("optimizer") == "sgd":
            filled = dict(cls.with_sgd) | filled
        if filled.get("rescale") and "batchnorm" not in filled:
            filled["batchnorm"] = "fold"
        # Steps and epochs replace each other.
        if filled.get("steps") is not None and "epochs" not in filled:
            filled["epochs"] = None
        return filled

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give steps or epochs, not both (set the other to null)")
        if self.rescale and self.batchnorm != "fold":
            raise ValueError("rescale works on folded BatchNorm: set batchnorm to fold")
        if (self.schedule == "steps") != (self.drop_every is not None):
            raise ValueError("drop_every belongs to schedule: steps, which needs it")
        if self.scales[0] > self.scales[1]:
            raise ValueError(f"scales must be [low, high], not {self.scales}")
        return self

    @property
    def chooses(self) -> bool:
        """Whether anything is left to choose, which takes photos held out from training."""
        return self.choose_length or len(self.learning_rates) > 1
