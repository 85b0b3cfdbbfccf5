"""Hue and chroma against scikit-image and the standard library, and back under a gray."""

import colorsys

import numpy as np
import pytest
import torch
from skimage.color import rgb2hsv

from ssl_colorize.models.baselines.larsson import hue_chroma_to_rgb, rgb_to_hue_chroma, rgb_to_mean


def test_hue_and_chroma_are_those_of_hsv() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    pixels[:3] = pixels[:3, :, :1]
    hsv = rgb2hsv(pixels)
    hue, chroma = rgb_to_hue_chroma(torch.from_numpy(pixels).permute(2, 0, 1))
    assert np.abs(chroma.numpy() - hsv[..., 1] * hsv[..., 2]).max() < 1e-6
    away = np.abs(hue.numpy() - hsv[..., 0])
    assert np.minimum(away, 1 - away).max() < 1e-6
    assert hue.min() >= 0 and hue.max() < 1


@pytest.mark.parametrize(
    ("rgb", "hue", "chroma"),
    [
        ((255, 0, 0), 0, 1),
        ((255, 255, 0), 1 / 6, 1),
        ((0, 255, 0), 1 / 3, 1),
        ((0, 0, 255), 2 / 3, 1),
        ((255, 0, 255), 5 / 6, 1),
        ((51, 102, 51), 1 / 3, 0.2),
        ((80, 80, 80), 0, 0),
        # Just below red: wraps to nearly 1, never to 1.
        ((255, 0, 1), 1 - 1 / 255 / 6, 1),
    ],
)
def test_known_pixels(rgb: tuple[int, ...], hue: float, chroma: float) -> None:
    found = rgb_to_hue_chroma(torch.tensor(rgb, dtype=torch.uint8).view(3, 1, 1))
    assert [value.item() for value in found] == pytest.approx([hue, chroma], abs=1e-6)


def test_a_hue_a_hair_below_red_does_not_become_one() -> None:
    hue, _ = rgb_to_hue_chroma(torch.tensor([1.0, 0.0, 1e-9]).view(3, 1, 1))
    assert 0 <= hue.item() < 1


def test_the_gray_is_the_mean() -> None:
    pixels = torch.tensor([30, 60, 120], dtype=torch.uint8).view(3, 1, 1)
    assert rgb_to_mean(pixels).item() == pytest.approx(70 / 255)


def test_back_is_hsv_shifted_to_the_gray() -> None:
    chance = np.random.default_rng(0)
    for hue, chroma, gray in chance.uniform((0, 0, 0.35), (1, 0.5, 0.65), (50, 3)):
        value = gray + chroma / 2
        wanted = np.array(colorsys.hsv_to_rgb(hue, chroma / value, value))
        wanted += gray - wanted.mean()
        found = hue_chroma_to_rgb(*(torch.tensor([[number]]) for number in (hue, chroma)), torch.tensor([[[gray]]]))
        assert found.flatten().tolist() == pytest.approx(wanted, abs=1e-6)


def test_there_and_back_and_clipped() -> None:
    rgb = torch.rand(2, 3, 6, 5, generator=torch.Generator().manual_seed(0))
    hue, chroma = rgb_to_hue_chroma(rgb)
    assert (hue_chroma_to_rgb(hue, chroma, rgb_to_mean(rgb)) - rgb).abs().max() < 1e-5
    # A hue has no beginning.
    assert (hue_chroma_to_rgb(hue - 1, chroma, rgb_to_mean(rgb)) - rgb).abs().max() < 1e-5
    white = hue_chroma_to_rgb(torch.zeros(1, 1), torch.ones(1, 1), torch.ones(1, 1, 1))
    assert white.flatten().tolist() == pytest.approx([1, 2 / 3, 2 / 3])
