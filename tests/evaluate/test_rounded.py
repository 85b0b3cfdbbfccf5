"""The search by rounded products gives the neighbors of the search in full, checked in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ssl_colorize.evaluate import neighbors, rounded
from ssl_colorize.evaluate.nearest import top
from ssl_colorize.evaluate.neighbors import TorchSearch

CPU = torch.device("cpu")
WIDTH = 128


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounded products wherever the tests run, in blocks that do not fit evenly."""
    monkeypatch.setattr(neighbors, "bfloat16_is_fast", lambda: True)
    for name, size in (("QUERIES", 40), ("ROWS", 90), ("DECIDED", 7)):
        monkeypatch.setattr(rounded, name, size)


def normal(count: int, *, seed: int, width: int = WIDTH) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)


def search_of(bank: np.ndarray) -> TorchSearch:
    return TorchSearch(bank, device=CPU, memory=1 << 26)


def cosines(bank: np.ndarray, queries: np.ndarray) -> np.ndarray:
    bank, queries = bank.astype(np.float64), queries.astype(np.float64)
    return (queries / np.linalg.norm(queries, axis=1)[:, None]) @ (
        bank / np.maximum(np.linalg.norm(bank, axis=1), 1e-12)[:, None]
    ).T


def check(found: neighbors.Neighbors, cosine: np.ndarray, k: int) -> None:
    """The k largest of `cosine` (N, bank), each once, in order; float32 may not tell what is closer than 1e-6."""
    best = -np.sort(-cosine, axis=1)[:, :k]
    np.testing.assert_allclose(found.similarity.numpy(), best, atol=1e-6)
    np.testing.assert_allclose(np.take_along_axis(cosine, found.place.numpy(), 1), best, atol=1e-6)
    assert all(len(set(row)) == k for row in found.place.tolist())


def sure_share(search: TorchSearch, queries: np.ndarray, k: int, monkeypatch: pytest.MonkeyPatch) -> float:
    """Of a search, the share of queries that needed no second look; checks that it was searched by rounding."""
    asked: list[int] = []
    in_full = search._in_full

    def counting(queries: np.ndarray, *rest: object) -> neighbors.Neighbors:
        asked.append(len(queries))
        return in_full(queries, *rest)  # type: ignore[arg-type]

    assert search._rounded is not None
    monkeypatch.setattr(search, "_in_full", counting)
    search(queries, k)
    return 1 - sum(asked) / len(queries)


