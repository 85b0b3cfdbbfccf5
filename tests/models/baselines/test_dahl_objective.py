"""Dahl's loss, and its best constant, against scipy and float64."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from ssl_colorize.color import rgb_to_lab
from ssl_colorize.models.baselines.dahl import UV, MedianUV, blur, blurred_distance
from ssl_colorize.pretrain.config import Recipe
from ssl_colorize.pretrain.statistics import count_statistics

RECIPE = Recipe(model="dahl")
MATRIX = np.array([[-0.169, -0.331, 0.499], [0.499, -0.418, -0.0813]])


def true_uv(photos: Tensor) -> np.ndarray:
    return np.einsum("yc,bchw->byhw", MATRIX, photos.numpy() / 255) + 0.5


def blurred(maps: np.ndarray, sigma: float) -> np.ndarray:
    return gaussian_filter(maps, (0, 0, sigma, sigma), truncate=3, mode="nearest") if sigma else maps


def distance(uv: np.ndarray, target: np.ndarray) -> float:
    """Mean over the pixels of the Euclidean distance, sharp and at standard deviations of 3 and 5 pixels."""
    means = [np.linalg.norm(blurred(uv, s) - blurred(target, s), axis=1).mean() for s in (0, 3, 5)]
    return float(np.mean(means))


@pytest.mark.parametrize("sigma", [0, 3, 5])
@pytest.mark.parametrize("size", [(20, 33), (4, 50)])
def test_blur_is_a_gaussian(sigma: float, size: tuple[int, int]) -> None:
    maps = np.random.default_rng(0).normal(size=(2, 2, *size))
    assert np.abs(blur(torch.from_numpy(maps), sigma).numpy() - blurred(maps, sigma)).max() < 1e-6


def test_the_loss_is_that_of_a_loop_in_float64(photos: Tensor) -> None:
    uv = torch.rand(3, 2, 64, 64, generator=torch.Generator().manual_seed(0))
    target = torch.from_numpy(true_uv(photos[:3])).float()
    expected = distance(uv.double().numpy(), true_uv(photos[:3]))
    assert blurred_distance(uv, target).item() == pytest.approx(expected, rel=1e-4)
    assert blurred_distance(target, target).item() == pytest.approx(0, abs=2e-4)


def test_a_perfect_answer_has_a_gradient() -> None:
    uv = torch.full((1, 2, 8, 8), 0.5, requires_grad=True)
    blurred_distance(uv, uv.detach()).backward()
    assert uv.grad is not None and uv.grad.isfinite().all()


def test_examples_and_losses(photos: Tensor) -> None:
    statistics = count_statistics([photos], RECIPE, stride=1, best=UV.best_constant())
    objective = UV(statistics, stride=1)
    examples = objective.examples(photos[:2], training=True)
    luma = np.einsum("c,bchw->bhw", [0.299, 0.587, 0.114], photos[:2].numpy() / 255)
    assert np.abs(examples.inputs[0][:, 0].numpy() - 100 * luma).max() < 1e-3
    assert np.abs(examples.uv.numpy() - true_uv(photos[:2])).max() < 1e-6

    answer = torch.rand(2, 2, 64, 64, generator=torch.Generator().manual_seed(0))
    losses, sums = objective.losses(answer, examples), objective.sums(answer, examples)
    flat = statistics.constant.double().numpy().reshape(1, 2, 1, 1) + np.zeros((2, 2, 64, 64))
    assert losses["loss"].item() == pytest.approx(distance(answer.double().numpy(), true_uv(photos[:2])), rel=1e-4)
    # Sums over the pixels that colors are read at: every fourth, down and across.
    predicted, true = objective.colors(answer, examples)
    assert true.shape == predicted.shape == (2, 2, 16, 16)
    assert sums["loss"].item() == pytest.approx(2 * 256 * losses["loss"].item(), rel=1e-5)
    assert sums["loss_constant"].item() == pytest.approx(2 * 256 * distance(flat, true_uv(photos[:2])), rel=1e-3)
    assert torch.allclose(true, rgb_to_lab(photos[:2])[:, 1:, ::4, ::4])
    # The true UV decodes to the true colors.
    found, true = objective.colors(examples.uv, examples)
    assert (found - true).abs().max() < 0.01


def test_no_other_constant_is_better(photos: Tensor) -> None:
    counter = MedianUV()
    for part in photos.split(5):
        counter.update(part)
    best = counter.result().double().numpy()

    def loss(constant: np.ndarray) -> float:
        return distance(np.broadcast_to(constant.reshape(1, 2, 1, 1), (len(photos), 2, 64, 64)), true_uv(photos))

    here = loss(best)
    for turn in np.linspace(0, 2 * np.pi, 8, endpoint=False):
        assert loss(best + 0.01 * np.array([np.cos(turn), np.sin(turn)])) > here
    mean = true_uv(photos).mean((0, 2, 3))
    assert here < loss(mean) and np.linalg.norm(mean - best) > 0.005, "a median, not the mean"
