"""What does a network that sees lightness only miss, where photos have colors?

    python benchmarks/gray.py measure --data tiny-imagenet:64 --data ./imagenette:64 --encoder runs/full --layer conv4
    python benchmarks/gray.py tables

By the probe of `frozen.py`, on the same photos: the layer of the encoder, which sees lightness; what colors a photo
has, and where (the share of each of the 313 ab bins in each quarter of it); both side by side; and the ceiling,
EfficientNet-Lite0 trained on ImageNet in color, on the photos as they are and on gray ones. How much the second adds
to the first, and what gray costs the ceiling, is what seeing no color can cost.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
import numpy as np
from frozen import probe, stratified
from numpy.typing import NDArray
from PIL import Image
from studies import CEILING, RESULTS, markdown, record, recorded, run_study, sized
from torch.nn import functional

from ssl_colorize.color import ab_bins, nearest_bin, rgb_to_lab
from ssl_colorize.colorize import gray
from ssl_colorize.data import LabeledDataset, Photos, open_dataset
from ssl_colorize.data.loading import holdout_batches
from ssl_colorize.encoder import Encoder, load_encoder
from ssl_colorize.evaluate.features import extract, frozen
from ssl_colorize.evaluate.one_pass import map_sides
from ssl_colorize.evaluate.probe_config import ProbeSettings
from ssl_colorize.runs import git_revision

QUARTERS = 2
Features = NDArray[Any]


class GrayPhotos(Photos):
    """Photos without their colors, still in three channels."""

    def __init__(self, photos: Photos) -> None:
        self._photos = photos

    def __len__(self) -> int:
        return len(self._photos)

    def name(self, index: int) -> str:
        return self._photos.name(index)

    def read(self, index: int, *, short_side: int | None = None) -> Image.Image:
        return gray(self._photos.read(index, short_side=short_side)).convert("RGB")

    def take(self, indices: Iterable[int]) -> "GrayPhotos":
        return GrayPhotos(self._photos.take(indices))


@click.group()
def main() -> None:
    """What seeing no color costs."""


@main.command()
@click.option("--data", "sets", multiple=True, required=True, metavar="FOLDER:SIDE")
@click.option("--encoder", "source", required=True, metavar="RUN")
@click.option("--layer", required=True)
@click.option("--limit", default=4_000, help="Training photos at most.")
@click.option("-o", "--out", type=click.Path(path_type=Path), default=RESULTS / "gray")
def measure(sets: tuple[str, ...], source: str, layer: str, limit: int, out: Path) -> None:
    """Probe lightness, color, and both."""
    for data in sets:
        folder, side = sized(data)
        whole, test = open_dataset([folder])
        train = whole.take(stratified(whole, limit))
        found = rows(source, layer, train, test, side=side)
        content = {
            "encoder": Path(source).resolve().name, "layer": layer, "data": Path(folder).name, "side": side,
            "train": len(train), "test": len(test), "git": git_revision(), "rows": found,
        }  # fmt: skip
        record(out / f"{Path(folder).name}-0.json", content)
        click.echo(measured(Path(folder).name, folder=out))


def rows(source: str, layer: str, train: LabeledDataset, test: LabeledDataset, *, side: int) -> dict[str, Any]:
    """The probe's figures on each kind of features."""
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
    return {
        name: probe(ours, train, theirs, test, settings=settings_of("given"), seed=0)
        for name, (ours, theirs) in features.items()
    }


def seen(encoder: Encoder, photos: Photos, *, layer: str, side: int) -> Features:
    """What an encoder makes of photos, averaged to at most 1,024 numbers."""
    sizes = map_sides(encoder, (layer,), settings_of(encoder.name), side)
    with frozen(encoder):
        return extract(encoder, photos, layers=(layer,), resize=side, crop=side, sizes=sizes, workers=1).features[layer]


def settings_of(name: str) -> ProbeSettings:
    """Of the probe."""
    return ProbeSettings(encoder=name, data=("given",), engine="ridge", numbers=1024)


def histograms(photos: Photos, *, side: int) -> NDArray[np.float32]:
    """The share of each ab bin in each quarter of each photo, (N, 4 x 313)."""
    found = []
    for batch in holdout_batches(photos, resize=side, crop=side, batch_size=64, workers=1):
        bins = nearest_bin(rgb_to_lab(batch.photos)[:, 1:])  # (B, H, W)
        masks = functional.one_hot(bins.long(), len(ab_bins())).permute(0, 3, 1, 2).float()
        found.append(functional.adaptive_avg_pool2d(masks, QUARTERS).flatten(1).numpy())
    return np.concatenate(found)


@main.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True), default=RESULTS / "gray")
def tables(folder: Path) -> None:
    """Print what was measured as Markdown."""
    for name in recorded(folder):
        click.echo(measured(name, folder=folder) + "\n")


def measured(name: str, *, folder: Path = RESULTS / "gray") -> str:
    """The table of a data set."""
    (content,) = recorded(folder)[name]
    lines: list[tuple[str, ...]] = [(f"{name}, {content['layer']} of {content['encoder']}", "top-1 % (95 %)")]
    for row, one in content["rows"].items():
        top1, low, high = (f"{100 * one[key]:.1f}" for key in ("top1", "low", "high"))
        lines.append((row, f"{top1} ({low} to {high})"))
    return markdown(lines)


if __name__ == "__main__":
    run_study(main)
