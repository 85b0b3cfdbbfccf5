"""Colors as soft distributions over the bins, and distributions back to colors (paper sections 2.1 and 2.3)."""

from functools import lru_cache

import torch
from torch import Tensor

from ssl_colorize.color.bins import ab_bins

# The look-up table's cells: whole ab units over a range that holds all of sRGB.
_REACH = 128


def soft_encode(ab: Tensor, neighbors: int = 5, sigma: float = 5.0, *, exact: bool = False) -> tuple[Tensor, Tensor]:
    """Gaussian weights over the bins nearest to each color.

    The fast path looks up the few bins that can be among the nearest anywhere in the color's cell of the ab plane,
    and sorts only those; the exact path sorts all 313. They agree wherever the two nearest sets are the same, which
    for colors within +-128 is everywhere.

    Args:
        ab: (B, 2, H, W) floats in ab units.
        neighbors: bins per color: 5 in the paper, 10 in its released code.
        sigma: width of the Gaussian in ab units.
        exact: search all bins.

    Returns:
        Bin indices (B, K, H, W) int64, nearest first (ties: lower index first), and their weights (B, K, H, W)
        float32, summing to 1 over K.

    Raises:
        ValueError: ab is not (B, 2, H, W), neighbors not in 1..313, or sigma not positive.

    >>> ab = torch.tensor([12.0, -31.0]).view(1, 2, 1, 1)
    >>> indices, weights = soft_encode(ab)
    >>> ab_bins()[indices[0, 0, 0, 0]].tolist(), round(weights[0, 0].item(), 2)
    ([10.0, -30.0], 0.6)
    """
    if ab.ndim != 4 or ab.shape[1] != 2:
        raise ValueError(f"expected ab of shape (B, 2, H, W), got {tuple(ab.shape)}")
    bins = ab_bins().to(ab.device)
    if not 1 <= neighbors <= len(bins):
        raise ValueError(f"neighbors must lie in 1..{len(bins)}, not {neighbors}")
    if not sigma > 0:
        raise ValueError(f"sigma must be positive, not {sigma}")
    points = ab.float().permute(0, 2, 3, 1).reshape(-1, 2)
    if exact:
        candidates = torch.arange(len(bins), device=ab.device).expand(len(points), -1)
    else:
        table = _candidates(neighbors, ab.device)
        cell = (points.round().clamp(-_REACH, _REACH) + _REACH).long()
        candidates = table[cell[:, 0], cell[:, 1]]
    squared = (points.unsqueeze(1) - bins[candidates]).square().sum(-1)
    # Candidates come in index order, so a stable sort settles ties in both paths alike.
    squared, order = squared.sort(dim=1, stable=True)
    squared, order = squared[:, :neighbors], order[:, :neighbors]
    # A softmax cannot underflow for colors far from every bin, where the Gaussians themselves would.
    weights = torch.softmax(squared / (-2.0 * sigma**2), dim=1)
    indices = candidates.gather(1, order)
    batch, _, height, width = ab.shape
    shape = (batch, height, width, neighbors)
    return indices.view(shape).permute(0, 3, 1, 2), weights.view(shape).permute(0, 3, 1, 2)


def nearest_bin(ab: Tensor) -> Tensor:
    """Index of the bin nearest to each color: (B, 2, H, W) in ab units -> (B, H, W) int64.

    >>> ab_bins()[nearest_bin(torch.tensor([12.0, -31.0]).view(1, 2, 1, 1))].flatten().tolist()
    [10.0, -30.0]
    """
    return soft_encode(ab, neighbors=1)[0][:, 0]


@lru_cache(maxsize=8)
def _candidates(neighbors: int, device: torch.device) -> Tensor:
    """For every cell, a superset of the `neighbors` nearest bins of any point in it: (257, 257, M) int64, ascending.

    If r is the cell's half diagonal and d the distance from its center to the K-th nearest bin, then any point of the
    cell has K bins within d + r, and so its K nearest lie within d + 2 r of the center.
    """
    axis = torch.arange(-_REACH, _REACH + 1, dtype=torch.float32)
    cells = torch.cartesian_prod(axis, axis)
    distance = torch.cdist(cells, ab_bins(), compute_mode="donot_use_mm_for_euclid_dist")
    radius = distance.kthvalue(neighbors, dim=1, keepdim=True).values + 2 * 0.5**0.5 + 1e-3
    # As many for every cell as for the most crowded one: those beyond the radius are farther and sort behind.
    most = int((distance <= radius).sum(1).max())
    chosen: Tensor = distance.topk(most, dim=1, largest=False).indices.sort(dim=1).values
    return chosen.view(len(axis), len(axis), most).to(device)


def annealed_mean(logits: Tensor, temperature: float = 0.38, *, bins: Tensor | None = None) -> Tensor:
    """The paper's decoding (equation 5): the mean of the bins under softmax(logits / temperature).

    Args:
        logits: (B, Q, H, W); any constant per pixel may be added to them.
        temperature: 1 is the mean, toward 0 the mode; 0 gives the mode itself.
        bins: (Q, 2) centers in ab units; the 313 of `ab_bins` by default.

    Returns:
        (B, 2, H, W) float32 in ab units.

    Raises:
        ValueError: the temperature is negative, or the logits do not fit the bins.

    >>> logits = torch.linspace(0, 3, 313).view(1, 313, 1, 1)
    >>> [annealed_mean(logits, temperature).flatten().round().tolist() for temperature in (0.0, 0.38, 1.0)]
    [[100.0, 0.0], [80.0, -16.0], [54.0, -8.0]]
    """
    centers = (ab_bins() if bins is None else bins).to(device=logits.device, dtype=torch.float32)
    if logits.ndim != 4 or logits.shape[1] != len(centers):
        raise ValueError(f"expected logits of shape (B, {len(centers)}, H, W), got {tuple(logits.shape)}")
    if not temperature >= 0:
        raise ValueError(f"the temperature must not be negative, got {temperature}")
    if temperature == 0:
        most: Tensor = centers[logits.argmax(1)]
        return most.permute(0, 3, 1, 2)
    probabilities = torch.softmax(logits.float() / temperature, dim=1)
    return torch.einsum("bqhw,qc->bchw", probabilities, centers)


def mean(logits: Tensor, *, bins: Tensor | None = None) -> Tensor:
    """Expected color: `annealed_mean` at temperature 1. (B, Q, H, W) -> (B, 2, H, W).

    >>> torch.allclose(mean(torch.zeros(1, 313, 1, 1)).flatten(), ab_bins().mean(0), atol=1e-4)
    True
    """
    return annealed_mean(logits, 1.0, bins=bins)


def mode(logits: Tensor, *, bins: Tensor | None = None) -> Tensor:
    """Most probable color: `annealed_mean` at temperature 0. (B, Q, H, W) -> (B, 2, H, W).

    >>> mode(torch.eye(313)[7].view(1, 313, 1, 1)).flatten().tolist() == ab_bins()[7].tolist()
    True
    """
    return annealed_mean(logits, 0.0, bins=bins)
