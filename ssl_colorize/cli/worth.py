"""``ssl-colorize worth``: whether pretraining on your own photos is worth it."""

from __future__ import annotations

import click

from ssl_colorize.cli.flags import settings_options
from ssl_colorize.cli.run import Invocation, finish
from ssl_colorize.worth.config import WorthSettings

# What a resumed run may do otherwise without becoming another run.
FREE_TO_CHANGE = frozenset({"workers", "device", "batch_size", "cache", "no_cache"})


@click.command()
@settings_options(
    WorthSettings, "data", "train", "test", "classes", "unlabeled", "minutes", "steps", "recipe", "start", "imagenet",
    "limit", "seed", "workers", "device", "cache", "no_cache", resume=True,
)  # fmt: skip
def worth(invocation: Invocation[WorthSettings]) -> None:
    """Say whether pretraining on your photos is worth it, on one page.

    A network is pretrained to color them, for ten minutes unless told otherwise and never on a test photo. A linear
    probe at 1 %, 10 % and all of the labels compares it with random weights, k-means filters, the network that comes
    along, and one that learned from ImageNet's labels where there is one. What is done when a run stops is not done
    again by --resume.
    """
    from ssl_colorize.report.worth import worth_table, write_page
    from ssl_colorize.worth.run import run_worth

    settings = invocation.settings(free=FREE_TO_CHANGE)
    with invocation.running("worth", settings, taken=("rows", "pretrain", "metrics.json")) as run:
        metrics = run_worth(settings, run.folder, say=run.say, watch=run.watch)
        content = run.write(metrics, seconds=sum(row["seconds"] for row in metrics["rows"].values()))
        page = write_page(metrics, run.folder, about=settings.named)
    for line in metrics["left_out"]:
        click.echo(line, err=True)
    table = worth_table(metrics, title=f"{metrics['verdict']}\n")
    finish(content, table, next_step=f"read {page}.", as_json=invocation.as_json)
