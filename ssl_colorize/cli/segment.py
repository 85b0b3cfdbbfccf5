"""``ssl-colorize segment``: what frozen features say of every pixel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ssl_colorize.cli.flags import settings_options
from ssl_colorize.cli.measured import FLAGS, on_same, title_of, write_classes
from ssl_colorize.cli.run import Invocation, finish
from ssl_colorize.evaluate.settings import SegmentSettings

if TYPE_CHECKING:
    from rich.table import Table

# What a resumed run may do otherwise without becoming another run.
FREE_TO_CHANGE = frozenset({"workers", "device", "checkpoint_every"})


@click.command()
@settings_options(
    SegmentSettings, "encoder", "data", "mask_values", "method", "layers", "mask_size", "epochs", "steps",
    "learning_rates", "k", "temperature", "bank", *(flag for flag in FLAGS if "cache" not in flag), resume=True,
)  # fmt: skip
def segment(invocation: Invocation[SegmentSettings]) -> None:
    """Segment photos with frozen features, and score it by mean IoU.

    A linear classifier of pixels is trained on the maps of all layers at once; with --method neighbors nothing is
    trained, and patches take the labels of the patches most like them. Settings are chosen on a part of the training
    photos; the test photos are read once.
    """
    from ssl_colorize.evaluate import run_segment
    from ssl_colorize.report.sheets import segments_sheet

    settings = invocation.settings(free=FREE_TO_CHANGE)
    with invocation.running("segment", settings, taken=("checkpoint.pt", "metrics.json")) as run:
        result = run_segment(
            settings, run.folder, resume=invocation.resume is not None, say=run.say, watch=run.watch
        )  # fmt: skip
    look = write_classes(result.metrics, run.folder, depth=0)
    content = run.write(result.metrics)
    if result.examples is not None:
        look = segments_sheet(result.examples, run.folder / "segments.png")
    title = f"{title_of(settings, run.folder, content['seconds'])}\n{_protocol(settings, result.metrics)}"
    next_step = f"look at {look}, or train the encoder for it: {on_same('finetune segmentation', settings)}"
    finish(content, _table(settings, result.metrics, title), next_step=next_step, as_json=invocation.as_json)


def _protocol(settings: SegmentSettings, metrics: dict[str, Any]) -> str:
    """How it was measured, which figures from elsewhere have to agree with."""
    about = metrics["protocol"]
    size = "their own size" if about["mask_size"] == "original" else f"a short side of {about['mask_size']} px"
    classes = {kind: ", ".join(about[kind]) or "none" for kind in ("common", "rare", "absent")}
    return (
        f"{settings.method}: photos shown at a short side of {about['photo_size']} px, masks scored at {size}; of the "
        f"{about['test_photos']:,} test photos 20 or more show {classes['common']}; fewer show {classes['rare']}; none "
        f"show {classes['absent']}"
    )


def _table(settings: SegmentSettings, metrics: dict[str, Any], title: str) -> Table:
    """A row for each layer, in percent; a star at the one that was chosen."""
    from ssl_colorize.report.tables import layers_of, layers_table, number

    names = ("learning_rate",) if settings.method == "linear" else ("k", "temperature")
    untrained = metrics.get("random", {})
    rows = [
        ((f"{layer} *" if layer == metrics["layer"] else layer, *(number(found[name]) for name in names)), found,
         untrained.get(layer, {}))
        for layer, found in layers_of(metrics).items()
    ]  # fmt: skip
    columns = ("layer (* chosen)", *("rate" if name == "learning_rate" else name for name in names))
    return layers_table(rows, columns, title=title)
