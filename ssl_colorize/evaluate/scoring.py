"""From a classifier's scores to figures: accuracy, average precision, per class, with intervals."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score
from torch import Tensor

from ssl_colorize.evaluate.features import bootstrap_interval

DRAWS = 1000
# Positive test photos from which on a class is common: of fewer, a single photo moves its average precision by much.
COMMON = 20


@torch.no_grad()
def truth_ranks(scores: Tensor, targets: Tensor) -> Tensor:
    """How many classes score at least as high as the true one: 0 is a right answer, below 5 a top-5 one.

    A tie counts against the classifier, and so does a score that is not finite: one that gives all classes the same
    score, or that has blown up, must not look perfect.

    Args:
        scores: (B, R, C) of R classifiers.
        targets: (B,) classes.

    Returns:
        (B, R) int64, C where a score is not finite.
    """
    truth = scores.gather(-1, targets.view(-1, 1, 1).expand(-1, scores.shape[1], 1))
    ranks = (scores >= truth).sum(-1) - 1
    return ranks.masked_fill(~scores.isfinite().all(-1), scores.shape[-1])


def average_precisions(scores: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.float64]:
    """AP of each class (C,) from scores (N, C) and labels 1, 0 or -1 (not judged); NaN for a class without a 1."""
    values = np.full(labels.shape[1], np.nan)
    if not np.isfinite(scores).all():
        return np.where((labels == 1).any(0), 0.0, np.nan)
    for number in range(labels.shape[1]):
        judged = labels[:, number] >= 0
        if (labels[judged, number] == 1).any():
            values[number] = average_precision_score(labels[judged, number], scores[judged, number])
    return values


def map_interval(scores: NDArray[Any], labels: NDArray[Any], *, seed: int, draws: int = DRAWS) -> tuple[float, float]:
    """The 95 % interval of the mean average precision, by bootstrap over the photos."""
    count = len(scores)
    chance = np.random.default_rng(seed)
    times = np.stack([np.bincount(chance.integers(0, count, count), minlength=count) for _ in range(draws)])
    whole = average_precisions(scores, labels)
    found = np.tile(whole, (draws, 1))
    for number in range(labels.shape[1]):
        # Sorted once: a draw changes how often a photo counts, not where it stands.
        order = np.argsort(-scores[:, number], kind="stable")
        order = order[labels[order, number] >= 0]
        drawn = times[:, order]
        positives = drawn * (labels[order, number] == 1)
        precision = positives.cumsum(1) / np.maximum(drawn.cumsum(1), 1)
        total = positives.sum(1)
        # A draw without a positive photo of a class says nothing about the class, and leaves its figure as it is.
        np.divide((precision * positives).sum(1), total, out=found[:, number], where=total > 0)
    return drawn_interval(found, whole)


def drawn_interval(found: NDArray[np.float64], whole: NDArray[np.float64]) -> tuple[float, float]:
    """The 95 % interval of a mean over classes.

    A photo that is drawn twice stands next to itself, which raises precision, and by much where positives are few. So
    the draws are moved to have their mean where the figure is.

    Args:
        found: (draws, C) figures of each class in each draw of photos.
        whole: (C,) figures of each class over all photos; NaN for classes to leave out.
    """
    means = found[:, ~np.isnan(whole)].mean(1)
    low, high = np.percentile(means, [2.5, 97.5]) - means.mean() + np.nanmean(whole)
    return max(0.0, float(low)), min(1.0, float(high))


@dataclass(frozen=True)
class Answers:
    """What one classifier said to the test photos.

    Attributes:
        truth: (N,) classes, or (N, C) of 1, 0, -1.
        ranks: (N,) as from `truth_ranks`; single-label.
        scores: (N, C); multi-label.
    """

    truth: NDArray[Any]
    ranks: NDArray[np.int64] | None = None
    scores: NDArray[np.float32] | None = None

    @property
    def figure(self) -> float:
        """What is chosen by: top-1 accuracy, or mean average precision."""
        if self.ranks is not None:
            return float((self.ranks < 1).mean())
        assert self.scores is not None
        return float(np.nanmean(average_precisions(self.scores, self.truth)))


def figures(runs: Sequence[Answers], classes: Sequence[str], *, seed: int) -> dict[str, Any]:
    """The figures of one layer over the runs of several seeds, all on the same test photos.

    Returns:
        "top1", "top5" or "map" as means over the runs; "map_common", that over the classes with at least 20 positive
        test photos, where those are some of the classes and not all; "low" and "high", the 95 % interval over photos;
        "per_class"; and, of several runs, "spread" (standard deviation of the first figure) and "runs" (each one's).
    """
    values = [run.figure for run in runs]
    if runs[0].ranks is not None:
        ranks = np.stack([run.ranks for run in runs if run.ranks is not None])
        correct = (ranks < 1).mean(0)
        low, high = bootstrap_interval(correct, seed=seed)
        found: dict[str, Any] = {"top1": float(correct.mean()), "top5": float((ranks < 5).mean())}
        each = [correct[runs[0].truth == number] for number in range(len(classes))]
        per_class = {name: float(part.mean()) for name, part in zip(classes, each, strict=True) if len(part)}
    else:
        scores = [run.scores for run in runs if run.scores is not None]
        bounds = [map_interval(one, runs[0].truth, seed=seed) for one in scores]
        low, high = np.mean(bounds, axis=0).tolist()
        average = np.mean([average_precisions(one, runs[0].truth) for one in scores], axis=0)
        found = {"map": float(np.mean(values))}
        found |= common_mean("map_common", average, runs[0].truth)
        per_class = {name: float(value) for name, value in zip(classes, average, strict=True) if not np.isnan(value)}
    found |= {"low": low, "high": high}
    if len(runs) > 1:
        found |= {"spread": float(np.std(values, ddof=1)), "runs": values}
    return found | {"per_class": per_class}


def common_mean(name: str, values: NDArray[np.float64], presence: NDArray[Any]) -> dict[str, float]:
    """The mean over the common classes by its name, where those are some of the classes and not all; else nothing.

    Args:
        values: (C,) figures of each class, NaN for classes to leave out.
        presence: (N, C), 1 where a photo shows a class.
    """
    known = ~np.isnan(values)
    common = ((presence == 1).sum(0) >= COMMON) & known
    return {name: float(values[common].mean())} if 0 < common.sum() < known.sum() else {}


def best_answer(answers: Sequence[Answers]) -> int:
    """The index of the answers with the best figure; of equal ones the first, which has the lowest learning rate."""
    return int(np.argmax([one.figure for one in answers]))
