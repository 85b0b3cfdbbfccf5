"""The colorization networks as timm has its models: `timm.create_model("colorize_eccv16", features_only=True)`.

They are the encoders alone, without the decoder, and end in timm's classifier head, which is empty unless
`num_classes` is given. As everywhere in timm they take RGB (B, 3, H, W); the mean is 0 and the deviation 1, so the
range is [0, 1], and lightness is computed inside. With `in_chans=1` they take lightness itself, in 0..100.

Weights: `checkpoint_path=` or `pretrained=True, pretrained_cfg_overlay=dict(file=...)` take a `model.safetensors` of
`ssl-colorize pretrain`, the authors' released file, or what timm saved of these models. `pretrained=True` alone takes
the authors' weights of `colorize_eccv16`, fetched if need be, and those of `colorize_eccv16_starter`, which come along.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from timm.layers.classifier import ClassifierHead
from timm.models import FeatureListNet, build_model_with_cfg, generate_default_cfgs, register_model
from timm.models._features import feature_take_indices
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ssl_colorize.color import rgb_to_lightness
from ssl_colorize.errors import UserError
from ssl_colorize.models.alexnet import AlexNet
from ssl_colorize.models.eccv16 import ECCV16, released_keys
from ssl_colorize.models.registry import ColorizationModel
from ssl_colorize.models.released import RELEASES, SHIPPED, released_file

NETWORKS: dict[str, type[ECCV16] | type[AlexNet]] = {"eccv16": ECCV16, "alexnet": AlexNet}
# Both have as many.
LAYERS = 7
# Where the released file has the table of colors, which an encoder has no use for.
_RELEASED_DECODING = "model_out.weight"
# Where our files have it, and what everything about colors begins with there.
_BINS, _COLORS = "color.bins", "color."


class Lightness(nn.Module):
    """RGB (B, 3, H, W) in [0, 1], or L (B, 1, H, W) in 0..100, as the network's first convolution takes it."""

    def __init__(self, network: ECCV16 | AlexNet, channels: int) -> None:
        super().__init__()
        if channels not in (1, 3):
            raise UserError(f"in_chans is 3 (RGB) or 1 (lightness), not {channels}.")
        self.channels = channels
        # Arithmetic alone, of which the network is no part.
        self.normalize = network.normalize

    def forward(self, x: Tensor) -> Tensor:
        light = rgb_to_lightness(x) if self.channels == 3 else x
        # Color is computed in float32, whatever the network runs in.
        return self.normalize(light).to(x.dtype)


class WithClassifier(nn.Module, ABC):
    """What timm asks of a model with its classifier, `head`, on the last map, `forward_features`."""

    num_classes: int
    head: ClassifierHead
    # With one channel: L in 0..100, where timm's other models take a normalized gray.
    takes_lightness = True

    @abstractmethod
    def forward_features(self, x: Tensor) -> Tensor:
        """Images -> the last layer's map (B, C, h, w)."""

    def get_classifier(self) -> nn.Module:
        classifier: nn.Module = self.head.fc
        return classifier

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        self.num_classes = num_classes
        self.head.reset(num_classes, global_pool)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        pooled: Tensor = self.head(x, pre_logits=True) if pre_logits else self.head(x)
        return pooled

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))


