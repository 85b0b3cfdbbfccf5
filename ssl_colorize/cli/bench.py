"""``ssl-colorize bench``: speed and memory of training and measuring, as ratios."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ssl_colorize.cli import options


@click.command()
@options.out
@click.option(
    "--what",
    type=click.Choice(["training", "probe", "extraction", "knn"]),
    multiple=True,
    help="May be given again. [default: all]",
)
@click.option("--width", type=float, metavar="FACTOR", help="Factor on the width of eccv16. [default: 1]")
@click.option("--crop", type=int, metavar="N", help="Side of the photos trained on. [default: 176]")
@options.batch_size
@options.device
@options.seed
@options.config
@options.assignments
@options.as_json
def bench(
    out: Path | None,
    config: Path | None,
    assignments: tuple[str, ...],
    as_json: bool,
    **flags: Any,
) -> None:
    """Compare with the usual ways to write it, in turns in one process.

    \b
    training    a step against fp32, a search over all bins and a dense target
    probe       all layers and 8 learning rates against one of each
    extraction  features of JPEG files against the bare network
    knn         search and votes against one-hot votes

    A few minutes on 2 cores.
    """
    import os
    from time import perf_counter

    # The profiler that counts memory writes its own messages to standard error unless told before torch is imported.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    from ssl_colorize.bench import BenchSettings, measure, targets_of
    from ssl_colorize.cli.output import command_line, finish, note, results
    from ssl_colorize.report.tables import rows_table
    from ssl_colorize.runs import run_folder, write_config, write_metrics

    flags["what"] = flags["what"] or None
    settings = BenchSettings.resolve(file=config, assignments=assignments, flags=flags)
    folder = run_folder(out, "bench")
    write_config(folder, settings)
    started = perf_counter()
    metrics = measure(settings, say=note)
    content = write_metrics(
        folder,
        command=command_line(),
        metrics=metrics,
        config=settings.model_dump(mode="json"),
        seed=settings.seed,
        seconds=perf_counter() - started,
    )
    if not as_json:
        results().print(rows_table(("what", "measured", "wanted", "holds"), targets_of(metrics)))
    finish(
        content,
        title=f"eccv16 x {settings.width:g}, in {folder}",
        next_step="train: ssl-colorize pretrain --config eccv16_half_64 --data PHOTOS",
        as_json=as_json,
    )
