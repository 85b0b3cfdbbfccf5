"""Linear SVMs on frozen features, one a class (Goyal et al. 2019): their cost chosen by cross-validation on train."""

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median_low
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import average_precision_score
from sklearn.model_selection import StratifiedKFold
from sklearn.svm import LinearSVC
from sklearn.utils.parallel import Parallel, delayed

from ssl_colorize.encoder import Encoder
from ssl_colorize.evaluate.features import Features, map_sides
from ssl_colorize.evaluate.metrics import Predictions, as_array, average_precisions, summarize
from ssl_colorize.evaluate.runner import Extracted, Runner, Say, Watch
from ssl_colorize.evaluate.settings import COSTS, SvmSettings

Array = NDArray[np.float64]
Labels = NDArray[np.int8]
# From features (N, D), labels (N,) of 1, 0 and -1, and other features (M, D) the scores (M,) of an SVM; `cost` is C.
Fit = Callable[..., Array]

# C of a class with too few positives to cross-validate.
PLAIN_COST = 1.0


# ---- on arrays -------------------------------------------------------------------------------------------------------


class SvmScores(NamedTuple):
    """What `svm` gives."""

    scores: Array  # (M, C): how far each query lies on the positive side of each class's SVM
    costs: list[float]  # C of each class


def svm(
    features: Any,
    labels: Any,
    queries: Any,
    *,
    classes: int | None = None,
    costs: Sequence[float] = COSTS,
    folds: int = 3,
    positive_weight: float = 2.0,
    iterations: int = 2000,
    seed: int = 0,
    workers: int = 1,
) -> SvmScores:
    """Linear SVMs on features of length 1, one a class against the rest.

    Source: Goyal, Mahajan, Gupta, Misra, Scaling and Benchmarking Self-Supervised Visual Representation Learning,
    ICCV 2019, section 6.1.

    Args:
        features: (N, D), array (perhaps memory-mapped) or tensor, of the training photos.
        labels: (N,) classes from 0 on; or (N, C) of 1, 0 and -1 (not counted).
        queries: (M, D), likewise.
        classes: C; by default one more than the largest label.
        costs: C of the SVMs to choose from, for each class by average precision in cross-validation on these, the
            training photos; the lower of equals.
        folds: of the cross-validation.
        positive_weight: how many negatives a positive counts for.
        iterations: at most, for one SVM.
        seed: of the folds.
        workers: threads.

    >>> import numpy as np
    >>> features = np.array([[1.0, 0.1], [0.9, 0.0], [0.1, 1.0], [0.0, 0.9], [0.2, 1.0], [1.0, 0.3]])
    >>> found = svm(features, [0, 0, 1, 1, 1, 0], [[2.0, 0.1], [0.1, 3.0]], costs=(1.0,))
    >>> found.scores.argmax(1)
    array([0, 1])
    """
    presence = class_labels(labels, classes)
    x, others = compact(normalized(features), normalized(queries))
    fit = partial(svm_scores, positive_weight=positive_weight, iterations=iterations)
    chosen = choose_costs(x, presence, costs=costs, folds=folds, seed=seed, workers=workers, fit=fit)
    jobs = (delayed(fit)(x, presence[:, number], others, cost=cost) for number, cost in enumerate(chosen))
    return SvmScores(np.stack(_in_parallel(workers, jobs), axis=1), chosen)


def normalized(features: Any) -> Array:
    """Rows of length 1 (a row of zeros stays one)."""
    values = as_array(features).astype(np.float64)
    unit: Array = values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
    return unit


def class_labels(labels: Any, classes: int | None = None) -> Labels:
    """(N, C) of 1, 0 and -1 (not counted), also of photos with one label each."""
    known = as_array(labels)
    if known.ndim == 1:
        known = known[:, None] == np.arange(classes or known.max() + 1)
    return np.asarray(known, dtype=np.int8)


def compact(features: Array, others: Array) -> tuple[Array, Array]:
    """Features (N, D) with D > N, and others (M, D), in N coordinates that make no difference to a linear SVM.

    Its weights are sums of training photos, so what is at a right angle to all of them changes no score; in an
    orthonormal basis of the rest all products are the same.
    """
    if features.shape[1] <= len(features):
        return features, others
    basis, coordinates = np.linalg.qr(features.T)
    return coordinates.T, others @ basis


