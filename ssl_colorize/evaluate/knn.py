"""Weighted k nearest neighbors on frozen features: every k and temperature from one search (Wu et al. 2018)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median_low
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ssl_colorize.data import LabeledDataset, choosing_split
from ssl_colorize.encoder import Encoder
from ssl_colorize.errors import UserError
from ssl_colorize.evaluate.features import Features, vectors
from ssl_colorize.evaluate.metrics import Predictions, as_array, summarize
from ssl_colorize.evaluate.neighbors import Neighbors, Search, make_search
from ssl_colorize.evaluate.robustness import Further, judge_further, summarize_further
from ssl_colorize.evaluate.runner import Extracted, Runner, Say, Watch
from ssl_colorize.evaluate.settings import KnnSettings, SegmentSettings

GIB = 1 << 30

# k and temperature.
Choice = tuple[int, float]


# ---- on arrays -------------------------------------------------------------------------------------------------------


def knn_predict(
    features: Any,
    labels: Any,
    queries: Any,
    *,
    k: int = 20,
    temperature: float = 0.07,
    classes: int | None = None,
    engine: Literal["torch", "faiss"] = "torch",
    device: torch.device | str = "cpu",
    memory: int = GIB // 4,
) -> NDArray[np.float32]:
    """The votes of each query's k nearest neighbors by cosine similarity, each of weight exp(similarity / temperature).

    Source: Wu, Xiong, Yu, Lin, Unsupervised Feature Learning via Non-Parametric Instance Discrimination, CVPR 2018,
    section 3.4.

    Args:
        features: (N, D), array (perhaps memory-mapped) or tensor, of the photos whose labels are known.
        labels: (N,) classes from 0 on; or, of several labels, (N, C) of 1, 0 and -1 (unsure, which does not vote).
        queries: (M, D), likewise.
        classes: C; by default one more than the largest label.
        engine: both are exact.
        device: to search on.
        memory: bytes that the search may take beyond the features and the answer.

    Returns:
        (M, C) votes in units of the nearest neighbor's; of several labels the share of the votes, in 0..1.

    Raises:
        UserError: there are fewer than k photos, or faiss is not installed.

    >>> features = [[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]]
    >>> knn_predict(features, [0, 0, 1], [[2.0, 0.1], [0.1, 0.8]], k=1).argmax(1)
    array([0, 1])
    """
    bank, known, asked = as_array(features), as_array(labels), as_array(queries)
    search = make_search(engine, bank, device=torch.device(device), memory=memory)
    count = classes or (known.shape[1] if known.ndim == 2 else int(known.max()) + 1)
    parts = votes(search, asked, labels=known, classes=count, choices=[(k, temperature)], memory=memory)
    return np.concatenate([found.numpy() for _, _, found in parts])


def votes(
    search: Search,
    queries: Features,
    *,
    labels: NDArray[Any],
    classes: int,
    choices: Sequence[Choice],
    memory: int,
    leave_one_out: bool = False,
) -> Iterator[tuple[slice, Choice, Tensor]]:
    """What the neighbors vote for every k and temperature, from one search at the largest k, some queries at a time.

    Args:
        search: over the bank.
        queries: (M, D).
        labels: of the bank, (N,) or (N, C) as in `knn_predict`.
        memory: bytes to take beyond the features, in the search and, after it, in the votes.
        leave_one_out: the queries are the bank, and no photo votes for itself.

    Yields:
        Which queries, the choice, and their votes (B, C). The next step may change these in place.
    """
    most = max(k for k, _ in choices)
    # Similarities, places, weights, the neighbors' classes, votes and their comparison.
    rows = max(256, memory // 16 // (32 * most + 8 * classes))
    known = torch.from_numpy(np.asarray(labels))
    known = known if known.ndim == 2 else known.long()
    for start in range(0, len(queries), rows):
        part = slice(start, start + rows)
        neighbors = search(queries[part], most, own=start if leave_one_out else None)
        for temperature in dict.fromkeys(temperature for _, temperature in choices):
            ks = sorted({k for k, other in choices if other == temperature})
            if known.ndim == 2:
                counted = multi_label_votes(neighbors, known, ks=ks, temperature=temperature)
            else:
                counted = single_label_votes(neighbors, known, classes, ks=ks, temperature=temperature)
            for k, found in counted:
                yield part, (k, temperature), found


def single_label_votes(
    neighbors: Neighbors, labels: Tensor, classes: int, *, ks: Sequence[int], temperature: float
) -> Iterator[tuple[int, Tensor]]:
    """Votes of the k nearest, for every k, counted once: those of a larger k are added to those of a smaller.

    Args:
        neighbors: at least max(ks) of each query.
        labels: (bank,) int64 classes.
        ks: ascending.

    Yields:
        k, and votes (N, classes) in units of the nearest neighbor's vote. The next step adds to the same tensor.
    """
    weights = _weights(neighbors.similarity, temperature)
    classes_of = labels[neighbors.indices]
    found = weights.new_zeros(len(weights), classes)
    start = 0
    for k in ks:
        found.scatter_add_(1, classes_of[:, start:k], weights[:, start:k])
        start = k
        yield k, found


def multi_label_votes(
    neighbors: Neighbors, labels: Tensor, *, ks: Sequence[int], temperature: float
) -> Iterator[tuple[int, Tensor]]:
    """For every k the share of the votes that each class gets: neighbors whose label is unsure do not vote.

    A share, and not a sum, so that the scores of different queries can be put in one order, as average precision does.

    Args:
        neighbors: at least max(ks) of each query.
        labels: (bank, C) of 1, 0 and -1 (unsure).
        ks: ascending.

    Yields:
        k, and shares (N, C) in [0, 1]; 0 where nobody votes.
    """
    weights = _weights(neighbors.similarity, temperature)
    classes = labels.shape[1]
    # One look-up for both sums; no (N, k, C) is ever made.
    table = torch.cat([labels == 1, labels != -1], dim=1).to(weights.dtype)
    sums = weights.new_zeros(len(weights), 2 * classes)
    start = 0
    for k in ks:
        sums += functional.embedding_bag(
            neighbors.indices[:, start:k], table, mode="sum", per_sample_weights=weights[:, start:k].contiguous()
        )
        start = k
        yield k, sums[:, :classes] / sums[:, classes:].clamp_min(torch.finfo(weights.dtype).tiny)


def _weights(similarity: Tensor, temperature: float) -> Tensor:
    """exp(similarity / temperature) over that of the nearest: the same order, and no overflow at T = 0.005."""
    return ((similarity - similarity[:, :1]) / temperature).exp()


def classify(
    search: Search,
    queries: Features,
    truth: NDArray[Any],
    *,
    labels: NDArray[Any],
    classes: int,
    choices: Sequence[Choice],
    memory: int,
    leave_one_out: bool = False,
) -> dict[Choice, Predictions]:
    """What is predicted for the queries by every k and temperature; arguments as of `votes`.

    Args:
        truth: (M,) or (M, C): the queries' labels, which ranks are counted against; nothing else uses them.
    """
    parts: dict[Choice, list[Predictions]] = {choice: [] for choice in choices}
    for rows, choice, found in votes(
        search, queries, labels=labels, classes=classes, choices=choices, memory=memory, leave_one_out=leave_one_out
    ):
        parts[choice].append(Predictions.of(found, truth[rows]))
    return {choice: Predictions.joined(found) for choice, found in parts.items()}


def choose(
    features: Features, labels: NDArray[Any], *, classes: int, choices: Sequence[Choice], settings: KnnSettings,
    device: torch.device, seed: int,
) -> tuple[Choice, float]:  # fmt: skip
    """The k and temperature that do best on a split of the training photos, and how well; ties go to the first."""
    fit, held = choosing_split(labels, seed=seed)
    memory = memory_bytes(settings, device)
    search = make_search(settings.engine, features[fit], device=device, memory=memory)
    found = classify(
        search, features[held], labels[held], labels=labels[fit], classes=classes, choices=choices, memory=memory
    )
    best = max(found, key=lambda choice: found[choice].value)
    return best, found[best].value


# ---- the verb --------------------------------------------------------------------------------------------------------


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


class _Found(NamedTuple):
    """What there is of one layer with one seed."""

    predictions: dict[Choice, Predictions]
    choosing: float | None  # how well the chosen k and temperature did in choosing
    further: dict[Choice, Further]


def run_knn(
    settings: KnnSettings, *, say: Say = lambda line: None, watch: Watch = lambda what, done, total: None
) -> KnnResult:
    """Classify the test photos by their nearest training photos, in every layer asked for.

    Seeds decide about the weights of an untrained network, and about the split that `choose` chooses on.

    Returns:
        metrics: `{layer: {"k20_t0.07": figures}}`, figures as in `metrics.summarize`, and "random" and
        "trunk_unchanged" as in `Runner.run`.

    Raises:
        UserError: the encoder, a layer or the data is not there, or k is more than the photos there are.
    """
    if settings.leave_one_out and settings.corrupt:
        raise UserError("--corrupt judges on test photos, and --leave-one-out reads none: leave one of them away.")
    runner = Runner.open(settings, say=say, watch=watch)
    examples: list[Examples] = []

    def measure(encoders: Sequence[Encoder], seed: int) -> list[dict[str, _Found]]:
        found = []
        for encoder in encoders:
            sizes = dict.fromkeys(runner.layers, settings.size)
            bank = runner.features(encoder, runner.train, sizes=sizes)
            queries = bank if settings.leave_one_out else runner.features(encoder, runner.test, sizes=sizes)
            if settings.examples and not examples:
                examples.append(_examples(runner, bank, queries))
            fits = {layer: _fitted(runner, bank, layer, seed) for layer in runner.layers}
            (further,) = judge_further(runner, [partial(_scores, runner, encoder, bank[0], fits)])
            found.append({
                layer: _predicted(runner, bank[0], queries, layer, fit, further) for layer, fit in fits.items()
            })  # fmt: skip
        return found

    metrics = runner.run(measure, lambda runs: _summary(runner, runs), seed_matters=settings.choose)
    return KnnResult(metrics, examples[0] if examples else None)


class _Fit(NamedTuple):
    """What classifies in one layer."""

    search: Search
    choices: list[Choice]
    choosing: float | None


def _fitted(runner: Runner[KnnSettings], bank: Extracted, layer: str, seed: int) -> _Fit:
    settings, (photos, by_layer) = runner.settings, bank
    features, choices, choosing = by_layer[layer], all_choices(settings), None
    if settings.choose:
        best, choosing = choose(
            features, photos.labels, classes=len(photos.classes), choices=choices, settings=settings,
            device=runner.device, seed=seed,
        )  # fmt: skip
        runner.say(f"{layer}: chose {name_of(best)} of {len(choices)} on a split of the training photos.")
        choices = [best]
    memory = memory_bytes(settings, runner.device)
    return _Fit(make_search(settings.engine, features, device=runner.device, memory=memory), choices, choosing)


def _predicted(
    runner: Runner[KnnSettings], photos: LabeledDataset, queries: Extracted, layer: str, fit: _Fit,
    further: Mapping[tuple[str, Choice], Further],
) -> _Found:  # fmt: skip
    settings = runner.settings
    found = classify(
        fit.search, queries[1][layer], queries[0].labels, labels=photos.labels, classes=len(photos.classes),
        choices=fit.choices, memory=memory_bytes(settings, runner.device), leave_one_out=settings.leave_one_out,
    )  # fmt: skip
    return _Found(found, fit.choosing, {choice: further.get((layer, choice), {}) for choice in fit.choices})


def _scores(
    runner: Runner[KnnSettings], encoder: Encoder, bank: LabeledDataset, fits: Mapping[str, _Fit], photos: Tensor
) -> dict[tuple[str, Choice], Tensor]:
    """The votes (B, C) for photos, of every layer and choice."""
    rows = vectors(encoder, photos, dict.fromkeys(fits, runner.settings.size))
    memory = memory_bytes(runner.settings, runner.device)
    found: dict[tuple[str, Choice], Tensor] = {}
    for layer, fit in fits.items():
        for _, choice, counted in votes(
            fit.search, rows[layer], labels=bank.labels, classes=len(bank.classes), choices=fit.choices, memory=memory
        ):
            key = layer, choice
            # A copy: the next choice may be counted in the same place. Of many photos they come in parts.
            found[key] = torch.cat([found[key], counted]) if key in found else counted.clone()
    return found


def _summary(runner: Runner[KnnSettings], runs: Sequence[_Found]) -> dict[str, Any]:
    """A layer's figures over the seeds; what each of several chose itself is filed under the one in the middle."""
    if not runner.settings.choose:
        return {name_of(choice): _figures(runner, runs, [choice] * len(runs)) for choice in runs[0].predictions}
    chosen = [next(iter(run.predictions)) for run in runs]
    figures = _figures(runner, runs, chosen)
    figures["choosing"] = float(np.mean([run.choosing for run in runs if run.choosing is not None]))
    figures["chosen_from"] = len(all_choices(runner.settings))
    if len(runs) > 1:
        figures["chosen"] = [name_of(one) for one in chosen]
    return {name_of(median_low(chosen)): figures}


