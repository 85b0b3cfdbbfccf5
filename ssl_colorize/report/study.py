"""The share labeled real of every method, beside the paper's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from ssl_colorize.report.plots import CONSTANT, INK, SMOOTH, _clean, _save

# Share labeled real and its standard error, in percent (the paper's Table 1), by the names that this project uses.
PAPER = {
    "random": (13.0, 4.4),
    "dahl": (18.3, 2.8),
    "larsson": (27.2, 2.7),
    "l2": (21.2, 2.5),
    "l2-finetuned": (23.9, 2.8),
    "class": (25.2, 2.7),
    "full": (32.3, 2.2),
}
VIGILANCE = "vigilance"
COLUMNS = ("method", "labeled real", "95 % interval", "people", "pairs", "paper")


def study_rows(metrics: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Rows of the table: method, labeled real, 95 % interval, people, pairs, the paper's figure."""
    rows: list[tuple[str, ...]] = []
    for name, one in _named(metrics).items():
        paper = PAPER.get("random" if name == VIGILANCE else name)
        rows.append((
            name, _percent(one["labeled_real"], one["standard_error"]), _interval(one), str(one["participants"]),
            str(one["pairs"]), f"{paper[0]:.1f} +- {paper[1]:.1f}" if paper else "-",
        ))  # fmt: skip
    return rows


def study_plot(metrics: Mapping[str, Any], path: Path, *, about: str = "") -> None:
    """Draw the share labeled real of each method with its standard error, the paper's below it where there is one.

    Args:
        metrics: of `study.analysis.analyze`.
        path: the PNG to write.
        about: one line over the plot.
    """
    found = {name: one for name, one in _named(metrics).items() if one["labeled_real"] is not None}
    figure = Figure(figsize=(7.5, 1.7 + 0.55 * len(found)), layout="constrained")
    axes = figure.subplots()
    for place, (name, one) in enumerate(found.items()):
        share, error = 100 * one["labeled_real"], 100 * (one["standard_error"] or 0)
        axes.errorbar(share, place, xerr=error, fmt="o", color=SMOOTH, capsize=3, label="" if place else "this study")
        axes.annotate(f"{share:.1f}", (share, place), (0, 7), textcoords="offset points", ha="center", fontsize=8.5,
                      color=SMOOTH)  # fmt: skip
        paper = PAPER.get("random" if name == VIGILANCE else name)
        if paper:
            axes.errorbar(paper[0], place + 0.28, xerr=paper[1], fmt="D", color=CONSTANT, markersize=4, capsize=2,
                          linewidth=1, alpha=0.8, mfc="white")  # fmt: skip
    axes.errorbar([], [], xerr=[], fmt="D", color=CONSTANT, markersize=4, mfc="white", label="the paper's")
    axes.axvline(50, color=INK, linewidth=1, linestyle=":", label="as real as the real ones")
    axes.set_yticks(range(len(found)), list(found))
    axes.set_ylim(max(len(found), 1) - 0.4, -0.6)
    axes.set_xlim(0, max([60.0, *(100 * (one["high"] or one["labeled_real"]) + 5 for one in found.values())]))
    axes.set_xlabel("recolored photo labeled real (% of pairs; bars: one standard error)", color=INK, fontsize=9.5)
    axes.grid(axis="x", color="#e4e4ea", linewidth=0.8)
    axes.set_axisbelow(True)
    _clean(axes)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    axes.set_title(about, loc="left", fontsize=11, color=INK)
    _save(figure, path)


def _named(metrics: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The methods, and the vigilance pairs as the last row, where there were any."""
    watched = metrics["vigilance"]
    return dict(metrics["methods"]) | ({VIGILANCE: watched} if watched["pairs"] else {})


def _percent(share: float | None, error: float | None) -> str:
    if share is None:
        return "-"
    return f"{100 * share:.1f}" + ("" if error is None else f" +- {100 * error:.1f}")


def _interval(one: Mapping[str, Any]) -> str:
    return "-" if one["low"] is None else f"{100 * one['low']:.1f} to {100 * one['high']:.1f}"
