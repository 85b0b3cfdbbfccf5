"""``ssl-colorize svm``: linear SVMs on frozen features, the VOC protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ssl_colorize.cli.flags import settings_options
from ssl_colorize.cli.measured import FLAGS, on_same, title_of
from ssl_colorize.cli.run import Invocation, finish
from ssl_colorize.evaluate.settings import SvmSettings

if TYPE_CHECKING:
    from rich.table import Table


@click.command()
@settings_options(
    SvmSettings, "encoder", "data", "layers", "low_shot", "shots", "draws", "costs", "numbers", *FLAGS
)  # fmt: skip
def svm(invocation: Invocation[SvmSettings]) -> None:
    """Train a linear SVM for each class on frozen features and report average precision.

    For photos with several labels (a VOC folder) and with one (class folders: each class against the rest).
    """
    from ssl_colorize.evaluate import run_svm
    from ssl_colorize.report.tables import layers_of, layers_table

    settings = invocation.settings()
    with invocation.running("svm", settings) as run:
        metrics = run_svm(settings, say=run.say, watch=run.watch)
    content = run.write(metrics)
    untrained = metrics.get("random", {})
    rows = [((layer,), found, untrained.get(layer, {})) for layer, found in layers_of(metrics).items()]
    table = layers_table(rows, ("layer",), title=title_of(settings, run.folder, content["seconds"]))
    next_step = (
        f"look at {run.folder / 'metrics.json'} for the figures of each class, or ask the neighbors: "
        f"{on_same('knn', settings)}"
    )
    finish(content, table, *_low_shot(metrics), next_step=next_step, as_json=invocation.as_json)


def _low_shot(metrics: dict[str, Any]) -> list[Table]:
    """A row for each layer and number of positives, in percent; no table without."""
    from ssl_colorize.report.tables import layers_of, percent, rows_table

    untrained = metrics.get("random", {})
    rows = [
        (layer, int(count), one["classes"], f"{percent(one['map'])} +- {percent(one['spread'])}",
         percent(untrained.get(layer, {}).get("low_shot", {}).get(count, {}).get("map")))
        for layer, found in layers_of(metrics).items() for count, one in found.get("low_shot", {}).items()
    ]  # fmt: skip
    columns = ("layer", "positives", "classes", "mAP %", "untrained mAP %")
    return [rows_table(columns, rows, title="On few positives")] if rows else []
