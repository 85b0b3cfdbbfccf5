"""Linear SVMs: scikit-learn as the reference, what may not touch the choice of C, and draws of few positives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import average_precision_score
from sklearn.model_selection import StratifiedKFold
from sklearn.svm import LinearSVC

from ssl_colorize.data import LabeledDataset
from ssl_colorize.data.photos import PhotoFiles
from ssl_colorize.errors import UserError
from ssl_colorize.evaluate import low_shot, run_svm, runner, svm
from ssl_colorize.evaluate.linear_svm import (
    PLAIN_COST,
    choose_costs,
    class_labels,
    compact,
    draw_shots,
    normalized,
    summarize_layer,
    svm_scores,
    train_layer,
)
from ssl_colorize.evaluate.settings import SvmSettings

COSTS = (0.01, 1.0, 100.0)
CLASSES = ("cat", "dog", "cow")


def settings_for(**more: object) -> SvmSettings:
    return SvmSettings(**{"encoder": "x", "data": ("x",), "workers": 1, "costs": (0.01, 1.0, 100.0)} | more)


def features_of(labels: np.ndarray, *, seed: int, width: int = 12, noise: float = 1.2) -> np.ndarray:
    """Features with a direction for every class, and much that has nothing to do with any."""
    random = np.random.default_rng(seed)
    directions = np.random.default_rng(99).normal(size=(labels.shape[1], width))
    return normalized((labels == 1) @ directions + noise * random.normal(size=(len(labels), width)))


def random_labels(count: int, *, seed: int, unsure: float = 0.1) -> np.ndarray:
    random = np.random.default_rng(seed)
    kinds = [0.75 - unsure, 0.25, unsure]
    return random.choice([0, 1, -1], (count, len(CLASSES)), p=kinds).astype(np.int8)


def labeled(labels: np.ndarray) -> LabeledDataset:
    return LabeledDataset(PhotoFiles([f"{n}.png" for n in range(len(labels))], [0] * len(labels)), labels, CLASSES)


def evaluate_layer(
    x: np.ndarray, train: LabeledDataset, others: np.ndarray, test: LabeledDataset, settings: SvmSettings
) -> dict[str, Any]:
    trained = train_layer((train, {"layer": x}), (test, {"layer": others}), "layer", settings, seed=settings.seed)
    return summarize_layer([trained], train.classes, seed=settings.seed)


def chosen_costs(x: np.ndarray, labels: np.ndarray, costs: tuple[float, ...] = COSTS) -> list[float]:
    return choose_costs(x, labels, costs=costs, folds=3, seed=0, workers=1, fit=svm_scores)


def reference_scores(x: np.ndarray, y: np.ndarray, others: np.ndarray, cost: float) -> np.ndarray:
    """The protocol as one would write it from its description, with weights in place of labels left out."""
    sure = y != -1
    machine = LinearSVC(C=cost, penalty="l2", loss="squared_hinge", dual=True, tol=1e-6, max_iter=100_000,
                        class_weight={1: 2, -1: 1}, random_state=0)  # fmt: skip
    return machine.fit(x[sure], np.where(y[sure] == 1, 1, -1)).decision_function(others)


def test_ap_agrees_with_the_protocol_written_out() -> None:
    labels, truth = random_labels(120, seed=0), random_labels(60, seed=1)
    x, others = features_of(labels, seed=2), features_of(truth, seed=3)
    found = evaluate_layer(x, labeled(labels), others, labeled(truth), settings_for(costs=(1.0,)))
    for number, name in enumerate(CLASSES):
        sure = truth[:, number] != -1
        scores = reference_scores(x, labels[:, number], others, 1.0)[sure]
        assert found["ap"][name] == pytest.approx(average_precision_score(truth[sure, number], scores), abs=5e-3)
    assert found["map"] == pytest.approx(np.mean(list(found["ap"].values())))
    assert 0.3 < found["map"] < 0.99 and found["low"] < found["map"] < found["high"]
    assert "top1" not in found


def test_one_svm_a_class_on_rows_of_any_length() -> None:
    labels, truth = random_labels(80, seed=0), random_labels(30, seed=1)
    x, others = features_of(labels, seed=2), features_of(truth, seed=3)
    found = svm(x * np.arange(1, 81)[:, None], labels, 7 * others, costs=(1.0,))
    assert found.costs == [1.0, 1.0, 1.0]
    for number in range(3):
        expected = reference_scores(x, labels[:, number], others, 1.0)
        np.testing.assert_allclose(found.scores[:, number], expected, atol=2e-3)


def test_a_positive_weighs_two_negatives() -> None:
    labels, truth = random_labels(80, seed=0, unsure=0), random_labels(10, seed=1)
    x, others = features_of(labels, seed=2), features_of(truth, seed=3)
    scores = svm_scores(x, labels[:, 0], others, cost=1.0)
    np.testing.assert_allclose(scores, reference_scores(x, labels[:, 0], others, 1.0), atol=2e-3)
    even = svm_scores(x, labels[:, 0], others, cost=1.0, positive_weight=1.0)
    assert np.abs(even - scores).max() > 0.05


def test_labels_left_out_are_left_out() -> None:
    labels, truth = random_labels(80, seed=0), random_labels(50, seed=1)
    x, others = features_of(labels, seed=2), features_of(truth, seed=3)
    kept = labels[:, 0] != -1
    costs = chosen_costs(x, labels[:, :1])
    assert costs == chosen_costs(x[kept], labels[kept][:, :1])
    scores = svm_scores(x, labels[:, 0], others, cost=1.0)
    np.testing.assert_array_equal(scores, svm_scores(x[kept], labels[kept, 0], others, cost=1.0))


def test_the_cost_is_that_of_the_best_mean_ap_over_three_folds() -> None:
    labels = random_labels(90, seed=4, unsure=0)
    x = features_of(labels, seed=5, width=40, noise=2.0)
    chosen = chosen_costs(x, labels)
    for number, cost in enumerate(chosen):
        y = labels[:, number]
        values = {}
        for candidate in (0.01, 1.0, 100.0):
            folds = StratifiedKFold(3, shuffle=True, random_state=0).split(x, y)
            values[candidate] = np.mean(
                [average_precision_score(y[b], reference_scores(x[a], y[a], x[b], candidate)) for a, b in folds]
            )
        assert values[cost] >= max(values.values()) - 0.01
    # Classes differ in what suits them, or the choice would not show.
    assert len(set(chosen)) > 1


def test_the_test_photos_have_no_say_in_the_cost() -> None:
    labels, truth = random_labels(90, seed=4), random_labels(40, seed=1)
    x, others = features_of(labels, seed=5), features_of(truth, seed=3)
    first = evaluate_layer(x, labeled(labels), others, labeled(truth), settings_for())
    poisoned = np.where(truth == -1, -1, 1 - truth).astype(np.int8)
    second = evaluate_layer(x, labeled(labels), others, labeled(poisoned), settings_for())
    assert first["cost"] == second["cost"]
    assert first["map"] > second["map"] + 0.1


def test_a_class_too_rare_to_cross_validate_takes_the_plain_cost() -> None:
    labels = np.zeros((30, 2), np.int8)
    labels[:2, 0] = labels[:10, 1] = 1
    assert chosen_costs(features_of(labels, seed=0), labels, costs=(0.01, 100.0))[0] == PLAIN_COST


def test_many_numbers_become_as_many_as_photos_and_no_score_changes() -> None:
    labels, truth = random_labels(40, seed=0), random_labels(15, seed=1)
    x, others = features_of(labels, seed=2, width=300), features_of(truth, seed=3, width=300)
    small, small_others = compact(x, others)
    assert small.shape == (40, 40) and small_others.shape == (15, 40)
    for cost in (0.01, 10.0):
        scores = [svm_scores(a, labels[:, 0], b, cost=cost) for a, b in ((x, others), (small, small_others))]
        np.testing.assert_allclose(scores[0], scores[1], atol=3e-3)
    assert compact(x[:, :10], others[:, :10])[0].shape == (40, 10)


def test_single_labels_are_one_against_the_rest() -> None:
    numbers, true_numbers = np.arange(90) % 3, np.arange(45) % 3
    train, test = labeled(numbers), labeled(true_numbers)
    labels, truth = class_labels(train.labels), class_labels(test.labels)
    assert labels.tolist()[:3] == np.eye(3).tolist()
    found = evaluate_layer(features_of(labels, seed=0), train, features_of(truth, seed=1), test, settings_for())
    assert 0.5 < found["top1"] < 1 and set(found["ap"]) == set(CLASSES)


def test_a_class_that_the_test_photos_lack_is_left_out_of_the_mean() -> None:
    labels, truth = random_labels(60, seed=0), random_labels(30, seed=1)
    truth[:, 1] = 0
    found = evaluate_layer(
        features_of(labels, seed=2), labeled(labels), features_of(truth, seed=3), labeled(truth), settings_for()
    )
    assert set(found["ap"]) == {"cat", "cow"}
    assert found["map"] == pytest.approx((found["ap"]["cat"] + found["ap"]["cow"]) / 2)


# ---- few positives --------------------------------------------------------------------------------------------------


def test_draws_have_exactly_the_positives_asked_for() -> None:
    labels = random_labels(200, seed=0)[:, 0]
    for shots in (1, 2, 4, 8, 16, 32):
        chosen = draw_shots(labels, shots=shots, negatives=2 * shots, seed=(0, 0, 0))
        assert len(set(chosen)) == len(chosen)
        assert (labels[chosen] == 1).sum() == shots
        assert (labels[chosen] == 0).sum() == 2 * shots
        assert not (labels[chosen] == -1).any()
    # As many negatives as there are, where more are asked for.
    chosen = draw_shots(labels, shots=3, negatives=10_000, seed=(0, 0, 0))
    assert len(chosen) == 3 + (labels == 0).sum()
    with pytest.raises(ValueError, match="positives asked for"):
        draw_shots(labels, shots=190, negatives=1, seed=(0, 0, 0))


def test_same_seeds_same_draws_and_others_others() -> None:
    labels = random_labels(200, seed=0)[:, 0]
    first, again, other = (draw_shots(labels, shots=8, negatives=16, seed=(0, 0, d)).tolist() for d in (0, 0, 1))
    assert first == again != other
    assert set(first) <= set(draw_shots(labels, shots=16, negatives=32, seed=(0, 0, 0)))


def test_low_shot_has_five_draws_and_their_spread() -> None:
    labels, truth = random_labels(150, seed=0), random_labels(80, seed=1)
    x, others = features_of(labels, seed=2), features_of(truth, seed=3)
    labels[np.flatnonzero(labels[:, 2] == 1)[5:], 2] = 0
    shots = (1, 16, 1000)
    found = low_shot(x, labels, others, truth, shots=shots, seed=3)
    # Nobody has 1,000; of 16, the class with only five is left out.
    assert list(found) == ["1", "16"]
    assert (found["1"]["classes"], found["16"]["classes"]) == (3, 2)
    for one in found.values():
        assert len(one["draws"]) == 5 == len(set(one["draws"]))
        assert one["map"] == pytest.approx(np.mean(one["draws"]))
        assert one["spread"] == pytest.approx(np.std(one["draws"], ddof=1))
    assert found["16"]["map"] > found["1"]["map"]
    assert low_shot(x, labels, others, truth, shots=shots, seed=3) == found
    assert low_shot(x, labels, others, truth, shots=shots, seed=4) != found


# ---- whole runs -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def class_folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of stripes: across, down, and none."""
    folder = tmp_path_factory.mktemp("svm")
    random = np.random.default_rng(0)
    for part, count in (("train", 6), ("test", 4)):
        for name in ("across", "down", "plain"):
            (folder / part / name).mkdir(parents=True)
            for number in range(count):
                wave = 128 + 90 * np.sin(np.arange(32) * random.uniform(1.2, 1.8)) * (name != "plain")
                pixels = np.repeat(wave[:, None], 32, 1) if name == "across" else np.repeat(wave[None], 32, 0)
                pixels = pixels[..., None] + random.normal(0, 5, (32, 32, 3))
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / part / name / f"{number}.png")
    return folder


