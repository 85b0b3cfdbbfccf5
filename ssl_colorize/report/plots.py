"""Plots of runs and priors, drawn straight to files: no display and no global matplotlib state are touched."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
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
from ssl_colorize.engine.checkpoint import METRICS_LOG, read_log
from ssl_colorize.errors import UserError
from ssl_colorize.runs import write_atomically

Array = NDArray[np.floating[Any]]

INK = "#28282e"
TRAIN = "#8fb3d9"
SMOOTH = "#1f5fa8"
HELD_OUT = "#d1495b"
CONSTANT = "#6b6b76"

# Width of a bin in ab units.
BIN = 10.0


def _save(figure: Figure, path: Path) -> None:
    encoded = io.BytesIO()
    figure.savefig(encoded, format="png", dpi=150, facecolor="white")
    write_atomically(path, encoded.getvalue())


def _clean(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#b4b4bd")
    axes.tick_params(colors=INK, labelsize=9)
    axes.title.set_color(INK)


# ---- the loss curve -------------------------------------------------------------------------------------------------


def _series(rows: Sequence[dict[str, Any]], name: str) -> tuple[Array, Array]:
    """Steps and values of the rows that have a finite value of that name."""
    points = [(row["step"], row[name]) for row in rows if isinstance(row.get(name), int | float)]
    steps, values = np.array(points, dtype=float).reshape(-1, 2).T
    kept = np.isfinite(values)
    return steps[kept], values[kept]


def smooth(values: Array, reach: int) -> Array:
    """The mean of each value and its `reach` neighbors on both sides; fewer, but as many on both, near the ends.

    Equal numbers keep the mean from lagging behind a falling loss; at the very ends, where none are left, NaN says
    that there is no mean worth drawing.
    """
    sums = np.concatenate([[0.0], np.cumsum(values)])
    places = np.arange(len(values))
    reached = np.minimum(np.minimum(places, len(values) - 1 - places), reach)
    mean: Array = (sums[places + reached + 1] - sums[places - reached]) / (2 * reached + 1)
    mean[reached < (reach + 1) // 2] = np.nan
    return mean


def _draw_curve(axes: Axes, rows: Sequence[dict[str, Any]], *, train: str, holdout: str, constant: str | None) -> None:
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


def loss_curve(folder: str | Path) -> Path:
    """Draw a training run's metrics.jsonl to loss.png in the same folder, and return its path.

    The upper panel shows the trained objective: batches, their running mean, held-out photos, and the line that a
    network which sees nothing would reach. The lower one shows the KL divergence per pixel in nats, which compares with
    other systems; it is left out where a run has none (regression).

    Raises:
        UserError: the folder has no metrics.jsonl with rows.
    """
    folder = Path(folder)
    rows = read_log(folder)
    if not rows:
        raise UserError(f"{folder / METRICS_LOG} holds no rows: give the folder of a `ssl-colorize pretrain` run.")
    has_kl = any(len(_series(rows, name)[0]) for name in ("kl", "holdout_kl"))
    panels = 2 if has_kl else 1
    figure = Figure(figsize=(8, 3.4 * panels), layout="constrained")
    axes = np.atleast_1d(figure.subplots(panels, 1, sharex=True))
    _draw_curve(axes[0], rows, train="loss", holdout="holdout_loss", constant="holdout_loss_constant")
    axes[0].set_title("Trained objective", loc="left", fontsize=11)
    axes[0].set_ylabel("loss (nats)" if has_kl else "loss")
    if has_kl:
        _draw_curve(axes[1], rows, train="kl", holdout="holdout_kl", constant=None)
        axes[1].set_title("KL to the true colors, not rebalanced", loc="left", fontsize=11)
        axes[1].set_ylabel("nats per pixel")
    for panel in axes:
        _clean(panel)
        panel.grid(axis="y", color="#e4e4ea", linewidth=0.8)
        panel.set_axisbelow(True)
    # Over the panels, where no curve can run into it.
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4, frameon=False, fontsize=9)
    axes[-1].set_xlabel("step")
    path = folder / "loss.png"
    _save(figure, path)
    return path


# ---- the prior and the weights --------------------------------------------------------------------------------------


def bin_colors(bins: Array, light: float = 65.0) -> Array:
    """The sRGB color (Q, 3) in [0, 1] of each ab bin (Q, 2) at lightness `light`, clipped to what a screen shows."""
    lab = np.concatenate([np.full((len(bins), 1), light), bins], axis=1).T[:, :, None]
    rgb: Array = lab_to_rgb(torch.from_numpy(lab).float())[:, :, 0].clamp(0, 1).numpy().T
    return rgb


def _side(values: Array, low: float, high: float) -> Array:
    """How long a tile's side is, in ab units: it grows with the value's logarithm and nearly fills a bin at `high`."""
    share: Array = np.log(np.clip(values, low, high) / low) / math.log(high / low)
    return BIN * (0.08 + 0.88 * share)


def _draw_bins(axes: Axes, bins: Array, values: Array, *, colors: Array, low: float, high: float) -> None:
    """A tile for each bin in its own color, as large as its value is between low and high."""
    cells = [Rectangle((a - BIN / 2, b - BIN / 2), BIN, BIN) for a, b in bins]
    axes.add_collection(PatchCollection(cells, facecolor="#f3f3f6", edgecolor="white", linewidth=0.6))
    tiles = [Rectangle((a - s / 2, b - s / 2), s, s) for (a, b), s in zip(bins, _side(values, low, high), strict=True)]
    axes.add_collection(PatchCollection(tiles, facecolor=list(map(tuple, colors)), edgecolor="none"))
    axes.set_xlim(-98, 112)
    axes.set_ylim(-122, 112)
    axes.set_aspect("equal")
    axes.set_xlabel("a:  green to red", color=INK)
    axes.set_ylabel("b:  blue to yellow", color=INK)
    _clean(axes)


def _draw_key(axes: Axes, *, low: float, high: float, ticks: Sequence[float], say: Sequence[str]) -> None:
    """A row of sample tiles under a panel: how large a tile is for which value."""
    axes.set_xlim(0, 10 * 3 * len(ticks))
    axes.set_ylim(-14, 8)
    axes.set_aspect("equal")
    axes.axis("off")
    sides = _side(np.array(ticks), low, high)
    for place, (side, text) in enumerate(zip(sides, say, strict=True)):
        middle = 30 * place + 15
        axes.add_patch(Rectangle((middle - 5, -5), BIN, BIN, facecolor="#f3f3f6", edgecolor="white", linewidth=0.6))
        axes.add_patch(Rectangle((middle - side / 2, -side / 2), side, side, facecolor="#77777f"))
        axes.text(middle, -7, text, ha="center", va="top", fontsize=8.5, color=INK)


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
    _draw_key(keys[0], low=low, high=high, ticks=decades, say=["0.0001%", "0.001%", "0.01%", "0.1%", "1%", "10%"])
    panels[0].set_title("Prior: share of the pixels near each color", loc="left", fontsize=11)
    low, high = float(weights.min()) * 0.7, float(weights.max())
    _draw_bins(panels[1], bins, weights, colors=colors, low=low, high=high)
    ticks = np.geomspace(float(weights.min()), high, 6)
    _draw_key(keys[1], low=low, high=high, ticks=list(ticks), say=[f"{tick:.2g}" for tick in ticks])
    panels[1].set_title("Weight of a pixel of that color in training", loc="left", fontsize=11)
    if about:
        figure.suptitle(about, x=0.012, ha="left", fontsize=12, color=INK)
    _save(figure, Path(path))
