"""``ssl-colorize pretrain``: from a folder of photos to a network that colors them."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ssl_colorize.cli import options
from ssl_colorize.cli.resuming import first_process, refuse_taken, refuse_unknown_folder, resumed_settings
from ssl_colorize.errors import UserError

if TYPE_CHECKING:
    from ssl_colorize.pretrain.config import Recipe

# What a resumed run may do otherwise without becoming another run.
FREE_TO_CHANGE = frozenset({"workers", "device", "evaluate_every", "checkpoint_every"})
# The value of a bare --resume: the folder comes from --out.
FROM_OUT = "from --out"


@click.command()
@options.data
@options.out
@options.config
@click.option("--model", metavar="NAME", help="eccv16, alexnet, dahl, larsson or timm:NAME. [default: eccv16]")
@click.option("--width", type=float, metavar="FACTOR", help="Factor on the width of every layer. [default: 0.25]")
@click.option("--steps", type=click.IntRange(min=1), metavar="N", help="Optimizer steps. [default: 250]")
@click.option("--epochs", type=float, metavar="N", help="Passes over the photos, in place of --steps.")
@options.batch_size
@click.option("--learning-rate", type=float, metavar="RATE", help="The highest one of the schedule. [default: 0.001]")
@options.limit
@options.seed
@options.workers
@options.device
@click.option(
    "--resume",
    is_flag=False,
    flag_value=FROM_OUT,
    metavar="[RUN]",
    help="Go on with a stopped run, exactly, by its own settings; without RUN, the one that --out names.",
)
@options.assignments
@options.as_json
def pretrain(
    out: Path | None,
    config: Path | None,
    assignments: tuple[str, ...],
    as_json: bool,
    resume: str | None,
    data: tuple[str, ...],
    **flags: Any,
) -> None:
    """Train a network to color photos, without labels.

    Without any flags: a small network, on the photos that the installed packages carry, within five minutes on two
    cores. Ctrl-C saves before it stops. For several GPUs: torchrun --nproc-per-node N -m ssl_colorize pretrain ...
    """
    from ssl_colorize.cli.output import finish
    from ssl_colorize.engine.signals import Interrupted
    from ssl_colorize.pretrain.loop import train
    from ssl_colorize.runs import run_folder

    flags["data"] = data or None
    if resume is not None:
        folder = _resumed_folder(resume, out)
        recipe = _resumed_recipe(folder, config, assignments, flags)
    else:
        recipe = _recipe(config, assignments, flags)
        refuse_unknown_folder(out)
        refuse_taken(out, files=("checkpoint.pt", "model.safetensors"))
        folder = run_folder(out, "pretrain")
    try:
        content = train(recipe, folder, resume=resume is not None)
    except Interrupted as stopped:
        if first_process():
            click.echo(str(stopped), err=True)
        click.get_current_context().exit(128 + stopped.signum)
    except UserError:
        # A run that could not begin leaves no empty folder behind; one that wrote anything keeps it.
        with suppress(OSError):
            folder.rmdir()
        raise
    if not first_process():
        return
    content = _sign(folder, content)
    _draw(folder, recipe)
    finish(
        content,
        title=f"On held-out photos, {folder}",
        next_step=f"look at {folder / 'samples.png'}, then color photos of your own: "
        f"ssl-colorize colorize PHOTO.jpg -o out/ --checkpoint {folder}",
        as_json=as_json,
    )


def _recipe(config: Path | None, assignments: tuple[str, ...], flags: dict[str, Any]) -> Recipe:
    from ssl_colorize.pretrain.config import Recipe

    # --steps and --epochs replace each other; first, so that a --set which says otherwise still contradicts.
    if (flags["epochs"] is None) != (flags["steps"] is None):
        assignments = ("steps=null" if flags["steps"] is None else "epochs=null", *assignments)
    return Recipe.resolve(file=config, assignments=assignments, flags=flags)


def _resumed_folder(resume: str, out: Path | None) -> Path:
    if resume == FROM_OUT:
        if out is None:
            raise UserError("--resume needs to know which run: --resume RUN.")
        return out
    if out is not None and out.resolve() != Path(resume).resolve():
        raise UserError(f"--resume {resume} goes on in that folder; leave --out {out} away.")
    return Path(resume)


def _resumed_recipe(folder: Path, config: Path | None, assignments: tuple[str, ...], flags: dict[str, Any]) -> Recipe:
    """The run's own recipe; what is asked beside it must not make it another run."""
    from ssl_colorize.pretrain.config import Recipe

    return resumed_settings(
        Recipe, folder, config=config, ask=lambda file: _recipe(file, assignments, flags), free=FREE_TO_CHANGE
    )


def _sign(folder: Path, content: dict[str, Any]) -> dict[str, Any]:
    """Put the command as it was typed into metrics.json."""
    import json

    from ssl_colorize.cli.output import command_line
    from ssl_colorize.runs import write_atomically

    content = content | {"command": command_line()}
    write_atomically(folder / "metrics.json", json.dumps(content, indent=2) + "\n")
    return content


def _draw(folder: Path, recipe: Recipe) -> None:
    from ssl_colorize.cli.output import note
    from ssl_colorize.report.plots import loss_curve
    from ssl_colorize.report.sheets import samples_sheet

    note(f"Drew {loss_curve(folder)} and {samples_sheet(folder, recipe)}.")
