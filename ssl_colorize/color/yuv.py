"""The luma and color differences of Dahl's colorizer: a rounded BT.601, in which gray is only nearly 0.5."""

import torch
from torch import Tensor

# Rows Y, U, V over columns R, G, B (gamma-encoded sRGB); U and V are then shifted by 0.5.
_RGB_TO_YUV = (
    (0.299, 0.587, 0.114),
    (-0.169, -0.331, 0.499),
    (0.499, -0.418, -0.0813),
)
_MIDDLE = 0.5
# Numbers, not a tensor: exported graphs cannot invert a matrix.
_YUV_TO_RGB = torch.linalg.inv(torch.tensor(_RGB_TO_YUV, dtype=torch.float64)).tolist()


def rgb_to_yuv(rgb: Tensor) -> Tensor:
    """YUV of an sRGB image.

    Args:
        rgb: (..., 3, H, W), floats in [0, 1] or uint8 in 0..255.

    Returns:
        (..., 3, H, W) float32, each channel in [0, 1].
    """
    yuv = torch.einsum("yc,...chw->...yhw", _matrix(rgb), unit_range(rgb))
    return torch.cat((yuv[..., :1, :, :], yuv[..., 1:, :, :] + _MIDDLE), dim=-3)


def rgb_to_luma(rgb: Tensor) -> Tensor:
    """Only the Y of `rgb_to_yuv`: (..., 3, H, W) -> (..., 1, H, W) float32 in [0, 1]."""
    return torch.einsum("yc,...chw->...yhw", _matrix(rgb)[:1], unit_range(rgb))


def yuv_to_rgb(yuv: Tensor) -> Tensor:
    """The inverse of `rgb_to_yuv`, clipped to [0, 1]: (..., 3, H, W) floats -> (..., 3, H, W) float32."""
    yuv = yuv.float()
    centered = torch.cat((yuv[..., :1, :, :], yuv[..., 1:, :, :] - _MIDDLE), dim=-3)
    return torch.einsum("cy,...yhw->...chw", yuv.new_tensor(_YUV_TO_RGB), centered).clamp(0.0, 1.0)


def unit_range(rgb: Tensor) -> Tensor:
    """uint8 in 0..255, or floats in [0, 1], as float32 in [0, 1]."""
    return rgb.float() / 255.0 if rgb.dtype == torch.uint8 else rgb.float()


def _matrix(rgb: Tensor) -> Tensor:
    return torch.tensor(_RGB_TO_YUV, device=rgb.device)
