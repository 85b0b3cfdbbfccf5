"""Tables for the terminal, for Markdown files and for pages: any figures, those of layers, `score` and `study`."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table


def number(value: Any) -> str:
    """A figure as people read it: four significant digits, thousands set off, whole numbers whole.

    >>> number(0.123456), number(1234567), number(None)
    ('0.1235', '1,234,567', '-')
    """
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "-"}[value]
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        if not math.isfinite(value):
            return str(value)
        if value == 0 or 1e-3 <= abs(value) < 1e4:
            return f"{value:.4g}"
        return f"{value:,.0f}" if 1e4 <= abs(value) < 1e9 else f"{value:.2e}"
    return str(value)


def percent(share: float | None) -> str:
    """A fraction in percent; a dash for none.

    >>> percent(0.8913), percent(None)
    ('89.1', '-')
    """
    return "-" if share is None else f"{100 * share:.1f}"


def duration(seconds: float) -> str:
    """Seconds as people say them.

    >>> duration(42), duration(200), duration(18720)
    ('42 s', '3 min 20 s', '5 h 12 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def figures_table(figures: Mapping[str, Any], *, title: str | None = None) -> Table:
    """Two columns: what, and how much. Nested mappings become lines with the names joined by a space."""
    table = Table(title=title, box=None, padding=(0, 2), show_header=False, title_justify="left", title_style="bold")
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in _flat(figures):
        table.add_row(name.replace("_", " "), number(value))
    return table


def _flat(figures: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    lines: list[tuple[str, Any]] = []
    for name, value in figures.items():
        lines += _flat(value, f"{prefix}{name} ") if isinstance(value, Mapping) else [(f"{prefix}{name}", value)]
    return lines


def rows_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], *, title: str | None = None) -> Table:
    """A table with named columns; columns whose cells are all figures are set to the right."""
    table = Table(title=title, box=box.SIMPLE, header_style="bold", title_justify="left", title_style="bold")
    for place, column in enumerate(columns):
        figures = all(isinstance(row[place], int | float) for row in rows)
        # On a narrow terminal a line is broken, never cut.
        table.add_column(column, justify="right" if figures else "left", overflow="fold")
    for row in rows:
        table.add_row(*(number(value) for value in row))
    return table


# ---- an encoder's layers ---------------------------------------------------------------------------------------------


# What stands beside the layers in a run's metrics.
_NO_LAYERS = ("random", "trunk_unchanged", "layer", "protocol")


