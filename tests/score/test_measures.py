"""Measures of colors, against the literal threshold sweep, scikit-image, and cases worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from skimage.metrics import peak_signal_noise_ratio
from torch import Tensor

from ssl_colorize.color import ab_bins, nearest_bin, rgb_to_lab
from ssl_colorize.score.measures import (
    PSNR_MOST,
    RAREST,
    closeness,
    colorfulness,
    pixel_weights,
    psnr,
    rarity_weights,
    ssim,
)


def test_closed_form_is_the_area_under_the_literal_sweep() -> None:
    torch.manual_seed(0)
    ab, truth = 60 * torch.randn(2, 50, 40), 40 * torch.randn(2, 50, 40)
    distance = np.sqrt(((ab.numpy().astype(np.float64) - truth.numpy()) ** 2).sum(0))
    assert (distance > 150).any() and (distance < 5).any()
    step = 0.01
    thresholds = np.arange(0, 150 + step / 2, step)
    shares = np.searchsorted(np.sort(distance.ravel()), thresholds, side="right") / distance.size
    area = np.trapezoid(shares, thresholds) / 150
    assert float(closeness(ab, truth).mean()) == pytest.approx(area, abs=1e-5)
    # Thresholds of whole units, as they are commonly swept, come within a thousandth.
    coarse = np.asarray([(distance <= threshold).mean() for threshold in range(151)])
    assert float(closeness(ab, truth).mean()) == pytest.approx(np.trapezoid(coarse, dx=1) / 150, abs=1e-3)


def test_closeness_by_hand() -> None:
    truth = torch.tensor([30.0, 40.0]).view(2, 1, 1).expand(2, 1, 3)
    ab = torch.stack((truth[:, 0, 0], torch.zeros(2), torch.tensor([-500.0, 0.0])), dim=1)[:, None]
    assert closeness(ab, truth).flatten().tolist() == pytest.approx([1.0, 2 / 3, 0.0])


def test_pixel_weights_are_those_of_the_nearest_bin(photos: Tensor) -> None:
    weights = torch.rand(313, dtype=torch.float64)
    for photo in photos[:4]:
        ab = rgb_to_lab(photo)[1:]
        assert torch.equal(pixel_weights(ab, weights), weights[nearest_bin(ab[None])[0]])
    # Colors that no bin of the grid is next to, as sRGB has none.
    far = torch.tensor([[100.0, -90.0, 120.0, -3.0], [100.0, -90.0, -127.0, 4.0]]).view(2, 2, 2)
    assert torch.equal(pixel_weights(far, weights), weights[nearest_bin(far[None])[0]])


def test_all_of_srgb_rounds_to_a_bin() -> None:
    levels = torch.arange(0, 256, 15, dtype=torch.uint8)
    cube = torch.cartesian_prod(levels, levels, levels).T.reshape(3, -1, 1)
    ab = rgb_to_lab(cube)[1:]
    index = pixel_weights(ab, torch.arange(313))
    assert (ab_bins()[index].permute(2, 0, 1) - ab).abs().max() <= 5.0001


def test_rarity_is_the_inverse_prior_above_a_floor() -> None:
    prior = torch.rand(313, dtype=torch.float64) + 0.1
    prior[7] = 1e-15
    prior /= prior.sum()
    weights = rarity_weights(prior)
    assert float(weights[3] / weights[5]) == pytest.approx(float(prior[5] / prior[3]), rel=1e-5)
    assert float(weights[7] / weights[5]) == pytest.approx(float(prior[5] / RAREST), rel=1e-5)


def test_colorfulness_against_its_definition() -> None:
    chance = np.random.default_rng(0)
    picture = chance.integers(0, 256, (3, 20, 30), dtype=np.uint8)
    red, green, blue = picture.astype(np.float64)
    first, second = red - green, 0.5 * (red + green) - blue
    wanted = np.hypot(first.std(), second.std()) + 0.3 * np.hypot(first.mean(), second.mean())
    assert float(colorfulness(torch.from_numpy(picture)[None])) == pytest.approx(wanted, rel=1e-12)


def test_colorfulness_keeps_the_signs() -> None:
    picture = torch.zeros(1, 3, 1, 2, dtype=torch.uint8)
    picture[0, 0, 0, 0] = picture[0, 1, 0, 1] = 200  # a red pixel and a green one
    # R - G is +-200: spread 200, mean 0. (R + G) / 2 - B is 100 on both: spread 0, mean 100.
    assert float(colorfulness(picture)) == pytest.approx(200 + 0.3 * 100)
    assert float(colorfulness(torch.full((1, 3, 4, 4), 90, dtype=torch.uint8))) == 0.0


def test_psnr_and_ssim_against_independent_ones(photos: Tensor) -> None:
    torch.manual_seed(0)
    truth = photos[[0, 9, 20]]
    noisy = (truth.float() + 12 * torch.randn(truth.shape)).clamp(0, 255).to(torch.uint8)
    for one, other, decibel, similar in zip(noisy, truth, psnr(noisy, truth), ssim(noisy, truth), strict=True):
        left, right = one.permute(1, 2, 0).numpy(), other.permute(1, 2, 0).numpy()
        assert float(decibel) == pytest.approx(peak_signal_noise_ratio(right, left, data_range=255), abs=1e-3)
        wanted = np.mean([similarity(left[:, :, each], right[:, :, each]) for each in range(3)])
        assert float(similar) == pytest.approx(wanted, abs=1e-4)


def similarity(one: np.ndarray, other: np.ndarray) -> float:
    """SSIM of one channel by its definition, in float64."""
    x, y = one.astype(np.float64), other.astype(np.float64)

    def blur(values: np.ndarray) -> np.ndarray:
        return gaussian_filter(values, 1.5, truncate=3.5, mode="mirror")

    mean_x, mean_y, c1, c2 = blur(x), blur(y), (0.01 * 255) ** 2, (0.03 * 255) ** 2
    var_x, var_y, both = blur(x * x) - mean_x**2, blur(y * y) - mean_y**2, blur(x * y) - mean_x * mean_y
    shares = (2 * mean_x * mean_y + c1) * (2 * both + c2) / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
    return float(shares.mean())


def test_equal_pictures_score_the_ceiling(photos: Tensor) -> None:
    assert psnr(photos[:2], photos[:2]).tolist() == pytest.approx([PSNR_MOST] * 2)
    assert pytest.approx(10 * np.log10(255**2 * 12), abs=0.005) == PSNR_MOST
    assert ssim(photos[:2], photos[:2]).tolist() == pytest.approx([1.0, 1.0], abs=1e-5)
