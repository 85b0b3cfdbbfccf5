"""The comparison of kNN with one-hot votes, at sizes where only its meaning can be tested."""

from ssl_colorize.evaluate.bench_knn import KnnBenchSettings, knn_targets, measure_knn


def test_both_ways_give_the_same_answers() -> None:
    found = measure_knn(
        KnnBenchSettings(bank=300, queries=120, width=16, ks=(3, 20), classes=6, memory=1, device="cpu")
    )
    assert found["knn_agreement"] == 1
    assert all(value > 0 for value in found.values())
    assert len(knn_targets(found)) == 3
