"""``ssl-colorize knn``: what the nearest neighbours in frozen features say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ssl_colorize.cli import options
from ssl_colorize.cli.measuring import interval, measuring, percent, resolve


@click.command()
@options.encoder
@options.labelled_data
@options.layers
@click.option("--k", type=click.IntRange(1), multiple=True, metavar="K", help="Neighbours that vote. [default: 20]")
@click.option(
    "--temperature",
    type=click.FloatRange(0, min_open=True),
    multiple=True,
    metavar="T",
    help="A vote weighs exp(similarity / T). [default: 0.07]",
)
@click.option(
    "--choose",
    is_flag=True,
    default=None,
    help="Of several K and T, choose one on a split of the training photos and report that one only.",
)
@click.option(
    "--leave-one-out",
    is_flag=True,
    default=None,
    help="Classify the training photos by each other, none by itself; the test photos are not read.",
)
@click.option("--size", type=click.IntRange(1), metavar="N", help="Average maps to N x N cells. [default: 1]")
@click.option("--engine", type=click.Choice(["torch", "faiss"]), help="Both are exact. [default: torch]")
@click.option("--memory", type=float, metavar="GIB", help="For the search. [default: 0.25; a quarter of a GPU's]")
@options.out
@options.untrained
@options.resize
@options.crop
@options.limit
@options.batch_size
@options.workers
@options.device
@options.seed
@options.cache
@options.no_cache
@options.config
@options.assignments
@options.as_json
def knn(out: Path | None, config: Path | None, assignments: tuple[str, ...], as_json: bool, **flags: Any) -> None:
    """Classify photos by the photos whose features are most like theirs.

    Nothing is trained: the nearest training photos vote. --k and --temperature may be given again: every combination
    comes from one search.
    """
    import json
    from time import perf_counter

    from ssl_colorize.cli.output import command_line, finish
    from ssl_colorize.evaluate.knn import KnnSettings, run_knn
    from ssl_colorize.report.neighbors import neighbors_sheet
    from ssl_colorize.runs import write_atomically, write_metrics

    settings = resolve(KnnSettings, file=config, assignments=assignments, flags=flags)
    began = perf_counter()
    with measuring("knn", settings, out) as run:
        result = run_knn(settings, say=run.say, watch=run.watch)
    per_class = _without_classes(result.metrics)
    write_atomically(run.folder / "per_class.json", json.dumps(per_class, indent=2) + "\n")
    content = write_metrics(
        run.folder, command=command_line(), metrics=result.metrics, config=settings.model_dump(mode="json"),
        seed=settings.seed, seconds=perf_counter() - began,
    )  # fmt: skip
    look = run.folder / "per_class.json"
    if result.examples is not None:
        look = neighbors_sheet(result.examples, run.folder / "neighbors.png")
    if not as_json:
        _print_table(content["metrics"])
    data = "".join(f" --data {item}" for item in settings.data)
    finish(
        content,
        title=f"{settings.encoder} on {', '.join(settings.data)}, in {run.folder}",
        next_step=f"look at {look}, or train a classifier: "
        f"ssl-colorize linear-probe --encoder {settings.encoder}{data}",
        as_json=as_json,
        figures={"seconds": content["seconds"]},
    )


def _by_layer(metrics: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: found for name, found in metrics.items() if name not in ("random", "trunk_unchanged")}


def _without_classes(metrics: dict[str, Any]) -> dict[str, Any]:
    """Take the figures of single classes out of the metrics, which people read, and return them."""
    taken: dict[str, Any] = {
        layer: {name: found.pop("per_class") for name, found in choices.items()}
        for layer, choices in _by_layer(metrics).items()
    }
    return taken | ({"random": _without_classes(metrics["random"])} if "random" in metrics else {})


def _print_table(metrics: dict[str, Any]) -> None:
    """A row for every layer, k and temperature, in percent."""
    from rich.console import Console

    from ssl_colorize.report.tables import rows_table

    rows = []
    for layer, choices in _by_layer(metrics).items():
        for name, found in choices.items():
            main = "top1" if "top1" in found else "map"
            k, temperature = name.removeprefix("k").split("_t")
            beside = metrics.get("random", {}).get(layer, {}).get(name, {}).get(main)
            rows.append(
                (layer, k, temperature, percent(found[main]), interval(found), percent(found.get("top5")),
                 percent(beside))
            )  # fmt: skip
    figure = "mAP" if main == "map" else "top-1"
    columns = ("layer", "k", "T", f"{figure} %", "95 % interval", "top-5 %", f"untrained {figure} %")
    Console().print(rows_table(columns, rows))
