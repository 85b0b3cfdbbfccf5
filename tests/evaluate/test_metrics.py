"""Figures against hand-made cases and slow references; nothing that is broken may look good."""

import numpy as np
import pytest
import torch
from scipy.stats import binomtest
from scipy.stats import bootstrap as scipy_bootstrap
from sklearn.metrics import average_precision_score

from ssl_colorize.evaluate.metrics import (
    Predictions,
    average_precisions,
    best_of,
    bootstrap,
    common_mean,
    map_interval,
    mean_interval,
    paired_difference,
    summarize,
    truth_ranks,
)


def test_ranks_by_hand() -> None:
    scores = torch.tensor([[[3.0, 2.0, 1.0]], [[3.0, 2.0, 1.0]], [[1.0, 5.0, 5.0]]])
    assert truth_ranks(scores, torch.tensor([0, 2, 1])).tolist() == [[0], [2], [1]]


@pytest.mark.parametrize("broken", [[0.0, 0.0, 0.0], [float("nan")] * 3, [float("inf"), 0.0, 0.0]])
def test_a_classifier_that_says_nothing_is_never_right(broken: list[float]) -> None:
    assert (truth_ranks(torch.tensor([[broken]]), torch.tensor([0])) > 0).all()


def test_average_precision_leaves_out_what_is_not_judged() -> None:
    scores = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]], np.float32)
    labels = np.array([[-1, 0], [1, 0], [0, 0], [1, 0]])
    found = average_precisions(scores, labels)
    # Of the three judged, in order: right, wrong, right.
    assert found[0] == pytest.approx((1 + 2 / 3) / 2)
    assert np.isnan(found[1])
    assert average_precisions(np.full_like(scores, np.nan), labels)[0] == 0


def test_figures_of_one_run() -> None:
    truth = np.array([0, 0, 1, 1, 2, 2, 2, 2])
    answers = Predictions(truth, ranks=np.array([0, 1, 0, 0, 5, 4, 0, 7]))
    found = summarize([answers], ("a", "b", "c", "never seen"), seed=0)
    assert found["top1"] == 0.5 and found["top5"] == 0.75
    assert found["per_class"] == {"a": 0.5, "b": 1.0, "c": 0.25}
    assert found["low"] < 0.5 < found["high"] and "spread" not in found


def test_several_runs_give_mean_and_spread() -> None:
    truth = np.zeros(4, np.int64)
    runs = [Predictions(truth, ranks=np.array(ranks)) for ranks in ([0, 0, 0, 0], [0, 0, 1, 1])]
    found = summarize(runs, ("a", "b"), seed=0)
    assert found["top1"] == 0.75 and found["runs"] == [1.0, 0.5]
    assert found["spread"] == pytest.approx(np.std([1, 0.5], ddof=1))


def test_the_interval_of_map_is_that_of_a_plain_bootstrap() -> None:
    chance = np.random.default_rng(0)
    labels = (chance.random((60, 3)) < 0.4).astype(np.int64)
    labels[::7, 1] = -1
    scores = (labels + chance.normal(0, 1, labels.shape)).astype(np.float32)
    draws = []
    for _ in range(300):
        rows = chance.integers(0, 60, 60)
        each = []
        for number in range(3):
            judged = labels[rows, number] >= 0
            each.append(average_precision_score(labels[rows, number][judged], scores[rows, number][judged]))
        draws.append(np.mean(each))
    wanted = np.percentile(draws, [2.5, 97.5])
    assert map_interval(scores, labels, seed=1) == pytest.approx(tuple(wanted), abs=0.03)
    found = summarize([Predictions(labels, scores=scores)], ("a", "b", "c"), seed=0)
    assert found["low"] < found["map"] < found["high"]
    assert found["map"] == pytest.approx(np.mean(list(found["per_class"].values())))


def test_of_equal_answers_the_first_is_best() -> None:
    truth = np.zeros(2, np.int64)
    assert best_of([Predictions(truth, ranks=np.array(r)) for r in ([1, 0], [0, 0], [0, 0])]) == 1


def test_rare_classes_are_left_out_of_the_mean_beside() -> None:
    chance = np.random.default_rng(0)
    labels = np.zeros((60, 4), np.int64)
    for number, positives in enumerate((20, 19, 30, 0)):
        labels[chance.permutation(60)[:positives], number] = 1
    runs = [Predictions(labels, scores=chance.normal(labels, 1).astype(np.float32)) for _ in range(2)]
    found = summarize(runs, ("a", "b", "c", "absent"), seed=0)
    each = found["per_class"]
    assert set(each) == {"a", "b", "c"} and found["map"] == pytest.approx(np.mean(list(each.values())))
    assert found["map_common"] == pytest.approx((each["a"] + each["c"]) / 2)
    # Where all classes are common, or none, it would say nothing new.
    assert "map_common" not in summarize(
        [Predictions(labels[:, ::2], scores=runs[0].scores[:, ::2])], ("a", "c"), seed=0
    )
    assert "map_common" not in summarize([Predictions(labels[:, 1:2], scores=runs[0].scores[:, 1:2])], ("b",), seed=0)


