"""One format for what a study found: NAME-SEED.json in a folder a study and data set; and how figures are printed."""

import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np

from ssl_colorize.errors import UserError
from ssl_colorize.models import load_pretrained
from ssl_colorize.models.released import is_release
from ssl_colorize.runs import write_atomically

# What was found, from which `reproduce.py --check` proves the tables.
RESULTS = Path(__file__).parent / "results"
Record = dict[str, Any]


def run_command(command: click.Command) -> None:
    """Run a benchmark's command line, with a user's mistakes in one line."""
    try:
        command()
    except UserError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(2)


# ---- records ---------------------------------------------------------------------------------------------------------


def record(path: Path, content: Record) -> None:
    """Write what was found."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(content, indent=1) + "\n")


def recorded(folder: Path) -> dict[str, list[Record]]:
    """What was found, NAME-SEED.json in a folder: the draws of each name, by their seeds.

    Raises:
        UserError: nothing was.
    """
    found: dict[str, list[Record]] = {}
    for path in sorted(folder.glob("*-*.json")):
        found.setdefault(path.stem.rpartition("-")[0], []).append(json.loads(path.read_text("utf-8")))
    if not found:
        raise UserError(f"Nothing recorded in {folder}: run `python benchmarks/reproduce.py` for this table first.")
    return found


def one_record(folder: Path, name: str) -> Record:
    """What was found of a name with one draw.

    Raises:
        UserError: nothing was.
    """
    path = folder / f"{name}-0.json"
    if not path.is_file():
        raise UserError(f"Nothing recorded in {path}: run `python benchmarks/reproduce.py` for this table first.")
    found: Record = json.loads(path.read_text("utf-8"))
    return found


def origin(source: str) -> Record:
    """What an encoder is, without where it lay; of a trained one with what its training cost."""
    path = Path(source)
    if not (path.exists() or is_release(source)):
        return {"encoder": source}
    training = load_pretrained(source).training
    cost: Record = {key: with_start(training, key) for key in ("photos_seen", "seconds") if key in training}
    return {"encoder": path.resolve().name if path.exists() else source, **cost}


def with_start(training: dict[str, Any], key: str) -> float:
    """What a run took, "photos_seen" or "seconds", with the run that it started from."""
    start = training.get("recipe", {}).get("start")
    value: float = training[key]
    return value + (with_start(load_pretrained(start).training, key) if start else 0)


# ---- printing --------------------------------------------------------------------------------------------------------


def spread(values: Sequence[float]) -> str:
    """Mean in percent, with the standard deviation of several draws; nothing of none."""
    if not values:
        return ""
    mean = f"{round(100 * statistics.mean(values), 1) + 0:.1f}"
    return mean if len(values) == 1 else f"{mean} ± {100 * float(np.std(values, ddof=1)):.1f}"


def interval(found: Sequence[Record], low: str, high: str) -> str:
    """The interval in brackets, in percent, by the keys of its ends: of several draws the mean of theirs."""
    pairs = [(one[low], one[high]) for one in found if one.get(low) is not None]
    if not pairs:
        return ""
    # Adding nothing makes a zero of what rounds to minus zero.
    return " ({:.1f} to {:.1f})".format(
        *(round(100 * statistics.mean(each), 1) + 0 for each in zip(*pairs, strict=True))
    )


def percent(share: float | None) -> str:
    """A share in percent, or nothing."""
    return "" if share is None else f"{100 * share:.0f}%"


def closed(value: float, low: float, high: float) -> float:
    """Gap closed: the share of the way from the untrained network to the ceiling."""
    return (value - low) / (high - low)


class Column(NamedTuple):
    """A column of a table: the texts of its cells by the names of the rows, which need not all be there."""

    title: str
    cells: dict[str, str]


def table(columns: Sequence[Column], names: Sequence[str], *, corner: str = "") -> str:
    """A Markdown table of named rows, in the order given."""
    rows = [(corner, *(column.title for column in columns))]
    rows += [(name, *(column.cells.get(name, "") for column in columns)) for name in names]
    return markdown(rows)


def markdown(rows: Sequence[tuple[str, ...]]) -> str:
    """Rows as a table, the first one its head."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def cell_of(text: str, row: str, column: str) -> str:
    """The cell of the first table in a text; of rows of one name the last one's."""
    lines = [line.strip().strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    head, *rows = [[cell.strip() for cell in line] for line in lines]
    return next(cells for cells in reversed(rows) if cells[0] == row)[head.index(column)]
