"""Nearest neighbors and their votes: hand-worked cases, loops in float64, scikit-learn, and faiss."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import average_precision_score
from sklearn.neighbors import KNeighborsClassifier

from ssl_colorize.errors import UserError
from ssl_colorize.evaluate import knn_predict, neighbors, runner
from ssl_colorize.evaluate.knn import choose, classify, multi_label_votes, run_knn, single_label_votes
from ssl_colorize.evaluate.metrics import Predictions
from ssl_colorize.evaluate.neighbors import make_search
from ssl_colorize.evaluate.settings import KnnSettings
from ssl_colorize.models import Pretrained, create_model, save_pretrained

CPU = torch.device("cpu")
MEMORY = 1 << 26


def random_features(count: int, *, width: int = 16, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)


def search_of(bank: np.ndarray, *, engine: str = "torch", memory: int = MEMORY) -> neighbors.Search:
    if engine == "faiss":
        pytest.importorskip("faiss")
    return make_search(engine, bank, device=CPU, memory=memory)  # type: ignore[arg-type]


def sorted_places(bank: np.ndarray, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All of the bank by falling cosine similarity, in float64: similarities and places."""
    bank, queries = bank.astype(np.float64), queries.astype(np.float64)
    cosine = (queries / np.linalg.norm(queries, axis=1)[:, None]) @ (bank / np.linalg.norm(bank, axis=1)[:, None]).T
    places = np.argsort(-cosine, axis=1)
    return np.take_along_axis(cosine, places, 1), places


def loop_votes(similarity: np.ndarray, voted: np.ndarray, classes: int, k: int, temperature: float) -> np.ndarray:
    votes = np.zeros((len(similarity), classes))
    for row in range(len(similarity)):
        for rank in range(k):
            votes[row, voted[row, rank]] += math.exp(similarity[row, rank] / temperature)
    return votes


# ---- search ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["torch", "faiss"])
def test_neighbors_by_angle_whatever_the_length(engine: str) -> None:
    bank = np.array([[0, 5], [100, 1], [1, 1], [-1, 0]], np.float32)
    found = search_of(bank, engine=engine)(np.array([[3, 0], [0.1, 0.2]], np.float32), 3)
    assert found.indices.tolist() == [[1, 2, 0], [2, 0, 1]]
    assert found.similarity[0].tolist() == pytest.approx([100 / math.hypot(100, 1), math.sqrt(0.5), 0], abs=1e-6)


