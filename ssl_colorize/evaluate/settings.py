"""Settings of the verbs that measure an encoder: linear-probe, knn and svm."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from ssl_colorize.config import (
    BatchSize,
    DataChanged,
    DeviceName,
    EncoderSource,
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
from ssl_colorize.errors import UserError

if TYPE_CHECKING:
    from ssl_colorize.encoder import Encoder

# How maps are pooled: see `encoder.pool_map`.
Pooling = Literal["adaptive", "average", "bilinear"]

# What a protocol changes in the defaults below, which are those of "small".
PROTOCOLS: dict[str, dict[str, Any]] = {
    "small": {},
    # Zhang, Isola, Efros, as in the code they released for split-brain: maps after ReLU resized bilinearly to 9,216 to
    # 9,600 numbers (of AlexNet; layers beyond conv5 were not part of it and get conv5's size).
    "zhang16": {
        "resize": 256,
        "crop": 227,
        "scales": False,
        "batch_size": 256,
        "steps": 140_000,
        "epochs": None,
        "learning_rates": (0.01,),
        "weight_decays": (5e-4,),
        "drop_every": 40_000,
        "pool": "bilinear",
        "sizes": {"conv1": 10, "conv2": 6, "conv3": 5, "conv4": 5, "conv5": 6, "conv6": 6, "conv7": 6,
                  "fc6": 6, "fc7": 6},
    },
}  # fmt: skip
# One is chosen: ridge regression's penalty for each training photo, and logistic regression's C.
RIDGE_STRENGTHS = (1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3000)
LOGISTIC_STRENGTHS = (1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1)
# A decomposition costs the third power of this, and large maps say little more to it.
CLOSED_FORM: dict[str, Any] = {"numbers": 2304}
# Costs C of an SVM; one is chosen for each class.
COSTS = (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)


class KeepsFeatures(Settings):
    """Settings of what keeps features on disk for the next time."""

    cache: str | None = Field(
        None,
        description="folder that keeps features; $SSL_COLORIZE_CACHE or ~/.cache/ssl-colorize/features if not given",
    )
    no_cache: bool = Field(False, description="keep no features")

    @property
    def cache_folder(self) -> Path | None:
        """Where features are kept; None where they are not."""
        if self.no_cache:
            return None
        default = os.environ.get("SSL_COLORIZE_CACHE") or "~/.cache/ssl-colorize/features"
        return Path(self.cache or default).expanduser()


class EvaluationSettings(MeasuringSource, KeepsFeatures):
    """What the verbs that measure an encoder share. Lengths are in pixels.

    Attributes:
        annotation: what of the photos is read.
    """

    annotation: ClassVar[Literal["labels", "masks"]] = "labels"

    encoder: EncoderSource
    data: OneOrMany[str] = Field((), description="class folders, a list, a VOC folder or a torchvision data set")
    layers: OneOrMany[str] = Field((), description="layers to measure; all if none is given")
    batch_size: BatchSize = 64
    workers: Workers = 2
    device: DeviceName = "auto"
    limit: Annotated[int, Field(ge=2)] | None = Field(None, description="use only so many photos, for a quick look")
    seed: Seed = 0
    seeds: PositiveInt = Field(1, description="runs with seeds that follow each other; their mean and spread")
    random: bool = Field(True, description="the same on the untrained network of the same architecture")
    resize: Annotated[int, Field(ge=8)] | None = Field(
        None, description="short side; what the network learned at if not given"
    )
    crop: Annotated[int, Field(ge=8)] | None = Field(
        None, description="side of the center crop; as resize if not given"
    )

    def sides(self, encoder: Encoder) -> tuple[int, int]:
        """(resize, crop) in pixels for an encoder.

        Raises:
            UserError: the crop is larger than the resized photo.
        """
        resize = self.resize or encoder.input_size
        crop = self.crop or resize
        if crop > resize:
            raise UserError(f"A crop of {crop} px does not fit in photos resized to {resize} px.")
        return resize, crop


class JudgingSettings(EvaluationSettings):
    """What the verbs that classify share: what else their fits are judged on."""

    also: OneOrMany[str] = Field(
        (), description="NAME=FOLDER: a further test set of the same classes, which nothing is chosen on"
    )
    corrupt: bool = Field(
        False, description="also judge on the test photos with other hues, gray, noisy, blurred, as small JPEG, and "
        "with less contrast and more brightness",
    )  # fmt: skip
    severities: OneOrMany[Annotated[int, Field(ge=1, le=5)]] = Field(
        (1, 2, 3, 4, 5), min_length=1, description="of corrupt; a fifth of the work each"
    )

    @property
    def further(self) -> dict[str, str]:
        """Folders of further test sets by their names.

        Raises:
            UserError: a name is missing, taken, or given twice.
        """
        found: dict[str, str] = {}
        for item in self.also:
            name, sign, folder = item.partition("=")
            if not (sign and name.strip() and folder.strip()):
                raise UserError(f"--also {item}: write it as NAME=FOLDER, such as --also sketches=photos/sketches.")
            if name in ("train", "test") or name in found:
                taken = "is given twice" if name in found else "already names a part of --data"
                raise UserError(f"--also {item}: {name} {taken}; choose another name.")
            found[name] = folder
        return found


class ProbeSettings(StepsOrEpochs, JudgingSettings):
    """Everything that decides a linear probe. Lengths are in pixels.

    The protocol and the engine fill in what is not given, so that the settings a run writes are complete.
    """

    engine: Literal["sgd", "ridge", "logistic"] = Field("sgd", description="ridge is quick")
    heads: OneOrMany[Literal["linear", "attentive", "all-layers"]] = Field(
        ("linear",), min_length=1, description="linear on each layer; attentive, on what learned queries gather "
        "from the places of each layer, and from the means of all; or linear on all layers at once",
    )  # fmt: skip
    protocol: Literal["small", "zhang16"] = Field("small", description="preset of crops, maps and schedule")
    choosing: Share = Field(0.2, description="share of the training photos that the settings are chosen on")
    refit: bool = Field(False, description="train once more on all training photos with the chosen settings")

    # What a head sees
    pool: Pooling = "adaptive"
    numbers: PositiveInt = Field(9216, description="most features a layer is pooled to")
    sizes: dict[str, PositiveInt] = Field({}, description="side of a layer's pooled map, where not left to `numbers`")
    scales: bool = Field(True, description="vary the short side around `resize`, as well as the crop's place")

    queries: PositiveInt = Field(4, description="of an attentive head")
    places: PositiveInt = Field(
        256, description="most places of a layer's map that an attentive head looks at; a larger map is averaged"
    )

    # SGD
    epochs: PositiveFloat | None = Field(20, description="passes over the photos")
    learning_rates: OneOrMany[PositiveFloat] = Field(
        (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3), min_length=1, description="one is chosen for each layer"
    )
    weight_decays: OneOrMany[NonNegativeFloat] = Field((5e-4,), min_length=1, description="one is chosen likewise")
    drop_every: PositiveInt | None = Field(None, description="steps between divisions by ten; a cosine if not given")
    precision: Precision = Field("fp32", description="of the frozen network")
    checkpoint_every: PositiveInt = Field(1000, description="steps")
    data_changed: DataChanged = "refuse"

    # Closed form; strengths are per training photo (the penalty is strength x photos x |w|^2)
    ridge_strengths: OneOrMany[PositiveFloat] = Field(RIDGE_STRENGTHS, min_length=1, description="one is chosen")
    logistic_strengths: OneOrMany[PositiveFloat] = Field(
        LOGISTIC_STRENGTHS, min_length=1, description="scikit-learn's C; one is chosen"
    )

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        preset = PROTOCOLS.get(str(values.get("protocol", "small")), {})
        if values.get("engine", "sgd") != "sgd":
            preset = CLOSED_FORM | preset
        return preset | cls.implied(values)


class KnnSettings(JudgingSettings):
    """Everything that decides a kNN evaluation."""

    k: OneOrMany[PositiveInt] = Field((20,), min_length=1, description="neighbors that vote")
    temperature: OneOrMany[PositiveFloat] = Field(
        (0.07,), min_length=1, description="a vote weighs exp(similarity / T)"
    )
    choose: bool = Field(
        False, description="of several k and temperatures, choose one on a split of the training photos"
    )
    leave_one_out: bool = Field(False, description="classify the training photos by each other, none by itself")
    size: PositiveInt = Field(1, description="cells a side that a map is averaged to; 1 is one vector of its channels")
    engine: Literal["torch", "faiss"] = Field("torch", description="both are exact")
    memory: PositiveFloat | None = Field(
        None, description="for the search; 0.25 on a CPU and a quarter of what is free on a GPU if not given"
    )
    examples: int = Field(8, ge=0, description="queries on the picture")
    neighbors_of: OneOrMany[str] = Field(
        (),
        description="in place of classifying, show the photos of --data, labeled or not, that are most like this one",
    )
    shown: PositiveInt = Field(6, description="neighbors on a picture")


class SvmSettings(EvaluationSettings):
    """Everything that decides an SVM evaluation."""

    costs: OneOrMany[PositiveFloat] = Field(
        COSTS, min_length=1, description="C; one is chosen for each class by cross-validation on the training photos"
    )
    folds: Annotated[int, Field(ge=2, description="of the cross-validation")] = 3
    positive_weight: PositiveFloat = Field(2.0, description="how many negatives a positive counts for")
    iterations: PositiveInt = Field(2000, description="at most, for one SVM")
    pool: Pooling = "adaptive"
    numbers: PositiveInt = Field(9216, description="most features a layer is pooled to")
    sizes: dict[str, PositiveInt] = Field({}, description="side of a layer's pooled map, where not left to `numbers`")
    low_shot: bool = Field(False, description="also train on few positives, several draws of each number")
    shots: OneOrMany[PositiveInt] = Field(
        (1, 2, 4, 8, 16, 32, 64, 96), min_length=1, description="numbers of positives of low_shot"
    )
    draws: PositiveInt = Field(5, description="draws of each number of positives")
    low_shot_cost: PositiveFloat = Field(1.0, description="C there: a few photos leave none to choose it on")


class SegmentSettings(StepsOrEpochs, EvaluationSettings, MaskSource):
    """Everything that decides a segmentation with frozen features. Lengths are in pixels."""

    annotation: ClassVar[Literal["labels", "masks"]] = "masks"

    data: OneOrMany[str] = Field((), description="a VOC or COCO folder")
    method: Literal["linear", "neighbors"] = Field("linear", description="neighbors trains nothing")
    batch_size: BatchSize = 16
    resize: Annotated[int, Field(ge=8)] | None = Field(
        None, description="short side of photos; what the network learned at if not given"
    )
    crop: Annotated[int, Field(ge=8)] | None = Field(
        None, description="side of a training square of linear; as resize if not given"
    )
    mask_size: Annotated[int, Field(ge=8)] | None = Field(
        None, description="short side that masks are scored at; their own size if not given"
    )
    choosing: Share = Field(0.2, description="share of the training photos that the settings are chosen on")
    examples: int = Field(8, ge=0, description="test photos on the picture")

    # A linear classifier of every pixel
    epochs: PositiveFloat | None = Field(20, description="passes over the photos")
    learning_rates: OneOrMany[PositiveFloat] = Field(
        (1e-2, 3e-2, 0.1, 0.3, 1.0), min_length=1, description="one is chosen for each layer"
    )
    weight_decays: OneOrMany[NonNegativeFloat] = Field((1e-4,), min_length=1, description="one is chosen likewise")
    pixels: PositiveInt = Field(256, description="drawn from each training square, that the classifier learns from")
    scales: Range[PositiveFloat] = Field((1.0, 1.25), description="of a training photo, against resize")
    precision: Precision = Field("fp32", description="of the frozen network")
    checkpoint_every: PositiveInt = Field(500, description="steps")

    # Neighbors of patches
    k: OneOrMany[PositiveInt] = Field((30,), min_length=1, description="neighbors; of several one is chosen")
    temperature: OneOrMany[PositiveFloat] = Field(
        (0.02,), min_length=1, description="of the softmax over their similarities; of several one is chosen"
    )
    bank: PositiveInt = Field(40_000, description="patches to look among, as many of each training photo")
    patch: PositiveInt = Field(8, description="side of a patch: finer maps are averaged to it")
    memory: PositiveFloat | None = Field(
        None, description="for the search; 0.25 on a CPU and a quarter of what is free on a GPU if not given"
    )
