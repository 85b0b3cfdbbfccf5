"""What frozen features are worth: linear probe and kNN of every layer, untrained, trained by colour, and by labels.

    python benchmarks/frozen.py measure --data tiny-imagenet:64 --data imagenette:96 \\
        --run l2=runs/l2 --run class=runs/class --run full=runs/full1800 --run full-long=runs/full
    python benchmarks/frozen.py tables

`measure` writes one JSON for each data set and network into the folder of --out, and skips those that are there;
`tables` prints them as Markdown, beside the paper's, as `report.py` has them in RESULTS.md. The number after a data
set's colon is the short side of its photos; the ceiling, ImageNet's labels, gets its own 224.

Protocol. Photos are resized to the short side and their centre is cropped; each layer's map is averaged to at most
1,024 numbers. Probe: ridge regression whose strength is chosen on a fifth of the training photos, fitted on the other
four. kNN: the mean over the map, cosine, k 20, T 0.07, no choice. The test photos are read once. Layers are chosen by
the figure on the fifth of the training photos, never by the test figure. Untrained networks are drawn with three seeds,
those of every body that the runs have; a table a body.
"""

import statistics
from pathlib import Path
from typing import Any

import click
import torch
from studies import (
    CEILING,
    RESULTS,
    UNTRAINED,
    closed,
    markdown,
    named,
    origin,
    percent,
    record,
    recorded,
    run_study,
    spread,
    untrained_twins,
)

from ssl_colorize.data.labelled import LabelledPhotos, choosing_split, open_labelled
from ssl_colorize.encoder import Encoder, load_encoder
from ssl_colorize.errors import UserError
from ssl_colorize.evaluate.closed_form import solve
from ssl_colorize.evaluate.features import extract, frozen
from ssl_colorize.evaluate.knn import classify
from ssl_colorize.evaluate.nearest import Features
from ssl_colorize.evaluate.neighbors import make_search
from ssl_colorize.evaluate.one_pass import map_sides
from ssl_colorize.evaluate.probe_config import ProbeSettings
from ssl_colorize.evaluate.scoring import figures
from ssl_colorize.runs import git_revision

DRAWS = 3
K, TEMPERATURE = 20, 0.07
MEMORY = 1 << 28
MEASURES = ("probe", "knn")
# What measure wrote of one network.
Draw = dict[str, Any]
# Top-1 on ImageNet, AlexNet, conv1 to conv5 (Zhang, Isola, Efros, CVPR 2017, table 2).
PUBLISHED = {
    "random": (11.6, 17.1, 16.9, 16.3, 14.1),
    "kmeans": (17.5, 23.0, 24.5, 23.2, 20.6),
    "full": (13.1, 24.8, 31.0, 32.6, 31.8),
    "labels": (19.3, 36.3, 44.2, 48.3, 50.5),
}


@click.group()
def main() -> None:
    """Frozen features, measured and tabulated."""


@main.command()
@click.option("--data", "sets", multiple=True, required=True, metavar="FOLDER:SIDE")
@click.option("--run", "runs", multiple=True, required=True, metavar="NAME=RUN")
@click.option("--limit", default=12_000, help="Training photos at most.")
@click.option("-o", "--out", type=click.Path(path_type=Path), default=RESULTS / "frozen")
def measure(sets: tuple[str, ...], runs: tuple[str, ...], limit: int, out: Path) -> None:
    """Measure every network on every set."""
    trained = named(runs)
    for data in sets:
        folder, _, side = data.rpartition(":")
        if not folder or not side.isdecimal():
            raise click.UsageError(f"--data {data}: give FOLDER:SIDE, with the short side of photos in pixels.")
        photos = open_labelled([folder], limit=None)
        train = photos[0].take(_stratified(photos[0], limit))
        for name, source, seed in networks(trained):
            path = out / Path(folder).name / f"{name}-{seed}.json"
            if path.is_file():
                continue
            encoder = load_encoder(source, seed=seed)
            # The ceiling sees photos as large as it was trained on, small ones enlarged: smaller ones would lower it.
            shown = encoder.input_size if name == "labels" else int(side)
            with frozen(encoder):
                found = judge(encoder, train, photos[1], side=shown, seed=seed)
            content = {
                **origin(source), "seed": seed, "data": Path(folder).name, "side": shown, "train": len(train),
                "test": len(photos[1]), "git": git_revision(), "layers": found,
            }  # fmt: skip
            record(path, content)
            best = {measure: f"{100 * max(one[measure]['top1'] for one in found.values()):.1f}" for measure in MEASURES}
            click.echo(f"{path}: {best}")


def networks(trained: dict[str, str]) -> list[tuple[str, str, int]]:
    """Name, source and seed of every network: the trained ones' untrained twins, themselves, and the ceiling."""
    untrained: dict[str, str] = {}
    for name, run in trained.items():
        for kind, source in untrained_twins(run).items():
            if source not in untrained.values():
                # Those of the first body are called by their kind alone.
                untrained[kind if kind not in untrained else f"{kind} {name}"] = source
    rows = [(name, source, seed) for name, source in untrained.items() for seed in range(DRAWS)]
    return [*rows, *((name, source, 0) for name, source in trained.items()), ("labels", CEILING, 0)]


def _stratified(photos: LabelledPhotos, limit: int) -> list[int]:
    """At most `limit` photos, the same for every network, in the classes' proportions."""
    if limit >= len(photos):
        return list(range(len(photos)))
    _, chosen = choosing_split(photos.labels, fraction=limit / len(photos), seed=0)
    return [int(index) for index in chosen]


