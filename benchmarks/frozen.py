"""What frozen features are worth: linear probe and kNN of every layer, untrained, trained by color, and by labels.

    python benchmarks/frozen.py measure --data tiny-imagenet:64 --data imagenette:96 --data VOCdevkit/VOC2012:96 \\
        --run l2=runs/l2 --run class=runs/class --run full=runs/full1800 --run full-long=runs/full
    python benchmarks/frozen.py tables

`measure` writes one JSON for each data set and network into the folder of --out, and skips those that are there;
`tables` prints them as Markdown, beside the paper's, as `report.py` has them in RESULTS.md. The number after a data
set's colon is the short side of its photos; the ceiling, ImageNet's labels, gets its own 224.

Protocol. Photos are resized to the short side and their center is cropped; each layer's map is averaged to at most
1,024 numbers. Probe: ridge regression whose strength is chosen on a fifth of the training photos, fitted on the other
four. Few labels: the same probe on 1% and 10% of all training photos, equally of each class, drawn three times. kNN:
the mean over the map, cosine, k 20, T 0.07, no choice. Photos with several labels (VOC): linear SVMs, one a class,
their cost chosen by cross-validation on the training photos; mean average precision. The test photos are read once.
Layers are chosen by the figure on a fifth of the training photos, never by the test figure. Untrained networks are
drawn with three seeds, those of every body that the runs have; a table a body. Runs of one name are draws of it, told
apart by the seeds of their trainings. --leave-out has names of test photos to leave out, such as `duplicates.py
--tested` writes.
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
    origin,
    paired,
    percent,
    record,
    recorded,
    run_study,
    sized,
    spread,
    untrained_twins,
)

from ssl_colorize.data import LabeledDataset, choosing_split, open_dataset
from ssl_colorize.encoder import Encoder, load_encoder
from ssl_colorize.errors import UserError
from ssl_colorize.evaluate.closed_form import solve
from ssl_colorize.evaluate.features import extract, frozen
from ssl_colorize.evaluate.knn import classify
from ssl_colorize.evaluate.metrics import Answers, figures
from ssl_colorize.evaluate.nearest import Features
from ssl_colorize.evaluate.neighbors import make_search
from ssl_colorize.evaluate.one_pass import map_sides
from ssl_colorize.evaluate.probe_config import ProbeSettings
from ssl_colorize.evaluate.svm import SvmSettings, normalized, train_layer
from ssl_colorize.models import load_pretrained
from ssl_colorize.runs import git_revision

DRAWS = 3
K, TEMPERATURE = 20, 0.07
MEMORY = 1 << 28
# Shares of all training photos of which few labels are known, and how often they are drawn.
FEW = {"probe-10%": 0.1, "probe-1%": 0.01}
SUBSETS = 3
MEASURES = ("probe", *FEW, "knn", "svm")
COSTS = (0.1, 1.0, 10.0, 100.0)
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
@click.option("--leave-out", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Names of test photos.")
@click.option("-o", "--out", type=click.Path(path_type=Path), default=RESULTS / "frozen")
def measure(sets: tuple[str, ...], runs: tuple[str, ...], limit: int, leave_out: Path | None, out: Path) -> None:
    """Measure every network on every set."""
    trained = seeded(paired(runs))
    for data in sets:
        folder, side = sized(data)
        whole, test = open_dataset([folder], limit=None)
        train = whole.take(stratified(whole, limit))
        left_out = set() if leave_out is None else set(leave_out.read_text("utf-8").splitlines())
        test = test.take([index for index in range(len(test)) if test.photos.name(index) not in left_out])
        for name, source, seed in networks(trained):
            path = out / Path(folder).name / f"{name}-{seed}.json"
            if path.is_file():
                continue
            encoder = load_encoder(source, seed=seed)
            # The ceiling sees photos as large as it was trained on, small ones enlarged: smaller ones would lower it.
            shown = encoder.input_size if name == "labels" else side
            with frozen(encoder):
                found = judge(encoder, train, test, side=shown, seed=seed, whole=len(whole))
            content = {
                **origin(source), "seed": seed, "data": Path(folder).name, "side": shown, "train": len(train),
                "test": len(test), "whole": len(whole), "git": git_revision(), "layers": found,
            }  # fmt: skip
            record(path, content)
            measures = next(iter(found.values()))
            chosen = {measure: "{}: {:.1%}".format(*best(found, measure)) for measure in measures}
            click.echo(f"{path}: {chosen}")


def seeded(runs: list[tuple[str, str]]) -> list[tuple[str, str, int]]:
    """Name, source and the seed of its training of every run.

    Raises:
        UserError: two runs of one name have one seed, so that one would stand for the other.
    """
    found: dict[tuple[str, int], str] = {}
    for name, source in runs:
        seed = load_pretrained(source).training.get("recipe", {}).get("seed", 0)
        if (name, seed) in found:
            other = found[name, seed]
            raise UserError(f"--run {name}={source}: {other} is {name} of seed {seed} already; give it another name.")
        found[name, seed] = source
    return [(name, source, seed) for (name, seed), source in found.items()]


def networks(trained: list[tuple[str, str, int]]) -> list[tuple[str, str, int]]:
    """Name, source and seed of every network: the trained ones' untrained twins, themselves, and the ceiling."""
    untrained: dict[str, str] = {}
    for name, run, _ in trained:
        for kind, source in untrained_twins(run).items():
            if source not in untrained.values():
                # Those of the first body are called by their kind alone.
                untrained[kind if kind not in untrained else f"{kind} {name}"] = source
    rows = [(name, source, seed) for name, source in untrained.items() for seed in range(DRAWS)]
    return [*rows, *trained, ("labels", CEILING, 0)]


