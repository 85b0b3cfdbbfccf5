"""Linear classifiers on frozen features in closed form: ridge of all strengths at once, and logistic regression."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from ssl_colorize.data import choosing_split
from ssl_colorize.evaluate.metrics import Predictions, as_array
from ssl_colorize.evaluate.settings import LOGISTIC_STRENGTHS, RIDGE_STRENGTHS

Array = NDArray[np.floating[Any]]
# Gives the scores (N, C) of features (N, D).
Classifier = Callable[[Array], Array]


class ProbeScores(NamedTuple):
    """What `linear_probe` gives."""

    scores: Array  # (M, C), the highest for the predicted class
    strength: float  # that was chosen
    choosing: float  # accuracy, or mean average precision, on the rows that it was chosen on


def linear_probe(
    features: Any,
    labels: Any,
    queries: Any,
    *,
    classes: int | None = None,
    method: Literal["ridge", "logistic"] = "ridge",
    strengths: Sequence[float] | None = None,
    choosing: float = 0.2,
    refit: bool = False,
    seed: int = 0,
) -> ProbeScores:
    """A linear classifier on standardized features, its strength chosen on a part of the training photos.

    Source: Alain and Bengio, Understanding Intermediate Layers Using Linear Classifier Probes, 2016.

    Args:
        features: (N, D), array (perhaps memory-mapped) or tensor, of the training photos.
        labels: (N,) classes from 0 on; or (N, C) of 1, 0 and -1 (not counted).
        queries: (M, D), likewise, of the photos to classify.
        classes: C; by default one more than the largest label.
        method: ridge regression of class indicators, or logistic regression.
        strengths: to choose from: of ridge the penalty divided by the number of photos, of logistic regression
            scikit-learn's C. The simplest of equals is taken.
        choosing: share of the photos, of each class alike, to choose on; the classifier is fitted on the others.
        refit: fit once more on all photos with the chosen strength.
        seed: of the split.

    Raises:
        UserError: no class has 2 photos.

    >>> import numpy as np
    >>> chance = np.random.default_rng(0)
    >>> labels = np.arange(60) % 3
    >>> features = np.eye(3)[labels] + 0.1 * chance.normal(size=(60, 3))
    >>> found = linear_probe(features[:30], labels[:30], features[30:])
    >>> bool((found.scores.argmax(1) == labels[30:]).all()), found.choosing
    (True, 1.0)
    """
    found = fit_linear_probe(
        features, labels, classes=classes, method=method, strengths=strengths, choosing=choosing, refit=refit, seed=seed
    )
    return ProbeScores(found.classifier(as_array(queries)), found.strength, found.choosing)


class FittedProbe(NamedTuple):
    """What `fit_linear_probe` gives."""

    classifier: Classifier
    strength: float  # that was chosen
    choosing: float  # accuracy, or mean average precision, on the rows that it was chosen on


def fit_linear_probe(
    features: Any,
    labels: Any,
    *,
    classes: int | None = None,
    method: Literal["ridge", "logistic"] = "ridge",
    strengths: Sequence[float] | None = None,
    choosing: float = 0.2,
    refit: bool = False,
    seed: int = 0,
) -> FittedProbe:
    """The classifier of `linear_probe`, for as many queries as there are; arguments as there."""
    x, known = as_array(features), as_array(labels)
    count = classes or (known.shape[1] if known.ndim == 2 else int(known.max()) + 1)
    solver = ridge if method == "ridge" else logistic
    if strengths is None:
        strengths = RIDGE_STRENGTHS if method == "ridge" else LOGISTIC_STRENGTHS
    fit, held = choosing_split(known, fraction=choosing, seed=seed)
    held_out = x[held]
    best: tuple[float, float, Classifier] | None = None
    for strength, classifier in solver(x[fit], known[fit], count, strengths):
        value = Predictions.of(classifier(held_out), known[held]).value
        if best is None or value > best[0]:
            best = value, strength, classifier
    assert best is not None
    value, strength, classifier = best
    if refit:
        ((_, classifier),) = solver(x, known, count, [strength])
    return FittedProbe(classifier, strength, value)


def indicators(labels: NDArray[Any], classes: int) -> NDArray[np.float64]:
    """Regression targets (N, C): 1 where a photo is of a class.

    Of multi-label photos (N, C) what is not counted (-1) gets the share of its class: it pulls neither way.
    """
    if labels.ndim == 1:
        return np.asarray(labels[:, None] == np.arange(classes), dtype=np.float64)
    counted = labels >= 0
    shares = (labels == 1).sum(0) / np.maximum(counted.sum(0), 1)
    return np.where(counted, labels, shares).astype(np.float64)


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

    Multi-label photos get one classifier a class, on the photos counted for it.
    """
    standardized = Standardized(features)
    x = standardized(features).astype(np.float32)
    columns = [labels] if labels.ndim == 1 else list(labels.T)
    models = [LogisticRegression(C=1.0, max_iter=300, warm_start=True) for _ in columns]
    for strength in sorted(strengths):
        parts = []
        for model, column in zip(models, columns, strict=True):
            counted = column >= 0
            parts.append(_fitted(model, x[counted], column[counted], strength))
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
