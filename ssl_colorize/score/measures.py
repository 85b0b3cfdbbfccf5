"""Measures of colors in closed form, and those of pictures that torchmetrics has."""

from functools import lru_cache

import torch
from torch import Tensor

from ssl_colorize.color import ab_bins, nearest_bin, rebalance_weights
from ssl_colorize.color.bins import GRID_STEP

# The largest threshold of the area under the curve, in ab units (paper section 3.1).
LARGEST = 150.0
# The rarest color of ImageNet has a share of 6.1e-9. In a smaller set, less says how few photos were counted, not how
# rare the color is, and a single such pixel would outweigh all others.
RAREST = 6e-9
# What the rounding of an exact picture to 8 bits costs by itself: a mean squared error of 1/12 level.
PSNR_MOST = 58.92
_REACH = 11


def closeness(ab: Tensor, truth: Tensor) -> Tensor:
    """Of the thresholds from 0 to 150, the share within which each pixel's ab error lies.

    The share of pixels within a threshold, as a curve over thresholds, has an area: the mean of this over the pixels
    (swap the sum over pixels with the integral over thresholds).

    Args:
        ab: (2, H, W) in ab units.
        truth: (2, H, W).

    Returns:
        (H, W) float64 in 0..1: 1 - min(d, 150) / 150.
    """
    distance = (ab.double() - truth.double()).square().sum(0).sqrt()
    return 1.0 - distance.clamp(max=LARGEST) / LARGEST


def rarity_weights(prior: Tensor) -> Tensor:
    """Weights 1 / p~ of the bins, a share below that of ImageNet's rarest color counting as that.

    Args:
        prior: (313,) non-negative, smoothed.

    Returns:
        (313,) float64; only their ratios matter.
    """
    prior = torch.as_tensor(prior).double()
    return rebalance_weights((prior / prior.sum()).clamp(min=RAREST), mix=0.0).double()


def pixel_weights(truth: Tensor, weights: Tensor) -> Tensor:
    """Each pixel's weight, that of the bin nearest to its true color.

    Args:
        truth: (2, H, W) in ab units.
        weights: (313,) of the bins.

    Returns:
        (H, W), of the weights' type.
    """
    # The bins are the points of a grid, so that rounding finds the nearest one, wherever that one is a bin: for all
    # colors of sRGB it is.
    table = _grid().to(truth.device)
    cells = (truth / GRID_STEP).round().long().clamp(-_REACH, _REACH) + _REACH
    index = table[cells[0], cells[1]]
    outside = index < 0
    if outside.any():
        index[outside] = nearest_bin(truth[:, outside].reshape(1, 2, -1, 1)).flatten()
    return weights.to(truth.device)[index]


@lru_cache
def _grid() -> Tensor:
    """The bin at each point of the grid, -1 where there is none: (23, 23) int64."""
    table = torch.full((2 * _REACH + 1, 2 * _REACH + 1), -1, dtype=torch.int64)
    places = (ab_bins() / GRID_STEP).round().long() + _REACH
    table[places[:, 0], places[:, 1]] = torch.arange(len(places))
    return table


def colorfulness(pictures: Tensor) -> Tensor:
    """Hasler and Suesstrunk's M3 (2003): spread plus 0.3 times the mean of the opponent colors, both signed.

    Args:
        pictures: (B, 3, H, W) uint8 sRGB.

    Returns:
        (B,) float64: 0 for grays, about 15 slightly, 45 quite and 82 highly colorful.
    """
    red, green, blue = pictures.double().flatten(2).unbind(1)
    opponents = torch.stack((red - green, (red + green) / 2 - blue))
    spread = opponents.var(dim=2, unbiased=False).sum(0).sqrt()
    middle = opponents.mean(dim=2).square().sum(0).sqrt()
    return spread + 0.3 * middle


def psnr(pictures: Tensor, photos: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each picture in dB, at most `PSNR_MOST`.

    Args:
        pictures: (B, 3, H, W) uint8.
        photos: (B, 3, H, W) uint8, the truth.

    Returns:
        (B,) float32.
    """
    from torchmetrics.functional.image import peak_signal_noise_ratio

    values: Tensor = peak_signal_noise_ratio(
        pictures.float(), photos.float(), data_range=255.0, reduction="none", dim=(1, 2, 3)
    )
    return values.clamp(max=PSNR_MOST)


def ssim(pictures: Tensor, photos: Tensor) -> Tensor:
    """Structural similarity of each picture, on RGB: (B, 3, H, W) uint8 twice -> (B,) float32, 1 for equal ones.

    Gaussian window of 11 px, sigma 1.5; averaged over the whole picture, which is mirrored at its borders.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    values = structural_similarity_index_measure(pictures.float(), photos.float(), data_range=255.0, reduction="none")
    assert isinstance(values, Tensor)
    return values.reshape(len(pictures))
