"""What pretraining is worth where every layer learns on: classification, detection and segmentation on VOC.

    python benchmarks/transfer.py measure --data VOCdevkit/VOC2012 --run full=runs/full
    python benchmarks/transfer.py tables

`measure` fine-tunes every network on every task by `ssl-colorize finetune`, each into a folder of its own under --out,
goes on with those that were stopped, and skips those that are done; what it found goes into the folder of --results.
`tables` prints that as Markdown beside the paper's, as `report.py` has it in RESULTS.md.

Protocol. All networks of a task see the same photos at the same size for the same epochs, and all their layers learn.
Of the rates in `TASKS` each network's is chosen on a fifth of the training photos, with the first seed, by the mean
over classes that 20 of them show (in detection, which is slow, the one that it chose in segmentation is taken); it then
trains on all of them, three times (seeds of the head, the order and, where there is no training before, the network).
The test photos are read once by each. Rows: `random` and `kmeans` filters, untrained, of the width of the first run;
the runs; and `labels`, EfficientNet-Lite0 trained on ImageNet's. The colorization networks' heads read conv5, the last
layer that the paper's alexnet has before its fully connected ones. The optimizer is Muon, the default; the first run is
also trained by SGD, as it comes and with BatchNorm folded and layers rescaled (Kraehenbuehl et al. 2016), to see what
rescaling does.
"""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
from studies import (
    CEILING,
    RESULTS,
    UNTRAINED,
    closed,
    markdown,
    named,
    origin,
    percent,
    record,
    recorded,
    run_study,
    spread,
    untrained_twins,
)


@dataclass(frozen=True)
class Protocol:
    """How a task is measured: its figure, what `finetune` is told, and the rates to choose from.

    Without rates it takes the one that the network chose in the task `like`.
    """

    figure: str
    flags: str
    rates: tuple[float, ...] = ()
    like: str = ""


# Small photos, since the runs were trained on small ones, and for 2 cores.
TASKS = {
    "classification": Protocol("map", "--size 72 --crop 64 --epochs 10 --set head_factor=3", (1e-4, 3e-4, 1e-3)),
    "segmentation": Protocol("miou", "--size 96 --epochs 8 --set head_factor=10", (3e-4, 1e-3)),
    "detection": Protocol("voc_map", "--size 96 --epochs 4 --set head_factor=3", like="segmentation"),
}
NAMES = {"map": "mAP", "miou": "mean IoU", "voc_map": "mAP at IoU 0.5, 11 points"}
SGD_RATES = (1e-3, 3e-3, 1e-2)
# All layers trained, on VOC 2007 (segmentation: 2012), AlexNet (Zhang, Isola, Efros, CVPR 2017, table 3).
PUBLISHED = {
    "random": (53.3, 43.4, 19.8),
    "kmeans": (56.6, 45.6, 32.6),
    "full, rescaled": (65.9, 46.9, 35.6),
    "labels": (79.9, 56.8, 48.0),
}
PUBLISHED_TASKS = ("classification", "detection", "segmentation")


@dataclass(frozen=True)
class Row:
    """A network of the table, and how it learns on."""

    name: str
    source: str
    flags: str = ""
    rates: tuple[float, ...] | None = None  # the task's own


@click.group()
def main() -> None:
    """Fine-tuned features, measured and tabulated."""


@main.command()
@click.option("--data", required=True, metavar="VOC", type=click.Path(exists=True, file_okay=False))
@click.option("--run", "runs", multiple=True, required=True, metavar="NAME=RUN")
@click.option("--task", "tasks", multiple=True, type=click.Choice(list(TASKS)), help="All of them by default.")
@click.option("--seeds", default=3, help="Trainings of each network.")
@click.option("--jobs", default=os.cpu_count() or 1, help="Trainings beside each other.")
@click.option("-o", "--out", type=click.Path(path_type=Path), default=Path("runs/transfer"))
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS / "transfer")
def measure(
    data: str, runs: tuple[str, ...], tasks: tuple[str, ...], seeds: int, jobs: int, out: Path, results: Path
) -> None:
    """Fine-tune every network on every task."""
    for task in tasks or TASKS:
        rows = list(networks(task, runs))
        # Every network once, before any a second time: the first seed finds the rate of the others.
        for seed in range(seeds):
            with ThreadPoolExecutor(jobs) as pool:
                each = partial(train, task, data=data, seed=seed, out=out, results=results, jobs=jobs)
                for line in pool.map(each, rows):
                    click.echo(line)


def networks(task: str, runs: tuple[str, ...]) -> Iterator[Row]:
    """The rows of a task's table."""
    trained = named(runs)
    ours, sgd = "--layer conv5", "--set optimizer=sgd"
    for kind, twin in untrained_twins(next(iter(trained.values()))).items():
        yield Row(kind, twin, ours)
    for name, source in trained.items():
        yield Row(name, source, ours)
    yield Row("labels", CEILING)
    if task == "classification":
        name, source = next(iter(trained.items()))
        yield Row(f"{name}, SGD", source, f"{ours} {sgd}", SGD_RATES)
        yield Row(f"{name}, SGD, rescaled", source, f"{ours} {sgd} --rescale", SGD_RATES)