@pytest.mark.parametrize("engine", ["torch", "faiss"])
def test_all_neighbors_agree_with_float64(engine: str) -> None:
    bank, queries = random_features(60), random_features(7, seed=1)
    similarity, places = sorted_places(bank, queries)
    found = search_of(bank, engine=engine)(queries, 20)
    np.testing.assert_array_equal(found.indices.numpy(), places[:, :20])
    np.testing.assert_allclose(found.similarity.numpy(), similarity[:, :20], atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("memory", [1, 6_000, 40_000, MEMORY])
def test_blocks_change_nothing(memory: int, dtype: type) -> None:
    # Of float16, blocks of the bank as well as of the queries.
    bank, queries = random_features(300).astype(dtype), random_features(101, seed=1).astype(dtype)
    _, places = sorted_places(bank, queries)
    found = search_of(bank, memory=memory)(queries, 9)
    np.testing.assert_array_equal(found.indices.numpy(), places[:, :9])


def test_the_search_keeps_within_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    product = torch.mm

    def counting(a: torch.Tensor, b: torch.Tensor, *, out: torch.Tensor) -> torch.Tensor:
        made.append(out.untyped_storage().nbytes())
        return product(a, b, out=out)

    monkeypatch.setattr(torch, "mm", counting)
    search_of(random_features(500), memory=100_000)(random_features(400, seed=1), 5)
    assert 20_000 < max(made) <= 100_000


@pytest.mark.parametrize("engine", ["torch", "faiss"])
@pytest.mark.parametrize("memory", [6_000, MEMORY])
def test_no_photo_is_its_own_neighbor(engine: str, memory: int) -> None:
    bank = random_features(50).astype(np.float16)
    # Two are alike: each is the other's nearest, and still not its own.
    bank[31] = bank[7]
    search = search_of(bank, engine=engine, memory=memory)
    for start, stop in ((0, 50), (20, 35)):
        found = search(bank[start:stop], 49, own=start).indices.numpy()
        for row, mine in enumerate(found, start):
            assert sorted(mine) == [other for other in range(50) if other != row]
    assert search(bank[7:8], 1, own=7).indices.item() == 31
    assert search(bank[31:32], 1, own=31).indices.item() == 7


def test_mapped_features_are_searched_where_they_lie(tmp_path: Path) -> None:
    bank = random_features(40)
    np.save(tmp_path / "bank.npy", bank)
    found = search_of(np.load(tmp_path / "bank.npy", mmap_mode="r"))(bank[:3], 1)
    assert found.indices[:, 0].tolist() == [0, 1, 2]


@pytest.mark.parametrize("engine", ["torch", "faiss"])
def test_k_beyond_the_bank(engine: str) -> None:
    search = search_of(random_features(5), engine=engine)
    assert search(random_features(1), 5).indices.shape == (1, 5)
    with pytest.raises(UserError, match=r"--k 6: .* 5 photos.*--k 5 or less"):
        search(random_features(1), 6)
    with pytest.raises(UserError, match="--k 4 or less"):
        search(random_features(1), 5, own=0)


def test_faiss_is_named_when_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "faiss", None)
    with pytest.raises(UserError, match=r"pip install 'ssl-colorize\[faiss\]'"):
        make_search("faiss", random_features(5), device=CPU, memory=MEMORY)


# ---- votes ----------------------------------------------------------------------------------------------------------


def test_votes_worked_by_hand() -> None:
    found = neighbors.Neighbors(torch.tensor([[0.9, 0.8, 0.5]]), torch.tensor([[3, 0, 2]]))
    labels = torch.tensor([1, 0, 1, 2])
    votes = {
        k: v[0].tolist() for k, v in map(copied, single_label_votes(found, labels, 3, ks=(1, 2, 3), temperature=0.1))
    }
    # In units of the nearest one's vote: exp(-0.1 / 0.1) and exp(-0.4 / 0.1).
    assert votes[1] == pytest.approx([0, 0, 1])
    assert votes[2] == pytest.approx([0, math.exp(-1), 1])
    assert votes[3] == pytest.approx([0, math.exp(-1) + math.exp(-4), 1])


def copied(step: tuple[int, torch.Tensor]) -> tuple[int, torch.Tensor]:
    return step[0], step[1].clone()


@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_single_label_agrees_with_loops_and_scikit_learn(temperature: float) -> None:
    bank, queries = random_features(80), random_features(30, seed=1)
    random = np.random.default_rng(2)
    labels, truth = random.integers(0, 7, 80), random.integers(0, 7, 30)
    choices = [(k, temperature) for k in (1, 5, 20)]
    answers = classify(search_of(bank), queries, truth, labels=labels, classes=7, choices=choices, memory=MEMORY)
    similarity, places = sorted_places(bank, queries)
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (bank, queries)]
    for k, _ in choices:
        votes = loop_votes(similarity, labels[places], 7, k, temperature)
        ranks = answers[k, temperature].ranks
        assert ranks is not None
        np.testing.assert_array_equal(ranks < 1, votes.argmax(1) == truth)
        # Ties, here of classes that nobody votes for, count against.
        expected = [(row >= row[true]).sum() - 1 for row, true in zip(votes, truth, strict=True)]
        np.testing.assert_array_equal(ranks, expected)
        # On the unit sphere |a - b|^2 = 2 - 2 cos.
        theirs = KNeighborsClassifier(k, weights=lambda d: np.exp((1 - d**2 / 2) / temperature)).fit(unit[0], labels)
        np.testing.assert_array_equal(ranks < 1, theirs.predict(unit[1]) == truth)


