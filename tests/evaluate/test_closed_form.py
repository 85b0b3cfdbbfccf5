"""Ridge of all strengths from one decomposition is scikit-learn's of each; so is logistic regression."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler

from ssl_colorize.evaluate.closed_form import indicators, logistic, ridge, solve
from ssl_colorize.evaluate.settings import ProbeSettings

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


@pytest.mark.parametrize("engine", ["ridge", "logistic"])
def test_choosing_does_not_see_test_labels(engine: str) -> None:
    settings = ProbeSettings(encoder="e", data=("d",), engine=engine)  # type: ignore[arg-type]
    x, labels = made(120, 8)
    (x, test), (labels, truth) = np.split(x, [90]), np.split(labels, [90])
    sound = solve(x, labels, test, truth, classes=3, settings=settings, seed=0)
    poisoned = solve(x, labels, test, (truth + 1) % 3, classes=3, settings=settings, seed=0)
    assert poisoned.chosen == sound.chosen and poisoned.choosing == sound.choosing
    assert sound.answers.value > 0.5 > poisoned.answers.value