def svm_scores(
    features: Array, labels: Labels, others: Array, *, cost: float, positive_weight: float = 2.0, iterations: int = 2000
) -> Array:
    """How far the others lie on the positive side of an SVM for one class; 0 where there is nothing to tell apart.

    Args:
        features: (N, D).
        labels: (N,) of 1, 0 and -1 (left out).
        others: (M, D).
        cost: C.
    """
    counted = labels >= 0
    if len(np.unique(labels[counted])) < 2:
        return np.zeros(len(others))
    # The primal problem: its solver is deterministic, and reaches its tolerance for large C as well.
    machine = LinearSVC(
        C=cost, loss="squared_hinge", dual=False, class_weight={1: positive_weight, 0: 1.0}, max_iter=iterations
    )
    machine.fit(features[counted], labels[counted])
    found: Array = machine.decision_function(others)
    return found


def choose_costs(
    features: Array, labels: Labels, *, costs: Sequence[float], folds: int, seed: int, workers: int, fit: Fit
) -> list[float]:
    """The C of each class with the best mean average precision over the folds; arguments as of `svm`."""
    jobs = (
        delayed(_choose_cost)(features, labels[:, number], sorted(costs), folds, seed, fit)
        for number in range(labels.shape[1])
    )
    return _in_parallel(workers, jobs)


def _choose_cost(features: Array, labels: Labels, costs: Sequence[float], folds: int, seed: int, fit: Fit) -> float:
    if len(costs) == 1:
        return costs[0]
    counted = labels >= 0
    features, labels = features[counted], labels[counted]
    # Every fold needs a positive to be scored by, and a negative.
    if min((labels == 1).sum(), (labels == 0).sum()) < folds:
        return PLAIN_COST
    splits = list(StratifiedKFold(folds, shuffle=True, random_state=seed).split(features, labels))
    values = [
        np.mean([
            average_precision_score(labels[held], fit(features[kept], labels[kept], features[held], cost=cost))
            for kept, held in splits
        ])
        for cost in costs
    ]  # fmt: skip
    return costs[int(np.argmax(values))]


def _in_parallel(workers: int, jobs: Iterable[Any]) -> list[Any]:
    """In threads: the solver lets go of Python's lock, and all of them share the features."""
    with warnings.catch_warnings():
        # An SVM that stops early counts like any other.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return list(Parallel(n_jobs=max(1, workers), prefer="threads")(jobs))


# ---- few positives ---------------------------------------------------------------------------------------------------


def low_shot(
    features: Any,
    labels: Any,
    queries: Any,
    truth: Any,
    *,
    shots: Sequence[int],
    draws: int = 5,
    cost: float = PLAIN_COST,
    positive_weight: float = 2.0,
    iterations: int = 2000,
    seed: int = 0,
    workers: int = 1,
) -> dict[str, Any]:
    """SVMs on a few positives, several times with other ones; arguments as of `svm`, and

    Args:
        truth: the queries' labels, (M,) or (M, C).
        shots: numbers of positives.
        draws: of each number.

    Returns:
        By number of positives: "map" (the mean over the draws), "spread" (their standard deviation), "draws" (each
        one's), and "classes": how many have that many positives, the others being left out. Numbers that no class has
        are left out.
    """
    presence = class_labels(labels)
    wanted = class_labels(truth, presence.shape[1])
    x, others = compact(normalized(features), normalized(queries))
    fit = partial(svm_scores, cost=cost, positive_weight=positive_weight, iterations=iterations)
    found = {}
    for count in shots:
        enough = ((presence == 1).sum(0) >= count) & (wanted == 1).any(0)
        able = np.flatnonzero(enough).tolist()
        if not able:
            continue
        each = []
        for draw in range(draws):
            rows = [
                draw_shots(presence[:, n], shots=count, negatives=count * (presence.shape[1] - 1), seed=(seed, n, draw))
                for n in able
            ]
            jobs = (delayed(fit)(x[some], presence[some, n], others) for n, some in zip(able, rows, strict=True))
            scores = np.stack(_in_parallel(workers, jobs), axis=1)
            each.append(float(average_precisions(scores, wanted[:, able]).mean()))
        found[str(count)] = _over_draws(each) | {"classes": len(able)}
    return found


def _over_draws(each: list[float]) -> dict[str, Any]:
    spread = float(np.std(each, ddof=1)) if len(each) > 1 else 0.0
    return {"map": float(np.mean(each)), "spread": spread, "draws": each}