def _figures(runner: Runner[KnnSettings], runs: Sequence[_Found], choices: Sequence[Choice]) -> dict[str, Any]:
    """Those of a layer, of a choice in each run."""
    pairs = list(zip(runs, choices, strict=True))
    classes, seed = runner.train.classes, runner.settings.seed
    predictions = [run.predictions[choice] for run, choice in pairs]
    further = summarize_further(predictions, [run.further[choice] for run, choice in pairs], classes, seed=seed)
    return summarize(predictions, classes, seed=seed) | further


def all_choices(settings: KnnSettings) -> list[Choice]:
    """Every k with every temperature."""
    return [(k, temperature) for k in sorted(set(settings.k)) for temperature in settings.temperature]


def name_of(choice: Choice) -> str:
    """What the figures of a k and temperature are filed under: "k20_t0.07"."""
    return f"k{choice[0]}_t{choice[1]:g}"


def memory_bytes(settings: KnnSettings | SegmentSettings, device: torch.device) -> int:
    """Bytes that a search may take beyond the features."""
    if settings.memory is not None:
        return int(settings.memory * GIB)
    return torch.cuda.mem_get_info(device)[0] // 4 if device.type == "cuda" else GIB // 4


def _examples(runner: Runner[KnnSettings], bank: Extracted, queries: Extracted) -> Examples:
    """Queries at even distances, whatever they look like, in the last layer."""
    (photos, features), (asked, query_features) = bank, queries
    settings, layer = runner.settings, runner.layers[-1]
    count, shown = min(settings.examples, len(asked)), min(settings.shown, len(photos) - settings.leave_one_out)
    places = [(2 * number + 1) * len(asked) // (2 * count) for number in range(count)]
    memory = memory_bytes(settings, runner.device)
    search = make_search("torch", features[layer], device=runner.device, memory=memory)
    found = [
        search(query_features[layer][place : place + 1], shown, own=place if settings.leave_one_out else None)
        for place in places
    ]
    neighbors = [photos.take(one.indices[0].tolist()) for one in found]
    chosen = asked.take(places)
    right = [_shares_class(chosen.labels[number], near.labels) for number, near in enumerate(neighbors)]
    return Examples(layer, chosen, neighbors, np.array(right))


def _shares_class(label: NDArray[Any], others: NDArray[Any]) -> NDArray[np.bool_]:
    """Which of the others (n,) or (n, C) are of a class that the one is of."""
    return np.asarray(others == label if others.ndim == 1 else ((others == 1) & (label == 1)).any(axis=1))
