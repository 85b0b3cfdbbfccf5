"""Flags that mean the same in every verb.

Each is a decorator. A flag that was not given is None (or an empty tuple), so that `config.resolve` can tell it from
one that was: flags win over ``--set``, which wins over ``--config``, which wins over the defaults.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

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

# Of the verbs that measure an encoder.
encoder = click.option(
    "--encoder",
    metavar="RUN",
    help="A run folder, a weights file, eccv16_starter, eccv16-release, random:eccv16, "
    "random:timm-lightness:NAME, random:timm-rgb:NAME, kmeans:eccv16, timm:NAME, timm:NAME@L or efficientnet_lite0.",
)
labeled_data = click.option(
    "--data", multiple=True, metavar="FOLDER", help="Class folders, a VOC folder or a torchvision data set."
)
layers = click.option("--layer", "layers", multiple=True, metavar="NAME", help="May be given again. [default: all]")
untrained = click.option(
    "--random/--no-random", default=None, help="The same on an untrained network. [default: --random]"
)
resize = click.option(
    "--resize", type=click.IntRange(8), metavar="N", help="Short side in pixels. [default: what the network learned at]"
)
crop = click.option("--crop", type=click.IntRange(8), metavar="N", help="Side of the center crop. [default: --resize]")
cache = click.option(
    "--cache", metavar="DIR", help="Folder that keeps features. [default: ~/.cache/ssl-colorize/features]"
)
no_cache = click.option("--no-cache", is_flag=True, default=None, help="Keep no features.")
resume = click.option(
    "--resume", type=click.Path(file_okay=False, path_type=Path), metavar="RUN", help="Go on with a stopped run."
)
seeds = click.option(
    "--seeds", type=click.IntRange(min=1), metavar="N", help="Seeds to run; their mean and spread. [default: 1]"
)


def of_measuring(command: Callable[..., Any]) -> Callable[..., Any]:
    """The flags that the verbs on frozen features end with."""
    flags = (out, untrained, resize, crop, limit, batch_size, workers, device, seed, seeds, cache, no_cache, config,
             assignments, as_json)  # fmt: skip
    for flag in reversed(flags):
        command = flag(command)
    return command
