"""How tables are printed from the records of a folder."""

import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from measures import TASKS
from networks import kind_of, row_order
from records import Column, Record, cell_of, closed, interval, markdown, one_record, percent, recorded, spread, table

from ssl_colorize.errors import UserError
from ssl_colorize.report.tables import markdown as score_table

Draws = dict[str, list[Record]]
MEASURES = ("probe", "probe-10%", "probe-1%", "knn", "svm")
FIGURES = {"map": "mAP", "miou": "mean IoU", "voc_map": "mAP at IoU 0.5, 11 points"}
CEILINGS = ("supervised", "labels")

# The share of the gap that the paper's full network closes: ImageNet linear, by the best layers; VOC, all layers learn.
PUBLISHED = {"probe": 0.46, "classification": 0.47, "detection": 0.26, "segmentation": 0.56}


# ---- frozen features -------------------------------------------------------------------------------------------------


def frozen(data: str, measure: str, results: Path) -> str:
    """A data set by one measure, layer by layer, a table a body."""
    parts = []
    for body in bodies(recorded(results / "frozen" / data), measure):
        one = next(iter(body.values()))[0]
        figure = "mAP" if measure == "svm" else "top-1"
        title = f"{one['train']:,} training and {one['test']:,} test photos, short side {one['side']} px"
        parts.append(f"**{data}**, {measure}, {figure} %, {title}\n\n{table(layer_columns(body, measure), list(body))}")
    return "\n\n".join(parts)


def bodies(found: Draws, measure: str) -> list[Draws]:
    """Networks with the same layers that were measured so, untrained ones first, the ceiling last each time.

    Raises:
        UserError: the untrained network or the ceiling is not there.
    """
    if not {"random", "labels"} <= found.keys():
        raise UserError("Nothing recorded of random and labels: run `python benchmarks/reproduce.py` to its end.")
    found = {name: draws for name, draws in found.items() if measure in next(iter(draws[0]["layers"].values()))}
    groups: dict[tuple[str, ...], Draws] = {}
    for name in sorted(found, key=row_order):
        if name != "labels":
            groups.setdefault(tuple(found[name][0]["layers"]), {})[name] = found[name]
    return [group | {"labels": found["labels"]} for group in groups.values()]


def layer_columns(body: Draws, measure: str) -> list[Column]:
    """Every layer, the layer chosen, and the gap closed."""
    columns = [
        # The ceiling is another network, whose layers have other names.
        Column(layer, {name: spread([value(draw["layers"][layer][measure]) for draw in draws])
                       for name, draws in body.items() if name != "labels"})
        for layer in next(iter(body.values()))[0]["layers"]
    ]  # fmt: skip
    chosen = {name: [best(draw["layers"], measure) for draw in draws] for name, draws in body.items()}
    figures = {name: [figure for _, figure in each] for name, each in chosen.items()}
    at = {name: "/".join(dict.fromkeys(layer for layer, _ in each)) for name, each in chosen.items()}
    untrained = next(name for name in body if kind_of(name) == "random")
    low, high = (statistics.mean(figures[name]) for name in (untrained, "labels"))
    shares = {
        name: percent(closed(statistics.mean(values), low, high))
        for name, values in figures.items()
        if name not in (untrained, "labels")
    }
    chosen_cells = {name: f"{at[name]}: {spread(values)}" for name, values in figures.items()}
    return [*columns, Column("chosen layer", chosen_cells), Column("gap closed", shares)]


def best(layers: Record, measure: str) -> tuple[str, float]:
    """The layer that does best on the choosing part, and its test figure."""
    layer = max(layers, key=lambda name: layers[name][measure]["choosing"])
    return layer, value(layers[layer][measure])


def value(found: Record) -> float:
    """Top-1, or the mean average precision."""
    figure: float = found["top1"] if "top1" in found else found["map"]
    return figure


