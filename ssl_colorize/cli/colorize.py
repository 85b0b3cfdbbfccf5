"""``ssl-colorize colorize``: photos in, the same photos in color out."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

import click

from ssl_colorize.album import ColorizeSettings
from ssl_colorize.cli.flags import settings_options
from ssl_colorize.cli.run import Invocation, Watch, finish, list_unreadable, note

if TYPE_CHECKING:
    from ssl_colorize.album import Colored, Job
    from ssl_colorize.colorize import Colorizer


@click.command()
@click.argument("photos", nargs=-1)
@settings_options(ColorizeSettings, "checkpoint", "temperature", "size", "flip", "compare", "format", "device", "limit")
def colorize(invocation: Invocation[ColorizeSettings]) -> None:
    """Color PHOTOS: files, and folders to any depth, whose structure is kept.

    Photos come back at their own size and with their own lightness. Nothing is overwritten: a name that is taken by a
    photo gets "-colorized". Photos that cannot be read are skipped and listed in unreadable.txt.
    """
    from ssl_colorize.album import find_inputs, plan
    from ssl_colorize.colorize import Colorizer
    from ssl_colorize.data import announce
    from ssl_colorize.report.tables import figures_table

    settings = invocation.settings()
    with invocation.running("colorize", settings) as run:
        inputs = find_inputs(settings.photos, out=invocation.out, limit=settings.limit)
        announce(photos=inputs)
        colorizer = Colorizer.load(settings.checkpoint, device=settings.device)
        note(f"Coloring with {settings.checkpoint} on {colorizer.device}.")
        jobs = plan(inputs, run.folder, kind=settings.format)
        started = perf_counter()
        done, problems, pixels = _color(colorizer, jobs, settings, watch=run.watch)
        seconds = perf_counter() - started
        list_unreadable(run.folder, problems, of=len(jobs))
    metrics = {
        "photos": len(done),
        "unreadable": len(problems),
        "photos_per_second": len(done) / seconds,
        "megapixels_per_second": pixels / 1e6 / seconds,
    }
    content = run.write(metrics, seconds=seconds)
    first = done[0].sheet if settings.compare else done[0].target
    more = "" if settings.compare else ", or add --compare to see gray, color and original side by side"
    table = figures_table(content["metrics"], title=f"Colored photos in {run.folder}")
    finish(content, table, next_step=f"look at {first}{more}", as_json=invocation.as_json)


def _color(
    colorizer: Colorizer, jobs: list[Job], settings: ColorizeSettings, *, watch: Watch
) -> tuple[list[Job], list[str], int]:
    """Color all photos: those done, what was wrong with the others, pixels written."""
    from ssl_colorize.album import colorize_all

    done: list[Job] = []
    problems: list[str] = []
    pixels = 0
    results = colorize_all(
        colorizer, jobs, temperature=settings.temperature, size=settings.size, flip=settings.flip, kind=settings.format
    )
    for number, result in enumerate(results, start=1):
        if result.picture is None:
            problems.append(result.problem)
        else:
            done.append(result.job)
            pixels += result.picture.width * result.picture.height
            if settings.compare:
                _compare(result)
        watch("Coloring", number, len(jobs))
    return done, problems, pixels


def _compare(result: Colored) -> None:
    from ssl_colorize.colorize import gray
    from ssl_colorize.report.sheets import photo_sheet

    assert result.picture is not None and result.original is not None
    # No larger than the photo, so that a small one is not blown up, and no larger than three fit on a screen.
    cell = min(640, max(160, *result.picture.size))
    row = (gray(result.original), result.picture, result.original)
    photo_sheet([row], ("gray", "color", "original"), result.job.sheet, cell=cell)
