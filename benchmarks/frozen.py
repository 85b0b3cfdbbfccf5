"""Frozen features, measured: each command judges one encoder and writes one record.

    python benchmarks/frozen.py test --encoder runs/full --data tiny-imagenet --side 64 -o full-0.json
    python benchmarks/frozen.py training --run runs/mix08 --base runs/base --data tiny-imagenet:64 -o mix08-0.json
    python benchmarks/frozen.py gray --encoder runs/full --layer conv4 --data imagenette --side 64 -o imagenette-0.json
    python benchmarks/frozen.py rank --encoder runs/full --data tiny-imagenet -o full-0.json

Protocol. Photos are resized to the short side and their center is cropped; each layer's map is averaged to at most
1,024 numbers. Probe: ridge regression whose strength is chosen on a fifth of the training photos, fitted on the other
four. Few labels: the same probe on 1% and 10% of all training photos, equally of each class, drawn three times. kNN:
the mean over the map, cosine, k 20, T 0.07, no choice. Photos with several labels (VOC): linear SVMs, one a class,
their cost chosen by cross-validation on the training photos; mean average precision. Beside each figure stands the one
on a fifth of the training photos, by which tables choose layers; the test photos are read once. `training` opens no
test photo: a part of the training photos that is set aside, the same for every run, stands in for them.
"""

import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
import numpy as np
from networks import CEILING
from numpy.typing import NDArray
from PIL import Image
from records import Record, origin, record, run_command, with_start
from torch import Tensor
from torch.nn import functional

from ssl_colorize.color import ab_bins, nearest_bin, rgb_to_lab, rgb_to_lightness
from ssl_colorize.colorize import gray as without_color
from ssl_colorize.data import LabeledDataset, Photos, choosing_split, holdout_batches, open_dataset, open_photos
from ssl_colorize.encoder import Encoder, load_encoder
from ssl_colorize.errors import UserError
from ssl_colorize.evaluate import (
    Predictions,
    extract,
    frozen,
    knn_predict,
    linear_probe,
    map_sides,
    summarize,
    svm,
    watching,
)
from ssl_colorize.models import load_pretrained
from ssl_colorize.runs import git_revision
from ssl_colorize.text import read_lines

# Most numbers that a map is averaged to.
NUMBERS = 1024
# Shares of all training photos of which few labels are known, and how often they are drawn.
FEW = {"probe-10%": 0.1, "probe-1%": 0.01}
SUBSETS = 3
COSTS = (0.1, 1.0, 10.0, 100.0)
# Settings of a run that say where, and not how.
NO_RECIPE = {"data", "train", "exclude", "prior", "evaluate_every", "checkpoint_every", "workers", "device"}

Features = NDArray[Any]

ENCODER = click.option("--encoder", "source", required=True, metavar="RUN")
OUT = click.option("-o", "--out", type=click.Path(path_type=Path, dir_okay=False), required=True, metavar="FILE.json")
DATA = click.option("--data", required=True, metavar="FOLDER")


@click.group()
def main() -> None:
    """Frozen features, measured."""


# ---- on test photos --------------------------------------------------------------------------------------------------


