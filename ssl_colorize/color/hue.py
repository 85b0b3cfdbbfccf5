"""Hue and chroma, the colors of Larsson et al.'s colorizer, and back to RGB under a given gray."""

import torch
from torch import Tensor

from ssl_colorize.color.yuv import unit_range


def rgb_to_hue_chroma(rgb: Tensor) -> tuple[Tensor, Tensor]:
    """HSV's hue and chroma (the largest channel less the smallest).

    Args:
        rgb: (..., 3, H, W), floats in [0, 1] or uint8 in 0..255.

    Returns:
        hue (..., H, W) float32 in [0, 1), 0 for red, 1/3 for green, and 0 where there is no chroma; chroma (..., H, W)
        in [0, 1].
    """
    values = unit_range(rgb)
    red, green, blue = values.unbind(-3)
    top = values.amax(-3)
    chroma = top - values.amin(-3)
    safe = torch.where(chroma > 0, chroma, 1.0)
    sixth = torch.where(
        top == red, (green - blue) / safe, torch.where(top == green, 2 + (blue - red) / safe, 4 + (red - green) / safe)
    )
    # A tiny negative angle wraps to 1 in float32.
    hue = (sixth / 6) % 1.0
    return torch.where(hue < 1.0, hue, 0.0), chroma


def rgb_to_mean(rgb: Tensor) -> Tensor:
    """The gray (R + G + B) / 3: (..., 3, H, W) floats in [0, 1] or uint8 -> (..., 1, H, W) float32 in [0, 1]."""
    return unit_range(rgb).mean(-3, keepdim=True)


def hue_chroma_to_rgb(hue: Tensor, chroma: Tensor, gray: Tensor) -> Tensor:
    """The RGB of a hue and chroma whose channels' mean is a given gray.

    HSV fixes the channels up to a common shift, its value V: whatever V is, here the shift is the one that gives the
    gray back. So the V = gray + chroma / 2 of the paper drops out.

    Args:
        hue: (..., H, W), of period 1.
        chroma: (..., H, W) in [0, 1].
        gray: (..., 1, H, W) in [0, 1].

    Returns:
        (..., 3, H, W) float32, clipped to [0, 1].
    """
    # A channel's share of the chroma: a trapezoid about its own hue, HSV's definition in one line.
    offsets = hue.new_tensor([0.0, 1 / 3, 2 / 3]).view(3, 1, 1)
    distance = ((hue.unsqueeze(-3) - offsets + 0.5) % 1.0 - 0.5).abs()
    share = (2 - 6 * distance).clamp(0.0, 1.0)
    rgb = chroma.unsqueeze(-3) * (share - share.mean(-3, keepdim=True)) + gray
    return rgb.clamp(0.0, 1.0)