def test_a_very_low_temperature_is_the_nearest_neighbor() -> None:
    bank, queries = random_features(80), random_features(40, seed=1)
    random = np.random.default_rng(2)
    labels, truth = random.integers(0, 4, 80), random.integers(0, 4, 40)
    choices = [(1, 0.07), (20, 1e-5)]
    answers = classify(search_of(bank), queries, truth, labels=labels, classes=4, choices=choices, memory=MEMORY)
    assert 0.05 < answers[1, 0.07].value < 0.95
    assert answers[20, 1e-5].value == answers[1, 0.07].value


def multi_label_case() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(5)
    bank_labels, truth = (random.choice([0, 1, -1], (count, 4), p=[0.5, 0.35, 0.15]) for count in (70, 25))
    return random_features(70), random_features(25, seed=1), bank_labels.astype(np.int8), truth.astype(np.int8)


def test_multi_label_agrees_with_loops() -> None:
    bank, queries, labels, truth = multi_label_case()
    similarity, places = sorted_places(bank, queries)
    answers = classify(
        search_of(bank), queries, truth, labels=labels, classes=4, choices=[(3, 0.1), (15, 0.1)],
        memory=MEMORY,
    )  # fmt: skip
    for k in (3, 15):
        expected = np.zeros((25, 4))
        for row in range(25):
            for number in range(4):
                sure = [rank for rank in range(k) if labels[places[row, rank], number] != -1]
                weights = [math.exp(similarity[row, rank] / 0.1) for rank in sure]
                voted = sum(w for w, rank in zip(weights, sure, strict=True) if labels[places[row, rank], number] == 1)
                expected[row, number] = voted / sum(weights) if weights else 0
        scores = answers[k, 0.1].scores
        assert scores is not None
        np.testing.assert_allclose(scores, expected, atol=1e-5)
        each = [average_precision_score(truth[t >= 0, c], expected[t >= 0, c]) for c, t in enumerate(truth.T)]
        assert answers[k, 0.1].value == pytest.approx(np.mean(each), abs=1e-5)


def test_labels_that_are_not_sure_neither_vote_nor_count() -> None:
    bank, queries, labels, truth = multi_label_case()
    found = search_of(bank)(queries, 10)
    table = torch.from_numpy(labels)
    ((_, shares),) = multi_label_votes(found, table, ks=(10,), temperature=0.1)
    as_no = torch.where(table == -1, 0, table)
    ((_, other),) = multi_label_votes(found, as_no, ks=(10,), temperature=0.1)
    assert (shares >= other - 1e-6).all() and (shares > other + 0.01).any()
    scores = shares.numpy()
    wrong = truth.copy()
    wrong[truth == -1] = 1
    assert Predictions(truth, scores=scores).value != pytest.approx(Predictions(wrong, scores=scores).value)


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_predictions_from_arrays_or_tensors_agree_with_loops(kind: Callable[[np.ndarray], Any]) -> None:
    bank, queries = random_features(80), random_features(30, seed=1)
    labels = np.random.default_rng(2).integers(0, 7, 80)
    votes = knn_predict(kind(bank), kind(labels), kind(queries), k=20, temperature=0.2)
    similarity, places = sorted_places(bank, queries)
    expected = loop_votes(similarity - similarity[:, :1], labels[places], 7, 20, 0.2)
    np.testing.assert_allclose(votes, expected, atol=1e-4)
    several = np.eye(7, dtype=np.int8)[labels]
    shares = knn_predict(kind(bank), kind(several), kind(queries), k=20, temperature=0.2)
    np.testing.assert_allclose(shares, expected / expected.sum(1, keepdims=True), atol=1e-4)


@pytest.mark.parametrize("k", [1, 3, 50])
def test_the_largest_of_many_are_those_of_topk(k: int) -> None:
    bank, queries = random_features(5_003, width=8), random_features(20, width=8, seed=1)
    # Equal similarities in many places: what is found must still be k different rows.
    bank[100:200] = bank[:100]
    found = search_of(bank)(queries, k)
    similarity, _ = sorted_places(bank, queries)
    np.testing.assert_allclose(found.similarity.numpy(), similarity[:, :k], atol=1e-6)
    assert all(len(set(row)) == k for row in found.indices.tolist())


