"""Plots of runs, written to files: curves over steps and epochs, figures by layer and by method, and maps of colors.

No display and no global matplotlib state are touched.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from ssl_colorize.color import lab_to_rgb
from ssl_colorize.engine.log import METRICS_LOG, read_log
from ssl_colorize.errors import UserError
from ssl_colorize.evaluate.inputs import ALL_LAYERS
from ssl_colorize.report.tables import PAPER_STUDY, VIGILANCE, layers_of, study_figures
from ssl_colorize.runs import write_atomically

Array = NDArray[np.floating[Any]]

INK = "#28282e"
TRAIN = "#8fb3d9"
SMOOTH = "#1f5fa8"
HELD_OUT = "#d1495b"
CONSTANT = "#6b6b76"
_TRIALS = (SMOOTH, "#e08e36", "#4d9a5b", "#8a5fbf", TRAIN, "#a0522d")
_FIGURES = {"top1": "top-1 accuracy", "map": "mAP", "voc_map": "mAP at IoU 0.5", "miou": "mean IoU"}

# Width of a bin in ab units.
BIN = 10.0


def save_figure(figure: Figure, path: Path) -> Path:
    encoded = io.BytesIO()
    figure.savefig(encoded, format="png", dpi=150, facecolor="white")
    write_atomically(path, encoded.getvalue())
    return path


def style(axes: Axes, *, title: str = "", grid: str | None = None) -> None:
    """What all plots have in common; `grid` is the axis, x or y, whose lines are drawn."""
    axes.set_title(title, loc="left", fontsize=11, color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#b4b4bd")
    axes.tick_params(colors=INK, labelsize=9)
    if grid is not None:
        axes.grid(axis=grid, color="#e4e4ea", linewidth=0.8)  # type: ignore[arg-type]
        axes.set_axisbelow(True)


# ---- curves of training ----------------------------------------------------------------------------------------------


def _rows(folder: Path, verb: str) -> list[dict[str, Any]]:
    rows = read_log(folder)
    if not rows:
        raise UserError(f"{folder / METRICS_LOG} holds no rows: give the folder of a `ssl-colorize {verb}` run.")
    return rows


def _series(rows: Sequence[Mapping[str, Any]], name: str, *, over: str = "step") -> tuple[Array, Array]:
    """Steps and values of the rows that have a finite value of that name."""
    points = [(row[over], row[name]) for row in rows if isinstance(row.get(name), int | float)]
    steps, values = np.array(points, dtype=float).reshape(-1, 2).T
    kept = np.isfinite(values)
    return steps[kept], values[kept]


def smooth(values: Array, reach: int) -> Array:
    """The mean of each value and its `reach` neighbors on both sides; fewer, but as many on both, near the ends.

    Equal numbers keep the mean from lagging behind a falling loss; at the very ends, where none are left, NaN says
    that there is no mean worth drawing.

    >>> smooth(np.array([1.0, 2.0, 6.0]), 1)
    array([nan,  3., nan])
    """
    sums = np.concatenate([[0.0], np.cumsum(values)])
    places = np.arange(len(values))
    reached = np.minimum(np.minimum(places, len(values) - 1 - places), reach)
    mean: Array = (sums[places + reached + 1] - sums[places - reached]) / (2 * reached + 1)
    mean[reached < (reach + 1) // 2] = np.nan
    return mean


def loss_curve(folder: str | Path) -> Path:
    """Draw a training run's metrics.jsonl to loss.png in the same folder, and return its path.

    The upper panel shows the trained objective: batches, their running mean, held-out photos, and the line that a
    network which sees nothing would reach. The lower one shows the KL divergence per pixel in nats, which compares with
    other systems; it is left out where a run has none (regression). Where features are watched, a third one shows the
    ridge probe of each layer, and the untrained network's as a dashed line. Stages begin at thin lines.

    Raises:
        UserError: the folder has no metrics.jsonl with rows.
    """
    folder = Path(folder)
    rows = _rows(folder, "pretrain")
    has_kl = any(len(_series(rows, name)[0]) for name in ("kl", "holdout_kl"))
    watched = sorted({name.removesuffix("_ridge") for row in rows for name in row if name.endswith("_ridge")})
    panels = 1 + has_kl + bool(watched)
    figure = Figure(figsize=(8, 3.4 * panels), layout="constrained")
    axes = np.atleast_1d(figure.subplots(panels, 1, sharex=True))
    _draw_loss(axes[0], rows, train="loss", holdout="holdout_loss", constant="holdout_loss_constant")
    style(axes[0], title="Trained objective", grid="y")
    axes[0].set_ylabel("loss (nats)" if has_kl else "loss")
    if has_kl:
        _draw_loss(axes[1], rows, train="kl", holdout="holdout_kl", constant=None)
        style(axes[1], title="KL to the true colors, not rebalanced", grid="y")
        axes[1].set_ylabel("nats per pixel")
        common_steps, common = _series(rows, "holdout_common_kl")
        if len(common):
            label = "at the common size"
            curve = axes[1].plot(common_steps, common, "s--", color=INK, linewidth=1.1, markersize=3, label=label)
            axes[1].legend(handles=curve, frameon=False, fontsize=8)
            axes[1].autoscale(axis="y")
    if watched:
        _draw_watched(axes[-1], rows, watched)
    stages, _ = _series(
        [row for before, row in pairwise(rows) if before.get("stage", 0) != row.get("stage", 0)], "stage"
    )
    for each in axes:
        for step in stages:
            each.axvline(step, color=CONSTANT, linewidth=0.7)
    # Over the panels, where no curve can run into it.
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4, frameon=False, fontsize=9)
    axes[-1].set_xlabel("step")
    return save_figure(figure, folder / "loss.png")


def _draw_watched(axes: Axes, rows: Sequence[dict[str, Any]], watched: Sequence[str]) -> None:
    """The ridge probe of each watched set and layer, beside that of the untrained network."""
    for number, name in enumerate(watched):
        color = _TRIALS[number % len(_TRIALS)]
        steps, values = _series(rows, f"{name}_ridge")
        label = name.removeprefix("watch_").replace("_", " ")
        axes.plot(steps, 100 * values, "o-", color=color, linewidth=1.4, markersize=4, label=label)
        _, untrained = _series(rows, f"{name}_ridge_untrained")
        if len(untrained):
            axes.axhline(100 * untrained[-1], color=color, linestyle="--", linewidth=1.1)
    style(axes, title="Ridge probe on frozen features (dashed: untrained)", grid="y")
    axes.set_ylabel("top-1 accuracy or mAP (%)")
    axes.legend(frameon=False, fontsize=8)


def _draw_loss(axes: Axes, rows: Sequence[dict[str, Any]], *, train: str, holdout: str, constant: str | None) -> None:
    """One panel: the training batches, their running mean, the held-out photos and the best constant prediction."""
    steps, values = _series(rows, train)
    running = smooth(values, len(values) // 40)
    if len(steps) >= 40:
        axes.plot(steps, values, color=TRAIN, linewidth=0.7, alpha=0.6, label="training batches")
        axes.plot(steps, running, color=SMOOTH, linewidth=1.8, label="running mean")
    elif len(steps):
        axes.plot(steps, values, color=SMOOTH, linewidth=1.5, label="training batches")
    held_steps, held = _series(rows, holdout)
    if len(held):
        axes.plot(held_steps, held, "o-", color=HELD_OUT, linewidth=1.4, markersize=4, label="held-out photos")
    _, constants = _series(rows, constant) if constant else (held_steps, np.empty(0))
    if len(constants):
        axes.axhline(constants[-1], color=CONSTANT, linestyle="--", linewidth=1.3, label="best constant, held out")
    _limit_height(axes, np.concatenate([running[np.isfinite(running)], held, constants]), values)


def _limit_height(axes: Axes, needed: Array, noisy: Array) -> None:
    """Fit the axis to the curves that matter and to nearly all batches, so that one wild batch flattens nothing."""
    if not len(needed):
        return
    if len(noisy):
        needed = np.concatenate([needed, np.percentile(noisy, [0.5, 99.5])])
    low, high = float(needed.min()), float(needed.max())
    room = 0.06 * (high - low) or 0.1
    axes.set_ylim(low - room, high + room)


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
    rows = _rows(folder, "finetune")
    # What was chosen by (`finetune.tasks.choosing_figure`).
    common = any(f"holdout_{main}_common" in row for row in rows)
    shown = f"{main}_common" if common else main
    figure = Figure(figsize=(8, 6.4), layout="constrained")
    losses, figures = figure.subplots(2, 1, sharex=True)
    rates = [trial["learning_rate"] for trial in metrics["trials"]]
    for number in sorted({row["trial"] for row in rows}):
        final = number >= len(rates)
        mine = [row for row in rows if row["trial"] == number]
        color = INK if final else _TRIALS[number % len(_TRIALS)]
        label = f"final, rate {metrics['learning_rate']:g}" if final else f"rate {rates[number]:g}"
        epochs, values = _series(mine, "loss", over="epoch")
        losses.plot(epochs, values, color=color, linewidth=0.6, alpha=0.3)
        losses.plot(epochs, smooth(values, len(values) // 30), color=color, linewidth=1.6, label=label)
        epochs, values = _series(mine, f"holdout_{shown}", over="epoch")
        if len(epochs):
            figures.plot(epochs, 100 * values, "o-", color=color, linewidth=1.4, markersize=4)
    _mark_chosen(figures, metrics, shown=shown)
    style(losses, title="Loss on the batches, and its running mean", grid="y")
    losses.set_ylabel("loss")
    style(figures, title="On the photos that rate and length were chosen on", grid="y")
    figures.set_ylabel(f"{_FIGURES.get(main, main)}{', common classes' if common else ''} (%)")
    figures.set_xlabel("epoch")
    figure.legend(loc="outside lower center", ncols=5, frameon=False, fontsize=9)
    return save_figure(figure, folder / "curves.png")


def _mark_chosen(axes: Axes, metrics: Mapping[str, Any], *, shown: str) -> None:
    """Ring the chosen evaluation, and draw the figure on the test photos."""
    best = max(metrics["trials"], key=lambda trial: trial["choosing"] or 0.0, default=None)
    if best is not None and best["choosing"] is not None:
        axes.plot([best["epochs"]], [100 * best["choosing"]], "o", markersize=11, markerfacecolor="none",
                  markeredgecolor=HELD_OUT, markeredgewidth=1.6, label="chosen")  # fmt: skip
    if metrics.get(shown) is not None:
        axes.axhline(100 * metrics[shown], color=CONSTANT, linestyle="--", linewidth=1.3, label="test photos")


# ---- figures by layer and by method ----------------------------------------------------------------------------------


def probe_plot(metrics: Mapping[str, Any], path: Path, *, about: str = "") -> None:
    """Draw top-1 accuracy (or mAP) by layer, with its 95 % interval, and the untrained network's below it.

    Attentive heads ("conv5/attentive") have lines of their own over the same layers; all layers at once are the last
    place.

    Args:
        metrics: of `evaluate.run_linear_probe`.
        path: the PNG to write.
        about: one line over the plot.
    """
    found = layers_of(metrics)
    names = list(
        dict.fromkeys(name.partition("/")[0] for name in sorted(found, key=lambda name: name.startswith(ALL_LAYERS)))
    )
    figure = Figure(figsize=(max(5.0, 2.5 + 0.75 * len(names)), 4.4), layout="constrained")
    axes = figure.subplots()
    series = ((found, SMOOTH, HELD_OUT, "frozen encoder", "o"),
              (metrics.get("random", {}), CONSTANT, "#b58a90", "untrained, same architecture", "s"))  # fmt: skip
    kinds = len({name.partition("/")[2] for name in found})
    for figures, plain, attentive, label, marker in series:
        for kind, color in (("", plain), ("attentive", attentive)):
            mine = {name: one for name, one in figures.items() if name.partition("/")[2] == kind}
            if mine:
                words = f"{label}, attentive" if kind else label
                # Side by side, so that neither hides the other's figures.
                shift = 0.0 if kinds == 1 else 0.14 if kind else -0.14
                _draw_layers(axes, mine, names=names, color=color, label=words, marker=marker, shift=shift)
    axes.set_xticks(range(len(names)), names, rotation=30 if len(names) > 8 else 0)
    axes.set_xlim(-0.5, len(names) - 0.5)
    axes.set_ylim(bottom=0)
    axes.set_ylabel(("mAP" if "map" in next(iter(found.values())) else "top-1 accuracy") + " (%)", color=INK)
    style(axes, title=about, grid="y")
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    save_figure(figure, path)


def _draw_layers(
    axes: Axes, layers: Mapping[str, Mapping[str, Any]], *, names: Sequence[str], color: str, label: str, marker: str,
    shift: float = 0.0,
) -> None:  # fmt: skip
    """A line over the layers; all layers at once stand by themselves."""
    for together in (False, True):
        mine = {name: one for name, one in layers.items() if name.startswith(ALL_LAYERS) == together}
        places = [names.index(name.partition("/")[0]) + shift for name in mine]
        values = [100 * one["map" if "map" in one else "top1"] for one in mine.values()]
        low, high = ([100 * one[end] for one in mine.values()] for end in ("low", "high"))
        named = None if together and len(layers) > len(mine) else label
        axes.plot(places, values, marker + "-", color=color, linewidth=1.8, markersize=5, label=named)
        # Seen also where one layer alone was asked for, which a band would not be.
        axes.vlines(places, low, high, color=color, linewidth=1.2, alpha=0.6)
        axes.fill_between(places, low, high, color=color, alpha=0.12, linewidth=0)
        for place, value in zip(places, values, strict=True):
            axes.annotate(f"{value:.1f}", (place, value), (80 * shift, 7), textcoords="offset points", ha="center",
                          fontsize=8, color=color)  # fmt: skip


def study_plot(metrics: Mapping[str, Any], path: Path, *, about: str = "") -> None:
    """Draw the share labeled real of each method with its standard error, the paper's below it where there is one.

    Args:
        metrics: of `study.analysis.analyze`.
        path: the PNG to write.
        about: one line over the plot.
    """
    found = {name: one for name, one in study_figures(metrics).items() if one["labeled_real"] is not None}
    figure = Figure(figsize=(7.5, 1.7 + 0.55 * len(found)), layout="constrained")
    axes = figure.subplots()
    for place, (name, one) in enumerate(found.items()):
        share, error = 100 * one["labeled_real"], 100 * (one["standard_error"] or 0)
        axes.errorbar(share, place, xerr=error, fmt="o", color=SMOOTH, capsize=3, label="" if place else "this study")
        axes.annotate(f"{share:.1f}", (share, place), (0, 7), textcoords="offset points", ha="center", fontsize=8.5,
                      color=SMOOTH)  # fmt: skip
        paper = PAPER_STUDY.get("random" if name == VIGILANCE else name)
        if paper:
            axes.errorbar(paper[0], place + 0.28, xerr=paper[1], fmt="D", color=CONSTANT, markersize=4, capsize=2,
                          linewidth=1, alpha=0.8, mfc="white")  # fmt: skip
    axes.errorbar([], [], xerr=[], fmt="D", color=CONSTANT, markersize=4, mfc="white", label="the paper's")
    axes.axvline(50, color=INK, linewidth=1, linestyle=":", label="as real as the real ones")
    axes.set_yticks(range(len(found)), list(found))
    axes.set_ylim(max(len(found), 1) - 0.4, -0.6)
    axes.set_xlim(0, max([60.0, *(100 * (one["high"] or one["labeled_real"]) + 5 for one in found.values())]))
    axes.set_xlabel("recolored photo labeled real (% of pairs; bars: one standard error)", color=INK, fontsize=9.5)
    style(axes, title=about, grid="x")
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    save_figure(figure, path)


# ---- the prior and the weights, as maps of the ab plane --------------------------------------------------------------


def prior_plot(prior: Array, weights: Array, bins: Array, path: str | Path, *, about: str = "") -> None:
    """Draw how common the colors are, and what weight they get, as two maps of the ab plane.

    Args:
        prior: (Q,) share of each bin, sums to 1.
        weights: (Q,) rebalancing weights, expectation 1 under the prior.
        bins: (Q, 2) bin centers in ab.
        path: the PNG to write.
        about: one line over the maps, for instance how many photos were read.
    """
    figure = Figure(figsize=(11.5, 6.9), layout="constrained")
    panels, keys = figure.subplots(2, 2, height_ratios=[14, 1.6])
    colors = bin_colors(bins)
    decades = [10.0**e for e in range(-6, 0)]
    low, high = 1e-7, max(0.2, float(prior.max()))
    _draw_bins(panels[0], bins, prior, colors=colors, low=low, high=high)
    _draw_key(keys[0], low=low, high=high, ticks=decades, labels=["0.0001%", "0.001%", "0.01%", "0.1%", "1%", "10%"])
    style(panels[0], title="Prior: share of the pixels near each color")
    low, high = float(weights.min()) * 0.7, float(weights.max())
    _draw_bins(panels[1], bins, weights, colors=colors, low=low, high=high)
    ticks = np.geomspace(float(weights.min()), high, 6)
    _draw_key(keys[1], low=low, high=high, ticks=list(ticks), labels=[f"{tick:.2g}" for tick in ticks])
    style(panels[1], title="Weight of a pixel of that color in training")
    if about:
        figure.suptitle(about, x=0.012, ha="left", fontsize=12, color=INK)
    save_figure(figure, Path(path))


def bin_colors(bins: Array, light: float = 65.0) -> Array:
    """The sRGB color (Q, 3) in [0, 1] of each ab bin (Q, 2) at lightness `light`, clipped to what a screen shows."""
    lab = np.concatenate([np.full((len(bins), 1), light), bins], axis=1).T[:, :, None]
    rgb: Array = lab_to_rgb(torch.from_numpy(lab).float())[:, :, 0].clamp(0, 1).numpy().T
    return rgb


def tile_sides(values: Array, low: float, high: float) -> Array:
    """How long a tile's side is, in ab units: it grows with the value's logarithm and nearly fills a bin at `high`."""
    share: Array = np.log(np.clip(values, low, high) / low) / math.log(high / low)
    return BIN * (0.08 + 0.88 * share)


def _draw_bins(axes: Axes, bins: Array, values: Array, *, colors: Array, low: float, high: float) -> None:
    """A tile for each bin in its own color, as large as its value is between low and high."""
    sides = tile_sides(values, low, high)
    cells = [Rectangle((a - BIN / 2, b - BIN / 2), BIN, BIN) for a, b in bins]
    axes.add_collection(PatchCollection(cells, facecolor="#f3f3f6", edgecolor="white", linewidth=0.6))
    tiles = [Rectangle((a - s / 2, b - s / 2), s, s) for (a, b), s in zip(bins, sides, strict=True)]
    axes.add_collection(PatchCollection(tiles, facecolor=list(map(tuple, colors)), edgecolor="none"))
    axes.set_xlim(-98, 112)
    axes.set_ylim(-122, 112)
    axes.set_aspect("equal")
    axes.set_xlabel("a:  green to red", color=INK)
    axes.set_ylabel("b:  blue to yellow", color=INK)


def _draw_key(axes: Axes, *, low: float, high: float, ticks: Sequence[float], labels: Sequence[str]) -> None:
    """A row of sample tiles under a panel: how large a tile is for which value."""
    axes.set_xlim(0, 10 * 3 * len(ticks))
    axes.set_ylim(-14, 8)
    axes.set_aspect("equal")
    axes.axis("off")
    sides = tile_sides(np.array(ticks), low, high)
    for place, (side, label) in enumerate(zip(sides, labels, strict=True)):
        middle = 30 * place + 15
        axes.add_patch(Rectangle((middle - 5, -5), BIN, BIN, facecolor="#f3f3f6", edgecolor="white", linewidth=0.6))
        axes.add_patch(Rectangle((middle - side / 2, -side / 2), side, side, facecolor="#77777f"))
        axes.text(middle, -7, label, ha="center", va="top", fontsize=8.5, color=INK)
