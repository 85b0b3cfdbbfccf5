"""The colorization networks as timm has its models: `timm.create_model("colorize_eccv16", features_only=True)`.

They are the encoders alone, without the decoder, and end in timm's classifier head, which is empty unless
`num_classes` is given. As everywhere in timm they take RGB (B, 3, H, W); the mean is 0 and the deviation 1, so the
range is [0, 1], and lightness is computed inside. With `in_chans=1` they take lightness itself, in 0..100.

`colorize_timm` is a network on any timm body: `timm.create_model("colorize_timm", body="resnet18")` is what
`ssl-colorize pretrain --model timm:resnet18` trains, less the decoder.

Weights: `checkpoint_path=` or `pretrained=True, pretrained_cfg_overlay=dict(file=...)` take a `model.safetensors` of
`ssl-colorize pretrain`, the authors' released file, or what timm saved of these models. `pretrained=True` alone takes
the authors' weights of `colorize_eccv16`, fetched if need be, and those of `colorize_eccv16_starter`, which come along.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from timm.layers.classifier import ClassifierHead
from timm.models import (
    FeatureDictNet,
    FeatureHookNet,
    FeatureListNet,
    build_model_with_cfg,
    generate_default_cfgs,
    register_model,
)
from timm.models._features import FeatureGetterNet, feature_take_indices
from timm.models._features_fx import FeatureGraphNet
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ssl_colorize.color import rgb_to_lightness
from ssl_colorize.errors import UserError
from ssl_colorize.models.alexnet import AlexNet
from ssl_colorize.models.backbone import FAMILY, TimmColorizer
from ssl_colorize.models.eccv16 import ECCV16, released_keys
from ssl_colorize.models.registry import ColorizationModel
from ssl_colorize.models.released import STARTER, released_file

# Networks on timm's own bodies.
BODY = "colorize_timm"
_CHAINS: dict[str, type[ECCV16] | type[AlexNet]] = {"eccv16": ECCV16, "alexnet": AlexNet}
# Both have as many.
_LAYERS = 7
# Where the released file has the table of colors, which an encoder has no use for.
_RELEASED_DECODING = "model_out.weight"
# Where our files have it, and what everything about colors begins with there.
_BINS, _COLORS = "color.bins", "color."
# What ends a network, and an encoder lacks.
_LOGITS = "logits.weight"


@dataclass(frozen=True)
class Variant:
    """One of our own networks at one width.

    Attributes:
        network: what `models.create_model` calls it.
        width: factor on every hidden width.
        description: one line.
        weights: a name of `models.released` for `pretrained=True`; None if there are none.
    """

    network: str
    width: float
    description: str
    weights: str | None = None


VARIANTS = {
    "colorize_eccv16": Variant(
        "eccv16", 1.0, "The network of Zhang, Isola, Efros (ECCV 2016): conv1 to conv7.", "eccv16-release"
    ),
    "colorize_eccv16_half": Variant("eccv16", 0.5, "`colorize_eccv16` of half the width."),
    "colorize_eccv16_starter": Variant(
        "eccv16", 0.5, "`colorize_eccv16_half` with the weights that come with this package.", STARTER
    ),
    "colorize_eccv16_quarter": Variant(
        "eccv16", 0.25, "`colorize_eccv16` of a quarter of the width, as the quickstart trains it."
    ),
    "colorize_alexnet": Variant("alexnet", 1.0, "The paper's transfer network: conv1 to conv5, fc6 and fc7."),
    "colorize_alexnet_half": Variant("alexnet", 0.5, "`colorize_alexnet` of half the width."),
}


def timm_arguments(model: ColorizationModel, *, channels: int = 3) -> tuple[str, dict[str, Any]]:
    """What `timm.create_model` makes a network's encoder of: a name, and options beside it.

    Args:
        model: the whole network.
        channels: of the encoder's input, 3 for RGB or 1 for lightness.

    Raises:
        UserError: timm has no such network.

    >>> from ssl_colorize.models import create_model
    >>> timm_arguments(create_model("eccv16", width=0.25)), timm_arguments(create_model("eccv16", width=0.125))
    (('colorize_eccv16_quarter', {}), ('colorize_eccv16', {'width': 0.125}))
    """
    options: dict[str, Any] = {} if channels == 3 else {"in_chans": channels}
    family, colon, body = model.name.partition(":")
    if colon and family == FAMILY:
        return BODY, {"body": body, **options}
    names = {variant.width: name for name, variant in reversed(VARIANTS.items()) if variant.network == model.name}
    if not names:
        raise UserError(
            f"timm does not know {model.name} as an encoder of ours: use --to onnx, torch-export or safetensors."
        )
    if model.width in names:
        return names[model.width], options
    return names[1.0], {"width": model.width, **options}


# ---- what timm expects of a model ------------------------------------------------------------------------------------


class ColorizeEncoder(nn.Module, ABC):
    """A colorization network's layers with timm's classifier, `head`, on the last map.

    Attributes:
        layers: names of the layers, first to last.
        new_keys: of the state of our networks -> of this model's (`new_keys`).
    """

    # With one channel: L in 0..100, where timm's other models take a normalized gray.
    takes_lightness = True
    layers: tuple[str, ...]
    new_keys: dict[str, str]

    def __init__(
        self,
        network: ColorizationModel,
        modules: Mapping[str, nn.Module],
        *,
        num_classes: int = 0,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
    ) -> None:
        """Take a network's modules, in the order in which they run, and what all of timm's models take."""
        super().__init__()
        if in_chans not in (1, 3):
            raise UserError(f"in_chans is 3 (RGB) or 1 (lightness), not {in_chans}.")
        self.num_classes, self.in_chans, self.drop_rate = num_classes, in_chans, drop_rate
        self.layers = network.layers
        self.feature_info: list[dict[str, Any]] = [{**info} for info in network.feature_info]
        self.num_features = self.head_hidden_size = self.feature_info[-1]["num_chs"]
        for name, module in modules.items():
            self.add_module(name, module)
        self.head = ClassifierHead(self.num_features, num_classes, pool_type=global_pool, drop_rate=drop_rate)

    @abstractmethod
    def maps(self, x: Tensor, indices: Sequence[int]) -> list[Tensor]:
        """Maps (B, C, h, w) of the layers at ascending indices; nothing beyond the deepest is computed."""

    def forward_features(self, x: Tensor) -> Tensor:
        """Images (B, in_chans, H, W) -> the last layer's map (B, C, h, w)."""
        return self.maps(x, [len(self.layers) - 1])[0]

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        pooled: Tensor = self.head(x, pre_logits=True) if pre_logits else self.head(x)
        return pooled

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """The maps of some layers, and the last.

        Args:
            x: images (B, in_chans, H, W).
            indices: of the layers; a number takes so many from the end, None all.
            norm: there is none to apply.
            stop_early: end with the deepest of them.
            output_fmt: NCHW.
            intermediates_only: leave the last map away.
        """
        if output_fmt != "NCHW":
            raise UserError(f"output_fmt is NCHW for these models, not {output_fmt}.")
        wanted, deepest = feature_take_indices(len(self.layers), indices)
        last = deepest if stop_early or intermediates_only else len(self.layers) - 1
        computed = sorted({*wanted, last})
        maps = dict(zip(computed, self.maps(x, computed), strict=True))
        found = [maps[index] for index in sorted(wanted)]
        return found if intermediates_only else (maps[last], found)

    def prune_intermediate_layers(
        self, indices: int | list[int] | None = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drop the classifier, and the layers beyond the deepest of some; returns the indices from the start."""
        wanted, deepest = feature_take_indices(len(self.layers), indices)
        self.drop_layers(deepest + 1)
        if prune_head:
            self.reset_classifier(0, "")
        return list(wanted)

    def drop_layers(self, start: int) -> None:
        """Drop the layers from an index on, where a model can do without."""

    def get_classifier(self) -> nn.Module:
        classifier: nn.Module = self.head.fc
        return classifier

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        self.num_classes = num_classes
        self.head.reset(num_classes, global_pool)

    def no_weight_decay(self) -> set[str]:
        return set()


# ---- our own networks ------------------------------------------------------------------------------------------------


class Lightness(nn.Module):
    """RGB (B, 3, H, W) in [0, 1], or L (B, 1, H, W) in 0..100, as the network's first convolution takes it."""

    def __init__(self, network: ECCV16 | AlexNet, channels: int) -> None:
        super().__init__()
        self.channels = channels
        # Arithmetic alone, of which the network is no part.
        self.normalize = network.normalize
        # Tells what the network runs in: where the layers go, it goes.
        self.register_buffer("like", torch.empty(0), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        # Color is computed in float32, whatever the network runs in.
        light = rgb_to_lightness(x) if self.channels == 3 else x.to(torch.promote_types(x.dtype, torch.float32))
        return self.normalize(light).to(self.get_buffer("like").dtype)


class ColorizeNet(ColorizeEncoder):
    """eccv16 or alexnet, one module a layer.

    A layer's module ends with its last ReLU; what follows it in the network (BatchNorm, pooling) begins the next one's.
    So each module gives the layer's map as `load_encoder` does, and `FeatureListNet` can take the model apart.
    """

    lightness: Lightness

    def __init__(self, network: str, *, width: float = 1.0, in_chans: int = 3, **options: Any) -> None:
        whole = _CHAINS[network](width=width)
        modules = {"lightness": Lightness(whole, in_chans), **dict(chained(whole))}
        super().__init__(whole, modules, in_chans=in_chans, **options)
        self.grad_checkpointing = False
        accept_checkpoints(self, new_keys(whole, self))

    def maps(self, x: Tensor, indices: Sequence[int]) -> list[Tensor]:
        x = self.lightness(x)
        found = []
        for index, name in enumerate(self.layers[: indices[-1] + 1]):
            layer = self.get_submodule(name)
            again = self.grad_checkpointing and self.training
            x = checkpoint(layer, x, use_reentrant=False) if again else layer(x)
            if index in indices:
                found.append(x)
        return found

    def drop_layers(self, start: int) -> None:
        for name in self.layers[start:]:
            delattr(self, name)
        self.layers = self.layers[:start]

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        # A group a layer, coarse or not; the head is what is left.
        return {name: rf"^{name}\." for name in self.layers}

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        self.grad_checkpointing = enable


def chained(network: ColorizationModel) -> Iterator[tuple[str, nn.Sequential]]:
    """The layers of a network as modules that follow on each other, each ending where its feature map is read."""
    waiting: list[nn.Module] = []
    for name, module in network.named_children():
        parts = list(module.children()) or [module]
        if name not in network.layers:
            waiting += parts
            continue
        end = max(index for index, part in enumerate(parts) if isinstance(part, nn.ReLU)) + 1
        yield name, nn.Sequential(*waiting, *parts[:end])
        waiting = parts[end:]
        if name == network.layers[-1]:
            return


# ---- networks on a timm body -----------------------------------------------------------------------------------------


class ColorizeBody(ColorizeEncoder):
    """A timm body that sees lightness.

    Attributes:
        network: the colorization network without its decoder.
    """

    network: TimmColorizer

    def __init__(self, body: str = "resnet18", **options: Any) -> None:
        """`body` is what follows `timm:` in the name of the network, options after commas and all."""
        network = TimmColorizer(f"{FAMILY}:{body}")
        whole = [*network.state_dict()]
        del network.head, network.logits
        super().__init__(network, {"network": network}, **options)
        kept = set(network.state_dict())
        accept_checkpoints(self, {key: f"network.{key}" if key in kept else "" for key in whole})

    def maps(self, x: Tensor, indices: Sequence[int]) -> list[Tensor]:
        light = rgb_to_lightness(x) if self.in_chans == 3 else x
        return [*self.network.forward_features(light, [self.layers[index] for index in indices]).values()]

    def no_weight_decay(self) -> set[str]:
        named = getattr(self.network.body, "no_weight_decay", set)
        return {f"network.body.{name}" for name in named()}


# ---- weights ---------------------------------------------------------------------------------------------------------


def new_keys(network: ColorizationModel, model: nn.Module) -> dict[str, str]:
    """The keys of a network's state -> those of a model that shares its tensors; "" for what the model has not."""
    tensors = {id(value): key for key, value in (*model.named_parameters(), *model.named_buffers())}
    return {key: tensors.get(id(value), "") for key, value in (*network.named_parameters(), *network.named_buffers())}


def accept_checkpoints(model: Any, keys: dict[str, str], own: Mapping[str, str] | None = None) -> None:
    """Let a model's `load_state_dict` take the files of this project and of the authors beside its own.

    Args:
        model: keeps the keys as `new_keys`.
        keys: of the network's state -> those of the model's, "" for what the model has not (`new_keys`).
        own: likewise of the model that this one was made of, where its state is to be taken too.
    """
    model.new_keys = keys
    model.register_load_state_dict_pre_hook(partial(_rename, keys, own or {}))


def _rename(
    keys: Mapping[str, str], own: Mapping[str, str], model: nn.Module, state: dict[str, Tensor], prefix: str,
    metadata: Any, strict: bool, missing: list[str], unexpected: list[str], errors: list[str],
) -> None:  # fmt: skip
    """What runs before a state is loaded: foreign keys become ours, in place."""
    if _RELEASED_DECODING in state:
        released = released_keys() | {_RELEASED_DECODING: _BINS}
        _replace(state, {key: released.get(key, key) for key in state})
    if not {_BINS, _LOGITS} & state.keys():
        _replace(state, {key: own.get(key, key) for key in state})
        return
    # Our files have the table of colors and the last convolution; timm's have neither.
    _replace(state, {key: "" if key.startswith(_COLORS) else keys.get(key, key) for key in state})
    # timm lets keys be missing where the number of classes is another, which must not hide a file that does not fit.
    lost = sorted({key for key in keys.values() if key and not key.endswith("num_batches_tracked")} - set(state))
    if lost:
        errors.append(f"The file is of another network: it lacks {lost[0]} and {len(lost) - 1} more.")


def _replace(state: dict[str, Tensor], names: Mapping[str, str]) -> None:
    """Rename a state's keys, in place; drop those whose new name is empty."""
    renamed = {names[key]: value for key, value in state.items() if names[key]}
    state.clear()
    state.update(renamed)


def _features(kind: Any, model: ColorizeEncoder, **options: Any) -> Any:
    """One of timm's wrappers for features, which takes the same checkpoints as the model that it is made of."""
    if isinstance(kind, str):
        kind = _WRAPPERS.get(kind, kind)
    if not callable(kind):
        raise UserError(f"feature_cls is one of {', '.join(_WRAPPERS)}, not {kind!r}.")
    if isinstance(model, ColorizeBody) and kind is not FeatureGetterNet:
        raise UserError(f"{BODY} gives features by feature_cls='getter', which is the default: leave it away.")
    # Before a wrapper drops what it does not need.
    keys = list(model.state_dict())
    made = kind(model, **options)
    kept = set(made.state_dict())
    # Some keep the model's layers as their own, others the model, or its layers, under a name.
    own = {
        key: next((f"{place}{key}" for place in ("", "model.", "body.") if f"{place}{key}" in kept), "") for key in keys
    }
    accept_checkpoints(made, {old: own.get(new, "") for old, new in model.new_keys.items()}, own)
    return made


_WRAPPERS = {
    "list": FeatureListNet, "dict": FeatureDictNet, "hook": FeatureHookNet, "getter": FeatureGetterNet,
    "fx": FeatureGraphNet,
}  # fmt: skip


def _built(
    kind: type[ColorizeEncoder], name: str, pretrained: bool, *, wrapper: str, layers: Any, **options: Any
) -> nn.Module:
    """What timm makes of a model's class and its options."""
    # timm takes such a dictionary for all that is known of the weights, and 1000 classes for granted.
    config = options.get("pretrained_cfg")
    if isinstance(config, dict) and "num_classes" not in config:
        options["pretrained_cfg_overlay"] = {
            **options.pop("pretrained_cfg"),
            **(options["pretrained_cfg_overlay"] or {}),
        }
    features = {"feature_cls": partial(_features, options.pop("feature_cls", wrapper)), "out_indices": layers}
    made: nn.Module = build_model_with_cfg(kind, name, pretrained, feature_cfg=features, **options)
    return made


# ---- by name ---------------------------------------------------------------------------------------------------------


def _configuration(**more: Any) -> Any:
    return {
        "url": "", "num_classes": 0, "input_size": (3, 224, 224), "crop_pct": 0.875, "interpolation": "bicubic",
        "mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0), "classifier": "head.fc", "license": "mit", **more,
    }  # fmt: skip


_POOLS = {"eccv16": 28, "alexnet": 14}
default_cfgs = generate_default_cfgs(
    {
        name: _configuration(first_conv="conv1.0", pool_size=(_POOLS[variant.network],) * 2)
        for name, variant in VARIANTS.items()
    }
    | {BODY: _configuration(first_conv=None)}
)


def _make(name: str, pretrained: bool = False, **options: Any) -> nn.Module:
    variant = VARIANTS[name]
    width = options.setdefault("width", variant.width)
    given = options.get("pretrained_cfg") or options.get("pretrained_cfg_overlay")
    if pretrained and not given and width == variant.width and variant.weights is not None:
        # Not as an address for timm to fetch: it would not compare the hash.
        options["pretrained_cfg_overlay"] = {"file": str(released_file(variant.weights))}
    return _built(
        ColorizeNet, name, pretrained, network=variant.network, wrapper="list", layers=tuple(range(_LAYERS)), **options
    )


def _register(name: str, description: str) -> None:
    """Make a variant known to timm, as a function of this module, which is what timm goes by."""

    def make(pretrained: bool = False, **options: Any) -> nn.Module:
        return _make(name, pretrained, **options)

    make.__name__, make.__doc__ = name, description
    globals()[name] = register_model(make)


for _name, _variant in VARIANTS.items():
    _register(_name, _variant.description)


@register_model
def colorize_timm(pretrained: bool = False, **options: Any) -> nn.Module:
    """Any timm body on lightness, as `pretrain --model timm:BODY` trains it."""
    # All maps unless told otherwise: bodies have four of them, or five, or twelve.
    return _built(ColorizeBody, BODY, pretrained, wrapper="getter", layers=None, **options)
