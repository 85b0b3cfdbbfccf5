"""Accuracy by layer, beside an untrained network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ssl_colorize.report.plots import CONSTANT, INK, SMOOTH, _clean, _save


def layers_of(metrics: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The figures of the layers alone."""
    return {name: value for name, value in metrics.items() if name not in ("random", "trunk_unchanged")}


def probe_plot(metrics: Mapping[str, Any], path: Path, *, about: str = "") -> None:
    """Draw top-1 accuracy (or mAP) by layer, with its 95 % interval, and the untrained network's below it.

    Args:
        metrics: of `evaluate.linear_probe.linear_probe`.
        path: the PNG to write.
        about: one line over the plot.
    """
    layers = layers_of(metrics)
    figure = Figure(figsize=(max(5.0, 2.5 + 0.75 * len(layers)), 4.2), layout="constrained")
    axes = figure.subplots()
    _draw(axes, layers, color=SMOOTH, label="frozen encoder", marker="o")
    if "random" in metrics:
        _draw(axes, metrics["random"], color=CONSTANT, label="untrained, same architecture", marker="s")
    axes.set_xticks(range(len(layers)), list(layers), rotation=30 if len(layers) > 8 else 0)
    axes.set_xlim(-0.5, len(layers) - 0.5)
    axes.set_ylim(bottom=0)
    axes.set_ylabel(("mAP" if "map" in next(iter(layers.values())) else "top-1 accuracy") + " (%)", color=INK)
    axes.grid(axis="y", color="#e4e4ea", linewidth=0.8)
    axes.set_axisbelow(True)
    _clean(axes)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    axes.set_title(about, loc="left", fontsize=11, color=INK)
    _save(figure, path)


def _draw(axes: Axes, layers: Mapping[str, Mapping[str, Any]], *, color: str, label: str, marker: str) -> None:
    places = list(range(len(layers)))
    values = [100 * one["map" if "map" in one else "top1"] for one in layers.values()]
    low, high = ([100 * one[end] for one in layers.values()] for end in ("low", "high"))
    axes.plot(places, values, marker + "-", color=color, linewidth=1.8, markersize=5, label=label)
    # Seen also where one layer alone was asked for, which a band would not be.
    axes.vlines(places, low, high, color=color, linewidth=1.2, alpha=0.6)
    axes.fill_between(places, low, high, color=color, alpha=0.12, linewidth=0)
    for place, value in zip(places, values, strict=True):
        axes.annotate(f"{value:.1f}", (place, value), (0, 7), textcoords="offset points", ha="center", fontsize=8,
                      color=color)  # fmt: skip
