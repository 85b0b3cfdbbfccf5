"""Weighted k nearest neighbors on frozen features: every k and temperature from one search (Wu et al. 2018)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median_low
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ssl_colorize.data import LabeledDataset, choosing_split
from ssl_colorize.encoder import Encoder
from ssl_colorize.evaluate.metrics import Predictions, summarize, truth_ranks
from ssl_colorize.evaluate.nearest import Features
from ssl_colorize.evaluate.neighbors import Search, make_search
from ssl_colorize.evaluate.settings import KnnSettings
from ssl_colorize.evaluate.subjects import Say, Task, Watch, measure_subjects
from ssl_colorize.evaluate.voting import multi_label_votes, single_label_votes

GIB = 1 << 30
# Neighbors of a query on the picture.
SHOWN = 6

# k and temperature.
Choice = tuple[int, float]


def memory_bytes(settings: KnnSettings, device: torch.device) -> int:
    """Bytes that a search may take beyond the features."""
    if settings.memory is not None:
        return int(settings.memory * GIB)
    return torch.cuda.mem_get_info(device)[0] // 4 if device.type == "cuda" else GIB // 4


@dataclass(frozen=True)
class Examples:
    """Some queries and the photos nearest to them, the nearest first, in one layer."""

    layer: str
    queries: LabeledDataset
    neighbors: list[LabeledDataset]
    right: NDArray[np.bool_]  # (queries, neighbors): they share a class


@dataclass(frozen=True)
class KnnResult:
    """Figures by layer, and what the picture shows."""

    metrics: dict[str, Any]
    examples: Examples | None


@dataclass(frozen=True)
class Sides:
    """The bank and the queries: readable photos with features by layer."""

    bank: LabeledDataset
    queries: LabeledDataset
    bank_features: Mapping[str, Features]
    query_features: Mapping[str, Features]


@dataclass(frozen=True)
class Said:
    """What the neighbors in one layer said, with one seed; how well the chosen k and temperature did in choosing."""

    answers: dict[Choice, Predictions]
    choosing: float | None = None


def run_knn(
    settings: KnnSettings, *, say: Say = lambda line: None, watch: Watch = lambda what, done, total: None
) -> KnnResult:
    """Classify the test photos by their nearest training photos, in every layer asked for.

    Seeds decide about the weights of an untrained network, and about the split that `choose` chooses on.

    Returns:
        metrics: `{layer: {"k20_t0.07": figures}}`, figures as in `scoring.figures`, and "random" and "trunk_unchanged"
        as in `measure_subjects`.

    Raises:
        UserError: the encoder, a layer or the data is not there, or k is more than the photos there are.
    """
    examples: list[Examples] = []

    def measure(task: Task[KnnSettings], encoder: Encoder, seeds: Sequence[int]) -> list[dict[str, Said]]:
        sides = _sides(task, encoder)
        if settings.examples and not examples:
            examples.append(_examples(sides, task.layers[-1], task.settings, task.device))
        return [
            {layer: _ask(sides, layer, task, seed) for layer in task.layers} for seed in seeds
        ]  # fmt: skip

    metrics = measure_subjects(settings, measure, _summary, varies=settings.choose, say=say, watch=watch)
    return KnnResult(metrics, examples[0] if examples else None)


def _sides(task: Task[KnnSettings], encoder: Encoder) -> Sides:
    sizes = dict.fromkeys(task.layers, task.settings.size)
    bank, bank_features = task.features(encoder, task.train, sizes=sizes)
    if task.settings.leave_one_out:
        return Sides(bank, bank, bank_features, bank_features)
    queries, query_features = task.features(encoder, task.test, sizes=sizes)
    return Sides(bank, queries, bank_features, query_features)


def _ask(sides: Sides, layer: str, task: Task[KnnSettings], seed: int) -> Said:
    settings, bank, memory = task.settings, sides.bank_features[layer], memory_bytes(task.settings, task.device)
    choices, choosing = all_choices(settings), None
    if settings.choose:
        best, choosing = choose(
            bank, sides.bank.labels, len(sides.bank.classes), choices, settings.model_copy(update={"seed": seed}),
            task.device,
        )  # fmt: skip
        task.say(f"{layer}: chose {name_of(best)} of {len(choices)} on a split of the training photos.")
        choices = [best]
    search = make_search(settings.engine, bank, device=task.device, memory=memory)
    answers = classify(
        search, sides.query_features[layer], bank_labels=sides.bank.labels, truth=sides.queries.labels,
        classes=len(sides.bank.classes), choices=choices, memory=memory, own=settings.leave_one_out,
    )  # fmt: skip
    return Said(answers, choosing)


def _summary(task: Task[KnnSettings], runs: Sequence[Said]) -> dict[str, Any]:
    """A layer's figures over the seeds; what each of several chose itself is filed under the one in the middle."""
    classes, seed = task.train.classes, task.settings.seed
    if not task.settings.choose:
        return {
            name_of(choice): summarize([run.answers[choice] for run in runs], classes, seed=seed)
            for choice in runs[0].answers
        }
    chosen = [next(iter(run.answers)) for run in runs]
    found = summarize([next(iter(run.answers.values())) for run in runs], classes, seed=seed)
    found["choosing"] = float(np.mean([run.choosing for run in runs if run.choosing is not None]))
    found["chosen_from"] = len(all_choices(task.settings))
    if len(runs) > 1:
        found["chosen"] = [name_of(one) for one in chosen]
    return {name_of(median_low(chosen)): found}


