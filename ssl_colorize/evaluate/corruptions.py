"""Photos made worse in fixed ways, each at severities 1 to 5: what a fit is robust against.

Severities of noise, blur, JPEG, contrast and brightness are ImageNet-C's (Hendrycks and Dietterich, Benchmarking Neural
Network Robustness to Common Corruptions and Perturbations, 2019), which are for photos of 224 px: widths of blur and
strengths of noise are scaled with the side of smaller ones, as they would be if a photo of 224 px were made worse and
then made smaller: the mildest blur leaves one of 64 px as it is. JPEG, contrast and brightness are as they are there;
JPEG's blocks of 8 px are large in small photos.
Hue and gray are ours, and keep every pixel's lightness: hues are turned in CIELAB, and chroma that sRGB cannot show is
lost. A network that sees lightness alone hardly moves with them.
"""

import io
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import Tensor

from ssl_colorize.color import into_gamut, rgb_to_lab, to_uint8_keeping_lightness

Array = NDArray[np.float64]

REFERENCE_SIDE = 224  # px
HUE = (30, 60, 90, 120, 180)  # degrees
NOISE = (0.08, 0.12, 0.18, 0.26, 0.38)  # standard deviation, of values in [0, 1], at the reference side
BLUR = (1, 2, 3, 4, 6)  # standard deviation in px at the reference side
JPEG = (25, 18, 15, 10, 7)  # quality
CONTRAST = (0.4, 0.3, 0.2, 0.1, 0.05)  # of the distance from each channel's mean, what is left
BRIGHTNESS = (0.1, 0.2, 0.3, 0.4, 0.5)  # added to HSV's value, in [0, 1]

SEVERITIES = (1, 2, 3, 4, 5)


def corrupt(photos: Tensor, corruption: str, severity: int, *, indices: Sequence[int], seed: int = 0) -> Tensor:
    """Photos made worse.

    Args:
        photos: (B, 3, H, W) uint8.
        corruption: "hue", "gray", "noise", "blur", "jpeg", "contrast" or "brightness".
        severity: 1 to 5; of gray 1.
        indices: which photos of a set these are: noise is drawn from (seed, severity, index), so that it is the same
            for every encoder and batch size.
        seed: of the noise.

    Returns:
        (B, 3, H, W) uint8.

    Raises:
        ValueError: there is no such corruption or severity.

    >>> photo = torch.tensor([200, 40, 90], dtype=torch.uint8).view(1, 3, 1, 1)
    >>> corrupt(photo, "brightness", 1, indices=[0]).flatten().tolist()
    [226, 45, 101]
    """
    if corruption not in CORRUPTIONS or severity not in severities_of(corruption):
        raise ValueError(f"no corruption {corruption!r} of severity {severity}")
    return CORRUPTIONS[corruption](photos, severity - 1, indices, seed)


def severities_of(corruption: str) -> tuple[int, ...]:
    """The severities that there are of a corruption."""
    return SEVERITIES[:1] if corruption == "gray" else SEVERITIES


def _hue(photos: Tensor, level: int, indices: Sequence[int], seed: int) -> Tensor:
    lab = rgb_to_lab(photos)
    angle = torch.deg2rad(torch.tensor(float(HUE[level])))
    light, a, b = lab.unbind(1)
    turned = torch.stack([light, a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()], 1)
    return to_uint8_keeping_lightness(into_gamut(turned))


def _gray(photos: Tensor, level: int, indices: Sequence[int], seed: int) -> Tensor:
    lab = rgb_to_lab(photos)
    gray = torch.cat([lab[:, :1], torch.zeros_like(lab[:, 1:])], 1)
    # All channels alike, so that there is no color left at all.
    return to_uint8_keeping_lightness(gray)[:, 1:2].expand(-1, 3, -1, -1).contiguous()


def _noise(photos: Tensor, level: int, indices: Sequence[int], seed: int) -> Tensor:
    spread = NOISE[level] * _scale(photos)
    drawn = [np.random.default_rng((seed, level, int(index))).normal(size=photos.shape[1:]) for index in indices]
    return _as_bytes(_as_array(photos) + spread * np.stack(drawn))


def _blur(photos: Tensor, level: int, indices: Sequence[int], seed: int) -> Tensor:
    width = BLUR[level] * _scale(photos)
    return _as_bytes(gaussian_filter(_as_array(photos), (0, 0, width, width), mode="nearest"))


def _jpeg(photos: Tensor, level: int, indices: Sequence[int], seed: int) -> Tensor:
    made = []
    for photo in photos.permute(0, 2, 3, 1).cpu().numpy():
        file = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(photo)).save(file, "JPEG", quality=JPEG[level])
        made.append(np.asarray(Image.open(file)))
    return torch.from_numpy(np.stack(made)).permute(0, 3, 1, 2).contiguous()


def _contrast(photos: Tensor, level: int, indices: Sequence[int], seed: int) -> Tensor:
    values = _as_array(photos)
    means = values.mean((2, 3), keepdims=True)
    return _as_bytes((values - means) * CONTRAST[level] + means)


def _brightness(photos: Tensor, level: int, indices: Sequence[int], seed: int) -> Tensor:
    values = _as_array(photos)
    highest = values.max(1, keepdims=True)
    # HSV's value is the largest channel; hue and saturation stay where all are scaled alike. Black becomes a gray.
    raised = np.minimum(highest + BRIGHTNESS[level], 1.0)
    return _as_bytes(np.where(highest > 0, values * raised / np.where(highest > 0, highest, 1.0), raised))


def _scale(photos: Tensor) -> float:
    return min(photos.shape[2:]) / REFERENCE_SIDE


def _as_array(photos: Tensor) -> Array:
    values: Array = photos.cpu().numpy() / 255.0
    return values


def _as_bytes(values: Array) -> Tensor:
    return torch.from_numpy((values.clip(0, 1) * 255).round().astype(np.uint8))


CORRUPTIONS: dict[str, Callable[[Tensor, int, Sequence[int], int], Tensor]] = {
    "hue": _hue, "gray": _gray, "noise": _noise, "blur": _blur, "jpeg": _jpeg, "contrast": _contrast,
    "brightness": _brightness,
}  # fmt: skip
