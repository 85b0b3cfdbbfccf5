"""The comparison of kNN with one-hot votes, at sizes where only its meaning can be tested."""

import pytest
import torch

from ssl_colorize.evaluate import bench_knn
from ssl_colorize.evaluate.bench_knn import KnnBenchSettings, knn_targets, measure_knn


def test_both_ways_give_the_same_answers() -> None:
    found = measure_knn(
        KnnBenchSettings(bank=300, queries=120, width=16, ks=(3, 20), classes=6, memory=1, device="cpu")
    )
    assert found["knn_agreement"] == 1
    assert all(value > 0 for value in found.values())
    rows = knn_targets(found)
    assert len(rows) == 4 and rows[0][0].startswith("kNN of k = 20 ")


def test_one_wrong_answer_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = bench_knn._one_hot_answers

    def spoilt(*arguments: torch.Tensor, k: int, settings: KnnBenchSettings) -> torch.Tensor:
        said = usual(*arguments, k=k, settings=settings)
        said[3] = (said[3] + (k == 3)) % settings.classes
        return said

    monkeypatch.setattr(bench_knn, "_one_hot_answers", spoilt)
    found = measure_knn(KnnBenchSettings(bank=90, queries=50, width=16, ks=(3, 20), classes=6, memory=1, device="cpu"))
    assert found["knn_agreement"] == 0.98
    assert knn_targets(found)[-1][-1] == "no"
