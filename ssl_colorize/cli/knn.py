"""``ssl-colorize knn``: what the nearest neighbors in frozen features say."""

from __future__ import annotations

from pathlib import Path

import click

from ssl_colorize.cli.flags import settings_options
from ssl_colorize.cli.measured import FLAGS, on_same, title_of, write_classes
from ssl_colorize.cli.run import Invocation, finish
from ssl_colorize.evaluate.settings import KnnSettings


@click.command()
@settings_options(
    KnnSettings, "encoder", "data", "layers", "k", "temperature", "choose", "leave_one_out", "size", "engine", "memory",
    "also", "corrupt", "neighbors_of", *FLAGS,
)  # fmt: skip
def knn(invocation: Invocation[KnnSettings]) -> None:
    """Classify photos by the photos whose features are most like theirs.

    Nothing is trained: the nearest training photos vote. --k and --temperature may be given again: every combination
    comes from one search. With --neighbors-of nothing is classified, and no labels are needed.
    """
    from ssl_colorize.evaluate import run_knn
    from ssl_colorize.report.sheets import neighbors_sheet
    from ssl_colorize.report.tables import layers_of, layers_table, robustness_tables

    settings = invocation.settings()
    if settings.neighbors_of:
        _retrieve(invocation, settings)
        return
    with invocation.running("knn", settings) as run:
        result = run_knn(settings, say=run.say, watch=run.watch)
    look = write_classes(result.metrics, run.folder, depth=1)
    content = run.write(result.metrics)
    if result.examples is not None:
        look = neighbors_sheet(result.examples, run.folder / "neighbors.png")
    untrained = result.metrics.get("random", {})
    rows = [
        ((layer, *name.removeprefix("k").split("_t")), found, untrained.get(layer, {}).get(name, {}))
        for layer, choices in layers_of(result.metrics).items()
        for name, found in choices.items()
    ]
    table = layers_table(rows, ("layer", "k", "T"), title=title_of(settings, run.folder, content["seconds"]))
    next_step = f"look at {look}, or train a classifier: {on_same('linear-probe', settings)}"
    # Without a choice it is the layer of the picture.
    first, best, beside = max(rows, key=lambda row: row[1]["choosing"]) if settings.choose else rows[-1]
    more = robustness_tables(best, beside, name="{}, k {}, T {}".format(*first))
    finish(content, table, *more, next_step=next_step, as_json=invocation.as_json)


def _retrieve(invocation: Invocation[KnnSettings], settings: KnnSettings) -> None:
    """Show the photos that are most like some."""
    from ssl_colorize.evaluate import run_retrieval
    from ssl_colorize.report.sheets import retrieval_sheet
    from ssl_colorize.report.tables import rows_table

    with invocation.running("knn", settings) as run:
        result = run_retrieval(settings, say=run.say, watch=run.watch)
    content = run.write(result.metrics)
    sheets = [retrieval_sheet(each, run.folder / f"neighbors-{each.layer}.png") for each in result.layers]
    rows = [
        (each.layer, Path(query).name, ", ".join(f"{one['photo']} ({one['similarity']:.4f})" for one in near[:3]))
        for each in result.layers
        for query, near in result.metrics[each.layer]["neighbors"].items()
    ]
    table = rows_table(
        ("layer", "photo", "nearest (cosine)"), rows, title=title_of(settings, run.folder, content["seconds"])
    )
    finish(content, table, next_step=f"look at {sheets[-1]}", as_json=invocation.as_json)
