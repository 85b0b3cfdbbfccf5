"""Speed and memory of training and measuring against the usual ways to write them, as ratios taken in one run.

    python benchmarks/speed.py                    # a few minutes on 2 cores
    python benchmarks/speed.py --device cuda      # the same targets, on a GPU
    python benchmarks/speed.py --what knn --json

Both ways of a comparison take turns in one process, so that a noisy machine hits both alike; absolute figures depend on
the machine, ratios hardly.
"""

from __future__ import annotations

import gc
import importlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

# The profiler that counts memory writes its own messages to standard error unless told before torch is imported.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")

import click
import numpy as np
import torch
from PIL import Image
from pydantic import Field, PositiveFloat, PositiveInt
from records import run_command
from torch import Tensor, nn
from torch.nn import functional

from ssl_colorize.cli.flags import settings_options
from ssl_colorize.cli.run import Invocation, finish, note
from ssl_colorize.color import ab_bins, is_colored, rebalance_weights, rgb_to_lab
from ssl_colorize.config import BatchSize, DeviceName, OneOrMany, Seed, Settings
from ssl_colorize.data import open_photos, training_batches
from ssl_colorize.device import Autocast, choose_autocast, choose_device
from ssl_colorize.encoder import Encoder, load_encoder
from ssl_colorize.evaluate.features import extract
from ssl_colorize.evaluate.knn import single_label_votes, votes
from ssl_colorize.evaluate.neighbors import Neighbors, make_search
from ssl_colorize.evaluate.settings import ProbeSettings
from ssl_colorize.evaluate.sgd_probe import Probe
from ssl_colorize.models import create_model
from ssl_colorize.models.objectives import make_targets, soft_cross_entropy
from ssl_colorize.report.tables import figures_table, rows_table

NEIGHBORS = 5
SIGMA = 5.0
STRIDE = 4
# Queries at a time: in the usual way, what DINO's script takes of 10,000; of lightly, a batch of its benchmarks.
CHUNK, LIGHTLY_CHUNK = 100, 256
# Queries where all would say no more.
FEW = 1_200
MIB = 1 << 20

Say = Callable[[str], None]
Part = Literal["training", "probe", "extraction", "knn"]


class KnnSizes(Settings):
    """Sizes of the kNN comparison; the defaults are ImageNet-like."""

    bank: PositiveInt = 50_000
    queries: PositiveInt = 10_000
    width: PositiveInt = Field(1024, description="numbers a photo")
    ks: OneOrMany[PositiveInt] = Field((10, 20, 100, 200), min_length=1)
    classes: PositiveInt = 200
    temperature: PositiveFloat = 0.07
    memory: PositiveFloat = Field(128, description="MiB that our search may take")
    repeats: PositiveInt = Field(1, description="timed runs of each after a warm-up; the median counts")


class SpeedSettings(Settings):
    """What is measured, at which sizes."""

    what: OneOrMany[Part] = Field(
        ("training", "probe", "extraction", "knn"), min_length=1, description="parts to measure"
    )
    width: PositiveFloat = Field(1.0, description="factor on the width of eccv16")
    crop: Annotated[int, Field(ge=8, multiple_of=8)] = Field(176, description="side of the photos trained on, in px")
    batch_size: BatchSize = Field(8, description="photos a step in the timings of training")
    memory_batch: PositiveInt = Field(40, description="photos a step in the memory comparison")
    probe_crop: Annotated[int, Field(ge=8)] = Field(128, description="side of the photos probed on, in px")
    probe_batch: PositiveInt = Field(64, description="photos a step of the probe")
    extraction_crop: Annotated[int, Field(ge=8)] = Field(64, description="side of the photos extracted from, in px")
    extraction_photos: PositiveInt = Field(1024, description="JPEG files extracted from")
    knn: KnnSizes = KnnSizes()
    repeats: PositiveInt = Field(5, description="timed runs of each of training; the median counts")
    device: DeviceName = "auto"
    seed: Seed = 0


class Target(NamedTuple):
    """What a figure is to be.

    Attributes:
        figure: its name in the metrics.
        what: what it is of, with other figures in braces.
        shown: its format.
        most: the most it may be; None where `least` is given.
        least: the least it may be.
    """

    figure: str
    what: str
    shown: str
    most: float | None = None
    least: float | None = None

    def row(self, metrics: dict[str, float]) -> tuple[str, str, str, str]:
        """What, measured, wanted, whether it holds."""
        value = metrics[self.figure]
        limit = self.most if self.most is not None else self.least
        wanted = f"{'at least' if self.most is None else 'at most'} {self.shown.format(limit)}"
        holds = value <= self.most if self.most is not None else value >= (self.least or 0)
        return self.what.format(**metrics), self.shown.format(value), wanted, "yes" if holds else "no"


