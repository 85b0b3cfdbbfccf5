"""``ssl-colorize study``: people tell real photos from recolored ones, and what they said."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ssl_colorize.cli import options
from ssl_colorize.errors import UserError

if TYPE_CHECKING:
    from ssl_colorize.study.pictures import Pictures
    from ssl_colorize.study.protocol import ServeSettings

# What may change when a study goes on. The rest is the experiment.
FREE_TO_CHANGE = frozenset({"host", "port", "contact", "device"})


@click.group()
def study() -> None:
    """The perceptual study: can people tell recolored photos from real ones?

    `serve` shows pairs in a web page and keeps the answers, `report` says what share was taken for real.
    """


@study.command()
@click.argument("photos", nargs=-1, metavar="PHOTOS...")
@click.option(
    "--method",
    "methods",
    multiple=True,
    metavar="NAME=RUN|FOLDER",
    help="A run that colors the photos, a folder with a colored picture of each under its name, gray or random; may "
    "be given again. A session has one of them.",
)
@options.out
@click.option("--host", metavar="ADDRESS", help="Where to listen; 0.0.0.0 lets phones in. [default: 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), metavar="N", help="0 takes a free one. [default: 8000]")
@click.option("--contact", metavar="TEXT", help="Whom participants may ask, for the first page.")
@click.option("--practice", type=click.IntRange(0), metavar="N", help="Pairs with feedback. [default: 10]")
@click.option("--trials", type=click.IntRange(1), metavar="N", help="Pairs without. [default: 40]")
@click.option("--temperature", type=click.FloatRange(min=0), metavar="T", help="Of the runs. [default: their own]")
@options.device
@options.limit
@options.resume
@options.config
@options.assignments
@options.as_json
def serve(
    out: Path | None,
    config: Path | None,
    assignments: tuple[str, ...],
    as_json: bool,
    resume: Path | None,
    **flags: Any,
) -> None:
    """Show pairs of PHOTOS, real and recolored, in a web page, until Ctrl-C.

    The paper's protocol: 256 px, one second each, one after the other; 10 pairs with feedback, then 40 without, 10 % of
    them real against the colors of another photo. PHOTOS is what --data takes elsewhere. Answers are stored one by
    one; --resume RUN goes on with a stopped study, and its participants at the same pair.
    """
    from time import perf_counter

    from ssl_colorize.cli.output import command_line, finish, note
    from ssl_colorize.runs import write_metrics
    from ssl_colorize.study.serving import address_of, check_installed, listen
    from ssl_colorize.study.serving import serve as answer_until_stopped

    check_installed()
    settings = _serve_settings(resume, out, config, assignments, {**flags, "photos": flags["photos"] or None,
                                                                  "methods": flags["methods"] or None})  # fmt: skip
    listener = listen(settings.host, settings.port)
    folder, pictures = _pictures(settings, resume, out)

    from ssl_colorize.study.server import Study, create_app
    from ssl_colorize.study.storage import DATABASE, Store

    store = Store(folder / DATABASE, create=True)
    note(f"{len(pictures.names)} photos, {len(pictures.methods)} methods; answers go to {folder / DATABASE}.")
    note(f"Open {address_of(listener, settings.host)} in a browser. Ctrl-C stops; --resume {folder} goes on.")
    started = perf_counter()
    answer_until_stopped(create_app(Study(store, pictures, settings, settings.contact)), listener)
    sessions = store.sessions()
    store.close()
    content = write_metrics(
        folder,
        command=command_line(),
        metrics={
            "photos": len(pictures.names),
            "sessions": {
                name: sum(one.finished for one in sessions if one.method == name) for name in pictures.methods
            },
            "unfinished": sum(not one.finished for one in sessions),
            "answers": sum(len(one.answers) for one in sessions),
        },
        config=settings.model_dump(mode="json"),
        seed=None,
        seconds=perf_counter() - started,
    )
    finish(
        content, title=f"Finished sessions in {folder}", next_step=f"ssl-colorize study report {folder}",
        as_json=as_json,
    )  # fmt: skip


def _serve_settings(
    resume: Path | None, out: Path | None, config: Path | None, assignments: tuple[str, ...], flags: dict[str, Any]
) -> ServeSettings:
    from ssl_colorize.cli.resuming import refuse_taken, resumed_settings
    from ssl_colorize.study.pictures import method_names
    from ssl_colorize.study.protocol import ServeSettings

    if resume is not None:
        return resumed_settings(
            ServeSettings, resume, config=config, free=FREE_TO_CHANGE,
            ask=lambda file: ServeSettings.resolve(file=file, assignments=assignments, flags=flags),
        )  # fmt: skip
    settings = ServeSettings.resolve(file=config, assignments=assignments, flags=flags)
    if not settings.photos:
        raise UserError("No photos given: name a folder of real ones, as in `ssl-colorize study serve photos/`.")
    method_names(settings.methods)
    refuse_taken(out, files=("study.sqlite", "photos"))
    return settings


def _pictures(settings: ServeSettings, resume: Path | None, out: Path | None) -> tuple[Path, Pictures]:
    """The study's folder and its photos, prepared under a bar where they are not yet."""
    from ssl_colorize.cli.output import watching
    from ssl_colorize.data import open_photos
    from ssl_colorize.runs import run_folder, write_config
    from ssl_colorize.score.methods import load_methods
    from ssl_colorize.study.pictures import Pictures, check_enough, prepare

    if resume is not None and (ready := Pictures.prepared(resume)) is not None:
        write_config(resume, settings)
        return resume, ready
    photos = open_photos(settings.photos, split="all", limit=settings.limit)
    check_enough(len(photos), settings.pairs)
    temperatures = () if settings.temperature is None else (settings.temperature,)
    methods = load_methods(settings.methods, temperatures=temperatures, device=settings.device)
    fresh = resume is None and (out is None or not out.exists())
    folder = resume or run_folder(out, "study")
    write_config(folder, settings)
    try:
        with watching() as (say, watch):
            return folder, prepare(photos, methods, folder, needed=settings.pairs, watch=watch, say=say)
    except UserError:
        if fresh:
            _leave_nothing(folder)
        raise


