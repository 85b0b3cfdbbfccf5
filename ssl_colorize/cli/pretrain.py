"""``ssl-colorize pretrain``: from a folder of photos to a network that colors them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ssl_colorize.cli.flags import settings_options
from ssl_colorize.cli.run import Invocation, Run, command_line, finish, first_process, note
from ssl_colorize.pretrain.config import Recipe

if TYPE_CHECKING:
    from ssl_colorize.pretrain.loop import Watch

# What a resumed run may do otherwise without becoming another run. Its lengths then get into its history.
FREE_TO_CHANGE = frozenset(
    {
        "workers",
        "photo_memory",
        "device",
        "evaluate_every",
        "checkpoint_every",
        "steps",
        "epochs",
        "watch",
        "watch_layers",
        "watch_photos",
        "watch_share",
    }
)


@click.command()
@settings_options(
    Recipe, "data", "model", "width", "steps", "epochs", "batch_size", "learning_rate", "limit", "seed", "workers",
    "device", "watch", resume=True,
)  # fmt: skip
def pretrain(invocation: Invocation[Recipe]) -> None:
    """Train a network to color photos, without labels.

    Without any flags: a small network, on the photos that the installed packages carry, within five minutes on two
    cores. Ctrl-C saves before it stops. For several GPUs: torchrun --nproc-per-node N -m ssl_colorize pretrain ...
    """
    from ssl_colorize.pretrain.loop import train
    from ssl_colorize.report.tables import figures_table

    recipe = invocation.settings(free=FREE_TO_CHANGE)
    with invocation.running("pretrain", recipe, taken=("checkpoint.pt", "model.safetensors")) as run:
        content = train(recipe, run.folder, resume=invocation.resume is not None, watch=_watching(recipe))
    if not run.first:
        return
    content = _sign(run, content)
    colors = recipe.direction == "L-to-ab"
    _draw(run.folder, recipe)
    color = (
        f"look at {run.folder / 'samples.png'}, then color photos of your own: "
        f"ssl-colorize colorize PHOTO.jpg -o out/ --checkpoint {run.folder}"
    )
    split = (
        f"ssl-colorize linear-probe --encoder split:RUN_L+{run.folder} --data FOLDER, with a run of direction L-to-ab"
    )
    finish(
        content,
        figures_table(content["metrics"], title=f"On held-out photos, {run.folder}"),
        next_step=color if colors else split,
        as_json=invocation.as_json,
    )


def _watching(recipe: Recipe) -> Watch | None:
    """What watches the features, at the recipe's own size, which is the same in all stages."""
    if not recipe.watch or not first_process():
        return None
    from ssl_colorize.evaluate.watching import Watching

    return Watching(
        recipe.watch, size=recipe.crop, layers=recipe.watch_layers, photos=recipe.watch_photos,
        share=recipe.watch_share, seed=recipe.seed, device=recipe.device, precision=recipe.precision,
    )  # fmt: skip


def _sign(run: Run, content: dict[str, Any]) -> dict[str, Any]:
    """Put the command as it was typed, and what was read, into metrics.json."""
    from ssl_colorize.runs import write_atomically

    content = content | {"command": command_line(), "read": run.read}
    write_atomically(run.folder / "metrics.json", json.dumps(content, indent=2) + "\n")
    return content


def _draw(folder: Path, recipe: Recipe) -> None:
    from ssl_colorize.report.plots import loss_curve
    from ssl_colorize.report.sheets import samples_sheet

    sheet = f" and {samples_sheet(folder, recipe)}" if recipe.direction == "L-to-ab" else ""
    note(f"Drew {loss_curve(folder)}{sheet}.")
