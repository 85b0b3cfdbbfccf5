"""``ssl-colorize svm``: linear SVMs on frozen features, the VOC protocol."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ssl_colorize.cli import options
from ssl_colorize.cli.measured import end, figures_rows, layers_of, on_same, title_of, write_measured
from ssl_colorize.cli.measuring import measuring, percent, resolve

if TYPE_CHECKING:
    from rich.table import Table


@click.command()
@options.encoder
@options.labeled_data
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
@options.of_measuring
def svm(out: Path | None, config: Path | None, assignments: tuple[str, ...], as_json: bool, **flags: Any) -> None:
    """Train a linear SVM for each class on frozen features and report average precision.

    For photos with several labels (a VOC folder) and with one (class folders: each class against the rest).
    """
    from time import perf_counter

    from ssl_colorize.evaluate.settings import SvmSettings
    from ssl_colorize.evaluate.svm import run_svm

    settings = resolve(SvmSettings, file=config, assignments=assignments, flags=flags)
    began = perf_counter()
    with measuring("svm", settings, out) as run:
        metrics = run_svm(settings, say=run.say, watch=run.watch)
    content = write_measured(run.folder, settings, metrics, seconds=perf_counter() - began)
    untrained = metrics.get("random", {})
    rows = [((layer,), found, untrained.get(layer, {})) for layer, found in layers_of(metrics).items()]
    table = figures_rows(rows, ("layer",), title=title_of(settings, run.folder, content["seconds"]))
    next_step = (
        f"look at {run.folder / 'metrics.json'} for the figures of each class, or ask the neighbors: "
        f"{on_same('knn', settings)}"
    )
    end(content, [table, *_low_shot(metrics)], next_step=next_step, as_json=as_json)


def _low_shot(metrics: dict[str, Any]) -> list[Table]:
    """A row for each layer and number of positives, in percent; no table without."""
    from ssl_colorize.report.tables import rows_table

    untrained = metrics.get("random", {})
    rows = [
        (layer, int(count), one["classes"], f"{percent(one['map'])} +- {percent(one['spread'])}",
         percent(untrained.get(layer, {}).get("low_shot", {}).get(count, {}).get("map")))
        for layer, found in layers_of(metrics).items() for count, one in found.get("low_shot", {}).items()
    ]  # fmt: skip
    columns = ("layer", "positives", "classes", "mAP %", "untrained mAP %")
    return [rows_table(columns, rows, title="On few positives")] if rows else []