def test_common_classes() -> None:
    presence = np.zeros((40, 4), np.int8)
    presence[:20, 0] = presence[:19, 1] = presence[:, 2] = 1
    presence[:, 3] = -1
    values = np.asarray([0.5, 1.0, 0.25, 1.0])
    assert common_mean("map_common", values, presence) == {"map_common": 0.375}
    assert common_mean("map_common", values, presence[:10]) == {}


def test_the_interval_holds_the_figure_also_of_rare_classes() -> None:
    chance = np.random.default_rng(0)
    labels = np.zeros((100, 20), np.int64)
    for number in range(20):
        labels[chance.permutation(100)[: 1 + number // 4], number] = 1
    answers = Predictions(labels, scores=chance.normal(0, 1, labels.shape).astype(np.float32))
    found = summarize([answers], [str(number) for number in range(20)], seed=0)
    assert 0 < found["low"] < found["map"] < found["high"] < 0.5


def test_the_interval_of_a_mean_covers_what_resampling_covers() -> None:
    correct = np.arange(400) < 280
    low, high = mean_interval(correct, seed=0, draws=20_000)
    reach = 1.96 * np.sqrt(0.7 * 0.3 / 400)
    assert abs(low - (0.7 - reach)) < 0.006
    assert abs(high - (0.7 + reach)) < 0.006
    # The same by drawing photos.
    plain = mean_interval(correct.astype(float), seed=1, draws=4_000)
    np.testing.assert_allclose(plain, (low, high), atol=0.006)
    assert mean_interval(correct, seed=0, draws=20_000) == (low, high)
    assert mean_interval(np.ones(5, np.bool_), seed=0) == (1.0, 1.0)
    assert np.isnan(mean_interval(np.zeros(0, np.bool_), seed=0)).all()


def test_the_bootstrap_is_that_of_scipy() -> None:
    values = np.random.default_rng(0).gamma(2.0, 1.0, 80)
    wanted = scipy_bootstrap(
        (values,), np.median, n_resamples=4_000, method="percentile", confidence_level=0.9, rng=1
    ).confidence_interval
    found = bootstrap(lambda rows: float(np.median(values[rows])), 80, seed=0, draws=4_000, coverage=0.9)
    assert found == pytest.approx((wanted.low, wanted.high), abs=0.05)
    assert found == bootstrap(lambda rows: float(np.median(values[rows])), 80, seed=0, draws=4_000, coverage=0.9)
    assert np.isnan(bootstrap(lambda rows: 1.0, 0, seed=0)).all()


def test_draws_that_say_nothing_are_left_out() -> None:
    low, high = bootstrap(lambda rows: 1.0 if 0 in rows else float("nan"), 3, seed=0)
    assert (low, high) == (1.0, 1.0)


def test_scores_that_hardly_differ_keep_their_order() -> None:
    """As an untrained deep layer's do, whose features are the same to 7 digits."""
    scores = 0.5 + np.array([[4.0], [3.0], [2.0], [1.0]]) * 1e-9
    labels = np.array([[1], [1], [0], [0]], np.int8)
    assert Predictions.of(scores, labels).value == 1.0


def test_a_paired_difference_knows_what_both_have_in_common() -> None:
    chance = np.random.default_rng(0)
    hard = chance.random(400) < 0.5
    # Both are right on the easy photos; ours on 12 more.
    ours, theirs = ~hard, ~hard.copy()
    ours[np.flatnonzero(hard)[:12]] = True
    runs = [[Predictions(np.zeros(400), ranks=np.where(each, 0, 1))] for each in (ours, theirs)]
    value, low, high = paired_difference(*runs, seed=0)
    assert value == pytest.approx(12 / 400)
    # 12 successes of 400, as SciPy's exact interval has them; unpaired it would reach from -0.04 to 0.10.
    exact = binomtest(12, 400).proportion_ci(0.95)
    assert low == pytest.approx(exact.low, abs=0.005) and high == pytest.approx(exact.high, abs=0.008)
    assert paired_difference(runs[1], runs[0], seed=0).value == -value


def test_a_paired_difference_of_average_precisions() -> None:
    chance = np.random.default_rng(0)
    labels = chance.integers(-1, 2, (150, 3))
    good, bad = (labels + noise * chance.normal(size=labels.shape) for noise in (0.5, 3.0))
    ours, theirs = Predictions.of(good, labels), Predictions.of(bad, labels)
    value, low, high = paired_difference([ours], [theirs], seed=0, draws=200)
    assert value == pytest.approx(ours.value - theirs.value)
    assert 0 < low < value < high
    same = paired_difference([ours], [ours], seed=0, draws=20)
    assert same == (0.0, 0.0, 0.0)


def test_a_paired_difference_over_several_draws_of_labels_is_less_sure() -> None:
    chance = np.random.default_rng(0)
    truth = np.zeros(2000)

    def run(share: float) -> Predictions:
        return Predictions(truth, ranks=np.where(chance.random(2000) < share, 0, 1))

    apart = [run(0.5), run(0.6), run(0.7)], [run(0.6), run(0.6), run(0.6)]
    found = paired_difference(*apart, seed=0)
    # Over the photos alone the interval would be about 0.035 wide.
    assert found.value == pytest.approx(0, abs=0.03) and found.high - found.low > 0.1
