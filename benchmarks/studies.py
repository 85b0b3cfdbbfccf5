"""What the studies of this folder share: runs by name, results as JSON, tables, and a user's mistakes in one line."""

import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from ssl_colorize.encoder import Source, load_encoder
from ssl_colorize.errors import UserError
from ssl_colorize.models import load_pretrained
from ssl_colorize.models.registry import model_type
from ssl_colorize.models.released import is_release
from ssl_colorize.runs import write_atomically

# What the studies found, from which `report.py` writes RESULTS.md.
RESULTS = Path(__file__).parent / "results"
# The outside ceiling: EfficientNet-Lite0, trained on ImageNet's labels.
CEILING = "efficientnet_lite0"
UNTRAINED = ("random", "kmeans")


def run_study(command: click.Command) -> None:
    """Run a study's command line."""
    try:
        command()
    except UserError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(2)


def named(runs: Sequence[str]) -> dict[str, str]:
    """The sources of runs given as NAME=RUN, by the names that tables call them, each of them once."""
    found: dict[str, str] = {}
    for name, source in paired(runs):
        if name in found:
            raise click.UsageError(f"--run {name}={source}: {name} is {found[name]} already; give it another name.")
        found[name] = source
    return found


def paired(runs: Sequence[str]) -> list[tuple[str, str]]:
    """Names and sources of runs given as NAME=RUN."""
    pairs = [each.partition("=") for each in runs]
    for each, (name, _, source) in zip(runs, pairs, strict=True):
        if not name or not source:
            raise click.UsageError(f"--run {each}: give NAME=RUN, a name for the table and the run's folder.")
    return [(name, source) for name, _, source in pairs]


def sized(data: str) -> tuple[str, int]:
    """The folder and the short side of photos in pixels, given as FOLDER:SIDE."""
    folder, _, side = data.rpartition(":")
    if not folder or not side.isdecimal():
        raise click.UsageError(f"--data {data}: give FOLDER:SIDE, with the short side of photos in pixels.")
    return folder, int(side)


def untrained_twins(run: str) -> dict[str, str]:
    """Sources of a run's network without its training, by their kind: one of `UNTRAINED`.

    Raises:
        UserError: it is no run of ours.
    """
    twin = load_encoder(run).trunk.untrained
    if twin is None or twin.kind != "random":
        raise UserError(f"{run} is no colorization network: give a run of `ssl-colorize pretrain`.")
    # timm's networks begin as timm has it.
    if model_type(twin.name).own_init:
        return {"random": str(twin)}
    return {"random": str(twin), "kmeans": str(Source("kmeans", twin.name, twin.width))}


def record(path: Path, content: dict[str, Any]) -> None:
    """Write what was found."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(content, indent=1) + "\n")


def recorded(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """What was found, NAME-SEED.json in a folder: the draws of each name."""
    found: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(folder.glob("*-*.json")):
        found.setdefault(path.stem.rpartition("-")[0], []).append(json.loads(path.read_text("utf-8")))
    return found


def origin(source: str) -> dict[str, Any]:
    """What an encoder is, without where it lay; of a trained one with what its training cost."""
    path = Path(source)
    if not (path.exists() or is_release(source)):
        return {"encoder": source}
    training = load_pretrained(source).training
    cost: dict[str, Any] = {key: in_all(training, key) for key in ("photos_seen", "seconds") if key in training}
    return {"encoder": path.resolve().name if path.exists() else source, **cost}


def in_all(training: dict[str, Any], key: str) -> float:
    """What a run took, "photos_seen" or "seconds", with the run that it started from."""
    start = training.get("recipe", {}).get("start")
    value: float = training[key]
    return value + (in_all(load_pretrained(start).training, key) if start else 0)


def spread(values: Sequence[float]) -> str:
    """Mean in percent, with the standard deviation of several draws; nothing of none."""
    if not values:
        return ""
    mean = f"{100 * statistics.mean(values):.1f}"
    return mean if len(values) == 1 else f"{mean} ± {100 * float(np.std(values, ddof=1)):.1f}"


def percent(share: float | None) -> str:
    """A share in percent, or nothing."""
    return "" if share is None else f"{100 * share:.0f}%"


def closed(value: float, low: float, high: float) -> float:
    """Gap closed: the share of the way from the untrained network to the ceiling."""
    return (value - low) / (high - low)


def markdown(rows: Sequence[tuple[str, ...]]) -> str:
    """Rows as a table, the first one its head."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])
