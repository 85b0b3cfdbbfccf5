"""How the verbs that measure an encoder on frozen features end: metrics.json, a table, one line on what comes next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ssl_colorize.cli.measuring import interval, percent

if TYPE_CHECKING:
    from rich.table import Table

    from ssl_colorize.evaluate.settings import EvaluationSettings


def layers_of(metrics: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The figures of the layers alone."""
    return {name: found for name, found in metrics.items() if name not in ("random", "trunk_unchanged")}


def with_spread(found: Mapping[str, Any], figure: str) -> str:
    """A figure in percent, and its spread over seeds where there are several."""
    spread = f" +- {percent(found['spread'])}" if "spread" in found else ""
    return percent(found[figure]) + spread


def figures_rows(
    rows: Sequence[tuple[tuple[Any, ...], Mapping[str, Any], Mapping[str, Any]]], names: Sequence[str], *, title: str
) -> Table:
    """One row for each set of figures, in percent; columns that all rows lack are left out.

    Args:
        rows: first cells, the figures, and the same of the untrained network (empty without).
        names: columns of the first cells.
        title: line over the table.
    """
    from ssl_colorize.report.tables import rows_table

    figure = "map" if any("map" in found for _, found, _ in rows) else "top1"
    said = {"map": "mAP", "top1": "top-1"}[figure]
    optional = {"map_common": "mAP, common classes %"} if figure == "map" else {"top5": "top-5 %"}
    optional = {name: text for name, text in optional.items() if any(name in found for _, found, _ in rows)}
    untrained = any(beside for _, _, beside in rows)
    columns = (*names, f"{said} %", "95 % interval", *optional.values(), *([f"untrained {said} %"] * untrained))
    cells = [
        (*first, with_spread(found, figure), interval(found), *(percent(found.get(name)) for name in optional),
         *([with_spread(beside, figure) if beside else "-"] * untrained))
        for first, found, beside in rows
    ]  # fmt: skip
    return rows_table(columns, cells, title=title)


def take_classes(metrics: dict[str, Any], *, figures: int) -> dict[str, Any]:
    """Take the figures of single classes out of the metrics, which people read, and return them.

    Args:
        figures: how deep below a layer its figures lie.
    """

    def taken(found: dict[str, Any], depth: int) -> Any:
        return found.pop("per_class") if not depth else {name: taken(each, depth - 1) for name, each in found.items()}

    per_class = {layer: taken(found, figures) for layer, found in layers_of(metrics).items()}
    return per_class | ({"random": take_classes(metrics["random"], figures=figures)} if "random" in metrics else {})


def write_measured(
    folder: Path, settings: EvaluationSettings, metrics: dict[str, Any], *, seconds: float
) -> dict[str, Any]:
    """Write metrics.json, and return what it holds."""
    from ssl_colorize.cli.output import command_line
    from ssl_colorize.runs import write_metrics

    return write_metrics(
        folder, command=command_line(), metrics=metrics, config=settings.model_dump(mode="json"), seed=settings.seed,
        seconds=seconds,
    )  # fmt: skip


def title_of(settings: EvaluationSettings, folder: Path, seconds: float) -> str:
    """Line over a verb's table."""
    from ssl_colorize.report.tables import duration

    return f"{settings.encoder} on {', '.join(settings.data)}, in {folder}, after {duration(seconds)}"


def end(content: Mapping[str, Any], tables: Sequence[Table], *, next_step: str, as_json: bool) -> None:
    """Print the tables, or metrics.json as JSON, and what comes next."""
    import json

    from ssl_colorize.cli.output import results

    if as_json:
        click.echo(json.dumps(content, indent=2))
    else:
        for table in tables:
            results().print(table)
    click.echo(f"Next: {next_step}", err=as_json)


def on_same(verb: str, settings: EvaluationSettings) -> str:
    """The command that measures the same encoder on the same photos with another verb."""
    return f"ssl-colorize {verb} --encoder {settings.encoder}" + "".join(f" --data {item}" for item in settings.data)