def test_slabs_of_queries_change_nothing() -> None:
    bank, queries = random_features(60), random_features(600, seed=1)
    random = np.random.default_rng(2)
    labels, truth = random.integers(0, 5, 60), random.integers(0, 5, 600)
    few, many = (
        classify(search_of(bank), queries, truth, labels=labels, classes=5, choices=[(10, 0.07)], memory=memory)
        for memory in (1, 1 << 30)
    )
    np.testing.assert_array_equal(few[10, 0.07].ranks, many[10, 0.07].ranks)


def test_choosing_finds_what_is_better_on_the_training_photos() -> None:
    # Two classes mixed one by one along a circle: only the nearest neighbors of both sides tell anything.
    angles = np.linspace(0, 2 * np.pi, 120, endpoint=False)
    features = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    labels = (np.arange(120) // 10) % 2
    settings = KnnSettings(encoder="x", data=("x",))
    choices = [(60, 1.0), (3, 1.0), (90, 1.0)]
    best, figure = choose(features, labels, classes=2, choices=choices, settings=settings, device=CPU, seed=0)
    assert best == (3, 1.0) and figure > 0.7


# ---- whole runs -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def class_folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stripes of two directions: even an untrained network tells them apart. One file is no photo."""
    folder = tmp_path_factory.mktemp("stripes")
    random = np.random.default_rng(0)
    for part, count in (("train", 8), ("val", 4)):
        for name in ("across", "down"):
            (folder / part / name).mkdir(parents=True)
            for number in range(count):
                wave = 128 + 100 * np.sin(np.arange(32) * random.uniform(1.2, 1.8))
                pixels = np.repeat(wave[:, None], 32, 1) if name == "across" else np.repeat(wave[None], 32, 0)
                pixels = pixels[..., None] + random.normal(0, 5, (32, 32, 3))
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / part / name / f"{number}.png")
    (folder / "val" / "down" / "broken.png").write_bytes(b"no photo")
    return folder


def settings_for(folder: Path, **more: object) -> KnnSettings:
    base = {"encoder": "random:eccv16@0.0625", "data": (str(folder),), "layers": ("conv1", "conv2"), "k": (3,),
            "resize": 32, "workers": 0, "no_cache": True, "device": "cpu"}  # fmt: skip
    return KnnSettings(**base | more)


def test_a_run_has_every_layer_k_and_temperature(class_folders: Path) -> None:
    lines: list[str] = []
    result = run_knn(settings_for(class_folders, k=(1, 3), temperature=(0.07, 1)), say=lines.append)
    assert list(result.metrics) == ["conv1", "conv2", "trunk_unchanged"]
    assert set(result.metrics["conv2"]) == {"k1_t0.07", "k1_t1", "k3_t0.07", "k3_t1"}
    found = result.metrics["conv2"]["k3_t0.07"]
    assert found["low"] <= found["top1"] <= found["high"] and found["top1"] >= 0.6
    assert found["top1"] == pytest.approx(np.mean([found["per_class"][name] for name in ("across", "down")]))
    assert any("broken.png" in line for line in lines)
    examples = result.examples
    assert examples is not None and examples.layer == "conv2"
    assert len(examples.queries) == 8 and examples.right.shape == (8, 6)
    same = [near.labels == label for near, label in zip(examples.neighbors, examples.queries.labels, strict=True)]
    np.testing.assert_array_equal(examples.right, same)


def test_an_untrained_row_stands_beside(class_folders: Path) -> None:
    with_row = run_knn(settings_for(class_folders, encoder="kmeans:eccv16@0.0625", layers=("conv1",))).metrics
    itself = run_knn(settings_for(class_folders, layers=("conv1",))).metrics
    assert with_row["random"]["conv1"] == itself["conv1"]
    assert "random" not in itself
    without = run_knn(settings_for(class_folders, encoder="kmeans:eccv16@0.0625", layers=("conv1",), random=False))
    assert without.metrics == {name: found for name, found in with_row.items() if name != "random"}


