"""``ssl-colorize predict``: a fine-tuned model's word on photos, drawn and as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ssl_colorize.cli import options

if TYPE_CHECKING:
    from ssl_colorize.album import Job
    from ssl_colorize.finetune.saved import Finetuned


@click.command()
@click.argument("run", metavar="RUN")
@click.argument("photos", nargs=-1, type=click.Path(path_type=Path))
@options.out
@options.device
@options.limit
@options.as_json
def predict(
    run: str, photos: tuple[Path, ...], out: Path | None, device: str | None, limit: int | None, as_json: bool
) -> None:
    """Say what is on PHOTOS (files, and folders to any depth) with the fine-tuned model of RUN.

    Writes a picture for every photo and predictions.json. Nothing is overwritten but pictures made here before. Photos
    that cannot be read are skipped and listed in unreadable.txt.
    """
    import json
    from time import perf_counter

    from ssl_colorize.album import find_inputs, plan
    from ssl_colorize.cli.colorize import list_unreadable
    from ssl_colorize.cli.output import command_line, finish
    from ssl_colorize.device import choose_device
    from ssl_colorize.finetune.saved import load_finetuned
    from ssl_colorize.runs import run_folder, write_atomically, write_metrics

    inputs = find_inputs(photos, out=out, limit=limit, verb=f"predict {run}")
    model = load_finetuned(run, device=choose_device(device or "auto"))
    folder = run_folder(out, "predict")
    jobs = plan(inputs, folder, mark="predicted")
    began = perf_counter()
    results, problems = _run(model, jobs)
    write_atomically(folder / "predictions.json", json.dumps(results, indent=2) + "\n")
    list_unreadable(folder, problems, of=len(jobs))
    content = write_metrics(
        folder, command=command_line(), metrics={"photos": len(results), "unreadable": len(problems)},
        config={"run": run, "photos": [str(photo) for photo in photos]}, seed=None, seconds=perf_counter() - began,
    )  # fmt: skip
    shown = jobs[0].target if len(jobs) == 1 else folder
    finish(
        content | {"predictions": results},
        title=f"{model.task.name} of photos, {folder}",
        next_step=f"look at {shown}, and at {folder / 'predictions.json'}",
        as_json=as_json,
    )


def _run(model: Finetuned, jobs: list[Job]) -> tuple[dict[str, Any], list[str]]:
    """Predict and draw every photo: the results by file, and what was wrong with the others."""
    from ssl_colorize.cli.output import progress_bar
    from ssl_colorize.data import UnreadablePhoto, read_photo
    from ssl_colorize.pictures import encode
    from ssl_colorize.runs import write_atomically

    results: dict[str, Any] = {}
    problems: list[str] = []
    with progress_bar() as bar:
        task = bar.add_task("Predicting", total=len(jobs))
        for job in jobs:
            try:
                photo = read_photo(job.source)
            except UnreadablePhoto as problem:
                problems.append(str(problem))
            else:
                said = model.task.predict(model.model, photo)
                job.target.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(job.target, encode(said.picture, "png"))
                results[str(job.source)] = said.result | {"picture": str(job.target)}
            bar.advance(task)
    return results, problems
