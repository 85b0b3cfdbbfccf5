"""The 313 bins, by their rule and by what is published of them."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from scipy.spatial import ConvexHull
from skimage.color import rgb2lab

from ssl_colorize.color import ab_bins


def chebyshev_distances(points: np.ndarray, hull: np.ndarray) -> np.ndarray:
    """Of each point (N, 2) to the convex hull of the given vertices (M, 2), as a linear program.

    min t such that some convex combination of the vertices is within t of the point along both axes.
    """
    count = len(hull)
    axes = np.concatenate((hull.T, -hull.T))
    bounds = np.concatenate((axes, -np.ones((4, 1))), axis=1)
    sums_to_one = np.concatenate((np.ones((1, count)), [[0.0]]), axis=1)
    cost = np.zeros(count + 1)
    cost[-1] = 1
    return np.array(
        [linprog(cost, bounds, np.concatenate((point, -point)), sums_to_one, [1.0]).fun for point in points]
    )


@pytest.fixture(scope="module")
def distances() -> dict[tuple[int, int], float]:
    """Chebyshev distance to the hull of the whole sRGB cube, of every grid point."""
    axis = np.linspace(0, 1, 33)
    ab = rgb2lab(np.stack(np.meshgrid(axis, axis, axis), axis=-1).reshape(-1, 1, 3))[:, 0, 1:]
    hull = ab[ConvexHull(ab).vertices]
    ticks = np.arange(-110, 111, 10)
    grid = np.array([(a, b) for a in ticks for b in ticks])
    return dict(zip(map(tuple, grid.tolist()), chebyshev_distances(grid.astype(float), hull), strict=True))


def test_bins_are_the_grid_points_within_a_step_of_the_cube(distances: dict[tuple[int, int], float]) -> None:
    assert {tuple(point) for point in ab_bins().int().tolist()} == {p for p, far in distances.items() if far < 10}


def test_the_borderline_points_are_the_known_ones(distances: dict[tuple[int, int], float]) -> None:
    kept = {point: far for point, far in distances.items() if far < 10}
    dropped = {point: far for point, far in distances.items() if far >= 10}
    assert max(kept, key=kept.__getitem__) == (-30, -50)
    assert max(kept.values()) == pytest.approx(9.726, abs=2e-2)
    assert min(dropped, key=dropped.__getitem__) == (80, 80)
    assert min(dropped.values()) == pytest.approx(10.070, abs=2e-2)


def test_number_order_and_type() -> None:
    bins = ab_bins()
    assert bins.shape == (313, 2) and bins.dtype == torch.float32
    assert bins[120].tolist() == [0, 0]
    assert bins.tolist() == sorted(bins.tolist())
    assert (bins % 10 == 0).all()


def test_bins_are_the_published_ones(reference: Callable[[str], np.ndarray]) -> None:
    assert np.array_equal(ab_bins().numpy(), reference("pts_in_hull.npy"))


def test_callers_get_a_copy_of_their_own() -> None:
    ab_bins().zero_()
    assert ab_bins().abs().max() == 110


def test_other_steps_follow_the_same_rule(distances: dict[tuple[int, int], float]) -> None:
    # The multiples of 20 among the grid of tens, with their own limit of 20.
    expected = {p for p, far in distances.items() if far < 20 and p[0] % 20 == 0 and p[1] % 20 == 0}
    assert {tuple(point) for point in ab_bins(20).int().tolist()} == expected
    for step in (0, -10, 111):
        with pytest.raises(ValueError, match="grid step"):
            ab_bins(step)
