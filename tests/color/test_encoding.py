"""Soft codes against an exhaustive search in float64, and decodings against loops."""

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from ssl_colorize.color import ab_bins, annealed_mean, mean, mode, nearest_bin, rgb_to_lab, soft_encode


def brute_force(ab: Tensor, neighbors: int, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """Dense codes (N, 313) in float64 of all colors of (B, 2, H, W), and which have a clear K-th neighbor (N,)."""
    points = ab.permute(0, 2, 3, 1).reshape(-1, 1, 2).double().numpy()
    squared = ((points - ab_bins().double().numpy()) ** 2).sum(-1)
    order = squared.argsort(axis=1, kind="stable")[:, : neighbors + 1]
    near = np.take_along_axis(squared, order, axis=1)
    gaussian = np.exp((near[:, :1] - near[:, :neighbors]) / (2 * sigma**2))
    dense = np.zeros(squared.shape)
    np.put_along_axis(dense, order[:, :neighbors], gaussian / gaussian.sum(1, keepdims=True), axis=1)
    # Of two bins at the same distance either will do.
    return dense, np.sqrt(near[:, neighbors]) - np.sqrt(near[:, neighbors - 1]) > 1e-4


def dense(indices: Tensor, weights: Tensor) -> np.ndarray:
    """Codes (B, K, H, W) as (B * H * W, 313)."""
    flat = torch.zeros(len(indices), 313, *indices.shape[2:]).scatter_add_(1, indices, weights)
    return flat.permute(0, 2, 3, 1).reshape(-1, 313).numpy()


def random_ab(count: int = 4000) -> Tensor:
    """Uniform over the whole square, corners without bins included."""
    return (torch.rand(1, 2, 1, count, generator=torch.Generator().manual_seed(0)) - 0.5) * 2 * 115


@pytest.mark.parametrize(("neighbors", "sigma"), [(1, 5.0), (5, 5.0), (10, 5.0), (5, 2.0), (7, 20.0)])
@pytest.mark.parametrize("exact", [False, True])
def test_codes_are_those_of_an_exhaustive_search(photos: Tensor, neighbors: int, sigma: float, exact: bool) -> None:
    for ab in (random_ab(), rgb_to_lab(photos[::4, :, ::4, ::4])[:, 1:]):
        indices, weights = soft_encode(ab, neighbors, sigma, exact=exact)
        assert indices.dtype == torch.int64 and weights.dtype == torch.float32
        assert indices.shape == weights.shape == (len(ab), neighbors, *ab.shape[2:])
        expected, clear = brute_force(ab, neighbors, sigma)
        difference = np.abs(dense(indices, weights) - expected).max(axis=1)
        assert clear.mean() > 0.98
        assert difference[clear].max() < 1e-4


@pytest.mark.parametrize("neighbors", [1, 5, 10])
def test_the_table_misses_no_neighbor_on_the_borders_of_its_cells(neighbors: int) -> None:
    # Corners, borders and middles of cells, where a superset that is one bin short would show first.
    ticks = torch.cat([torch.arange(-128.0, 128.0, 7.0) + shift for shift in (0.0, 0.4999, 0.5, 0.5001)])
    ab = torch.cartesian_prod(ticks, ticks).T.reshape(1, 2, len(ticks), len(ticks))
    fast, slow = (soft_encode(ab, neighbors, exact=exact) for exact in (False, True))
    assert torch.equal(fast[0], slow[0]) and torch.equal(fast[1], slow[1])


def test_nearest_first_distinct_and_summing_to_one() -> None:
    ab = random_ab()
    indices, weights = soft_encode(ab, 10)
    assert (weights.diff(dim=1) <= 0).all()
    assert torch.allclose(weights.sum(1), torch.ones(()), atol=1e-6)
    assert (indices.sort(dim=1).values.diff(dim=1) > 0).all()
    assert torch.equal(nearest_bin(ab), indices[:, 0])
    assert torch.equal(nearest_bin(ab), torch.cdist(ab[0, :, 0].T, ab_bins()).argmin(1).view(1, 1, -1))


def test_a_code_worked_out_by_hand() -> None:
    # Gray is bin 120; its four neighbors at distance 10 have exp(-100 / 50) each.
    indices, weights = soft_encode(torch.zeros(1, 2, 1, 1), neighbors=5, sigma=5.0)
    side = np.exp(-2) / (1 + 4 * np.exp(-2))
    assert indices[0, 0, 0, 0] == 120 and weights[0, 0, 0, 0].item() == pytest.approx(1 - 4 * side, abs=1e-6)
    around = {tuple(point) for point in ab_bins()[indices[0, 1:, 0, 0]].int().tolist()}
    assert around == {(-10, 0), (10, 0), (0, -10), (0, 10)}
    assert weights[0, 1:, 0, 0].tolist() == pytest.approx([side] * 4, abs=1e-6)


def test_colors_far_outside_have_finite_codes() -> None:
    ab = torch.tensor([[1000.0, -1000.0], [150.0, -200.0], [0.0, 1e4]]).T.reshape(1, 2, 1, 3)
    for exact in (False, True):
        indices, weights = soft_encode(ab, 5, exact=exact)
        assert weights.isfinite().all() and torch.allclose(weights.sum(1), torch.ones(()))
        assert indices.min() >= 0 and indices.max() < 313


@pytest.mark.parametrize(("neighbors", "error"), [(5, 0.22), (10, 0.24)])
def test_a_color_comes_back_within_the_papers_error(neighbors: int, error: float) -> None:
    # Colors spread evenly over the part of the ab plane that sRGB fills: a center for every unit square met.
    axis = torch.linspace(0, 1, 96)
    rgb = torch.cartesian_prod(axis, axis, axis).T.reshape(3, 96, -1)
    ab = rgb_to_lab(rgb)[1:].flatten(1).round().unique(dim=1).view(1, 2, 1, -1)
    ab = ab + torch.rand(ab.shape, generator=torch.Generator().manual_seed(0)) - 0.5
    indices, weights = soft_encode(ab, neighbors)
    decoded = (ab_bins()[indices] * weights.unsqueeze(-1)).sum(1).permute(0, 3, 1, 2)
    assert (decoded - ab).norm(dim=1).mean().item() == pytest.approx(error, abs=0.02)


@pytest.mark.parametrize(
    ("ab", "options", "complaint"),
    [
        (torch.zeros(2, 4, 4), {}, "expected ab"),
        (torch.zeros(1, 3, 4, 4), {}, "expected ab"),
        (torch.zeros(1, 2, 4, 4), {"neighbors": 0}, "neighbors"),
        (torch.zeros(1, 2, 4, 4), {"neighbors": 314}, "neighbors"),
        (torch.zeros(1, 2, 4, 4), {"sigma": 0.0}, "sigma"),
    ],
)
def test_misuse_of_the_code_is_refused(ab: Tensor, options: dict[str, float], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        soft_encode(ab, **options)  # type: ignore[arg-type]


# ---- decoding -------------------------------------------------------------------------------------------------------


@pytest.fixture
def logits() -> Tensor:
    return 3 * torch.randn(2, 313, 3, 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("temperature", [0.1, 0.38, 1.0, 2.0])
def test_annealed_mean_is_its_formula(logits: Tensor, temperature: float) -> None:
    decoded = annealed_mean(logits, temperature)
    assert decoded.shape == (2, 2, 3, 4) and decoded.dtype == torch.float32
    centers = ab_bins().double().numpy()
    for photo, row, column in itertools.product(range(2), range(3), range(4)):
        # f_T of the distribution itself, as the paper writes it: z^(1/T) over its sum.
        z = np.exp(logits[photo, :, row, column].double().numpy())
        annealed = (z / z.sum()) ** (1 / temperature)
        expected = (annealed / annealed.sum()) @ centers
        assert decoded[photo, :, row, column].tolist() == pytest.approx(expected.tolist(), abs=1e-3)


def test_its_ends_are_the_mode_and_the_mean(logits: Tensor) -> None:
    most = ab_bins()[logits.argmax(1)].permute(0, 3, 1, 2)
    assert torch.equal(mode(logits), most) and torch.equal(annealed_mean(logits, 0), most)
    assert torch.allclose(annealed_mean(logits, 1e-3), most, atol=1e-2)
    assert torch.allclose(mean(logits), torch.einsum("bqhw,qc->bchw", logits.softmax(1), ab_bins()), atol=1e-3)
    assert torch.equal(mean(logits), annealed_mean(logits, 1.0))


def test_less_temperature_gives_more_chroma(logits: Tensor) -> None:
    chroma = [annealed_mean(logits, t).norm(dim=1).mean().item() for t in (2.0, 1.0, 0.38, 0.1)]
    assert chroma == sorted(chroma) and chroma[0] < 0.5 * chroma[-1]


def test_a_constant_added_to_a_pixels_logits_changes_nothing(logits: Tensor) -> None:
    shift = torch.linspace(-300, 300, 12).view(1, 1, 3, 4)
    for temperature in (0.0, 0.38, 1.0):
        assert torch.allclose(annealed_mean(logits + shift, temperature), annealed_mean(logits, temperature), atol=2e-2)


def test_half_precision_logits_and_other_bins(logits: Tensor) -> None:
    half = logits.bfloat16()
    assert annealed_mean(half).dtype == torch.float32
    assert torch.allclose(annealed_mean(half), annealed_mean(half.float()), atol=1e-5)
    two = torch.tensor([[10.0, 0.0], [0.0, 20.0]])
    even = annealed_mean(torch.zeros(1, 2, 1, 1), bins=two)
    assert even.flatten().tolist() == pytest.approx([5, 10])


def test_misuse_of_the_decoding_is_refused(logits: Tensor) -> None:
    with pytest.raises(ValueError, match="expected logits"):
        annealed_mean(logits[:, :300])
    with pytest.raises(ValueError, match="expected logits"):
        annealed_mean(logits[0])
    for temperature in (-0.1, float("nan")):
        with pytest.raises(ValueError, match="temperature"):
            annealed_mean(logits, temperature)
