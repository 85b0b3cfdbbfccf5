"""Flags that mean the same in every verb.

Each is a decorator. A flag that was not given is None (or an empty tuple), so that `config.resolve` can tell it from
one that was: flags win over ``--set``, which wins over ``--config``, which wins over the defaults.
"""

from __future__ import annotations

from pathlib import Path

import click

out = click.option(
    "-o",
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder to write. [default: runs/VERB-TIME]",
)
device = click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    help="Where to compute; auto takes a GPU where there is one. [default: auto]",
)
seed = click.option("--seed", type=int, metavar="N", help="Seed of everything random.")
workers = click.option("--workers", type=click.IntRange(min=0), metavar="N", help="Processes that decode photos.")
batch_size = click.option("--batch-size", type=click.IntRange(min=1), metavar="N", help="Photos at a time.")
limit = click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Use only N photos, for a quick look.")
config = click.option(
    "--config", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE.yaml", help="Read settings from a file."
)
assignments = click.option(
    "--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Change any setting; may be given again."
)
data = click.option(
    "--data",
    multiple=True,
    metavar="PHOTOS",
    help="A folder of photos, a torchvision data set (cifar10, stl10, imagenette, ...) or 'samples'; may be given "
    "again.",
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print metrics.json on standard output.")
