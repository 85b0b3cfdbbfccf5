"""The prior: how common each color is in a set of photos, measured one batch at a time, and read from a file.

The settings are here, so torch is imported only where photos are read: `--help` does not wait for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from ssl_colorize.config import BatchSize, Limit, OneOrMany, TrainingSource, Workers
from ssl_colorize.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from ssl_colorize.data import Photos


class PriorSettings(TrainingSource):
    """Settings of `ssl-colorize prior`; those that pretraining has too mean the same there."""

    data: OneOrMany[str] = Field(
        ("samples",),
        description="a folder of photos, a list, a torchvision data set (cifar10, stl10, imagenette, ...) or samples",
    )
    limit: Limit = None
    size: PositiveInt = Field(256, description="photos are resized to this short side, and their center square counted")
    stride: PositiveInt = Field(4, description="every so manieth pixel, as in the training targets")
    neighbors: Annotated[int, Field(ge=1, le=313)] = Field(
        5, description="bins that share a pixel's color: 5 in the paper, 10 in its released code"
    )
    sigma: PositiveFloat = Field(5.0, description="of the soft code, in ab units")
    smoothing: NonNegativeFloat = Field(5.0, description="sigma of the prior's smoothing, in ab units")
    mix: Annotated[float, Field(ge=0, le=1)] = Field(
        0.5, description="share of the uniform distribution in the weights: 1 weighs all colors alike"
    )
    batch_size: BatchSize = 32
    workers: Workers = 2


@dataclass(frozen=True)
class MeasuredPrior:
    """The colors of a set of photos.

    Attributes:
        prior: (313,) float64, smoothed, sums to 1.
        weights: (313,) float32, the class weights, expectation 1 under the prior.
        photos: how many were counted.
        gray_photos: how many of them have no color (no |a| or |b| above 5).
        unreadable: how many were skipped.
        pixels: how many pixels were counted.
    """

    prior: Tensor
    weights: Tensor
    photos: int
    gray_photos: int
    unreadable: int
    pixels: int

    def figures(self) -> dict[str, float | int]:
        """The figures of metrics.json."""
        import torch

        return {
            "entropy": -float(torch.xlogy(self.prior, self.prior).sum()),
            "max": float(self.prior.max()),
            "min": float(self.prior.min()),
            "weight_max": float(self.weights.max()),
            "weight_min": float(self.weights.min()),
            "gray_share": self.gray_photos / self.photos,
            "photos": self.photos,
            "unreadable": self.unreadable,
            "pixels": self.pixels,
        }


def measure_prior(
    photos: Photos, settings: PriorSettings, folder: Path, *, on_batch: Callable[[int], None] = lambda photos: None
) -> MeasuredPrior:
    """Stream all photos once.

    Args:
        photos: what to read.
        settings: how.
        folder: the run folder, which lists the unreadable photos.
        on_batch: told after each batch how many photos it covered, unreadable ones included.

    Raises:
        UserError: most photos are unreadable, or mix is 0 and some color does not occur at all.
    """
    from ssl_colorize.color import ColorStatistics, rebalance_weights
    from ssl_colorize.data import UnreadableLog, holdout_batches
    from ssl_colorize.models.objectives import subsampled_ab

    counted = ColorStatistics(neighbors=settings.neighbors, sigma=settings.sigma)
    log = UnreadableLog(folder, len(photos))
    pixels = 0
    batches = holdout_batches(
        photos, resize=settings.size, crop=settings.size, batch_size=settings.batch_size, workers=settings.workers
    )
    for batch in batches:
        log.add(batch.unreadable, read=len(batch.photos))
        ab = subsampled_ab(batch.photos, settings.stride)
        counted.update(ab)
        pixels += ab[:, 0].numel()
        on_batch(len(batch.photos) + len(batch.unreadable))
    prior = counted.prior(smoothing=settings.smoothing)
    try:
        weights = rebalance_weights(prior, settings.mix)
    except ValueError as error:
        raise UserError(f"Setting mix: {error}.") from None
    return MeasuredPrior(prior, weights, counted.photos, counted.gray_photos, len(log), pixels)


def read_prior(path: Path) -> Tensor:
    """A prior that `ssl-colorize prior` wrote: (313,) float64, sums to 1.

    Raises:
        UserError: the file is missing, or is not 313 finite non-negative numbers.
    """
    import numpy as np
    import torch

    from ssl_colorize.color import ab_bins

    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"Cannot read the prior {path}: {reason}. `ssl-colorize prior` writes one.") from None
    size = len(ab_bins())
    numbers = isinstance(values, np.ndarray) and values.dtype.kind in "fiu" and values.shape == (size,)
    if not numbers or not np.isfinite(values).all() or (values < 0).any() or values.sum() <= 0:
        raise UserError(f"The prior {path} must hold {size} numbers that are not negative; `ssl-colorize prior` does.")
    return torch.from_numpy(values.astype(np.float64) / values.sum())