def layers_short(results: Path) -> str:
    """Each pretext layer by layer, on Imagenette."""
    body = bodies(recorded(results / "frozen" / "imagenette"), "probe")[0]
    names = ("random", "kmeans", "autoencoder", "rotation", "l2", "class", "full", "starter", "supervised")
    return table(layer_columns(body, "probe")[:-2], [name for name in names if name in body])


# ---- the evidence ----------------------------------------------------------------------------------------------------


class Measured(NamedTuple):
    """What one measure found: the draws of each network, which network is untrained for each, and the paper's share."""

    title: str
    figures: dict[str, list[float]]
    untrained: dict[str, str]
    paper: float | None

    def share(self, name: str, ceiling: str) -> float | None:
        """The gap closed to a ceiling, if there is one: labels is nobody's body, supervised must be of this one."""
        untrained = self.untrained[name]
        if not {untrained, ceiling} <= self.figures.keys() or name in (untrained, ceiling, "labels"):
            return None
        if ceiling != "labels" and self.untrained[ceiling] != untrained:
            return None
        return closed(*(statistics.mean(self.figures[each]) for each in (name, untrained, ceiling)))

    def cell(self, name: str, ceilings: Sequence[str] = CEILINGS) -> str:
        """A figure and the gaps it closes."""
        shares = [percent(self.share(name, ceiling)) or "-" for ceiling in ceilings]
        brackets = f" ({', '.join(shares)})" if set(shares) != {"-"} else ""
        return spread(self.figures[name]) + brackets


FROZEN = {"tiny-imagenet": MEASURES[:4], "imagenette": MEASURES[:4], "VOC2012": ("svm",)}


def frozen_figures(results: Path, sets: dict[str, tuple[str, ...]] = FROZEN) -> list[Measured]:
    """What each data set and measure of frozen features found."""
    columns = []
    for data, measures in sets.items():
        for measure in measures:
            figures: dict[str, list[float]] = {}
            untrained: dict[str, str] = {}
            for group in bodies(recorded(results / "frozen" / data), measure):
                random = next(name for name in group if kind_of(name) == "random")
                for name, draws in group.items():
                    figures[name] = [best(draw["layers"], measure)[1] for draw in draws]
                    untrained[name] = random
            columns.append(Measured(f"{data}, {measure}", figures, untrained, PUBLISHED.get(measure)))
    return columns


def tuned_figures(results: Path) -> list[Measured]:
    """What each task on VOC found, over the classes that 20 test photos show."""
    columns = []
    for task in sorted(TASKS):
        found = recorded(results / "transfer" / task)
        figures = given(found, f"{TASKS[task].figure}_common")
        columns.append(Measured(task, figures, dict.fromkeys(figures, "random"), PUBLISHED[task]))
    return columns


def given(found: Draws, key: str) -> dict[str, list[float]]:
    """A figure of all draws of each network that has it: no class is common where there are few test photos."""
    figures = {name: [one[key] for one in draws if one[key] is not None] for name, draws in found.items()}
    return {name: values for name, values in figures.items() if values}


def evidence(
    columns: Sequence[Measured], names: Iterable[str] = (), *, ceilings: Sequence[str] = CEILINGS
) -> str:  # fmt: skip
    """A row a network, a column a measure, the paper's shares last."""
    names = list(names) or sorted({name for column in columns for name in column.figures}, key=row_order)
    paper = "the paper's share"
    cells = [
        Column(column.title, {name: column.cell(name, ceilings) for name in names if name in column.figures}
               | {paper: f"({percent(column.paper)})" if column.paper else ""})
        for column in columns
    ]  # fmt: skip
    return table(cells, [*names, paper])


def evidence_frozen(results: Path) -> str:
    """All networks by all measures of frozen features."""
    return evidence(frozen_figures(results))


def evidence_tuned(results: Path) -> str:
    """All networks by all tasks."""
    return evidence(tuned_figures(results))


