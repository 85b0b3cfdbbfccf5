"""What each kind of head sees of the maps of an encoder: which layers, how far averaged, and laid out how."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ssl_colorize.encoder import Encoder, pool_map
from ssl_colorize.errors import UserError
from ssl_colorize.evaluate.features import Features, map_sides
from ssl_colorize.evaluate.heads import FeatureNorm
from ssl_colorize.evaluate.metrics import as_array
from ssl_colorize.evaluate.settings import ProbeSettings

# What figures of all layers at once, and of attentive heads, are filed under: "all-layers", "conv5/attentive".
ALL_LAYERS, ATTENTIVE = "all-layers", "/attentive"

# Maps by layer and side.
Maps = Mapping[tuple[str, int], Tensor]


class HeadInput(nn.Module):
    """What the heads of one name see: maps averaged to some side, each channel normalized over the training photos.

    Attributes:
        name: of the figures, such as "conv5".
        sides: of the map of each layer.
        taken: sides of the maps that these are averaged from.
        attentive: whether heads get all places of the maps (B, T, C), rather than all their numbers (B, D).
    """

    def __init__(
        self, name: str, sides: Mapping[str, int], channels: Sequence[int], *, taken: Mapping[str, int], attentive: bool
    ) -> None:  # fmt: skip
        super().__init__()
        self.name, self.sides, self.taken, self.attentive = name, dict(sides), dict(taken), attentive
        self.channels = tuple(channels)
        self.norms = nn.ModuleList(FeatureNorm(each) for each in channels)

    @property
    def numbers(self) -> int:
        """All numbers of the maps."""
        return sum(width * side**2 for width, side in zip(self.channels, self.sides.values(), strict=True))

    def forward(self, maps: Maps) -> Any:
        """Maps (B, C, side, side) -> (B, D); or of each layer (B, T, C), for attentive heads."""
        shown = [
            norm(_averaged(maps[layer, self.taken[layer]], side))
            for norm, (layer, side) in zip(self.norms, self.sides.items(), strict=True)
        ]
        if self.attentive:
            return [x.flatten(2).mT for x in shown]
        return torch.cat([x.flatten(1) for x in shown], 1)

    def state(self) -> dict[str, Tensor]:
        """The statistics."""
        # Those of a single layer have the names that they had before there were several.
        found: dict[str, Tensor] = (self.norms[0] if len(self.norms) == 1 else self.norms).state_dict()
        return found


def head_inputs(
    encoder: Encoder, layers: Sequence[str], settings: ProbeSettings, sides: Mapping[str, int], *, crop: int
) -> list[HeadInput]:
    """Those of all heads that the settings ask for, in the order of the results.

    Args:
        sides: of each layer's map, as linear heads see it.
        crop: side of the photos in pixels.

    Raises:
        UserError: all layers at once are asked for, of a single one.
    """
    width = {info["module"]: info["num_chs"] for info in encoder.feature_info}
    channels = [width[layer] for layer in layers]
    found = []
    if "linear" in settings.heads:
        found += [_of_layer(layer, layer, width[layer], sides[layer], attentive=False) for layer in layers]
    if "attentive" in settings.heads:
        whole = map_sides(encoder, layers, crop, numbers=1 << 60)
        places = {layer: min(side, math.isqrt(settings.places)) for layer, side in whole.items()}
        found += [_of_layer(layer + ATTENTIVE, layer, width[layer], places[layer], attentive=True) for layer in layers]
        if len(layers) > 1:
            # Each layer's mean is one place, as in the paper; more would cost as much as all layers do alone.
            whole = dict.fromkeys(layers, 1)
            found.append(HeadInput(ALL_LAYERS + ATTENTIVE, whole, channels, taken=places, attentive=True))
    if "all-layers" in settings.heads:
        refuse_single(layers)
        shared = shared_sides(dict(zip(layers, channels, strict=True)), sides, numbers=settings.numbers)
        found.append(HeadInput(ALL_LAYERS, shared, channels, taken=sides, attentive=False))
    return found


def _of_layer(name: str, layer: str, channels: int, side: int, *, attentive: bool) -> HeadInput:
    return HeadInput(name, {layer: side}, [channels], taken={layer: side}, attentive=attentive)


def refuse_single(layers: Sequence[str]) -> None:
    """Raises: UserError: there is one layer only."""
    if len(layers) < 2:
        raise UserError(f"--head all-layers takes at least 2 layers, and {layers[0]} is the only one: name more.")


def shared_sides(channels: Mapping[str, int], sides: Mapping[str, int], *, numbers: int) -> dict[str, int]:
    """Sides at which the maps of all layers together have at most so many numbers, each layer its equal share of them.

    >>> shared_sides({"conv1": 64, "conv5": 512}, {"conv1": 12, "conv5": 4}, numbers=9216)
    {'conv1': 8, 'conv5': 3}
    """
    return {
        layer: max(1, min(sides[layer], math.isqrt(numbers // len(sides) // width)))
        for layer, width in channels.items()
    }


def concatenate_layers(maps: Mapping[str, Any], *, numbers: int = 9216) -> NDArray[np.float32]:
    """The maps of several layers in one row a photo, each averaged so far that all together have at most `numbers`.

    As many as a linear probe sees of a single layer: what all layers gain is not that they may say more.

    Args:
        maps: (N, C, side, side) of each layer, arrays or tensors; C and side of their own.

    Returns:
        (N, D), layer by layer; D is larger than `numbers` only where there are more channels than that.

    >>> maps = {"early": np.ones((2, 4, 6, 6)), "late": np.zeros((2, 16, 3, 3))}
    >>> concatenate_layers(maps, numbers=128).shape  # 4 x 4 x 4 and 16 x 2 x 2
    (2, 128)
    """
    arrays = {layer: as_array(values) for layer, values in maps.items()}
    sides = shared_sides(
        {layer: x.shape[1] for layer, x in arrays.items()}, {layer: x.shape[2] for layer, x in arrays.items()},
        numbers=numbers,
    )  # fmt: skip
    parts = [_averaged(torch.tensor(x, dtype=torch.float32), sides[layer]).flatten(1) for layer, x in arrays.items()]
    return torch.cat(parts, 1).numpy()


def as_map(features: Features, side: int) -> Features:
    """Rows (N, C x side x side) of `extract` as maps (N, C, side, side)."""
    return features.reshape(len(features), -1, side, side)


def _averaged(x: Tensor, side: int) -> Tensor:
    return x if x.shape[-1] == side else pool_map(x, side)
