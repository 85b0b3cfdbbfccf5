"""Color statistics of the training photos: the prior, the class weights, the best constant prediction."""

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from ssl_colorize.color import ColorStatistics, rebalance_weights
from ssl_colorize.errors import UserError
from ssl_colorize.models.objectives import BestConstant, TrainingStatistics, subsampled_ab
from ssl_colorize.pretrain.config import Recipe
from ssl_colorize.prior import read_prior

# The best constant gets this share of uniform mass, so that a color the training photos lack costs it 13 nats, not
# infinitely many. It costs 0.001 nats elsewhere.
CONSTANT_FLOOR = 1e-3
# Neighboring pixels are nearly alike: networks that answer at every pixel count no more than this.
FINEST_STRIDE = 4


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
