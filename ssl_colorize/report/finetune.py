"""Pictures of a fine-tuning run: how it learned, and the photos it is most right and most wrong about."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from ssl_colorize.engine.checkpoint import METRICS_LOG, read_log
from ssl_colorize.errors import UserError
from ssl_colorize.report.plots import CONSTANT, HELD_OUT, INK, SMOOTH, TRAIN, _clean, _save, smooth
from ssl_colorize.report.sheets import photo_sheet

if TYPE_CHECKING:
    from ssl_colorize.finetune.tasks import Sheet

_COLORS = (SMOOTH, "#e08e36", "#4d9a5b", "#8a5fbf", TRAIN, "#a0522d")
# The long side in pixels of a picture on a sheet, at most.
_LARGEST = 400
_NAMES = {"top1": "top-1 accuracy", "map": "mAP", "voc_map": "mAP at IoU 0.5", "miou": "mean IoU"}


def learning_curves(folder: str | Path, metrics: Mapping[str, Any], *, main: str) -> Path:
    """Draw a fine-tuning run's metrics.jsonl to curves.png in the same folder, and return its path.

    The upper panel shows the loss of each learning rate's training and of the final one, the lower one the figure on
    the photos that rate and length were chosen on, with a ring around what was chosen and the test photos' as a line.

    Args:
        metrics: of the run's end.
        main: the name of the figure that was chosen by.

    Raises:
        UserError: the folder has no metrics.jsonl with rows.
    """
    folder = Path(folder)
    rows = read_log(folder)
    if not rows:
        raise UserError(f"{folder / METRICS_LOG} holds no rows: give the folder of a `ssl-colorize finetune` run.")
    # What was chosen by (`transfer.tasks.choosing_figure`).
    common = any(f"holdout_{main}_common" in row for row in rows)
    shown = f"{main}_common" if common else main
    figure = Figure(figsize=(8, 6.4), layout="constrained")
    losses, figures = figure.subplots(2, 1, sharex=True)
    rates = [trial["learning_rate"] for trial in metrics["trials"]]
    for number in sorted({row["trial"] for row in rows}):
        final = number >= len(rates)
        mine = [row for row in rows if row["trial"] == number]
        color = INK if final else _COLORS[number % len(_COLORS)]
        label = f"final, rate {metrics['learning_rate']:g}" if final else f"rate {rates[number]:g}"
        epochs, values = (np.array([row[name] for row in mine], dtype=float) for name in ("epoch", "loss"))
        losses.plot(epochs, values, color=color, linewidth=0.6, alpha=0.3)
        losses.plot(epochs, smooth(values, len(values) // 30), color=color, linewidth=1.6, label=label)
        looks = [(row["epoch"], 100 * row[f"holdout_{shown}"]) for row in mine if f"holdout_{shown}" in row]
        if looks:
            figures.plot(*zip(*looks, strict=True), "o-", color=color, linewidth=1.4, markersize=4)
    _mark(figures, metrics, shown=shown)
    losses.set_title("Loss on the batches, and its running mean", loc="left", fontsize=11)
    losses.set_ylabel("loss")
    figures.set_title("On the photos that rate and length were chosen on", loc="left", fontsize=11)
    figures.set_ylabel(f"{_NAMES.get(main, main)}{', common classes' if common else ''} (%)")
    figures.set_xlabel("epoch")
    for axes in (losses, figures):
        _clean(axes)
        axes.grid(axis="y", color="#e4e4ea", linewidth=0.8)
        axes.set_axisbelow(True)
    figure.legend(loc="outside lower center", ncols=5, frameon=False, fontsize=9)
    path = folder / "curves.png"
    _save(figure, path)
    return path


def _mark(axes: Any, metrics: Mapping[str, Any], *, shown: str) -> None:
    """Ring the chosen look, and draw the figure on the test photos."""
    best = max(metrics["trials"], key=lambda trial: trial["choosing"] or 0.0, default=None)
    if best is not None and best["choosing"] is not None:
        axes.plot([best["epochs"]], [100 * best["choosing"]], "o", markersize=11, markerfacecolor="none",
                  markeredgecolor=HELD_OUT, markeredgewidth=1.6, label="chosen")  # fmt: skip
    if metrics.get(shown) is not None:
        axes.axhline(100 * metrics[shown], color=CONSTANT, linestyle="--", linewidth=1.3, label="test photos")


def write_sheets(sheets: Mapping[str, Sheet], folder: Path) -> list[Path]:
    """Write a task's sheets of pictures as PNG files of their names; returns their paths."""
    paths = []
    for name, sheet in sheets.items():
        if sheet.rows:
            paths.append(folder / f"{name}.png")
            # As large as the pictures are, since their captions are part of them.
            cell = min(_LARGEST, max(side for row in sheet.rows for picture in row for side in picture.size))
            photo_sheet(sheet.rows, sheet.titles, paths[-1], cell=cell, groups=sheet.groups)
    return paths
