"""Color statistics of the training photos, and priors from files."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from ssl_colorize.color import rebalance_weights, smooth_prior
from ssl_colorize.errors import UserError
from ssl_colorize.pretrain.config import Recipe
from ssl_colorize.pretrain.start import count_statistics


def gray_photo() -> Tensor:
    return torch.linspace(0, 255, 64).to(torch.uint8).view(1, 8, 8).expand(3, 8, 8)


def test_statistics_of_the_training_photos(photos: Tensor) -> None:
    recipe = Recipe()
    statistics, _ = count_statistics(photos.split(5), recipe, stride=4)
    for value in (statistics.prior, statistics.constant):
        assert value.dtype == torch.float32 and value.sum().item() == pytest.approx(1, abs=1e-5)
    assert (statistics.prior * statistics.class_weights).sum().item() == pytest.approx(1, abs=1e-4)
    # A color that the photos lack costs the constant 13 nats and not infinitely many.
    assert -math.log(statistics.constant.min()) == pytest.approx(math.log(313 / 1e-3), abs=0.1)
    # Rebalancing moves the constant toward rare colors.
    plain, _ = count_statistics(photos.split(5), recipe.model_copy(update={"rebalance": False}), stride=4)
    assert torch.equal(plain.class_weights, torch.ones(313))
    assert plain.constant[120] > statistics.constant[120]
    assert torch.equal(plain.prior, statistics.prior)


def test_a_prior_of_the_users_own(tmp_path: Path, photos: Tensor) -> None:
    prior = smooth_prior(torch.arange(1.0, 314.0))
    np.save(tmp_path / "prior.npy", (prior * 7).numpy())
    recipe = Recipe(prior=str(tmp_path / "prior.npy"))
    statistics, _ = count_statistics([photos], recipe, stride=4)
    assert torch.allclose(statistics.prior.double(), prior, atol=1e-7)
    assert torch.allclose(statistics.class_weights, rebalance_weights(prior))


def test_photos_without_color_are_no_training_set() -> None:
    with pytest.raises(UserError, match="All 2 training photos looked at are gray"):
        count_statistics([torch.stack((gray_photo(), gray_photo()))], Recipe(), stride=4)


def test_gray_photos_among_others_are_counted_in_words(photos: Tensor) -> None:
    gray = gray_photo().repeat(1, photos.shape[2] // 8, photos.shape[3] // 8).unsqueeze(0)
    _, line = count_statistics([torch.cat((photos, gray))], Recipe(), stride=4)
    assert line is not None and line.startswith(f"1 of the {len(photos) + 1} crops")
    assert count_statistics([photos], Recipe(), stride=4)[1] is None


def test_a_mix_of_zero_without_smoothing_says_so(photos: Tensor) -> None:
    with pytest.raises(UserError, match=r"^Setting mix: .*smooth"):
        count_statistics([photos], Recipe(mix=0, smoothing=0), stride=4)