@pytest.mark.parametrize("seed", range(3))
def test_neighbors_agree_with_float64(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    bank, queries = normal(3_001, seed=seed), normal(101, seed=seed + 10)
    # Lengths do not matter.
    bank *= np.random.default_rng(seed).lognormal(sigma=3, size=(len(bank), 1)).astype(np.float32)
    search = search_of(bank)
    assert sure_share(search, queries, 20, monkeypatch) == 1
    check(search(queries, 20), cosines(bank, queries), 20)


def test_features_that_are_all_alike_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    # Cosines of 0.99 and more, as untrained networks give: a few thousandths of rounding would cover them all.
    bank, queries = (np.maximum(normal(count, seed=count), 0) * 0.1 + 1 for count in (3_001, 101))
    cosine = cosines(bank, queries)
    assert cosine.min() > 0.98
    search = search_of(bank)
    assert sure_share(search, queries, 20, monkeypatch) == 1
    check(search(queries, 20), cosine, 20)


def test_neighbors_closer_together_than_rounding_can_tell() -> None:
    queries = normal(50, seed=0)
    queries /= np.linalg.norm(queries, axis=1)[:, None]
    bank = normal(3_001, seed=1)
    # Of each query 40 photos whose cosines differ by 2e-5, in a mixed order, around the k-th.
    for number, query in enumerate(queries):
        aside = normal(40, seed=number + 2)
        aside -= (aside @ query)[:, None] * query
        aside /= np.linalg.norm(aside, axis=1)[:, None]
        cosine = (0.8 - 2e-5 * np.random.default_rng(number).permutation(40))[:, None].astype(np.float32)
        bank[number * 40 : number * 40 + 40] = cosine * query + np.sqrt(1 - cosine**2) * aside
    for k in (1, 17, 39):
        check(search_of(bank)(queries, k), cosines(bank, queries), k)


def test_rounding_that_tells_nothing_is_noticed_and_left() -> None:
    # Clusters so narrow that all similarities within one look the same: nothing is sure.
    bank = normal(5, seed=0)[np.arange(3_000) % 5] + 1e-2 * normal(3_000, seed=1)
    queries = bank[:60] + 1e-2 * normal(60, seed=2)
    search = search_of(bank)
    found = search(queries, 20)
    check(found, cosines(bank, queries), 20)
    assert search._rounded is None  # the next queries need not go both ways
    check(search(queries, 20), cosines(bank, queries), 20)


def test_more_candidates_than_kept_are_noticed() -> None:
    # The sample takes none of the photos that are near, so all of them reach the threshold, more than are kept.
    queries = normal(40, seed=0)
    bank = normal(6_000, seed=1)
    search = search_of(bank)
    assert search._rounded is not None
    near = np.setdiff1d(np.arange(6_000), search._rounded._sample.numpy())[:3_000]
    bank[near] += 3 * queries.mean(0)
    search = search_of(bank)
    check(search(queries, 20), cosines(bank, queries), 20)


def test_copies_of_a_photo_are_all_found() -> None:
    bank = normal(3_000, seed=0)
    bank[100:600] = bank[0]
    bank[1_000:1_006] = 2 * bank[1]
    queries = np.concatenate([bank[:2], normal(30, seed=1)])
    cosine = cosines(bank, queries)
    found = search_of(bank)(queries, 30)
    check(found, cosine, 30)
    assert set(found.place[0].tolist()) <= {0, *range(100, 600)}
    assert set(found.place[1, :7].tolist()) == {1, *range(1_000, 1_006)}


def test_no_photo_is_its_own_neighbor() -> None:
    bank = normal(2_500, seed=0)
    bank[31] = bank[7]
    search = search_of(bank)
    assert search._rounded is not None
    for start, stop in ((0, 120), (1_290, 1_320), (2_400, 2_500)):
        cosine = cosines(bank, bank[start:stop])
        cosine[np.arange(stop - start), np.arange(start, stop)] = -np.inf
        check(search(bank[start:stop], 20, own=start), cosine, 20)
    assert search(bank[7:8], 1, own=7).place.item() == 31


def test_photos_without_any_feature() -> None:
    bank = normal(3_000, seed=0)
    bank[5:9] = 0
    queries = normal(40, seed=1)
    queries[3] = 0
    found = search_of(bank)(queries, 20)
    assert found.similarity.isfinite().all() and not found.similarity[3].any()
    keep = np.arange(40) != 3
    cosine = cosines(bank, queries[keep])
    check(neighbors.Neighbors(found.similarity[keep], found.place[keep]), cosine, 20)


def test_what_lies_otherwise_is_searched_in_full() -> None:
    bank = normal(3_000, seed=0)
    assert search_of(bank)._rounded is not None
    assert search_of(bank.astype(np.float16))._rounded is None
    assert search_of(np.asfortranarray(bank))._rounded is None
    assert search_of(bank[:, :64])._rounded is None
    assert TorchSearch(bank, device=CPU, memory=1 << 20)._rounded is None


@pytest.mark.parametrize("count", [40, 97, 1_000])
@pytest.mark.parametrize("k", [1, 3, 40])
def test_the_largest_of_a_row(count: int, k: int) -> None:
    values = torch.from_numpy(normal(5, seed=k, width=count))
    values[1] = values[1].round()  # many are equal
    values[2, ::2] = -torch.inf
    found = top(values, k)
    assert torch.equal(found.similarity, values.topk(k).values)
    assert torch.equal(values.gather(1, found.place), found.similarity)
    assert all(len(set(row)) == k for row in found.place.tolist())