TARGETS = (
    Target("color_share", "Lab, encoding and loss in a step", "{:.1%}", most=0.05),
    Target("speedup", "photos/s against the dense fp32 step", "{:.2f} x", least=1.6),
    Target("memory_ratio", "peak memory of loss and targets", "{:.2f} x", most=1 / 3),
    Target("help_seconds", "ssl-colorize --help", "{:.2f} s", most=0.5),
    Target(
        "probe_ratio", "linear probe at {probe_crop:.0f} px, {probe_heads:.0f} heads against 1", "{:.2f} x", most=1.3
    ),
    Target("probe_attentive", "attentive heads beside the linear ones, against these alone", "{:.2f} x", most=1.25),
    Target("probe_all_layers", "heads on all layers at once likewise", "{:.2f} x", most=1.25),
    Target(
        "extraction_ratio", "extraction from JPEG at {extraction_crop:.0f} px against bare forward", "{:.2f} x",
        least=0.9,
    ),
    Target("knn_speedup_one_k", "kNN of k = {knn_one_k:.0f} against one-hot votes", "{:.2f} x", least=1),
    Target("knn_speedup", "kNN of all k at once", "{:.2f} x", least=2),
    Target("knn_speedup_lightly", "kNN of k = {knn_one_k:.0f} against lightly's", "{:.2f} x", least=1.4),
    Target("knn_memory_ratio_lightly", "peak memory of kNN against lightly's", "{:.2f} x", most=0.5),
    Target("knn_agreement", "same answers", "{:.2%}", least=1),
)  # fmt: skip


@click.command()
@settings_options(SpeedSettings, "what", "width", "crop", "batch_size", "device", "seed")
def main(invocation: Invocation[SpeedSettings]) -> None:
    """Compare with the usual ways to write it, in turns in one process.

    \b
    training    a step against fp32, a search over all bins and a dense target
    probe       all layers and 8 learning rates against one of each
    extraction  features of JPEG files against the bare network
    knn         search and votes against one-hot votes, and against lightly's knn_predict where it is installed
    """
    settings = invocation.settings()
    with invocation.running("speed", settings) as run:
        metrics = measure(settings, say=note)
    content = run.write(metrics)
    rows = [target.row(metrics) for target in TARGETS if target.figure in metrics]
    finish(
        content,
        rows_table(("what", "measured", "wanted", "holds"), rows),
        figures_table(metrics, title=f"eccv16 x {settings.width:g}, in {run.folder}"),
        next_step="train: ssl-colorize pretrain --config eccv16_half_64 --data PHOTOS",
        as_json=invocation.as_json,
    )


def measure(settings: SpeedSettings, *, say: Say = lambda words: None) -> dict[str, float]:
    """Measure the parts asked for; each says what its figures are."""
    parts: dict[Part, Callable[..., dict[str, float]]] = {
        "training": measure_training, "probe": measure_probe, "extraction": measure_extraction, "knn": measure_knn,
    }  # fmt: skip
    found: dict[str, float] = {}
    for name, part in parts.items():
        if name in settings.what:
            found |= part(settings, say=say)
    return found


# ---- a training step -------------------------------------------------------------------------------------------------


