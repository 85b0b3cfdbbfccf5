"""Dahl's objective: the distance of UV, sharp and blurred."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from ssl_colorize.color import rgb_to_yuv
from ssl_colorize.models.baselines import dahl
from ssl_colorize.pretrain.objectives.base import Objective
from ssl_colorize.pretrain.targets import subsampled_ab

# Standard deviations in pixels of what Dahl calls blurred by 3 and by 5 pixels; 0 is not blurred.
BLURS = (0.0, 3.0, 5.0)
# Of a Gaussian, everything within so many standard deviations.
_REACH = 3
# Distances are smooth below this: the length of a vector has no gradient at zero.
_SMOOTH = 1e-4
# Colors of held-out photos are read at every so manieth pixel.
_FIGURES_STRIDE = 4


class UVExamples(NamedTuple):
    """Photos as Dahl's network is asked about them.

    Attributes:
        luma: (B, 1, H, W) float32 in 0..100.
        uv: (B, 2, H, W) float32 in [0, 1].
        photos: (B, 3, H, W) uint8.
    """

    luma: Tensor
    uv: Tensor
    photos: Tensor

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        return (self.luma,)


class UV(Objective):
    """Mean over the pixels and over three blurs of the Euclidean distance of UV."""

    @property
    def output_bias(self) -> None:
        # BatchNorm after the last layer would take it out again; the network starts near gray by itself.
        return None

    def examples(self, photos: Tensor, *, training: bool) -> UVExamples:
        luma, uv = rgb_to_yuv(photos).split((1, 2), dim=1)
        return UVExamples(100.0 * luma, uv, photos)

    def losses(self, output: Tensor, examples: UVExamples) -> dict[str, Tensor]:
        return {"loss": blurred_distance(output, examples.uv)}

    def sums(self, output: Tensor, examples: UVExamples) -> dict[str, Tensor | int]:
        flat = self.statistics.constant.view(1, 2, 1, 1).expand_as(examples.uv)
        # In pixels of the figures, which the colors are summed over as well.
        pixels = subsampled(examples.luma).numel()
        return {
            "count": pixels,
            "loss": blurred_distance(output, examples.uv) * pixels,
            "loss_constant": blurred_distance(flat, examples.uv) * pixels,
        }

    def colors(self, output: Tensor, examples: UVExamples) -> tuple[Tensor, Tensor]:
        ab = dahl.decode(subsampled(output), subsampled(examples.luma))
        return ab, subsampled_ab(examples.photos, _FIGURES_STRIDE)


def subsampled(maps: Tensor) -> Tensor:
    """The pixels of maps (B, C, H, W) at which the colors of held-out photos are read."""
    return maps[..., ::_FIGURES_STRIDE, ::_FIGURES_STRIDE]


def blurred_distance(uv: Tensor, target: Tensor) -> Tensor:
    """Mean over all pixels, and over the blurs, of the Euclidean distance: two (B, 2, H, W) -> a scalar, float32."""
    # Blurring is linear: the blurred difference is the difference of the blurred.
    error = uv.float() - target
    distances = [(blur(error, sigma).square().sum(1) + _SMOOTH**2).sqrt().mean() for sigma in BLURS]
    return torch.stack(distances).mean()


def blur(maps: Tensor, sigma: float) -> Tensor:
    """Convolution with a Gaussian of a standard deviation in pixels, (B, C, H, W); borders are continued outwards."""
    if sigma == 0:
        return maps
    reach = round(_REACH * sigma)
    kernel = torch.exp(-(torch.arange(-reach, reach + 1, device=maps.device) ** 2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).to(maps.dtype)
    channels = maps.shape[1]
    # One direction after the other; each channel by itself.
    for shape, padding in (((-1, 1), (0, 0, reach, reach)), ((1, -1), (reach, reach, 0, 0))):
        weight = kernel.view(1, 1, *shape).expand(channels, 1, *kernel.view(shape).shape)
        maps = functional.conv2d(functional.pad(maps, padding, mode="replicate"), weight, groups=channels)
    return maps


class MedianUV:
    """The UV of the least mean distance over pixels and blurs, a geometric median, to a 512th of the range of UV."""

    cells = 512

    def __init__(self) -> None:
        self._counts = torch.zeros(self.cells, self.cells, dtype=torch.float64)

    def update(self, photos: Tensor) -> None:
        uv = rgb_to_yuv(photos)[:, 1:]
        for sigma in BLURS:
            u, v = (subsampled(blur(uv, sigma)) * self.cells).long().clamp(0, self.cells - 1).unbind(1)
            cell = (u * self.cells + v).flatten()
            self._counts += torch.bincount(cell, minlength=self.cells**2).view_as(self._counts)

    def result(self) -> Tensor:
        """(2,) float32, by Weiszfeld's iteration from the mean."""
        places = self._counts.nonzero()
        counts = self._counts[places.unbind(1)]
        points = (places.double() + 0.5) / self.cells
        median = (counts @ points) / counts.sum()
        for _ in range(100):
            weights = counts / (points - median).norm(dim=1).clamp(min=1 / self.cells)
            median = (weights @ points) / weights.sum()
        return median.float()
