"""A fit judged once more: on further test sets, and on the test photos made worse."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ssl_colorize.data import LabeledDataset, holdout_batches
from ssl_colorize.errors import UserError
from ssl_colorize.evaluate.corruptions import CORRUPTIONS, corrupt, severities_of
from ssl_colorize.evaluate.metrics import Predictions, Rows, bootstrap_draws, drawn_precisions, ends, summarize

if TYPE_CHECKING:
    from ssl_colorize.evaluate.runner import Runner
    from ssl_colorize.evaluate.settings import JudgingSettings

# Gives the scores (B, C) of photos (B, 3, H, W), uint8, by the name of what is judged.
Scorer = Callable[[Tensor], Mapping[Any, Any]]
# What was predicted for a further test set, ("also", its name), or for the test photos made worse, ("noise", "3").
Further = dict[tuple[str, str], Predictions]

ALSO = "also"
# Of mean average precision, each of which takes a while.
DRAWS = 200


def judge_further(runner: Runner[Any], scorers: Sequence[Scorer]) -> list[dict[Any, Further]]:
    """What several fits predict for the further test sets, and for the test photos made worse.

    Every photo is decoded once, whatever is done to it, and for all fits.

    Returns:
        For each scorer by the names that it gives; nothing where the settings ask for nothing.
    """
    settings: JudgingSettings = runner.settings
    asked: list[tuple[LabeledDataset, list[tuple[str, str]]]] = [
        (part, [(ALSO, name)]) for name, part in runner.further.items()
    ]
    if settings.corrupt:
        asked.append((runner.test, conditions(settings.severities)))
    found: list[dict[Any, Further]] = [{} for _ in scorers]
    for part, what in asked:
        for one, more in zip(found, _predicted(runner, scorers, part, what), strict=True):
            for name, predictions in more.items():
                one.setdefault(name, {}).update(predictions)
    return found


def conditions(severities: Sequence[int]) -> list[tuple[str, str]]:
    """Every corruption at every severity that there is of it."""
    return [
        (corruption, str(severity))
        for corruption in CORRUPTIONS
        for severity in sorted({min(each, severities_of(corruption)[-1]) for each in severities})
    ]


def _predicted(
    runner: Runner[Any], scorers: Sequence[Scorer], part: LabeledDataset, what: Sequence[tuple[str, str]]
) -> list[dict[Any, Further]]:
    settings = runner.settings
    words = f"Judging {what[0][1]}" if what[0][0] == ALSO else "Judging photos made worse"
    parts: list[dict[Any, dict[tuple[str, str], list[Predictions]]]] = [{} for _ in scorers]
    done, unreadable = 0, list[str]()
    for batch in holdout_batches(
        part.photos, resize=settings.resize, crop=settings.crop, batch_size=settings.batch_size,
        workers=settings.workers,
    ):  # fmt: skip
        labels = part.labels[batch.indices.numpy()]
        for condition in what:
            photos = batch.photos
            if condition[0] != ALSO:
                photos = corrupt(
                    photos, condition[0], int(condition[1]), indices=batch.indices.tolist(), seed=settings.seed
                )
            for scorer, kept in zip(scorers, parts, strict=True):
                for name, scores in scorer(photos).items():
                    kept.setdefault(name, {}).setdefault(condition, []).append(Predictions.of(scores, labels))
        unreadable += batch.unreadable
        done += len(batch.photos) + len(batch.unreadable)
        runner.watch(words, done, len(part))
    # Those of the test photos were told when these were read as they are.
    if unreadable and what[0][0] == ALSO:
        more = f", and {len(unreadable) - 1} more" if len(unreadable) > 1 else ""
        runner.say(f"{what[0][1]}: left out, as it cannot be read: {unreadable[0]}{more}.")
    return [
        {
            name: {condition: Predictions.joined(each) for condition, each in found.items()}
            for name, found in one.items()
        }
        for one in parts
    ]


# ---- figures ---------------------------------------------------------------------------------------------------------


def summarize_further(
    test: Sequence[Predictions], runs: Sequence[Further], classes: Sequence[str], *, seed: int
) -> dict[str, Any]:
    """The figures of one head over the runs of several seeds.

    Args:
        test: what each run predicted for the test photos as they are, which drops are counted from.
        runs: and for all the rest.

    Returns:
        "also": figures as of `summarize` by the name of the set, with "photos"; "corrupt": {corruption: {severity:
        {"top1" (or "map"), "low", "high", "drop", "drop_low", "drop_high"}}}, with the mean over the severities as
        "mean". Intervals of drops are of the paired bootstrap: the same photos are drawn for both. Neither key where
        there is nothing to file under it.

    Raises:
        UserError: photos could not be read any more.
    """
    found: dict[str, Any] = {}
    for kind, name in runs[0]:
        each = [run[kind, name] for run in runs]
        if kind == ALSO:
            figures = summarize(each, classes, seed=seed)
            del figures["per_class"]
            found.setdefault("also", {})[name] = figures | {"photos": len(each[0].truth)}
    worse = {key: [run[key] for run in runs] for key in runs[0] if key[0] != ALSO}
    for one in worse.values():
        if any(len(each.truth) != len(clean.truth) for each, clean in zip(one, test, strict=True)):
            raise UserError("Some test photos could be read only once: photos changed meanwhile. Repeat the run.")
    if worse:
        found["corrupt"] = _worse(test, worse, seed)
    return found


def _worse(
    test: Sequence[Predictions], worse: Mapping[tuple[str, str], Sequence[Predictions]], seed: int
) -> dict[str, Any]:
    values, draws = _drawn([test, *worse.values()], seed)
    # A photo drawn twice raises precision: the draws are moved to have their mean where the figure is.
    draws += values - draws.mean(0)
    name = "top1" if test[0].ranks is not None else "map"

    def figures(columns: Sequence[int]) -> dict[str, float]:
        """Of the mean of some columns; the first of all is of the photos as they are."""
        value, each = values[columns].mean(), draws[:, columns].mean(1)
        (low, high), (drop_low, drop_high) = ends(each), ends(draws[:, 0] - each)
        return {name: float(value), "low": low, "high": high, "drop": float(values[0] - value),
                "drop_low": drop_low, "drop_high": drop_high}  # fmt: skip

    found: dict[str, Any] = {}
    for corruption in dict.fromkeys(corruption for corruption, _ in worse):
        places = {severity: place for place, (other, severity) in enumerate(worse, 1) if other == corruption}
        found[corruption] = {severity: figures([place]) for severity, place in places.items()}
        found[corruption]["mean"] = figures(list(places.values()))
    return found


def _drawn(predictions: Sequence[Sequence[Predictions]], seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Top-1, or mean average precision, of K sets of runs on the same photos: (K,), and of draws (draws, K)."""
    first, count = predictions[0][0], len(predictions[0][0].truth)
    values = np.array([np.mean([run.value for run in runs]) for runs in predictions])
    if first.ranks is not None:
        right = np.stack([
            np.mean([run.ranks < 1 for run in runs if run.ranks is not None], axis=0) for runs in predictions
        ])  # fmt: skip
        return values, bootstrap_draws(lambda rows: right[:, rows].mean(1), count, seed=seed)
    known = (first.truth == 1).any(0)
    each = [[drawn_precisions(run.scores, run.truth) for run in runs if run.scores is not None] for runs in predictions]

    def precisions(rows: Rows) -> NDArray[np.float64]:
        # A class of which no photo is drawn says nothing of this draw.
        return np.array([np.mean([np.nanmean(one(rows)[known]) for one in runs]) for runs in each])

    return values, bootstrap_draws(precisions, count, seed=seed, draws=DRAWS)
