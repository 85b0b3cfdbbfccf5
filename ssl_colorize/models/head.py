"""From the maps of several stages to one: hypercolumns (Hariharan et al. 2015; Larsson et al. 2016), reduced first."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

REDUCED, FUSED = 128, 256


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