def draw_shots(labels: Labels, *, shots: int, negatives: int, seed: Sequence[int]) -> NDArray[np.int64]:
    """Photos (ascending) with exactly `shots` positives of a class, and `negatives` negatives or all there are.

    Of the same seed, a draw of more positives holds those of a draw of fewer: figures along the numbers of positives
    then differ by the photos that were added, and not by chance as well.
    """
    chance = np.random.default_rng(seed)
    positive = chance.permutation(np.flatnonzero(labels == 1))
    negative = chance.permutation(np.flatnonzero(labels == 0))
    if shots > len(positive):
        raise ValueError(f"{shots} positives asked for, {len(positive)} there")
    return np.sort(np.concatenate([positive[:shots], negative[:negatives]]))


# ---- the verb --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trained:
    """SVMs on one layer, with one seed."""

    predictions: Predictions
    costs: list[float]
    top1: float | None  # of photos with one label each
    low_shot: dict[str, Any] | None


def run_svm(
    settings: SvmSettings, *, say: Say = lambda line: None, watch: Watch = lambda what, done, total: None
) -> dict[str, Any]:
    """Train on the training photos, report on the test photos, in every layer asked for.

    Seeds decide about the weights of an untrained network, the folds of the cross-validation, and the draws of few
    positives.

    Returns:
        By layer: "map" and what goes with it as in `metrics.summarize`, "ap" by class, "cost" by class; single-label
        also "top1", the highest score being the answer; "low_shot" where asked for. Beside the layers "random" and
        "trunk_unchanged" as in `Runner.run`.

    Raises:
        UserError: the encoder, a layer or the data is not there.
    """
    runner = Runner.open(settings, say=say, watch=watch)

    def measure(encoders: Sequence[Encoder], seed: int) -> list[dict[str, Trained]]:
        return [_by_layer(runner, encoder, seed) for encoder in encoders]

    return runner.run(measure, lambda runs: summarize_layer(runs, runner.train.classes, seed=settings.seed))


def _by_layer(runner: Runner[SvmSettings], encoder: Encoder, seed: int) -> dict[str, Trained]:
    settings = runner.settings
    crop = settings.crop or encoder.input_size
    sizes = map_sides(encoder, runner.layers, crop, numbers=settings.numbers, sizes=settings.sizes)
    train, test = (
        runner.features(encoder, part, sizes=sizes, pool=settings.pool) for part in (runner.train, runner.test)
    )
    found = {}
    for number, layer in enumerate(runner.layers):
        runner.watch("Training SVMs, layers", number, len(runner.layers))
        found[layer] = train_layer(train, test, layer, settings, seed=seed)
        runner.say(f"{layer}: mAP {found[layer].predictions.value:.1%}")
    runner.watch("Training SVMs, layers", len(runner.layers), len(runner.layers))
    return found


def train_layer(train: Extracted, test: Extracted, layer: str, settings: SvmSettings, *, seed: int) -> Trained:
    """Choose the costs, train, and predict the test photos."""
    (photos, features), (test_photos, test_features) = train, test
    x: tuple[Features, Any, Features] = features[layer], photos.labels, test_features[layer]
    common: dict[str, Any] = {
        "positive_weight": settings.positive_weight, "iterations": settings.iterations, "seed": seed,
        "workers": settings.workers,
    }  # fmt: skip
    classes = len(photos.classes)
    found = svm(*x, classes=classes, costs=settings.costs, folds=settings.folds, **common)
    few = None
    if settings.low_shot:
        few = low_shot(
            *x, test_photos.labels, shots=settings.shots, draws=settings.draws, cost=settings.low_shot_cost, **common
        )
    return Trained(
        Predictions.of(found.scores, class_labels(test_photos.labels, classes)), found.costs,
        None if test_photos.multilabel else float((found.scores.argmax(1) == test_photos.labels).mean()), few,
    )  # fmt: skip


def summarize_layer(runs: Sequence[Trained], classes: Sequence[str], *, seed: int) -> dict[str, Any]:
    """The figures of one layer over the runs of several seeds: see `run_svm`."""
    found = summarize([run.predictions for run in runs], classes, seed=seed)
    found["ap"] = found.pop("per_class")
    # Of several seeds' choices, the one in the middle.
    found["cost"] = {name: median_low(run.costs[number] for run in runs) for number, name in enumerate(classes)}
    top1 = [run.top1 for run in runs if run.top1 is not None]
    if top1:
        found["top1"] = float(np.mean(top1))
    few = [run.low_shot for run in runs if run.low_shot is not None]
    if few:
        found["low_shot"] = {
            shots: one | _over_draws([value for each in few for value in each[shots]["draws"]])
            for shots, one in few[0].items()
        }
    return found
