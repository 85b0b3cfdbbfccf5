"""Resizing as two matrix products, which every runtime computes alike, at any size that is known only there."""

import torch
from torch import Tensor

# Of the bicubic kernel with antialiasing, as PIL and PyTorch have it.
_CUBIC = -0.5
_CUBIC_REACH = 2.0


def resize_bicubic(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Antialiased bicubic resizing to a fixed size: (B, C, H, W) -> (B, C, *size), as PyTorch's own to rounding."""
    down, across = (_bicubic(x, dim=dim, cells=cells) for dim, cells in zip((2, 3), size, strict=True))
    return down @ x @ across.T


def stretch_bilinear(x: Tensor, like: Tensor, *, seen: tuple[float, float]) -> Tensor:
    """Bilinear interpolation of a coarse map at every pixel of a photo, its border continued.

    Args:
        x: (B, C, h, w).
        like: (B, any, H, W), whose size is wanted.
        seen: the share of the map's height and width that the photo lies over.

    Returns:
        (B, C, H, W).
    """
    down, across = (_bilinear(x, like, dim=dim, share=share) for dim, share in zip((2, 3), seen, strict=True))
    return down @ x @ across.T


def _centers(count: int, x: Tensor) -> Tensor:
    return torch.arange(count, device=x.device, dtype=torch.float32) + 0.5


def _bicubic(x: Tensor, *, dim: int, cells: int) -> Tensor:
    """The weights (cells, n) of n pixels in each cell; rows sum to 1."""
    pixels = x.shape[dim]
    step = pixels / cells
    # Where a cell is smaller than a pixel nothing is smoothed away.
    width = torch.clamp(torch.full((), 1.0) * step, min=1.0)
    distance = ((_centers(pixels, x) - _centers(cells, x).unsqueeze(1) * step) / width).abs()
    near = ((_CUBIC + 2) * distance - (_CUBIC + 3)) * distance * distance + 1
    far = ((distance - 5) * distance + 8) * distance * _CUBIC - 4 * _CUBIC
    weights = torch.where(distance < 1, near, torch.where(distance < _CUBIC_REACH, far, torch.zeros_like(far)))
    return weights / weights.sum(1, keepdim=True)


def _bilinear(x: Tensor, like: Tensor, *, dim: int, share: float) -> Tensor:
    """The weights (n, cells) of the cells in each of n pixels."""
    pixels, cells = like.shape[dim], x.shape[dim]
    places = (_centers(pixels, x) * (cells * share / pixels)).clamp(0.5, cells - 0.5)
    return (1 - (places.unsqueeze(1) - _centers(cells, x)).abs()).clamp(min=0.0)
