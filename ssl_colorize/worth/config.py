"""Settings of `ssl-colorize worth`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from ssl_colorize.config import BatchSize, DeviceName, MeasuringSource, OneOrMany, Seed, Share, Workers
from ssl_colorize.evaluate.settings import KeepsFeatures


class WorthSettings(MeasuringSource, KeepsFeatures):
    """Everything that decides whether pretraining on some photos is worth it."""

    unlabeled: OneOrMany[str] = Field((), description="more photos to pretrain on, without labels")

    # Pretraining
    minutes: PositiveFloat | None = Field(10, description="about how long to pretrain")
    steps: PositiveInt | None = Field(None, description="optimizer steps to pretrain, in place of minutes")
    recipe: str = Field("eccv16_half_64", description="a recipe of configs/ or a YAML file: what to pretrain")
    start: str | None = Field(
        None, description="a network to pretrain from, such as eccv16_starter; k-means filters if not given"
    )

    # Measuring
    imagenet: str | None = Field(
        None,
        description="a network that learned from ImageNet's labels, or none; what is installed if not given",
    )
    shares: OneOrMany[Share] = Field((0.01, 0.1), description="shares of the labels to learn from, beside all of them")
    draws: PositiveInt = Field(3, description="of each share, whose figures are averaged")
    numbers: PositiveInt = Field(1024, description="most features a layer is pooled to")
    limit: Annotated[int, Field(ge=2)] = Field(12_000, description="labeled photos to train on at most")
    batch_size: BatchSize = 64

    # The run
    seed: Seed = 0
    workers: Workers = 2
    device: DeviceName = "auto"

    @classmethod
    def implied(cls, asked: Mapping[str, Any]) -> dict[str, Any]:
        """What was asked for; steps replace minutes."""
        found: dict[str, Any] = super().implied(asked)
        return {"minutes": None, **found} if found.get("steps") is not None else found

    @model_validator(mode="before")
    @classmethod
    def _steps_replace_minutes(cls, values: Any) -> Any:
        return cls.implied(values) if isinstance(values, Mapping) else values

    @model_validator(mode="after")
    def _one_budget(self) -> Self:
        if (self.steps is None) == (self.minutes is None):
            raise ValueError("give steps or minutes, not both (set the other to null)")
        return self
