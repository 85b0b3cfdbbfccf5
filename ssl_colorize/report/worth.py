"""The page of a run of `worth`: what to do, the table, and a plot of every row over the shares of the labels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from rich.table import Table

from ssl_colorize.report.plots import CONSTANT, HELD_OUT, SMOOTH, save_figure, style
from ssl_colorize.report.tables import as_markdown, duration, percent, rows_table
from ssl_colorize.runs import write_atomically

# Of the rows; others get what is left.
_COLORS = {"random": CONSTANT, "k-means": "#8fb3d9", "starter": SMOOTH, "color": HELD_OUT}
_OTHERS = "#4d9a5b"
_PRETRAINED = "color"


def worth_table(metrics: Mapping[str, Any], *, title: str | None = None) -> Table:
    """A row for each network, in percent with 95 % intervals; the layer is that with all labels."""
    shares = list(metrics["rows"][_PRETRAINED]["labels"])
    figure = _figure(metrics)
    columns = ["network", *(f"{_in_words(metrics, share)}: {_NAMES[figure]} %" for share in shares), "layer", "time"]
    rows = []
    for name, row in metrics["rows"].items():
        cells = [
            f"{percent(one[figure])} ({percent(one['low'])} to {percent(one['high'])})"
            for one in (row["labels"][share] for share in shares)
        ]
        first = row["labels"][shares[0]]
        rows.append((name, *cells, first["layer"], duration(row["seconds"])))
    return rows_table(columns, rows, title=title)


_NAMES = {"top1": "top-1", "map": "mAP"}


def _figure(metrics: Mapping[str, Any]) -> str:
    found = metrics["rows"][_PRETRAINED]["labels"]["all"]
    return next(name for name in _NAMES if name in found)


def _in_words(metrics: Mapping[str, Any], share: str) -> str:
    photos = metrics["rows"][_PRETRAINED]["labels"][share]["photos"]
    return f"{share} ({photos:,} labels)"


def write_page(metrics: Mapping[str, Any], folder: Path, *, about: str) -> Path:
    """Write worth.md and the plot that it shows, worth.png, into a run's folder; returns the page's path.

    Args:
        metrics: of `worth.run_worth`.
        about: the photos, in words.
    """
    _draw(metrics, folder / "worth.png")
    networks = "".join(f"- **{name}**: `{row['encoder']}`\n" for name, row in metrics["rows"].items())
    left_out = "".join(f"- {line}\n" for line in metrics["left_out"])
    text = (
        f"# Is pretraining worth it on {about}?\n\n{metrics['verdict']}\n\n{as_markdown(worth_table(metrics))}\n"
        f"![Every network over the labels it learned from](worth.png)\n\n{protocol(metrics)}\n\n{networks}"
    )
    path = folder / "worth.md"
    write_atomically(path, text + (f"\nLeft out:\n\n{left_out}" if left_out else ""))
    return path


def protocol(metrics: Mapping[str, Any]) -> str:
    """How it was measured."""
    photos, trained = metrics["photos"], metrics["pretraining"]
    begun = f" from {trained['start']}" if trained["start"] else ""
    return (
        f"A ridge classifier on frozen features; layer and strength chosen on a fifth of the labeled photos that it "
        f"learns from. {photos['test']:,} test photos of {photos['classes']} classes, read once and never pretrained "
        f"on; 95 % intervals are over them, those of differences paired. *color* is pretrained{begun} for "
        f"{trained['steps']:,} steps, {trained['photos_seen']:,} photos seen, in {duration(trained['seconds'])}, which "
        "its time includes."
    )


def _draw(metrics: Mapping[str, Any], path: Path) -> None:
    figure = Figure(figsize=(7.5, 4.6), layout="constrained")
    axes = figure.subplots()
    key, shares = _figure(metrics), list(reversed(metrics["rows"][_PRETRAINED]["labels"]))
    count = len(metrics["rows"])
    for number, (name, row) in enumerate(metrics["rows"].items()):
        found = [row["labels"][share] for share in shares]
        # A little beside each other, so that all intervals are seen.
        places = [place + 0.06 * (number - (count - 1) / 2) for place in range(len(shares))]
        values = [100 * one[key] for one in found]
        reach = [[100 * abs(one[key] - one[end]) for one in found] for end in ("low", "high")]
        axes.errorbar(places, values, yerr=reach, fmt="o-", color=_COLORS.get(name, _OTHERS), capsize=2.5, markersize=5,
                      linewidth=2.2 if name == _PRETRAINED else 1.3, label=name)  # fmt: skip
    axes.set_xticks(range(len(shares)), [_in_words(metrics, share) for share in shares])
    axes.set_xlim(-0.5, len(shares) - 0.5)
    axes.set_ylim(bottom=0)
    axes.set_ylabel(f"{_NAMES[key]} on the test photos (%)")
    style(axes, title="Linear probe over the labels learned from, with 95 % intervals", grid="y")
    figure.legend(loc="outside lower center", ncols=5, frameon=False, fontsize=9)
    save_figure(figure, path)
