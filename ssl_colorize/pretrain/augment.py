"""Changes to the lightness that a network sees in training; the colors that it is asked for stay."""

import torch
from torch import Tensor
from torch.nn import functional

_BLUR = (0.3, 1.5)  # of a blurred photo's Gaussian, in pixels
_TRUNCATE = 4  # a Gaussian reaches so many sigma, as SciPy's does


def augment(light: Tensor, *, jitter: float, blur: float) -> Tensor:
    """Lightness as of another exposure, and of a worse lens. What is random comes from torch's global generator.

    Args:
        light: (B, 1, H, W) in 0..100.
        jitter: share by which contrast changes at most, and half of 100 by which brightness does; a draw a photo.
        blur: share of the photos that are blurred.

    Returns:
        (B, 1, H, W) in 0..100.
    """
    if jitter:
        contrast, brightness = (2 * torch.rand(2, len(light), 1, 1, 1, device=light.device) - 1) * jitter
        light = (50 + 50 * brightness + (1 + contrast) * (light - 50)).clamp(0, 100)
    if blur:
        low, high = _BLUR
        sigmas = low + (high - low) * torch.rand(len(light), device=light.device)
        chosen = torch.rand(len(light), device=light.device) < blur
        light = torch.where(chosen.view(-1, 1, 1, 1), gaussian_blur(light, sigmas), light)
    return light


def gaussian_blur(light: Tensor, sigmas: Tensor) -> Tensor:
    """Each photo blurred by its own Gaussian: (B, 1, H, W) and sigmas (B,) in pixels, at most 1.5; edges repeat."""
    reach = round(_TRUNCATE * _BLUR[1])
    cells = torch.arange(-reach, reach + 1, device=light.device)
    kernels = (-0.5 * (cells / sigmas[:, None]) ** 2).exp()
    kernels = kernels / kernels.sum(1, keepdim=True)
    # A photo a group, first down, then across.
    rows = functional.pad(light.transpose(0, 1), (reach,) * 4, mode="replicate")
    rows = functional.conv2d(rows, kernels.view(-1, 1, 2 * reach + 1, 1), groups=len(light))
    return functional.conv2d(rows, kernels.view(-1, 1, 1, 2 * reach + 1), groups=len(light)).transpose(0, 1)
