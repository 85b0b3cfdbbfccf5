"""``ssl-colorize score``: how good colors are, in one table, with a gallery."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ssl_colorize.cli.flags import settings_options
from ssl_colorize.cli.run import Invocation, finish, note, results
from ssl_colorize.runs import write_atomically
from ssl_colorize.score.config import ScoreSettings

if TYPE_CHECKING:
    from ssl_colorize.score.run import Scores

# What a resumed run may do otherwise without becoming another run.
FREE_TO_CHANGE = frozenset({"workers", "device", "checkpoint_every", "show"})


@click.command()
@settings_options(
    ScoreSettings, "data", "method", "temperature", "flip", "size", "classifier", "labels", "prior", "prior_data",
    "random_data", "lpips", "fid_features", "show", "limit", "batch_size", "workers", "device", "seed", resume=True,
)  # fmt: skip
def score(invocation: Invocation[ScoreSettings]) -> None:
    """Score colors: any methods, on any photos, by one protocol.

    --data is a folder (of one with val/ or test/ that part is read), a VOC folder, a torchvision set, or samples. All
    figures come photo by photo, so that a stopped run goes on with --resume RUN.
    """
    from ssl_colorize.score.run import LINES, run_score

    settings = invocation.settings(free=FREE_TO_CHANGE)
    with invocation.running("score", settings, taken=(LINES,)) as run:
        scores = run_score(settings, run.folder, resume=invocation.resume is not None, say=run.say, watch=run.watch)
    content = run.write(scores.metrics)
    _report(settings, run.folder, scores, content, as_json=invocation.as_json)


def _report(settings: ScoreSettings, folder: Path, scores: Scores, content: dict[str, Any], *, as_json: bool) -> None:
    """The table on the terminal and as Markdown, the gallery, and what could not be measured."""
    from ssl_colorize.report.tables import best_table, duration, markdown, score_tables

    metrics = scores.metrics
    write_atomically(folder / "table.md", markdown(metrics, scores.methods))
    title = f"{metrics['photos']} photos of {', '.join((*settings.data, *settings.test))}, in {folder}"
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
    next_step = f"look at {drawn}; the table is also in {folder / 'table.md'}"
    finish(content, *tables, next_step=next_step, as_json=as_json)


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
