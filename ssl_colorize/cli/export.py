"""``ssl-colorize export``: a trained network as other programs take it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ssl_colorize.cli.flags import settings_options
from ssl_colorize.cli.run import Invocation, finish, note
from ssl_colorize.export.config import ExportSettings
from ssl_colorize.runs import write_config


@click.command()
@click.argument("source", metavar="RUN")
@settings_options(ExportSettings, "to", "what", "rgb", "layers", "size", "temperature", "half")
def export(invocation: Invocation[ExportSettings]) -> None:
    """Export the network of RUN: a run folder, a weights file, eccv16_starter or eccv16-release.

    Graphs take photos of any number, height and width, and are compared with the network before they are kept. Nothing
    is overwritten.
    """
    from ssl_colorize.export.files import export as write
    from ssl_colorize.report.tables import figures_table

    settings = invocation.settings()
    settings.check()
    # A folder for a hub holds nothing else, and what was there before keeps its settings where this fails.
    with invocation.running("export", settings, write_settings=False) as run:
        note(f"Exporting {settings.source} to {run.folder}.")
        figures = write(settings, run.folder)
    content: dict[str, Any] = {"metrics": figures}
    if settings.to != "hub-folder":
        write_config(run.folder, settings)
        content = run.write(figures)
    table = figures_table(figures, title=f"Exported to {run.folder}")
    finish(content, table, next_step=_next(settings, run.folder, figures), as_json=invocation.as_json)


def _next(settings: ExportSettings, folder: Path, figures: dict[str, Any]) -> str:
    """How to load what was written."""
    from ssl_colorize.export.files import file_names

    path = folder / file_names(settings)[0]
    if settings.to == "safetensors":
        if not figures["colors"]:
            return f"ssl-colorize knn --encoder {path} --data FOLDER"
        return f"ssl-colorize colorize PHOTO.jpg --checkpoint {path}"
    if settings.to == "onnx":
        return f'onnxruntime.InferenceSession("{path}").run(None, {{"photos": photos}})'
    if settings.to == "torch-export":
        return f'torch.export.load("{path}").module()(photos)'
    if settings.to == "timm":
        more = "".join(f", {key}={value!r}" for key, value in figures["options"].items())
        return f'import ssl_colorize, timm; timm.create_model("{figures["model"]}"{more}, checkpoint_path="{path}")'
    return (
        f"read {folder / 'README.md'}, fill in the license, and push the folder; here: import ssl_colorize, timm; "
        f'timm.create_model("local-dir:{folder}", pretrained=True)'
    )
