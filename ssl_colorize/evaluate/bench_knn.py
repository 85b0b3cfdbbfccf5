"""kNN against the way it is usually written: a search for every k, and votes as one-hot rows for every neighbor."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor

from ssl_colorize.config import Settings
from ssl_colorize.device import DeviceName, choose_device
from ssl_colorize.evaluate.knn import Choice, classify
from ssl_colorize.evaluate.metrics import Predictions
from ssl_colorize.evaluate.nearest import Neighbors
from ssl_colorize.evaluate.neighbors import make_search
from ssl_colorize.evaluate.voting import single_label_votes
from ssl_colorize.timing import interleaved, peak_memory

# Queries at a time in the usual way: what DINO's script takes of 10,000.
CHUNK = 100
# Queries where all would say no more.
FEW = 1_200
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
        "knn_speedup_one_k": of the largest k alone; both ways then search once.
        "knn_speedup": of all ks together, where the usual way searches anew for each.
        "knn_speedup_votes": of the largest k's votes, without the search.
        "knn_memory_ratio": peak memory beyond the features, of the largest k.
        "knn_agreement": share of queries with the same answer, of the k where it is lowest.
        "knn_one_k": the largest k. And the seconds and megabytes behind them.
    """
    settings = settings or KnnBenchSettings()
    device = choose_device(settings.device)
    bank, labels, queries = (one.to(device) for one in _features(settings))
    ks, largest = sorted(set(settings.ks)), max(settings.ks)
    said: dict[int, Tensor] = {}

    def usual(k: int, count: int | None = None) -> None:
        said[k] = _one_hot_answers(bank, labels, queries[:count], k=k, settings=settings)

    def ours(ks: Sequence[int], against: int) -> dict[Choice, Predictions]:
        """All that `classify` does, for as many queries as the usual way last answered with k `against`."""
        truth, memory = said[against].cpu().numpy(), int(settings.memory * MIB)
        search = make_search("torch", bank.cpu().numpy(), device=device, memory=memory)
        return classify(
            search, queries[: len(truth)].cpu().numpy(), bank_labels=labels.cpu().numpy(), truth=truth,
            classes=settings.classes, choices=[(k, settings.temperature) for k in ks], memory=memory,
        )  # fmt: skip

    say(f"timing kNN, {settings.bank:,} x {settings.queries:,} x {settings.width:,} ...")
    # A few queries say as much about memory, and about the smaller ks' answers, as all; and both ways are warm then.
    usual_peak = peak_memory(lambda: usual(largest, FEW), device)
    peak = peak_memory(lambda: ours([largest], largest), device)
    same = []
    for k in ks:
        usual(k, FEW)
        same.append(ours([k], k)[k, settings.temperature].value)
    ways: dict[str, Callable[[], object]] = {str(k): partial(usual, k) for k in ks}
    ways |= {"one": partial(ours, [largest], largest), "all": partial(ours, ks, largest)}
    seconds = interleaved(ways, repeats=settings.repeats, device=device, warm_up=False)
    same.append(ours([largest], largest)[largest, settings.temperature].value)
    votes = interleaved(_votes(bank, labels, queries, settings=settings), repeats=5, device=device)
    usual_seconds = sum(seconds[str(k)] for k in ks)
    return {
        "knn_speedup_one_k": seconds[str(largest)] / seconds["one"],
        "knn_speedup": usual_seconds / seconds["all"],
        "knn_speedup_votes": votes["votes_usual"] / votes["votes"],
        "knn_memory_ratio": peak / usual_peak,
        "knn_agreement": min(same),
        "knn_one_k": float(largest),
        "knn_seconds_one_k": seconds["one"],
        "knn_seconds_one_k_usual": seconds[str(largest)],
        "knn_seconds": seconds["all"],
        "knn_seconds_usual": usual_seconds,
        "knn_megabytes": peak / 1e6,
        "knn_megabytes_usual": usual_peak / 1e6,
    }


def _features(settings: KnnBenchSettings) -> tuple[Tensor, Tensor, Tensor]:
    """Unit vectors (N, D) around a center for each class: the bank, its classes, and the queries."""
    chance = torch.Generator().manual_seed(settings.seed)
    centers = torch.randn(settings.classes, settings.width, generator=chance)
    found = []
    for count in (settings.bank, settings.queries):
        labels = torch.randint(settings.classes, (count,), generator=chance)
        features = torch.randn(count, settings.width, generator=chance).mul_(3).add_(centers[labels])
        found += [torch.nn.functional.normalize(features), labels]
    bank, labels, queries, _ = found
    return bank, labels, queries


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
    """Both ways to count the votes of one chunk of queries whose neighbors are known."""
    k = max(settings.ks)
    found = Neighbors(*(queries[:CHUNK] @ bank.T).topk(k))

    def ours() -> list[object]:
        return list(single_label_votes(found, labels, settings.classes, ks=[k], temperature=settings.temperature))

    return {"votes": ours, "votes_usual": lambda: _one_hot_votes(found.similarity, labels[found.place], settings)}


def knn_targets(metrics: dict[str, float]) -> list[tuple[str, str, str, str]]:
    """Rows of the report: what, measured, wanted, whether it holds."""
    one, every, memory, same = (
        metrics[name] for name in ("knn_speedup_one_k", "knn_speedup", "knn_memory_ratio", "knn_agreement")
    )
    rows = [
        (f"kNN of k = {metrics['knn_one_k']:.0f} against one-hot votes", f"{one:.2f} x", "at least 2 x", one >= 2),
        ("kNN of all k at once", f"{every:.2f} x", "at least 2 x", every >= 2),
        ("peak memory of kNN", f"{memory:.2f} x", "at most 0.5 x", memory <= 0.5),
        ("same answers", f"{same:.2%}", "100%", same == 1),
    ]
    return [(what, value, wanted, "yes" if holds else "no") for what, value, wanted, holds in rows]
