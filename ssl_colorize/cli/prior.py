"""``ssl-colorize prior``: how common each color is, and the weights that even that out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ssl_colorize.cli import options

if TYPE_CHECKING:
    from ssl_colorize.prior import MeasuredPrior


@click.command()
@options.data
@options.out
@options.limit
@click.option(
    "--neighbors",
    type=click.IntRange(1, 313),
    metavar="N",
    help="Bins that share a pixel's color: 5 in the paper, 10 in its released code. [default: 5]",
)
@click.option(
    "--mix",
    type=click.FloatRange(0, 1),
    metavar="SHARE",
    help="Share of the uniform distribution in the weights: 1 weighs all colors alike. [default: 0.5]",
)
@options.workers
@options.batch_size
@options.config
@options.assignments
@options.as_json
def prior(
    out: Path | None,
    config: Path | None,
    assignments: tuple[str, ...],
    as_json: bool,
    data: tuple[str, ...],
    **flags: Any,
) -> None:
    """Measure how common each color is in the photos, and the weight each should get in training.

    Writes prior.npy and weights.npy (313 numbers each), a picture of both, and the figures. Photos stream through:
    any number of them fits.
    """
    from time import perf_counter

    from ssl_colorize.cli.output import command_line, finish, progress_bar
    from ssl_colorize.data import open_photos
    from ssl_colorize.prior import PriorSettings, measure_prior
    from ssl_colorize.runs import run_folder, write_config, write_metrics

    settings = PriorSettings.resolve(file=config, assignments=assignments, flags={**flags, "data": data or None})
    photos = open_photos(settings.data, limit=settings.limit)
    folder = run_folder(out, "prior")
    write_config(folder, settings)
    started = perf_counter()
    with progress_bar() as bar:
        task = bar.add_task("Counting", total=len(photos))
        measured = measure_prior(photos, settings, folder, on_batch=lambda count: bar.advance(task, count))
    seconds = perf_counter() - started
    _write(folder, measured)
    content = write_metrics(
        folder,
        command=command_line(),
        metrics=measured.figures() | {"photos_per_second": measured.photos / seconds},
        config=settings.model_dump(mode="json"),
        seed=None,
        seconds=seconds,
    )
    finish(
        content,
        title=f"Colors of {', '.join(settings.data)}, in {folder}",
        next_step=f"look at {folder / 'prior.png'}, or train with it: ssl-colorize pretrain"
        f"{''.join(f' --data {item}' for item in settings.data)} --set prior={folder / 'prior.npy'}",
        as_json=as_json,
    )


def _write(folder: Path, measured: MeasuredPrior) -> None:
    """prior.npy, weights.npy and prior.png."""
    import io

    import numpy as np

    from ssl_colorize.color import ab_bins
    from ssl_colorize.report.plots import prior_plot
    from ssl_colorize.runs import write_atomically

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