def test_choosing_reports_one_and_never_sees_the_test_photos(
    class_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_for(class_folders, k=(1, 3), temperature=(0.07, 1), choose=True)
    first = run_knn(settings).metrics
    opened = runner.open_dataset

    def poisoned(*arguments: object, **options: object) -> tuple[object, object]:
        train, test = opened(*arguments, **options)  # type: ignore[arg-type]
        return train, type(test)(test.photos, 1 - test.labels, test.classes)

    monkeypatch.setattr(runner, "open_dataset", poisoned)
    second = run_knn(settings).metrics
    for layer in ("conv1", "conv2"):
        ((name, found),) = first[layer].items()
        ((other_name, other),) = second[layer].items()
        assert name == other_name and found["chosen_from"] == 4
        assert found["choosing"] == other["choosing"]
        assert found["top1"] == pytest.approx(1 - other["top1"])


def test_seeds_draw_untrained_networks_and_the_split_to_choose_on(class_folders: Path) -> None:
    several = settings_for(class_folders, layers=("conv1",), seeds=2)
    mean = run_knn(several).metrics["conv1"]["k3_t0.07"]
    singles = [run_knn(several.model_copy(update={"seeds": 1, "seed": seed})).metrics for seed in (0, 1)]
    assert mean["runs"] == [one["conv1"]["k3_t0.07"]["top1"] for one in singles]
    assert mean["top1"] == pytest.approx(np.mean(mean["runs"])) and "spread" in mean
    choosing = several.model_copy(update={"choose": True, "k": (1, 3)})
    ((_, chosen),) = run_knn(choosing).metrics["conv1"].items()
    each = [run_knn(choosing.model_copy(update={"seeds": 1, "seed": seed})).metrics["conv1"] for seed in (0, 1)]
    assert chosen["chosen"] == [name for one in each for name in one]
    assert chosen["choosing"] == pytest.approx(np.mean([found["choosing"] for one in each for found in one.values()]))


def test_a_trained_network_needs_no_second_seed(class_folders: Path, tmp_path: Path) -> None:
    file = tmp_path / "run.safetensors"
    save_pretrained(Pretrained(model=create_model("eccv16", width=0.0625), input_size=32), file)
    found = run_knn(settings_for(class_folders, encoder=str(file), layers=("conv1",), seeds=2)).metrics
    assert "runs" not in found["conv1"]["k3_t0.07"] and len(found["random"]["conv1"]["k3_t0.07"]["runs"]) == 2


def test_leaving_one_out_reads_no_test_photo(class_folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = []
    real = runner.extract
    monkeypatch.setattr(
        runner, "extract", lambda encoder, photos, **more: looked.append(photos) or real(encoder, photos, **more)
    )
    result = run_knn(settings_for(class_folders, k=(15,), leave_one_out=True, temperature=(1000.0,)))
    assert [len(photos) for photos in looked] == [16]
    # Of 15 others 7 are of the same class and 8 of the other: all alike, they are always outvoted.
    assert result.metrics["conv1"]["k15_t1000"]["top1"] == 0
    assert result.examples is not None
    for query, near in enumerate(result.examples.neighbors):
        name = result.examples.queries.photos.name(query)
        assert name not in [near.photos.name(place) for place in range(len(near))]


def test_both_engines_give_the_same_run(class_folders: Path) -> None:
    pytest.importorskip("faiss")
    ours, theirs = (run_knn(settings_for(class_folders, engine=engine)).metrics for engine in ("torch", "faiss"))
    assert ours == theirs


def test_a_wrong_layer_is_one_line_with_the_right_ones(class_folders: Path) -> None:
    with pytest.raises(UserError, match=r"no layer 'conv99'.*conv1, .*conv7") as caught:
        run_knn(settings_for(class_folders, layers=("conv99",)))
    assert "\n" not in str(caught.value)