def judge(
    encoder: Encoder, train: LabelledPhotos, test: LabelledPhotos, *, side: int, seed: int
) -> dict[str, dict[str, Any]]:
    """Probe and kNN of every layer: {layer: {"probe" | "knn": {"top1", "low", "high", "choosing"}}}."""
    settings = ProbeSettings(encoder=encoder.name, data=("given",), engine="ridge", numbers=1024)
    sizes = map_sides(encoder, encoder.layers, settings, side)
    parts = [
        extract(encoder, part.photos, resize=side, crop=side, sizes=sizes, workers=1, say=click.echo)
        for part in (train, test)
    ]
    labels, truth = (part.labels[found.kept] for part, found in zip((train, test), parts, strict=True))
    fit, held = choosing_split(labels, seed=seed)
    classes = len(train.classes)
    results = {}
    for layer in encoder.layers:
        bank, queries = (found.features[layer] for found in parts)
        outcome = solve(bank, labels, queries, truth, classes=classes, settings=settings, seed=seed)
        probe = figures([outcome.answers], train.classes, seed=seed) | {"choosing": outcome.choosing}
        cells = sizes[layer] ** 2
        bank, queries = (each.reshape(len(each), -1, cells).mean(2) for each in (bank, queries))
        answers = neighbours(bank, labels, queries, truth, classes)
        choosing = neighbours(bank[fit], labels[fit], bank[held], labels[held], classes).figure
        knn = figures([answers], train.classes, seed=seed) | {"choosing": choosing}
        results[layer] = {
            name: {key: one[key] for key in ("top1", "top5", "low", "high", "choosing")}
            for name, one in (("probe", probe), ("knn", knn))
        }
    return results


def neighbours(bank: Features, labels: Any, queries: Features, truth: Any, classes: int) -> Any:
    """What kNN answers."""
    search = make_search("torch", bank, device=torch.device("cpu"), memory=MEMORY)
    return classify(
        search, queries, bank_labels=labels, truth=truth, classes=classes, choices=[(K, TEMPERATURE)], memory=MEMORY
    )[K, TEMPERATURE]


@main.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True), default=RESULTS / "frozen")
def tables(folder: Path) -> None:
    """Print what was measured as Markdown."""
    for data in sorted(path.name for path in folder.iterdir() if path.is_dir()):
        for measure in MEASURES:
            click.echo(measured(data, measure, folder=folder) + "\n")
    click.echo(published())


def measured(data: str, measure: str, *, folder: Path = RESULTS / "frozen") -> str:
    """The tables of a data set by one measure, a body each."""
    found = recorded(folder / data)
    if not {"random", "labels"} <= found.keys():
        raise UserError(f"{folder / data} lacks the rows random and labels: run `frozen.py measure` to its end.")
    one = found["random"][0]
    title = f"{one['train']:,} training and {one['test']:,} test photos, short side {one['side']} px"
    return "\n\n".join(f"**{data}**, {measure}, top-1 %, {title}\n\n{table(body, measure)}" for body in bodies(found))


def published() -> str:
    """The paper's table."""
    rows = [("", *(f"conv{number}" for number in range(1, 6)), "gap closed")]
    rows += [(name, *map(str, values), percent(gap(name, max(values)))) for name, values in PUBLISHED.items()]
    return f"**The paper's**, probe, ImageNet, AlexNet\n\n{markdown(rows)}"


def bodies(found: dict[str, list[Draw]]) -> list[dict[str, list[Draw]]]:
    """Networks that have the same layers, untrained ones first, each time with the ceiling last."""
    groups: dict[tuple[str, ...], dict[str, list[Draw]]] = {}
    for name in sorted(found, key=lambda name: (kind_of(name) not in UNTRAINED, UNTRAINED[0] != kind_of(name), name)):
        if name != "labels":
            groups.setdefault(tuple(found[name][0]["layers"]), {})[name] = found[name]
    return [group | {"labels": found["labels"]} for group in groups.values()]


def kind_of(name: str) -> str:
    """What a row is, without the body that it belongs to: "random resnet18" is a "random"."""
    return name.partition(" ")[0]


def gap(name: str, best: float) -> float | None:
    """The share of the way from random to labels, for the published rows."""
    low, high = max(PUBLISHED["random"]), max(PUBLISHED["labels"])
    return None if name in ("random", "labels") else closed(best, low, high)


def table(found: dict[str, list[Draw]], measure: str) -> str:
    """A row a network: every layer, the layer chosen, and the gap closed."""
    layers = list(next(iter(found.values()))[0]["layers"])
    chosen = {name: [best(draw["layers"], measure) for draw in draws] for name, draws in found.items()}
    untrained = next(name for name in found if kind_of(name) == "random")
    low, high = (statistics.mean(value for _, value in chosen[name]) for name in (untrained, "labels"))
    rows = [("", *layers, "chosen layer", "gap closed")]
    for name, draws in found.items():
        at, values = zip(*chosen[name], strict=True)
        share = None if name in (untrained, "labels") else closed(statistics.mean(values), low, high)
        # The ceiling is another network, whose layers have other names.
        each = [
            spread([draw["layers"][layer][measure]["top1"] for draw in draws]) if name != "labels" else ""
            for layer in layers
        ]
        rows.append((name, *each, f"{'/'.join(dict.fromkeys(at))}: {spread(values)}", percent(share)))
    return markdown(rows)


def best(layers: dict[str, Any], measure: str) -> tuple[str, float]:
    """The layer that does best on the choosing part, and its test figure."""
    layer = max(layers, key=lambda name: layers[name][measure]["choosing"])
    return layer, layers[layer][measure]["top1"]


if __name__ == "__main__":
    run_study(main)