def run_settings(folder: Path, **more: object) -> SvmSettings:
    base = {"encoder": "kmeans:eccv16@0.0625", "data": (str(folder),), "layers": ("conv1", "conv3"), "resize": 32,
            "costs": (0.1, 10.0), "no_cache": True, "device": "cpu", "workers": 0}  # fmt: skip
    return SvmSettings(**base | more)


def test_a_run_has_every_layer_and_an_untrained_row(class_folders: Path) -> None:
    found = run_svm(run_settings(class_folders, low_shot=True, shots=(1, 4, 96), draws=2))
    assert list(found) == ["conv1", "conv3", "random", "trunk_unchanged"]
    assert set(found["conv1"]["ap"]) == {"across", "down", "plain"} == set(found["conv1"]["cost"])
    assert found["conv1"]["map"] > 0.5
    assert list(found["conv1"]["low_shot"]) == ["1", "4"]
    itself = run_svm(
        run_settings(class_folders, encoder="random:eccv16@0.0625", low_shot=True, shots=(1, 4, 96), draws=2)
    )
    assert itself == {**found["random"], "trunk_unchanged": True}
    assert "random" not in run_svm(run_settings(class_folders, layers=("conv1",), random=False))


def test_maps_are_pooled_to_as_many_numbers_as_fit(class_folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {}
    real = runner.extract
    monkeypatch.setattr(runner, "extract", lambda *args, **more: asked.update(more["sizes"]) or real(*args, **more))
    run_svm(run_settings(class_folders, random=False, numbers=150))
    # Of 32 px, conv1 has 8 channels of 16 x 16 cells and conv3 16 of 4 x 4: 8 * 4^2 and 16 * 3^2 numbers.
    assert asked == {"conv1": 4, "conv3": 3}


def test_several_seeds_give_mean_and_spread(class_folders: Path) -> None:
    one = run_settings(
        class_folders, encoder="random:eccv16@0.0625", layers=("conv1",), low_shot=True, shots=(2,), draws=2
    )
    found = run_svm(one.model_copy(update={"seeds": 2}))["conv1"]
    each = [run_svm(one.model_copy(update={"seed": seed}))["conv1"] for seed in (0, 1)]
    assert found["runs"] == [single["map"] for single in each] and found["spread"] > 0
    assert found["map"] == pytest.approx(np.mean(found["runs"])) and "spread" not in each[0]
    draws = [single["low_shot"]["2"]["draws"] for single in each]
    assert found["low_shot"]["2"]["draws"] == draws[0] + draws[1]
    assert found["low_shot"]["2"]["map"] == pytest.approx(np.mean(draws))


def test_a_wrong_layer_is_one_line_with_the_right_ones(class_folders: Path) -> None:
    with pytest.raises(UserError, match=r"no layer 'conv99'.*conv1, .*conv7"):
        run_svm(run_settings(class_folders, layers=("conv99",)))
