"""Products in bfloat16 tell which photos can be among the nearest; exact products of those few decide.

On CPUs that multiply bfloat16 a search is then several times as fast, and its answer the same: how far rounding can
be off is known for every query, so whatever might be among its nearest is looked at again. Where that is more than
was kept, the query is reported as unsure.

Nothing is sorted on the way: a sample of the bank tells each query from which similarity on about as many photos come
as are wanted, and those are kept.
"""

import warnings
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from ssl_colorize.evaluate.nearest import Neighbors, leave_out, top

# Queries, and rows of the bank, compared at a time; queries decided on at a time. Together they take about 15 MB. The
# bank is rounded anew for each block of queries, so that small ones cost more.
QUERIES, ROWS, DECIDED = 512, 512, 32
# Of the bank, one in so many is in the sample. Columns whose largest is looked at first.
SAMPLED, GROUP = 16, 8
# Numbers in a row of a product are a multiple of this, and at least SHIFTS of them carry what is not rounded to one.
ALIGNED, SHIFTS = 32, 3
# Half the distance of neighboring numbers, over the numbers.
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
    alone. Rounded are a - m and b - m: features that are all alike, as ReLU makes them, differ by far less than they
    are long, and rounding changes them by as much less. m . b, a sum of three bfloat16, stands in the rows of the bank
    beside b - m, where every query has ones.
    """

    def __init__(self, bank: Tensor, inverse_length: Tensor) -> None:
        self._bank, self._inverse_length = bank, inverse_length
        count, width = bank.shape
        self._width = -(-(width + SHIFTS) // ALIGNED) * ALIGNED
        mean = torch.zeros(width, dtype=torch.float64)
        for first in range(0, count, ROWS):
            rows = slice(first, first + ROWS)
            mean += (bank[rows].T @ inverse_length[rows]).double() / count
        self._mean = mean.float()
        shift = torch.empty(count, dtype=torch.float64)
        self._longest, self._rounding = 0.0, 0.0
        for first in range(0, count, ROWS):
            rows = slice(first, first + ROWS)
            shift[rows] = (bank[rows].double() @ self._mean.double()) * inverse_length[rows]
            centered = self._centered(rows)
            self._longest = max(self._longest, float(centered.norm(dim=1).max()))
            self._rounding = max(self._rounding, float(centered.sub_(centered.bfloat16()).norm(dim=1).max()))
        self._shift = (shift - shift.mean()).float()
        self._largest_shift = float(self._shift.abs().max())
        # Drawn, as a bank may be in any order; always alike.
        drawn = torch.randperm(count, generator=torch.Generator().manual_seed(0))
        self._sample = drawn[: -(-count // SAMPLED)].sort().values

    def __call__(self, queries: Tensor, k: int, own: Tensor | None) -> tuple[Neighbors, Tensor]:
        """The k nearest of queries (n, D) of length 1, and which queries (n,) that is sure for.

        Args:
            own: (n,) the queries' own places in the bank, which are not neighbors.
        """
        parts = queries.tensor_split(max(1, round(len(queries) / QUERIES)))
        places = own.tensor_split(len(parts)) if own is not None else [None] * len(parts)
        found = [self._nearest(part, k, place) for part, place in zip(parts, places, strict=True)]
        similarity, place, sure = (torch.cat(each) for each in zip(*found, strict=True))
        return Neighbors(similarity, place), sure

    def wanted(self, k: int) -> int:
        """About how many candidates are kept."""
        return max(256, 3 * k)

    def _centered(self, rows: slice | Tensor) -> Tensor:
        return torch.addcmul(-self._mean, self._bank[rows], self._inverse_length[rows, None])

    def _rounded(self, rows: slice | Tensor) -> Tensor:
        """Rows of the bank, and their shifts."""
        centered, shift = self._centered(rows), self._shift[rows]
        rounded = torch.zeros(len(centered), self._width, dtype=torch.bfloat16)
        rounded[:, : centered.shape[1]] = centered
        for column in range(centered.shape[1], centered.shape[1] + SHIFTS):
            rounded[:, column] = shift
            shift = shift - rounded[:, column]
        return rounded

    def _nearest(self, queries: Tensor, k: int, own: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        rounded = torch.ones(len(queries), self._width, dtype=torch.bfloat16)
        rounded[:, : queries.shape[1]] = queries - self._mean
        threshold = self._threshold(rounded, self.wanted(k))
        value, place, complete = self._candidates(rounded, threshold, max(512, 7 * self.wanted(k) // 4), own)
        parts = [
            self._decide(*part, k=k)
            for part in zip(*(one.split(DECIDED) for one in (queries, threshold, value, place)), strict=True)
        ]
        similarity, place, sure = (torch.cat(each) for each in zip(*parts, strict=True))
        return similarity, place, complete & sure

    def _threshold(self, rounded: Tensor, wanted: int) -> Tensor:
        """For each query (n,) the value from which on about as many photos come as wanted, by the sample."""
        values = torch.cat([rounded @ self._rounded(rows).T for rows in self._sample.split(ROWS)], 1)
        return top(values, -(-wanted // SAMPLED)).similarity[:, -1]

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
        for start in range(0, len(self._bank), ROWS):
            values = rounded @ self._rounded(slice(start, start + ROWS)).T
            if own is not None:
                leave_out(values, own - start)
            row, column, reached = _reaching(values, threshold)
            found = torch.bincount(row, minlength=len(values))
            at = torch.arange(len(row)) + (filled - found.cumsum(0) + found)[row]
            fits = at < most
            row, at = row[fits], at[fits]
            value[row, at], place[row, at] = reached[fits].float(), column[fits] + start
            filled += found
        return value, place, filled <= most

    def _decide(
        self, queries: Tensor, threshold: Tensor, value: Tensor, place: Tensor, *, k: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The k nearest of the candidates, and for which queries no other photo can be nearer."""
        centered = queries - self._mean
        rounded = centered.bfloat16().float()
        # By Cauchy and Schwarz |a b - a' b'| <= |a - a'| |b| + |a'| |b - b'|; sums in float32 add their own rounding,
        # and so do the few operations around them.
        length = rounded.norm(dim=1)
        inner = (
            (centered - rounded).norm(dim=1) * self._longest
            + length * self._rounding
            + self._width * FLOAT32 * (length * (self._longest + self._rounding) + 2 * self._largest_shift)
            + 16 * FLOAT32
        )
        error = inner[:, None] + BFLOAT16 * value.abs()
        # At least k photos are at least this similar, if there are k.
        floor = (value - error).topk(k, sorted=False).values.amin(1)
        needed = (value + error >= floor[:, None]) & value.isfinite()
        # What was not kept has a value below the threshold.
        missed = threshold.float() + inner + BFLOAT16 * threshold.float().abs()
        similarity, at = self._exact(queries, place, needed).topk(k)
        return similarity, place.gather(1, at), missed < floor

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
