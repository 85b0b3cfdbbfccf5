"""Segmentation without training: patches take the labels of the patches most like them (Balazevic et al. 2023).

A patch is a cell of a frozen map. A bank holds features of patches of training photos with the shares of the classes
among their pixels; a patch of another photo attends to the nearest of them.

Source: Balazevic, Steiner, Parthasarathy, Arandjelovic, Henaff, Towards In-Context Scene Understanding, NeurIPS 2023,
arXiv 2306.01667, sections 3.1 and 3.2, and its appendix on sampling the bank.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ssl_colorize.data.annotations import IGNORED
from ssl_colorize.errors import UserError
from ssl_colorize.evaluate.knn import memory_bytes
from ssl_colorize.evaluate.metrics import as_array
from ssl_colorize.evaluate.neighbors import Neighbors, make_search
from ssl_colorize.evaluate.settings import SegmentSettings

# k and temperature.
Choice = tuple[int, float]
Array = NDArray[np.float32]


def neighbor_segmentation(
    bank_features: Any,
    bank_labels: Any,
    query_features: Any,
    *,
    k: int = 30,
    temperature: float = 0.02,
    device: torch.device | str = "cpu",
    memory: int = 1 << 28,
) -> Array:
    """The classes of patches, by cross-attention to the k patches of a bank that are most like each.

    Source: arXiv 2306.01667, section 3.2: similarities are cosines, the weights their softmax over the k.

    Args:
        bank_features: (N, D), array or tensor; rows may have any length.
        bank_labels: (N, C) shares of the classes among a patch's pixels (`patch_labels`).
        query_features: (M, D).
        k: neighbors of each.
        temperature: that similarities are divided by.
        device: to search on.
        memory: bytes that the search may take beyond the features and its answer.

    Returns:
        (M, C) float32 weighted means of the neighbors' labels. As a map (h, w, C), enlarged bilinearly, its argmax says
        the class of every pixel.

    Raises:
        UserError: the bank holds fewer than k patches.

    >>> bank, labels = [[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]], [[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]
    >>> neighbor_segmentation(bank, labels, [[2.0, 0.0]], k=1).tolist()
    [[1.0, 0.0]]
    >>> neighbor_segmentation(bank, labels, [[2.0, 0.0]], k=2, temperature=1e6).round(4).tolist()
    [[0.75, 0.25]]
    """
    bank, queries = (np.asarray(as_array(each), np.float32) for each in (bank_features, query_features))
    check_k([k], len(bank))
    search = make_search("torch", bank, device=torch.device(device), memory=memory)
    labels = torch.from_numpy(np.asarray(as_array(bank_labels), np.float32))
    ((_, found),) = attended(search(queries, k), labels, [(k, temperature)])
    return found.numpy()


def attended(neighbors: Neighbors, labels: Tensor, choices: Sequence[Choice]) -> Iterator[tuple[Choice, Tensor]]:
    """The labels (M, C) that the neighbors of each patch give it, for every k and temperature.

    Args:
        neighbors: at least as many as the largest k, of each of M patches.
        labels: (bank, C) float32.
    """
    for k, temperature in choices:
        weights = (neighbors.similarity[:, :k] / temperature).softmax(1)
        # No (M, k, C) is ever made.
        yield (k, temperature), functional.embedding_bag(
            neighbors.indices[:, :k].contiguous(), labels, mode="sum", per_sample_weights=weights
        )  # fmt: skip


def check_k(ks: Sequence[int], patches: int) -> None:
    """Refuse more neighbors than there are.

    Raises:
        UserError: a k is larger than the bank.
    """
    if max(ks) > patches:
        raise UserError(f"--k {max(ks)}: the bank holds only {patches:,} patches. Give --k {patches} or less.")


# ---- labels of patches, and which of them the bank takes -------------------------------------------------------------


def patch_labels(mask: Any, size: tuple[int, int], classes: int) -> Array:
    """The shares of the classes among the pixels of every patch of a mask.

    Args:
        mask: (H, W) classes 0..C - 1, or IGNORED.
        size: height and width of the map, whose cells cover the mask evenly (as `torch.nn.AdaptiveAvgPool2d` has it).
        classes: C.

    Returns:
        (h * w, C) float32; the rows sum to 1, or to 0 where all pixels are IGNORED, which are left out.

    >>> patch_labels([[0, 0, 1, 255], [0, 1, 255, 255], [255] * 4, [255] * 4], (2, 2), 2).tolist()
    [[0.75, 0.25], [0.0, 1.0], [0.0, 0.0], [0.0, 0.0]]
    """
    values = torch.from_numpy(np.ascontiguousarray(as_array(mask), np.int64))
    # Only of the classes that are there: a mask of a hundred classes has few at a time.
    there = [number for number in values.unique().tolist() if number != IGNORED]
    shares = torch.zeros(size[0] * size[1], classes)
    if there:
        layers = torch.stack([values == number for number in there]).float()
        shares[:, there] = functional.adaptive_avg_pool2d(layers[None], size)[0].flatten(1).T
    return (shares / shares.sum(1, keepdim=True).clamp_min(1e-12)).numpy()


def sample_patches(labels: Array, count: int, chance: np.random.Generator) -> NDArray[np.int64]:
    """Which patches of a photo the bank takes: rather those of classes that cover little of it.

    A patch's score is the number of patches that show one of its classes, summed over its classes, times a uniform
    random number; the lowest are taken (arXiv 2306.01667, appendix).

    Args:
        labels: (P, C) as `patch_labels` gives them.
        count: at most.

    Returns:
        Rows, ascending; never one whose pixels are all IGNORED.

    >>> labels = np.eye(2, dtype=np.float32)[[0] * 99 + [1]]
    >>> 99 in sample_patches(labels, 10, np.random.default_rng(0))
    True
    """
    there = labels > 0
    usable = np.flatnonzero(there.any(1))
    scores = (there * there.sum(0)).sum(1)[usable] * chance.uniform(size=len(usable))
    return np.sort(usable[np.argsort(scores, kind="stable")[:count]])


class PatchBank:
    """Patches of training photos in one layer, no more than were asked for.

    Attributes:
        features: (N, D).
        labels: (N, C).
    """

    def __init__(self, most: int, channels: int, classes: int) -> None:
        """Room for `most` patches, taken at once, so that it cannot run out on the way."""
        self._features, self._labels = np.empty((most, channels), np.float32), np.empty((most, classes), np.float32)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, features: Array, labels: Array) -> None:
        """Patches of one more photo, (P, D) and (P, C), as many as there is room for."""
        rows = slice(self._count, min(self._count + len(labels), len(self._labels)))
        taken = rows.stop - rows.start
        self._features[rows], self._labels[rows] = features[:taken], labels[:taken]
        self._count = rows.stop

    @property
    def features(self) -> Array:
        return self._features[: self._count]

    @property
    def labels(self) -> Array:
        return self._labels[: self._count]


class NeighborMethod:
    """A layer's bank, as `segment.Method`."""

    def __init__(self, bank: PatchBank, settings: SegmentSettings, device: torch.device) -> None:
        self._choices = [(k, temperature) for k in sorted(set(settings.k)) for temperature in settings.temperature]
        self._search = make_search("torch", bank.features, device=device, memory=memory_bytes(settings, device))
        self._labels = torch.from_numpy(bank.labels)

    @property
    def settings(self) -> list[dict[str, float]]:
        return [{"k": k, "temperature": temperature} for k, temperature in self._choices]

    def scores(self, x: Tensor, *, only: int | None = None) -> Iterator[Tensor]:
        choices = self._choices if only is None else [self._choices[only]]
        cells = x[0].flatten(1).T.contiguous().cpu().numpy()
        neighbors = self._search(cells, max(k for k, _ in choices))
        for _, found in attended(neighbors, self._labels, choices):
            yield found.T.reshape(-1, *x.shape[-2:])


def as_patches(x: Tensor, stride: int, patch: int) -> Tensor:
    """Maps (B, C, h, w) whose cells are at least `patch` pixels a side, where those of `stride` pixels are averaged."""
    cells = max(1, patch // stride)
    height, width = (-(-side // cells) for side in x.shape[-2:])
    return functional.adaptive_avg_pool2d(x, (height, width)) if cells > 1 else x
