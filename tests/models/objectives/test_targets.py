"""Targets of the paper's objectives, worked out by hand."""

import numpy as np
import pytest
import torch
from skimage.color import rgb2lab
from torch import Tensor

from ssl_colorize.color import ab_bins
from ssl_colorize.models.objectives import make_targets, subsampled_ab

CORNERS = ((255, 0, 0), (0, 128, 0), (30, 60, 200), (120, 110, 100))


def made_photo() -> Tensor:
    """8 x 8 noise with known colors where a stride of 4 looks: (3, 8, 8) uint8."""
    photo = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    for (row, column), color in zip(((0, 0), (0, 4), (4, 0), (4, 4)), CORNERS, strict=True):
        photo[row, column] = color
    return torch.from_numpy(photo).permute(2, 0, 1)


def gray_photo() -> Tensor:
    return torch.linspace(0, 255, 64).to(torch.uint8).view(1, 8, 8).expand(3, 8, 8)


def test_targets_are_the_colors_at_every_fourth_pixel() -> None:
    targets = make_targets(made_photo()[None], torch.arange(313.0), stride=4)
    expected = rgb2lab(np.array(CORNERS, dtype=np.uint8).reshape(2, 2, 3))[..., 1:]
    assert targets.ab.shape == (1, 2, 2, 2)
    assert np.abs(targets.ab[0].permute(1, 2, 0).numpy() - expected).max() < 1e-3
    nearest = ((ab_bins().double().numpy() - expected.reshape(4, 1, 2)) ** 2).sum(-1).argmin(1)
    assert targets.indices[0, 0].flatten().tolist() == nearest.tolist()
    # Weights were 0, 1, 2, ..., so they tell which bin they were taken from.
    assert targets.pixel_weights[0].flatten().tolist() == nearest.tolist()
    assert targets.indices.shape == targets.weights.shape == (1, 5, 2, 2)


def test_the_input_is_the_whole_photos_lightness() -> None:
    photo = made_photo()
    targets = make_targets(photo[None], torch.ones(313), stride=4)
    expected = rgb2lab(photo.permute(1, 2, 0).numpy())[..., 0]
    assert targets.lightness.shape == (1, 1, 8, 8)
    assert np.abs(targets.lightness[0, 0].numpy() - expected).max() < 1e-3


@pytest.mark.parametrize(("side", "stride", "answer"), [(180, 8, 23), (176, 4, 44), (9, 4, 3)])
def test_odd_sizes_round_up(side: int, stride: int, answer: int) -> None:
    assert subsampled_ab(torch.zeros(1, 3, side, side), stride).shape == (1, 2, answer, answer)


def test_gray_photos_weigh_nothing_and_leave_the_others_alone() -> None:
    class_weights = torch.linspace(0.5, 2, 313)
    together = make_targets(torch.stack((gray_photo(), made_photo())), class_weights, stride=4)
    alone = make_targets(made_photo()[None], class_weights, stride=4)
    assert not together.pixel_weights[0].any()
    assert torch.equal(together.pixel_weights[1:], alone.pixel_weights) and alone.pixel_weights.all()