def evidence_short(results: Path) -> str:
    """The rows and columns that answer the question, with shares of the gap to the ceiling of the same photos."""
    columns = [each for each in frozen_figures(results) if each.title.endswith(", probe")] + tuned_figures(results)
    names = ("random", "kmeans", "full", "starter", "supervised", "labels")
    return evidence(columns, names, ceilings=CEILINGS[:1])


def few_labels(results: Path) -> str:
    """The probe with fewer and fewer labels."""
    columns = [each for each in frozen_figures(results) if "probe" in each.title]
    names = ("random", "kmeans", "rotation", "full", "starter", "supervised")
    return evidence(columns, names, ceilings=CEILINGS[:1]).rpartition("\n")[0]


def cost(results: Path) -> str:
    """What training each network took."""
    found: dict[str, Record] = {}
    for data in FROZEN:
        found |= {name: draws[0] for name, draws in recorded(results / "frozen" / data).items()}
    trained = sorted((name for name, one in found.items() if "photos_seen" in one), key=row_order)
    return table([
        Column("photos seen", {name: f"{found[name]['photos_seen']:,}" for name in trained}),
        Column("minutes", {name: f"{found[name]['seconds'] / 60:.0f}" for name in trained}),
    ], trained)  # fmt: skip


# ---- fine-tuning -----------------------------------------------------------------------------------------------------


def tuned(task: str, results: Path) -> str:
    """The test figure over all classes and over common ones, gaps closed, and how it was chosen."""
    found, figure = recorded(results / "transfer" / task), TASKS[task].figure
    columns = all_and_common(found, figure)
    choosing = {name: spread(values) for name, values in given(found, "choosing").items()}
    rates = {name: f"{draws[0]['learning_rate']:g}" for name, draws in found.items()}
    columns += [Column("chosen on", choosing), Column("rate", rates)]
    return f"**{task}**, {FIGURES[figure]}, %\n\n{table(columns, sorted(found, key=row_order))}"


def dense(method: str, results: Path) -> str:
    """Frozen features pixel by pixel: mean IoU over all classes and over common ones, and the layer chosen."""
    found = recorded(results / "dense" / method)
    about = next(iter(found.values()))[0]["protocol"]
    columns = all_and_common(found, "miou")
    columns += [
        Column("chosen on", {name: spread(values) for name, values in given(found, "choosing").items()}),
        Column("layer", {name: draws[0]["layer"] for name, draws in found.items()}),
        Column("photos, px", {name: str(draws[0]["protocol"]["photo_size"]) for name, draws in found.items()}),
    ]
    size = "their own size" if about["mask_size"] == "original" else f"{about['mask_size']} px"
    title = f"**{method}**, {FIGURES['miou']}, %, {about['test_photos']:,} test photos, masks scored at {size}"
    return f"{title}\n\n{table(columns, sorted(found, key=row_order))}"


def all_and_common(found: Draws, figure: str) -> list[Column]:
    """A figure over all classes, and over the common ones, with intervals where recorded; after each the gap closed."""
    columns = []
    for suffix, title in (("", "all classes (95 %)"), ("_common", "the common ones")):
        key = figure + suffix
        figures = given(found, key)
        means = {name: statistics.mean(values) for name, values in figures.items()}
        cells = {name: spread(values) + interval(found[name], f"low{suffix}", f"high{suffix}")
                 for name, values in figures.items()}  # fmt: skip
        ends = [means[name] for name in ("random", "labels") if name in means]
        shares = {name: percent(closed(mean, *ends)) for name, mean in means.items()
                  if name not in ("random", "labels") and len(ends) == 2}  # fmt: skip
        columns += [Column(title, cells), Column("gap closed", shares)]
    return columns


# ---- recipes ---------------------------------------------------------------------------------------------------------

BASE = "base"


