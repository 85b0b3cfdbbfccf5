"""What the linear probe and feature extraction cost, as ratios to the frozen network's own work, taken in one run."""

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from ssl_colorize.data import open_photos, training_batches
from ssl_colorize.encoder import Encoder, load_encoder
from ssl_colorize.evaluate.features import extract
from ssl_colorize.evaluate.one_pass import Probe
from ssl_colorize.evaluate.settings import ProbeSettings
from ssl_colorize.timing import interleaved


def measure_probe(
    *,
    encoder: str = "random:eccv16",
    crop: int = 128,
    batch_size: int = 64,
    classes: int = 200,
    device: str = "cpu",
    repeats: int = 3,
) -> dict[str, float]:
    """A training step of all layers with 8 learning rates, against one of the last layer with one rate.

    The heads cost the same at any size of photo, the network does not: at 64 px their share is four times this one.

    Returns:
        "probe_ratio" of the two, the seconds of each, and "probe_heads" and "probe_crop": how many heads, at what size.
    """
    where = torch.device(device)
    trunk = load_encoder(encoder, device=where)
    settings = ProbeSettings(encoder=encoder, data=("samples",))
    single = settings.model_copy(update={"learning_rates": (0.01,)})
    photos = _crops(batch_size, crop).to(where)
    targets = torch.arange(batch_size) % classes
    every = Probe(trunk, trunk.layers, settings, classes=classes, crop=crop)
    one = Probe(trunk, trunk.layers[-1:], single, classes=classes, crop=crop)
    ways: dict[str, Callable[[], object]] = {
        name: partial(probe.train_on, photos, targets, factor=1.0) for name, probe in (("all", every), ("one", one))
    }
    seconds = interleaved(ways, repeats=repeats, device=where)
    return {
        "probe_ratio": seconds["all"] / seconds["one"],
        "probe_seconds_all": seconds["all"],
        "probe_seconds_one": seconds["one"],
        "probe_heads": float(len(trunk.layers) * len(settings.learning_rates)),
        "probe_crop": float(crop),
    }


def measure_extraction(
    *,
    encoder: str = "random:eccv16",
    crop: int = 64,
    batch_size: int = 32,
    photos: int = 1024,
    workers: int = 1,
    device: str = "cpu",
    repeats: int = 3,
) -> dict[str, float]:
    """Features of JPEG files, of all layers, in photos/s against the bare network on tensors that are already there.

    Returns:
        "extraction_ratio", the photos per second of each, and "extraction_crop", the size.
    """
    where = torch.device(device)
    trunk = load_encoder(encoder, device=where)
    crops = _crops(photos, crop)
    with tempfile.TemporaryDirectory() as folder:
        for number, pixels in enumerate(crops):
            Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(Path(folder) / f"{number:04}.jpg", quality=90)
        files = open_photos([folder])
        ways: dict[str, Callable[[], object]] = {
            "extract": partial(
                extract, trunk, files, layers=trunk.layers, resize=crop, crop=crop, batch_size=batch_size,
                workers=workers,
            ),
            "bare": partial(_bare, trunk, trunk.trunk.prepare(crops.to(where)), batch_size),
        }  # fmt: skip
        seconds = interleaved(ways, repeats=repeats, device=where)
    return {
        "extraction_ratio": seconds["bare"] / seconds["extract"],
        "photos_per_second_extracted": len(crops) / seconds["extract"],
        "photos_per_second_bare": len(crops) / seconds["bare"],
        "extraction_crop": float(crop),
    }


def probe_targets(metrics: dict[str, float]) -> list[tuple[str, str, str, str]]:
    """Row of the report: what, measured, wanted, whether it holds."""
    ratio = metrics["probe_ratio"]
    what = f"linear probe at {metrics['probe_crop']:.0f} px, {metrics['probe_heads']:.0f} heads against 1"
    return [(what, f"{ratio:.2f} x", "at most 1.3 x", "yes" if ratio <= 1.3 else "no")]


def extraction_targets(metrics: dict[str, float]) -> list[tuple[str, str, str, str]]:
    """Row of the report: what, measured, wanted, whether it holds."""
    ratio = metrics["extraction_ratio"]
    what = f"extraction from JPEG at {metrics['extraction_crop']:.0f} px against bare forward"
    return [(what, f"{ratio:.2f} x", "at least 0.9 x", "yes" if ratio >= 0.9 else "no")]


@torch.no_grad()
def _bare(encoder: Encoder, prepared: Tensor, batch_size: int) -> None:
    """The network alone, up to its last layer, on inputs that are already there."""
    for batch in prepared.split(batch_size):
        encoder.trunk.maps(batch, encoder.layers)


def _crops(count: int, side: int) -> Tensor:
    batches = training_batches(
        open_photos(["samples"]), resize=(side, 4 * side), crop=side, batch_size=count, seed=0, start=0, steps=1,
        workers=0,
    )  # fmt: skip
    return next(iter(batches)).photos
