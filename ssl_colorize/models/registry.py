"""What a colorization model is, and the models by name."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal, TypedDict

import torch
from torch import Tensor, nn

from ssl_colorize.color import rgb_to_lightness
from ssl_colorize.errors import UserError
from ssl_colorize.models.objectives import Classification, Objective, Regression

# Factor on every hidden width of a network at most.
MOST_WIDTH = 4
# From what to what a cross-channel encoder predicts.
Direction = Literal["L-to-ab", "ab-to-L"]


class FeatureInfo(TypedDict):
    """A named layer: its channels, its stride against the input, its module's name (the shape of timm's)."""

    num_chs: int
    reduction: int
    module: str


class ColorizationModel(nn.Module, ABC):
    """A cross-channel encoder: lightness in, a distribution over ab bins (or ab itself) out; or the other direction.

    Attributes:
        name: what `create_model` calls it.
        direction: of those two. Of "ab-to-L", what is said of light here is ab (B, 2, H, W) in ab units.
        channels: of what it sees, 1 or 2.
        layers: names of the feature layers, first to last.
        feature_info: one entry a layer.
        target_stride: the output is at 1/target_stride of the input.
        multiple: heights and widths of inputs must be multiples of this.
        chain: whether the layers are the modules of their names, run one after the other.
        objectives: what it can be trained for, by name; the first unless told otherwise.
        scalable: whether it comes in other widths than 1.
        has_imagenet: whether `load_imagenet` knows weights for it, at width 1.
        fully_connected: names of layers that its paper has fully connected; others are convolutions.
        head_name: what its paper calls the layer that fine-tuning adds.
        own_init: names of modules whose weights `initialize` leaves as they are.
    """

    name: str
    target_stride: int
    multiple: int
    direction: ClassVar[Direction] = "L-to-ab"
    channels: ClassVar[int] = 1
    chain: ClassVar[bool] = True
    objectives: ClassVar[Mapping[str, type[Objective]]] = {"class": Classification, "l2": Regression}
    scalable: ClassVar[bool] = True
    has_imagenet: ClassVar[bool] = False
    fully_connected: ClassVar[tuple[str, ...]] = ()
    head_name: ClassVar[str] = "head"
    own_init: tuple[str, ...] = ()

    def __init__(self, *, width: float, outputs: int) -> None:
        super().__init__()
        if not 0 < width <= MOST_WIDTH:
            raise UserError(f"width must lie above 0 and up to {MOST_WIDTH}, not {width}.")
        self.width = width
        self.outputs = outputs
        self.feature_info: list[FeatureInfo] = []

    @property
    def dtype(self) -> torch.dtype:
        """Of its weights: of the maps that it gives and of its logits, unless under autocast."""
        return next(self.parameters()).dtype

    def prepared(self, light: Tensor) -> Tensor:
        """Light (B, 1, H, W) in 0..100, of any kind of numbers, as the first convolution takes it.

        It is computed in float32 or better, whatever the weights are of.
        """
        return self.normalize(light.to(torch.promote_types(light.dtype, torch.float32))).to(self.dtype)

    @property
    def layers(self) -> tuple[str, ...]:
        return tuple(info["module"] for info in self.feature_info)

    def scaled(self, channels: int) -> int:
        """`channels` times the width, a multiple of 8 (vector units like that, and so do grouped convolutions)."""
        return max(8, round(channels * self.width / 8) * 8)

    def add_layer(self, name: str, channels: int, reduction: int) -> None:
        self.feature_info.append({"num_chs": channels, "reduction": reduction, "module": name})

    def light(self, rgb: Tensor) -> Tensor:
        """What the network sees of photos: RGB (..., 3, H, W), uint8 or in [0, 1] -> (..., 1, H, W) in 0..100.

        CIELAB's lightness, but for models that define gray otherwise.
        """
        return rgb_to_lightness(rgb)

    def light_of(self, lightness: Tensor) -> Tensor:
        """The same of grays that are known by their CIELAB lightness: (B, 1, H, W) in 0..100, both."""
        return lightness

    def load_imagenet(self) -> tuple[str, ...]:
        """Begin from published weights, which are fetched if need be; before `initialize` sees to the rest.

        Returns:
            The names of the modules that are trained now, statistics and all.

        Raises:
            UserError: there are none for this network, or they cannot be had.
        """
        raise UserError(f"There are no published weights for {self.name}: set trunk to scratch.")

    def freeze_trunk(self) -> None:
        """Keep what `load_imagenet` fills as it is from here on, where the network's authors did so."""

    def lay_out_for_window(self, *, dropout: float) -> None:
        """Take the shape in which the fully connected layers see one window as a whole, in place.

        Args:
            dropout: after each of them.

        Raises:
            UserError: there are no fully connected layers.
        """
        raise UserError(f"{self.name} has no fully connected layers.")

    def lay_out_at_stride_32(self) -> None:
        """Take the shape in which the fully connected layers have a cell for 32 pixels, in place.

        Raises:
            UserError: there are no fully connected layers.
        """
        raise UserError(f"{self.name} has no fully connected layers.")

    def normalize(self, light: Tensor) -> Tensor:
        """Light (B, 1, H, W) in 0..100, float32 or better, as the network was trained on it: as it is, by default."""
        return light

    @abstractmethod
    def stages(self, lightness: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Run the network on (B, 1, H, W) in 0..100, giving each layer's map by name, "logits" last."""

    def forward(self, lightness: Tensor) -> Tensor:
        """L (B, 1, H, W) in 0..100 -> logits (B, outputs, h, w)."""
        for name, features in self.stages(lightness):
            if name == "logits":
                return features
        raise AssertionError("a model's last stage is its logits")

    def forward_features(self, lightness: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """Maps of the named layers (B, C, h, w), after ReLU; nothing beyond the deepest one is computed.

        Raises:
            UserError: a layer is unknown.
        """
        self.refuse_unknown(layers)
        found: dict[str, Tensor] = {}
        for name, features in self.stages(lightness):
            if name in layers:
                found[name] = features
            if len(found) == len(set(layers)):
                break
        return found

    def refuse_unknown(self, layers: Sequence[str]) -> None:
        """Raise a UserError if one of the layers is not there."""
        unknown = [layer for layer in layers if layer not in self.layers]
        if unknown:
            raise UserError(f"{self.name} has no layer {unknown[0]!r}: choose from {', '.join(self.layers)}.")


def centered(images: Tensor) -> Tensor:
    """Lightness about zero: L (B, 1, H, W) in 0..100, or Lab (B, 3, H, W), whose a and b lie about zero already."""
    if images.shape[1] == 1:
        return images - 50.0
    return torch.cat((images[:, :1] - 50.0, images[:, 1:]), dim=1)


_MODELS: dict[str, type[ColorizationModel]] = {}
# Of models whose names begin with "PREFIX:".
_FAMILIES: dict[str, type[ColorizationModel]] = {}


def register_model(name: str) -> Callable[[type[ColorizationModel]], type[ColorizationModel]]:
    """Class decorator: make a model known to `create_model` under this name."""

    def register(model: type[ColorizationModel]) -> type[ColorizationModel]:
        model.name = name
        _MODELS[name] = model
        return model

    return register


def register_family(prefix: str) -> Callable[[type[ColorizationModel]], type[ColorizationModel]]:
    """Class decorator: `create_model` makes all "PREFIX:..." of this class, which takes the whole name first."""

    def register(model: type[ColorizationModel]) -> type[ColorizationModel]:
        _FAMILIES[prefix] = model
        return model

    return register


def list_models() -> list[str]:
    """Names that `create_model` knows, besides families ("timm:NAME") and the other direction ("eccv16-ab").

    >>> import ssl_colorize as sc
    >>> sc.list_models()
    ['alexnet', 'dahl', 'eccv16', 'larsson']
    """
    return sorted(name for name, model in _MODELS.items() if model.direction == "L-to-ab")


def directed(name: str, direction: Direction) -> str | None:
    """What `create_model` calls a network in a direction; None if it has none, or there is no such network.

    >>> import ssl_colorize.models
    >>> directed("eccv16", "L-to-ab"), directed("eccv16", "ab-to-L"), directed("timm:resnet18", "ab-to-L")
    ('eccv16', 'eccv16-ab', None)
    """
    known = [name] * is_model(name) + [f"{name}-ab"] * (f"{name}-ab" in _MODELS)
    return next((each for each in known if model_type(each).direction == direction), None)


def models_with_imagenet() -> list[str]:
    """Names and families ("timm:NAME") that can begin from published weights.

    >>> import ssl_colorize.models
    >>> models_with_imagenet()
    ['dahl', 'larsson', 'timm:NAME']
    """
    families = [f"{prefix}:NAME" for prefix, family in _FAMILIES.items() if family.has_imagenet]
    return [*(name for name in list_models() if _MODELS[name].has_imagenet), *families]


def is_model(name: str) -> bool:
    """Whether `create_model` knows a name, or the family that it belongs to.

    >>> import ssl_colorize.models
    >>> is_model("eccv16"), is_model("timm:resnet18"), is_model("resnet18")
    (True, True, False)
    """
    prefix, colon, _ = name.partition(":")
    return name in _MODELS or (bool(colon) and prefix in _FAMILIES)


def model_type(name: str) -> type[ColorizationModel]:
    """What `create_model` makes of a name, with what it says of itself.

    Raises:
        UserError: the name is unknown.

    >>> import ssl_colorize.models
    >>> list(model_type("eccv16").objectives), list(model_type("dahl").objectives)
    (['class', 'l2'], ['dahl'])
    """
    if not is_model(name):
        families = "".join(f", {prefix}:NAME" for prefix in _FAMILIES)
        raise UserError(f"Unknown model {name!r}: choose from {', '.join(list_models())}{families}.")
    return _MODELS[name] if name in _MODELS else _FAMILIES[name.partition(":")[0]]


def create_model(name: str, **options: Any) -> ColorizationModel:
    """A new network by name, with PyTorch's own random initialization.

    Args:
        name: one of `list_models()`, or "timm:NAME" (see `models.backbone`).
        options: `width` (factor on every hidden width, default 1) and `outputs` (313 bins, or 2 for regression).

    Raises:
        UserError: the name is unknown.

    >>> import ssl_colorize as sc
    >>> model = sc.create_model("eccv16", width=0.125)
    >>> model(torch.zeros(1, 1, 32, 48)).shape
    torch.Size([1, 313, 8, 12])
    """
    make: Callable[..., ColorizationModel] = model_type(name)
    return make(**options) if name in _MODELS else make(name, **options)
