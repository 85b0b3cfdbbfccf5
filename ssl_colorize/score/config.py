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

    data: OneOrMany[str] = Field(
        (),
        description="a folder of photos, a list, a VOC folder, a torchvision set (cifar10, ...) or samples",
    )
    test: OneOrMany[str] = Field((), description="photos that are all scored, whatever they are called")
    method: OneOrMany[str] = Field(
        default_factory=_usual_methods,
        description="truth, gray, random, a run folder, a weights file, or a folder of pictures that any program "
        "colored, found by the photos' names; also as NAME=SOURCE; truth, gray, random and the newest run or "
        "eccv16_starter if none is given",
    )
    temperature: OneOrMany[NonNegativeFloat] = Field(
        (), description="of the networks; several make a sweep from mode (0) to mean (1); each network's own if none"
    )
    flip: bool = Field(False, description="networks average over the photo and its mirror image; twice the time")
    size: Annotated[int, Field(ge=32)] = Field(256, description="short side and center crop, in pixels")
    classifier: str | None = Field(
        None,
        description="looks at the recolored photos: efficientnet_lite0, timm:NAME, torchvision:NAME, the run of a "
        "finetune classification, or none; efficientnet_lite0, if installed, if not given",
    )
    labels: str | None = Field(None, description="photo and class in two columns; folder names if not given")
    prior: str | None = Field(None, description="rebalances AuC; that of the first network's training if not given")
    prior_data: OneOrMany[str] = Field((), description="photos to count that prior on instead")
    random_data: OneOrMany[str] = Field((), description="photos that random takes colors from; the scored ones if none")
    lpips: LpipsNet | Literal["none"] | None = Field(
        None, description="network of LPIPS, or none; alex, if to be had, if not given"
    )
    fid_features: str | None = Field(
        None,
        description="features of FID: inception, an encoder such as efficientnet_lite0, or none; inception, if to be "
        "had, if not given",
    )
    limit: Limit = None
    batch_size: BatchSize = 8
    workers: Workers = 2
    device: DeviceName = "auto"
    seed: Seed = 0
    show: int = Field(12, ge=0, description="photos in the gallery")
    checkpoint_every: int = Field(256, ge=1, description="photos after which FID's sums are saved")

    @model_validator(mode="after")
    def _one_prior(self) -> Self:
        if not (self.data or self.test):
            raise ValueError("give the photos with --data or --test")
        if self.prior is not None and self.prior_data:
            raise ValueError("give a prior or photos to count it of (prior_data), not both")
        if len(set(self.temperature)) < len(self.temperature):
            raise ValueError("a temperature is given twice")
        return self
