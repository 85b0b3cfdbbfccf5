"""Settings of a scoring run."""

from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeFloat, model_validator

from ssl_colorize.config import BatchSize, DeviceName, Limit, OneOrMany, Seed, Settings, Workers

LpipsNet = Literal["alex", "vgg", "squeeze"]
# What switches a measure off.
OFF = "none"


def _usual_methods() -> tuple[str, ...]:
    """Those that need no network, and the one that `colorize` would take."""
    from ssl_colorize.album import usual_checkpoint

    return ("truth", "gray", "random", usual_checkpoint())


class ScoreSettings(Settings):
    """Settings of `ssl-colorize score`."""

    data: OneOrMany[str] = Field(min_length=1)
    method: OneOrMany[str] = Field(
        default_factory=_usual_methods,
        description="truth, gray, random, a run folder, a weights file, or a folder of pictures that any program "
        "colored, found by the photos' names; also as NAME=SOURCE",
    )
    temperature: OneOrMany[NonNegativeFloat] = Field((), description="each network at each; its own if none is given")
    size: Annotated[int, Field(ge=32)] = Field(256, description="side of the crops, in pixels")
    classifier: str | None = Field(None, description="efficientnet_lite0 where it is installed; none for none")
    labels: str | None = Field(None, description="a CSV of photo and class; folder names if not given")
    prior: str | None = Field(None, description="a prior.npy; of the first network's training if not given")
    prior_data: OneOrMany[str] = Field((), description="photos to count the prior of")
    random_data: OneOrMany[str] = Field((), description="photos that random takes from; the scored ones if none")
    lpips: LpipsNet | Literal["none"] | None = Field(None, description="alex where it can be had; none for none")
    fid_features: str | None = Field(None, description="inception or an encoder; inception where it can be had")
    limit: Limit = None
    batch_size: BatchSize = 8
    workers: Workers = 2
    device: DeviceName = "auto"
    seed: Seed = 0
    show: int = Field(12, ge=0, description="photos in the gallery")
    checkpoint_every: int = Field(256, ge=1, description="photos after which FID's sums are saved")

    @model_validator(mode="after")
    def _one_prior(self) -> Self:
        if self.prior is not None and self.prior_data:
            raise ValueError("give a prior or photos to count it of (prior_data), not both")
        if len(set(self.temperature)) < len(self.temperature):
            raise ValueError("a temperature is given twice")
        return self
