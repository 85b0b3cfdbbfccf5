"""``ssl-colorize info``: what a checkpoint is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ssl_colorize.cli.flags import JSON
from ssl_colorize.cli.run import finish

if TYPE_CHECKING:
    from rich.table import Table


@click.command()
@click.argument("source")
@JSON
def info(source: str, as_json: bool) -> None:
    """Say what SOURCE is: a run folder, a .safetensors file, the released .pth file, or split:RUN_L+RUN_ab.

    Shows the network, its layers and their sizes, its colors, and the figures of its training.
    """
    from ssl_colorize.encoder import load_encoder
    from ssl_colorize.models import load_pretrained
    from ssl_colorize.models.source import SPLIT
    from ssl_colorize.report.checkpoint import describe

    # Loaded as one, halves that do not fit each other are refused.
    sources = load_encoder(source).source.halves if source.startswith(SPLIT) else (source,)
    abouts = [describe(load_pretrained(str(each))) for each in sources]
    about = abouts[0] if len(abouts) == 1 else {"source": source, "halves": abouts}
    colors = len(abouts) == 1 and about["objective"] != "features" and about["direction"] == "L-to-ab"
    use = f"colorize PHOTO.jpg -o out/ --checkpoint {source}" if colors else f"knn --encoder {source} --data FOLDER"
    tables = [table for each in abouts for table in _tables(each)]
    finish(about, *tables, next_step=f"ssl-colorize {use}", as_json=as_json)


def _tables(about: dict[str, Any]) -> list[Table]:
    """The network, its layers, and the figures of its training, where it has any."""
    from ssl_colorize.report.tables import figures_table, rows_table

    head = {name: value for name, value in about.items() if name not in ("source", "layers", "training")}
    units = {"megabytes": "MB", "prior_entropy": "prior entropy, nats", "input_size": "input size, px"}
    rows = [
        (layer["layer"], layer["channels"], layer["stride"], f"{layer['height']} x {layer['width']}")
        for layer in about["layers"]
    ]
    side = about["input_size"]
    tables = [
        figures_table({units.get(name, name): value for name, value in head.items()}, title=about["source"]),
        rows_table(("layer", "channels", "stride", "map"), rows, title=f"Layers for {side} x {side} pixels"),
    ]
    return tables + ([figures_table(_training(about["training"]), title="Training")] if about["training"] else [])


def _training(training: dict[str, Any]) -> dict[str, Any]:
    """The training figures that people ask for; --json has the whole recipe."""
    from ssl_colorize.report.tables import duration

    recipe = training.get("recipe", {})
    told = ("pretext", "crop", "batch_size", "learning_rate", "seed")
    shown = {name: recipe[name] for name in told if name in recipe}
    if "data" in recipe:
        shown = {"data": ", ".join(recipe["data"])} | shown
    figures = {name: value for name, value in training.items() if name not in ("recipe", "seconds")}
    time = {"time": duration(training["seconds"])} if "seconds" in training else {}
    return shown | time | figures
