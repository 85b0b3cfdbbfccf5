"""Linear SVMs on frozen features, one a class (Goyal et al. 2019): their cost chosen by cross-validation on train."""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median_low
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import average_precision_score
from sklearn.model_selection import StratifiedKFold
from sklearn.svm import LinearSVC
from sklearn.utils.parallel import Parallel, delayed

from ssl_colorize.data import LabeledDataset
from ssl_colorize.encoder import Encoder
from ssl_colorize.evaluate.metrics import Predictions, average_precisions, summarize
from ssl_colorize.evaluate.one_pass import map_sides
from ssl_colorize.evaluate.settings import SvmSettings
from ssl_colorize.evaluate.subjects import Say, Task, Watch, measure_subjects

Array = NDArray[np.float64]
Labels = NDArray[np.int8]

# Of a class with too few positives to cross-validate.
PLAIN_COST = 1.0


@dataclass(frozen=True)
class Trained:
    """SVMs on one layer, with one seed: their answers to the test photos."""

    answers: Predictions
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
        By layer: "map" and what goes with it as in `scoring.figures`, "ap" by class, "cost" by class; single-label also
        "top1", the highest score being the answer; "low_shot" where asked for. Beside the layers "random" and
        "trunk_unchanged" as in `measure_subjects`.

    Raises:
        UserError: the encoder, a layer or the data is not there.
    """
    return measure_subjects(settings, _measure, _summary, varies=True, say=say, watch=watch)


def _measure(task: Task[SvmSettings], encoder: Encoder, seeds: Sequence[int]) -> list[dict[str, Trained]]:
    settings = task.settings
    sizes = map_sides(encoder, task.layers, settings, settings.crop or encoder.input_size)
    (train, x), (test, x_test) = (
        task.features(encoder, part, sizes=sizes, pool=settings.pool) for part in (task.train, task.test)
    )
    runs: list[dict[str, Trained]] = [{} for _ in seeds]
    for number, layer in enumerate(task.layers):
        task.watch("Training SVMs, layers", number, len(task.layers))
        features, test_features = compact(normalized(x[layer]), normalized(x_test[layer]))
        for seed, run in zip(seeds, runs, strict=True):
            one = settings.model_copy(update={"seed": seed})
            run[layer] = train_layer(features, train, test_features, test, one)
        task.say(f"{layer}: mAP {np.mean([run[layer].answers.value for run in runs]):.1%}")
    task.watch("Training SVMs, layers", len(task.layers), len(task.layers))
    return runs


def _summary(task: Task[SvmSettings], runs: Sequence[Trained]) -> dict[str, Any]:
    return summarize_layer(runs, task.train.classes, seed=task.settings.seed)


def normalized(features: NDArray[Any]) -> Array:
    """Rows of length 1 (a row of zeros stays one)."""
    values = np.asarray(features, np.float64)
    unit: Array = values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
    return unit


def compact(features: Array, others: Array) -> tuple[Array, Array]:
    """Features (N, D) with D > N, and others (M, D), in N coordinates that make no difference to a linear SVM.

    Its weights are sums of training photos, so what is at a right angle to all of them changes no score; in an
    orthonormal basis of the rest all products are the same.
    """
    if features.shape[1] <= len(features):
        return features, others
    basis, coordinates = np.linalg.qr(features.T)
    return coordinates.T, others @ basis


def train_layer(
    features: Array, train: LabeledDataset, test_features: Array, test: LabeledDataset, settings: SvmSettings
) -> Trained:
    """Choose the costs, train, and answer to the test photos."""
    labels, truth = class_labels(train), class_labels(test)
    costs = choose_costs(features, labels, settings)
    scores = _in_parallel(
        settings,
        (
            delayed(_scores)(features, labels[:, number], test_features, cost=cost, settings=settings)
            for number, cost in enumerate(costs)
        ),
    )
    together = np.stack(scores, axis=1)
    return Trained(
        Predictions(truth, scores=together),
        costs,
        None if test.multilabel else float((together.argmax(1) == test.labels).mean()),
        low_shot(features, labels, test_features, truth, settings) if settings.low_shot else None,
    )


def summarize_layer(runs: Sequence[Trained], classes: Sequence[str], *, seed: int) -> dict[str, Any]:
    """The figures of one layer over the runs of several seeds: see `run_svm`."""
    found = summarize([run.answers for run in runs], classes, seed=seed)
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


def class_labels(photos: LabeledDataset) -> Labels:
    """(N, C) of 1, 0 and -1 (not judged), also of photos with one label each."""
    labels = photos.labels if photos.multilabel else photos.labels[:, None] == np.arange(len(photos.classes))
    return np.asarray(labels, dtype=np.int8)


def choose_costs(features: Array, labels: Labels, settings: SvmSettings) -> list[float]:
    """The C of each class with the best AP in cross-validation on these, the training photos; the lower of equals."""
    return _in_parallel(
        settings, (delayed(_choose_cost)(features, labels[:, number], settings) for number in range(labels.shape[1]))
    )


def _choose_cost(features: Array, labels: Labels, settings: SvmSettings) -> float:
    judged = labels >= 0
    features, labels = features[judged], labels[judged]
    # Every fold needs a positive to judge by, and a negative.
    if len(settings.costs) == 1:
        return settings.costs[0]
    if min((labels == 1).sum(), (labels == 0).sum()) < settings.folds:
        return PLAIN_COST
    folds = list(StratifiedKFold(settings.folds, shuffle=True, random_state=settings.seed).split(features, labels))
    costs = sorted(settings.costs)
    values = [
        np.mean([
            average_precision_score(
                labels[held], _scores(features[fit], labels[fit], features[held], cost=cost, settings=settings)
            )
            for fit, held in folds
        ])
        for cost in costs
    ]  # fmt: skip
    return costs[int(np.argmax(values))]


def _scores(features: Array, labels: Labels, others: Array, *, cost: float, settings: SvmSettings) -> Array:
    """How far the others lie on the positive side of an SVM for one class; 0 where there is nothing to tell apart."""
    judged = labels >= 0
    if len(np.unique(labels[judged])) < 2:
        return np.zeros(len(others))
    # The primal problem: its solver is deterministic, and reaches its tolerance for large C as well.
    machine = LinearSVC(
        C=cost, loss="squared_hinge", dual=False, class_weight={1: settings.positive_weight, 0: 1.0},
        max_iter=settings.iterations,
    )  # fmt: skip
    machine.fit(features[judged], labels[judged])
    found: Array = machine.decision_function(others)
    return found


def low_shot(
    features: Array, labels: Labels, test_features: Array, truth: Labels, settings: SvmSettings
) -> dict[str, Any]:
    """SVMs on a few positives, several times with other ones.

    Returns:
        By number of positives: "map" (the mean over the draws), "spread" (their standard deviation), "draws" (each
        one's), and "classes": how many have that many positives, the others being left out. Numbers that no class has
        are left out.
    """
    found = {}
    for shots in settings.shots:
        able = [number for number in range(labels.shape[1]) if (labels[:, number] == 1).sum() >= shots]
        judged = [number for number in able if (truth[:, number] == 1).any()]
        if not judged:
            continue
        jobs = [(draw, number) for draw in range(settings.draws) for number in judged]
        scores = _in_parallel(
            settings,
            (
                delayed(_low_shot_scores)(
                    features, labels[:, number], test_features, number, shots, draw, labels.shape[1], settings
                )
                for draw, number in jobs
            ),
        )
        each = []
        for draw in range(settings.draws):
            mine = np.stack([one for one, (other, _) in zip(scores, jobs, strict=True) if other == draw], axis=1)
            each.append(float(average_precisions(mine, truth[:, judged]).mean()))
        found[str(shots)] = _over_draws(each) | {"classes": len(judged)}
    return found


def _over_draws(each: list[float]) -> dict[str, Any]:
    spread = float(np.std(each, ddof=1)) if len(each) > 1 else 0.0
    return {"map": float(np.mean(each)), "spread": spread, "draws": each}


def _low_shot_scores(
    features: Array, labels: Labels, others: Array, number: int, shots: int, draw: int, classes: int,
    settings: SvmSettings,
) -> Array:  # fmt: skip
    chosen = draw_shots(labels, shots=shots, negatives=shots * (classes - 1), seed=(settings.seed, number, draw))
    return _scores(features[chosen], labels[chosen], others, cost=settings.low_shot_cost, settings=settings)


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


def _in_parallel(settings: SvmSettings, jobs: Iterable[Any]) -> list[Any]:
    """In threads: the solver lets go of Python's lock, and all of them share the features."""
    with warnings.catch_warnings():
        # An SVM that stops early is judged like any other.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return list(Parallel(n_jobs=max(1, settings.workers), prefer="threads")(jobs))
