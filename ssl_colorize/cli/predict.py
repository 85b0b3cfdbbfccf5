"""``ssl-colorize predict``: a fine-tuned model's word on photos, drawn and as JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from ssl_colorize.cli.flags import settings_options
from ssl_colorize.cli.run import Invocation, Watch, finish, list_unreadable
from ssl_colorize.finetune.config import PredictSettings
from ssl_colorize.runs import write_atomically

if TYPE_CHECKING:
    from ssl_colorize.album import Job
    from ssl_colorize.finetune.building import Finetuned


@click.command()
@click.argument("run")
@click.argument("photos", nargs=-1)
@settings_options(PredictSettings, "device", "limit")
def predict(invocation: Invocation[PredictSettings]) -> None:
    """Say what is on PHOTOS (files, and folders to any depth) with the fine-tuned model of RUN.

    Writes a picture for every photo and predictions.json. Nothing is overwritten but pictures made here before. Photos
    that cannot be read are skipped and listed in unreadable.txt.
    """
    from ssl_colorize.album import find_inputs, plan
    from ssl_colorize.data import announce
    from ssl_colorize.device import choose_device
    from ssl_colorize.finetune.building import load_finetuned
    from ssl_colorize.report.tables import figures_table

    settings = invocation.settings()
    with invocation.running("predict", settings) as run:
        inputs = find_inputs(settings.photos, out=invocation.out, limit=settings.limit, verb=f"predict {settings.run}")
        announce(photos=inputs)
        model = load_finetuned(settings.run, device=choose_device(settings.device))
        jobs = plan(inputs, run.folder, mark="predicted")
        results, problems = _predict(model, jobs, watch=run.watch)
        listed = run.folder / "predictions.json"
        write_atomically(listed, json.dumps(results, indent=2) + "\n")
        list_unreadable(run.folder, problems, of=len(jobs))
    content = run.write({"photos": len(results), "unreadable": len(problems)})
    shown = jobs[0].target if len(jobs) == 1 else run.folder
    table = figures_table(content["metrics"], title=f"{model.task.name} of photos, {run.folder}")
    finish(
        content | {"predictions": results},
        table,
        next_step=f"look at {shown}, and at {listed}",
        as_json=invocation.as_json,
    )


def _predict(model: Finetuned, jobs: list[Job], *, watch: Watch) -> tuple[dict[str, Any], list[str]]:
    """Predict and draw every photo: the results by file, and what was wrong with the others."""
    from ssl_colorize.data import UnreadablePhoto, read_photo
    from ssl_colorize.pictures import encode

    results: dict[str, Any] = {}
    problems: list[str] = []
    for number, job in enumerate(jobs, start=1):
        try:
            photo = read_photo(job.source)
        except UnreadablePhoto as problem:
            problems.append(str(problem))
        else:
            said = model.task.predict(model.model, photo)
            job.target.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(job.target, encode(said.picture, "png"))
            results[str(job.source)] = said.result | {"picture": str(job.target)}
        watch("Predicting", number, len(jobs))
    return results, problems
