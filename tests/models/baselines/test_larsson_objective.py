"""Targets and loss of Larsson et al. by hand-made pixels and loops in float64."""

import colorsys
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from ssl_colorize.color import rgb_to_lab
from ssl_colorize.models.baselines.larsson import (
    HueChroma,
    HueChromaExamples,
    MeanTargets,
    at_places,
    divergences,
    grid_places,
    log_probabilities,
    make_examples,
    random_places,
)
from ssl_colorize.pretrain.config import Recipe
from ssl_colorize.pretrain.statistics import count_statistics

RECIPE = Recipe(model="larsson")


def one_photo(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(pixels).permute(2, 0, 1)[None]


def targets_by_hand(pixels: np.ndarray, row: int, column: int) -> tuple[np.ndarray, np.ndarray]:
    """Hard bins of hue and chroma, counted over 7 x 7 pixels; gray ones have no hue."""
    hue, chroma = np.zeros(32), np.zeros(32)
    for r in range(max(0, row - 3), min(len(pixels), row + 4)):
        for c in range(max(0, column - 3), min(pixels.shape[1], column + 4)):
            values = pixels[r, c].astype(np.float64) / 255
            amount = values.max() - values.min()
            chroma[min(31, int(amount * 32))] += 1
            if amount > 0:
                hue[int(colorsys.rgb_to_hsv(*values)[0] * 32)] += 1
    return hue / hue.sum() if hue.any() else np.full(32, 1 / 32), chroma / chroma.sum()


def test_targets_are_bins_counted_over_seven_by_seven() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 15, 3), dtype=np.uint8)
    pixels[:, 9:] = pixels[:, 9:, :1]
    places = [(6, 5), (0, 0), (11, 14), (3, 8), (5, 12), (11, 0)]
    examples = make_examples(one_photo(pixels), torch.tensor([places]))
    assert examples.hue.shape == examples.chroma.shape == (1, 32, 1, 6)
    for index, (row, column) in enumerate(places):
        hue, chroma = targets_by_hand(pixels, row, column)
        assert examples.hue[0, :, 0, index].tolist() == pytest.approx(hue, abs=1e-6), (row, column)
        assert examples.chroma[0, :, 0, index].tolist() == pytest.approx(chroma, abs=1e-6), (row, column)
    # There only grays are in reach.
    assert examples.hue[0, 0, 0, 4] == 1 / 32 and examples.hue_weight[0, 0, 4] == 0


@pytest.mark.parametrize(
    ("rgb", "hue_weight", "chroma_weight"),
    [
        ((255, 0, 0), 1, 1),
        ((0, 0, 0), 0, 0),
        ((255, 255, 255), 0, 0),
        ((51, 51, 51), 0, 0.6),
        ((204, 255, 255), 0.2, 3 * (1 - 714 / 765)),
        ((102, 128, 51), 77 / 255, 1),
    ],
)
def test_weights_by_hand(rgb: tuple[int, ...], hue_weight: float, chroma_weight: float) -> None:
    photo = torch.tensor(rgb, dtype=torch.uint8).view(1, 3, 1, 1)
    examples = make_examples(photo, torch.zeros(1, 1, 2, dtype=torch.int64))
    assert examples.hue_weight.item() == pytest.approx(hue_weight, abs=1e-6)
    assert examples.chroma_weight.item() == pytest.approx(chroma_weight, abs=1e-6)
    assert examples.gray.item() == pytest.approx(100 * sum(rgb) / 765, abs=1e-4)


def divergence(target: np.ndarray, logits: np.ndarray) -> float:
    log_probability = logits - logits.max() - math.log(np.exp(logits - logits.max()).sum())
    some = target > 0
    return float((target[some] * (np.log(target[some]) - log_probability[some])).sum())


def loss_by_hand(logits: np.ndarray, photos: Tensor, places: np.ndarray) -> float:
    values = []
    for photo, (pixels, points) in enumerate(zip(photos.permute(0, 2, 3, 1).numpy(), places, strict=True)):
        for index, (row, column) in enumerate(points):
            hue, chroma = targets_by_hand(pixels, row, column)
            rgb = pixels[row, column].astype(np.float64) / 255
            light, z = rgb.mean(), logits[photo, :, 0, index]
            weight = min(3 * light, 1, 3 * (1 - light))
            values.append(5 * divergence(hue, z[:32]) * (rgb.max() - rgb.min()) + divergence(chroma, z[32:]) * weight)
    return float(np.mean(values))