def layers_of(metrics: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The figures of the layers alone."""
    return {name: found for name, found in metrics.items() if name not in _NO_LAYERS}


# The first figure of a layer: what it is called, and what goes beside it.
_FIGURES: dict[str, tuple[str, dict[str, str]]] = {
    "miou": ("mIoU", {"miou_common": "common classes %", "miou_present": "classes there %",
                      "pixel_accuracy": "pixels right %"}),
    "map": ("mAP", {"map_common": "mAP, common classes %"}),
    "top1": ("top-1", {"top5": "top-5 %"}),
}  # fmt: skip


def layers_table(
    rows: Sequence[tuple[tuple[Any, ...], Mapping[str, Any], Mapping[str, Any]]], names: Sequence[str], *, title: str
) -> Table:
    """One row for each set of figures, in percent; columns that all rows lack are left out.

    Args:
        rows: first cells, the figures, and the same of the untrained network (empty without).
        names: columns of the first cells.
        title: line over the table.
    """
    figure = next(name for name in _FIGURES if any(name in found for _, found, _ in rows))
    shown, optional = _FIGURES[figure]
    optional = {name: text for name, text in optional.items() if any(name in found for _, found, _ in rows)}
    untrained = any(beside for _, _, beside in rows)
    columns = (*names, f"{shown} %", "95 % interval", *optional.values(), *([f"untrained {shown} %"] * untrained))
    cells = [
        (*first, _with_spread(found, figure), _interval(found),
         *(percent(found.get(name)) for name in optional),
         *([_with_spread(beside, figure) if beside else "-"] * untrained))
        for first, found, beside in rows
    ]  # fmt: skip
    return rows_table(columns, cells, title=title)


def robustness_tables(figures: Mapping[str, Any], untrained: Mapping[str, Any], *, name: str) -> list[Table]:
    """What one head does on further test sets, and on the test photos made worse, in percent and points.

    Args:
        figures: of the head, with what `evaluate.robustness.summarize_further` found.
        untrained: the same of the untrained network; empty without.
        name: of the head.
    """
    tables = []
    figure, shown = ("map", "mAP") if "map" in figures else ("top1", "top-1")
    beside = [f"untrained {shown} %"] * bool(untrained)
    if "also" in figures:
        other = [percent(untrained[figure])] if untrained else []
        rows = [("test photos", "-", percent(figures[figure]), _interval(figures), *other)]
        for each, found in figures["also"].items():
            other = [percent(untrained["also"][each][figure])] if untrained else []
            rows.append((each, f"{found['photos']:,}", percent(found[figure]), _interval(found), *other))
        columns = ("test set", "photos", f"{shown} %", "95 % interval", *beside)
        tables.append(rows_table(columns, rows, title=f"{name} on further test sets"))
    if "corrupt" in figures:
        severities = sorted({each for found in figures["corrupt"].values() for each in found} - {"mean"})
        rows = []
        for corruption, found in figures["corrupt"].items():
            cells = (percent(found[each][figure]) if each in found else "-" for each in severities)
            drops = [found, *([untrained["corrupt"][corruption]] if untrained else [])]
            points = (_points(one["mean"]) for one in drops)
            rows.append((corruption, *cells, percent(found["mean"][figure]), *points))
        columns = ("corruption", *severities, "mean", "drop, points (95 %)", *["untrained, drop"] * bool(untrained))
        title = f"{name} on the test photos made worse, {shown} % by severity; as they are: {percent(figures[figure])}"
        tables.append(rows_table(columns, rows, title=title))
    return tables


def _interval(found: Mapping[str, Any]) -> str:
    return f"{percent(found['low'])} to {percent(found['high'])}"


def _points(found: Mapping[str, Any]) -> str:
    """A drop, and its interval."""
    return f"{100 * found['drop']:.1f} ({100 * found['drop_low']:.1f} to {100 * found['drop_high']:.1f})"


def _with_spread(found: Mapping[str, Any], figure: str) -> str:
    """A figure in percent, and its spread over seeds where there are several."""
    spread = f" +- {percent(found['spread'])}" if "spread" in found else ""
    return percent(found[figure]) + spread


# ---- a scoring run ---------------------------------------------------------------------------------------------------


class _Column(NamedTuple):
    title: str
    key: str
    shown: Callable[[float], str]
    interval: bool = False


_COLORS = (
    _Column("AuC %", "auc", percent),
    _Column("95 %", "auc", percent, interval=True),
    _Column("AuC rebal. %", "auc_rebalanced", percent),
    _Column("95 %", "auc_rebalanced", percent, interval=True),
    _Column("top-1 %", "classifier_top1", percent),
    _Column("top-5 %", "classifier_top5", percent),
    _Column("agrees %", "classifier_agreement", percent),
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
    """The table of a scoring run as Markdown."""
    return as_markdown(_table(score_cells(metrics, methods), None))


def as_markdown(table: Table) -> str:
    """A table as Markdown; its title is left out."""
    table.box, table.title = box.MARKDOWN, None
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


# ---- a perceptual study ----------------------------------------------------------------------------------------------

# Share labeled real and its standard error, in percent (the paper's Table 1), by the names that this project uses.
PAPER_STUDY = {
    "random": (13.0, 4.4),
    "dahl": (18.3, 2.8),
    "larsson": (27.2, 2.7),
    "l2": (21.2, 2.5),
    "l2-finetuned": (23.9, 2.8),
    "class": (25.2, 2.7),
    "full": (32.3, 2.2),
}
VIGILANCE = "vigilance"
STUDY_COLUMNS = ("method", "labeled real", "95 % interval", "people", "pairs", "paper")


def study_figures(metrics: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The figures of each method, and of the vigilance pairs as the last row, where there were any."""
    watched = metrics["vigilance"]
    return dict(metrics["methods"]) | ({VIGILANCE: watched} if watched["pairs"] else {})


def study_rows(metrics: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Rows of the table: method, labeled real, 95 % interval, people, pairs, the paper's figure."""
    rows: list[tuple[str, ...]] = []
    for name, one in study_figures(metrics).items():
        share, error = one["labeled_real"], one["standard_error"]
        paper = PAPER_STUDY.get("random" if name == VIGILANCE else name)
        rows.append((
            name,
            percent(share) + ("" if error is None else f" +- {percent(error)}"),
            "-" if one["low"] is None else f"{percent(one['low'])} to {percent(one['high'])}",
            str(one["participants"]),
            str(one["pairs"]),
            f"{paper[0]:.1f} +- {paper[1]:.1f}" if paper else "-",
        ))  # fmt: skip
    return rows