def _leave_nothing(folder: Path) -> None:
    """A study that could not begin leaves no folder behind, unless photos are colored in it: --resume uses those."""
    from shutil import rmtree

    if [path.name for path in folder.glob("photos/*")] in ([], ["truth"]):
        rmtree(folder / "photos", ignore_errors=True)
        (folder / "config.yaml").unlink(missing_ok=True)
        with suppress(OSError):
            folder.rmdir()


@study.command()
@click.argument("run", type=click.Path(file_okay=False, path_type=Path))
@options.out
@click.option(
    "--vigilance",
    type=click.FloatRange(0, 1),
    metavar="SHARE",
    help="Of its vigilance pairs that a session must have right to count. [default: 0.75]",
)
@click.option("--unfinished", is_flag=True, default=None, help="Count unfinished sessions as well.")
@options.seed
@options.config
@options.assignments
@options.as_json
def report(
    run: Path, out: Path | None, config: Path | None, assignments: tuple[str, ...], as_json: bool, **flags: Any
) -> None:  # fmt: skip
    """The share of pairs of RUN in which the recolored photo was labeled real, for each method.

    With standard errors by the bootstrap: participants are resampled, then the pairs within each. Sessions that fail
    the vigilance pairs or were not finished are left out. May be asked while participants are answering.
    """
    from time import perf_counter

    from ssl_colorize.cli.output import command_line, finish, results
    from ssl_colorize.report.plots import study_plot
    from ssl_colorize.report.tables import STUDY_COLUMNS, rows_table, study_rows
    from ssl_colorize.runs import run_folder, write_atomically, write_config, write_metrics
    from ssl_colorize.study.analysis import analyze, answers_csv, sift
    from ssl_colorize.study.pictures import Pictures, method_names
    from ssl_colorize.study.protocol import ReportSettings, ServeSettings
    from ssl_colorize.study.storage import DATABASE, Store

    started = perf_counter()
    settings = ReportSettings.resolve(file=config, assignments=assignments, flags={**flags, "study": str(run)})
    sessions = Store(run / DATABASE).sessions()
    if not any(session.answers for session in sessions):
        raise UserError(f"Nobody has answered in {run} yet: `ssl-colorize study serve --resume {run}` opens its page.")
    asked = ServeSettings.resolve(file=run / "config.yaml")
    pictures = Pictures.prepared(run)
    # The pictures need not be beside a copy of the answers.
    names = method_names(asked.methods) if pictures is None else pictures.methods
    metrics = analyze(
        sessions, names, vigilance=settings.vigilance, unfinished=settings.unfinished,
        seconds=asked.seconds, resamples=settings.resamples, seed=settings.seed,
    )  # fmt: skip
    folder = run_folder(out, "study-report")
    write_config(folder, settings)
    counted = sift(sessions, vigilance=settings.vigilance, unfinished=settings.unfinished).counted
    write_atomically(folder / "answers.csv", answers_csv(sessions, counted))
    study_plot(metrics, folder / "study.png", about=f"Labeled real by {len(counted)} participants")
    content = write_metrics(
        folder,
        command=command_line(),
        metrics=metrics,
        config=settings.model_dump(mode="json"),
        seed=settings.seed,
        seconds=perf_counter() - started,
    )
    if not as_json:
        results().print(rows_table(STUDY_COLUMNS, study_rows(metrics), title=f"Labeled real, in {run}, %"))
    finish(
        content, title="Sessions", as_json=as_json,
        figures={"sessions": metrics["sessions"], "shown": metrics["shown"]},
        next_step=f"look at {folder / 'study.png'}; every answer is a line of {folder / 'answers.csv'}",
    )  # fmt: skip
