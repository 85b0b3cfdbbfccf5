"""Which differences between the methods of a `score` run hold: paired, photo by photo.

    ssl-colorize score --data PHOTOS --method gray --method full=RUN --method l2=RUN2 -o runs/colours
    python benchmarks/colours.py runs/colours --against gray

Every method coloured the same photos, so a photo that is hard for one is hard for all; the intervals of `score`, one a
method, do not know of that. Here photos are drawn anew (with replacement, 2,000 times), all methods are judged on the
same draw, and what is bracketed is the difference.
"""

from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from studies import markdown, run_study

from ssl_colorize.errors import UserError
from ssl_colorize.score.journal import Journal, Line
from ssl_colorize.score.run import LINES

DRAWS = 2000
Array = NDArray[np.float64]


@click.command()
@click.argument("run", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--against", required=True, metavar="METHOD", help="What the others are compared with.")
@click.option("--seed", default=0)
def main(run: Path, against: str, seed: int) -> None:
    """Print differences from one method, with 95 % intervals, as Markdown."""
    lines = [line for line in Journal(run / LINES).lines() if "methods" in line]
    if not lines:
        raise UserError(f"{run} holds no scored photos: give the folder of an `ssl-colorize score`.")
    methods = list(lines[0]["methods"])
    if against not in methods:
        raise UserError(f"{run} has no method {against!r}: choose from {', '.join(methods)}.")
    rows: list[tuple[str, ...]] = [(f"less {against}", *MEASURES)]
    for method in methods:
        if method != against:
            cells = [difference(numbers(lines, method), numbers(lines, against), seed) for numbers in MEASURES.values()]
            rows.append((method, *cells))
    click.echo(f"{len(lines)} photos; points, 95 % intervals of the difference\n")
    click.echo(markdown(rows))


def difference(ours: Array, theirs: Array, seed: int) -> str:
    """How much higher a measure is, in points, with its interval; nothing where it was not measured.

    Args:
        ours, theirs: (N, 2) each, a photo's share of what is summed up, and its weight.
    """
    if np.isnan(ours).any() or np.isnan(theirs).any() or not len(ours):
        return ""
    both = np.stack((ours, theirs), axis=1)
    chance = np.random.default_rng(seed)
    drawn = chance.integers(len(both), size=(DRAWS, len(both)))
    low, high = np.quantile([_apart(both[each]) for each in drawn], [0.025, 0.975])
    return f"{100 * _apart(both):+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"


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


MEASURES: dict[str, Callable[[list[Line], str], Array]] = {
    "AuC": auc, "AuC rebal.": auc_rebalanced, "classifier top-1": top1,
}  # fmt: skip


if __name__ == "__main__":
    run_study(main)
