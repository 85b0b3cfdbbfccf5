"""How well a network colors photos that it does not train on, beside the best constant prediction."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from ssl_colorize.device import Autocast
from ssl_colorize.models.objectives import Objective

# Figures that every run has, None where its objective does not know them.
FIGURES = ("loss", "loss_constant", "cross_entropy", "kl", "chroma", "chroma_true")
# Predictions with less than this share of the true chroma, or of its spread around one tint, look sepia.
SEPIA_SHARE = 0.25


@torch.no_grad()
def evaluate(
    network: torch.nn.Module, examples: Iterable[Any], objective: Objective, *, autocast: Autocast
) -> dict[str, float | None]:
    """Figures on held-out photos, averaged over all of their pixels.

    Args:
        network: the examples' inputs -> output; put into eval mode, and left there.
        examples: batches of them, as the objective makes them, on the network's device.
        objective: the run's.
        autocast: makes the context that the network runs in.

    Returns:
        "loss" (the trained objective), "loss_constant" (the same for the best constant), "cross_entropy" (unweighted,
        nats), "kl" (that less the targets' entropy; comparable with the paper's 1.8835), "chroma" and "chroma_true"
        (mean over pixels, ab units), "spread" and "spread_true" (root mean square distance from the mean color), and
        what figures the objective has of its own. Those that it does not have are None; the spreads are not there if it
        asks for no colors.
    """
    network.eval()
    sums: dict[str, float] = {}
    for batch in examples:
        with autocast():
            output = network(*batch.inputs)
        found = objective.sums(output, batch)
        colors = objective.colors(output, batch)
        if colors is not None:
            found |= _color_sums(*colors)
        for name, value in found.items():
            sums[name] = sums.get(name, 0.0) + float(value)
    count = sums.pop("count")
    means = {name: value / count for name, value in sums.items()}
    figures: dict[str, float | None] = {name: means.get(name) for name in FIGURES}
    for suffix in ("", "_true") if figures["chroma"] is not None else ():
        center = means.pop(f"a{suffix}") ** 2 + means.pop(f"b{suffix}") ** 2
        figures[f"spread{suffix}"] = max(0.0, means.pop(f"square{suffix}") - center) ** 0.5
    return figures | means


def _color_sums(predicted: Tensor, true: Tensor) -> dict[str, Tensor]:
    sums = {}
    for suffix, ab in (("", predicted), ("_true", true)):
        sums[f"chroma{suffix}"] = ab.norm(dim=1).sum()
        sums[f"square{suffix}"] = ab.square().sum()
        sums[f"a{suffix}"], sums[f"b{suffix}"] = ab.sum(dim=(0, 2, 3))
    return sums


def in_words(figures: dict[str, float | None]) -> str:
    """Figures on a line, the best constant's beside each, and a warning below it where the colors look sepia."""
    parts = [
        f"{name} {value:.4f} (best constant {constant:.4f})"
        for name, value in figures.items()
        if value is not None and (constant := figures.get(f"{name}_constant")) is not None
    ]
    parts += [
        f"{words} {figures[name]:.3f} nats"
        for name, words in (("kl", "KL"), ("common_kl", "common KL"))
        if figures.get(name) is not None
    ]
    line = ", ".join(parts)
    if figures["chroma"] is None:
        return line
    line += f", chroma {figures['chroma']:.1f} (true {figures['chroma_true']:.1f})"
    warning = sepia_warning(figures)
    return f"{line}\n{warning}" if warning else line


def sepia_warning(figures: dict[str, float | None]) -> str | None:
    """Words for a network whose colors have gone pale or all alike; None when they have not."""
    chroma, chroma_true = figures["chroma"] or 0.0, figures["chroma_true"] or 0.0
    spread, spread_true = figures["spread"] or 0.0, figures["spread_true"] or 0.0
    if chroma < SEPIA_SHARE * chroma_true:
        what = f"the predictions are nearly gray (mean chroma {chroma:.1f}, true {chroma_true:.1f})"
    elif spread < SEPIA_SHARE * spread_true:
        what = f"every photo gets nearly the same tint (colors vary by {spread:.1f}, true {spread_true:.1f})"
    else:
        return None
    return f"Sepia alarm: {what}. Normal early on; if it stays, train longer or with init: kmeans and rebalance: true."
