"""Exact nearest neighbors by cosine similarity, in blocks that fit the memory they are given.

The bank stays where it is: in memory, or mapped from the feature cache. Blocks of it go to the device one after the
other, and each meets the queries in blocks small enough for the scratch memory; the best so far are merged. A CPU that
multiplies bfloat16 looks for candidates that way first. Both engines answer with the same neighbors (where
similarities are equal to the last bit, either order is right).
"""

import warnings
from collections.abc import Iterator
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ssl_colorize.errors import UserError
from ssl_colorize.evaluate.nearest import Features, Neighbors, leave_out, merged, top
from ssl_colorize.evaluate.rounded import RoundedSearch, bfloat16_is_fast

Engine = Literal["torch", "faiss"]

# On a CPU, similarities in larger blocks than these leave its caches, and in smaller ones the product is slower. Among
# 64 k of them it costs little to find the k largest.
CPU_QUERIES, CPU_BANK, CPU_TIMES_K = 128, 16_384, 64
# From where on products in bfloat16 pay, on a CPU that is quick at them: numbers a photo, photos for each that is kept;
# bytes that it takes; and the share of the queries that must come out sure.
ROUNDED_WIDTH, ROUNDED_TIMES, ROUNDED_MEMORY, ROUNDED_SURE = 128, 8, 16 << 20, 0.5
# Of the bank at a time where they only pass through.
ROWS = 16_384


class Search(Protocol):
    """A bank that can be asked."""

    def __call__(self, queries: Features, k: int, *, own: int | None = None) -> Neighbors:
        """Nearest neighbors of `queries` (N, D).

        Args:
            own: the queries are rows `own`, `own + 1`, ... of the bank itself, and none is its own neighbor.

        Raises:
            UserError: the bank holds fewer than k photos (other than the query).
        """
        ...


def make_search(engine: Engine, bank: Features, *, device: torch.device, memory: int) -> Search:
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
        self._rounded: RoundedSearch | None = None
        in_place = bank.dtype == np.float32 and bank.flags.c_contiguous and device.type == "cpu"
        if in_place and bank.shape[1] >= ROUNDED_WIDTH and memory >= ROUNDED_MEMORY and bfloat16_is_fast():
            self._rounded = RoundedSearch(_tensor(bank, device), self._inverse_length)

    def __call__(self, queries: Features, k: int, *, own: int | None = None) -> Neighbors:
        _check_k(k, len(self._bank), leaving_out=own is not None)
        places = torch.arange(own, own + len(queries)) if own is not None else None
        if self._rounded is None or len(self._bank) < ROUNDED_TIMES * self._rounded.wanted(k):
            return self._in_full(queries, k, places)
        asked = functional.normalize(_tensor(queries, self._device))
        found, sure = self._rounded(asked, k, places)
        unsure = torch.nonzero(~sure)[:, 0]
        if len(unsure):
            again = self._in_full(queries[unsure.numpy()], k, places[unsure] if places is not None else None)
            found.similarity[unsure], found.place[unsure] = again
        if len(unsure) > (1 - ROUNDED_SURE) * len(queries):
            self._rounded = None
        return found

    def _in_full(self, queries: Features, k: int, own: Tensor | None) -> Neighbors:
        """By float32 products with all of the bank; query i leaves out row `own[i]` of the bank."""
        best: Neighbors | None = None
        bank_rows, query_rows = self._blocks(k)
        for start in range(0, len(self._bank), bank_rows):
            block = _tensor(self._bank[start : start + bank_rows], self._device)
            new = self._search_block(block, queries, k, own, start=start, rows=query_rows)
            best = merged(best, new, k)
        assert best is not None
        return best

    def _blocks(self, k: int) -> tuple[int, int]:
        """Rows of the bank, and of the queries, at a time."""
        count, width = self._bank.shape
        if self._device.type != "cpu":
            bank_rows = min(count, max(k, self._memory // (8 * width)))
            # Similarities, and what top-k sorts: values and 64-bit places.
            return bank_rows, max(1, self._memory // 2 // (4 * width + 16 * bank_rows))
        bank_rows = -(-count // max(1, count // max(CPU_BANK, CPU_TIMES_K * k)))
        if self._bank.dtype != np.float32:
            # Where it does not lie as it is used, blocks of it are copies.
            bank_rows = min(bank_rows, max(k, self._memory // (8 * width)))
        return bank_rows, max(1, min(CPU_QUERIES, self._memory // 2 // (4 * (width + bank_rows))))

    def _search_block(
        self, block: Tensor, queries: Features, k: int, own: Tensor | None, *, start: int, rows: int
    ) -> Neighbors:
        """Neighbors within one block of the bank, whose first row is row `start` of the bank."""
        inverse_length = self._inverse_length[start : start + len(block)]
        scratch = torch.empty(min(rows, len(queries)) * len(block), device=self._device)
        shape = len(queries), min(k, len(block))
        found = Neighbors(torch.empty(shape), torch.empty(shape, dtype=torch.int64))
        for first in range(0, len(queries), rows):
            asked = functional.normalize(_tensor(queries[first : first + rows], self._device))
            similarity = scratch[: len(asked) * len(block)].view(len(asked), len(block))
            torch.mm(asked, block.T, out=similarity).mul_(inverse_length)
            if own is not None:
                leave_out(similarity, own[first : first + rows].to(self._device) - start)
            value, place = top(similarity, shape[1])
            found.similarity[first : first + rows] = value
            found.place[first : first + rows] = place + start
        return found


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
        asked = k if own is None else k + 1
        answers = [self._index.search(block, asked) for block in _normalized_blocks(queries)]
        similarity, index = (torch.from_numpy(np.concatenate(part)) for part in zip(*answers, strict=True))
        if own is None:
            return Neighbors(similarity, index)
        return _without_own(similarity, index, own)


def _without_own(similarity: Tensor, index: Tensor, own: int) -> Neighbors:
    """k neighbors of k + 1: without the query itself, or, behind photos just like it, without the last."""
    is_own = index == torch.arange(own, own + len(index))[:, None]
    is_own[:, -1] |= ~is_own.any(dim=1)
    shape = len(index), index.shape[1] - 1
    return Neighbors(similarity[~is_own].view(shape), index[~is_own].view(shape))


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
