"""Settings of the linear probe, and its protocols as presets of them."""

from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from ssl_colorize.device import Precision
from ssl_colorize.evaluate.features import ExtractionSettings

Share = Annotated[float, Field(gt=0, lt=1)]
NotNegative = Annotated[float, Field(ge=0)]

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
# A decomposition costs the third power of this, and large maps say little more to it.
CLOSED_FORM: dict[str, Any] = {"numbers": 2304}


class ProbeSettings(ExtractionSettings):
    """Everything that decides a linear probe. Lengths are in pixels.

    The protocol and the engine fill in what is not given, so that the settings a run writes are complete.
    """

    engine: Literal["sgd", "ridge", "logistic"] = "sgd"
    protocol: Literal["small", "zhang16"] = "small"
    choosing: Share = Field(0.2, description="share of the training photos that the settings are chosen on")
    refit: bool = Field(False, description="train once more on all training photos with the chosen settings")

    # What a head sees
    pool: Literal["bilinear", "average", "adaptive"] = "adaptive"
    numbers: PositiveInt = Field(9216, description="most features a layer is pooled to")
    sizes: dict[str, PositiveInt] = Field({}, description="side of a layer's pooled map, where not left to `numbers`")
    scales: bool = Field(True, description="vary the short side around `resize`, as well as the crop's place")

    # SGD
    epochs: PositiveFloat | None = 20
    steps: PositiveInt | None = Field(None, description="in place of epochs")
    learning_rates: tuple[PositiveFloat, ...] = Field(
        (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3), min_length=1, description="one is chosen for each layer"
    )
    weight_decays: tuple[NotNegative, ...] = Field((5e-4,), min_length=1, description="one is chosen likewise")
    drop_every: PositiveInt | None = Field(None, description="steps between divisions by ten; a cosine if not given")
    precision: Precision = Field("fp32", description="of the frozen network")
    checkpoint_every: PositiveInt = Field(1000, description="steps")

    # Closed form; strengths are per training photo (the penalty is strength x photos x |w|^2)
    ridge_strengths: tuple[PositiveFloat, ...] = Field(
        (1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3000), min_length=1
    )
    logistic_strengths: tuple[PositiveFloat, ...] = Field(
        (1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1), min_length=1, description="scikit-learn's C"
    )

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        preset = PROTOCOLS.get(str(values.get("protocol", "small")), {})
        if values.get("engine", "sgd") != "sgd":
            preset = CLOSED_FORM | preset
        # Steps and epochs replace each other.
        if values.get("epochs") is not None and values.get("steps") is None:
            values = {"steps": None} | values
        elif values.get("steps") is not None and "epochs" not in values:
            values = values | {"epochs": None}
        return preset | values

    @model_validator(mode="after")
    def _consistent(self) -> "ProbeSettings":
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give steps or epochs, not both (set the other to null)")
        return self
