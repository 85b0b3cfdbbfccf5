"""Linear SVMs on frozen features, one a class (Goyal et al. 2019): their cost chosen by cross-validation on train."""

import warnings
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, PositiveInt
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import average_precision_score
from sklearn.model_selection import StratifiedKFold
from sklearn.svm import LinearSVC
from sklearn.utils.parallel import Parallel, delayed

from ssl_colorize.data.labelled import LabelledPhotos, open_labelled
from ssl_colorize.device import choose_device
from ssl_colorize.encoder import Encoder, Pooling, load_encoder
from ssl_colorize.evaluate.features import ExtractionSettings, frozen
from ssl_colorize.evaluate.knn import Say, Watch, labelled_features
from ssl_colorize.evaluate.scoring import Answers, average_precisions, figures
from ssl_colorize.evaluate.untrained import untrained_twin

Array = NDArray[np.float64]
Labels = NDArray[np.int8]

# Of a class with too few positives to cross-validate.
PLAIN_COST = 1.0


class SvmSettings(ExtractionSettings):
    """Everything that decides an SVM evaluation."""

    costs: Annotated[tuple[PositiveFloat, ...], Field(min_length=1, description="C; one is chosen for each class")] = (
        0.01, 0.1, 1.0, 10.0, 100.0, 1000.0,
    )  # fmt: skip
    folds: Annotated[int, Field(ge=2, description="of the cross-validation")] = 3
    positive_weight: PositiveFloat = Field(2.0, description="how many negatives a positive counts for")
    iterations: PositiveInt = Field(2000, description="at most, for one SVM")
    pool: Pooling = "adaptive"
    numbers: PositiveInt = Field(9216, description="most features a layer is pooled to")
    low_shot: bool = Field(False, description="also train on few positives")
    shots: Annotated[tuple[PositiveInt, ...], Field(min_length=1, description="positives a class")] = (
        1, 2, 4, 8, 16, 32, 64, 96,
    )  # fmt: skip
    draws: PositiveInt = Field(5, description="of each number of positives")
    low_shot_cost: PositiveFloat = Field(PLAIN_COST, description="C there: a few photos leave none to choose it on")
    random: bool = Field(True, description="the same with the untrained network of the same architecture")


def run_svm(
    settings: SvmSettings, *, say: Say = lambda line: None, watch: Watch = lambda what, done, total: None
) -> dict[str, Any]:
    """Train on the training photos, report on the test photos, in every layer asked for.

    Returns:
        By layer: "map" with its 95 % interval "low" to "high", "ap" by class, "cost" by class; single-label also
        "top1", the highest score being the answer; "low_shot" where asked for. Beside the layers "random", the same
        of the untrained network by layer, and "trunk_unchanged": True, proven by comparing all bits.

    Raises:
        UserError: the encoder, a layer or the data is not there.
    """
    device = choose_device(settings.device)
    train, test = open_labelled(settings.data, limit=settings.limit)
    encoder = load_encoder(settings.encoder, device=device, seed=settings.seed)
    layers = encoder.choose(settings.layers)
    resize, crop = settings.sides(encoder)
    settings = settings.model_copy(update={"resize": resize, "crop": crop})
    with frozen(encoder) as proof:
        metrics: dict[str, Any] = _measure(encoder, layers, train, test, settings, say=say, watch=watch)
    twin = untrained_twin(encoder) if settings.random else None
    if twin is not None:
        say(f"The same with {twin}.")
        untrained = load_encoder(twin, device=device, seed=settings.seed)
        metrics["random"] = _measure(untrained, layers, train, test, settings, say=say, watch=watch)
    return metrics | proof


def _measure(
    encoder: Encoder,
    layers: Sequence[str],
    train: LabelledPhotos,
    test: LabelledPhotos,
    settings: SvmSettings,
    *,
    say: Say,
    watch: Watch,
) -> dict[str, dict[str, Any]]:
    sizes = _map_sides(encoder, layers, settings)
    (train, x), (test, x_test) = (
        labelled_features(encoder, part, layers, settings, sizes=sizes, pool=settings.pool, say=say, watch=watch)
        for part in (train, test)
    )
    metrics = {}
    for number, layer in enumerate(layers, start=1):
        watch("Training SVMs, layers", number - 1, len(layers))
        features, test_features = compact(normalized(x[layer]), normalized(x_test[layer]))
        metrics[layer] = evaluate_layer(features, train, test_features, test, settings)
        say(f"{layer}: mAP {metrics[layer]['map']:.1%}")
    return metrics


def _map_sides(encoder: Encoder, layers: Sequence[str], settings: SvmSettings) -> dict[str, int]:
    """Cells a side of each layer's pooled map: as many as `numbers` and the map itself allow."""
    device = next(encoder.parameters()).device
    crop = settings.crop or encoder.input_size
    maps = encoder(torch.zeros(1, 3, crop, crop, dtype=torch.uint8, device=device), layers)
    return {
        name: max(1, min(int((settings.numbers / x.shape[1]) ** 0.5), x.shape[2], x.shape[3]))
        for name, x in maps.items()
    }


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


def evaluate_layer(
    features: Array, train: LabelledPhotos, test_features: Array, test: LabelledPhotos, settings: SvmSettings
) -> dict[str, Any]:
    """The figures of one layer: see `run_svm`."""
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
    found = figures([Answers(truth, scores=together)], train.classes, seed=settings.seed)
    found["ap"] = found.pop("per_class")
    found["cost"] = dict(zip(train.classes, costs, strict=True))
    if not test.multilabel:
        found["top1"] = float((together.argmax(1) == test.labels).mean())
    if settings.low_shot:
        found["low_shot"] = low_shot(features, labels, test_features, truth, settings)
    return found


def class_labels(photos: LabelledPhotos) -> Labels:
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
        spread = float(np.std(each, ddof=1)) if len(each) > 1 else 0.0
        found[str(shots)] = {"map": float(np.mean(each)), "spread": spread, "draws": each, "classes": len(judged)}
    return found


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
