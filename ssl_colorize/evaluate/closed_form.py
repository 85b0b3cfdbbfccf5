"""Linear classifiers on features that are already there: ridge of all strengths at once, and logistic regression."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import eigh
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from ssl_colorize.data import choosing_split
from ssl_colorize.evaluate.metrics import Predictions, truth_ranks
from ssl_colorize.evaluate.outcome import Outcome
from ssl_colorize.evaluate.settings import ProbeSettings

Array = NDArray[np.floating[Any]]
# Gives the scores (N, C) of features (N, D).
Classifier = Callable[[Array], Array]


def indicators(labels: NDArray[Any], classes: int) -> NDArray[np.float64]:
    """Regression targets (N, C): 1 where a photo is of a class.

    Of multi-label photos (N, C) what is not judged (-1) gets the share of its class: it pulls neither way.
    """
    if labels.ndim == 1:
        return np.asarray(labels[:, None] == np.arange(classes), dtype=np.float64)
    judged = labels >= 0
    shares = (labels == 1).sum(0) / np.maximum(judged.sum(0), 1)
    return np.where(judged, labels, shares).astype(np.float64)


class Standardized:
    """Features less the training photos' mean, over their standard deviation; constant ones become 0."""

    def __init__(self, features: Array) -> None:
        self.mean = features.mean(0, dtype=np.float64)
        spread = features.std(0, dtype=np.float64)
        self.scale = np.where(spread > 1e-12 * np.maximum(1, np.abs(self.mean)), spread, np.inf)

    def __call__(self, features: Array) -> NDArray[np.float64]:
        scaled: NDArray[np.float64] = (np.asarray(features, np.float64) - self.mean) / self.scale
        return scaled


class RidgePath:
    """Ridge regression |Xw + b - y|^2 + penalty |w|^2 for any penalty, from one decomposition.

    With X'X = V diag(s) V', the scores of new rows are (X V) diag(1 / (s + penalty)) (V' X' y). With fewer rows than
    columns the same holds for XX', which is then the smaller one.
    """

    def __init__(self, features: Array, targets: Array) -> None:
        """Features (N, D) and targets (N, C); both are centered, the features standardized as well."""
        self._standardized = Standardized(features)
        x = self._standardized(features)
        self._offset = targets.mean(0)
        centered = targets - self._offset
        self._rows = x if len(x) < x.shape[1] else None
        gram = x @ x.T if self._rows is not None else x.T @ x
        values, self._vectors = eigh(gram, overwrite_a=True, check_finite=False)
        # Rounding leaves eigenvalues a little below the 0 they are.
        self._values = values.clip(0)
        self._coefficients = self._vectors.T @ (centered if self._rows is not None else x.T @ centered)

    def project(self, features: Array) -> Array:
        """Rows (M, D) in the basis of the decomposition, for `scores`; done once for all penalties."""
        x = self._standardized(features)
        projected: Array = (x if self._rows is None else x @ self._rows.T) @ self._vectors
        return projected

    def scores(self, projected: Array, penalty: float) -> Array:
        """(M, C) scores of projected rows."""
        found: Array = projected @ (self._coefficients / (self._values + penalty)[:, None]) + self._offset
        return found


def ridge(
    features: Array, labels: NDArray[Any], classes: int, strengths: Sequence[float]
) -> Iterator[tuple[float, Classifier]]:
    """A classifier for each strength, the strongest penalty first; a penalty is strength x number of photos."""
    path = RidgePath(features, indicators(labels, classes))
    latest: list[tuple[Array, Array]] = []

    def project(rows: Array) -> Array:
        # All strengths are asked about the same rows in turn.
        if not latest or latest[0][0] is not rows:
            latest[:] = [(rows, path.project(rows))]
        return latest[0][1]

    for strength in sorted(strengths, reverse=True):
        penalty = strength * len(features)
        yield strength, lambda rows, penalty=penalty: path.scores(project(rows), penalty)  # type: ignore[misc]


def logistic(
    features: Array, labels: NDArray[Any], classes: int, strengths: Sequence[float]
) -> Iterator[tuple[float, Classifier]]:
    """scikit-learn's logistic regression for each C, the smallest first: each starts from the one before.

    Multi-label photos get one classifier a class, on the photos judged for it.
    """
    standardized = Standardized(features)
    x = standardized(features).astype(np.float32)
    columns = [labels] if labels.ndim == 1 else list(labels.T)
    models = [LogisticRegression(C=1.0, max_iter=300, warm_start=True) for _ in columns]
    for strength in sorted(strengths):
        parts = []
        for model, column in zip(models, columns, strict=True):
            judged = column >= 0
            parts.append(_fitted(model, x[judged], column[judged], strength))
        yield strength, lambda rows, parts=parts: _logistic_scores(standardized(rows), parts, classes)  # type: ignore[misc]


# Weights (classes present, D), biases, and the classes' numbers.
_Part = tuple[Array, Array, NDArray[Any]]


def _fitted(model: LogisticRegression, x: Array, labels: NDArray[Any], strength: float) -> _Part:
    if len(np.unique(labels)) < 2:
        return np.zeros((1, x.shape[1])), np.full(1, 1.0 if labels[:1].any() else -1.0), np.array([0, 1])
    model.C = strength
    with warnings.catch_warnings():
        # The weakest penalties need more iterations than they are worth: the choice is made by accuracy.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(x, labels)
    return model.coef_.astype(np.float64), model.intercept_.astype(np.float64), model.classes_


def _logistic_scores(x: Array, parts: Sequence[_Part], classes: int) -> Array:
    if len(parts) > 1:
        return np.stack([x @ weight[0] + bias[0] for weight, bias, _ in parts], axis=1)
    ((weight, bias, known),) = parts
    margins = x @ weight.T + bias
    if len(known) == 2:
        margins = np.concatenate([-margins, margins], axis=1)
    # A class without a training photo is never the answer.
    scores = np.full((len(x), classes), np.finfo(np.float64).min)
    scores[:, known] = margins
    return scores


def solve(
    train: Any, labels: Any, test: Any, test_labels: Any, *, classes: int, settings: ProbeSettings, seed: int
) -> Outcome:
    """One layer's classifier in closed form: the strength chosen on a part of the training photos, then the answers.

    Args:
        train: (N, D) features; `labels` (N,) or (N, C).
        test: (M, D) features; `test_labels` likewise.
    """
    engine, strengths = (
        (ridge, settings.ridge_strengths) if settings.engine == "ridge" else (logistic, settings.logistic_strengths)
    )
    fit, choose = choosing_split(labels, fraction=settings.choosing, seed=seed)
    held_out = train[choose]
    best: tuple[float, float, Classifier] | None = None
    for strength, classifier in engine(train[fit], labels[fit], classes, strengths):
        figure = _answered(classifier, held_out, labels[choose]).value
        if best is None or figure > best[0]:
            best = figure, strength, classifier
    assert best is not None
    figure, strength, classifier = best
    if settings.refit:
        ((_, classifier),) = engine(train, labels, classes, [strength])
    return Outcome({"strength": strength}, figure, _answered(classifier, np.asarray(test), test_labels))


def _answered(classifier: Classifier, features: Any, labels: Any) -> Predictions:
    scores = classifier(features)
    if labels.ndim == 2:
        return Predictions(labels, scores=scores.astype(np.float32))
    ranks = truth_ranks(torch.from_numpy(scores)[:, None], torch.from_numpy(np.asarray(labels)).long())
    return Predictions(labels, ranks=ranks[:, 0].numpy())
