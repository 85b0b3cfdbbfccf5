"""kNN against the way it is usually written: a search for every k, and votes as one-hot rows for every neighbour."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor

from ssl_colorize.config import Settings
from ssl_colorize.device import DeviceName, choose_device
from ssl_colorize.evaluate.knn import classify
from ssl_colorize.evaluate.neighbors import Neighbors, make_search
from ssl_colorize.evaluate.voting import single_label_votes

# Queries at a time in the usual way: what DINO's script takes of 10,000.
CHUNK = 100
MIB = 1 << 20


class KnnBenchSettings(Settings):
    """Sizes of the comparison; the defaults are ImageNet-like."""

    bank: PositiveInt = 50_000
    queries: PositiveInt = 10_000
    width: PositiveInt = Field(1024, description="numbers a photo")
    ks: tuple[PositiveInt, ...] = Field((10, 20, 100, 200), min_length=1)
    classes: PositiveInt = 200
    temperature: PositiveFloat = 0.07
    memory: PositiveFloat = Field(256, description="MiB that our search may take")
    repeats: PositiveInt = Field(1, description="timed runs of each after a warm-up; the median counts")
    device: DeviceName = "auto"
    seed: int = 0


def measure_knn(
    settings: KnnBenchSettings | None = None, *, say: Callable[[str], None] = lambda words: None
) -> dict[str, float]:
    """Time and memory on features with classes in them, both ways on the same ones.

    Returns:
        "knn_speedup": of all ks together, where the usual way searches anew for each.
        "knn_speedup_one_k": of the largest k alone; both ways then share the search, most of the work.
        "knn_speedup_votes": of the largest k's votes, without the search.
        "knn_memory_ratio": peak memory beyond the features, of the largest k.
        "knn_agreement": share of queries with the same answer. And the seconds and megabytes behind them.
    """
    from ssl_colorize.bench import interleaved, peak_memory

    settings = settings or KnnBenchSettings()
    device = choose_device(settings.device)
    bank, labels, queries, truth = _features(settings)
    on_device = [one.to(device) for one in (bank, labels, queries)]
    largest = max(settings.ks)

    def ours(ks: Sequence[int], against: Tensor) -> float:
        search = make_search("torch", bank.numpy(), device=device, memory=int(settings.memory * MIB))
        answers = classify(
            search, queries.numpy(), bank_labels=labels.numpy(), truth=against.numpy(), classes=settings.classes,
            choices=[(k, settings.temperature) for k in ks], memory=int(settings.memory * MIB),
        )  # fmt: skip
        return float(np.mean([answer.figure for answer in answers.values()]))

    def usual(ks: Sequence[int]) -> list[Tensor]:
        return [_one_hot_answers(*on_device, k=k, settings=settings) for k in ks]

    say(f"timing kNN, {settings.bank:,} x {settings.queries:,} x {settings.width:,} ...")
    seconds = interleaved(
        {
            "all": lambda: ours(settings.ks, truth), "all_usual": lambda: usual(settings.ks),
            "one": lambda: ours([largest], truth), "one_usual": lambda: usual([largest]),
            **_votes(*on_device, settings=settings),
        },
        repeats=settings.repeats, device=device,
    )  # fmt: skip
    say("measuring the memory of kNN ...")
    peaks = [peak_memory(work, device) for work in (lambda: ours([largest], truth), lambda: usual([largest]))]
    agreement = np.mean([ours([k], one.cpu()) for k, one in zip(settings.ks, usual(settings.ks), strict=True)])
    return {
        "knn_speedup": seconds["all_usual"] / seconds["all"],
        "knn_speedup_one_k": seconds["one_usual"] / seconds["one"],
        "knn_speedup_votes": seconds["votes_usual"] / seconds["votes"],
        "knn_memory_ratio": peaks[0] / peaks[1],
        "knn_agreement": float(agreement),
        "knn_seconds": seconds["all"],
        "knn_seconds_usual": seconds["all_usual"],
        "knn_megabytes": peaks[0] / 1e6,
        "knn_megabytes_usual": peaks[1] / 1e6,
    }


def _features(settings: KnnBenchSettings) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Unit vectors (N, D) around a centre for each class, and their classes: bank, then queries."""
    chance = torch.Generator().manual_seed(settings.seed)
    centres = torch.randn(settings.classes, settings.width, generator=chance)
    found = []
    for count in (settings.bank, settings.queries):
        labels = torch.randint(settings.classes, (count,), generator=chance)
        features = torch.randn(count, settings.width, generator=chance).mul_(3).add_(centres[labels])
        found += [torch.nn.functional.normalize(features), labels]
    bank, bank_labels, queries, query_labels = found
    return bank, bank_labels, queries, query_labels


def _one_hot_answers(bank: Tensor, labels: Tensor, queries: Tensor, *, k: int, settings: KnnBenchSettings) -> Tensor:
    """Classes (N,) in the usual way, from its formula."""
    answers = []
    for chunk in queries.split(CHUNK):
        similarity, places = (chunk @ bank.T).topk(k)
        answers.append(_one_hot_votes(similarity, labels[places], settings).argsort(1, descending=True)[:, 0])
    return torch.cat(answers)


def _one_hot_votes(similarity: Tensor, voted: Tensor, settings: KnnBenchSettings) -> Tensor:
    """Votes (B, C) as a sum over one-hot rows (B * k, C)."""
    one_hot = torch.zeros(voted.numel(), settings.classes, device=voted.device).scatter_(1, voted.reshape(-1, 1), 1)
    weights = (similarity / settings.temperature).exp()
    return (one_hot.view(*voted.shape, settings.classes) * weights[..., None]).sum(1)


def _votes(
    bank: Tensor, labels: Tensor, queries: Tensor, *, settings: KnnBenchSettings
) -> dict[str, Callable[[], object]]:
    """Both ways to count the votes of one chunk of queries whose neighbours are known."""
    k = max(settings.ks)
    found = Neighbors(*(queries[:CHUNK] @ bank.T).topk(k))

    def ours() -> list[object]:
        return list(single_label_votes(found, labels, settings.classes, ks=[k], temperature=settings.temperature))

    return {"votes": ours, "votes_usual": lambda: _one_hot_votes(found.similarity, labels[found.place], settings)}


def knn_targets(metrics: dict[str, float]) -> list[tuple[str, str, str, str]]:
    """Rows of the report: what, measured, wanted, whether it holds."""
    speedup, memory, same = (metrics[name] for name in ("knn_speedup", "knn_memory_ratio", "knn_agreement"))
    rows = [
        ("kNN of all k against one-hot votes", f"{speedup:.2f} x", "at least 2 x", speedup >= 2),
        ("peak memory of kNN", f"{memory:.2f} x", "at most 0.5 x", memory <= 0.5),
        ("same answers", f"{same:.2%}", "100%", same == 1),
    ]
    return [(what, value, wanted, "yes" if holds else "no") for what, value, wanted, holds in rows]