def recipes(results: Path) -> str:
    """Recipes by the mean over all that was measured, the base first."""
    found = {name: draws[0] for name, draws in recorded(results / "recipes").items()}
    if BASE not in found:
        raise UserError(f"{results / 'recipes'} lacks the run {BASE}: run `python benchmarks/reproduce.py recipes`.")
    columns = [
        Column("what differs", {name: ", ".join(f"{key} {value}" for key, value in one["changed"].items())
                                for name, one in found.items()}),
        Column("photos seen", {name: f"{one['photos_seen']:,}" for name, one in found.items()}),
        Column("KL", {name: f"{one['kl']:.3f}" for name, one in found.items() if one["kl"] is not None}),
    ]  # fmt: skip
    for data in found[BASE]["data"]:
        for number, what in enumerate(("best layer", "conv3 to conv7", "kNN")):
            figures = {name: summary(one["data"][data]["layers"])[number] for name, one in found.items()}
            columns.append(Column(f"{data}, {what}", {name: f"{100 * each:.1f}" for name, each in figures.items()}))
    columns.append(Column("mean", {name: f"{100 * score(one):.1f}" for name, one in found.items()}))
    return table(columns, sorted(found, key=lambda name: (name != BASE, -score(found[name]))))


def recipes_short(results: Path) -> str:
    """The recipes and the columns that the answer is about."""
    names = ("base", "mix08", "hypercolumn", "lsuv", "class", "steps 1800", "long", "photos1000",
             "photos10000", "curriculum_first")  # fmt: skip
    columns = ("photos seen", "KL", "imagenette, best layer", "imagenette, conv3 to conv7", "mean")
    text = recipes(results)
    return table([Column(title, {name: cell_of(text, name, title) for name in names}) for title in columns], names)


def summary(layers: Record) -> tuple[float, float, float]:
    """Probe of the best layer, the mean over the deeper half's layers, and kNN of the best layer."""
    probe = [found["probe"]["top1"] for found in layers.values()]
    return max(probe), statistics.mean(probe[2:]), max(found["knn"]["top1"] for found in layers.values())


def score(content: Record) -> float:
    """What recipes are ranked by: the mean over everything measured."""
    return statistics.mean(value for found in content["data"].values() for value in summary(found["layers"]))


# ---- colors ----------------------------------------------------------------------------------------------------------


def colors(name: str, results: Path) -> str:
    """Every measure of every method on a set of photos."""
    found = one_record(results / "colors", name)
    text = score_table(found["metrics"], found["methods"]).rstrip()
    return f"**{name}**, {found['metrics']['photos']} photos\n\n{text}"


def colors_short(name: str, results: Path) -> str:
    """The measures of the paper, and what tells the methods apart."""
    metrics, methods = (one_record(results / "colors", name)[key] for key in ("metrics", "methods"))
    methods = [method for method in methods if method not in ("truth", "nn10")]
    shown: tuple[tuple[str, str, Callable[[float], str]], ...] = (
        ("AuC", "auc", lambda value: f"{100 * value:.1f}"),
        ("AuC rebal.", "auc_rebalanced", lambda value: f"{100 * value:.1f}"),
        ("classifier top-1", "classifier_top1", lambda value: f"{100 * value:.1f}"),
        ("agrees", "classifier_agreement", lambda value: f"{100 * value:.1f}"),
        ("PSNR", "psnr", lambda value: f"{value:.1f}"),
        ("FID", "fid", lambda value: f"{value:.1f}"),
        ("colorful", "colorfulness", lambda value: f"{value:.1f}"),
    )
    columns = [
        Column(title, {method: text(metrics[method][key]) for method in methods})
        for title, key, text in shown
        if metrics[methods[-1]].get(key) is not None
    ]
    return table(columns, methods)


def compared(name: str, other: str, results: Path) -> str:
    """How far the methods are from one of them."""
    differences = one_record(results / "colors", name)["differences"][other]
    titles = next(iter(differences.values()))
    columns = [Column(title, {each: _points(found[title]) for each, found in differences.items()}) for title in titles]
    rows = table(columns, list(differences), corner=f"less {other}")
    return f"**{name}**, differences from {other} in points (95 % interval)\n\n{rows}"


