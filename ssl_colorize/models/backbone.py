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
from ssl_colorize.models.pretrained import load_exactly
from ssl_colorize.models.registry import ColorizationModel, FeatureInfo, register_family
from ssl_colorize.models.timm_factory import (
    feature_info,
    intermediates,
    make_body,
    own_size,
    parse_name,
    published_state,
)

FAMILY = "timm"
STRIDES = (4, 8)
# Of maps that all have one stride (transformers without stages), so many are read.
_READ_OF_ONE_STRIDE = 4
# Channels of the head: of each map after its reduction, and of the output.
REDUCED, FUSED = 128, 256


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
        """Give the body timm's published weights, the stem's summed into one channel; see `published_state`.

        The tag in the network's name says which, as in "timm:resnet50.a1_in1k"; without one they are timm's default.

        Args:
            file: a local copy of them, as timm loads it; else timm's cache or the network.

        Returns:
            The names of the modules that are trained now.

        Raises:
            UserError: they cannot be had, or not be summed.
        """
        size = self.fixed_size or (self.multiple, self.multiple)
        mean, std = (self.get_buffer(key).cpu() for key in ("mean", "std"))
        state = published_state(
            self.name.removeprefix(f"{FAMILY}:"), self.body, size=size, mean=mean, std=std, file=file
        )
        load_exactly(self.body, state, where=file or Path(self.name))
        return ("body",)

    # ---- what it computes --------------------------------------------------------------------------------------------

    def normalize(self, light: Tensor) -> Tensor:
        """Light (B, 1, H, W) as the gray of that lightness, less the mean over the deviation; or Lab (B, 3, H, W).

        As they are for a body of ours ("timm:colorize_eccv16"), which normalizes lightness itself.
        """
        if getattr(self.body, "takes_lightness", False):
            return light
        mean, std = self.get_buffer("mean"), self.get_buffer("std")
        gray = (lightness_to_gray(light[:, :1]) - mean) / std
        return gray if light.shape[1] == 1 else torch.cat((gray, light[:, 1:] / (100.0 * std)), dim=1)

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
        x = self.prepared(lightness)
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


# ---- its head --------------------------------------------------------------------------------------------------------


class HypercolumnHead(nn.Module):
    """Maps of several strides, fused into one (B, FUSED, h, w) of the size that is asked for.

    Each is reduced by a 1x1 convolution and normalized, so that none drowns the others however large its numbers are;
    their sum goes through ReLU and a 3x3 convolution. What is finer than the output is averaged over its cells first,
    what is coarser is interpolated bilinearly after it was reduced, which is the cheap order in both cases.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.reduce = nn.ModuleList(
            nn.Sequential(nn.Conv2d(each, REDUCED, 1), nn.BatchNorm2d(REDUCED)) for each in channels
        )
        self.fuse = nn.Sequential(
            nn.ReLU(), nn.Conv2d(REDUCED, FUSED, 3, padding=1), nn.BatchNorm2d(FUSED), nn.ReLU()
        )  # fmt: skip

    def forward(self, maps: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """Maps (B, C, h, w), each with its own C, h and w -> (B, FUSED, *size)."""
        reduced = [interpolated(reduce(averaged(x, size)), size) for reduce, x in zip(self.reduce, maps, strict=True)]
        fused: Tensor = self.fuse(torch.stack(reduced).sum(0))
        return fused


def averaged(x: Tensor, size: tuple[int, int]) -> Tensor:
    """A map (B, C, h, w) brought down to at most `size` by means over windows."""
    smaller = (min(x.shape[2], size[0]), min(x.shape[3], size[1]))
    return x if x.shape[2:] == smaller else functional.adaptive_avg_pool2d(x, smaller)


def interpolated(x: Tensor, size: tuple[int, int]) -> Tensor:
    """A map (B, C, h, w) brought up to `size`."""
    return x if x.shape[2:] == size else functional.interpolate(x, size, mode="bilinear", align_corners=False)


def parameters_behind(output: Tensor, seen: set[Any]) -> Iterator[Tensor]:
    """The parameters, of those that take gradients, that a graph ends in.

    Args:
        output: computed with gradients enabled.
        seen: parts of the graph that were walked already, and are not again; grows.
    """
    waiting = [output.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        # A node that gathers a parameter's gradient holds the parameter.
        variable = getattr(node, "variable", None)
        if variable is not None:
            yield variable
        waiting += [following for following, _ in node.next_functions]
