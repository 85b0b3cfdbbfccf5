"""Neighbors vote: each for its own classes, with weight exp(similarity / temperature)."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from ssl_colorize.evaluate.nearest import Neighbors


def single_label_votes(
    neighbors: Neighbors, labels: Tensor, classes: int, *, ks: Sequence[int], temperature: float
) -> Iterator[tuple[int, Tensor]]:
    """Votes of the k nearest, for every k, counted once: those of a larger k are added to those of a smaller.

    Args:
        neighbors: at least max(ks) of each query.
        labels: (bank,) int64 classes.

    Yields:
        k, ascending, and votes (N, classes) in units of the nearest neighbor's vote. The next step adds to the same
        tensor.
    """
    weights = _weights(neighbors.similarity, temperature)
    voted = labels[neighbors.place]
    votes = weights.new_zeros(len(weights), classes)
    start = 0
    for k in sorted(set(ks)):
        votes.scatter_add_(1, voted[:, start:k], weights[:, start:k])
        start = k
        yield k, votes


def multi_label_votes(
    neighbors: Neighbors, labels: Tensor, *, ks: Sequence[int], temperature: float
) -> Iterator[tuple[int, Tensor]]:
    """For every k the share of the votes that each class gets: neighbors whose label is unsure do not vote.

    A share, and not a sum, so that the scores of different queries can be put in one order, as average precision does.

    Args:
        neighbors: at least max(ks) of each query.
        labels: (bank, C) of 1, 0 and -1 (unsure).

    Yields:
        k, ascending, and shares (N, C) in [0, 1]; 0 where nobody votes.
    """
    weights = _weights(neighbors.similarity, temperature)
    classes = labels.shape[1]
    # One look-up for both sums; no (N, k, C) is ever made.
    table = torch.cat([labels == 1, labels != -1], dim=1).to(weights.dtype)
    sums = weights.new_zeros(len(weights), 2 * classes)
    start = 0
    for k in sorted(set(ks)):
        sums += functional.embedding_bag(
            neighbors.place[:, start:k], table, mode="sum", per_sample_weights=weights[:, start:k].contiguous()
        )
        start = k
        shares = sums[:, :classes] / sums[:, classes:].clamp_min(torch.finfo(weights.dtype).tiny)
        yield k, shares


def _weights(similarity: Tensor, temperature: float) -> Tensor:
    """exp(similarity / temperature) over that of the nearest: the same order, and no overflow at T = 0.005."""
    return ((similarity - similarity[:, :1]) / temperature).exp()
