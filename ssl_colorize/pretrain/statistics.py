"""Color statistics of the training photos: the prior, the class weights, the best constant prediction."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ssl_colorize.color import ColorStatistics, ab_bins, rebalance_weights
from ssl_colorize.errors import UserError
from ssl_colorize.pretrain.config import Recipe
from ssl_colorize.pretrain.targets import subsampled_ab

# The best constant gets this share of uniform mass, so that a color the training photos lack costs it 13 nats, not
# infinitely many. It costs 0.001 nats elsewhere.
CONSTANT_FLOOR = 1e-3
# Neighboring pixels are nearly alike: networks that answer at every pixel count no more than this.
FINEST_STRIDE = 4


class BestConstant(Protocol):
    """Finds, in a stream of training photos, the one prediction that is best for all of their pixels."""

    def update(self, photos: Tensor) -> None:
        """Look at (B, 3, H, W) uint8."""

    def result(self) -> Tensor:
        """The prediction, in the form that its objective wants."""


@dataclass
class TrainingStatistics:
    """What the objective needs to know of the training photos.

    Attributes:
        prior: (313,) float32, smoothed, sums to 1.
        class_weights: (313,) float32, expectation 1 under the prior; ones without rebalancing.
        constant: float32, the objective's best constant: (313,) the distribution under its weights, for "class" and
            "l2"; (2,) UV for "dahl"; (64,) distributions of hue and chroma for "larsson".
        mean_ab: (2,) float32, the best constant color under squared error.
    """

    prior: Tensor
    class_weights: Tensor
    constant: Tensor
    mean_ab: Tensor

    def to(self, device: torch.device) -> "TrainingStatistics":
        return TrainingStatistics(*(getattr(self, name).to(device) for name in self.__dataclass_fields__))


def count_statistics(
    batches: Iterable[Tensor], recipe: Recipe, *, stride: int, best: BestConstant | None = None
) -> TrainingStatistics:
    """Count batches of training photos (B, 3, H, W) uint8.

    Args:
        stride: of the network's output; colors are counted at every so manieth pixel, but at no more than every
            fourth.
        best: finds the objective's best constant, where the colors alone do not tell it.

    Raises:
        UserError: no photo has any color, or the recipe's prior file is unusable.
    """
    counted = ColorStatistics(neighbors=recipe.neighbors, sigma=recipe.sigma)
    for photos in batches:
        counted.update(subsampled_ab(photos, max(stride, FINEST_STRIDE)))
        if best is not None:
            best.update(photos)
    if counted.photos == counted.gray_photos:
        raise UserError(f"All {counted.photos} training photos looked at are gray: colorization needs color photos.")
    prior = counted.prior(smoothing=recipe.smoothing) if recipe.prior is None else read_prior(Path(recipe.prior))
    try:
        class_weights = rebalance_weights(prior, recipe.mix) if recipe.rebalance else torch.ones(len(prior))
    except ValueError as error:
        raise UserError(f"Setting mix: {error}.") from None
    if best is None:
        constant = counted.best_constant(class_weights)
        constant = (1 - CONSTANT_FLOOR) * constant + CONSTANT_FLOOR / len(constant)
    else:
        constant = best.result()
    return TrainingStatistics(prior.float(), class_weights, constant.float(), counted.mean_ab().float())


def read_prior(path: Path) -> Tensor:
    """A prior that `ssl-colorize prior` wrote: (313,) float64, sums to 1.

    Raises:
        UserError: the file is missing, or is not 313 finite non-negative numbers.
    """
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
