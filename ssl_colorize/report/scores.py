"""The table of a scoring run, for the terminal, for a Markdown file, and for the gallery."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table

from ssl_colorize.report.tables import number, rows_table


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


class _Column(NamedTuple):
    title: str
    key: str
    shown: Callable[[float], str]
    interval: bool = False


_COLORS = (
    _Column("AuC %", "auc", _percent),
    _Column("95 %", "auc", _percent, interval=True),
    _Column("AuC rebal. %", "auc_rebalanced", _percent),
    _Column("95 %", "auc_rebalanced", _percent, interval=True),
    _Column("top-1 %", "classifier_top1", _percent),
    _Column("top-5 %", "classifier_top5", _percent),
    _Column("agrees %", "classifier_agreement", _percent),
)
_PICTURES = (
    _Column("PSNR", "psnr", lambda value: f"{value:.2f}"),
    _Column("SSIM", "ssim", lambda value: f"{value:.4f}"),
    _Column("LPIPS", "lpips", lambda value: f"{value:.4f}"),
    _Column("FID", "fid", number),
    _Column("colorful", "colorfulness", lambda value: f"{value:.1f}"),
    _Column("params MB", "parameters_mb", lambda value: f"{value:.1f}"),
    _Column("maps MB", "features_mb", lambda value: f"{value:.1f}"),
    _Column("ms/photo", "seconds_per_photo", lambda value: f"{1000 * value:.0f}"),
)


def score_cells(
    metrics: Mapping[str, Any], methods: Sequence[str], *, part: int | None = None
) -> tuple[list[str], list[list[str]]]:
    """Column titles, and a row of texts for each method; columns without a figure are left out.

    Args:
        metrics: of a scoring run.
        methods: the rows.
        part: 0 for the colors, 1 for pictures and costs, None for both.
    """
    halves = (_COLORS, _PICTURES) if part is None else ((_COLORS, _PICTURES)[part],)
    wanted = tuple(
        each for half in halves for each in half if any(metrics[name][each.key] is not None for name in methods)
    )
    titles = ["method", *(column.title for column in wanted)]
    return titles, [[name, *(_cell(metrics[name], column) for column in wanted)] for name in methods]


def _cell(figures: Mapping[str, Any], column: _Column) -> str:
    value = figures[column.key]
    if value is None:
        return "-"
    if column.interval:
        low, high = figures["intervals"][column.key]
        return f"{column.shown(low)}..{column.shown(high)}"
    return column.shown(value)


def score_tables(metrics: Mapping[str, Any], methods: Sequence[str], *, title: str, width: int) -> list[Table]:
    """The one table, or its two halves where that is wider than `width` characters."""
    whole = _table(score_cells(metrics, methods), title)
    if _width(whole) <= width:
        return [whole]
    return [_table(score_cells(metrics, methods, part=0), title), _table(score_cells(metrics, methods, part=1), None)]


def best_table(best: Mapping[str, Mapping[str, float]]) -> Table:
    """Which temperature is best by which measure."""
    rows = [
        (name, measure.replace("_", " "), value) for name, found in best.items() for measure, value in found.items()
    ]
    return rows_table(("method", "best by", "T"), rows, title="Best temperatures here")


def markdown(metrics: Mapping[str, Any], methods: Sequence[str]) -> str:
    """The table as Markdown."""
    table = _table(score_cells(metrics, methods), None)
    table.box = box.MARKDOWN
    text = io.StringIO()
    Console(file=text, width=_width(table) + 1).print(table)
    return "".join(f"{line.rstrip()}\n" for line in text.getvalue().splitlines() if line.strip())


def _table(cells: tuple[list[str], list[list[str]]], title: str | None) -> Table:
    table = rows_table(*cells, title=title)
    for column in table.columns[1:]:
        column.justify = "right"
    return table


def _width(table: Table) -> int:
    console = Console(width=10_000)
    return console.measure(table).maximum