def train(task: str, row: Row, *, data: str, seed: int, out: Path, results: Path, jobs: int) -> str:
    """Fine-tune once, unless that is done, and say what came of it."""
    folder = place(out, task, row.name, seed)
    if not (folder / "metrics.json").is_file():
        protocol = TASKS[task]
        rates = row.rates or protocol.rates
        if seed > 0 or not rates:
            first = place(out, protocol.like if not rates else task, row.name, 0)
            if not (first / "metrics.json").is_file():
                return f"{task}, {row.name}, seed {seed}: waits for {first}"
            rates = (read(first)["learning_rate"],)
        command = [sys.executable, "-m", "ssl_colorize", "finetune", task]
        if (folder / "checkpoint.pt").is_file():
            command += ["--resume", str(folder)]
        else:
            folder.parent.mkdir(parents=True, exist_ok=True)
            command += ["--encoder", row.source, "--data", data, "-o", str(folder), "--seed", str(seed)]
            command += [*protocol.flags.split(), *row.flags.split(), "--set", "choose_length=false"]
            command += [part for rate in rates for part in ("--learning-rate", f"{rate:g}")]
        command += ["--workers", "1", "--json"]
        threads = str(max(1, (os.cpu_count() or 1) // jobs))
        done = subprocess.run(command, stdout=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": threads})
        if done.returncode:
            # The others go on; what went wrong stands above.
            return f"{task}, {row.name}, seed {seed}: stopped with exit code {done.returncode}"
    found = read(folder)
    record(place(results, task, row.name, seed).with_suffix(".json"), summary(task, row, folder))
    return f"{task}, {row.name}, seed {seed}: {percent(found[TASKS[task].figure])} at rate {found['learning_rate']:g}"


def place(out: Path, task: str, name: str, seed: int) -> Path:
    """The folder of one training."""
    return out / task / f"{name.replace(', ', '-')}-{seed}"


def read(folder: Path) -> dict[str, Any]:
    """The figures of a finished training."""
    metrics: dict[str, Any] = json.loads((folder / "metrics.json").read_text())["metrics"]
    return metrics


def summary(task: str, row: Row, folder: Path) -> dict[str, Any]:
    """What the table takes of a finished training, and how it came about."""
    content = json.loads((folder / "metrics.json").read_text())
    figure = TASKS[task].figure
    kept = (figure, f"{figure}_common", "low", "high", "choosing", "learning_rate", "epochs", "steps")
    settings = ("size", "crop", "layers", "optimizer", "head_factor", "rescale", "batch_size")
    return {
        **origin(row.source), "task": task, "seed": content["seed"], "git": content["git"],
        "seconds_of_fine_tuning": content["seconds"],
        **{key: content["metrics"].get(key) for key in kept},
        "settings": {key: content["config"].get(key) for key in settings},
    }  # fmt: skip


@main.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True), default=RESULTS / "transfer")
def tables(folder: Path) -> None:
    """Print what was measured as Markdown."""
    for task in TASKS:
        if (folder / task).is_dir():
            click.echo(measured(task, folder=folder) + "\n")
    click.echo(published())


def measured(task: str, *, folder: Path = RESULTS / "transfer") -> str:
    """The table of a task."""
    figure = TASKS[task].figure
    return f"**{task}**, {NAMES[figure]}, %\n\n{table(recorded(folder / task), figure)}"


def table(found: dict[str, list[dict[str, Any]]], figure: str) -> str:
    """A row a network: the test figure over all classes and over common ones, gaps closed, and how it was chosen."""
    rows: list[tuple[str, ...]] = [
        ("", "all classes (95 %)", "gap closed", "the common ones", "gap closed", "chosen on", "rate")
    ]
    order = [*UNTRAINED, *(name for name in found if name not in (*UNTRAINED, "labels")), "labels"]
    for name in (name for name in order if name in found):
        cells = []
        for key in (figure, f"{figure}_common"):
            means = {each: statistics.mean(one[key] for one in draws) for each, draws in found.items()}
            share = None
            if name not in ("random", "labels") and {"random", "labels"} <= means.keys():
                share = closed(means[name], means["random"], means["labels"])
            cells += [spread([one[key] for one in found[name]]), percent(share)]
        if len(found[name]) == 1 and found[name][0]["low"] is not None:
            # Over the test photos; of several draws their own spread stands in its place.
            cells[0] += f" ({' to '.join(f'{100 * found[name][0][end]:.1f}' for end in ('low', 'high'))})"
        choosing = [one["choosing"] for one in found[name] if one["choosing"] is not None]
        rows.append((name, *cells, spread(choosing), f"{found[name][0]['learning_rate']:g}"))
    return markdown(rows)


def published() -> str:
    """The paper's table, with the gap closed."""
    low, high = PUBLISHED["random"], PUBLISHED["labels"]
    rows: list[tuple[str, ...]] = [("", *PUBLISHED_TASKS)]
    for name, values in PUBLISHED.items():
        shares = [f" ({percent(closed(*each))})" for each in zip(values, low, high, strict=True)]
        if name in ("random", "labels"):
            shares = [""] * len(values)
        rows.append((name, *(f"{value}{share}" for value, share in zip(values, shares, strict=True))))
    return f"**The paper's**, VOC, AlexNet, all layers trained, % (gap closed)\n\n{markdown(rows)}"


if __name__ == "__main__":
    run_study(main)
