"""Graphs as files: ONNX, and PyTorch's .pt2. Each is read back and compared with the network before it is kept."""

import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram

from ssl_colorize.errors import UserError, one_line
from ssl_colorize.export.graphs import PhotoColorizer, PhotoEncoder
from ssl_colorize.runs import write_atomically

Graph = PhotoEncoder | PhotoColorizer
# A file's answers to photos (B, channels, H, W): one tensor an output.
Reader = Callable[[Tensor], Sequence[Tensor]]

# Largest difference from the network, as a share of each output's largest number.
TOLERANCE = 1e-4
INPUT = "photos"
_AXES = {0: "batch", 2: "height", 3: "width"}
_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
# Where the description stands in a .pt2 and in ONNX.
ABOUT = "ssl_colorize.json"
# What is traced, and what is compared afterwards: batch, height and width, where these are free.
_TRACED = (2, 75, 90)
_COMPARED = ((1, 64, 64), (3, 50, 131), (2, 97, 40))


def write_onnx(graph: Graph, path: Path, *, side: int | None, about: Mapping[str, Any]) -> float:
    """Write ONNX, with names for the input, the outputs and the free sizes.

    Args:
        graph: in eval mode, on the CPU.
        path: of the file.
        side: the only height and width of photos; None for any.
        about: what the file says of itself, plain JSON.

    Returns:
        The largest difference between ONNX Runtime's numbers and PyTorch's, as a share of each output's largest.

    Raises:
        UserError: a package is missing, the graph cannot be exported, it differs, or the file cannot be written.
    """
    missing = [package for package in _PACKAGES if find_spec(package) is None]
    if missing:
        raise UserError(f"--to onnx needs the package {missing[0]}: pip install 'ssl-colorize[export]'.")
    program = trace(graph, side=side)
    try:
        with _quiet():
            onnx = torch.onnx.export(
                program, (), dynamo=True, input_names=[INPUT], output_names=list(graph.outputs),
                dynamic_shapes=({axis: _AXES[axis] for axis in _free(side)},), verbose=False,
            )  # fmt: skip
    except torch.onnx.errors.OnnxExporterError as error:
        raise UserError("PyTorch cannot write this network as ONNX: use --to torch-export.") from error
    assert onnx is not None
    onnx.model.metadata_props[ABOUT] = json.dumps(about)
    worst = 0.0

    def write(target: Path) -> None:
        nonlocal worst
        onnx.save(target, external_data=False)
        worst = _difference(graph, read_onnx(target), side=side)

    write_atomically(path, write)
    return worst


def write_program(graph: Graph, path: Path, *, side: int | None, about: Mapping[str, Any]) -> float:
    """Write what `torch.export.load` reads. Arguments, result and errors as of `write_onnx`."""
    program = trace(graph, side=side)
    worst = 0.0

    def write(target: Path) -> None:
        nonlocal worst
        torch.export.save(program, target, extra_files={ABOUT: json.dumps(about)})
        worst = _difference(graph, read_program(target), side=side)

    write_atomically(path, write)
    return worst


def read_onnx(path: Path) -> Reader:
    """ONNX Runtime on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda photos: [torch.from_numpy(each) for each in session.run(None, {INPUT: photos.numpy()})]


def read_program(path: Path) -> Reader:
    """A .pt2 as PyTorch runs it."""
    module: Reader = torch.export.load(path).module()
    return module


def trace(graph: Graph, *, side: int | None) -> ExportedProgram:
    """A graph of any batch size, and of any height and width, or of one.

    Raises:
        UserError: the network asks for sizes where none are known.
    """
    batch, height, width = _TRACED if side is None else (_TRACED[0], side, side)
    example = torch.rand(batch, graph.channels, height, width) * _top(graph)
    try:
        with torch.no_grad(), _quiet():
            return torch.export.export(graph, (example,), dynamic_shapes=(dict.fromkeys(_free(side), Dim.DYNAMIC),))
    except Exception as error:
        # torch.export's errors are of many kinds, and long.
        raise UserError(_impossible(graph, side, error)) from None


def _impossible(graph: Graph, side: int | None, error: Exception) -> str:
    free = isinstance(graph, PhotoEncoder) and side is None
    hint = " for photos of any height and width: fix them with --size" if free else ""
    return f"This network cannot be exported{hint} ({one_line(error)})."


def _free(side: int | None) -> tuple[int, ...]:
    return tuple(_AXES) if side is None else (0,)


def _top(graph: Graph) -> float:
    return 1.0 if graph.channels == 3 else 100.0


@torch.no_grad()
def _difference(graph: Graph, read: Reader, *, side: int | None) -> float:
    """The largest difference between a file and the network, at several sizes and batch sizes.

    Raises:
        UserError: it is too large.
    """
    chance = torch.Generator().manual_seed(0)
    worst = 0.0
    for batch, height, width in _COMPARED:
        shape = (batch, graph.channels, side or height, side or width)
        photos = torch.rand(shape, generator=chance) * _top(graph)
        try:
            answers = read(photos)
        except Exception as error:
            # A graph that was traced at one size may hold only there, and says so in many ways.
            raise UserError(_impossible(graph, side, error)) from None
        for name, wanted, found in zip(graph.outputs, graph(photos), answers, strict=True):
            if wanted.shape != found.shape:
                raise UserError(f"The exported {name} is of shape {tuple(found.shape)}, not {tuple(wanted.shape)}.")
            worst = max(worst, float((wanted - found).abs().max() / wanted.abs().max().clamp(min=1e-6)))
    if not worst <= TOLERANCE:
        raise UserError(f"The exported graph differs from the network by {worst:.2g} of its numbers: it is not kept.")
    return worst


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporters' talk about themselves, which is not for users."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
