"""What searches for neighbors share: the form of their answer, and the largest of many similarities."""

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Features = NDArray[np.floating[Any]]


class Neighbors(NamedTuple):
    """The k nearest of each query, the nearest first, on the CPU."""

    similarity: Tensor  # (N, k) float32, cosine
    place: Tensor  # (N, k) int64, rows of the bank


def top(values: Tensor, k: int) -> Neighbors:
    """The k largest of each row (R, N), in order, and their places.

    They lie in the k groups with the largest maxima: looking for those first, a CPU sorts a fraction of the row.
    """
    count = values.shape[1]
    size = int((count / k) ** 0.5)
    if values.device.type != "cpu" or size < 3:
        return Neighbors(*values.topk(k))
    groups = count // size
    grouped = values[:, : groups * size].unflatten(1, (size, groups))
    best = grouped.amax(1).topk(k, sorted=False).indices
    inside = grouped.gather(2, best[:, None].expand(-1, size, -1)).flatten(1)
    value, at = torch.cat([inside, values[:, groups * size :]], 1).topk(k)
    place = best.gather(1, at % k) + at.div(k, rounding_mode="floor") * groups
    return Neighbors(value, torch.where(at < k * size, place, at + (groups * size - k * size)))


def merged(best: Neighbors | None, new: Neighbors, k: int) -> Neighbors:
    """The k largest of both."""
    if best is None:
        return new
    value, at = torch.cat([best.similarity, new.similarity], 1).topk(
        min(k, best.similarity.shape[1] + new.similarity.shape[1])
    )
    return Neighbors(value, torch.cat([best.place, new.place], 1).gather(1, at))


def leave_out(similarity: Tensor, place: Tensor) -> None:
    """Make sure that query i is not its own neighbor, which is column place[i] if there is one."""
    rows = torch.nonzero((place >= 0) & (place < similarity.shape[1]))[:, 0]
    similarity[rows, place[rows]] = -torch.inf