def stratified(photos: LabeledDataset, limit: int) -> list[int]:
    """At most `limit` photos, the same for every network, in the classes' proportions."""
    if limit >= len(photos):
        return list(range(len(photos)))
    _, chosen = choosing_split(photos.labels, fraction=limit / len(photos), seed=0)
    return [int(index) for index in chosen]


def judge(
    encoder: Encoder, train: LabeledDataset, test: LabeledDataset, *, side: int, seed: int, whole: int | None = None
) -> dict[str, dict[str, Any]]:
    """Figures of every layer: {layer: {measure: {"top1" or "map", "low", "high", "choosing"}}}.

    Args:
        whole: number of training photos that the shares of `FEW` are of; without it they are not measured.
    """
    settings = ProbeSettings(encoder=encoder.name, data=("given",), engine="ridge", numbers=1024)
    sizes = map_sides(encoder, encoder.layers, settings, side)
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
        one = {"probe": probe(features, train, queries, test, settings=settings, seed=seed)}
        for name, share in FEW.items():
            if whole is not None:
                one[name] = few_labels(features, train, queries, test, count=round(share * whole), settings=settings)
        cells = sizes[layer] ** 2
        features, queries = (each.reshape(len(each), -1, cells).mean(2) for each in (features, queries))
        results[layer] = one | {"knn": nearest(features, train, queries, test, seed=seed)}
    return results


def probe(
    features: Features, train: LabeledDataset, queries: Features, test: LabeledDataset, *, settings: ProbeSettings,
    seed: int,
) -> dict[str, Any]:  # fmt: skip
    """A linear classifier in closed form."""
    outcome = solve(
        features, train.labels, queries, test.labels, classes=len(train.classes), settings=settings, seed=seed
    )
    return kept([outcome.answers], train, outcome.choosing)


def few_labels(
    features: Features, train: LabeledDataset, queries: Features, test: LabeledDataset, *, count: int,
    settings: ProbeSettings,
) -> dict[str, Any]:  # fmt: skip
    """The probe where only `count` training photos have labels, drawn several times, the same for every network."""
    count = min(count, len(train) - 1)
    runs = []
    for seed in range(SUBSETS):
        _, known = choosing_split(train.labels, fraction=count / len(train), seed=seed)
        labels = train.labels[known]
        runs.append(solve(
            features[known], labels, queries, test.labels, classes=len(train.classes), settings=settings, seed=seed
        ))  # fmt: skip
    choosing = statistics.mean(run.choosing for run in runs)
    return kept([run.answers for run in runs], train, choosing) | {"photos": len(known)}


