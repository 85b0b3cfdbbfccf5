"""``ssl-colorize svm``: linear SVMs on frozen features, the VOC protocol."""

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
@click.option(
    "--low-shot", is_flag=True, default=None, help="Also train on 1, 2, 4, ... 96 positives, five draws each."
)
@click.option(
    "--shots",
    type=click.IntRange(1),
    multiple=True,
    metavar="N",
    help="Other numbers of positives; may be given again.",
)
@click.option("--draws", type=click.IntRange(1), metavar="N", help="Draws of each number. [default: 5]")
@click.option(
    "--cost",
    "costs",
    type=click.FloatRange(0, min_open=True),
    multiple=True,
    metavar="C",
    help="C to choose from, for each class by cross-validation on the training photos. [default: 0.01, 0.1, ... 1000]",
)
@click.option("--numbers", type=click.IntRange(1), metavar="N", help="Pool maps to at most N numbers. [default: 9216]")
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
def svm(out: Path | None, config: Path | None, assignments: tuple[str, ...], as_json: bool, **flags: Any) -> None:
    """Train a linear SVM for each class on frozen features and report average precision.

    For photos with several labels (a VOC folder) and with one (class folders: each class against the rest).
    """
    from time import perf_counter

    from ssl_colorize.cli.output import command_line, finish
    from ssl_colorize.evaluate.svm import SvmSettings, run_svm
    from ssl_colorize.runs import write_metrics

    settings = resolve(SvmSettings, file=config, assignments=assignments, flags=flags)
    began = perf_counter()
    with measuring("svm", settings, out) as run:
        metrics = run_svm(settings, say=run.say, watch=run.watch)
    content = write_metrics(
        run.folder, command=command_line(), metrics=metrics, config=settings.model_dump(mode="json"),
        seed=settings.seed, seconds=perf_counter() - began,
    )  # fmt: skip
    if not as_json:
        _print_tables(content["metrics"])
    data = "".join(f" --data {item}" for item in settings.data)
    finish(
        content,
        title=f"{settings.encoder} on {', '.join(settings.data)}, in {run.folder}",
        next_step=f"look at {run.folder / 'metrics.json'} for the figures of each class, or ask the neighbours: "
        f"ssl-colorize knn --encoder {settings.encoder}{data}",
        as_json=as_json,
        figures={"seconds": content["seconds"]},
    )


def _print_tables(metrics: dict[str, Any]) -> None:
    """A row a layer, and a row for each layer and number of positives, in percent."""
    from rich.console import Console

    from ssl_colorize.report.tables import rows_table

    layers = {name: found for name, found in metrics.items() if name not in ("random", "trunk_unchanged")}
    untrained = metrics.get("random", {})
    rows = [
        (layer, percent(found["map"]), interval(found), percent(untrained.get(layer, {}).get("map")))
        for layer, found in layers.items()
    ]
    Console().print(rows_table(("layer", "mAP %", "95 % interval", "untrained mAP %"), rows))
    shots = [
        (layer, int(count), one["classes"], f"{percent(one['map'])} +- {percent(one['spread'])}",
         percent(untrained.get(layer, {}).get("low_shot", {}).get(count, {}).get("map")))
        for layer, found in layers.items() for count, one in found.get("low_shot", {}).items()
    ]  # fmt: skip
    if shots:
        Console().print(rows_table(("layer", "positives", "classes", "mAP %", "untrained mAP %"), shots))
