"""What the verbs that measure an encoder on frozen features share: flags, figures of classes, and how they go on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssl_colorize.runs import write_atomically

if TYPE_CHECKING:
    from ssl_colorize.evaluate.settings import EvaluationSettings

# Fields that the verbs have in common, in the order of their help.
FLAGS = ("seeds", "random", "resize", "crop", "batch_size", "limit", "seed", "workers", "device", "cache", "no_cache")


def write_classes(metrics: dict[str, Any], folder: Path, *, depth: int) -> Path:
    """Move the figures of single classes, which may be hundreds, out of the metrics into per_class.json.

    Args:
        metrics: of a run, by layer.
        folder: of the run.
        depth: of the figures below a layer.
    """
    path = folder / "per_class.json"
    write_atomically(path, json.dumps(_take_classes(metrics, depth), indent=2) + "\n")
    return path


def _take_classes(metrics: dict[str, Any], depth: int) -> dict[str, Any]:
    from ssl_colorize.report.tables import layers_of

    def taken(found: dict[str, Any], depth: int) -> Any:
        return found.pop("per_class") if not depth else {name: taken(each, depth - 1) for name, each in found.items()}

    per_class = {layer: taken(found, depth) for layer, found in layers_of(metrics).items()}
    return per_class | ({"random": _take_classes(metrics["random"], depth)} if "random" in metrics else {})


def title_of(settings: EvaluationSettings, folder: Path, seconds: float) -> str:
    """Line over a verb's table."""
    from ssl_colorize.report.tables import duration

    return f"{settings.encoder} on {settings.named}, in {folder}, after {duration(seconds)}"


def on_same(verb: str, settings: EvaluationSettings) -> str:
    """The command that measures the same encoder on the same photos with another verb."""
    return f"ssl-colorize {verb} --encoder {settings.encoder}{settings.flags}"
