"""A network on a timm body as timm has its models: `timm.create_model("colorize_timm", body="resnet18")`.

It is what `ssl-colorize pretrain --model timm:resnet18` trains, without the decoder: RGB (B, 3, H, W) in [0, 1] comes
in, its lightness goes through the body, and timm's classifier stands on the last map. With `in_chans=1` it takes
lightness itself, in 0..100. `features_only=True` gives the body's maps, which are those of `load_encoder`.
"""

from typing import Any

from timm.layers.classifier import ClassifierHead
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models._features import FeatureGetterNet, feature_take_indices
from torch import Tensor, nn

from ssl_colorize.color import rgb_to_lightness
from ssl_colorize.errors import UserError
from ssl_colorize.models.backbone import FAMILY, TimmColorizer
from ssl_colorize.models.timm_models import WithClassifier, accept_checkpoints

NAME = "colorize_timm"


class ColorizeBody(WithClassifier):
    """A timm body that sees lightness, with timm's classifier on its last map.

    Attributes:
        network: the colorization network without its decoder.
        new_keys: of the state of our networks -> of this model's.
    """

    new_keys: dict[str, str]

    def __init__(
        self,
        body: str = "resnet18",
        *,
        num_classes: int = 0,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
    ) -> None:
        """`body` is what follows `timm:` in the name of the network, options after commas and all."""
        super().__init__()
        if in_chans not in (1, 3):
            raise UserError(f"in_chans is 3 (RGB) or 1 (lightness), not {in_chans}.")
        network = TimmColorizer(f"{FAMILY}:{body}")
        whole = [*network.state_dict()]
        del network.head, network.logits
        self.network = network
        self.num_classes, self.in_chans, self.drop_rate = num_classes, in_chans, drop_rate
        self.feature_info: list[dict[str, Any]] = [{**info} for info in network.feature_info]
        self.num_features = self.head_hidden_size = self.feature_info[-1]["num_chs"]
        self.head = ClassifierHead(self.num_features, num_classes, pool_type=global_pool, drop_rate=drop_rate)
        kept = set(network.state_dict())
        accept_checkpoints(self, {key: f"network.{key}" if key in kept else "" for key in whole})

    def no_weight_decay(self) -> set[str]:
        asked = getattr(self.network.body, "no_weight_decay", set)
        return {f"network.body.{name}" for name in asked()}

    def prune_intermediate_layers(
        self, indices: int | list[int] | None = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """The indices from the start. What lies beyond the deepest stays, and is not computed."""
        wanted, _ = feature_take_indices(len(self.feature_info), indices)
        if prune_head:
            self.reset_classifier(0, "")
        return list(wanted)

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """The maps of some layers, and the last; see `ColorizeNet`."""
        if output_fmt != "NCHW":
            raise UserError(f"output_fmt is NCHW for these models, not {output_fmt}.")
        wanted, _ = feature_take_indices(len(self.feature_info), indices)
        layers = [self.feature_info[index]["module"] for index in wanted]
        last = self.feature_info[-1]["module"]
        # Nothing beyond the deepest is computed.
        asked = layers if intermediates_only or stop_early else [*layers, last]
        maps = self.network.forward_features(self._lightness(x), asked)
        found = [maps[layer] for layer in layers]
        return found if intermediates_only else (maps.get(last, found[-1]), found)

    def forward_features(self, x: Tensor) -> Tensor:
        """Images (B, in_chans, H, W) -> the last layer's map (B, C, h, w)."""
        last = self.feature_info[-1]["module"]
        return self.network.forward_features(self._lightness(x), [last])[last]

    def _lightness(self, x: Tensor) -> Tensor:
        return rgb_to_lightness(x) if self.in_chans == 3 else x


class ColorizeBodyFeatures(FeatureGetterNet):
    """timm's getter of features, which takes the same checkpoints as the model in it."""

    new_keys: dict[str, str]

    def __init__(self, model: ColorizeBody, **options: Any) -> None:
        super().__init__(model, **options)
        accept_checkpoints(self, {old: f"model.{new}" if new else "" for old, new in model.new_keys.items()})


default_cfgs = generate_default_cfgs(
    {
        NAME: {
            "url": "", "num_classes": 0, "input_size": (3, 224, 224), "crop_pct": 0.875, "interpolation": "bicubic",
            "mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0), "first_conv": None, "classifier": "head.fc",
            "license": "mit",
        }
    }
)  # fmt: skip


@register_model
def colorize_timm(pretrained: bool = False, **options: Any) -> nn.Module:
    """Any timm body on lightness, as `pretrain --model timm:BODY` trains it."""
    # All maps unless told otherwise: bodies have four of them, or five, or twelve.
    features = {"feature_cls": ColorizeBodyFeatures, "out_indices": None}
    made: nn.Module = build_model_with_cfg(ColorizeBody, NAME, pretrained, feature_cfg=features, **options)
    return made