def nearest(
    features: Features, train: LabeledDataset, queries: Features, test: LabeledDataset, *, seed: int
) -> dict[str, Any]:
    """kNN, with the figure on the choosing part beside."""
    classes = len(train.classes)
    fit, held = choosing_split(train.labels, seed=seed)
    choosing = neighbors(features[fit], train.labels[fit], features[held], train.labels[held], classes).figure
    return kept([neighbors(features, train.labels, queries, test.labels, classes)], train, choosing)


def machines(
    features: Features, train: LabeledDataset, queries: Features, test: LabeledDataset, *, seed: int
) -> dict[str, Any]:
    """A linear SVM a class, with the figure on the choosing part beside."""
    settings = SvmSettings(encoder="given", data=("given",), costs=COSTS, seed=seed, workers=1)
    features, queries = normalized(features), normalized(queries)
    fit, held = choosing_split(train.labels, seed=seed)
    parts = features[fit], train.take(fit), features[held], train.take(held)
    choosing = train_layer(*parts, settings).answers.figure
    return kept([train_layer(features, train, queries, test, settings).answers], train, choosing)


def kept(runs: list[Answers], train: LabeledDataset, choosing: float) -> dict[str, Any]:
    """Of the figures of one layer those that tables take."""
    found = figures(runs, train.classes, seed=0)
    return {key: value for key, value in found.items() if key not in ("per_class", "runs")} | {"choosing": choosing}


def neighbors(bank: Features, labels: Any, queries: Features, truth: Any, classes: int) -> Any:
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
        for measure in measures_of(recorded(folder / data)):
            click.echo(measured(data, measure, folder=folder) + "\n")
    click.echo(published())


def measured(data: str, measure: str, *, folder: Path = RESULTS / "frozen") -> str:
    """The tables of a data set by one measure, a body each."""
    found = recorded(folder / data)
    if not {"random", "labels"} <= found.keys():
        raise UserError(f"{folder / data} lacks the rows random and labels: run `frozen.py measure` to its end.")
    figure = "mAP" if measure == "svm" else "top-1"
    parts = []
    for body in bodies(found, measure):
        one = next(iter(body.values()))[0]
        title = f"{one['train']:,} training and {one['test']:,} test photos, short side {one['side']} px"
        parts.append(f"**{data}**, {measure}, {figure} %, {title}\n\n{table(body, measure)}")
    return "\n\n".join(parts)


def measures_of(found: dict[str, list[Draw]]) -> list[str]:
    """What was measured on a data set."""
    there = {name for draws in found.values() for one in draws[0]["layers"].values() for name in one}
    return [name for name in MEASURES if name in there]


def published() -> str:
    """The paper's table."""
    rows = [("", *(f"conv{number}" for number in range(1, 6)), "gap closed")]
    rows += [(name, *map(str, values), percent(gap(name, max(values)))) for name, values in PUBLISHED.items()]
    return f"**The paper's**, probe, ImageNet, AlexNet\n\n{markdown(rows)}"


def bodies(found: dict[str, list[Draw]], measure: str) -> list[dict[str, list[Draw]]]:
    """Networks with the same layers that were measured so, untrained ones first, the ceiling last each time."""
    found = {name: draws for name, draws in found.items() if measure in next(iter(draws[0]["layers"].values()))}
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
            spread([value(draw["layers"][layer][measure]) for draw in draws]) if name != "labels" else ""
            for layer in layers
        ]
        rows.append((name, *each, f"{'/'.join(dict.fromkeys(at))}: {spread(values)}", percent(share)))
    return markdown(rows)


def best(layers: dict[str, Any], measure: str) -> tuple[str, float]:
    """The layer that does best on the choosing part, and its test figure."""
    layer = max(layers, key=lambda name: layers[name][measure]["choosing"])
    return layer, value(layers[layer][measure])


def value(found: dict[str, Any]) -> float:
    """Top-1, or the mean average precision."""
    figure: float = found["top1"] if "top1" in found else found["map"]
    return figure


if __name__ == "__main__":
    run_study(main)
