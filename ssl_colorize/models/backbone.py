"""Any timm model as a cross-channel encoder: one channel in, hypercolumns of its stages out.

`timm:NAME` names such a network, with options after commas: `stride=8` (of the output; 4 by default) and whatever the
timm model itself takes, as in `timm:vit_tiny_patch16_224,patch_size=8` or `timm:maxvit_nano_rw_256,img_size=64`.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ssl_colorize.color import lightness_to_gray
from ssl_colorize.errors import UserError, one_line
from ssl_colorize.models.graph import parameters_behind
from ssl_colorize.models.head import FUSED, HypercolumnHead, averaged, interpolated
from ssl_colorize.models.registry import ColorizationModel, FeatureInfo, register_family
from ssl_colorize.models.timm_factory import make_timm, parse_name

FAMILY = "timm"
STRIDES = (4, 8)
# Of maps that all have one stride (transformers without stages), so many are read.
_READ_OF_ONE_STRIDE = 4
# What lets a model take photos of any size, of models that can be told to; a model knows one of them or none.
_ANY_SIZE: tuple[dict[str, bool], ...] = ({"dynamic_img_size": True}, {"strict_img_size": False}, {})


@register_family(FAMILY)
class TimmColorizer(ColorizationModel):
    """L (B, 1, H, W) in 0..100 -> logits (B, outputs, H/stride, W/stride), rounded up.

    The layers are those of timm's feature_info, by its names. The output reads the last map of every stride, or four
    evenly spread ones where all have the same. Networks that take one size of photo only (attention with a table of
    positions) see the photo resized to it, and their maps are brought to what their strides say.

    The body keeps timm's own random initialization, and no parameter that the output does not depend on takes
    gradients.

    Attributes:
        body: the timm model, without its head, for one channel.
        fixed_size: height and width of the only photos that it takes; None if it takes any.
        reads: indices of the layers that the output reads.
    """

    chain = False
    scalable = False
    has_imagenet = True
    own_init = ("body",)

    def __init__(self, name: str, *, width: float = 1.0, outputs: int = 313) -> None:
        """Make the network that `name` ("timm:...") says.

        Raises:
            UserError: timm has no such model, or it gives no maps; an option is unknown; width is not 1.
        """
        super().__init__(width=width, outputs=outputs)
        if width != 1:
            raise UserError(f"{name} comes in one width: set width to 1, not {width:g}.")
        self.name = name
        timm_name, options = parse_name(name.partition(":")[2])
        self.target_stride = options.pop("stride", STRIDES[0])
        if self.target_stride not in STRIDES:
            raise UserError(f"Model {name!r}: the output's stride is 4 or 8, not {self.target_stride}.")
        self.body = make_body(timm_name, options)
        for info in feature_info(self.body):
            self.add_layer(info["module"], info["num_chs"], info["reduction"])
        coarsest = max(info["reduction"] for info in self.feature_info)
        self.fixed_size = None if self._takes((2 * coarsest, 3 * coarsest)) else own_size(self.body, options)
        self.multiple = 1 if self.fixed_size else coarsest
        self.reads = _read_layers(self.feature_info)
        self.head = HypercolumnHead([self.feature_info[index]["num_chs"] for index in self.reads])
        self.logits = nn.Conv2d(FUSED, outputs, 1)
        for key, value in _normalization(self.body).items():
            # Saved with the weights: timm may change its mind about them.
            self.register_buffer(key, value)
        self._freeze_the_unused(name)

    def load_imagenet(self, file: Path | None = None) -> tuple[str, ...]:
        """Give the body timm's published weights, the stem's summed into one channel; see `models.published`.

        Args:
            file: a local copy of them.

        Returns:
            The names of the modules that are trained now.

        Raises:
            UserError: they cannot be had.
        """
        from ssl_colorize.models.published import load_published

        load_published(self, file=file)
        return ("body",)

    # ---- what it computes --------------------------------------------------------------------------------------------

    def normalize(self, images: Tensor) -> Tensor:
        """L (B, 1, H, W) as the gray of that lightness, less the mean over the deviation; or Lab (B, 3, H, W).

        As they are for a body of ours ("timm:colorize_eccv16"), which normalizes lightness itself.
        """
        if getattr(self.body, "takes_lightness", False):
            return images
        mean, std = self.get_buffer("mean"), self.get_buffer("std")
        gray = (lightness_to_gray(images[:, :1]) - mean) / std
        return gray if images.shape[1] == 1 else torch.cat((gray, images[:, 1:] / (100.0 * std)), dim=1)

    def forward(self, lightness: Tensor) -> Tensor:
        return self._answer(self._raw_maps(lightness, self.reads), lightness)

    def stages(self, lightness: Tensor) -> Iterator[tuple[str, Tensor]]:
        raw = self._raw_maps(lightness, range(len(self.feature_info)))
        for info, x in zip(self.feature_info, raw, strict=True):
            yield info["module"], self._true_to_stride(x, info, lightness)
        yield "logits", self._answer([raw[index] for index in self.reads], lightness)

    def forward_features(self, lightness: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """Maps of the named layers (B, C, h, w), as timm gives them; nothing beyond the deepest one is computed.

        Raises:
            UserError: a layer is unknown.
        """
        self.refuse_unknown(layers)
        indices = [index for index, layer in enumerate(self.layers) if layer in layers]
        chosen = [self.feature_info[index] for index in indices]
        raw = self._raw_maps(lightness, indices)
        return {info["module"]: self._true_to_stride(x, info, lightness) for info, x in zip(chosen, raw, strict=True)}

    def _raw_maps(self, lightness: Tensor, indices: Sequence[int]) -> list[Tensor]:
        """The body's maps, at ascending indices, however large they come."""
        x = self.normalize(lightness)
        if self.fixed_size is not None and x.shape[2:] != self.fixed_size:
            x = functional.interpolate(x, self.fixed_size, mode="bilinear", align_corners=False, antialias=True)
        return intermediates(self.body, x, indices)

    def _answer(self, raw: Sequence[Tensor], lightness: Tensor) -> Tensor:
        logits: Tensor = self.logits(self.head(raw, _cells(lightness, self.target_stride)))
        return logits

    def _true_to_stride(self, x: Tensor, info: FeatureInfo, lightness: Tensor) -> Tensor:
        if self.fixed_size is None:
            return x
        size = _cells(lightness, info["reduction"])
        return interpolated(averaged(x, size), size)

    # ---- what it finds out about itself ------------------------------------------------------------------------------

    @torch.no_grad()
    def _takes(self, size: tuple[int, int]) -> bool:
        """Whether the body, on a photo of this size, gives the maps that its feature_info promises."""
        try:
            maps = intermediates(self.body.eval(), torch.zeros(1, 1, *size), range(len(self.feature_info)))
        except Exception:
            # Models say in many ways that they want photos of another size.
            return False
        finally:
            self.body.train()
        return [tuple(x.shape[1:]) for x in maps] == [
            (info["num_chs"], size[0] // info["reduction"], size[1] // info["reduction"]) for info in self.feature_info
        ]

    def _freeze_the_unused(self, name: str) -> None:
        """Parameters that the logits do not depend on get no gradients (DistributedDataParallel would wait for them).

        timm leaves the head away and what comes after the last map; this finds what is still left over.
        """
        size = self.fixed_size or (self.multiple, self.multiple)
        training = self.training
        try:
            with torch.enable_grad():
                output = self.eval()(torch.zeros(1, 1, *size))
        except Exception as error:
            # Nothing but timm's model is unknown here.
            raise UserError(f"Model {name!r} does not run on photos of {size} pixels: {one_line(error)}") from None
        finally:
            self.train(training)
        used = {id(parameter) for parameter in parameters_behind(output, set())}
        for parameter in self.parameters():
            parameter.requires_grad_(id(parameter) in used)


def make_body(name: str, options: dict[str, Any], *, channels: int = 1, **more: Any) -> Any:
    """A timm model without its head that takes photos of any size, if it can be told to.

    Args:
        name: timm's.
        options: of the model.
        channels: of the photos.
        more: likewise options, such as `pretrained`.

    Raises:
        UserError: timm has no such model or it does not take an option, or it gives no maps.
    """
    # The classifier is made where weights are to be loaded: without it timm lets every key be missing.
    more = more if more.get("pretrained") else {**more, "num_classes": 0}
    for attempt in _ANY_SIZE:
        try:
            body = make_timm(name, in_chans=channels, **attempt, **options, **more)
            break
        except TypeError as error:
            refusal = one_line(error)
    else:
        raise UserError(f"timm cannot make {name!r} of these options: {refusal}")
    if not hasattr(body, "forward_intermediates"):
        raise UserError(f"timm's {name!r} gives no maps of its stages (forward_intermediates): choose another.")
    if hasattr(body, "prune_intermediate_layers"):
        body.prune_intermediate_layers(list(range(len(feature_info(body)))), prune_norm=True, prune_head=True)
    return body


def feature_info(body: Any) -> list[FeatureInfo]:
    """timm's description of all maps that a model gives."""
    info: list[FeatureInfo] = getattr(body.feature_info, "info", body.feature_info)
    return info


def intermediates(body: Any, x: Tensor, indices: Sequence[int]) -> list[Tensor]:
    """A timm model's maps (B, C, h, w) at ascending indices of its feature_info."""
    maps: list[Tensor] = body.forward_intermediates(
        x, indices=list(indices), stop_early=True, output_fmt="NCHW", intermediates_only=True
    )
    return maps


def own_size(body: Any, options: dict[str, Any]) -> tuple[int, int]:
    """Height and width of the photos that a model was made for."""
    size = options.get("img_size", body.pretrained_cfg["input_size"][-2:])
    height, width = (size, size) if isinstance(size, int) else size
    return int(height), int(width)


def _normalization(body: Any) -> dict[str, Tensor]:
    """The mean and deviation that its photos are normalized with, averaged over the colors: scalars."""
    return {key: torch.tensor(body.pretrained_cfg[key]).mean() for key in ("mean", "std")}


def _read_layers(info: Sequence[FeatureInfo]) -> tuple[int, ...]:
    """The last layer of each stride; of a single stride, four that are evenly spread."""
    last = {each["reduction"]: index for index, each in enumerate(info)}
    if len(last) > 1:
        return tuple(sorted(last.values()))
    count = min(_READ_OF_ONE_STRIDE, len(info))
    return tuple(len(info) * (number + 1) // count - 1 for number in range(count))


def _cells(images: Tensor, stride: int) -> tuple[int, int]:
    """Cells of a map of images (B, C, H, W), down and across."""
    # Rounded up without negative numbers, whose division ONNX rounds the other way.
    height, width = ((side + stride - 1) // stride for side in images.shape[2:])
    return height, width
