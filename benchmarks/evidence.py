"""Does coloring teach seeing? All that the studies measured, a row a network, with the share of the gap closed.

    python benchmarks/evidence.py

Reads what `frozen.py` and `transfer.py` wrote into `results/`, where a network has one name in both, and prints
Markdown, as `report.py` has it in RESULTS.md. A cell is the figure on the test photos at the layer that was chosen
without them, in percent, and in brackets the gap closed, (figure - untrained) / (ceiling - untrained), twice: to
*supervised*, the same network taught the names of the same photos, as the paper's ceiling is; and to *labels*,
EfficientNet-Lite0 trained on ImageNet, which is far above what any network here could reach. Untrained is the mean of
the draws of the same body; a body that nothing was taught by labels has no first share. Figures of several draws are
means, ± their standard deviation.
"""

import statistics
from pathlib import Path
from typing import Any, NamedTuple

import click
from frozen import best, bodies, kind_of
from studies import RESULTS, closed, markdown, percent, recorded, run_study, spread

# The paper's full rebalanced network of the same kind: ImageNet linear; classification, detection, segmentation on VOC.
PUBLISHED = {"probe": 0.46, "classification": 0.47, "detection": 0.26, "segmentation": 0.56}
FROZEN = {
    "tiny-imagenet": ("probe", "probe-10%", "probe-1%", "knn"),
    "imagenette": ("probe", "probe-10%", "probe-1%", "knn"),
    "VOC2012": ("svm",),
}
TRANSFER = {"classification": "map_common", "detection": "voc_map_common", "segmentation": "miou_common"}
CEILINGS = ("supervised", "labels")


class Column(NamedTuple):
    """What one measure found: the draws of each network, which network is untrained for each, and the paper's share."""

    title: str
    figures: dict[str, list[float]]
    untrained: dict[str, str]
    paper: float | None

    def share(self, name: str, ceiling: str) -> float | None:
        """The gap closed to a ceiling, if there is one: labels is nobody's body, supervised must be of this one."""
        untrained = self.untrained[name]
        if ceiling not in self.figures or name in (untrained, ceiling, "labels"):
            return None
        if ceiling != "labels" and self.untrained[ceiling] != untrained:
            return None
        return closed(*(statistics.mean(self.figures[each]) for each in (name, untrained, ceiling)))


@click.command()
def main() -> None:
    """Print what was measured as Markdown."""
    for part in ("frozen", "transfer", "cost"):
        click.echo(measured(part) + "\n")


def measured(part: str, *, results: Path = RESULTS) -> str:
    """The table of a part: "frozen", "transfer" or "cost"."""
    if part == "cost":
        return cost(results)
    return table(list(frozen_columns(results) if part == "frozen" else transfer_columns(results)))


def frozen_columns(results: Path, sets: dict[str, tuple[str, ...]] = FROZEN) -> list[Column]:
    """A column a data set and measure of frozen features."""
    columns = []
    for data, measures in sets.items():
        found = recorded(results / "frozen" / data)
        for measure in measures:
            figures: dict[str, list[float]] = {}
            untrained: dict[str, str] = {}
            for group in bodies(found, measure):
                random = next(name for name in group if kind_of(name) == "random")
                for name, draws in group.items():
                    figures[name] = [best(draw["layers"], measure)[1] for draw in draws]
                    untrained[name] = random
            columns.append(Column(f"{data}, {measure}", figures, untrained, PUBLISHED.get(measure)))
    return columns


def transfer_columns(results: Path) -> list[Column]:
    """A column a task on VOC, over the classes that 20 test photos show."""
    columns = []
    for task, key in TRANSFER.items():
        found = recorded(results / "transfer" / task)
        figures = {name: [one[key] for one in draws] for name, draws in found.items()}
        columns.append(Column(task, figures, dict.fromkeys(figures, "random"), PUBLISHED[task]))
    return columns


def table(columns: list[Column]) -> str:
    """A row a network, a column a measure, the paper's shares last."""
    names = sorted({name for column in columns for name in column.figures}, key=place)
    rows: list[tuple[str, ...]] = [("", *(column.title for column in columns))]
    rows += [(name, *(cell(column, name) for column in columns)) for name in names]
    rows.append(("the paper's share", *(f"({percent(column.paper)})" if column.paper else "" for column in columns)))
    return markdown(rows)


def place(name: str) -> tuple[int, int, str]:
    """Untrained networks first, those of labels last."""
    last = {"supervised": 2, "labels": 3}.get(name, 1)
    return (0 if kind_of(name) in ("random", "kmeans") else last, 0 if kind_of(name) == "random" else 1, name)


def cell(column: Column, name: str) -> str:
    """A figure and the gaps it closes."""
    if name not in column.figures:
        return ""
    shares = [percent(column.share(name, ceiling)) or "-" for ceiling in CEILINGS]
    brackets = f" ({', '.join(shares)})" if set(shares) != {"-"} else ""
    return spread(column.figures[name]) + brackets


def cost(results: Path) -> str:
    """What training each network took."""
    found: dict[str, dict[str, Any]] = {}
    for data in FROZEN:
        found |= {name: draws[0] for name, draws in recorded(results / "frozen" / data).items()}
    rows: list[tuple[str, ...]] = [("", "photos seen", "minutes")]
    trained = sorted((name for name, one in found.items() if "photos_seen" in one), key=place)
    rows += [(name, f"{found[name]['photos_seen']:,}", f"{found[name]['seconds'] / 60:.0f}") for name in trained]
    return markdown(rows)


if __name__ == "__main__":
    run_study(main)
