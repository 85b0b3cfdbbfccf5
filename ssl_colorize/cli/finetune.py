"""``ssl-colorize finetune TASK``: train an encoder on for a task, and score it by the field's own figure."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ssl_colorize.cli import options
from ssl_colorize.cli.resuming import first_process, refuse_taken, refuse_unknown_folder, resumed_settings
from ssl_colorize.errors import UserError

if TYPE_CHECKING:
    from ssl_colorize.finetune.config import FinetuneSettings
    from ssl_colorize.finetune.trainer import Finished

# What a resumed run may do otherwise without becoming another run.
FREE_TO_CHANGE = frozenset({"workers", "device", "checkpoint_every"})

Decorator = Callable[[Any], Any]

# Flags of every task, as they stand in its help.
SHARED: tuple[Decorator, ...] = (
    options.encoder,
    click.option(
        "--train-from",
        metavar="LAYER",
        help="The first layer that learns: all of them, one by name, or head for none. [default: all]",
    ),
    options.layers,
    click.option("--color/--gray", "color", default=None, help="What the encoder sees. [default: as it learned]"),
    click.option(
        "--rescale/--no-rescale", default=None, help="Fold BatchNorm, and let all layers learn at similar rates."
    ),
    click.option(
        "--learning-rate", "learning_rates", type=float, multiple=True, metavar="RATE",
        help="May be given again: one is chosen.",
    ),
    click.option("--epochs", type=float, metavar="N", help="Passes over the photos."),
    click.option("--steps", type=click.IntRange(min=1), metavar="N", help="Optimizer steps, in place of --epochs."),
    click.option("--refit/--no-refit", default=None, help="Train again on all training photos. [default: --refit]"),
    click.option("--size", type=click.IntRange(8), metavar="N", help="Short side of photos, in pixels."),
    options.out,
    options.config,
    options.batch_size,
    options.limit,
    options.seed,
    options.workers,
    options.device,
    options.resume,
    options.assignments,
    options.as_json,
)  # fmt: skip

ANNOTATED = click.option("--data", multiple=True, metavar="VOC|COCO", help="A VOC or COCO folder.")

# Task -> what it takes as --data, what its help says, and flags of its own (each a field of its settings).
_TASKS: dict[str, tuple[Decorator, str, tuple[Decorator, ...]]] = {
    "classification": (
        options.labeled_data,
        "Photos with one label each (top-1), or a VOC folder with several (mean average precision).",
        (
            click.option(
                "--crop", type=click.IntRange(8), metavar="N", help="Side of the window. [default: 7/8 of size]"
            ),
        ),
    ),
    "detection": (
        ANNOTATED,
        "Boxes around objects (VOC mean average precision at IoU 0.5, and COCO's).",
        (),
    ),
    "segmentation": (
        ANNOTATED,
        "A class for every pixel (mean intersection over union).",
        (),
    ),
}


@click.group()
def finetune() -> None:
    """Train an encoder for a task, and score it.

    Learning rate and length are chosen on a part of the training photos; then the encoder trains on all of them, and
    the test photos are read once. Ctrl-C saves before it stops. For several GPUs: torchrun --nproc-per-node N -m
    ssl_colorize finetune ...
    """


def _add(name: str) -> None:
    data, about, own = _TASKS[name]

    def command(**given: Any) -> None:
        _finetune(name, **given)

    for decorate in reversed((SHARED[0], data, *SHARED[1:], *own)):
        command = decorate(command)
    finetune.command(name, help=about)(command)


for _name in _TASKS:
    _add(_name)


def _finetune(
    name: str,
    *,
    out: Path | None,
    config: Path | None,
    assignments: tuple[str, ...],
    as_json: bool,
    resume: Path | None,
    **flags: Any,
) -> None:
    from ssl_colorize.cli.output import note
    from ssl_colorize.engine.signals import Interrupted
    from ssl_colorize.finetune.trainer import finetune as train
    from ssl_colorize.runs import run_folder, write_config

    settings = _settings(name, config, assignments, flags, resume)
    refuse_unknown_folder(resume or out)
    if resume is None:
        refuse_taken(out, files=("checkpoint.pt", "finetuned.safetensors"))
    fresh = resume is None and (out is None or not out.exists())
    folder = resume or run_folder(out, f"finetune-{name}")
    try:
        if first_process():
            write_config(folder, settings)
        done = train(name, settings, folder, resume=resume is not None, say=note)
    except Interrupted as stopped:
        if first_process():
            note(str(stopped))
        click.get_current_context().exit(128 + stopped.signum)
    except UserError:
        if fresh:
            _leave_nothing(folder)
        raise
    if done is not None:
        _report(name, settings, folder, done, as_json=as_json)


def _settings(
    name: str, config: Path | None, assignments: tuple[str, ...], flags: dict[str, Any], resume: Path | None
) -> FinetuneSettings:
    from ssl_colorize.cli.measuring import resolve
    from ssl_colorize.finetune.tasks import task_type

    kind = task_type(name).settings_type
    # --steps and --epochs replace each other, also what a file says; and rescaling folds.
    if (flags["epochs"] is None) != (flags["steps"] is None):
        assignments = ("steps=null" if flags["steps"] is None else "epochs=null", *assignments)
    if flags["rescale"]:
        assignments = ("batchnorm=fold", *assignments)
    if resume is None:
        return resolve(kind, file=config, assignments=assignments, flags=flags)
    return resumed_settings(
        kind, resume, config=config, free=FREE_TO_CHANGE,
        ask=lambda file: resolve(kind, file=file, assignments=assignments, flags=flags),
    )  # fmt: skip


def _leave_nothing(folder: Path) -> None:
    """A run that could not begin leaves no folder behind; one that trained keeps what it wrote."""
    if (folder / "checkpoint.pt").exists() or not first_process():
        return
    log = folder / "metrics.jsonl"
    if log.exists() and log.stat().st_size:
        return
    with suppress(OSError):
        for file in (folder / "config.yaml", log, *folder.glob("events.out.*")):
            file.unlink(missing_ok=True)
        folder.rmdir()


def _report(name: str, settings: FinetuneSettings, folder: Path, done: Finished, *, as_json: bool) -> None:
    import json

    from ssl_colorize.cli.output import command_line, finish, note
    from ssl_colorize.report.plots import learning_curves
    from ssl_colorize.report.sheets import write_sheets
    from ssl_colorize.runs import write_atomically, write_metrics

    metrics = dict(done.metrics)
    # Hundreds of figures, perhaps: a file of their own keeps metrics.json readable.
    if "per_class" in metrics:
        write_atomically(folder / "per_class.json", json.dumps(metrics.pop("per_class"), indent=2) + "\n")
    seconds = metrics.pop("seconds")
    content = write_metrics(
        folder, command=command_line(), metrics=metrics, config=settings.model_dump(mode="json"), seed=settings.seed,
        seconds=seconds,
    )  # fmt: skip
    drawn = [learning_curves(folder, content["metrics"], main=done.task.main)]
    drawn += write_sheets(done.task.pictures(done.judged), folder)
    note(f"Drew {', '.join(path.name for path in drawn)} in {folder}.")
    part = "all training photos" if metrics["refit"] else "the training photos less those chosen on"
    note(f"Trained on {part}; the test photos were read once.")
    shown = {key: value for key, value in content["metrics"].items() if isinstance(value, int | float)}
    finish(
        content,
        title=f"{name} with {settings.encoder}, {folder}",
        next_step=f"look at {drawn[-1]}, then try photos of your own: ssl-colorize predict {folder} PHOTO.jpg -o out/",
        as_json=as_json,
        figures=shown,
    )