@main.command()
@ENCODER
@DATA
@click.option("--side", type=int, help="Short side of photos in pixels. [default: what the encoder learned at]")
@click.option("--seed", default=0, help="Of an untrained network, and of the intervals.")
@click.option("--limit", default=12_000, help="Training photos at most.")
@click.option("--leave-out", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Names of test photos.")
@OUT
def test(source: str, data: str, side: int | None, seed: int, limit: int, leave_out: Path | None, out: Path) -> None:
    """Every layer by every measure."""
    whole, test = open_dataset([data])
    train = whole.take(stratified(whole, limit))
    left_out = set() if leave_out is None else {line for _, line in read_lines(leave_out)}
    test = test.take([index for index in range(len(test)) if test.photos.name(index) not in left_out])
    encoder = load_encoder(source, seed=seed)
    side = side or encoder.input_size
    with frozen(encoder):
        found = judge(encoder, train, test, side=side, seed=seed, whole=len(whole))
    content = {
        **origin(source), "seed": seed, "data": out.absolute().parent.name, "side": side, "train": len(train),
        "test": len(test), "whole": len(whole), "git": git_revision(), "layers": found,
    }  # fmt: skip
    record(out, content)


def stratified(photos: LabeledDataset, limit: int) -> list[int]:
    """At most `limit` photos, the same for every network, in the classes' proportions."""
    if limit >= len(photos):
        return list(range(len(photos)))
    _, chosen = choosing_split(photos.labels, fraction=limit / len(photos), seed=0)
    return [int(index) for index in chosen]


def judge(
    encoder: Encoder, train: LabeledDataset, test: LabeledDataset, *, side: int, seed: int, whole: int | None = None
) -> dict[str, Record]:
    """Figures of every layer: {layer: {measure: {"top1" or "map", "low", "high", "choosing"}}}.

    Args:
        whole: number of training photos that the shares of `FEW` are of; without it they are not measured.
    """
    sizes = map_sides(encoder, encoder.layers, side, numbers=NUMBERS)
    parts = [
        extract(encoder, part.photos, resize=side, crop=side, sizes=sizes, workers=1, say=click.echo)
        for part in (train, test)
    ]
    train, test = (part.take(found.kept) for part, found in zip((train, test), parts, strict=True))
    results = {}
    for layer in encoder.layers:
        features, queries = (found.features[layer] for found in parts)
        if train.multilabel:
            results[layer] = {"svm": machines(features, train, queries, test, seed=seed)}
            continue
        one = {"probe": probe(features, train, queries, test, seed=seed)}
        for name, share in FEW.items():
            if whole is not None:
                one[name] = few_labels(features, train, queries, test, count=round(share * whole))
        cells = sizes[layer] ** 2
        features, queries = (each.reshape(len(each), -1, cells).mean(2) for each in (features, queries))
        results[layer] = one | {"knn": nearest(features, train, queries, test, seed=seed)}
    return results


def probe(features: Features, train: LabeledDataset, queries: Features, test: LabeledDataset, *, seed: int) -> Record:
    """A linear classifier in closed form."""
    found = linear_probe(features, train.labels, queries, classes=len(train.classes), seed=seed)
    return kept([Predictions.of(found.scores, test.labels)], train, found.choosing)


def few_labels(
    features: Features, train: LabeledDataset, queries: Features, test: LabeledDataset, *, count: int
) -> Record:
    """The probe where only `count` training photos have labels, drawn several times, the same for every network."""
    count = min(count, len(train) - 1)
    runs = []
    for seed in range(SUBSETS):
        _, known = choosing_split(train.labels, fraction=count / len(train), seed=seed)
        runs.append(linear_probe(features[known], train.labels[known], queries, classes=len(train.classes), seed=seed))
    choosing = statistics.mean(run.choosing for run in runs)
    predictions = [Predictions.of(run.scores, test.labels) for run in runs]
    return kept(predictions, train, choosing) | {"photos": len(known)}


def nearest(features: Features, train: LabeledDataset, queries: Features, test: LabeledDataset, *, seed: int) -> Record:
    """kNN, with the figure on the choosing part beside."""
    classes = len(train.classes)
    fit, held = choosing_split(train.labels, seed=seed)
    votes = knn_predict(features[fit], train.labels[fit], features[held], classes=classes)
    choosing = Predictions.of(votes, train.labels[held]).value
    votes = knn_predict(features, train.labels, queries, classes=classes)
    return kept([Predictions.of(votes, test.labels)], train, choosing)


def machines(
    features: Features, train: LabeledDataset, queries: Features, test: LabeledDataset, *, seed: int
) -> Record:
    """A linear SVM a class, with the figure on the choosing part beside."""
    fit, held = choosing_split(train.labels, seed=seed)
    found = svm(features[fit], train.labels[fit], features[held], costs=COSTS, seed=seed)
    choosing = Predictions.of(found.scores, train.labels[held]).value
    found = svm(features, train.labels, queries, costs=COSTS, seed=seed)
    return kept([Predictions.of(found.scores, test.labels)], train, choosing)


def kept(runs: list[Predictions], train: LabeledDataset, choosing: float) -> Record:
    """Of the figures of one layer those that tables take."""
    found = summarize(runs, train.classes, seed=0)
    return {key: value for key, value in found.items() if key not in ("per_class", "runs")} | {"choosing": choosing}


# ---- on training photos ----------------------------------------------------------------------------------------------


@main.command()
@click.option("--run", required=True)
@click.option("--base", required=True, metavar="RUN", help="The run that it differs from in a setting or two.")
@click.option("--data", "sets", multiple=True, required=True, metavar="FOLDER:SIDE")
@click.option("--limit", default=6000, help="Training photos to fit on, at most; half as many to choose on.")
@OUT
def training(run: str, base: str, sets: tuple[str, ...], limit: int, out: Path) -> None:
    """Every layer by probe and kNN, on training photos that are set aside."""
    trained = _training(run)
    found = {}
    for data in sets:
        folder, _, side = data.rpartition(":")
        if not folder or not side.isdecimal():
            raise click.UsageError(f"--data {data}: give FOLDER:SIDE, with the short side of photos in pixels.")
        fit, choose = _parts(folder, limit, limit // 2)
        encoder = load_encoder(run)
        with frozen(encoder):
            layers = judge(encoder, fit, choose, side=int(side), seed=0)
        found[Path(folder).name] = {"side": int(side), "fit": len(fit), "choose": len(choose), "layers": layers}
    content = {
        "run": Path(run).resolve().name, "changed": changes(trained["recipe"], _training(base)["recipe"]),
        "photos_seen": with_start(trained, "photos_seen"), "seconds": with_start(trained, "seconds"),
        "kl": trained["holdout"].get("kl"), "seed": trained["recipe"]["seed"], "git": git_revision(), "data": found,
    }  # fmt: skip
    record(out, content)


def changes(recipe: dict[str, Any], base: dict[str, Any]) -> dict[str, Any]:
    """What a recipe has otherwise, without the folders that only this machine has."""
    changed = {key: value for key, value in recipe.items() if value != base.get(key) and key not in NO_RECIPE}
    if recipe.get("start"):
        # It stands in for the initialization.
        changed = {key: value for key, value in changed.items() if key != "init"}
        changed["start"] = Path(recipe["start"]).name
    return changed


def _training(run: str) -> dict[str, Any]:
    training = load_pretrained(run).training
    if "recipe" not in training:
        raise UserError(f"{run} does not say how it was trained: give a run of `ssl-colorize pretrain`.")
    return dict(training)


def _parts(folder: str, fit: int, choose: int) -> tuple[LabeledDataset, LabeledDataset]:
    """Training photos to fit on, and others to choose on; never a test photo."""
    train, _ = open_dataset([folder])
    rest, held = choosing_split(train.labels, fraction=min(0.3, choose / len(train)), seed=0)
    if fit < len(rest):
        _, kept = choosing_split(train.labels[rest], fraction=fit / len(rest), seed=0)
        rest = rest[kept]
    return train.take(rest), train.take(held)


# ---- what seeing no color costs --------------------------------------------------------------------------------------


@main.command()
@ENCODER
@click.option("--layer", required=True)
@DATA
@click.option("--side", default=64)
@click.option("--limit", default=4000, help="Training photos at most.")
@OUT
def gray(source: str, layer: str, data: str, side: int, limit: int, out: Path) -> None:
    """Probe lightness, color, and both; and the ceiling on photos as they are and on gray ones.

    Colors are what a photo has and where: the share of each of the 313 ab bins in each quarter of it. How much they add
    to what the encoder sees, and what gray costs the ceiling, is what seeing no color can cost.
    """
    whole, test = open_dataset([data])
    train = whole.take(stratified(whole, limit))
    encoder, ceiling = load_encoder(source), load_encoder(CEILING)
    parts = train.photos, test.photos
    light = [seen(encoder, photos, layer=layer, side=side) for photos in parts]
    colors = [histograms(photos, side=side) for photos in parts]
    top, large = ceiling.layers[-1], ceiling.input_size
    features = {
        "lightness, by the encoder": light,
        "colors, as histograms": colors,
        "both": [np.concatenate(pair, axis=1) for pair in zip(light, colors, strict=True)],
        "the ceiling, color photos": [seen(ceiling, photos, layer=top, side=large) for photos in parts],
        "the ceiling, gray photos": [seen(ceiling, GrayPhotos(photos), layer=top, side=large) for photos in parts],
    }
    rows = {name: probe(ours, train, theirs, test, seed=0) for name, (ours, theirs) in features.items()}
    content = {
        "encoder": Path(source).resolve().name, "layer": layer, "data": Path(data).name, "side": side,
        "train": len(train), "test": len(test), "git": git_revision(), "rows": rows,
    }  # fmt: skip
    record(out, content)


class GrayPhotos(Photos):
    """Photos without their colors, still in three channels."""

    def __init__(self, photos: Photos) -> None:
        self._photos = photos

    def __len__(self) -> int:
        return len(self._photos)

    def name(self, index: int) -> str:
        return self._photos.name(index)

    def read(self, index: int, *, short_side: int | None = None) -> Image.Image:
        return without_color(self._photos.read(index, short_side=short_side)).convert("RGB")

    def take(self, indices: Iterable[int]) -> "GrayPhotos":
        return GrayPhotos(self._photos.take(indices))


def seen(encoder: Encoder, photos: Photos, *, layer: str, side: int) -> Features:
    """What an encoder makes of photos, averaged to at most 1,024 numbers."""
    sizes = map_sides(encoder, (layer,), side, numbers=NUMBERS)
    with frozen(encoder):
        return extract(encoder, photos, layers=(layer,), resize=side, crop=side, sizes=sizes, workers=1).features[layer]


def histograms(photos: Photos, *, side: int) -> NDArray[np.float32]:
    """The share of each ab bin in each quarter of each photo, (N, 313 x 4)."""
    found = []
    for batch in holdout_batches(photos, resize=side, crop=side, batch_size=64, workers=1):
        bins = nearest_bin(rgb_to_lab(batch.photos)[:, 1:])  # (B, H, W)
        masks = functional.one_hot(bins.long(), len(ab_bins())).permute(0, 3, 1, 2).float()
        found.append(functional.adaptive_avg_pool2d(masks, 2).flatten(1).numpy())
    return np.concatenate(found)


# ---- how many directions features use --------------------------------------------------------------------------------


@main.command()
@ENCODER
@click.option("--data", multiple=True, required=True, metavar="PHOTOS")
@click.option("--limit", type=int, help="Photos at most.")
@OUT
def rank(source: str, data: tuple[str, ...], limit: int | None, out: Path) -> None:
    """The effective rank of every layer, over 64 held-out photos of 64 px."""
    _, held_out = open_photos(train=data, limit=limit).holdout(0.02, most=128)
    *_, last = holdout_batches(held_out, resize=88, crop=64, batch_size=64, workers=0)
    maps = load_encoder(source)(rgb_to_lightness(last.photos))
    ranks = {layer: effective_rank(found) for layer, found in maps.items()}
    record(out, {**origin(source), "git": git_revision(), "ranks": ranks})


def effective_rank(maps: Tensor) -> float:
    """Of features (B, C, h, w), every eighth place."""
    points = maps.permute(0, 2, 3, 1).flatten(0, 2)[::8]
    return round(watching.effective_rank(points), 1)


if __name__ == "__main__":
    run_command(main)
