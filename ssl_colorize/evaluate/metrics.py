"""From scores to figures: accuracy, average precision, per class, and their intervals by one bootstrap."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score
from torch import Tensor

# Indices of drawn photos.
Rows = NDArray[np.int64]

DRAWS = 1000
# Positive test photos from which on a class is common: of fewer, a single photo moves its average precision by much.
COMMON = 20


# ---- metrics of scores -----------------------------------------------------------------------------------------------


def as_array(values: Any) -> NDArray[Any]:
    """Numbers as a NumPy array: from an array, which may be memory-mapped, a tensor on any device, or lists."""
    if isinstance(values, Tensor):
        return values.detach().cpu().numpy()
    return np.asarray(values)


@torch.no_grad()
def truth_ranks(scores: Tensor, targets: Tensor) -> Tensor:
    """How many other classes score at least as high as the true one: 0 is a right answer, below 5 a top-5 one.

    A tie counts against the classifier, and so does a score that is not finite: one that gives all classes the same
    score, or that has blown up, must not look perfect.

    Args:
        scores: (B, C), or (B, R, C) of R classifiers.
        targets: (B,) classes.

    Returns:
        (B,) or (B, R) int64, C where a score is not finite.

    >>> import torch
    >>> truth_ranks(torch.tensor([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0], [1.0, 5.0, 5.0]]), torch.tensor([0, 2, 1]))
    tensor([0, 2, 1])
    """
    places = targets.view(-1, *[1] * (scores.ndim - 1)).expand(*scores.shape[:-1], 1)
    ranks = (scores >= scores.gather(-1, places)).sum(-1) - 1
    return ranks.masked_fill(~scores.isfinite().all(-1), scores.shape[-1])


def top_k_accuracy(scores: Any, labels: Any, k: int = 1) -> float:
    """The share of rows whose class is among the k with the highest scores; ties count as in `truth_ranks`.

    Args:
        scores: (N, C), array or tensor.
        labels: (N,) classes.

    >>> top_k_accuracy([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]], [0, 1])
    0.5
    >>> top_k_accuracy([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]], [0, 1], k=2)
    1.0
    """
    predictions = Predictions.of(scores, labels)
    assert predictions.ranks is not None
    return float((predictions.ranks < k).mean())


def average_precisions(scores: Any, labels: Any) -> NDArray[np.float64]:
    """Average precision of each class, the area under the steps of its precision-recall curve (as in scikit-learn).

    Args:
        scores: (N, C), array or tensor.
        labels: (N, C) of 1 (there), 0 (not there) and -1 (not counted).

    Returns:
        (C,) in 0..1; NaN for a class without a 1, and 0 where scores are not finite.

    >>> average_precisions([[0.9], [0.8], [0.7], [0.6]], [[-1], [1], [0], [1]])  # 1 and 2 / 3 at the positives
    array([0.83333333])
    """
    scores, labels = as_array(scores), as_array(labels)
    values = np.full(labels.shape[1], np.nan)
    if not np.isfinite(scores).all():
        return np.where((labels == 1).any(0), 0.0, np.nan)
    for number in range(labels.shape[1]):
        counted = labels[:, number] >= 0
        if (labels[counted, number] == 1).any():
            values[number] = average_precision_score(labels[counted, number], scores[counted, number])
    return values


def mean_average_precision(scores: Any, labels: Any) -> float:
    """The mean of `average_precisions` over the classes that have a positive row.

    >>> mean_average_precision([[0.9, 0.1], [0.8, 0.4], [0.7, 0.2]], [[1, 0], [0, 1], [1, 0]])
    0.9166666666666666
    """
    return float(np.nanmean(average_precisions(scores, labels)))


# ---- intervals -------------------------------------------------------------------------------------------------------


def bootstrap_draws(
    statistic: Callable[[Rows], float | NDArray[np.float64]], count: int, *, seed: int, draws: int = DRAWS
) -> NDArray[np.float64]:
    """A statistic, or several (K,) that share the draws, on resamples of the rows (test photos), with replacement.

    Args:
        statistic: gets indices (count,) int64 in 0..count - 1, some of them several times.
        count: number of rows.

    Returns:
        (draws,), or (draws, K).
    """
    chance = np.random.default_rng(seed)
    return np.asarray([statistic(chance.integers(0, count, count)) for _ in range(draws)], np.float64)


def bootstrap(
    statistic: Callable[[Rows], float], count: int, *, seed: int, draws: int = DRAWS, coverage: float = 0.95
) -> tuple[float, float]:
    """The interval that holds a statistic in a share of the resamples of its rows: the percentile bootstrap.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.

    Args:
        statistic: gets indices (count,) int64 in 0..count - 1, some of them several times. Draws for which it is NaN
            are left out.
        count: number of rows, such as test photos.
        coverage: share of the resamples inside.

    Returns:
        Low and high end; both NaN without rows.

    >>> import numpy as np
    >>> errors = np.array([0.0, 1.0, 0.0, 2.0, 1.0, 0.0, 3.0, 1.0])
    >>> low, high = bootstrap(lambda rows: np.median(errors[rows]), len(errors), seed=0)
    >>> bool(low <= np.median(errors) <= high)
    True
    """
    if not count:
        return float("nan"), float("nan")
    return ends(bootstrap_draws(statistic, count, seed=seed, draws=draws), coverage)


def mean_interval(
    values: NDArray[Any], *, seed: int, draws: int = DRAWS, coverage: float = 0.95
) -> tuple[float, float]:
    """`bootstrap` of a mean, quick for booleans, such as which test photos were classified correctly.

    Args:
        values: (N,) booleans, or any figure a photo.

    >>> import numpy as np
    >>> low, high = mean_interval(np.arange(100) < 80, seed=0)
    >>> 0.7 < low < 0.8 < high < 0.9
    True
    """
    values = np.asarray(values)
    if values.dtype == np.bool_ and len(values):
        # The mean of N booleans drawn with replacement is a binomial count.
        counts = np.random.default_rng(seed).binomial(len(values), values.mean(), draws)
        return ends(counts / len(values), coverage)
    return bootstrap(lambda rows: values[rows].mean(), len(values), seed=seed, draws=draws, coverage=coverage)


def class_mean_interval(
    per_class: Callable[[Rows], NDArray[np.float64]],
    whole: NDArray[np.float64],
    count: int,
    *,
    seed: int,
    draws: int = DRAWS,
) -> tuple[float, float]:
    """The 95 % interval of a mean over classes of fractions in 0..1, such as average precisions, by bootstrap.

    A photo that is drawn twice stands next to itself, which raises precision, and by much where positives are few. So
    the draws are moved to have their mean where the figure is.

    Args:
        per_class: from indices of drawn photos (count,) the figure of each class (C,); NaN for a class that these
            photos say nothing about, which leaves its figure as it is.
        whole: (C,) figures of each class over all photos; NaN for classes to leave out.
        count: number of photos.
    """
    known = ~np.isnan(whole)

    def mean(rows: Rows) -> float:
        drawn = per_class(rows)
        return float(np.where(np.isnan(drawn), whole, drawn)[known].mean())

    means = bootstrap_draws(mean, count, seed=seed, draws=draws)
    low, high = ends(means - means.mean() + whole[known].mean(), 0.95)
    return max(0.0, low), min(1.0, high)


def ends(values: NDArray[np.float64], coverage: float = 0.95) -> tuple[float, float]:
    """The interval that holds a share of the values in its middle."""
    low, high = np.nanquantile(values, [(1 - coverage) / 2, (1 + coverage) / 2])
    return float(low), float(high)


def drawn_precisions(scores: NDArray[Any], labels: NDArray[Any]) -> Callable[[Rows], NDArray[np.float64]]:
    """A function from indices of drawn photos to the average precision of each class (C,), NaN without a positive."""
    # Sorted once: a draw changes how often a photo counts, not where it stands.
    order = np.argsort(-scores.T, axis=1, kind="stable")
    sorted_labels = np.take_along_axis(labels.T, order, 1)
    counted, positive = sorted_labels >= 0, sorted_labels == 1

    def drawn(rows: Rows) -> NDArray[np.float64]:
        times = np.bincount(rows, minlength=len(scores))[order] * counted
        positives = times * positive
        precision = positives.cumsum(1) / np.maximum(times.cumsum(1), 1)
        total = positives.sum(1)
        found = np.full(len(total), np.nan)
        np.divide((precision * positives).sum(1), total, out=found, where=total > 0)
        return found

    return drawn


def map_interval(scores: NDArray[Any], labels: NDArray[Any], *, seed: int, draws: int = DRAWS) -> tuple[float, float]:
    """The 95 % interval of the mean average precision, by bootstrap over the photos: see `average_precisions`."""
    drawn = drawn_precisions(scores, labels)
    return class_mean_interval(drawn, average_precisions(scores, labels), len(scores), seed=seed, draws=draws)


# ---- what a classifier predicted -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Predictions:
    """What one classifier predicted for the test photos.

    Attributes:
        truth: (N,) classes, or (N, C) of 1, 0, -1.
        ranks: (N,) as from `truth_ranks`; single-label.
        scores: (N, C); multi-label.
    """

    truth: NDArray[Any]
    ranks: NDArray[np.int64] | None = None
    scores: NDArray[np.floating] | None = None

    @classmethod
    def of(cls, scores: Any, labels: Any) -> "Predictions":
        """From scores (N, C) and labels (N,), or (N, C) of several labels; arrays or tensors."""
        truth, values = as_array(labels), as_array(scores)
        if truth.ndim == 2:
            # As they are: those of an SVM on features that hardly differ would be equal in 32 bits.
            return cls(truth, scores=values)
        ranks = truth_ranks(torch.from_numpy(values), torch.from_numpy(truth).long())
        return cls(truth, ranks=ranks.numpy())

    @classmethod
    def joined(cls, parts: Sequence["Predictions"]) -> "Predictions":
        """Of photos that came in several batches."""
        ranks = [part.ranks for part in parts if part.ranks is not None]
        scores = [part.scores for part in parts if part.scores is not None]
        return cls(
            np.concatenate([part.truth for part in parts]),
            ranks=np.concatenate(ranks) if ranks else None, scores=np.concatenate(scores) if scores else None,
        )  # fmt: skip

    @property
    def value(self) -> float:
        """What is chosen by: top-1 accuracy, or mean average precision."""
        if self.ranks is not None:
            return float((self.ranks < 1).mean())
        assert self.scores is not None
        return mean_average_precision(self.scores, self.truth)


def best_of(predictions: Sequence[Predictions]) -> int:
    """The index of those with the best value; of equal ones the first, which has the lowest learning rate."""
    return int(np.argmax([one.value for one in predictions]))


def summarize(runs: Sequence[Predictions], classes: Sequence[str], *, seed: int) -> dict[str, Any]:
    """The figures of one layer over the runs of several seeds, all on the same test photos.

    Args:
        runs: what each predicted.
        classes: names (C,).
        seed: of the bootstrap.

    Returns:
        "top1", "top5" or "map" as means over the runs; "map_common", that over the classes with at least 20 positive
        test photos, where those are some of the classes and not all; "low" and "high", the 95 % interval over photos;
        "per_class"; and, of several runs, "spread" (standard deviation of the first figure) and "runs" (each one's).

    >>> found = summarize([Predictions.of([[2.0, 1.0], [2.0, 1.0]], [0, 1])], ("cat", "dog"), seed=0)
    >>> found["top1"], found["per_class"]
    (0.5, {'cat': 1.0, 'dog': 0.0})
    """
    values = [run.value for run in runs]
    found = _of_ranks(runs, classes, seed) if runs[0].ranks is not None else _of_scores(runs, classes, seed)
    if len(runs) > 1:
        found |= {"spread": float(np.std(values, ddof=1)), "runs": values}
    return found


def _of_ranks(runs: Sequence[Predictions], classes: Sequence[str], seed: int) -> dict[str, Any]:
    ranks = np.stack([run.ranks for run in runs if run.ranks is not None])
    correct = (ranks < 1).mean(0)
    low, high = mean_interval(correct, seed=seed)
    each = [correct[runs[0].truth == number] for number in range(len(classes))]
    return {
        "top1": float(correct.mean()), "top5": float((ranks < 5).mean()), "low": low, "high": high,
        "per_class": {name: float(part.mean()) for name, part in zip(classes, each, strict=True) if len(part)},
    }  # fmt: skip


def _of_scores(runs: Sequence[Predictions], classes: Sequence[str], seed: int) -> dict[str, Any]:
    scores, truth = [run.scores for run in runs if run.scores is not None], runs[0].truth
    low, high = np.mean([map_interval(one, truth, seed=seed) for one in scores], axis=0).tolist()
    average = np.mean([average_precisions(one, truth) for one in scores], axis=0)
    return {
        "map": float(np.mean([run.value for run in runs])), **common_mean("map_common", average, truth),
        "low": low, "high": high,
        "per_class": {name: float(value) for name, value in zip(classes, average, strict=True) if not np.isnan(value)},
    }  # fmt: skip


def common_mean(name: str, values: NDArray[np.float64], presence: NDArray[Any]) -> dict[str, float]:
    """The mean over the common classes by its name, where those are some of the classes and not all; else nothing.

    Args:
        values: (C,) figures of each class, NaN for classes to leave out.
        presence: (N, C), 1 where a photo shows a class.
    """
    known = ~np.isnan(values)
    common = ((presence == 1).sum(0) >= COMMON) & known
    return {name: float(values[common].mean())} if 0 < common.sum() < known.sum() else {}


class Difference(NamedTuple):
    """How much better one classifier is than another on the same photos, and the ends of its 95 % interval."""

    value: float
    low: float
    high: float


def paired_difference(
    ours: Sequence[Predictions], theirs: Sequence[Predictions], *, seed: int, draws: int = DRAWS
) -> Difference:
    """How much higher our accuracy (or mean average precision) is than theirs, by bootstrap over photos and runs.

    Paired: a photo, or a run on the same training photos, that is hard for one is mostly hard for the other, and what
    both have in common drops out.

    Args:
        ours: what each of several runs predicted.
        theirs: likewise, run by run with the same training photos, and for the same test photos.

    >>> ours, theirs = Predictions.of([[2.0, 1.0]] * 4, [0, 0, 0, 1]), Predictions.of([[1.0, 2.0]] * 4, [0, 0, 0, 1])
    >>> paired_difference([ours], [theirs], seed=0).value
    0.5
    """
    runs, chance = range(len(ours)), np.random.default_rng((seed, len(ours)))
    if ours[0].ranks is not None:
        values = np.stack([
            (one.ranks < 1).astype(float) - (other.ranks < 1)
            for one, other in zip(ours, theirs, strict=True) if one.ranks is not None and other.ranks is not None
        ])  # fmt: skip

        def statistic(rows: Rows) -> float:
            return float(values[chance.integers(0, len(runs), len(runs))][:, rows].mean())
    else:
        precisions = [
            tuple(drawn_precisions(each.scores, each.truth) for each in pair if each.scores is not None)
            for pair in zip(ours, theirs, strict=True)
        ]

        def statistic(rows: Rows) -> float:
            drawn = (precisions[run] for run in chance.integers(0, len(runs), len(runs)))
            return float(np.mean([np.nanmean(mine(rows)) - np.nanmean(others(rows)) for mine, others in drawn]))

    value = float(np.mean([one.value - other.value for one, other in zip(ours, theirs, strict=True)]))
    return Difference(value, *bootstrap(statistic, len(ours[0].truth), seed=seed, draws=draws))
