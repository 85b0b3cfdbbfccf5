"""``ssl-colorize score``: how good colors are, in one table, with a gallery."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ssl_colorize.cli import options
from ssl_colorize.cli.measuring import measuring, resolve
from ssl_colorize.cli.resuming import refuse_taken, resumed_settings
from ssl_colorize.errors import UserError

if TYPE_CHECKING:
    from ssl_colorize.score.config import ScoreSettings
    from ssl_colorize.score.run import Scores

# What a resumed run may do otherwise without becoming another run.
FREE_TO_CHANGE = frozenset({"workers", "device", "checkpoint_every", "show"})
METHOD = (
    "truth, gray, random, a run folder, a weights file, or a folder of pictures that any program colored, found by the "
    "photos' names; also as NAME=SOURCE; may be given again. [default: the first three, and the newest run or "
    "eccv16_starter]"
)


@click.command()
@options.data
@click.option("--method", multiple=True, metavar="METHOD", help=METHOD)
@click.option(
    "--temperature",
    type=click.FloatRange(0),
    multiple=True,
    metavar="T",
    help="Of the networks; several make a sweep from mode (0) to mean (1). [default: each network's own]",
)
@click.option("--size", type=click.IntRange(32), metavar="N", help="Short side and center crop in px. [default: 256]")
@click.option(
    "--classifier",
    metavar="NAME",
    help="Looks at the recolored photos: efficientnet_lite0, timm:NAME, torchvision:NAME, the run of a finetune "
    "classification, or none. [default: efficientnet_lite0, if installed]",
)
@click.option("--labels", metavar="FILE.csv", help="Photo and class in two columns. [default: folder names say it]")
@click.option("--prior", metavar="FILE.npy", help="Rebalances AuC. [default: that of the first network's training]")
@click.option("--prior-data", multiple=True, metavar="PHOTOS", help="Count that prior on these photos instead.")
@click.option(
    "--random-data",
    multiple=True,
    metavar="PHOTOS",
    help="Where random takes colors from. [default: the scored photos]",
)
@click.option("--lpips", type=click.Choice(["alex", "vgg", "squeeze", "none"]), help="[default: alex, if to be had]")
@click.option(
    "--fid-features",
    metavar="NAME",
    help="inception, an encoder such as efficientnet_lite0, or none. [default: inception, if to be had]",
)
@click.option("--show", type=click.IntRange(0), metavar="N", help="Photos in the gallery. [default: 12]")
@options.out
@options.resume
@options.limit
@options.batch_size
@options.workers
@options.device
@options.seed
@options.config
@options.assignments
@options.as_json
def score(
    out: Path | None,
    config: Path | None,
    assignments: tuple[str, ...],
    as_json: bool,
    resume: Path | None,
    **flags: Any,
) -> None:
    """Score colors: any methods, on any photos, by one protocol.

    --data is a folder (of one with val/ or test/ that part is read), a VOC folder, a torchvision set, or samples. All
    figures come photo by photo, so that a stopped run goes on with --resume RUN.
    """
    from time import perf_counter

    from ssl_colorize.cli.output import command_line, note
    from ssl_colorize.engine.signals import Interrupted
    from ssl_colorize.runs import write_metrics
    from ssl_colorize.score.config import ScoreSettings
    from ssl_colorize.score.run import LINES, run_score

    def ask(file: Path | None) -> ScoreSettings:
        return resolve(ScoreSettings, file=file, assignments=assignments, flags=flags)

    if resume is None:
        refuse_taken(out, files=(LINES,))
        settings = ask(config)
    else:
        if out is not None:
            raise UserError("--resume goes on in the folder of the run; leave --out away.")
        settings = resumed_settings(ScoreSettings, resume, config=config, ask=ask, free=FREE_TO_CHANGE)
    began = perf_counter()
    try:
        with measuring("score", settings, resume or out) as run:
            scores = run_score(settings, run.folder, resume=resume is not None, say=run.say, watch=run.watch)
    except Interrupted as stopped:
        note(str(stopped))
        click.get_current_context().exit(128 + stopped.signum)
    content = write_metrics(
        run.folder, command=command_line(), metrics=scores.metrics, config=settings.model_dump(mode="json"),
        seed=settings.seed, seconds=perf_counter() - began,
    )  # fmt: skip
    _report(settings, run.folder, scores, content, as_json=as_json)


def _report(settings: ScoreSettings, folder: Path, scores: Scores, content: dict[str, Any], *, as_json: bool) -> None:
    """The table on the terminal and as Markdown, the gallery, and what could not be measured."""
    from ssl_colorize.cli.measured import end
    from ssl_colorize.cli.output import note, results
    from ssl_colorize.report.tables import best_table, duration, markdown, score_tables
    from ssl_colorize.runs import write_atomically

    metrics = scores.metrics
    write_atomically(folder / "table.md", markdown(metrics, scores.methods))
    title = f"{metrics['photos']} photos of {', '.join(settings.data)}, in {folder}"
    drawn = _draw(settings, folder, scores, title)
    # A file takes the table whole; a terminal gets it in two halves where it is narrow.
    whole_title = f"{title}, after {duration(content['seconds'])}"
    tables = score_tables(metrics, scores.methods, title=whole_title, width=results().width)
    tables += [best_table(metrics["best_temperature"])] if "best_temperature" in metrics else []
    for name, text in metrics["protocol"].items():
        note(f"{name.replace('_', ' ')}: {text}.")
    for name, reason in metrics["not_measured"].items():
        note(f"{name.replace('_', ' ')} not measured: {reason.rstrip('.')}.")
    if "best_temperature" in metrics:
        note("Choose a temperature on photos that nothing is reported on: a validation split.")
    end(
        content,
        tables,
        next_step=f"look at {drawn}; the table is also in {folder / 'table.md'}",
        as_json=as_json,
    )


def _draw(settings: ScoreSettings, folder: Path, scores: Scores, title: str) -> Path:
    """gallery.html, gallery.png, and of networks at several temperatures a sheet each; what to look at first."""
    from ssl_colorize.report.gallery import gallery_page, gallery_sheet
    from ssl_colorize.report.tables import score_cells

    if not scores.examples:
        return folder / "metrics.json"
    columns, rows = score_cells(scores.metrics, scores.methods)
    page = gallery_page(
        folder / "gallery.html", scores.examples, title=title, columns=columns, rows=rows,
        protocol=scores.metrics["protocol"],
    )  # fmt: skip
    gallery_sheet(folder / "gallery.png", scores.examples)
    for name in scores.metrics.get("best_temperature", {}):
        swept = [f"{name}@{each:g}" for each in sorted(settings.temperature)]
        gallery_sheet(folder / f"temperatures-{name}.png", scores.examples, methods=swept)
    return page
