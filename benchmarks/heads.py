"""What heads, neighbors and pixels say of frozen features: what records take, and tables."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from networks import row_order
from records import Column, Record, interval, recorded, spread, table

# Heads by the ends of the names of their figures, and what tables call the best of each kind.
KINDS = {
    "linear": "linear, best layer",
    "attentive": "attentive, best layer",
    "all-layers/attentive": "attention over layers",
    "all-layers": "linear, all layers",
}
FIGURES = ("top1", "low", "high", "choosing")
# What moves colors alone, and all the others.
COLORS = ("hue", "gray")


# ---- what records take -----------------------------------------------------------------------------------------------


def of_heads(metrics: Record) -> Record:
    """The head of each kind that did best on the choosing part, and what the best of all loses on worse photos."""
    found = {name: figures for name, figures in metrics.items() if isinstance(figures, dict)}
    kinds: dict[str, list[str]] = {}
    for name in found:
        kinds.setdefault(kind_of_head(name), []).append(name)
    chosen = {kind: _best(found, names) for kind, names in kinds.items()}
    best = _best(found, chosen.values())
    worse = {corruption: {key: each["mean"][key] for key in ("drop", "drop_low", "drop_high")}
             for corruption, each in found[best].get("corrupt", {}).items()}  # fmt: skip
    heads = {kind: {"name": name, **{key: found[name][key] for key in FIGURES}} for kind, name in chosen.items()}
    return {"heads": heads, "chosen": best, "drops": worse}


def kind_of_head(name: str) -> str:
    """The kind of a head by the name of its figures.

    >>> [kind_of_head(name) for name in ("conv4", "conv4/attentive", "all-layers", "all-layers/attentive")]
    ['linear', 'attentive', 'all-layers', 'all-layers/attentive']
    """
    layer, _, kind = name.partition("/")
    return name if layer == "all-layers" else kind or "linear"


def of_neighbors(metrics: Record) -> Record:
    """The layer, k and temperature that did best on the choosing part."""
    found = {f"{layer}, {choice}": figures for layer, choices in metrics.items() if isinstance(choices, dict)
             for choice, figures in choices.items()}  # fmt: skip
    best = _best(found, found)
    return {"heads": {"knn": {"name": best, **{key: found[best][key] for key in FIGURES}}}}


def of_pixels(metrics: Record) -> Record:
    """The layer that did best on the choosing part."""
    kept = ("miou", "low", "high", "miou_common", "low_common", "high_common", "miou_present", "choosing",
            "pixel_accuracy")  # fmt: skip
    layer = metrics["layer"]
    return {"layer": layer, **{key: metrics[layer].get(key) for key in kept}, "protocol": metrics["protocol"]}


def _best(found: Record, names: Iterable[str]) -> str:
    return max(names, key=lambda name: found[name]["choosing"])


# ---- tables ----------------------------------------------------------------------------------------------------------


def heads(data: str, results: Path) -> str:
    """What each kind of head and the nearest neighbors read from the features, each at the layer that was chosen."""
    found, near = (recorded(results / folder / data) for folder in ("heads", "knn"))
    columns = [_column(found, kind, title) for kind, title in KINDS.items()]
    columns.append(_column(near, "knn", "kNN, best layer"))
    one = next(iter(found.values()))[0]
    photos = f"{one['train']:,} training and {one['test']:,} test photos"
    return f"**{data}**, top-1, % (95 %), {photos}\n\n{table(columns, sorted(found, key=row_order))}"


def drops(data: str, results: Path) -> str:
    """What the chosen head loses on worse photos; turned and missing colors first, and apart from the others."""
    found = recorded(results / "heads" / data)
    kinds = list(next(iter(found.values()))[0]["drops"])
    columns = [Column("chosen head", {name: _names([one["chosen"] for one in draws]) for name, draws in found.items()})]
    for kind in (*COLORS, *(each for each in kinds if each not in COLORS)):
        each = {name: [one["drops"][kind] for one in draws] for name, draws in found.items()}
        columns.append(Column(kind, {
            name: spread([one["drop"] for one in draws]) + interval(draws, "drop_low", "drop_high")
            for name, draws in each.items()
        }))  # fmt: skip
    title = f"**{data}**, points of top-1 that worse photos cost (95 %)"
    return f"{title}\n\n{table(columns, sorted(found, key=row_order))}"


def _column(found: dict[str, list[Record]], kind: str, title: str) -> Column:
    """A kind of head: its figure, its interval, and the layer that was chosen."""
    cells = {}
    for name, draws in found.items():
        each = [one["heads"][kind] for one in draws]
        at = _names([one["name"].removesuffix(f"/{kind}") for one in each])
        where = "" if kind.startswith("all-layers") else f"{at}: "
        cells[name] = where + spread([one["top1"] for one in each]) + interval(each, "low", "high")
    return Column(title, cells)


def _names(names: Sequence[str]) -> str:
    return "/".join(dict.fromkeys(names))
