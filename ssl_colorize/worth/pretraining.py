"""The network that is pretrained on the photos in question, never on a test photo."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ssl_colorize.config import TrainingSources
from ssl_colorize.data import LabeledDataset, Photos, open_photos
from ssl_colorize.data.reading import Reading, listening
from ssl_colorize.engine.checkpoint import CHECKPOINT_NAME
from ssl_colorize.engine.log import read_log
from ssl_colorize.pretrain.config import Recipe
from ssl_colorize.pretrain.loop import train
from ssl_colorize.runs import write_atomically
from ssl_colorize.worth.config import WorthSettings

# What `train` writes last.
FINISHED = "metrics.json"
# Steps to time before so many are chosen that take the minutes asked for; the first ones are slower.
_TIMED, _SLOW = 12, 4


def pretraining_photos(settings: WorthSettings) -> Photos:
    """All photos that there are to pretrain on, those with labels among them; test photos may be, too."""
    return open_photos(**_sources(settings))


def _sources(settings: WorthSettings) -> TrainingSources:
    """Beside the photos to train on, those without labels."""
    if settings.data:
        return {"data": (*settings.data, *settings.unlabeled), "train": ()}
    return {"data": (), "train": (*settings.train, *settings.unlabeled)}


def names_of_tested(photos: Photos, tested: Photos) -> list[str]:
    """Names in `photos` of the files that are test photos, under whatever name they come there."""
    stamps = {tested.stamp(index) for index in range(len(tested))}
    return [photos.name(index) for index in range(len(photos)) if photos.stamp(index) in stamps]


def pretrained(settings: WorthSettings, folder: Path, photos: Photos, test: LabeledDataset) -> dict[str, Any]:
    """Pretrain into a folder, go on with a run that was stopped there, or leave a finished one as it is.

    Args:
        photos: from `pretraining_photos`.
        test: whose photos are left out.

    Returns:
        The content of metrics.json.

    Raises:
        UserError: the recipe or the photos cannot be used.
        Interrupted: after SIGINT or SIGTERM, with everything saved.
    """
    done = folder / FINISHED
    if done.is_file():
        return dict(json.loads(done.read_text("utf-8")))
    folder.mkdir(exist_ok=True)
    if (folder / CHECKPOINT_NAME).is_file():
        return train(Recipe.resolve(file=folder / "config.yaml"), folder, resume=True)
    exclude = None
    if tested := names_of_tested(photos, test.photos):
        exclude = folder / "tested.txt"
        write_atomically(exclude, "".join(f"{name}\n" for name in tested))
    recipe = recipe_of(settings, exclude)
    if settings.steps is None:
        assert settings.minutes is not None
        recipe = with_steps(recipe, steps_in(settings.minutes, recipe))
    return train(recipe, folder)


def recipe_of(settings: WorthSettings, exclude: Path | None = None) -> Recipe:
    """The recipe on the photos in question."""
    flags: dict[str, Any] = {
        **{name: items for name, items in _sources(settings).items() if items},
        "exclude": None if exclude is None else str(exclude), "start": settings.start, "seed": settings.seed,
        "workers": settings.workers, "device": settings.device,
    }  # fmt: skip
    recipe = Recipe.resolve(file=settings.recipe, flags=flags)
    return recipe if settings.steps is None else with_steps(recipe, settings.steps)


def with_steps(recipe: Recipe, steps: int) -> Recipe:
    """A recipe for so many steps: a short one warms up for a tenth of them, and is evaluated at its end."""
    warmup = min(recipe.warmup, steps // 10)
    return recipe.model_copy(update={"steps": steps, "epochs": None, "warmup": warmup, "evaluate_every": steps})


def steps_in(minutes: float, recipe: Recipe) -> int:
    """About how many steps of a recipe this machine takes in so many minutes: some are taken and timed."""
    short = with_steps(recipe, _TIMED).model_copy(
        update={"prior_photos": recipe.batch_size, "init": "plain", "holdout_photos": 1, "start": None}
    )
    # What it says of twelve steps is nothing to worry about.
    with TemporaryDirectory() as folder, listening(_Nobody()), redirect_stderr(StringIO()):
        train(short, Path(folder))
        rates = [row["photos_per_second"] for row in read_log(Path(folder))][_SLOW:]
    rate = float(statistics.median(rates))
    return max(1, round(minutes * 60 * rate / recipe.batch_size))


class _Nobody:
    """Hears nothing of what is read only to be timed."""

    def hear(self, reading: Reading) -> None: ...

    def pass_over(self, reason: str, names: Iterable[str]) -> None: ...
