"""Which recipe teaches the features most: runs that differ in a setting or two, judged on training photos.

    python benchmarks/recipes.py measure --data tiny-imagenet:64 --data ./imagenette:64 --base runs/base \\
        --run kmeans=runs/kmeans --run nn10=runs/nn10
    python benchmarks/recipes.py tables

`measure` judges the run of --base and those of --run by frozen features, writes one JSON a run into the folder of
--out, and skips those that are there. The base may be given a second time with another seed, to see what chance does.

Protocol. That of `frozen.py`, but a part of the training photos that is set aside, the same for every run, stands in
for the test photos, which nothing here opens: what is chosen by these figures may still be measured on them.
"""

import statistics
from pathlib import Path
from typing import Any

import click
from frozen import judge
from studies import RESULTS, in_all, markdown, named, record, recorded, run_study, sized

from ssl_colorize.data import LabeledDataset, choosing_split, open_dataset
from ssl_colorize.encoder import load_encoder
from ssl_colorize.errors import UserError
from ssl_colorize.evaluate.features import frozen
from ssl_colorize.models import load_pretrained
from ssl_colorize.runs import git_revision

BASE = "base"
# Settings that say where, and not how.
NO_RECIPE = {"data", "exclude", "prior", "evaluate_every", "checkpoint_every", "workers", "device"}


@click.group()
def main() -> None:
    """Recipes, measured and tabulated."""


@main.command()
@click.option("--data", "sets", multiple=True, required=True, metavar="FOLDER:SIDE")
@click.option("--base", required=True, metavar="RUN", help="What the others differ from.")
@click.option("--run", "runs", multiple=True, metavar="NAME=RUN")
@click.option("--fit", default=6000, help="Training photos to fit on, at most.")
@click.option("--choose", default=3000, help="Training photos to choose on, at most.")
@click.option("-o", "--out", type=click.Path(path_type=Path), default=RESULTS / "recipes")
def measure(sets: tuple[str, ...], base: str, runs: tuple[str, ...], fit: int, choose: int, out: Path) -> None:
    """Judge every run on photos of the training sets."""
    recipe = _training(base)["recipe"]
    parts: dict[tuple[str, int], tuple[LabeledDataset, LabeledDataset]] = {}
    for name, run in {BASE: base, **named(runs)}.items():
        path = out / f"{name}-0.json"
        if path.is_file():
            continue
        training = _training(run)
        changed = changes(training["recipe"], recipe)
        found = {}
        for data in sets:
            folder, side = sized(data)
            key = (folder, side)
            parts[key] = parts.get(key) or _parts(folder, fit, choose)
            encoder = load_encoder(run)
            with frozen(encoder):
                layers = judge(encoder, *parts[key], side=side, seed=0)
            found[Path(folder).name] = {
                "side": side, "fit": len(parts[key][0]), "choose": len(parts[key][1]), "layers": layers
            }  # fmt: skip
        content = {
            "run": Path(run).resolve().name, "changed": changed,
            "photos_seen": in_all(training, "photos_seen"), "seconds": in_all(training, "seconds"),
            "kl": training["holdout"].get("kl"), "seed": training["recipe"]["seed"],
            "git": git_revision(), "data": found,
        }  # fmt: skip
        record(path, content)
        click.echo(" | ".join(row(name, content)))


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


@main.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True), default=RESULTS / "recipes")
def tables(folder: Path) -> None:
    """Print what was measured as Markdown."""
    click.echo(measured(folder=folder))


def measured(*, folder: Path = RESULTS / "recipes") -> str:
    """The table of all recipes, the base first."""
    found = {name: draws[0] for name, draws in recorded(folder).items()}
    if BASE not in found:
        raise UserError(f"{folder} lacks the run {BASE}: run `recipes.py measure`.")
    order = sorted(found, key=lambda name: (name != BASE, -score(found[name])))
    heads = [f"{data}, {what}" for data in found[BASE]["data"] for what in ("best layer", "conv3 to conv7", "kNN")]
    rows = [("", "what differs", "photos seen", "KL", *heads, "mean")]
    return markdown([*rows, *(row(name, found[name]) for name in order)])


def row(name: str, content: dict[str, Any]) -> tuple[str, ...]:
    """A run's line: what differs from the base, what it cost, and its figures in percent."""
    words = ", ".join(f"{key} {value}" for key, value in content["changed"].items())
    kl = "" if content["kl"] is None else f"{content['kl']:.3f}"
    cells = [f"{100 * value:.1f}" for found in content["data"].values() for value in summary(found["layers"])]
    return name, words, f"{content['photos_seen']:,}", kl, *cells, f"{100 * score(content):.1f}"


def summary(layers: dict[str, Any]) -> tuple[float, float, float]:
    """Probe of the best layer, the mean over the deeper half's layers, and kNN of the best layer."""
    probe = [found["probe"]["top1"] for found in layers.values()]
    return max(probe), statistics.mean(probe[2:]), max(found["knn"]["top1"] for found in layers.values())


def score(content: dict[str, Any]) -> float:
    """What recipes are ranked by: the mean over everything measured."""
    return statistics.mean(value for found in content["data"].values() for value in summary(found["layers"]))


if __name__ == "__main__":
    run_study(main)
