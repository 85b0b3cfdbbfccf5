"""Speed and memory of training and measuring against the usual way to write them, as ratios taken in one run."""

from collections.abc import Callable
from typing import Annotated, Literal

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from ssl_colorize.color import ab_bins, is_colored, rebalance_weights, rgb_to_lab
from ssl_colorize.config import Settings
from ssl_colorize.data import open_photos, training_batches
from ssl_colorize.device import Autocast, choose_autocast, choose_device
from ssl_colorize.evaluate.bench_knn import KnnBenchSettings, knn_targets, measure_knn
from ssl_colorize.evaluate.bench_probe import extraction_targets, measure_extraction, measure_probe, probe_targets
from ssl_colorize.models import create_model
from ssl_colorize.models.objectives import make_targets, soft_cross_entropy
from ssl_colorize.timing import help_seconds, interleaved, peak_memory

NEIGHBORS = 5
SIGMA = 5.0
STRIDE = 4

Say = Callable[[str], None]
Part = Literal["training", "probe", "extraction", "knn"]


class BenchSettings(Settings):
    """Settings of `ssl-colorize bench`."""

    what: Annotated[tuple[Part, ...], Field(min_length=1)] = ("training", "probe", "extraction", "knn")
    width: PositiveFloat = Field(1.0, description="of eccv16")
    crop: Annotated[int, Field(ge=8, multiple_of=8)] = Field(176, description="side of the photos trained on, in px")
    batch_size: PositiveInt = Field(8, description="photos a step in the timings of training")
    memory_batch: PositiveInt = Field(40, description="photos a step in the memory comparison")
    probe_crop: Annotated[int, Field(ge=8)] = Field(128, description="side of the photos probed on, in px")
    probe_batch: PositiveInt = Field(64, description="photos a step of the probe")
    extraction_crop: Annotated[int, Field(ge=8)] = Field(64, description="side of the photos extracted from, in px")
    extraction_photos: PositiveInt = Field(1024, description="JPEG files extracted from")
    knn: KnnBenchSettings = KnnBenchSettings()
    repeats: PositiveInt = Field(5, description="timed runs of each of training; the median counts")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    seed: int = 0


def measure(settings: BenchSettings, *, say: Say = lambda words: None) -> dict[str, float]:
    """Measure the parts asked for; each says what its figures are."""
    found: dict[str, float] = {}
    encoder, device = f"random:eccv16@{settings.width:g}", str(choose_device(settings.device))
    if "training" in settings.what:
        found |= measure_training(settings, say=say)
    if "probe" in settings.what:
        say("timing the linear probe ...")
        found |= measure_probe(
            encoder=encoder, crop=settings.probe_crop, batch_size=settings.probe_batch, device=device
        )  # fmt: skip
    if "extraction" in settings.what:
        say("timing feature extraction ...")
        found |= measure_extraction(
            encoder=encoder, crop=settings.extraction_crop, photos=settings.extraction_photos, device=device
        )  # fmt: skip
    if "knn" in settings.what:
        found |= measure_knn(settings.knn.model_copy(update={"device": settings.device}), say=say)
    return found


def targets_of(metrics: dict[str, float]) -> list[tuple[str, str, str, str]]:
    """Rows of the report on what was measured: what, measured, wanted, whether it holds."""
    parts = (
        ("color_share", training_targets), ("probe_ratio", probe_targets),
        ("extraction_ratio", extraction_targets), ("knn_speedup", knn_targets),
    )  # fmt: skip
    return [row for figure, rows in parts if figure in metrics for row in rows(metrics)]


def measure_training(settings: BenchSettings, *, say: Say = lambda words: None) -> dict[str, float]:
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
    photos = _photos(settings, settings.batch_size).to(device)
    model = create_model("eccv16", width=settings.width).to(device).to(memory_format=torch.channels_last).train()
    plain = create_model("eccv16", width=settings.width).to(device).train()
    ours = _stepper(model, lambda: sparse_loss(model, photos, class_weights, autocast))
    dense = _stepper(plain, lambda: dense_loss(plain, photos, class_weights))
    logits = torch.randn(len(photos), len(ab_bins()), settings.crop // STRIDE, settings.crop // STRIDE, device=device)
    logits = logits.to(torch.bfloat16) if autocast is not None and _is_bf16(autocast, device) else logits
    say("timing the training steps ...")
    seconds = interleaved(
        {"ours": ours, "dense": dense, "color": lambda: _sparse_color(photos, logits, class_weights)},
        repeats=settings.repeats,
        device=device,
    )
    say("measuring memory ...")
    many = _photos(settings, settings.memory_batch).to(device)
    many_logits = torch.randn(len(many), *logits.shape[1:], device=device)
    peaks = {
        name: peak_memory(lambda way=way: way(many, many_logits, class_weights), device)  # type: ignore[misc]
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


def _photos(settings: BenchSettings, count: int) -> Tensor:
    batches = training_batches(
        open_photos(["samples"]), resize=(settings.crop, 2 * settings.crop), crop=settings.crop, batch_size=count,
        seed=settings.seed, start=0, steps=1, workers=0,
    )  # fmt: skip
    return next(iter(batches)).photos


def _is_bf16(autocast: Autocast, device: torch.device) -> bool:
    with autocast():
        return torch.is_autocast_enabled(device.type)


def training_targets(metrics: dict[str, float]) -> list[tuple[str, str, str, str]]:
    """Rows of the report: what, measured, wanted, whether it holds."""
    share, speedup, memory, start = (metrics[key] for key in ("color_share", "speedup", "memory_ratio", "help_seconds"))
    rows = [
        ("Lab, encoding and loss in a step", f"{share:.1%}", "at most 5%", share <= 0.05),
        ("photos/s against the dense fp32 step", f"{speedup:.2f} x", "at least 1.6 x", speedup >= 1.6),
        ("peak memory of loss and targets", f"{memory:.2f} x", "at most 0.33 x", memory <= 1 / 3),
        ("ssl-colorize --help", f"{start:.2f} s", "under 0.5 s", start < 0.5),
    ]
    return [(what, value, wanted, "yes" if holds else "no") for what, value, wanted, holds in rows]
