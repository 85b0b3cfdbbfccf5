"""The photos of a pretraining run: those that train, and those held out, whatever the seed."""

from pathlib import Path

from ssl_colorize.data import Photos, leave_out, open_photos
from ssl_colorize.pretrain.config import Recipe


def recipe_photos(recipe: Recipe) -> tuple[Photos, Photos]:
    """The photos that a recipe trains on, which carry what was read, and those that it holds out.

    Raises:
        UserError: they cannot be had, or are too few.

    >>> train, held_out = recipe_photos(Recipe())
    >>> len(train) > len(held_out) > 0
    True
    """
    photos = open_photos(**recipe.sources, limit=recipe.limit)
    if recipe.exclude is not None:
        photos = leave_out(photos, Path(recipe.exclude))
    train, held_out = photos.holdout(recipe.holdout, most=recipe.holdout_photos)
    return train.with_reading(photos.reading), held_out
