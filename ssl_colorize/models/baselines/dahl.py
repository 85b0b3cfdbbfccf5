"""Dahl's colorizer (2016): a decoder of sums over a frozen VGG-16, which answers with UV; network, objective, decoding.

UV are the color differences of a rounded BT.601, in which gray is only nearly 0.5.
"""

from collections.abc import Iterator, Mapping
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from ssl_colorize.color import rgb_to_lab
from ssl_colorize.errors import UserError
from ssl_colorize.models.baselines.vgg import IMAGENET_MEAN, IMAGENET_STD, VGG16, unit_range
from ssl_colorize.models.objectives import BestConstant, Objective, subsampled_ab
from ssl_colorize.models.registry import register_model

OUTPUTS = 2
# Standard deviations in pixels of what Dahl calls blurred by 3 and by 5 pixels; 0 is not blurred.
BLURS = (0.0, 3.0, 5.0)
# Of a Gaussian, everything within so many standard deviations.
_REACH = 3
# Distances are smooth below this: the length of a vector has no gradient at zero.
_SMOOTH = 1e-4
# Colors of held-out photos are read at every so manieth pixel.
_FIGURES_STRIDE = 4
# Rows Y, U, V over columns R, G, B (gamma-encoded sRGB); U and V are then shifted by 0.5.
_RGB_TO_YUV = (
    (0.299, 0.587, 0.114),
    (-0.169, -0.331, 0.499),
    (0.499, -0.418, -0.0813),
)
_MIDDLE = 0.5
# Numbers, not a tensor: exported graphs cannot invert a matrix.
_YUV_TO_RGB = torch.linalg.inv(torch.tensor(_RGB_TO_YUV, dtype=torch.float64)).tolist()


# ---- luma and color differences --------------------------------------------------------------------------------------


def rgb_to_yuv(rgb: Tensor) -> Tensor:
    """YUV of an sRGB image.

    Args:
        rgb: (..., 3, H, W), floats in [0, 1] or uint8 in 0..255.

    Returns:
        (..., 3, H, W) float32, each channel in [0, 1].

    >>> [round(value, 3) for value in rgb_to_yuv(torch.tensor([1.0, 0.0, 0.0]).view(3, 1, 1)).flatten().tolist()]
    [0.299, 0.331, 0.999]
    """
    yuv = torch.einsum("yc,...chw->...yhw", _matrix(rgb), unit_range(rgb))
    return torch.cat((yuv[..., :1, :, :], yuv[..., 1:, :, :] + _MIDDLE), dim=-3)


def rgb_to_luma(rgb: Tensor) -> Tensor:
    """Only the Y of `rgb_to_yuv`: (..., 3, H, W) -> (..., 1, H, W) float32 in [0, 1]."""
    return torch.einsum("yc,...chw->...yhw", _matrix(rgb)[:1], unit_range(rgb))


def yuv_to_rgb(yuv: Tensor) -> Tensor:
    """The inverse of `rgb_to_yuv`, clipped to [0, 1]: (..., 3, H, W) floats -> (..., 3, H, W) float32.

    >>> [round(value, 3) for value in yuv_to_rgb(torch.tensor([0.299, 0.331, 0.999]).view(3, 1, 1)).flatten().tolist()]
    [1.0, 0.0, 0.0]
    """
    yuv = yuv.float()
    centered = torch.cat((yuv[..., :1, :, :], yuv[..., 1:, :, :] - _MIDDLE), dim=-3)
    return torch.einsum("cy,...yhw->...chw", yuv.new_tensor(_YUV_TO_RGB), centered).clamp(0.0, 1.0)


def _matrix(rgb: Tensor) -> Tensor:
    return torch.tensor(_RGB_TO_YUV, device=rgb.device)


# ---- objective -------------------------------------------------------------------------------------------------------


class UVExamples(NamedTuple):
    """Photos as Dahl's network takes them, and their colors.

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

    outputs = OUTPUTS
    description = "UV, by regression"
    decodes_light = True

    @staticmethod
    def best_constant() -> BestConstant:
        return MedianUV()

    @staticmethod
    def decode(output: Tensor, light: Tensor, *, temperature: float = 0.38, bins: Tensor | None = None) -> Tensor:
        """UV (B, 2, H, W) in [0, 1] and luma (B, 1, H, W) in 0..100 -> their ab (B, 2, H, W), clipped to sRGB."""
        return rgb_to_lab(yuv_to_rgb(torch.cat((light.float() / 100.0, output.float()), dim=1)))[:, 1:]

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
        ab = self.decode(subsampled(output), subsampled(examples.luma))
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


# ---- network ---------------------------------------------------------------------------------------------------------


@register_model("dahl")
class Dahl(VGG16):
    """Luma (B, 1, H, W) in 0..100 -> UV (B, 2, H, W) in [0, 1], for H and W that are multiples of 8.

    Gray goes in as three equal channels. The last maps of the trunk's four blocks, batch-normalized, are added to the
    decoder's on its way up; ReLU follows each of its normalized convolutions but the last, where the sigmoid does.
    Upsampling is bilinear.

    Args:
        width: factor on every hidden width but the three of the decoder's end.
        outputs: 2.
    """

    target_stride = 1
    multiple = 8
    objectives: ClassVar[Mapping[str, type[Objective]]] = {"dahl": UV}

    def __init__(self, *, width: float = 1.0, outputs: int = OUTPUTS) -> None:
        if outputs != OUTPUTS:
            raise UserError(f"dahl has {OUTPUTS} outputs, U and V, not {outputs}.")
        super().__init__(width=width, outputs=outputs, inputs=3, blocks=4, normalized=False)
        c1, c2, c3, c4 = (info["num_chs"] for info in self.feature_info)
        for name, channels in zip(self.blocks, (c1, c2, c3, c4), strict=True):
            self.add_module(f"{name}_norm", nn.BatchNorm2d(channels))
        self.up4 = nn.Sequential(nn.Conv2d(c4, c3, 1), nn.ReLU())
        self.up3, self.up2, self.up1 = _decoding(c3, c2), _decoding(c2, c1), _decoding(c1, 3)
        self.up0 = _decoding(3, 3)
        self.logits = nn.Conv2d(3, OUTPUTS, 3, padding=1)
        self.logits_norm = nn.BatchNorm2d(OUTPUTS)
        # The first predictions hardly stray from gray.
        nn.init.constant_(self.logits_norm.weight, 0.1)
        for name, values in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD)):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)

    def light(self, rgb: Tensor) -> Tensor:
        return 100.0 * rgb_to_luma(rgb)

    def normalize(self, light: Tensor) -> Tensor:
        """(B, 1, H, W) in 0..100 -> (B, 3, H, W) as ImageNet's VGG-16 takes it."""
        return (light / 100.0 - self.get_buffer("mean")) / self.get_buffer("std")

    def stages(self, lightness: Tensor) -> Iterator[tuple[str, Tensor]]:
        gray = self.prepared(lightness)
        taps = []
        for name, maps in self.convolved(gray):
            yield name, maps[-1]
            taps.append(self.get_submodule(f"{name}_norm")(maps[-1]))
        one, two, three, four = taps
        x = self.up3(_doubled(self.up4(four)) + three)
        x = self.up2(_doubled(x) + two)
        x = self.up1(_doubled(x) + one)
        yield "logits", torch.sigmoid(self.logits_norm(self.logits(self.up0(x + gray))))

    def freeze_trunk(self) -> None:
        for conv in self.convolutions():
            conv.requires_grad_(False)


def _decoding(inputs: int, channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU())


def _doubled(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
