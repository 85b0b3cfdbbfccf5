"""``ssl-colorize colorize``: photos in, the same photos in color out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ssl_colorize.cli import options
from ssl_colorize.errors import UserError

if TYPE_CHECKING:
    from ssl_colorize.album import Colored, ColorizeSettings, Job
    from ssl_colorize.colorize import Colorizer


@click.command()
@click.argument("photos", nargs=-1, type=click.Path(path_type=Path))
@options.out
@click.option(
    "--checkpoint",
    metavar="RUN",
    help="A run folder, a .safetensors file, the released .pth file, eccv16-release, which is fetched, or "
    "eccv16_starter, which is here. [default: the newest run under runs/, or eccv16_starter]",
)
@click.option(
    "--temperature",
    type=click.FloatRange(min=0),
    metavar="T",
    help="1 gives pale colors, toward 0 vivid and blotchy ones. [default: the checkpoint's, usually 0.38]",
)
@click.option(
    "--size",
    type=click.IntRange(min=8),
    metavar="N",
    help="Short side in pixels of what the network sees. [default: what it was trained at]",
)
@click.option("--compare", is_flag=True, default=None, help="Also write NAME-compare.png: gray | color | original.")
@click.option(
    "--format",
    type=click.Choice(["png", "jpg"]),
    help="PNG keeps every pixel's lightness exactly; JPEG is smaller and nearly does. [default: png]",
)
@options.device
@options.limit
@options.config
@options.assignments
@options.as_json
def colorize(
    photos: tuple[Path, ...],
    out: Path | None,
    config: Path | None,
    assignments: tuple[str, ...],
    as_json: bool,
    **flags: Any,
) -> None:
    """Color PHOTOS: files, and folders to any depth, whose structure is kept.

    Photos come back at their own size and with their own lightness. Nothing is overwritten: a name that is taken by a
    photo gets "-colorized". Photos that cannot be read are skipped and listed in unreadable.txt.
    """
    from time import perf_counter

    from ssl_colorize.album import ColorizeSettings, find_inputs, plan
    from ssl_colorize.cli.output import command_line, finish, note
    from ssl_colorize.colorize import Colorizer
    from ssl_colorize.runs import run_folder, write_config, write_metrics

    flags["photos"] = [str(photo) for photo in photos] or None
    settings = ColorizeSettings.resolve(file=config, assignments=assignments, flags=flags)
    inputs = find_inputs(settings.photos, out=out, limit=settings.limit)
    colorizer = Colorizer.load(settings.checkpoint, device=settings.device)
    note(f"Coloring with {settings.checkpoint} on {colorizer.device}.")
    folder = run_folder(out, "colorize")
    jobs = plan(inputs, folder, kind=settings.format)
    write_config(folder, settings)
    started = perf_counter()
    done, problems, pixels = _run(colorizer, jobs, settings)
    seconds = perf_counter() - started
    list_unreadable(folder, problems, of=len(jobs))
    metrics = {
        "photos": len(done),
        "unreadable": len(problems),
        "photos_per_second": len(done) / seconds,
        "megapixels_per_second": pixels / 1e6 / seconds,
    }
    content = write_metrics(
        folder,
        command=command_line(),
        metrics=metrics,
        config=settings.model_dump(mode="json"),
        seed=None,
        seconds=seconds,
    )
    first = done[0].sheet if settings.compare else done[0].target
    more = "" if settings.compare else ", or add --compare to see gray, color and original side by side"
    finish(content, title=f"Colored photos in {folder}", next_step=f"look at {first}{more}", as_json=as_json)


def _run(colorizer: Colorizer, jobs: list[Job], settings: ColorizeSettings) -> tuple[list[Job], list[str], int]:
    """Color all photos under a progress bar: the photos done, what was wrong with the others, pixels written."""
    from ssl_colorize.album import colorize_all
    from ssl_colorize.cli.output import progress_bar

    done: list[Job] = []
    problems: list[str] = []
    pixels = 0
    results = colorize_all(colorizer, jobs, temperature=settings.temperature, size=settings.size, kind=settings.format)
    with progress_bar() as bar:
        task = bar.add_task("Coloring", total=len(jobs))
        for result in results:
            if result.picture is None:
                problems.append(result.problem)
            else:
                done.append(result.job)
                pixels += result.picture.width * result.picture.height
                if settings.compare:
                    _compare(result)
            bar.advance(task)
    return done, problems, pixels


def _compare(result: Colored) -> None:
    from ssl_colorize.colorize import gray
    from ssl_colorize.report.sheets import photo_sheet

    assert result.picture is not None and result.original is not None
    # No larger than the photo, so that a small one is not blown up, and no larger than three fit on a screen.
    cell = min(640, max(160, *result.picture.size))
    row = (gray(result.original), result.picture, result.original)
    photo_sheet([row], ("gray", "color", "original"), result.job.sheet, cell=cell)


def list_unreadable(folder: Path, problems: list[str], *, of: int) -> None:
    from ssl_colorize.cli.output import note
    from ssl_colorize.runs import write_atomically

    listed = folder / "unreadable.txt"
    if not problems:
        listed.unlink(missing_ok=True)  # of an earlier run into the same folder
        return
    # A file name need not be valid UTF-8, and still has to be told.
    write_atomically(listed, "".join(f"{problem}\n" for problem in problems).encode("utf-8", "backslashreplace"))
    if len(problems) == of:
        raise UserError(f"None of the {of} photos could be read; {listed} says why. The first: {problems[0]}")
    note(f"{len(problems)} of {of} photos could not be read and were skipped: {listed} says why.")