@pytest.fixture
def objective(photos: Tensor) -> HueChroma:
    statistics = count_statistics([photos], RECIPE, stride=1, best=HueChroma.best_constant())
    return HueChroma(statistics, stride=1)


def test_the_loss_is_that_of_a_loop_in_float64(photos: Tensor, objective: HueChroma) -> None:
    photos = photos[::9, :, :24, :24]
    examples = objective.examples(photos, training=True)
    assert examples.places.shape == (4, 128, 2)
    logits = torch.randn(4, 64, 1, 128, generator=torch.Generator().manual_seed(0))
    losses = objective.losses(logits, examples)
    expected = loss_by_hand(logits.double().numpy(), photos, examples.places.numpy())
    # Hues of eight bits that lie on the border of two bins fall to either side in float32.
    assert losses["loss"].item() == pytest.approx(expected, rel=2e-3)
    assert losses["loss"].item() == pytest.approx(5 * losses["hue_kl"].item() + losses["chroma_kl"].item(), rel=1e-5)
    # The best constant, likewise; both as sums.
    constant = objective.statistics.constant.log().view(1, 64, 1, 1).expand_as(logits)
    sums = objective.sums(logits, examples)
    assert sums["loss"].item() == pytest.approx(512 * losses["loss"].item(), rel=1e-5)
    expected = loss_by_hand(constant.double().numpy(), photos, examples.places.numpy())
    assert sums["loss_constant"].item() == pytest.approx(512 * expected, rel=2e-3)
    assert torch.equal(objective.output_bias, objective.statistics.constant.log())


def test_the_targets_themselves_lose_nothing(photos: Tensor) -> None:
    examples = make_examples(photos[:2], grid_places(photos[:2]))
    logits = torch.cat((examples.hue, examples.chroma), dim=1).clamp(min=1e-30).log()
    for part in divergences(log_probabilities(logits), examples):
        assert part.abs().max() < 1e-5


def test_no_other_constant_is_better(photos: Tensor) -> None:
    counter = MeanTargets()
    for part in photos.split(5):
        counter.update(part)
    best = counter.result().double()
    assert best.view(2, 32).sum(1).tolist() == pytest.approx([1, 1], abs=1e-5)
    examples = make_examples(photos, grid_places(photos))

    def losses(logits: Tensor) -> Tensor:
        parts = divergences(log_probabilities(logits.view(1, 64, 1, 1).expand(len(photos), -1, 1, 256)), examples)
        return torch.stack([part.double().mean() for part in parts])

    here = losses(best.log())
    for bin in (0, 2, 5, 20, 33, 36, 40):
        for change in (-0.2, 0.2):
            other = best.log()
            other[bin] += change
            assert losses(other)[bin // 32] > here[bin // 32], (bin, change)


def test_the_figures_pixels_are_those_of_the_other_objectives(photos: Tensor, objective: HueChroma) -> None:
    examples: HueChromaExamples = objective.examples(photos[:2], training=False)
    logits = torch.zeros(2, 64, 1, 256)
    predicted, true = objective.colors(logits, examples)
    assert predicted.shape == true.shape == (2, 2, 1, 256)
    assert torch.allclose(true.view(2, 2, 16, 16), rgb_to_lab(photos[:2])[:, 1:, ::4, ::4], atol=1e-4)


def test_places_are_drawn_over_the_whole_photo() -> None:
    photos = torch.zeros(40, 3, 5, 9, dtype=torch.uint8)
    torch.manual_seed(0)
    places = random_places(photos)
    counts = torch.zeros(5, 9).index_put_(places.flatten(0, 1).unbind(1), torch.ones(40 * 128), accumulate=True)
    # 5,120 draws of 45 pixels: 114 each, give or take 11.
    assert counts.min() > 60 and counts.max() < 170
    torch.manual_seed(0)
    assert torch.equal(random_places(photos), places)
    assert not torch.equal(places[0], places[1])


def test_pixels_of_maps() -> None:
    maps = torch.arange(2 * 3 * 4 * 5).view(2, 3, 4, 5)
    places = torch.tensor([[[0, 0], [3, 4]], [[1, 2], [2, 0]]])
    assert at_places(maps, places)[1, 2, 0].tolist() == [maps[1, 2, 1, 2], maps[1, 2, 2, 0]]
    assert at_places(maps, places)[0, 0, 0].tolist() == [0, 19]
