"""Products in bfloat16 tell which photos can be among the nearest; exact products of those few decide.

On CPUs that multiply bfloat16 a search is then several times as fast, and its answer the same: how far rounding can
be off is known for every query, so whatever might be among its nearest is looked at again. Where that is more than
was kept, the query is reported as unsure.
"""

import warnings
from functools import cache

import torch
from torch import Tensor

from ssl_colorize.evaluate.nearest import Neighbors, leave_out, merged, top

# Queries, and rows of the bank, that are compared at a time; of those, rows rounded, and queries sorted, at a time.
# Together they take about 10 MB, and much smaller ones make the products slower.
QUERIES, BANK, ROUNDED_ROWS, SORTED_QUERIES = 256, 12_500, 512, 32
# Half the distance of neighbouring numbers, over the numbers.
BFLOAT16, FLOAT32 = 2.0**-8, 2.0**-24


@cache
def bfloat16_is_fast() -> bool:
    """Whether the CPU has instructions for products of bfloat16, which are emulated slowly otherwise."""
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.cpu, "get_capabilities"):
        return False
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))


class RoundedSearch:
    """A bank (N, D) of float32 on the CPU, with rows of any length.

    With m the mean of the bank's rows b, made of length 1, a . b = (a - m) . (b - m) + m . b and what depends on a
    alone. Only the first product is rounded: features that are all alike, as ReLU makes them, differ by far less than
    they are long, and so does what rounding does to them.
    """

    def __init__(self, bank: Tensor, inverse_length: Tensor) -> None:
        self._bank, self._inverse_length = bank, inverse_length
        count, width = bank.shape
        mean = torch.zeros(width, dtype=torch.float64)
        for first in range(0, count, ROUNDED_ROWS):
            rows = slice(first, first + ROUNDED_ROWS)
            mean += (bank[rows].T @ inverse_length[rows]).double() / count
        self._mean = mean.float()
        shift = torch.empty(count, dtype=torch.float64)
        self._longest, self._rounding = 0.0, 0.0
        for first in range(0, count, ROUNDED_ROWS):
            rows = slice(first, first + ROUNDED_ROWS)
            shift[rows] = (bank[rows].double() @ self._mean.double()) * inverse_length[rows]
            centred = self._centred(rows)
            self._longest = max(self._longest, float(centred.norm(dim=1).max()))
            self._rounding = max(self._rounding, float(centred.sub_(centred.bfloat16()).norm(dim=1).max()))
        self._shift = (shift - shift.mean()).float()
        self._shift_ends = float(self._shift.min()), float(self._shift.max())

    def __call__(self, queries: Tensor, k: int, own: Tensor | None) -> tuple[Neighbors, Tensor]:
        """The k nearest of queries (n, D) of length 1, and which queries (n,) that is sure for.

        Args:
            own: (n,) the queries' own places in the bank, which are not neighbours.
        """
        parts = queries.tensor_split(max(1, round(len(queries) / QUERIES)))
        places = own.tensor_split(len(parts)) if own is not None else [None] * len(parts)
        found = [self._nearest(part, k, place) for part, place in zip(parts, places, strict=True)]
        similarity, place, sure = (torch.cat(each) for each in zip(*found, strict=True))
        return Neighbors(similarity, place), sure

    def most(self, k: int) -> int:
        """How many candidates are kept."""
        return k + max(64, k // 2)

    def _centred(self, rows: slice) -> Tensor:
        return torch.addcmul(-self._mean, self._bank[rows], self._inverse_length[rows, None])

    def _nearest(self, queries: Tensor, k: int, own: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        centred = queries - self._mean
        rounded = centred.bfloat16()
        found = self._candidates(rounded, self.most(k), own)
        # By Cauchy and Schwarz |a b - a' b'| <= |a - a'| |b| + |a'| |b - b'|; sums of D products in float32 add their
        # own rounding, and so do the few operations around them.
        length = rounded.float().norm(dim=1)
        inner = (
            (centred - rounded).norm(dim=1) * self._longest
            + length * self._rounding
            + queries.shape[1] * FLOAT32 * length * (self._longest + self._rounding)
            + 16 * FLOAT32
        )
        value = found.similarity
        error = inner[:, None] + BFLOAT16 * (value - self._shift[found.place]).abs()
        # At least k photos are at least this similar.
        floor = (value - error).topk(k, sorted=False).values.amin(1)
        needed = value + error >= floor[:, None]
        # What was not kept has a lower value than the last that was.
        last = value[:, -1]
        low, high = self._shift_ends
        missed = last + inner + BFLOAT16 * torch.maximum((last - low).abs(), (last - high).abs())
        similarity, at = self._exact(queries, found.place, needed).topk(k)
        return similarity, found.place.gather(1, at), missed < floor

    def _candidates(self, rounded: Tensor, most: int, own: Tensor | None) -> Neighbors:
        """The `most` nearest by rounded products; of the similarity what depends on the query alone is left out."""
        found: list[Neighbors | None] = [None] * -(-len(rounded) // SORTED_QUERIES)
        count = len(self._bank)
        blocks = -(-count // BANK)
        for start, stop in ((count * n // blocks, count * (n + 1) // blocks) for n in range(blocks)):
            products = [
                rounded @ self._centred(slice(first, min(first + ROUNDED_ROWS, stop))).bfloat16().T
                for first in range(start, stop, ROUNDED_ROWS)
            ]
            for number in range(len(found)):
                rows = slice(number * SORTED_QUERIES, (number + 1) * SORTED_QUERIES)
                value = torch.cat([part[rows] for part in products], 1).float().add_(self._shift[start:stop])
                if own is not None:
                    leave_out(value, own[rows] - start)
                similarity, place = top(value, most)
                found[number] = merged(found[number], Neighbors(similarity, place.add_(start)), most)
        done = [one for one in found if one is not None]
        return Neighbors(torch.cat([one.similarity for one in done]), torch.cat([one.place for one in done]))

    def _exact(self, queries: Tensor, place: Tensor, needed: Tensor) -> Tensor:
        """Similarities (n, most) in float32 where needed, computed where the bank lies; -inf elsewhere."""
        columns = place[needed]
        ends = torch.cat([columns.new_zeros(1), needed.sum(1).cumsum(0)])
        with warnings.catch_warnings(action="ignore"):  # that sparse tensors are new
            wanted = torch.sparse_csr_tensor(
                ends, columns, torch.zeros(len(columns)), size=(len(queries), len(self._bank)), check_invariants=False
            )
            products = torch.sparse.sampled_addmm(wanted, queries, self._bank.T, beta=0).values()
        exact = torch.full(place.shape, -torch.inf)
        exact[needed] = products * self._inverse_length[columns]
        return exact
