"""How well a network colours photos that it does not train on, beside the best constant prediction."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from ssl_colorize.color import annealed_mean
from ssl_colorize.models.pretrained import AB_SCALE
from ssl_colorize.pretrain.config import Recipe
from ssl_colorize.pretrain.loss import constant_cross_entropy, entropy, soft_cross_entropy, squared_error
from ssl_colorize.pretrain.statistics import TrainingStatistics
from ssl_colorize.pretrain.targets import Targets, make_targets

# Predictions with less than this share of the true chroma, or of its spread around one tint, look sepia.
SEPIA_SHARE = 0.25


@torch.no_grad()
def evaluate(
    network: torch.nn.Module,
    batches: Iterable[Tensor],
    recipe: Recipe,
    statistics: TrainingStatistics,
    *,
    stride: int,
    autocast: Any,
) -> dict[str, float | None]:
    """Figures on held-out photos, averaged over all of their pixels.

    Args:
        network: L -> output; put into eval mode, and left there.
        batches: (B, 3, H, W) uint8.
        recipe: the run's.
        statistics: of the training photos, on the network's device.
        stride: of the targets against the photo.
        autocast: makes the context that the network runs in.

    Returns:
        "loss" (the trained objective), "loss_constant" (the same for the best constant), "cross_entropy" (unweighted,
        nats), "kl" (that less the targets' entropy; comparable with the paper's 1.8835), "chroma" and "chroma_true"
        (mean over pixels, ab units), "spread" and "spread_true" (root mean square distance from the mean colour).
        Those that an L2 network does not have are None.
    """
    network.eval()
    sums: dict[str, float] = {}
    device = statistics.prior.device
    for photos in batches:
        targets = make_targets(
            photos.to(device), statistics.class_weights, stride=stride, neighbors=recipe.neighbors, sigma=recipe.sigma
        )
        with autocast():
            output = network(targets.lightness)
        for name, value in _batch_sums(output, targets, recipe, statistics).items():
            sums[name] = sums.get(name, 0.0) + value
    pixels = sums.pop("pixels")
    means = {name: value / pixels for name, value in sums.items()}
    figures: dict[str, float | None] = {
        name: means.get(name)
        for name in ("loss", "loss_constant", "cross_entropy", "kl", "chroma", "chroma_true")
    }
    for suffix in ("", "_true"):
        centre = means[f"a{suffix}"] ** 2 + means[f"b{suffix}"] ** 2
        figures[f"spread{suffix}"] = max(0.0, means[f"square{suffix}"] - centre) ** 0.5
    return figures


def _batch_sums(
    output: Tensor, targets: Targets, recipe: Recipe, statistics: TrainingStatistics
) -> dict[str, float]:
    pixels = targets.pixel_weights.numel()
    if recipe.objective == "class":
        loss, cross_entropy = soft_cross_entropy(output, targets.indices, targets.weights, targets.pixel_weights)
        constant = constant_cross_entropy(statistics.constant, targets.indices, targets.weights)
        predicted = annealed_mean(output, recipe.temperature)
        sums = {
            "loss": loss * pixels,
            "loss_constant": (constant * targets.pixel_weights).sum(),
            "cross_entropy": cross_entropy.sum(),
            "kl": (cross_entropy - entropy(targets.weights)).sum(),
        }
    else:
        scaled = targets.ab / AB_SCALE
        flat = (statistics.mean_ab / AB_SCALE).view(1, 2, 1, 1).expand_as(scaled)
        predicted = output.float() * AB_SCALE
        sums = {
            "loss": squared_error(output, scaled, targets.pixel_weights) * pixels,
            "loss_constant": squared_error(flat, scaled, targets.pixel_weights) * pixels,
        }
    for suffix, ab in (("", predicted), ("_true", targets.ab)):
        sums[f"chroma{suffix}"] = ab.norm(dim=1).sum()
        sums[f"square{suffix}"] = ab.square().sum()
        sums[f"a{suffix}"], sums[f"b{suffix}"] = ab.sum(dim=(0, 2, 3))
    return {name: float(value) for name, value in sums.items()} | {"pixels": float(pixels)}


def sepia_warning(figures: dict[str, float | None]) -> str | None:
    """Words for a network whose colours have gone pale or all alike; None when they have not."""
    chroma, chroma_true = figures["chroma"] or 0.0, figures["chroma_true"] or 0.0
    spread, spread_true = figures["spread"] or 0.0, figures["spread_true"] or 0.0
    if chroma < SEPIA_SHARE * chroma_true:
        what = f"the predictions are nearly grey (mean chroma {chroma:.1f}, true {chroma_true:.1f})"
    elif spread < SEPIA_SHARE * spread_true:
        what = f"every photo gets nearly the same tint (colours vary by {spread:.1f}, true {spread_true:.1f})"
    else:
        return None
    return f"Sepia alarm: {what}. Normal early on; if it stays, train longer or with init: kmeans and rebalance: true."