class ColorizeNet(WithClassifier):
    """A colorization network's layers, one module each, and timm's classifier on the last.

    A layer's module ends with its last ReLU; what follows it in the network (BatchNorm, pooling) begins the next one's.
    So each module gives the layer's map as `load_encoder` does, and `FeatureListNet` can take the model apart.

    Attributes:
        new_keys: of the state of our networks -> of this model's (`new_keys`).
    """

    new_keys: dict[str, str]

    def __init__(
        self,
        network: str,
        *,
        width: float = 1.0,
        num_classes: int = 0,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        whole = NETWORKS[network](width=width)
        self.num_classes, self.in_chans, self.drop_rate = num_classes, in_chans, drop_rate
        self.grad_checkpointing = False
        self.feature_info = [dict(info) for info in whole.feature_info]
        self.layers = whole.layers
        self.lightness = Lightness(whole, in_chans)
        for name, module in chained(whole):
            self.add_module(name, module)
        self.num_features = self.head_hidden_size = whole.feature_info[-1]["num_chs"]
        self.head = ClassifierHead(self.num_features, num_classes, pool_type=global_pool, drop_rate=drop_rate)
        accept_checkpoints(self, new_keys(whole, self))

    # ---- what timm asks of a model -----------------------------------------------------------------------------------

    def no_weight_decay(self) -> set[str]:
        return set()

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        # A group a layer, coarse or not; the head is what is left.
        return {name: rf"^{name}\." for name in self.layers}

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        self.grad_checkpointing = enable

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
        found: list[Tensor] = []
        features = x
        for index, features in enumerate(self._maps(x, deepest + 1 if stop_early else len(self.layers))):
            if index in wanted:
                found.append(features)
        return found if intermediates_only else (features, found)

    def prune_intermediate_layers(
        self, indices: int | list[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drop the layers beyond the deepest of some, and the classifier; returns the indices from the start."""
        wanted, deepest = feature_take_indices(len(self.layers), indices)
        for name in self.layers[deepest + 1 :]:
            delattr(self, name)
        self.layers = self.layers[: deepest + 1]
        if prune_head:
            self.reset_classifier(0, "")
        return list(wanted)

    def forward_features(self, x: Tensor) -> Tensor:
        """Images (B, in_chans, H, W) -> the last layer's map (B, C, h, w)."""
        *_, last = self._maps(x, len(self.layers))
        return last

    def _maps(self, x: Tensor, count: int) -> Iterator[Tensor]:
        x = self.lightness(x)
        for name in self.layers[:count]:
            layer = self.get_submodule(name)
            again = self.grad_checkpointing and self.training
            x = checkpoint(layer, x, use_reentrant=False) if again else layer(x)
            yield x


class ColorizeFeatures(FeatureListNet):
    """timm's list of features, which takes the same checkpoints as the model that it is made of."""

    new_keys: dict[str, str]

    def __init__(self, model: ColorizeNet, **options: Any) -> None:
        super().__init__(model, **options)
        kept = self.state_dict()
        accept_checkpoints(self, {old: new if new in kept else "" for old, new in model.new_keys.items()})


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


def new_keys(network: ColorizationModel, model: nn.Module) -> dict[str, str]:
    """The keys of a network's state -> those of a model that shares its tensors; "" for what the model has not."""
    tensors = {id(value): key for key, value in (*model.named_parameters(), *model.named_buffers())}
    return {key: tensors.get(id(value), "") for key, value in (*network.named_parameters(), *network.named_buffers())}


def accept_checkpoints(model: Any, keys: dict[str, str]) -> None:
    """Let a model's `load_state_dict` take the files of this project and of the authors beside its own.

    Args:
        model: keeps the keys as `new_keys`.
        keys: of the network's state -> those of the model's, "" for what the model has not (`new_keys`).
    """
    model.new_keys = keys
    model.register_load_state_dict_pre_hook(partial(_rename, keys))


def _rename(
    keys: Mapping[str, str], model: nn.Module, state: dict[str, Tensor], prefix: str, metadata: Any, strict: bool,
    missing: list[str], unexpected: list[str], errors: list[str],
) -> None:  # fmt: skip
    """What runs before a state is loaded: foreign keys become ours, in place."""
    if _RELEASED_DECODING in state:
        released = released_keys() | {_RELEASED_DECODING: _BINS}
        _replace(state, {key: released.get(key, key) for key in state})
    if _BINS not in state:
        return
    # Our files have the table of colors; timm's have none.
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


# ---- by name ---------------------------------------------------------------------------------------------------------


def _configuration(first: str, pool: int) -> dict[str, Any]:
    return {
        "url": "", "num_classes": 0, "input_size": (3, 224, 224), "pool_size": (pool, pool), "crop_pct": 0.875,
        "interpolation": "bicubic", "mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0),
        "first_conv": first, "classifier": "head.fc", "license": "mit",
    }  # fmt: skip


default_cfgs = generate_default_cfgs(
    {
        "colorize_eccv16": _configuration("conv1.0", 28),
        "colorize_eccv16_half": _configuration("conv1.0", 28),
        "colorize_eccv16_starter": _configuration("conv1.0", 28),
        "colorize_eccv16_quarter": _configuration("conv1.0", 28),
        "colorize_alexnet": _configuration("conv1.0", 14),
        "colorize_alexnet_half": _configuration("conv1.0", 14),
    }
)


def _make(variant: str, network: str, pretrained: bool, *, own_width: float = 1.0, **options: Any) -> nn.Module:
    width = options.setdefault("width", own_width)
    told = options.get("pretrained_cfg") or options.get("pretrained_cfg_overlay")
    if pretrained and not told and width == own_width:
        # Not as an address for timm to fetch: it would not compare the hash.
        options["pretrained_cfg_overlay"] = _released(variant)
    made: nn.Module = build_model_with_cfg(
        ColorizeNet, variant, pretrained, network=network,
        feature_cfg={"feature_cls": ColorizeFeatures, "out_indices": tuple(range(LAYERS))}, **options,
    )  # fmt: skip
    return made


def _released(variant: str) -> dict[str, str]:
    """Where the weights of a model lie, published ones fetched and verified; empty if there are none."""
    known = {each.architecture: name for name, each in RELEASES.items()}
    known |= {each.architecture: name for name, each in SHIPPED.items()}
    return {"file": str(released_file(known[variant]))} if variant in known else {}


@register_model
def colorize_eccv16(pretrained: bool = False, **options: Any) -> nn.Module:
    """The network of Zhang, Isola, Efros (ECCV 2016): conv1 to conv7."""
    return _make("colorize_eccv16", "eccv16", pretrained, **options)


@register_model
def colorize_eccv16_half(pretrained: bool = False, **options: Any) -> nn.Module:
    """`colorize_eccv16` of half the width."""
    return _make("colorize_eccv16_half", "eccv16", pretrained, own_width=0.5, **options)


@register_model
def colorize_eccv16_starter(pretrained: bool = False, **options: Any) -> nn.Module:
    """`colorize_eccv16_half` with the weights that come with this package."""
    return _make("colorize_eccv16_starter", "eccv16", pretrained, own_width=0.5, **options)


@register_model
def colorize_eccv16_quarter(pretrained: bool = False, **options: Any) -> nn.Module:
    """`colorize_eccv16` of a quarter of the width, as the quickstart trains it."""
    return _make("colorize_eccv16_quarter", "eccv16", pretrained, own_width=0.25, **options)


@register_model
def colorize_alexnet(pretrained: bool = False, **options: Any) -> nn.Module:
    """The transfer network of the same paper: conv1 to conv5, fc6 and fc7, fully convolutional."""
    return _make("colorize_alexnet", "alexnet", pretrained, **options)


@register_model
def colorize_alexnet_half(pretrained: bool = False, **options: Any) -> nn.Module:
    """`colorize_alexnet` of half the width."""
    return _make("colorize_alexnet_half", "alexnet", pretrained, own_width=0.5, **options)
