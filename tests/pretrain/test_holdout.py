"""Figures on held-out photos against a loop over pixels in float64, and the sepia alarm."""

from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from skimage.color import rgb2lab
from torch import Tensor, nn

from ssl_colorize.color import ab_bins, rebalance_weights
from ssl_colorize.models.objectives import TrainingStatistics
from ssl_colorize.pretrain.config import Recipe
from ssl_colorize.pretrain.holdout import evaluate, sepia_warning


class Network(nn.Module):
    """Any fixed function of lightness at a quarter of its size."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, outputs, 4, stride=4)
        nn.init.normal_(self.conv.weight, std=0.01, generator=torch.Generator().manual_seed(0))

    def forward(self, lightness: Tensor) -> Tensor:
        assert not self.training
        return self.conv(lightness)


@pytest.fixture
def held_out(photos: Tensor) -> Tensor:
    """Five photos of 16 x 16, the third of them gray."""
    small = photos[::7, :, :16, :16].clone()
    small[2] = small[2, :1]
    return small


@pytest.fixture
def statistics() -> TrainingStatistics:
    generator = torch.Generator().manual_seed(1)
    prior, constant = torch.rand(2, 313, generator=generator).pow(3).add(1e-4).unbind()
    prior, constant = prior / prior.sum(), constant / constant.sum()
    return TrainingStatistics(prior, rebalance_weights(prior), constant, torch.tensor([3.0, 7.0]))


def pixels(photos: Tensor) -> list[tuple[np.ndarray, np.ndarray, bool]]:
    """(true ab, soft code (313,), whether its photo has color) of every fourth pixel, photo by photo."""
    bins = ab_bins().double().numpy()
    found = []
    for photo in photos.permute(0, 2, 3, 1).numpy():
        ab = rgb2lab(photo)[::4, ::4, 1:].reshape(-1, 2)
        colored = bool(np.abs(ab).max() > 5)
        for point in ab:
            squared = ((bins - point) ** 2).sum(1)
            near = squared.argsort(kind="stable")[:5]
            code = np.zeros(313)
            code[near] = np.exp(-squared[near] / 50)
            found.append((point, code / code.sum(), colored))
    return found


def run(network: nn.Module, photos: Tensor, recipe: Recipe, statistics: TrainingStatistics) -> dict[str, Any]:
    # The last batch is smaller: means are over pixels and not over batches.
    objective = recipe.objective_type(statistics, stride=4, temperature=recipe.temperature)
    examples = (objective.examples(each, training=False) for each in photos.split(4))
    return evaluate(network, examples, objective, autocast=nullcontext)


def spread(ab: np.ndarray) -> float:
    return float(np.sqrt(((ab - ab.mean(0)) ** 2).sum(1).mean()))


def test_figures_are_those_of_a_loop_over_pixels(held_out: Tensor, statistics: TrainingStatistics) -> None:
    network = Network(313)
    figures = run(network, held_out, Recipe(temperature=0.5), statistics)
    with torch.no_grad():
        lightness = torch.from_numpy(rgb2lab(held_out.permute(0, 2, 3, 1).numpy())[..., 0])[:, None].float()
        logits = network(lightness).double().permute(0, 2, 3, 1).reshape(-1, 313).numpy()
    bins, weights, constant = (t.double().numpy() for t in (ab_bins(), statistics.class_weights, statistics.constant))
    rows: dict[str, list[Any]] = {
        name: [] for name in ("loss", "loss_constant", "cross_entropy", "kl", "ab", "ab_true")
    }
    for z, (ab, code, colored) in zip(logits, pixels(held_out), strict=True):
        log_probability = z - z.max() - np.log(np.exp(z - z.max()).sum())
        nats = -(code * log_probability).sum()
        weight = weights[code.argmax()] * colored
        rows["loss"].append(weight * nats)
        rows["loss_constant"].append(-weight * (code * np.log(constant)).sum())
        rows["cross_entropy"].append(nats)
        rows["kl"].append((code[code > 0] * (np.log(code[code > 0]) - log_probability[code > 0])).sum())
        sharp = np.exp(log_probability / 0.5)
        rows["ab"].append(sharp @ bins / sharp.sum())
        rows["ab_true"].append(ab)
    for name in ("loss", "loss_constant", "cross_entropy", "kl"):
        assert figures[name] == pytest.approx(np.mean(rows[name]), rel=1e-4), name
    for suffix in ("", "_true"):
        ab = np.array(rows[f"ab{suffix}"])
        assert figures[f"chroma{suffix}"] == pytest.approx(np.linalg.norm(ab, axis=1).mean(), rel=1e-3)
        assert figures[f"spread{suffix}"] == pytest.approx(spread(ab), rel=1e-3)


def test_figures_of_a_regression(held_out: Tensor, statistics: TrainingStatistics) -> None:
    network, recipe = Network(2), Recipe(objective="l2", rebalance=False)
    statistics.class_weights = torch.ones(313)
    figures = run(network, held_out, recipe, statistics)
    with torch.no_grad():
        lightness = torch.from_numpy(rgb2lab(held_out.permute(0, 2, 3, 1).numpy())[..., 0])[:, None].float()
        output = network(lightness).double().permute(0, 2, 3, 1).reshape(-1, 2).numpy()
    true = pixels(held_out)
    # In units of 110 ab units, half the squared distance, gray photos at 0 but counted.
    loss = [0.5 * ((z - ab / 110) ** 2).sum() * colored for z, (ab, _, colored) in zip(output, true, strict=True)]
    flat = [0.5 * ((np.array([3, 7]) - ab) ** 2).sum() / 110**2 * colored for ab, _, colored in true]
    assert figures["loss"] == pytest.approx(np.mean(loss), rel=1e-4)
    assert figures["loss_constant"] == pytest.approx(np.mean(flat), rel=1e-4)
    assert figures["chroma"] == pytest.approx(np.linalg.norm(output * 110, axis=1).mean(), rel=1e-4)
    assert figures["cross_entropy"] is figures["kl"] is None


def test_a_network_that_predicts_the_constant_reads_the_constants_loss(
    held_out: Tensor, statistics: TrainingStatistics
) -> None:
    network = Network(313)
    nn.init.zeros_(network.conv.weight)
    network.conv.bias = nn.Parameter(statistics.constant.log())
    figures = run(network, held_out, Recipe(), statistics)
    assert figures["loss"] == pytest.approx(figures["loss_constant"], rel=1e-5)
    assert figures["spread"] == pytest.approx(0, abs=0.05)
    assert "same tint" in (sepia_warning(figures) or "")


@pytest.mark.parametrize(
    ("figures", "words"),
    [
        ({"chroma": 2.0, "chroma_true": 20.0, "spread": 20.0, "spread_true": 20.0}, "nearly gray"),
        ({"chroma": 19.0, "chroma_true": 20.0, "spread": 2.0, "spread_true": 20.0}, "same tint"),
        ({"chroma": 6.0, "chroma_true": 20.0, "spread": 6.0, "spread_true": 20.0}, None),
        ({"chroma": 30.0, "chroma_true": 20.0, "spread": 30.0, "spread_true": 20.0}, None),
        # Gray held-out photos ask for no color.
        ({"chroma": 0.0, "chroma_true": 0.0, "spread": 0.0, "spread_true": 0.0}, None),
    ],
)
def test_the_sepia_alarm(figures: dict[str, float | None], words: str | None) -> None:
    warning = sepia_warning(figures)
    assert warning is None if words is None else warning is not None and words in warning and "\n" not in warning
