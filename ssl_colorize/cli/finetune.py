"""``ssl-colorize finetune TASK``: train an encoder on for a task, and score it by the field's own figure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from ssl_colorize.cli.flags import settings_options
from ssl_colorize.cli.run import Invocation, Run, finish, note
from ssl_colorize.finetune.config import (
    ClassificationSettings,
    DetectionSettings,
    FinetuneSettings,
    SegmentationSettings,
)
from ssl_colorize.runs import write_atomically

if TYPE_CHECKING:
    from ssl_colorize.finetune.trainer import Finished

# What a resumed run may do otherwise without becoming another run.
FREE_TO_CHANGE = frozenset({"workers", "device", "checkpoint_every"})
FLAGS = (
    "encoder", "data", "train_from", "layers", "color", "rescale", "learning_rates", "epochs", "steps", "refit", "size",
    "batch_size", "limit", "seed", "workers", "device",
)  # fmt: skip


@click.group()
def finetune() -> None:
    """Train an encoder for a task, and score it.

    Learning rate and length are chosen on a part of the training photos; then the encoder trains on all of them, and
    the test photos are read once. Ctrl-C saves before it stops. For several GPUs: torchrun --nproc-per-node N -m
    ssl_colorize finetune ...
    """


@finetune.command()
@settings_options(ClassificationSettings, *FLAGS, "crop", resume=True)
def classification(invocation: Invocation[ClassificationSettings]) -> None:
    """Photos with one label each (top-1), or a VOC folder with several (mean average precision)."""
    _finetune("classification", invocation)


@finetune.command()
@settings_options(DetectionSettings, *FLAGS, resume=True)
def detection(invocation: Invocation[DetectionSettings]) -> None:
    """Boxes around objects (VOC mean average precision at IoU 0.5, and COCO's)."""
    _finetune("detection", invocation)


@finetune.command()
@settings_options(SegmentationSettings, *FLAGS, "mask_values", resume=True)
def segmentation(invocation: Invocation[SegmentationSettings]) -> None:
    """A class for every pixel (mean intersection over union)."""
    _finetune("segmentation", invocation)


def _finetune(name: str, invocation: Invocation[Any]) -> None:
    from ssl_colorize.finetune.trainer import finetune as train

    settings: FinetuneSettings = invocation.settings(free=FREE_TO_CHANGE)
    with invocation.running(f"finetune-{name}", settings, taken=("checkpoint.pt", "finetuned.safetensors")) as run:
        done = train(name, settings, run.folder, resume=invocation.resume is not None, say=note)
    if done is not None:
        _report(name, settings, run, done, as_json=invocation.as_json)


def _report(name: str, settings: FinetuneSettings, run: Run, done: Finished, *, as_json: bool) -> None:
    from ssl_colorize.report.plots import learning_curves
    from ssl_colorize.report.sheets import write_sheets
    from ssl_colorize.report.tables import figures_table

    metrics = dict(done.metrics)
    # Hundreds of figures, perhaps: a file of their own keeps metrics.json readable.
    if "per_class" in metrics:
        write_atomically(run.folder / "per_class.json", json.dumps(metrics.pop("per_class"), indent=2) + "\n")
    seconds = metrics.pop("seconds")
    content = run.write(metrics, seconds=seconds)
    drawn = [learning_curves(run.folder, content["metrics"], main=done.task.main)]
    drawn += write_sheets(done.task.pictures(done.evaluated), run.folder)
    note(f"Drew {', '.join(path.name for path in drawn)} in {run.folder}.")
    part = "all training photos" if metrics["refit"] else "the training photos less those chosen on"
    note(f"Trained on {part}; the test photos were read once.")
    shown = {key: value for key, value in content["metrics"].items() if isinstance(value, int | float)}
    finish(
        content,
        figures_table(shown, title=f"{name} with {settings.encoder}, {run.folder}"),
        next_step=f"look at {drawn[-1]}, then try photos of your own: "
        f"ssl-colorize predict {run.folder} PHOTO.jpg -o out/",
        as_json=as_json,
    )
