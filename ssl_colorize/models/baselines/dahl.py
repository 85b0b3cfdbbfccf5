"""Dahl's colorizer (2016): a decoder of sums over a frozen VGG-16, which answers with UV."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from ssl_colorize.color import rgb_to_lab, rgb_to_luma, yuv_to_rgb
from ssl_colorize.errors import UserError
from ssl_colorize.models.baselines.vgg import IMAGENET_MEAN, IMAGENET_STD, VGG16
from ssl_colorize.models.registry import register_model

OUTPUTS = 2


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
        gray = self.normalize(lightness)
        taps = []
        for name, maps in self.convolved(gray):
            yield name, maps[-1]
            taps.append(self.get_submodule(f"{name}_norm")(maps[-1]))
        one, two, three, four = taps
        x = self.up3(_doubled(self.up4(four)) + three)
        x = self.up2(_doubled(x) + two)
        x = self.up1(_doubled(x) + one)
        yield "logits", torch.sigmoid(self.logits_norm(self.logits(self.up0(x + gray))))

    def freeze(self) -> None:
        for conv in self.convolutions():
            conv.requires_grad_(False)


def _decoding(inputs: int, channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU())


def _doubled(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


def decode(uv: Tensor, luma: Tensor) -> Tensor:
    """The ab of a prediction under the gray it was made for.

    Args:
        uv: (B, 2, H, W) in [0, 1].
        luma: (B, 1, H, W) in 0..100.

    Returns:
        ab (B, 2, H, W) float32, of the RGB that YUV stands for, clipped to sRGB.
    """
    return rgb_to_lab(yuv_to_rgb(torch.cat((luma.float() / 100.0, uv.float()), dim=1)))[:, 1:]
