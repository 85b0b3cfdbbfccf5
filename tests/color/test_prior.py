"""The prior, the class weights and the best constant prediction."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from ssl_colorize.color import (
    ColorStatistics,
    ab_bins,
    is_colored,
    rebalance_weights,
    rgb_to_lab,
    smooth_prior,
    soft_encode,
)


def random_prior(seed: int = 0) -> Tensor:
    return torch.rand(313, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).pow(4)


def one_at(index: int) -> Tensor:
    return torch.nn.functional.one_hot(torch.tensor(index), 313).double()


def test_smoothing_is_a_gaussian_that_keeps_every_bins_mass() -> None:
    bins = ab_bins().double().numpy()
    prior = random_prior() / random_prior().sum()
    expected = np.zeros(313)
    for source in range(313):
        kernel = np.exp(-((bins - bins[source]) ** 2).sum(1) / (2 * 5.0**2))
        expected += prior[source].item() * kernel / kernel.sum()
    smoothed = smooth_prior(prior, 5.0)
    assert smoothed.dtype == torch.float64
    assert smoothed.numpy() == pytest.approx(expected, rel=1e-9)
    assert smoothed.sum().item() == pytest.approx(1)


def test_smoothing_of_one_bin_by_hand() -> None:
    smoothed = smooth_prior(one_at(120), 5.0)
    # exp(-100 / 50) of the middle for a side neighbor, exp(-200 / 50) for a corner one.
    around = {tuple(point): value for point, value in zip(ab_bins().int().tolist(), smoothed.tolist(), strict=True)}
    assert around[10, 0] / around[0, 0] == pytest.approx(np.exp(-2))
    assert around[-10, 10] / around[0, 0] == pytest.approx(np.exp(-4))
    assert torch.equal(smooth_prior(one_at(120), 0.0), one_at(120))


def test_weights_by_hand() -> None:
    # Bin 0 has 3/4 of the mass and bin 1 the rest: 1 / (p/2 + 1/626) each, then scaled.
    prior = 0.75 * one_at(0) + 0.25 * one_at(1)
    raw = np.array([1 / (0.375 + 1 / 626), 1 / (0.125 + 1 / 626), 626.0])
    expected = raw / (0.75 * raw[0] + 0.25 * raw[1])
    weights = rebalance_weights(prior, 0.5)
    assert weights.dtype == torch.float32
    assert weights[:3].tolist() == pytest.approx(expected.tolist(), rel=1e-5)
    assert torch.equal(weights[2:], weights[2].expand(311))


@pytest.mark.parametrize("mix", [0.0, 0.1, 0.5, 1.0])
def test_weights_have_expectation_one(mix: float) -> None:
    prior = smooth_prior(random_prior())
    weights = rebalance_weights(prior, mix)
    assert (prior * weights).sum().item() == pytest.approx(1, rel=1e-6)
    # The unnormalized prior says the same.
    assert torch.allclose(rebalance_weights(prior * 40, mix), weights)


def test_the_ends_of_the_mix() -> None:
    prior = smooth_prior(random_prior())
    assert torch.allclose(rebalance_weights(prior, 1.0), torch.ones(313))
    assert torch.allclose(rebalance_weights(prior, 0.0), (1 / (313 * prior)).float())


def test_weights_of_imagenets_prior_are_the_papers(reference: Callable[[str], np.ndarray]) -> None:
    prior = torch.from_numpy(reference("prior_probs.npy"))
    assert prior.max().item() == pytest.approx(0.2012, abs=5e-5) and prior.argmax() == 120
    assert prior.min().item() == pytest.approx(6.1e-9, rel=1e-2)
    assert -torch.xlogy(prior, prior).sum().item() == pytest.approx(3.437, abs=5e-4)
    weights = rebalance_weights(prior, 0.5)
    assert weights[120].item() == pytest.approx(0.0965, abs=5e-5) and weights.argmin() == 120
    assert weights.max().item() == pytest.approx(6.175, abs=5e-4)
    assert ab_bins()[weights.argmax()].tolist() == [100, -90]
    assert weights.mean().item() == pytest.approx(5.175, abs=5e-4)
    assert weights.median().item() == pytest.approx(5.999, abs=5e-4)


@pytest.mark.parametrize(
    ("prior", "mix"),
    [
        (one_at(3), 0.0),
        # So little mass in places that its inverse is no float32.
        (smooth_prior(one_at(120), 5.0), 0.0),
        (torch.ones(312), 0.5),
        (torch.zeros(313), 0.5),
        (-torch.ones(313), 0.5),
        (torch.full((313,), torch.nan), 0.5),
        (torch.ones(313), 1.5),
        (torch.ones(313), -0.1),
    ],
)
def test_unusable_priors_and_mixes_are_refused(prior: Tensor, mix: float) -> None:
    with pytest.raises(ValueError, match=r"mix|prior"):
        rebalance_weights(prior, mix)


def test_a_photo_is_gray_where_neither_axis_exceeds_five() -> None:
    ab = torch.zeros(5, 2, 4, 4)
    ab[1, 0, 2, 3] = 5.0
    ab[2, 0, 2, 3] = 5.01
    ab[3, 1, 0, 0] = -5.01
    # Chroma 7, but neither axis above 5.
    ab[4] = 4.95
    assert is_colored(ab).tolist() == [False, False, True, True, False]


# ---- statistics -----------------------------------------------------------------------------------------------------


@pytest.fixture
def ab(photos: Tensor) -> Tensor:
    """Six photos of 8 x 8, of which the last two are gray."""
    ab = rgb_to_lab(photos[::6, :, ::8, ::8])[:6, 1:].clone()
    ab[4:] = ab[4:].clamp(-4, 4)
    assert is_colored(ab).tolist() == [True] * 4 + [False] * 2
    return ab


def loop_codes(ab: Tensor) -> list[tuple[int, np.ndarray]]:
    """(nearest bin, code (313,)) of every pixel, one by one."""
    bins = ab_bins().double().numpy()
    codes = []
    for point in ab.permute(0, 2, 3, 1).reshape(-1, 2).double().numpy():
        squared = ((bins - point) ** 2).sum(1)
        near = squared.argsort(kind="stable")[:5]
        code = np.zeros(313)
        code[near] = np.exp(-squared[near] / 50)
        codes.append((int(near[0]), code / code.sum()))
    return codes


def counted(*batches: Tensor) -> ColorStatistics:
    statistics = ColorStatistics()
    for batch in batches:
        statistics.update(batch)
    return statistics


def test_the_prior_counts_every_pixel_of_every_photo(ab: Tensor) -> None:
    statistics = counted(ab)
    assert (statistics.photos, statistics.gray_photos) == (6, 2)
    expected = np.mean([code for _, code in loop_codes(ab)], axis=0)
    assert statistics.prior(smoothing=0).numpy() == pytest.approx(expected, abs=1e-6)
    assert torch.allclose(statistics.prior(smoothing=5), smooth_prior(torch.from_numpy(expected), 5), atol=1e-6)


def test_batches_do_not_matter(ab: Tensor) -> None:
    at_once, one_by_one = counted(ab), counted(*ab.split(1))
    assert torch.allclose(at_once.prior(), one_by_one.prior(), atol=1e-12)
    assert torch.allclose(at_once.mean_ab(), one_by_one.mean_ab())
    assert one_by_one.photos == 6 and one_by_one.gray_photos == 2


def test_the_best_constant_is_the_weighted_mean_code_of_colored_photos(ab: Tensor) -> None:
    weights = torch.linspace(0.2, 3, 313)
    codes = loop_codes(ab[:4])
    expected = np.sum([weights[nearest].item() * code for nearest, code in codes], axis=0)
    assert counted(ab).best_constant(weights).numpy() == pytest.approx(expected / expected.sum(), abs=1e-6)


def test_nothing_constant_beats_the_best_constant(ab: Tensor) -> None:
    class_weights = rebalance_weights(counted(ab).prior(), 0.5).double()
    indices, weights = soft_encode(ab[:4])
    dense = torch.zeros(4, 313, 8, 8, dtype=torch.float64).scatter_add_(1, indices, weights.double())
    pixel_weights = class_weights[indices[:, 0]].unsqueeze(1)

    def loss(logits: Tensor) -> Tensor:
        return -(pixel_weights * dense * logits.log_softmax(0).view(1, -1, 1, 1)).sum(1).mean()

    best = counted(ab).best_constant(class_weights).clamp(min=1e-12).log()
    generator = torch.Generator().manual_seed(0)
    for size in (1e-2, 0.1, 1.0):
        for _ in range(5):
            step = size * torch.randn(313, generator=generator, dtype=torch.float64)
            assert loss(best) < loss(best + step)

    found = torch.zeros(313, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([found], lr=1, max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss(found)
        value.backward()
        return value

    optimizer.step(closure)
    assert loss(found).item() == pytest.approx(loss(best).item(), abs=1e-3)
    assert loss(best) <= loss(found) + 1e-9


def test_the_mean_color_is_that_of_colored_photos(ab: Tensor) -> None:
    assert counted(ab).mean_ab().tolist() == pytest.approx(ab[:4].double().mean(dim=(0, 2, 3)).tolist(), abs=1e-5)


def test_without_photos_there_is_no_prior_and_without_color_no_constant(ab: Tensor) -> None:
    with pytest.raises(ValueError, match="mass"):
        ColorStatistics().prior()
    gray = counted(ab[4:])
    assert gray.prior().argmax() == 120
    with pytest.raises(ValueError, match="mass"):
        gray.best_constant(torch.ones(313))
