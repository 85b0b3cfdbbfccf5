"""The sheet of held-out photos that ends a pretraining run: gray | predicted | true."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from ssl_colorize.colorize import Colorizer, gray
from ssl_colorize.data import Photos, UnreadablePhoto, open_photos
from ssl_colorize.pretrain.config import Recipe
from ssl_colorize.report.sheets import photo_sheet

# Enough pixels for a cell of the sheet on a dense screen.
CELL = 192


def samples_sheet(folder: Path, recipe: Recipe, *, count: int = 8) -> Path:
    """Color some of a run's held-out photos and write samples.png into its folder; returns the path.

    The photos are spread evenly over the held-out set, whatever they look like.

    Raises:
        UserError: the folder holds no network, or the photos are no longer there.
    """
    _, held_out = open_photos(recipe.data, limit=recipe.limit).holdout(recipe.holdout, most=recipe.holdout_photos)
    colorizer = Colorizer.load(folder, device=recipe.device)
    rows = [(gray(photo), colorizer.colorize(photo), photo) for photo in _spread(held_out, count)]
    path = folder / "samples.png"
    if rows:
        photo_sheet(rows, ("gray", "predicted", "true"), path, cell=CELL, groups=2)
    return path


def _spread(photos: Photos, count: int) -> list[Image.Image]:
    """Up to `count` readable photos at even distances, no larger than the sheet needs."""
    count = min(count, len(photos))
    chosen = []
    for place in range(count):
        try:
            photo = photos.read((2 * place + 1) * len(photos) // (2 * count), short_side=2 * CELL)
        except UnreadablePhoto:
            continue
        photo.thumbnail((4 * CELL, 4 * CELL))
        chosen.append(photo)
    return chosen
