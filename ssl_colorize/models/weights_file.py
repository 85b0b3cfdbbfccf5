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


def write_weights(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write tensors, from any device, with a description that JSON takes.

    Raises:
        UserError: the file cannot be written (full disk, no permission).
    """
    # Tensors that share memory are written each on its own, which safetensors asks for.
    solid = {key: value.detach().cpu().clone(memory_format=torch.contiguous_format) for key, value in tensors.items()}

    def write(target: Path) -> None:
        try:
            save_file(solid, target, metadata={_ABOUT: json.dumps(about)})
        except SafetensorError as error:
            raise OSError(str(error)) from error

    write_atomically(path, write)


def read_weights(path: Path, *, format: str, writer: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The description and the tensors of a file, on the CPU.

    Args:
        format: what the description has to say under "format".
        writer: the command that writes such files, for the message.

    Raises:
        UserError: it is no safetensors file, or not one of that format.
    """
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {}).get(_ABOUT, "null"))
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (not a dict)
    except (SafetensorError, json.JSONDecodeError, OSError) as error:
        raise UserError(f"{path} is not a readable safetensors file: {error}.") from None
    if not isinstance(about, dict) or about.get("format") != format:
        raise UserError(f"{path} was not written by {writer} (its metadata does not say {format!r}).")
    return about, tensors
