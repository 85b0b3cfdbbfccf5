"""The quantized ab plane: 313 bins of 10 x 10 (paper section 2.1)."""

import itertools
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import ConvexHull
from torch import Tensor

from ssl_colorize.color.lab import rgb_to_lab

GRID_STEP = 10


def ab_bins(step: int = GRID_STEP) -> Tensor:
    """Centers of the ab bins that sRGB can reach.

    A grid point is kept if its Chebyshev distance to the convex hull of the sRGB cube in the ab plane is below
    `step`. The default gives the paper's 313 bins in the paper's order: a ascending, then b ascending.

    Args:
        step: grid spacing in ab units.

    Returns:
        (Q, 2) float32, columns a and b; a fresh copy. Q is 313 for the default.

    Raises:
        ValueError: the step is not in 1..110.

    >>> ab_bins().shape, ab_bins()[0].tolist()
    (torch.Size([313, 2]), [-90.0, 50.0])
    """
    if not 1 <= step <= 110:
        raise ValueError(f"the grid step must lie in 1..110, not {step}")
    return torch.from_numpy(_ab_bins(step).astype(np.float32))


@lru_cache
def _ab_bins(step: int) -> NDArray[np.float64]:
    hull = _saturated_edges()
    facets = ConvexHull(hull).equations[:, :2]
    # The points within a Chebyshev distance r of a convex set H are its Minkowski sum with the square of half width r.
    # That sum's facets point along H's own and along the square's; its support function is h_H(n) + r |n|_1.
    normals = np.concatenate((facets, [[1, 0], [-1, 0], [0, 1], [0, -1]]))
    support = (hull @ normals.T).max(axis=0)
    axis = np.arange(-(110 // step) * step, 111, step, dtype=np.float64)
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    distance = ((grid @ normals.T - support) / np.abs(normals).sum(axis=1)).max(axis=1)
    return np.ascontiguousarray(grid[distance < step])


def _saturated_edges(samples: int = 32) -> NDArray[np.float64]:
    """ab of the cube's six fully saturated edges R-Y-G-C-B-M-R, which span the hull of the whole cube: (6 * n, 2)."""
    corners = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 1, 1], [0, 0, 1], [1, 0, 1], [1, 0, 0]], dtype=np.float64)
    along = np.linspace(0, 1, samples)[:, None]
    edges = np.concatenate([start + along * (end - start) for start, end in itertools.pairwise(corners)])
    lab = rgb_to_lab(torch.from_numpy(edges.T.astype(np.float32))[:, None, :])
    return lab[1:, 0].T.double().numpy()
