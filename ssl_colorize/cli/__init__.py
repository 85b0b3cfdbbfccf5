"""The command line: ``ssl-colorize VERB``.

Every verb lives in a file of its own, named after it, and holds a click command of that name. The group imports a
verb's file only when the verb is used, and verbs import torch and its company only when they run, so that help is
instant. A user's mistake (`UserError`) is one line on standard error and exit code 2; a traceback is always a bug.
"""

from __future__ import annotations

import errno
import importlib
import shlex
from typing import Any

import click

from ssl_colorize import __version__
from ssl_colorize.errors import UserError, printable

# Verb -> the line `ssl-colorize --help` shows. It is kept here so that listing the verbs imports none of them.
VERBS = {
    "pretrain": "Train a network to color photos, without labels.",
    "colorize": "Color photos with a trained network.",
    "prior": "Measure how common each color is in your photos.",
    "linear-probe": "Train linear classifiers on a frozen encoder's layers.",
    "knn": "Classify photos by their nearest neighbors.",
    "svm": "Train linear SVMs on a frozen encoder's layers.",
    "segment": "Segment photos with a frozen encoder's layers.",
    "worth": "Say whether pretraining on your photos is worth it.",
    "finetune": "Train an encoder for classification, detection or segmentation.",
    "predict": "Run a fine-tuned model on photos.",
    "score": "Score any colors by one protocol, in one table.",
    "study": "Ask people which photo is real, in a web page.",
    "export": "Write a network for ONNX, torch.export, timm or a hub.",
    "info": "Say what a checkpoint is.",
}
# What is no verb any more, and what it became.
MOVED = {"bench": "`ssl-colorize bench` is now a script beside the package: python benchmarks/speed.py"}

COMMAND = "ssl_colorize.command"


class LazyGroup(click.Group):
    """A click group that imports a verb's module on first use and turns `UserError` into one line and exit code 2."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the verbs, in the order a user meets them."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return the verb's command; None for an unknown verb (click then names the close ones).

        Raises:
            UserError: it was a verb once.
        """
        if cmd_name in MOVED:
            raise UserError(f"{MOVED[cmd_name]}.")
        if cmd_name not in VERBS:
            return None
        name = cmd_name.replace("-", "_")
        command: click.Command = getattr(importlib.import_module(f"{__name__}.{name}"), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs from the table above, importing nothing."""
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Remember the command as it was typed: metrics.json says what made its figures."""
        ctx.meta[COMMAND] = shlex.join(["ssl-colorize", *args])
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb; say a user's mistake in one line, and an interruption in one word."""
        try:
            return super().invoke(ctx)
        except UserError as error:
            click.echo(f"Error: {printable(str(error))}", err=True)
            ctx.exit(2)
        except click.UsageError as error:
            asked = (error.ctx or ctx).command_path
            click.echo(f"Error: {error.format_message()} See `{asked} --help`.", err=True)
            ctx.exit(2)
        except OSError as error:
            if error.errno in (errno.ENAMETOOLONG, errno.EACCES, errno.EPERM) and error.filename:
                path = printable(str(error.filename))
                click.echo(f"Error: {error.strerror}: {path}. Check the path, and who may read it.", err=True)
                ctx.exit(2)
            if error.errno != errno.ENOSPC:
                raise
            where = f" ({error.filename})" if error.filename else ""
            click.echo(f"Error: The disk is full{where}: make room, then go on.", err=True)
            ctx.exit(2)
        except KeyboardInterrupt:
            click.echo("\nInterrupted.", err=True)
            ctx.exit(130)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="ssl-colorize")
def main() -> None:
    """Learn from photos by coloring them; color photos with what was learned.

    \b
    Start with:  ssl-colorize pretrain
    then:        ssl-colorize colorize PHOTO.jpg -o out/
    """
