"""How good the colors of several methods are, and which differences between them hold.

    ssl-colorize score --data PHOTOS --method gray --method full=RUN --method l2=RUN2 -o runs/colors
    python benchmarks/colors.py record runs/colors --name PHOTOS --against gray
    python benchmarks/colors.py tables

`record` takes the figures of a `score` run and adds differences between its methods; `tables` prints them as Markdown,
beside the paper's, as `report.py` has them in RESULTS.md.

Every method colored the same photos, so a photo that is hard for one is hard for all; the intervals of `score`, one a
method, do not know of that. Here photos are drawn anew (with replacement, 2,000 times), all methods are judged on the
same draw, and what is bracketed is the difference.

Rebalanced AuC weights a pixel by 1 / p~ of its color, and of a few hundred photos one or two that were lit in violet
may hold most of the weight: the figure is then theirs alone. `record` also takes it without the heaviest photos.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from studies import RESULTS, markdown, percent, record, run_study

from ssl_colorize.errors import UserError
from ssl_colorize.evaluate import bootstrap
from ssl_colorize.report.tables import markdown as score_table
from ssl_colorize.score.run import LINES
from ssl_colorize.score.summary import Journal, Line

DRAWS = 2000
# How many of the heaviest photos are left out.
DROPPED = (0, 1, 2, 5, 10)
Array = NDArray[np.float64]
# Zhang, Isola, Efros (ECCV 2016), table 1.
PUBLISHED = (
    ("truth", "100", "100", "68.3", "50"),
    ("gray", "89.1", "58.0", "52.7", ""),
    ("random", "84.2", "57.3", "41.0", "13.0 ± 4.4"),
    ("dahl", "90.4", "58.9", "48.7", "18.3 ± 2.8"),
    ("larsson", "91.7", "65.9", "59.4", "27.2 ± 2.7"),
    ("l2", "91.2", "64.4", "54.9", "21.2 ± 2.5"),
    ("l2, from full", "91.5", "66.2", "56.5", "23.9 ± 2.8"),
    ("class", "91.6", "65.1", "56.6", "25.2 ± 2.7"),
    ("full", "89.5", "67.3", "56.0", "32.3 ± 2.2"),
)


@click.group()
def main() -> None:
    """Colors, compared and tabulated."""


@main.command("record")
@click.argument("run", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--name", required=True, help="Of the photos, for the table.")
@click.option("--against", multiple=True, required=True, metavar="METHOD", help="What the others are compared with.")
@click.option("-o", "--out", type=click.Path(path_type=Path), default=RESULTS / "colors")
def record_run(run: Path, name: str, against: tuple[str, ...], out: Path) -> None:
    """Keep what a `score` run found, and differences between its methods."""
    lines = [line for line in Journal(run / LINES).lines() if "methods" in line]
    if not lines or not (run / "metrics.json").is_file():
        raise UserError(f"{run} holds no finished scores: give the folder of an `ssl-colorize score`.")
    content = json.loads((run / "metrics.json").read_text("utf-8"))
    methods = list(lines[0]["methods"])
    for each in against:
        if each not in methods:
            raise UserError(f"{run} has no method {each!r}: choose from {', '.join(methods)}.")
    differences = {other: differences_from(lines, other, methods) for other in against}
    dropped = [without_heaviest(lines, count, methods) for count in DROPPED if count < len(lines)]
    kept = {key: content[key] for key in ("git", "seed", "metrics")}
    found = {"data": name, "methods": methods, "differences": differences, "trimmed": dropped}
    record(out / f"{name}.json", found | kept)


def differences_from(lines: list[Line], other: str, methods: list[str]) -> dict[str, dict[str, list[float] | None]]:
    """How far each method is from one of them, by measure."""
    return {
        method: {title: difference(numbers(lines, method), numbers(lines, other)) for title, numbers in MEASURES}
        for method in methods
        if method != other
    }


@main.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True), default=RESULTS / "colors")
def tables(folder: Path) -> None:
    """Print what was recorded as Markdown."""
    for path in sorted(folder.glob("*.json")):
        click.echo(measured(path.stem, folder=folder) + "\n")
        for other in json.loads(path.read_text("utf-8"))["differences"]:
            click.echo(compared(path.stem, other, folder=folder) + "\n")
    click.echo(published())


def measured(name: str, *, folder: Path = RESULTS / "colors") -> str:
    """The table of a set of photos."""
    found = json.loads((folder / f"{name}.json").read_text("utf-8"))
    table = score_table(found["metrics"], found["methods"]).rstrip()
    return f"**{name}**, {found['metrics']['photos']} photos\n\n{table}"


def compared(name: str, other: str, *, folder: Path = RESULTS / "colors") -> str:
    """How far the methods are from one of them."""
    found = json.loads((folder / f"{name}.json").read_text("utf-8"))
    rows: list[tuple[str, ...]] = [(f"less {other}", *(title for title, _ in MEASURES))]
    for method, differences in found["differences"][other].items():
        rows.append((method, *(_points(differences[title]) for title, _ in MEASURES)))
    return f"**{name}**, differences from {other} in points (95 % interval)\n\n{markdown(rows)}"


def published() -> str:
    """The paper's table."""
    rows = [("", "AuC", "AuC rebal.", "VGG top-1", "labeled real"), *PUBLISHED]
    return f"**The paper's**, 10,000 photos of ImageNet (labeled real: ± standard error), %\n\n{markdown(rows)}"


