"""A network as the file or folder that was asked for."""

import copy
import dataclasses
from pathlib import Path
from typing import Any

import torch

from ssl_colorize import __version__
from ssl_colorize.encoder import load_encoder
from ssl_colorize.errors import UserError
from ssl_colorize.export.config import GRAPHS, ExportSettings
from ssl_colorize.export.graphs import PhotoColorizer, PhotoEncoder
from ssl_colorize.models import Pretrained, load_pretrained, save_pretrained
from ssl_colorize.models.pretrained import WEIGHTS_NAME, refuse_infinite

_SUFFIXES = {"safetensors": ".safetensors", "timm": ".timm.safetensors", "onnx": ".onnx", "torch-export": ".pt2"}
HUB_FILES = ("config.json", WEIGHTS_NAME, "README.md")


def file_names(settings: ExportSettings) -> tuple[str, ...]:
    """The files that an export writes into its folder."""
    if settings.to == "hub-folder":
        return HUB_FILES
    if settings.to == "safetensors":
        return (WEIGHTS_NAME,)
    return (f"{settings.what}{_SUFFIXES[settings.to]}",)


def export(settings: ExportSettings, folder: Path) -> dict[str, Any]:
    """Write an export into a folder that is there.

    Returns:
        Figures: `megabytes`, and of graphs `difference`, the largest one from PyTorch's numbers as a share of each
        output's largest; of safetensors `objective` and `colors` (whether the network predicts any); of timm's files
        `model` and `options`, what `timm.create_model` takes.

    Raises:
        UserError: something is there already, the source is unknown, it has no such form, or a package is missing.
    """
    settings.check()
    paths = [folder / name for name in file_names(settings)]
    for path in paths:
        if path.exists():
            raise UserError(f"{path} is there already: choose another --out, or move it away.")
    figures = _write_graph(settings, paths[0]) if settings.to in GRAPHS else _write_weights(settings, folder, paths[0])
    return {"megabytes": sum(path.stat().st_size for path in paths) / 1e6, **figures}


def _write_weights(settings: ExportSettings, folder: Path, path: Path) -> dict[str, Any]:
    pretrained = load_pretrained(settings.source)
    if settings.what == "colorizer":
        pretrained.require_colors()
    # timm takes a second to import.
    from ssl_colorize.export.hub import publishable, write_hub_folder, write_timm
    from ssl_colorize.models.timm_models import timm_arguments

    if settings.to == "safetensors":
        public = publishable(pretrained)
        save_pretrained(halved(public) if settings.half else public, path)
        return {"objective": pretrained.objective, "colors": pretrained.colors}
    name, options = timm_arguments(pretrained.model, channels=settings.channels)
    if settings.to == "timm":
        write_timm(pretrained, path, channels=settings.channels)
    else:
        write_hub_folder(pretrained, folder, channels=settings.channels)
    return {"model": name, "options": options}


def halved(pretrained: Pretrained) -> Pretrained:
    """A network whose weights are 16-bit floats. BatchNorm's statistics span more orders than those have, and stay."""
    model = copy.deepcopy(pretrained.model)
    for parameter in model.parameters():
        parameter.data = parameter.data.half()
    refuse_infinite(model.state_dict(), where=f"{pretrained.source}, in 16 bits,")
    return dataclasses.replace(pretrained, model=model)


def _write_graph(settings: ExportSettings, path: Path) -> dict[str, Any]:
    from ssl_colorize.export.graph_files import write_onnx, write_program

    graph, about = build_graph(settings)
    write = write_onnx if settings.to == "onnx" else write_program
    side = settings.size if settings.what == "encoder" else None
    return {"difference": write(graph, path, side=side, about=about), "outputs": ", ".join(graph.outputs)}


def build_graph(settings: ExportSettings) -> tuple[PhotoEncoder | PhotoColorizer, dict[str, Any]]:
    """The graph to export, in eval mode and without gradients, and what the file says of itself."""
    graph, about = _graph(settings)
    # In memory as PyTorch has it by default: files of other layouts are read with warnings.
    return graph.eval().requires_grad_(False).to(memory_format=torch.contiguous_format), about


def _graph(settings: ExportSettings) -> tuple[PhotoEncoder | PhotoColorizer, dict[str, Any]]:
    takes = "RGB in [0, 1]" if settings.rgb else "CIELAB's L in 0..100"
    about: dict[str, Any] = {"ssl_colorize": __version__, "what": settings.what, "input": takes}
    if settings.what == "encoder":
        encoder = load_encoder(settings.source)
        chosen = encoder.choose(settings.layers)
        encoder.trunk.prepare(torch.zeros(1, settings.channels, 1, 1))  # refuses lightness where it takes none
        layers = [info for info in encoder.feature_info if info["module"] in chosen]
        graph: PhotoEncoder | PhotoColorizer = PhotoEncoder(encoder.trunk, chosen, channels=settings.channels)
        return graph, about | {"feature_info": layers, "input_size": encoder.input_size}
    pretrained = load_pretrained(settings.source)
    graph = PhotoColorizer(pretrained, size=settings.size, temperature=settings.temperature, channels=settings.channels)
    return graph, about | {
        "size": graph.size, "temperature": graph.temperature, "model": pretrained.model.name,
        "output": "RGB in [0, 1] of the input's size and lightness",
    }  # fmt: skip
