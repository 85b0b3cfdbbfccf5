"""``ssl-colorize export``: a trained network as other programs take it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ssl_colorize.cli import options

if TYPE_CHECKING:
    from ssl_colorize.export.config import ExportSettings


@click.command()
@click.argument("source", metavar="RUN")
@click.option(
    "--to",
    required=True,
    type=click.Choice(["safetensors", "timm", "hub-folder", "onnx", "torch-export"]),
    help="safetensors: one self-contained file. timm: the encoder's weights as timm names them. hub-folder: for a "
    "model hub, with a model card. onnx, torch-export: a graph.",
)
@click.option(
    "--what", type=click.Choice(["encoder", "colorizer"]), help="Of graphs: feature maps, or photos. [default: encoder]"
)
@click.option(
    "--rgb/--light",
    default=None,
    help="Takes RGB in [0, 1], or the lightness L in 0..100. [default: --rgb]",
)
@click.option("--layer", "layers", multiple=True, metavar="NAME", help="Of an encoder's graph. [default: all]")
@click.option(
    "--size",
    type=click.IntRange(min=8),
    metavar="N",
    help="Of a colorizer: side in pixels of what the network sees. Of an encoder: the only size of photos. [default: "
    "what it was trained at; any]",
)
@click.option(
    "--temperature", type=click.FloatRange(min=0), metavar="T", help="Of a colorizer. [default: the checkpoint's]"
)
@click.option("--half", is_flag=True, default=None, help="Of safetensors: weights of 16 bits, a file half as large.")
@options.out
@options.config
@options.assignments
@options.as_json
def export(
    source: str, out: Path | None, config: Path | None, assignments: tuple[str, ...], as_json: bool, **flags: Any
) -> None:
    """Export the network of RUN: a run folder, a weights file, eccv16_starter or eccv16-release.

    Graphs take photos of any number, height and width, and are compared with the network before they are kept. Nothing
    is overwritten.
    """
    from time import perf_counter

    from ssl_colorize.cli.measuring import resolve
    from ssl_colorize.cli.output import command_line, finish, note
    from ssl_colorize.export.config import ExportSettings
    from ssl_colorize.export.files import export as write
    from ssl_colorize.runs import run_folder, write_config, write_metrics

    settings = resolve(ExportSettings, file=config, assignments=assignments, flags={"source": source, **flags})
    settings.check()
    fresh = out is None or not out.exists()
    folder = run_folder(out, "export")
    began = perf_counter()
    note(f"Exporting {source} to {folder}.")
    try:
        figures = write(settings, folder)
    except BaseException:
        if fresh and not any(folder.iterdir()):
            folder.rmdir()
        raise
    content = {"metrics": figures}
    # A folder for a hub holds nothing else.
    if settings.to != "hub-folder":
        write_config(folder, settings)
        content = write_metrics(
            folder, command=command_line(), metrics=figures, config=settings.model_dump(mode="json"), seed=None,
            seconds=perf_counter() - began,
        )  # fmt: skip
    finish(content, title=f"Exported to {folder}", next_step=_next(settings, folder, figures), as_json=as_json)


def _next(settings: ExportSettings, folder: Path, figures: dict[str, Any]) -> str:
    """How to load what was written."""
    from ssl_colorize.export.files import file_names

    path = folder / file_names(settings)[0]
    if settings.to == "safetensors":
        if figures["objective"] == "features":
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
