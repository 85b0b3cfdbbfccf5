"""The other direction: ab in, a distribution over bins of lightness out (Zhang, Isola, Efros: Split-Brain, CVPR 2017).

Each network here is one that colors, of the same layers, with two input channels; half of a split-brain encoder.
"""

from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from ssl_colorize.color import is_colored, rgb_to_lab, rgb_to_lightness
from ssl_colorize.errors import UserError
from ssl_colorize.models.alexnet import AlexNet
from ssl_colorize.models.eccv16 import ECCV16
from ssl_colorize.models.objectives import AB_SCALE, CrossEntropy, Objective
from ssl_colorize.models.registry import ColorizationModel, Direction, register_model

# Of equal width, over L in 0..100.
BINS = 100
# Grays have an ab of up to 0.005, by the rounding of the white point, which would tell how light they are; the palest
# color of 8 bits has 0.26.
_NO_COLOR = 0.02
# The best constant is counted at every so manieth pixel, as colors are.
_COUNTED_STRIDE = 4


def lightness_bins(lightness: Tensor) -> Tensor:
    """The bin that holds each L: (...) in 0..100 -> (...) int64 in 0..99. White belongs to the last.

    >>> lightness_bins(torch.tensor([0.0, 0.99, 50.0, 100.0])).tolist()
    [0, 0, 50, 99]
    """
    return (lightness * (BINS / 100.0)).long().clamp(0, BINS - 1)


def seen_color(rgb: Tensor) -> Tensor:
    """What direction ab-to-L sees of photos: RGB (..., 3, H, W), uint8 or in [0, 1] -> ab (..., 2, H, W) float32.

    It is exactly zero where R, G and B are equal.

    >>> seen_color(torch.full((3, 1, 1), 200, dtype=torch.uint8)).flatten().tolist()
    [0.0, 0.0]
    """
    ab = rgb_to_lab(rgb)[..., 1:, :, :]
    return torch.where(ab.abs().amax(-3, keepdim=True) > _NO_COLOR, ab, 0.0)


class LightnessTargets(NamedTuple):
    """Color in, the bin of lightness at the network's stride out: one batch on the training device.

    Attributes:
        ab: (B, 2, H, W) float32 in ab units, the network's input.
        indices: (B, 1, h, w) int64, the bin.
        weights: (B, 1, h, w) float32, ones.
        pixel_weights: (B, h, w) float32, 1, but 0 in gray photos, in which there is nothing to see.
    """

    ab: Tensor
    indices: Tensor
    weights: Tensor
    pixel_weights: Tensor

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        return (self.ab,)

    @classmethod
    def of(cls, photos: Tensor, *, stride: int) -> "LightnessTargets":
        """Input and targets of photos (B, 3, H, W) uint8."""
        ab = seen_color(photos)
        indices = lightness_bins(rgb_to_lightness(photos[..., ::stride, ::stride]))
        colored = is_colored(ab[..., ::stride, ::stride]).float().view(-1, 1, 1)
        return cls(ab, indices, torch.ones_like(indices, dtype=torch.float32), colored.expand(indices[:, 0].shape))


class CommonLightness:
    """How common each bin is in photos with color, (100,) float32: the best constant. Each counts one pixel more."""

    def __init__(self) -> None:
        self._counts = torch.ones(BINS, dtype=torch.float64)

    def update(self, photos: Tensor) -> None:
        found = LightnessTargets.of(photos[..., ::_COUNTED_STRIDE, ::_COUNTED_STRIDE], stride=1)
        kept = found.indices[found.pixel_weights.unsqueeze(1) > 0]
        self._counts += torch.bincount(kept.cpu(), minlength=BINS)

    def result(self) -> Tensor:
        return (self._counts / self._counts.sum()).float()


class LightnessClassification(CrossEntropy):
    """Cross-entropy over 100 bins of lightness, at the pixels that colors are predicted for in the other direction."""

    outputs = BINS
    description = "distributions over 100 bins of lightness"

    @staticmethod
    def best_constant() -> CommonLightness:
        return CommonLightness()

    def examples(self, photos: Tensor, *, training: bool) -> LightnessTargets:
        return LightnessTargets.of(photos, stride=self.stride)


class FromColor(ColorizationModel):
    """What a network has otherwise that sees ab (B, 2, H, W), in ab units, wherever others see light."""

    direction: ClassVar[Direction] = "ab-to-L"
    channels: ClassVar[int] = 2
    objectives: ClassVar[Mapping[str, type[Objective]]] = {"class": LightnessClassification}

    def light(self, rgb: Tensor) -> Tensor:
        return seen_color(rgb)

    def light_of(self, lightness: Tensor) -> Tensor:
        raise UserError(f"{self.name} sees color alone, and lightness has none: give it photos in RGB.")

    @staticmethod
    def normalize(light: Tensor) -> Tensor:
        return light / AB_SCALE


@register_model("eccv16-ab")
class ECCV16FromColor(FromColor, ECCV16):
    """ab (B, 2, H, W) -> logits (B, outputs, H/4, W/4)."""


@register_model("alexnet-ab")
class AlexNetFromColor(FromColor, AlexNet):
    """ab (B, 2, H, W) -> logits (B, outputs, H/8, W/8), rounded up."""
