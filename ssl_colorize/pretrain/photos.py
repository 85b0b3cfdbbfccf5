"""The photos of a pretraining run: those that train, and those held out, whatever the seed and whenever it goes on."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from ssl_colorize.data import Photos, leave_out, open_photos
from ssl_colorize.data.fingerprint import Fingerprint
from ssl_colorize.data.photos import SeveralSets
from ssl_colorize.engine.checkpoint import CHECKPOINT_NAME, load_checkpoint
from ssl_colorize.errors import UserError
from ssl_colorize.pretrain.config import Recipe

# Of run, as checkpoints name it.
KIND = "pretrain"


def recipe_photos(recipe: Recipe, before: Mapping[str, Tensor] | None = None) -> tuple[Photos, Photos]:
    """The photos that a recipe trains on, which carry what was read, and those that it holds out.

    Args:
        recipe: of the run.
        before: the fingerprint that its checkpoint keeps: what was held out stays held out, and what it learned from
            is never held out.

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
    known = Fingerprint.restored(before)
    if known is not None and known.changes(Fingerprint.of(train=train, held_out=held_out)):
        every = SeveralSets([train, held_out])
        out = known.held_out_before(every, range(len(train), len(every)), learned="train", kept="held_out")
        kept = sorted(set(range(len(every))).difference(out))
        if not out or not kept:
            raise UserError("Of the photos that this run held out none is left: put them back, or begin a new run.")
        train, held_out = every.take(kept), every.take(out)
    return train.with_reading(photos.reading), held_out


def held_out_by(folder: Path, recipe: Recipe) -> Photos:
    """The photos that the run in a folder held out.

    Raises:
        UserError: they are no longer there, or the checkpoint is damaged.
    """
    saved = load_checkpoint(folder, KIND).extra if (folder / CHECKPOINT_NAME).is_file() else {}
    return recipe_photos(recipe, saved.get("photos"))[1]
