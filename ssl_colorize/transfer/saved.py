"""A fine-tuned model as one file, from which it is built again without the encoder that it came from."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ssl_colorize.errors import UserError
from ssl_colorize.models.pretrained import load_exactly
from ssl_colorize.runs import write_atomically
from ssl_colorize.transfer.building import rebuild_model
from ssl_colorize.transfer.tasks import Task, task_type

MODEL_NAME = "finetuned.safetensors"
FORMAT = "ssl-colorize finetuned 1"


@dataclass
class Finetuned:
    """A fine-tuned model, in eval mode, with the task that knows what its outputs mean."""

    model: nn.Module
    task: Task
    training: dict[str, Any]


def save_finetuned(model: nn.Module, task: Task, about: dict[str, Any], path: Path) -> None:
    """Write one self-contained file, atomically.

    Args:
        about: of `build_model`, and "training" (figures, free in form).

    Raises:
        UserError: it cannot be written.
    """
    tensors = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    whole = about | {
        "format": FORMAT,
        "task": task.name,
        "classes": list(task.classes),
        "settings": task.settings.model_dump(mode="json"),
    }

    def write(target: Path) -> None:
        try:
            # Tensors that share memory are written each on its own.
            save_file({key: value.clone() for key, value in tensors.items()}, target,
                      metadata={"ssl_colorize": json.dumps(whole)})  # fmt: skip
        except SafetensorError as error:
            raise OSError(str(error)) from error

    write_atomically(path, write)


def load_finetuned(source: str | Path, *, device: torch.device | str = "cpu") -> Finetuned:
    """Load the folder of a `ssl-colorize finetune` run, or the file in it.

    Raises:
        UserError: nothing is there, or it is no such file, or its keys or shapes do not fit.
    """
    path = Path(source)
    path = path / MODEL_NAME if path.is_dir() else path
    if not path.is_file():
        raise UserError(f"No fine-tuned model at {path}: give the folder of a `ssl-colorize finetune` run.")
    about, tensors = _read(path)
    kind = task_type(about["task"])
    settings = kind.settings_type.checked(about["settings"], where=f"in {path}")
    task = kind.trained(settings, about["classes"])
    model = rebuild_model(task, about)
    load_exactly(model, tensors, where=path)
    return Finetuned(model.eval().requires_grad_(False).to(device), task, about.get("training", {}))


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {}).get("ssl_colorize", "null"))
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (not a dict)
    except (SafetensorError, json.JSONDecodeError, OSError) as error:
        raise UserError(f"{path} is not a readable safetensors file: {error}.") from None
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise UserError(f"{path} was not written by `ssl-colorize finetune` (its metadata does not say {FORMAT!r}).")
    return about, tensors
