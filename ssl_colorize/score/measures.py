"""Measures of colors in closed form, those of pictures that torchmetrics has, and the prior that rebalances."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ssl_colorize.color import nearest_bin, rebalance_weights
from ssl_colorize.data import open_photos
from ssl_colorize.prior import PriorSettings, measure_prior, read_prior
from ssl_colorize.runs import write_atomically
from ssl_colorize.score.config import ScoreSettings
from ssl_colorize.score.methods import Method, Watch

# The largest threshold of the area under the curve, in ab units (paper section 3.1).
LARGEST = 150.0
# The rarest color of ImageNet has a share of 6.1e-9. In a smaller set, less says how few photos were counted, not how
# rare the color is, and a single such pixel would outweigh all others.
RAREST = 6e-9
# What the rounding of an exact picture to 8 bits costs by itself: a mean squared error of 1/12 level.
PSNR_MOST = 58.92
PRIOR_FILE = "prior.npy"


def closeness(ab: Tensor, truth: Tensor) -> Tensor:
    """Of the thresholds from 0 to 150, the share within which each pixel's ab error lies.

    The share of pixels within a threshold, as a curve over thresholds, has an area: the mean of this over the pixels
    (swap the sum over pixels with the integral over thresholds).

    Args:
        ab: (2, H, W) in ab units.
        truth: (2, H, W).

    Returns:
        (H, W) float64 in 0..1: 1 - min(d, 150) / 150.

    >>> closeness(torch.tensor([[[0.0]], [[15.0]]]), torch.zeros(2, 1, 1)).item()
    0.9
    """
    distance = (ab.double() - truth.double()).square().sum(0).sqrt()
    return 1.0 - distance.clamp(max=LARGEST) / LARGEST


def colorfulness(pictures: Tensor) -> Tensor:
    """Hasler and Suesstrunk's M3 (2003): spread plus 0.3 times the mean of the opponent colors, both signed.

    Args:
        pictures: (B, 3, H, W) uint8 sRGB.

    Returns:
        (B,) float64: 0 for grays, about 15 slightly, 45 quite and 82 highly colorful.

    >>> colorfulness(torch.full((1, 3, 4, 4), 90, dtype=torch.uint8)).item()
    0.0
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

    >>> black = torch.zeros(1, 3, 16, 16, dtype=torch.uint8)
    >>> psnr(black + 1, black), psnr(black, black)
    (tensor([48.1308]), tensor([58.9200]))
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


# ---- rebalancing: every method of a table is weighed by the same prior, and the table says which ---------------------


@dataclass(frozen=True)
class Weighting:
    """Weights of the bins (313,) float64, and whose colors they come from, in words."""

    weights: Tensor
    about: str


def rarity_weights(prior: Tensor) -> Tensor:
    """Weights 1 / p~ of the bins, a share below that of ImageNet's rarest color counting as that.

    Args:
        prior: (313,) non-negative, smoothed.

    Returns:
        (313,) float64; only their ratios matter.

    >>> prior = torch.ones(313)
    >>> prior[7] = 2.0
    >>> weights = rarity_weights(prior)
    >>> round(float(weights[0] / weights[7]), 6)
    2.0
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

    >>> pixel_weights(torch.zeros(2, 1, 3), torch.arange(313.0)).shape
    torch.Size([1, 3])
    """
    return weights.to(truth.device)[nearest_bin(truth.unsqueeze(0))[0]]


def find_weighting(
    settings: ScoreSettings, folder: Path, methods: Sequence[Method], *, watch: Watch
) -> Weighting | None:
    """The prior of a file, of photos that are counted now, or of the first network's own training photos.

    It is kept in the run folder as prior.npy.

    Returns:
        None where no prior is given and no network has one.

    Raises:
        UserError: the file or the photos cannot be used.
    """
    trained = next((method for method in methods if method.prior is not None), None)
    if settings.prior is not None:
        prior, about = read_prior(Path(settings.prior)), f"the prior {settings.prior}"
    elif settings.prior_data:
        prior = _count(folder, settings, watch)
        about = f"the colors of {', '.join(settings.prior_data)}, counted here"
    elif trained is not None and trained.prior is not None:
        prior, about = trained.prior, f"the training photos of {trained.source}"
    else:
        return None
    encoded = io.BytesIO()
    np.save(encoded, prior.double().cpu().numpy())
    write_atomically(folder / PRIOR_FILE, encoded.getvalue())
    return kept_weighting(folder, about)


def kept_weighting(folder: Path, about: str) -> Weighting:
    """The one that a run began with."""
    return Weighting(rarity_weights(read_prior(folder / PRIOR_FILE)), about)


def _count(folder: Path, settings: ScoreSettings, watch: Watch) -> Tensor:
    photos = open_photos(settings.prior_data)
    how = PriorSettings(data=settings.prior_data, workers=settings.workers)
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        watch("Counting colors", done, len(photos))

    # What cannot be read of these photos is listed apart from the scored ones.
    place = folder / "prior"
    place.mkdir(exist_ok=True)
    try:
        return measure_prior(photos, how, place, on_batch=advance).prior
    finally:
        if not any(place.iterdir()):
            place.rmdir()
