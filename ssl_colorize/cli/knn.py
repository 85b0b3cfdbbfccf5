"""``ssl-colorize knn``: what the nearest neighbors in frozen features say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ssl_colorize.cli import options
from ssl_colorize.cli.measured import end, figures_rows, layers_of, on_same, take_classes, title_of, write_measured
from ssl_colorize.cli.measuring import measuring, resolve


@click.command()
@options.encoder
@options.labeled_data
@options.layers
@click.option("--k", type=click.IntRange(1), multiple=True, metavar="K", help="Neighbors that vote. [default: 20]")
@click.option(
    "--temperature",
    type=click.FloatRange(0, min_open=True),
    multiple=True,
    metavar="T",
    help="A vote weighs exp(similarity / T). [default: 0.07]",
)
@click.option(
    "--choose",
    is_flag=True,
    default=None,
    help="Of several K and T, choose one on a split of the training photos and report that one only.",
)
@click.option(
    "--leave-one-out",
    is_flag=True,
    default=None,
    help="Classify the training photos by each other, none by itself; the test photos are not read.",
)
@click.option("--size", type=click.IntRange(1), metavar="N", help="Average maps to N x N cells. [default: 1]")
@click.option("--engine", type=click.Choice(["torch", "faiss"]), help="Both are exact. [default: torch]")
@click.option("--memory", type=float, metavar="GIB", help="For the search. [default: 0.25; a quarter of a GPU's]")
@options.of_measuring
def knn(out: Path | None, config: Path | None, assignments: tuple[str, ...], as_json: bool, **flags: Any) -> None:
    """Classify photos by the photos whose features are most like theirs.

    Nothing is trained: the nearest training photos vote. --k and --temperature may be given again: every combination
    comes from one search.
    """
    import json
    from time import perf_counter

    from ssl_colorize.evaluate.knn import run_knn
    from ssl_colorize.evaluate.settings import KnnSettings
    from ssl_colorize.report.sheets import neighbors_sheet
    from ssl_colorize.runs import write_atomically

    settings = resolve(KnnSettings, file=config, assignments=assignments, flags=flags)
    began = perf_counter()
    with measuring("knn", settings, out) as run:
        result = run_knn(settings, say=run.say, watch=run.watch)
    look = run.folder / "per_class.json"
    write_atomically(look, json.dumps(take_classes(result.metrics, figures=1), indent=2) + "\n")
    content = write_measured(run.folder, settings, result.metrics, seconds=perf_counter() - began)
    if result.examples is not None:
        look = neighbors_sheet(result.examples, run.folder / "neighbors.png")
    untrained = result.metrics.get("random", {})
    rows = [
        ((layer, *name.removeprefix("k").split("_t")), found, untrained.get(layer, {}).get(name, {}))
        for layer, choices in layers_of(result.metrics).items()
        for name, found in choices.items()
    ]
    table = figures_rows(rows, ("layer", "k", "T"), title=title_of(settings, run.folder, content["seconds"]))
    next_step = f"look at {look}, or train a classifier: {on_same('linear-probe', settings)}"
    end(content, [table], next_step=next_step, as_json=as_json)
