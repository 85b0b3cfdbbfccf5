"""``ssl-colorize prior``: how common each color is, and the weights that even that out."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ssl_colorize.cli.flags import settings_options
from ssl_colorize.cli.run import Invocation, finish
from ssl_colorize.prior import PriorSettings
from ssl_colorize.runs import write_atomically

if TYPE_CHECKING:
    from ssl_colorize.prior import MeasuredPrior


@click.command()
@settings_options(PriorSettings, "data", "limit", "neighbors", "mix", "workers", "batch_size")
def prior(invocation: Invocation[PriorSettings]) -> None:
    """Measure how common each color is in the photos, and the weight each should get in training.

    Writes prior.npy and weights.npy (313 numbers each), a picture of both, and the figures. Photos stream through:
    any number of them fits.
    """
    from ssl_colorize.data import announce, open_photos
    from ssl_colorize.prior import measure_prior
    from ssl_colorize.report.tables import figures_table

    settings = invocation.settings()
    counted = 0
    with invocation.running("prior", settings) as run:
        photos = open_photos(**settings.sources, limit=settings.limit)
        announce(photos=photos)

        def count(more: int) -> None:
            nonlocal counted
            counted += more
            run.watch("Counting", counted, len(photos))

        measured = measure_prior(photos, settings, run.folder, on_batch=count)
    content = run.write(measured.figures())
    _write(run.folder, measured)
    finish(
        content,
        figures_table(content["metrics"], title=f"Colors of {settings.named}, in {run.folder}"),
        next_step=f"look at {run.folder / 'prior.png'}, or train with it: ssl-colorize pretrain"
        f"{settings.flags} --set prior={run.folder / 'prior.npy'}",
        as_json=invocation.as_json,
    )


def _write(folder: Path, measured: MeasuredPrior) -> None:
    """prior.npy, weights.npy and prior.png."""
    import numpy as np

    from ssl_colorize.color import ab_bins
    from ssl_colorize.report.plots import prior_plot

    for name, values in (("prior", measured.prior), ("weights", measured.weights)):
        encoded = io.BytesIO()
        np.save(encoded, values.numpy())
        write_atomically(folder / f"{name}.npy", encoded.getvalue())
    figures = measured.figures()
    about = (
        f"{measured.photos:,} photos, {figures['gray_share']:.1%} of them without color; "
        f"{measured.pixels:,} pixels; entropy {figures['entropy']:.3f} nats"
    )
    prior_plot(measured.prior.numpy(), measured.weights.numpy(), ab_bins().numpy(), folder / "prior.png", about=about)
