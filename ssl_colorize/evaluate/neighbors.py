"""Exact nearest neighbors by cosine similarity, in blocks that fit the memory they are given.

The bank stays where it is: in memory, or mapped from the feature cache. Blocks of it go to the device one after the
other, and each meets the queries in blocks small enough for the scratch memory; the best so far are merged. Both
engines answer with the same neighbors (where similarities are equal to the last bit, either order is right).
"""

import warnings
from collections.abc import Iterator
from typing import Literal, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ssl_colorize.errors import UserError
from ssl_colorize.evaluate.features import Features

# Queries at a time, where the memory is there for them, and rows of the bank. Smaller blocks make products slower, and
# cost most where processes share the cores; larger ones gain nothing.
LEAST_QUERIES, MOST_QUERIES, MOST_BANK = 256, 1024, 65_536
# Of the bank at a time where they only pass through.
ROWS = 16_384


class Neighbors(NamedTuple):
    """The k nearest of each query, the nearest first, on the CPU."""

    similarity: Tensor  # (N, k) float32, cosine
    indices: Tensor  # (N, k) int64, rows of the bank


class Search(Protocol):
    """Finds neighbors in a bank."""

    def __call__(self, queries: Features, k: int, *, own: int | None = None) -> Neighbors:
        """Nearest neighbors of `queries` (N, D).

        Args:
            own: the queries are rows `own`, `own + 1`, ... of the bank itself, and none is its own neighbor.

        Raises:
            UserError: the bank holds fewer than k photos (other than the query).
        """
        ...


def make_search(engine: Literal["torch", "faiss"], bank: Features, *, device: torch.device, memory: int) -> Search:
    """A search over `bank` (N, D), whose rows may have any length.

    Args:
        memory: bytes that a search may take beyond the features and its answer.

    Raises:
        UserError: faiss is asked for and not installed.
    """
    if engine == "faiss":
        return FaissSearch(bank)
    return TorchSearch(bank, device=device, memory=memory)


