"""Tensors and what they are, in one safetensors file: written whole or not at all, and read with its mistakes named."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ssl_colorize.errors import UserError
from ssl_colorize.runs import write_atomically

# Where the description stands in the file's metadata.
_ABOUT = "ssl_colorize"
# Of what is written; 1 had no number and no kind of its own, but said one of these.
FORMAT = 2
_KINDS_OF_FORMAT_1 = {"ssl-colorize 1": "network", "ssl-colorize finetuned 1": "finetuned"}


def write_weights(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any], *, kind: str) -> None:
    """Write tensors, from any device, with a description that JSON takes.

    Args:
        path: of the file.
        tensors: by name.
        about: the description.
        kind: of file: "network" or "finetuned".

    Raises:
        UserError: the file cannot be written (full disk, no permission).
    """
    # Tensors that share memory are written each on its own, which safetensors asks for.
    solid = {key: value.detach().cpu().clone(memory_format=torch.contiguous_format) for key, value in tensors.items()}

    whole = {"format": FORMAT, "kind": kind, **about}

    def write(target: Path) -> None:
        try:
            save_file(solid, target, metadata={_ABOUT: json.dumps(whole)})
        except SafetensorError as error:
            raise OSError(str(error)) from error

    write_atomically(path, write)


def read_weights(path: Path, *, kind: str, writer: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The description and the tensors of a file, on the CPU.

    Args:
        path: of the file.
        kind: that it has to be of.
        writer: the command that writes such files, for the message.

    Returns:
        The description, whose "format" is the number that the file was written with; and the tensors by name.

    Raises:
        UserError: it is no safetensors file, or not one of that kind, or of a newer format.
    """
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {}).get(_ABOUT, "null"))
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (not a dict)
    except (SafetensorError, json.JSONDecodeError, OSError) as error:
        raise UserError(f"{path} is not a readable safetensors file: {error}.") from None
    if isinstance(about, dict) and about.get("format") in _KINDS_OF_FORMAT_1:
        about |= {"format": 1, "kind": _KINDS_OF_FORMAT_1[about["format"]]}
    if not isinstance(about, dict) or about.get("kind") != kind:
        raise UserError(f"{path} was not written by {writer} (its metadata does not say that it holds a {kind}).")
    number = about["format"]
    if number > FORMAT:
        raise UserError(f"{path} is of format {number}, this version reads up to {FORMAT}: update ssl-colorize.")
    return about, tensors


def load_exactly(model: torch.nn.Module, tensors: dict[str, Tensor], *, where: Path) -> None:
    """Load a state dict of which every key and shape fits.

    Raises:
        UserError: a key is missing or left over, or a shape differs; it names them.
    """
    expected = model.state_dict()
    # Old files may lack the counter, which only matters for a momentum that is not used.
    missing = sorted(key for key in set(expected) - set(tensors) if not key.endswith("num_batches_tracked"))
    unknown = sorted(set(tensors) - set(expected))
    if missing or unknown:
        parts = [f"lacks {some_of(missing)}"] * bool(missing) + [f"has unknown {some_of(unknown)}"] * bool(unknown)
        raise UserError(f"{where} does not fit the network: it {' and '.join(parts)}.")
    for key, value in tensors.items():
        if value.shape != expected[key].shape:
            have, want = tuple(value.shape), tuple(expected[key].shape)
            raise UserError(f"{where} does not fit the network: {key} has shape {have}, expected {want}.")
    model.load_state_dict(expected | tensors)


def some_of(keys: list[str]) -> str:
    return ", ".join(keys[:4]) + (f" and {len(keys) - 4} more" if len(keys) > 4 else "")
