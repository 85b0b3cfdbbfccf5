"""``ssl-colorize study``: people tell real photos from recolored ones, and what they said."""

from __future__ import annotations

from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING

import click

from ssl_colorize.cli.flags import settings_options
from ssl_colorize.cli.run import Invocation, Run, finish, note
from ssl_colorize.errors import UserError
from ssl_colorize.runs import write_atomically
from ssl_colorize.study.protocol import ReportSettings, ServeSettings

if TYPE_CHECKING:
    from ssl_colorize.study.pictures import Pictures

# What may change when a study goes on. The rest is the experiment.
FREE_TO_CHANGE = frozenset({"host", "port", "contact", "device"})


@click.group()
def study() -> None:
    """The perceptual study: can people tell recolored photos from real ones?

    `serve` shows pairs in a web page and keeps the answers, `report` says what share was taken for real.
    """


@study.command()
@click.argument("photos", nargs=-1, metavar="PHOTOS...")
@settings_options(
    ServeSettings, "methods", "host", "port", "contact", "practice", "trials", "temperature", "device", "limit",
    resume=True,
)  # fmt: skip
def serve(invocation: Invocation[ServeSettings]) -> None:
    """Show pairs of PHOTOS, real and recolored, in a web page, until Ctrl-C.

    The paper's protocol: 256 px, one second each, one after the other; 10 pairs with feedback, then 40 without, 10 % of
    them real against the colors of another photo. PHOTOS is what --data takes elsewhere. Answers are stored one by
    one; --resume RUN goes on with a stopped study, and its participants at the same pair.
    """
    from ssl_colorize.report.tables import figures_table
    from ssl_colorize.study.pictures import method_names
    from ssl_colorize.study.serving import address_of, check_installed, listen
    from ssl_colorize.study.serving import serve as answer_until_stopped

    check_installed()
    settings = invocation.settings(free=FREE_TO_CHANGE)
    if not settings.photos:
        raise UserError("No photos given: name a folder of real ones, as in `ssl-colorize study serve photos/`.")
    method_names(settings.methods)
    listener = listen(settings.host, settings.port)
    with invocation.running("study", settings, taken=("study.sqlite", "photos")) as run:
        pictures = _pictures(settings, run, prepared=invocation.resume is not None and not invocation.dry_run)

    from ssl_colorize.study.server import Study, create_app
    from ssl_colorize.study.storage import DATABASE, Store

    answers = run.folder / DATABASE
    store = Store(answers, create=True)
    note(f"{len(pictures.names)} photos, {len(pictures.methods)} methods; answers go to {answers}.")
    note(f"Open {address_of(listener, settings.host)} in a browser. Ctrl-C stops; --resume {run.folder} goes on.")
    answer_until_stopped(create_app(Study(store, pictures, settings, settings.contact)), listener)
    sessions = store.sessions()
    store.close()
    content = run.write({
        "photos": len(pictures.names),
        "sessions": {name: sum(one.finished for one in sessions if one.method == name) for name in pictures.methods},
        "unfinished": sum(not one.finished for one in sessions),
        "answers": sum(len(one.answers) for one in sessions),
    })  # fmt: skip
    table = figures_table(content["metrics"], title=f"Finished sessions in {run.folder}")
    finish(content, table, next_step=f"ssl-colorize study report {run.folder}", as_json=invocation.as_json)


def _pictures(settings: ServeSettings, run: Run, *, prepared: bool) -> Pictures:
    """The study's photos, prepared under a bar where they are not yet."""
    from ssl_colorize.data import announce, open_photos
    from ssl_colorize.score.methods import load_methods
    from ssl_colorize.study.pictures import Pictures, check_enough, prepare

    if prepared and (ready := Pictures.prepared(run.folder)) is not None:
        return ready
    photos = open_photos(settings.photos, split="all", limit=settings.limit)
    announce(photos=photos)
    check_enough(len(photos), settings.pairs)
    temperatures = () if settings.temperature is None else (settings.temperature,)
    methods = load_methods(settings.methods, temperatures=temperatures, device=settings.device)
    try:
        return prepare(photos, methods, run.folder, needed=settings.pairs, watch=run.watch, say=run.say)
    except UserError:
        # Photos that are colored are kept, for --resume; real ones alone are worth nothing.
        if not prepared and [path.name for path in run.folder.glob("photos/*")] in ([], ["truth"]):
            rmtree(run.folder / "photos", ignore_errors=True)
        raise


@study.command()
@click.argument("study", metavar="RUN", type=click.Path(file_okay=False))
@settings_options(ReportSettings, "vigilance", "unfinished", "seed")
def report(invocation: Invocation[ReportSettings]) -> None:
    """The share of pairs of RUN in which the recolored photo was labeled real, for each method.

    With standard errors by the bootstrap: participants are resampled, then the pairs within each. Sessions that fail
    the vigilance pairs or were not finished are left out. May be asked while participants are answering.
    """
    from ssl_colorize.report.plots import study_plot
    from ssl_colorize.report.tables import STUDY_COLUMNS, figures_table, rows_table, study_rows
    from ssl_colorize.study.analysis import analyze, answers_csv, sift
    from ssl_colorize.study.pictures import Pictures, method_names
    from ssl_colorize.study.storage import DATABASE, Store

    settings = invocation.settings()
    served = Path(settings.study)
    sessions = Store(served / DATABASE).sessions()
    if not any(session.answers for session in sessions):
        raise UserError(
            f"Nobody has answered in {served} yet: `ssl-colorize study serve --resume {served}` opens its page."
        )
    protocol = ServeSettings.resolve(file=served / "config.yaml")
    pictures = Pictures.prepared(served)
    # The pictures need not be beside a copy of the answers.
    names = method_names(protocol.methods) if pictures is None else pictures.methods
    with invocation.running("study-report", settings) as run:
        metrics = analyze(
            sessions, names, vigilance=settings.vigilance, unfinished=settings.unfinished,
            seconds=protocol.seconds, resamples=settings.resamples, seed=settings.seed,
        )  # fmt: skip
        counted = sift(sessions, vigilance=settings.vigilance, unfinished=settings.unfinished).counted
        listed, drawn = run.folder / "answers.csv", run.folder / "study.png"
        write_atomically(listed, answers_csv(sessions, counted))
        study_plot(metrics, drawn, about=f"Labeled real by {len(counted)} participants")
    content = run.write(metrics)
    finish(
        content,
        rows_table(STUDY_COLUMNS, study_rows(metrics), title=f"Labeled real, in {served}, %"),
        figures_table({"sessions": metrics["sessions"], "shown": metrics["shown"]}, title="Sessions"),
        next_step=f"look at {drawn}; every answer is a line of {listed}",
        as_json=invocation.as_json,
    )
