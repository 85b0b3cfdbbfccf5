"""Targets and statistics of the training photos, worked out by hand."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage.color import rgb2lab
from torch import Tensor

from ssl_colorize.color import ab_bins, rebalance_weights, smooth_prior
from ssl_colorize.errors import UserError
from ssl_colorize.pretrain.config import Recipe
from ssl_colorize.pretrain.statistics import count_statistics, read_prior
from ssl_colorize.pretrain.targets import make_targets, subsampled_ab

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


# ---- statistics -----------------------------------------------------------------------------------------------------


def test_statistics_of_the_training_photos(photos: Tensor) -> None:
    recipe = Recipe()
    statistics = count_statistics(photos.split(5), recipe, stride=4)
    for value in (statistics.prior, statistics.constant):
        assert value.dtype == torch.float32 and value.sum().item() == pytest.approx(1, abs=1e-5)
    assert (statistics.prior * statistics.class_weights).sum().item() == pytest.approx(1, abs=1e-4)
    # A color that the photos lack costs the constant 13 nats and not infinitely many.
    assert -math.log(statistics.constant.min()) == pytest.approx(math.log(313 / 1e-3), abs=0.1)
    # Rebalancing moves the constant toward rare colors.
    plain = count_statistics(photos.split(5), recipe.model_copy(update={"rebalance": False}), stride=4)
    assert torch.equal(plain.class_weights, torch.ones(313))
    assert plain.constant[120] > statistics.constant[120]
    assert torch.equal(plain.prior, statistics.prior)


def test_a_prior_of_the_users_own(tmp_path: Path, photos: Tensor) -> None:
    prior = smooth_prior(torch.arange(1.0, 314.0))
    np.save(tmp_path / "prior.npy", (prior * 7).numpy())
    recipe = Recipe(prior=str(tmp_path / "prior.npy"))
    statistics = count_statistics([photos], recipe, stride=4)
    assert torch.allclose(statistics.prior.double(), prior, atol=1e-7)
    assert torch.allclose(statistics.class_weights, rebalance_weights(prior))


def test_photos_without_color_are_no_training_set() -> None:
    with pytest.raises(UserError, match="All 2 training photos looked at are gray"):
        count_statistics([torch.stack((gray_photo(), gray_photo()))], Recipe(), stride=4)


def test_a_mix_of_zero_without_smoothing_says_so(photos: Tensor) -> None:
    with pytest.raises(UserError, match=r"^Setting mix: .*smooth"):
        count_statistics([photos], Recipe(mix=0, smoothing=0), stride=4)


@pytest.mark.parametrize(
    "values",
    [np.ones(312), -np.ones(313), np.full(313, np.nan), np.zeros(313), np.array(["a"] * 313), np.ones((313, 1))],
)
def test_unusable_prior_files_are_refused(tmp_path: Path, values: np.ndarray) -> None:
    np.save(tmp_path / "prior.npy", values)
    with pytest.raises(UserError, match=r"prior\.npy"):
        read_prior(tmp_path / "prior.npy")


def test_missing_or_foreign_prior_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"Cannot read the prior .*No such file"):
        read_prior(tmp_path / "none.npy")
    for content in (b"no numpy", b""):
        (tmp_path / "text.npy").write_bytes(content)
        with pytest.raises(UserError, match="Cannot read the prior"):
            read_prior(tmp_path / "text.npy")
    np.savez(tmp_path / "many.npz", a=np.ones(313))
    with pytest.raises(UserError, match="prior"):
        read_prior(tmp_path / "many.npz")