def all_choices(settings: KnnSettings) -> list[Choice]:
    """Every k with every temperature."""
    return [(k, temperature) for k in sorted(set(settings.k)) for temperature in settings.temperature]


def name_of(choice: Choice) -> str:
    """What the figures of a k and temperature are filed under: "k20_t0.07"."""
    return f"k{choice[0]}_t{choice[1]:g}"


def choose(
    features: Features,
    labels: NDArray[Any],
    classes: int,
    choices: Sequence[Choice],
    settings: KnnSettings,
    device: torch.device,
) -> tuple[Choice, float]:
    """The k and temperature that do best on a split of the training photos, and how well; ties go to the first."""
    fit, held = choosing_split(labels, seed=settings.seed)
    memory = memory_bytes(settings, device)
    search = make_search(settings.engine, features[fit], device=device, memory=memory)
    answers = classify(
        search, features[held], bank_labels=labels[fit], truth=labels[held], classes=classes, choices=choices,
        memory=memory,
    )  # fmt: skip
    best = max(answers, key=lambda choice: answers[choice].value)
    return best, answers[best].value


def classify(
    search: Search,
    queries: Features,
    *,
    bank_labels: NDArray[Any],
    truth: NDArray[Any],
    classes: int,
    choices: Sequence[Choice],
    memory: int,
    own: bool = False,
) -> dict[Choice, Predictions]:
    """What the neighbors say for every k and temperature, from one search at the largest k.

    Args:
        search: over the bank.
        queries: (N, D).
        bank_labels: (bank,) classes, or (bank, C) of 1, 0 and -1.
        truth: (N,) or (N, C), likewise; ranks are counted against it, nothing else uses it.
        memory: bytes to take beyond the features and the answer, in the search and, after it, in the votes.
        own: the queries are the bank, and no photo votes for itself.
    """
    most = max(k for k, _ in choices)
    # Similarities, places, weights, the neighbors' classes, votes and their comparison.
    rows = max(256, memory // 64 // (32 * most + 8 * classes))
    labels, targets = torch.from_numpy(np.asarray(bank_labels)), torch.from_numpy(np.asarray(truth))
    parts: dict[Choice, list[NDArray[Any]]] = {choice: [] for choice in choices}
    for start in range(0, len(queries), rows):
        neighbors = search(queries[start : start + rows], most, own=start if own else None)
        for temperature in dict.fromkeys(temperature for _, temperature in choices):
            ks = [k for k, other in choices if other == temperature]
            if labels.ndim == 2:
                for k, shares in multi_label_votes(neighbors, labels, ks=ks, temperature=temperature):
                    parts[k, temperature].append(shares.numpy())
                continue
            for k, votes in single_label_votes(neighbors, labels, classes, ks=ks, temperature=temperature):
                ranks = truth_ranks(votes[:, None], targets[start : start + rows])
                parts[k, temperature].append(ranks[:, 0].numpy())
    joined = {choice: np.concatenate(found) for choice, found in parts.items()}
    if labels.ndim == 2:
        return {choice: Predictions(truth, scores=scores) for choice, scores in joined.items()}
    return {choice: Predictions(truth, ranks=ranks) for choice, ranks in joined.items()}


def _examples(sides: Sides, layer: str, settings: KnnSettings, device: torch.device) -> Examples:
    """Queries at even distances, whatever they look like."""
    count = min(settings.examples, len(sides.queries))
    shown = min(SHOWN, len(sides.bank) - settings.leave_one_out)
    places = [(2 * number + 1) * len(sides.queries) // (2 * count) for number in range(count)]
    search = make_search("torch", sides.bank_features[layer], device=device, memory=memory_bytes(settings, device))
    found = [
        search(sides.query_features[layer][place : place + 1], shown, own=place if settings.leave_one_out else None)
        for place in places
    ]
    neighbors = [sides.bank.take(one.place[0].tolist()) for one in found]
    queries = sides.queries.take(places)
    right = [_shares_class(queries.labels[number], near.labels) for number, near in enumerate(neighbors)]
    return Examples(layer, queries, neighbors, np.array(right))


def _shares_class(label: NDArray[Any], others: NDArray[Any]) -> NDArray[np.bool_]:
    """Which of the others (n,) or (n, C) are of a class that the one is of."""
    return np.asarray(others == label if others.ndim == 1 else ((others == 1) & (label == 1)).any(axis=1))