class TorchSearch:
    """Matrix products and top-k on any device."""

    def __init__(self, bank: Features, *, device: torch.device, memory: int) -> None:
        self._bank = bank
        self._device = device
        self._memory = memory
        # Dividing the similarities by the lengths spares a normalized copy of the bank.
        self._inverse_length = torch.cat([
            1 / _tensor(bank[start : start + ROWS], torch.device("cpu")).norm(dim=1).clamp_min(1e-12)
            for start in range(0, len(bank), ROWS)
        ]).to(device)  # fmt: skip

    def __call__(self, queries: Features, k: int, *, own: int | None = None) -> Neighbors:
        _check_k(k, len(self._bank), leaving_out=own is not None)
        bank_rows, query_rows = self._blocks(k)
        best: Neighbors | None = None
        for start in range(0, len(self._bank), bank_rows):
            block = _tensor(self._bank[start : start + bank_rows], self._device)
            # Row i of the queries is row i + own of the bank, and i + own - start of the block.
            skip = None if own is None else own - start
            new = self._search_block(block, queries, k, start=start, rows=query_rows, skip=skip)
            best = new if best is None else _merged(best, new, k)
        assert best is not None
        return best

    def _blocks(self, k: int) -> tuple[int, int]:
        """Rows of the bank, and of the queries, at a time."""
        count, width = self._bank.shape
        half, on_cpu = self._memory // 2, self._device.type == "cpu"
        # Bytes of a similarity; on a GPU, top-k sorts values and 64-bit places as well.
        size = 4 if on_cpu else 16
        most = min(MOST_BANK, half // (size * LEAST_QUERIES))
        if not on_cpu or self._bank.dtype != np.float32:
            # Where it does not lie as it is used, blocks of it are copies.
            most = min(most, half // (4 * width))
        # Blocks of equal size.
        bank_rows = -(-count // -(-count // max(k, most)))
        return bank_rows, max(1, min(MOST_QUERIES, half // (4 * width + size * bank_rows)))

    def _search_block(
        self, block: Tensor, queries: Features, k: int, *, start: int, rows: int, skip: int | None
    ) -> Neighbors:
        """Neighbors within one block of the bank, whose first row is row `start` of the bank."""
        inverse_length = self._inverse_length[start : start + len(block)]
        scratch = torch.empty(min(rows, len(queries)) * len(block), device=self._device)
        shape = len(queries), min(k, len(block))
        found = Neighbors(torch.empty(shape), torch.empty(shape, dtype=torch.int64))
        for first in range(0, len(queries), rows):
            unit = functional.normalize(_tensor(queries[first : first + rows], self._device))
            similarity = scratch[: len(unit) * len(block)].view(len(unit), len(block))
            torch.mm(unit, block.T, out=similarity).mul_(inverse_length)
            if skip is not None:
                _leave_out(similarity, first + skip)
            value, index = _largest(similarity, shape[1])
            found.similarity[first : first + rows] = value
            found.indices[first : first + rows] = index + start
        return found


def _largest(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of each row (R, N), in order, and their places: `topk`, in a fraction of its time on a CPU.

    They lie in the k groups with the largest maxima, so that only those groups need sorting.
    """
    count = values.shape[1]
    size = int((count / k) ** 0.5)
    if values.device.type != "cpu" or size < 3:
        value, index = values.topk(k)
        return value, index
    groups = count // size
    grouped = values[:, : groups * size].unflatten(1, (size, groups))
    best = grouped.amax(1).topk(k, sorted=False).indices
    inside = grouped.gather(2, best[:, None].expand(-1, size, -1)).flatten(1)
    value, at = torch.cat([inside, values[:, groups * size :]], 1).topk(k)
    index = best.gather(1, at % k) + at.div(k, rounding_mode="floor") * groups
    return value, torch.where(at < k * size, index, at + (groups * size - k * size))


def _merged(one: Neighbors, other: Neighbors, k: int) -> Neighbors:
    """The k nearest of both, or all where there are fewer."""
    similarity, index = (torch.cat(pair, 1) for pair in zip(one, other, strict=True))
    value, at = similarity.topk(min(k, similarity.shape[1]))
    return Neighbors(value, index.gather(1, at))


def _leave_out(similarity: Tensor, first: int) -> None:
    """Make sure that row i has no column first + i for a neighbor, if there is such a column."""
    rows = torch.arange(len(similarity), device=similarity.device)
    rows = rows[(rows + first >= 0) & (rows + first < similarity.shape[1])]
    similarity[rows, rows + first] = -torch.inf


class FaissSearch:
    """faiss's exact index, on the CPU; for large banks, and to check the other engine."""

    def __init__(self, bank: Features) -> None:
        try:
            import faiss
        except ImportError:
            raise UserError(
                "--engine faiss needs faiss: pip install 'ssl-colorize[faiss]', or use --engine torch."
            ) from None
        self._index = faiss.IndexFlatIP(bank.shape[1])
        for block in _normalized_blocks(bank):
            self._index.add(block)

    def __call__(self, queries: Features, k: int, *, own: int | None = None) -> Neighbors:
        _check_k(k, self._index.ntotal, leaving_out=own is not None)
        wanted = k if own is None else k + 1
        found = [self._index.search(block, wanted) for block in _normalized_blocks(queries)]
        similarity, index = (torch.from_numpy(np.concatenate(part)) for part in zip(*found, strict=True))
        if own is None:
            return Neighbors(similarity, index)
        # k of k + 1: without the query itself, or, behind photos just like it, without the last.
        is_own = index == torch.arange(own, own + len(index))[:, None]
        is_own[:, -1] |= ~is_own.any(dim=1)
        return Neighbors(similarity[~is_own].view(-1, k), index[~is_own].view(-1, k))


def _check_k(k: int, count: int, *, leaving_out: bool) -> None:
    most = count - 1 if leaving_out else count
    if k > most:
        raise UserError(f"--k {k}: there are only {most:,} photos to be neighbors. Give --k {most} or less.")


def _normalized_blocks(features: Features) -> Iterator[NDArray[np.float32]]:
    for start in range(0, len(features), ROWS):
        block = np.asarray(features[start : start + ROWS], dtype=np.float32)
        yield block / np.maximum(np.linalg.norm(block, axis=1, keepdims=True), 1e-12)


def _tensor(block: Features, device: torch.device) -> Tensor:
    # PyTorch warns that it could write to arrays that are mapped for reading; nothing here does.
    with warnings.catch_warnings(action="ignore"):
        return torch.from_numpy(np.asarray(block)).to(device, torch.float32)
