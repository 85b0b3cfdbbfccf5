"""Ridge of all strengths from one decomposition is scikit-learn's of each; so is logistic regression."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler

from ssl_colorize.data import choosing_split
from ssl_colorize.evaluate import linear_probe, top_k_accuracy
from ssl_colorize.evaluate.closed_form import indicators, logistic, ridge

STRENGTHS = (1e-3, 0.1, 10.0)


def made(photos: int, features: int, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Features of other scales and means, one of them constant, and labels that depend on them."""
    chance = np.random.default_rng(photos)
    x = chance.normal(0, 1, (photos, features))
    labels = (x[:, :classes] + chance.normal(0, 0.5, (photos, classes))).argmax(1)
    x = x * chance.uniform(0.1, 30, features) + chance.uniform(-50, 50, features)
    x[:, -1] = 4.0
    return x.astype(np.float32), labels


@pytest.mark.parametrize("shape", [(60, 12), (25, 40)], ids=["more photos", "more features"])
def test_ridge_is_sklearns_for_every_strength(shape: tuple[int, int]) -> None:
    x, labels = made(*shape)
    new, _ = made(shape[0] + 1, shape[1])
    scaler = StandardScaler().fit(x.astype(np.float64))
    for strength, classifier in ridge(x, labels, 3, STRENGTHS):
        reference = Ridge(alpha=strength * len(x)).fit(scaler.transform(x.astype(np.float64)), np.eye(3)[labels])
        np.testing.assert_allclose(
            classifier(new), reference.predict(scaler.transform(new.astype(np.float64))), atol=1e-6
        )


def test_strengths_are_tried_from_the_simplest() -> None:
    x, labels = made(40, 6)
    assert [strength for strength, _ in ridge(x, labels, 3, STRENGTHS)] == [10.0, 0.1, 1e-3]
    assert [strength for strength, _ in logistic(x, labels, 3, STRENGTHS)] == [1e-3, 0.1, 10.0]


def test_what_is_not_judged_pulls_neither_way() -> None:
    labels = np.array([[1, 0], [0, -1], [-1, 1], [1, 1]])
    assert indicators(labels, 2).tolist() == [[1, 0], [0, 2 / 3], [2 / 3, 1], [1, 1]]
    assert indicators(np.array([1, 0]), 3).tolist() == [[0, 1, 0], [1, 0, 0]]


@pytest.mark.parametrize("classes", [2, 3])
def test_logistic_is_sklearns(classes: int) -> None:
    x, labels = made(80, 6, classes)
    scaled = StandardScaler().fit_transform(x.astype(np.float64))
    for strength, classifier in logistic(x, labels, classes + 1, (0.01, 0.1)):
        reference = LogisticRegression(C=strength, max_iter=1000).fit(scaled, labels)
        # One class more than there are photos of: it is never the answer.
        assert (classifier(x).argmax(1) == reference.predict(scaled)).mean() > 0.98


def test_multilabel_logistic_trains_on_what_is_judged() -> None:
    x, labels = made(80, 6)
    several = np.eye(3, dtype=np.int64)[labels]
    several[:20, 0] = -1
    ((_, classifier),) = logistic(x, several, 3, (0.1,))
    scaled = StandardScaler().fit(x.astype(np.float64)).transform(x.astype(np.float64))
    reference = LogisticRegression(C=0.1, max_iter=1000).fit(scaled[20:], several[20:, 0])
    np.testing.assert_allclose(classifier(x)[:, 0], reference.decision_function(scaled), atol=0.02)


@pytest.mark.parametrize("method", ["ridge", "logistic"])
def test_the_strength_is_that_which_does_best_on_the_split(method: str) -> None:
    x, labels = made(120, 8)
    (x, test), (labels, truth) = np.split(x, [90]), np.split(labels, [90])
    found = linear_probe(x, labels, test, method=method, strengths=STRENGTHS)  # type: ignore[arg-type]
    fit, held = choosing_split(labels, fraction=0.2, seed=0)
    solver = ridge if method == "ridge" else logistic
    each = {
        strength: (top_k_accuracy(classifier(x[held]), labels[held]), classifier(test))
        for strength, classifier in solver(x[fit], labels[fit], 3, STRENGTHS)
    }
    assert found.choosing == max(value for value, _ in each.values()) == each[found.strength][0]
    np.testing.assert_allclose(found.scores, each[found.strength][1])
    assert top_k_accuracy(found.scores, truth) > 0.5
    tensors = linear_probe(
        torch.from_numpy(x), torch.from_numpy(labels), torch.from_numpy(test), method=method, strengths=STRENGTHS
    )  # type: ignore[arg-type]
    np.testing.assert_array_equal(tensors.scores, found.scores)


def test_refitting_is_fitting_on_all_rows() -> None:
    x, labels = made(60, 8)
    found = linear_probe(x, labels, x, strengths=STRENGTHS, refit=True)
    ((_, classifier),) = ridge(x, labels, 3, [found.strength])
    np.testing.assert_allclose(found.scores, classifier(x))
