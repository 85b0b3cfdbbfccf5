"""Products in bfloat16 tell which photos can be among the nearest; exact products of those few decide.

On CPUs that multiply bfloat16 a search is then several times as fast, and its answer the same: how far rounding can
be off is known for every query, so whatever might be among its nearest is looked at again. Where that is more than
was kept, the query is reported as unsure.

Nothing is sorted on the way: a sample of the bank tells each query from which similarity on about as many photos come
as are wanted, and those are kept.
"""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from ssl_colorize.evaluate.nearest import Neighbors, leave_out, top

# Queries, and rows of the bank, that are compared at a time; of those, rows rounded, and queries sifted, at a time.
# Together they take about 13 MB; the bank is rounded anew for each block of queries, so small blocks cost more.
QUERIES, BANK, ROUNDED_ROWS, SIFTED_QUERIES = 256, 8_400, 512, 32
# Of the bank, one in so many is in the sample. Columns whose largest is looked at first.
SAMPLED, GROUP = 16, 8
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
        # Drawn, as a bank may be in any order; always alike.
        drawn = torch.randperm(count, generator=torch.Generator().manual_seed(0))
        self._sample = drawn[: -(-count // SAMPLED)].sort().values

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

    def wanted(self, k: int) -> int:
        """About how many candidates are kept."""
        return max(256, 3 * k)

    def _centred(self, rows: slice | Tensor) -> Tensor:
        return torch.addcmul(-self._mean, self._bank[rows], self._inverse_length[rows, None])

    def _nearest(self, queries: Tensor, k: int, own: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        rounded = (queries - self._mean).bfloat16()
        threshold = self._threshold(rounded, self.wanted(k))
        value, place, complete = self._candidates(rounded, threshold, max(512, 3 * self.wanted(k) // 2), own)
        parts = [
            self._decide(*part, k)
            for part in zip(*(one.split(SIFTED_QUERIES) for one in (queries, threshold, value, place)), strict=True)
        ]
        similarity, place, sure = (torch.cat(each) for each in zip(*parts, strict=True))
        return similarity, place, complete & sure

    def _decide(
        self, queries: Tensor, threshold: Tensor, value: Tensor, place: Tensor, k: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The k nearest of the candidates, and for which queries no other photo can be nearer."""
        centred = queries - self._mean
        rounded = centred.bfloat16().float()
        # By Cauchy and Schwarz |a b - a' b'| <= |a - a'| |b| + |a'| |b - b'|; sums of D products in float32 add their
        # own rounding, and so do the few operations around them.
        length = rounded.norm(dim=1)
        inner = (
            (centred - rounded).norm(dim=1) * self._longest
            + length * self._rounding
            + queries.shape[1] * FLOAT32 * length * (self._longest + self._rounding)
            + 16 * FLOAT32
        )
        error = inner[:, None] + BFLOAT16 * (value - self._shift[place]).abs()
        # At least k photos are at least this similar, if there are k.
        floor = (value - error).topk(k, sorted=False).values.amin(1)
        needed = (value + error >= floor[:, None]) & value.isfinite()
        # What was not kept has a value below the threshold.
        low, high = self._shift_ends
        missed = threshold + inner + BFLOAT16 * torch.maximum((threshold - low).abs(), (threshold - high).abs())
        similarity, at = self._exact(queries, place, needed).topk(k)
        return similarity, place.gather(1, at), missed < floor

    def _threshold(self, rounded: Tensor, wanted: int) -> Tensor:
        """For each query (n, D) the value from which on about as many photos come as wanted, by the sample."""
        products = self._products(rounded, self._sample.split(ROUNDED_ROWS))
        rank = -(-wanted // SAMPLED)
        found = [top(values, rank).similarity[:, -1] for _, values in self._sifted(products, self._shift[self._sample])]
        return torch.cat(found)

    def _candidates(
        self, rounded: Tensor, threshold: Tensor, most: int, own: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Photos whose value by rounded products reaches the threshold; what depends on the query alone is left out.

        Returns:
            Values (n, most), -inf where there are fewer; places (n, most); and for which queries that is all (n,).
        """
        value = torch.full((len(rounded), most), -torch.inf)
        place = torch.zeros(value.shape, dtype=torch.int64)
        filled = torch.zeros(len(rounded), dtype=torch.int64)
        for start in range(0, len(self._bank), BANK):
            stop = min(start + BANK, len(self._bank))
            rows = [slice(first, min(first + ROUNDED_ROWS, stop)) for first in range(start, stop, ROUNDED_ROWS)]
            for part, values in self._sifted(self._products(rounded, rows), self._shift[start:stop]):
                if own is not None:
                    leave_out(values, own[part] - start)
                row, column, reached = _reaching(values, threshold[part])
                found = torch.bincount(row, minlength=len(values))
                at = torch.arange(len(row)) + (filled[part] - found.cumsum(0) + found)[row]
                fits = at < most
                row, at = row[fits] + part.start, at[fits]
                value[row, at], place[row, at] = reached[fits], column[fits] + start
                filled[part] += found
        return value, place, filled <= most

    def _products(self, rounded: Tensor, rows: Iterable[slice | Tensor]) -> list[Tensor]:
        return [rounded @ self._centred(some).bfloat16().T for some in rows]

    def _sifted(self, products: Sequence[Tensor], shift: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Values of a few queries at a time, and which queries these are."""
        for first in range(0, len(products[0]), SIFTED_QUERIES):
            part = slice(first, first + SIFTED_QUERIES)
            yield part, torch.cat([each[part] for each in products], 1).float().add_(shift)

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


def _reaching(values: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Row by row, the entries of values (R, N) that reach the row's threshold: their rows, columns and values.

    Few do, so the largest of every group is asked first.
    """
    values = functional.pad(values, (0, -values.shape[1] % GROUP), value=-torch.inf)
    grouped = values.unflatten(1, (GROUP, -1))
    row, group = torch.nonzero(grouped.amax(1) >= threshold[:, None], as_tuple=True)
    near = grouped[row, :, group]
    hit, member = torch.nonzero(near >= threshold[row, None], as_tuple=True)
    row, group = row[hit], group[hit]
    return row, member * grouped.shape[2] + group, near[hit, member]