def measure_training(settings: SpeedSettings, *, say: Say = lambda words: None) -> dict[str, float]:
    """Measure on photos of the samples.

    Returns:
        "color_share": Lab conversion, encoding and loss (both ways) as a share of a training step.
        "speedup": photos/s of the training step against one with `dense_loss`.
        "memory_ratio": peak memory of targets and loss against the dense way's.
        "help_seconds": of `ssl-colorize --help`, median.
        And the absolute figures behind them, which depend on the machine.
    """
    device = choose_device(settings.device)
    autocast = choose_autocast("auto", device)
    torch.manual_seed(settings.seed)
    class_weights = rebalance_weights(torch.ones(len(ab_bins()))).to(device)
    photos = _crops(settings.batch_size, settings.crop, seed=settings.seed).to(device)
    model = create_model("eccv16", width=settings.width).to(device).to(memory_format=torch.channels_last).train()
    plain = create_model("eccv16", width=settings.width).to(device).train()
    ours = _stepper(model, lambda: sparse_loss(model, photos, class_weights, autocast))
    dense = _stepper(plain, lambda: dense_loss(plain, photos, class_weights))
    logits = torch.randn(len(photos), len(ab_bins()), settings.crop // STRIDE, settings.crop // STRIDE, device=device)
    logits = logits.to(torch.bfloat16) if _is_bf16(autocast, device) else logits
    say("timing the training steps ...")
    seconds = interleaved(
        {"ours": ours, "dense": dense, "color": lambda: _sparse_color(photos, logits, class_weights)},
        repeats=settings.repeats,
        device=device,
    )
    say("measuring memory ...")
    many = _crops(settings.memory_batch, settings.crop, seed=settings.seed).to(device)
    many_logits = torch.randn(len(many), *logits.shape[1:], device=device)
    peaks = {
        name: peak_memory(partial(way, many, many_logits, class_weights), device)
        for name, way in (("ours", _sparse_color), ("dense", _dense_color))
    }
    return {
        "color_share": seconds["color"] / seconds["ours"],
        "speedup": seconds["dense"] / seconds["ours"],
        "memory_ratio": peaks["ours"] / peaks["dense"],
        "help_seconds": help_seconds(settings.repeats),
        "photos_per_second": settings.batch_size / seconds["ours"],
        "photos_per_second_dense": settings.batch_size / seconds["dense"],
        "color_milliseconds_per_photo": 1e3 * seconds["color"] / settings.batch_size,
        "peak_megabytes": peaks["ours"] / 1e6,
        "peak_megabytes_dense": peaks["dense"] / 1e6,
    }


def sparse_loss(model: nn.Module, photos: Tensor, class_weights: Tensor, autocast: Autocast) -> Tensor:
    """The loss as the training loop computes it."""
    targets = make_targets(photos, class_weights, stride=STRIDE, neighbors=NEIGHBORS, sigma=SIGMA)
    with autocast():
        logits = model(targets.lightness)
    return soft_cross_entropy(logits, targets.indices, targets.weights, targets.pixel_weights)[0]


def dense_loss(model: nn.Module, photos: Tensor, class_weights: Tensor) -> Tensor:
    """The same loss as it is usually written: fp32, a nearest-neighbor search a step, a 313-channel target."""
    target, pixel_weights, lab = dense_targets(photos, class_weights)
    return dense_cross_entropy(model(lab[:, :1]), target, pixel_weights)


def dense_targets(photos: Tensor, class_weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Target (B, 313, h, w), pixel weights (B, h, w) and the photos in Lab, by a search over all bins."""
    lab = rgb_to_lab(photos)
    ab = lab[:, 1:, ::STRIDE, ::STRIDE]
    batch, _, height, width = ab.shape
    bins = ab_bins().to(ab.device)
    distance, nearest = torch.cdist(ab.permute(0, 2, 3, 1).reshape(-1, 2), bins).topk(NEIGHBORS, largest=False)
    weights = torch.exp(-(distance**2) / (2 * SIGMA**2))
    weights = weights / weights.sum(1, keepdim=True)
    flat = torch.zeros(len(nearest), len(bins), device=ab.device).scatter_(1, nearest, weights)
    target = flat.view(batch, height, width, len(bins)).permute(0, 3, 1, 2)
    pixel_weights = class_weights[target.argmax(1)] * is_colored(ab).float().view(-1, 1, 1)
    return target, pixel_weights, lab


def dense_cross_entropy(logits: Tensor, target: Tensor, pixel_weights: Tensor) -> Tensor:
    """Weighted cross-entropy against a dense target, left to autograd."""
    cross_entropy = -(target * functional.log_softmax(logits, dim=1)).sum(1)
    return (cross_entropy * pixel_weights).mean()


def _sparse_color(photos: Tensor, logits: Tensor, class_weights: Tensor) -> Tensor:
    """All of a step that is not the network: conversion, encoding, loss, and the loss's gradient."""
    logits = logits.detach().requires_grad_()
    targets = make_targets(photos, class_weights, stride=STRIDE, neighbors=NEIGHBORS, sigma=SIGMA)
    soft_cross_entropy(logits, targets.indices, targets.weights, targets.pixel_weights)[0].backward()
    assert logits.grad is not None
    return logits.grad


def _dense_color(photos: Tensor, logits: Tensor, class_weights: Tensor) -> Tensor:
    logits = logits.detach().requires_grad_()
    target, pixel_weights, _ = dense_targets(photos, class_weights)
    dense_cross_entropy(logits, target, pixel_weights).backward()
    assert logits.grad is not None
    return logits.grad


def _stepper(model: nn.Module, loss: Callable[[], Tensor]) -> Callable[[], object]:
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-5)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss().backward()
        optimizer.step()

    return step


def _is_bf16(autocast: Autocast, device: torch.device) -> bool:
    with autocast():
        return torch.is_autocast_enabled(device.type)


def _crops(count: int, side: int, *, seed: int = 0) -> Tensor:
    """Photos (count, 3, side, side) uint8 of the samples."""
    batches = training_batches(
        open_photos(["samples"]), resize=(side, 4 * side), crop=side, batch_size=count, seed=seed, start=0, steps=1,
        workers=0,
    )  # fmt: skip
    return next(iter(batches)).photos


# ---- a frozen encoder ------------------------------------------------------------------------------------------------


def measure_probe(
    settings: SpeedSettings, *, classes: int = 200, repeats: int = 3, say: Say = lambda words: None
) -> dict[str, float]:
    """A training step of all layers with 8 learning rates, against one of the last layer with one rate.

    The heads cost the same at any size of photo, the network does not: at 64 px their share is four times that at 128.

    Returns:
        "probe_ratio" of the two, "probe_attentive" and "probe_all_layers", with those heads beside the linear ones
        against these alone, the seconds of each, and "probe_heads" and "probe_crop": how many heads, at what size.
    """
    say("timing the linear probe ...")
    device = choose_device(settings.device)
    encoder = load_encoder(f"random:eccv16@{settings.width:g}", device=device)
    many = ProbeSettings(encoder=str(encoder.source), data=("samples",))
    single = many.model_copy(update={"learning_rates": (0.01,)})
    photos = _crops(settings.probe_batch, settings.probe_crop).to(device)
    labels = torch.arange(settings.probe_batch) % classes
    every = Probe(encoder, encoder.layers, many, classes=classes, crop=settings.probe_crop)
    one = Probe(encoder, encoder.layers[-1:], single, classes=classes, crop=settings.probe_crop)
    beside = {
        name: Probe(encoder, encoder.layers, many.model_copy(update={"heads": ("linear", name)}), classes=classes,
                    crop=settings.probe_crop)
        for name in ("attentive", "all-layers")
    }  # fmt: skip
    seconds = interleaved(
        {
            name: partial(probe.train_on, photos, labels, factor=1.0)
            for name, probe in {"all": every, "one": one, **beside}.items()
        },
        repeats=repeats,
        device=device,
    )
    return {
        "probe_ratio": seconds["all"] / seconds["one"],
        "probe_attentive": seconds["attentive"] / seconds["all"],
        "probe_all_layers": seconds["all-layers"] / seconds["all"],
        "probe_seconds_all": seconds["all"],
        "probe_seconds_one": seconds["one"],
        "probe_heads": float(len(encoder.layers) * len(many.learning_rates)),
        "probe_crop": float(settings.probe_crop),
    }


def measure_extraction(
    settings: SpeedSettings,
    *,
    batch_size: int = 32,
    workers: int = 1,
    repeats: int = 3,
    say: Say = lambda words: None,
) -> dict[str, float]:
    """Features of JPEG files, of all layers, in photos/s against the bare network on tensors that are already there.

    Returns:
        "extraction_ratio", the photos per second of each, and "extraction_crop", the size.
    """
    say("timing feature extraction ...")
    device, side = choose_device(settings.device), settings.extraction_crop
    encoder = load_encoder(f"random:eccv16@{settings.width:g}", device=device)
    crops = _crops(settings.extraction_photos, side)
    with tempfile.TemporaryDirectory() as folder:
        for number, pixels in enumerate(crops):
            Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(Path(folder) / f"{number:04}.jpg", quality=90)
        files = open_photos([folder])
        ways: dict[str, Callable[[], object]] = {
            "extract": partial(
                extract, encoder, files, layers=encoder.layers, resize=side, crop=side, batch_size=batch_size,
                workers=workers,
            ),
            "bare": partial(_bare, encoder, encoder.trunk.prepare(crops.to(device)), batch_size),
        }  # fmt: skip
        seconds = interleaved(ways, repeats=repeats, device=device)
    return {
        "extraction_ratio": seconds["bare"] / seconds["extract"],
        "photos_per_second_extracted": len(crops) / seconds["extract"],
        "photos_per_second_bare": len(crops) / seconds["bare"],
        "extraction_crop": float(side),
    }


@torch.no_grad()
def _bare(encoder: Encoder, prepared: Tensor, batch_size: int) -> None:
    """The network alone, up to its last layer, on inputs that are already there."""
    for batch in prepared.split(batch_size):
        encoder.trunk.maps(batch, encoder.layers)


# ---- nearest neighbors -----------------------------------------------------------------------------------------------


def measure_knn(settings: SpeedSettings, *, say: Say = lambda words: None) -> dict[str, float]:
    """Time and memory on features with classes in them, all ways on the same ones.

    Returns:
        "knn_speedup_one_k": of the largest k alone; both ways then search once.
        "knn_speedup": of all ks together, where the usual way searches anew for each.
        "knn_speedup_votes": of the largest k's votes, without the search.
        "knn_memory_ratio": peak memory beyond the features, of the largest k; the usual way takes 100 queries a time.
        "knn_agreement": share of queries with the same answer, of the k where it is lowest.
        "knn_one_k": the largest k. And the seconds and megabytes behind them.
        "knn_speedup_lightly" and "knn_memory_ratio_lightly": of the largest k, where lightly is installed.
    """
    sizes, device = settings.knn, choose_device(settings.device)
    bank, labels, queries = (one.to(device) for one in _features(sizes, seed=settings.seed))
    ks, largest = sorted(set(sizes.ks)), max(sizes.ks)

    def ours(ks: list[int], count: int | None = None) -> dict[int, Tensor]:
        return _answers(bank.cpu(), labels.cpu(), queries[:count].cpu(), ks=ks, sizes=sizes, device=device)

    def usual(k: int, count: int | None = None) -> Tensor:
        return one_hot_answers(bank, labels, queries[:count], k=k, sizes=sizes)

    say(f"timing kNN, {sizes.bank:,} x {sizes.queries:,} x {sizes.width:,} ...")
    # A few queries say as much about memory, and about the smaller ks' answers, as all; and both ways are warm then.
    peak = peak_memory(lambda: ours([largest], FEW), device)
    usual_peak = peak_memory(lambda: usual(largest, FEW), device)
    same = [_share_equal(ours([k], FEW)[k], usual(k, FEW)) for k in ks]
    ways: dict[str, Callable[[], object]] = {str(k): partial(usual, k) for k in ks}
    ways |= {"one": partial(ours, [largest]), "all": partial(ours, ks)}
    lightly = _lightly_answers(bank, labels, queries, k=largest, sizes=sizes)
    if lightly is not None:
        lightly_peak = peak_memory(partial(lightly, FEW), device)
        same.append(_share_equal(lightly(FEW), usual(largest, FEW)))
        ways["lightly"] = lightly
    seconds = interleaved(ways, repeats=sizes.repeats, device=device, warm_up=False)
    counting = interleaved(_vote_counters(bank, labels, queries, sizes=sizes), repeats=5, device=device)
    usual_seconds = sum(seconds[str(k)] for k in ks)
    found = {
        "knn_speedup_one_k": seconds[str(largest)] / seconds["one"],
        "knn_speedup": usual_seconds / seconds["all"],
        "knn_speedup_votes": counting["usual"] / counting["ours"],
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
    if lightly is not None:
        found |= {
            "knn_speedup_lightly": seconds["lightly"] / seconds["one"],
            "knn_memory_ratio_lightly": peak / lightly_peak,
        }
    return found


def _features(sizes: KnnSizes, *, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Unit vectors (N, D) around a center for each class: the bank, its classes, and the queries."""
    chance = torch.Generator().manual_seed(seed)
    centers = torch.randn(sizes.classes, sizes.width, generator=chance)
    found = []
    for count in (sizes.bank, sizes.queries):
        labels = torch.randint(sizes.classes, (count,), generator=chance)
        features = torch.randn(count, sizes.width, generator=chance).mul_(3).add_(centers[labels])
        found += [functional.normalize(features), labels]
    bank, labels, queries, _ = found
    return bank, labels, queries


def _answers(
    bank: Tensor, labels: Tensor, queries: Tensor, *, ks: list[int], sizes: KnnSizes, device: torch.device
) -> dict[int, Tensor]:
    """Classes (N,) for every k, from one search: what `ssl-colorize knn` does."""
    memory = int(sizes.memory * MIB)
    search = make_search("torch", bank.numpy(), device=device, memory=memory)
    found: dict[int, list[Tensor]] = {k: [] for k in ks}
    choices = [(k, sizes.temperature) for k in ks]
    for _, (k, _), counted in votes(
        search, queries.numpy(), labels=labels.numpy(), classes=sizes.classes, choices=choices, memory=memory
    ):
        found[k].append(counted.argmax(1))
    return {k: torch.cat(parts) for k, parts in found.items()}


def one_hot_answers(bank: Tensor, labels: Tensor, queries: Tensor, *, k: int, sizes: KnnSizes) -> Tensor:
    """Classes (N,) in the usual way, from its formula."""
    answers = []
    for chunk in queries.split(CHUNK):
        similarity, places = (chunk @ bank.T).topk(k)
        answers.append(_one_hot_votes(similarity, labels[places], sizes).argsort(1, descending=True)[:, 0])
    return torch.cat(answers)


def _one_hot_votes(similarity: Tensor, voted: Tensor, sizes: KnnSizes) -> Tensor:
    """Votes (B, C) as a sum over one-hot rows (B * k, C)."""
    one_hot = torch.zeros(voted.numel(), sizes.classes, device=voted.device).scatter_(1, voted.reshape(-1, 1), 1)
    weights = (similarity / sizes.temperature).exp()
    return (one_hot.view(*voted.shape, sizes.classes) * weights[..., None]).sum(1)


def _lightly_answers(
    bank: Tensor, labels: Tensor, queries: Tensor, *, k: int, sizes: KnnSizes
) -> Callable[..., Tensor] | None:
    """Classes (N,) of the first queries by lightly; None where it is not installed."""
    try:
        knn_predict = importlib.import_module("lightly.utils.benchmarking").knn_predict
    except ImportError:
        return None
    by_column = bank.T.contiguous()

    def answers(count: int | None = None) -> Tensor:
        parts = queries[:count].split(LIGHTLY_CHUNK)
        ranked = [
            knn_predict(part, by_column, labels, num_classes=sizes.classes, knn_k=k, knn_t=sizes.temperature)
            for part in parts
        ]
        return torch.cat([each[:, 0] for each in ranked])

    return answers


def _vote_counters(
    bank: Tensor, labels: Tensor, queries: Tensor, *, sizes: KnnSizes
) -> dict[str, Callable[[], object]]:
    """Both ways to count the votes of one chunk of queries whose neighbors are known."""
    k = max(sizes.ks)
    near = Neighbors(*(queries[:CHUNK] @ bank.T).topk(k))
    return {
        "ours": lambda: list(single_label_votes(near, labels, sizes.classes, ks=[k], temperature=sizes.temperature)),
        "usual": lambda: _one_hot_votes(near.similarity, labels[near.indices], sizes),
    }


def _share_equal(one: Tensor, other: Tensor) -> float:
    return float((one.cpu() == other.cpu()).double().mean())


# ---- seconds and bytes -----------------------------------------------------------------------------------------------


def interleaved(
    ways: dict[str, Callable[[], object]], *, repeats: int, device: torch.device, warm_up: bool = True
) -> dict[str, float]:
    """Median seconds of each way, run in turns after one warm-up, so that a noisy machine hits all alike."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repeats + warm_up):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            if device.type == "cuda":
                torch.cuda.synchronize()
            if turn >= warm_up:
                taken[name].append(time.perf_counter() - began)
    return {name: statistics.median(times) for name, times in taken.items()}


def peak_memory(work: Callable[[], object], device: torch.device) -> float:
    """Bytes of tensors alive at once while `work` runs, beyond those before it."""
    work()
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        work()
        torch.cuda.synchronize()
        return float(torch.cuda.max_memory_allocated() - before)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        work()
    # The profiler notes every allocation and release of the CPU allocator; PyTorch has no counter of its peak.
    assert profile.profiler is not None
    changes = [
        (event.start_ns(), event.nbytes())
        for event in profile.profiler.kineto_results.events()
        if event.name() == "[memory]"
    ]
    return float(np.cumsum([size for _, size in sorted(changes, key=lambda change: change[0])]).max())


def help_seconds(repeats: int) -> float:
    """Median seconds of `ssl-colorize --help` as a whole process."""
    taken = []
    for _ in range(repeats):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", "ssl_colorize", "--help"], check=True, stdout=subprocess.DEVNULL)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


if __name__ == "__main__":
    run_command(main)