def _points(found: list[float] | None) -> str:
    if found is None:
        return ""
    value, low, high = (f"{100 * each:+.1f}" for each in found)
    return f"{value} ({low} to {high})"


def trimmed(name: str, results: Path) -> str:
    """Rebalanced AuC without the photos that weigh most."""
    found = one_record(results / "colors", name)
    rows: list[tuple[str, ...]] = [("photos left out", "of the weight", *found["methods"])]
    for each in found["trimmed"]:
        figures = (f"{100 * each['auc_rebalanced'][method]:.1f}" for method in found["methods"])
        rows.append((str(each["left_out"]), percent(each["weight"]), *figures))
    return f"**{name}**, rebalanced AuC without the heaviest photos, %\n\n{markdown(rows)}"


def hues(results: Path) -> str:
    """Which colors come back, by their true hue."""
    found = {name: draws[0] for name, draws in recorded(results / "hues").items()}
    names = list(next(iter(found.values()))["hues"])
    columns = [
        Column(f"{each}: {title}", {hue: percent(one["hues"][hue][key]) for hue in names})
        for each, one in found.items()
        for title, key in (("pixels", "pixels"), ("within 45°", "near"))
    ]
    return table(columns, names, corner="true hue")


# ---- the others ------------------------------------------------------------------------------------------------------


def gray(results: Path) -> str:
    """What seeing no color costs."""
    found = one_record(results / "gray", "imagenette")["rows"]
    figures = {name: [f"{100 * one[key]:.1f}" for key in ("top1", "low", "high")] for name, one in found.items()}
    cells = {name: "{} ({} to {})".format(*each) for name, each in figures.items()}
    return table([Column("top-1 % (95 %)", cells)], list(cells))


def ranks(results: Path) -> str:
    """How many directions the features of each layer use."""
    found = {name: draws[0]["ranks"] for name, draws in recorded(results / "rank").items()}
    names = sorted(found, key=row_order)
    layers = next(iter(found.values()))
    return table([Column(layer, {name: f"{found[name][layer]:.1f}" for name in names}) for layer in layers], names)


def held_out(names: Sequence[str], results: Path) -> str:
    """Losses of runs on their held-out photos, over their steps."""
    rows: list[tuple[str, ...]] = [("", "step", "loss", "best constant", "KL, nats a pixel", "chroma")]
    for name in names:
        for at in one_record(results / "training", name)["curve"]:
            figures = (f"{at[f'holdout_{key}']:.3f}" for key in ("loss", "loss_constant", "kl"))
            rows.append((name, str(at["step"]), *figures, f"{at['holdout_chroma']:.1f}"))
    return markdown(rows)


def starts(results: Path) -> str:
    """Initializations: means over seeds (largest less smallest), and from when on the best constant stays beaten."""
    found = {name: draws for name, draws in recorded(results / "training").items() if name.startswith("init-")}
    if not found:
        raise UserError("Nothing recorded of the initializations: run `python benchmarks/reproduce.py initialization`.")
    rows = [("", "held-out loss at the end", "best constant", "below it from step", "spread of colors / true")]
    for name, runs in found.items():
        ends = [run["metrics"] for run in runs]
        first = ", ".join(_first_below(run["curve"]) for run in runs)
        losses, constants = (_mean_and_range([one[key] for one in ends]) for key in ("loss", "loss_constant"))
        rows.append(
            (name, losses, constants, first, _mean_and_range([one["spread"] / one["spread_true"] for one in ends]))
        )
    return markdown(rows)


def _mean_and_range(values: list[float]) -> str:
    return f"{statistics.mean(values):.3f} ({max(values) - min(values):.3f})"


def _first_below(curve: list[Record]) -> str:
    """The step from which on the network stays below the best constant."""
    step = "never"
    for at in reversed(curve):
        if at["holdout_loss"] >= at["holdout_loss_constant"]:
            break
        step = str(at["step"])
    return step
