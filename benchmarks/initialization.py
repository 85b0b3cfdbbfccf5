"""Does the initialization matter? The same small run from three starts, against the best constant prediction.

    python benchmarks/initialization.py --data PHOTOS [--data MORE] [--steps 400] [--seeds 3] [-o FOLDER]

Writes FOLDER/results.json and FOLDER/initialization.png, and prints the table for RESULTS.md. A run that is already
in FOLDER is not done again.
"""

import json
import statistics
from pathlib import Path
from typing import Any

import click
from matplotlib.figure import Figure
from studies import run_study

from ssl_colorize.engine.checkpoint import read_log
from ssl_colorize.models.init import InitMethod
from ssl_colorize.pretrain.config import Recipe
from ssl_colorize.pretrain.loop import train

STARTS: tuple[InitMethod, ...] = ("plain", "lsuv", "kmeans")
COLORS = {"plain": "#d1495b", "lsuv": "#66a182", "kmeans": "#1f5fa8"}


@click.command()
@click.option("--data", multiple=True, default=("samples",), help="As in ssl-colorize pretrain.")
@click.option("--width", default=0.25)
@click.option("--steps", default=400)
@click.option("--learning-rate", default=1e-3)
@click.option("--seeds", default=3)
@click.option("-o", "--out", type=click.Path(path_type=Path), default=Path("runs/initialization"))
def main(data: tuple[str, ...], width: float, steps: int, learning_rate: float, seeds: int, out: Path) -> None:
    """Train from each start with each seed, then tell and draw how they compare."""
    results: dict[InitMethod, list[dict[str, Any]]] = {start: [] for start in STARTS}
    for seed in range(seeds):
        for start in STARTS:
            recipe = Recipe(
                data=data, width=width, steps=steps, learning_rate=learning_rate, init=start, seed=seed,
                resize=(64, 112), crop=64, holdout_photos=512, evaluate_every=max(1, steps // 16),
                checkpoint_every=steps,
            )  # fmt: skip
            results[start].append(run(recipe, out / f"{start}-{seed}"))
    (out / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    draw(results, out / "initialization.png")
    print("| start | held-out loss at the end | best constant | below it from step | spread of colors / true |")
    print("|---|---|---|---|---|")
    for start, runs in results.items():
        print(f"| {start} | {row(runs)} |")


def run(recipe: Recipe, folder: Path) -> dict[str, Any]:
    """One training run, or the one that is already there; its held-out curve."""
    if not (folder / "metrics.json").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        train(recipe, folder, resume=(folder / "checkpoint.pt").is_file())
    content = json.loads((folder / "metrics.json").read_text())
    looks = [entry for entry in read_log(folder) if "holdout_loss" in entry]
    curve = [(entry["step"], entry["holdout_loss"], entry["holdout_loss_constant"]) for entry in looks]
    return {"seed": content["seed"], "git": content["git"], "metrics": content["metrics"], "curve": curve}


def row(runs: list[dict[str, Any]]) -> str:
    """Means over the seeds with their spread (largest minus smallest)."""

    def figure(values: list[float]) -> str:
        return f"{statistics.mean(values):.3f} ({max(values) - min(values):.3f})"

    first = [first_below(entry["curve"]) for entry in runs]
    cells = [
        figure([entry["metrics"]["loss"] for entry in runs]),
        figure([entry["metrics"]["loss_constant"] for entry in runs]),
        ", ".join("never" if step is None else str(step) for step in first),
        figure([entry["metrics"]["spread"] / entry["metrics"]["spread_true"] for entry in runs]),
    ]
    return " | ".join(cells)


def first_below(curve: list[tuple[int, float, float]]) -> int | None:
    """The step from which on the network stays below the best constant."""
    step = None
    for at, loss, constant in reversed(curve):
        if loss >= constant:
            break
        step = at
    return step


def draw(results: dict[InitMethod, list[dict[str, Any]]], path: Path) -> None:
    """Held-out loss less the best constant's, by step, a line a seed."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for start, runs in results.items():
        for number, entry in enumerate(runs):
            steps, losses, constants = zip(*entry["curve"], strict=True)
            gap = [loss - constant for loss, constant in zip(losses, constants, strict=True)]
            axes.plot(steps, gap, color=COLORS[start], label=start if number == 0 else None)
    axes.axhline(0, color="#6b6b76", linestyle="--", label="best constant")
    axes.set_ylim(top=0.15)
    axes.set_xlabel("step")
    axes.set_ylabel("held-out loss, less the best constant's (nats)")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    run_study(main)