def trimmed(name: str, *, folder: Path = RESULTS / "colors") -> str:
    """Rebalanced AuC without the photos that weigh most."""
    found = json.loads((folder / f"{name}.json").read_text("utf-8"))
    rows: list[tuple[str, ...]] = [("photos left out", "of the weight", *found["methods"])]
    for each in found["trimmed"]:
        figures = (f"{100 * each['auc_rebalanced'][method]:.1f}" for method in found["methods"])
        rows.append((str(each["left_out"]), percent(each["weight"]), *figures))
    return f"**{name}**, rebalanced AuC without the heaviest photos, %\n\n{markdown(rows)}"


def _points(found: list[float] | None) -> str:
    if found is None:
        return ""
    value, low, high = (f"{100 * each:+.1f}" for each in found)
    return f"{value} ({low} to {high})"


def without_heaviest(lines: list[Line], count: int, methods: list[str]) -> dict[str, Any]:
    """Rebalanced AuC of each method over all photos but the `count` that weigh most, and the share that those had."""
    rest = sorted(lines, key=lambda line: line["weight"] or 0.0, reverse=True)[count:]
    figures = {}
    for method in methods:
        shares, weights = auc_rebalanced(rest, method).sum(0)
        figures[method] = float(shares / weights)
    total = sum(line["weight"] or 0.0 for line in lines)
    left = sum(line["weight"] or 0.0 for line in rest)
    return {"left_out": count, "weight": 1 - left / total if total else 0.0, "auc_rebalanced": figures}


def difference(ours: Array, theirs: Array, *, seed: int = 0) -> list[float] | None:
    """How much higher a measure is, and the ends of its 95 % interval; None where it was not measured.

    Args:
        ours, theirs: (N, 2) each, a photo's share of what is summed up, and its weight.
        seed: of the draws.
    """
    if np.isnan(ours).any() or np.isnan(theirs).any() or not len(ours):
        return None
    both = np.stack((ours, theirs), axis=1)
    low, high = bootstrap(lambda drawn: _apart(both[drawn]), len(both), seed=seed, draws=DRAWS)
    return [_apart(both), low, high]


def _apart(both: Array) -> float:
    """(N, 2 methods, share and weight) -> the difference of their weighted means."""
    shares, weights = both.sum(0).T
    return float(shares[0] / weights[0] - shares[1] / weights[1])


def auc(lines: list[Line], method: str) -> Array:
    """AuC, a mean over photos."""
    return np.array([(line["methods"][method]["auc"], 1.0) for line in lines], np.float64)


def auc_rebalanced(lines: list[Line], method: str) -> Array:
    """Rebalanced AuC, a mean over pixels by their weight."""
    missing = float("nan")
    pairs = [(line["methods"][method]["auc_weighted"], line["weight"]) for line in lines]
    each = [(missing, missing) if value is None else (value * weight, weight) for value, weight in pairs]
    return np.array(each, np.float64)


def top1(lines: list[Line], method: str) -> Array:
    """What the classifier gets right, of the photos whose class is known."""
    known = [(line["class"], line["methods"][method]["says"]) for line in lines if line["class"] is not None]
    return np.array([(says[0] == truth, 1.0) for truth, says in known], np.float64).reshape(-1, 2)


MEASURES: tuple[tuple[str, Callable[[list[Line], str], Array]], ...] = (
    ("AuC", auc), ("AuC rebal.", auc_rebalanced), ("classifier top-1", top1),
)  # fmt: skip


if __name__ == "__main__":
    run_study(main)
