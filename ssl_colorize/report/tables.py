"""Tables for the terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table


def number(value: Any) -> str:
    """A figure as people read it: four significant digits, thousands set off, whole numbers whole."""
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


def duration(seconds: float) -> str:
    """Seconds as people say them: ``42 s``, ``3 min 20 s``, ``5 h 12 min``."""
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
