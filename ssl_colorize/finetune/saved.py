"""A fine-tuned model as one file, from which it is built again without the encoder that it came from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ssl_colorize.errors import UserError
from ssl_colorize.finetune.building import current_state, rebuild_model
from ssl_colorize.finetune.tasks import Task, task_type
from ssl_colorize.models.weights_file import load_exactly, read_weights, write_weights

MODEL_NAME = "finetuned.safetensors"


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
    whole = about | {
        "task": task.name,
        "classes": list(task.classes),
        "settings": task.settings.model_dump(mode="json"),
    }
    write_weights(path, model.state_dict(), whole, kind="finetuned")


def load_finetuned(source: str | Path, *, device: torch.device | str = "cpu") -> Finetuned:
    """Load the folder of a `ssl-colorize finetune` run, or the file in it.

    Raises:
        UserError: nothing is there, or it is no such file, or its keys or shapes do not fit.
    """
    path = Path(source)
    path = path / MODEL_NAME if path.is_dir() else path
    if not path.is_file():
        raise UserError(f"No fine-tuned model at {path}: give the folder of a `ssl-colorize finetune` run.")
    about, tensors = read_weights(path, kind="finetuned", writer="`ssl-colorize finetune`")
    kind = task_type(about["task"])
    settings = kind.settings_type.checked(about["settings"], where=f"in {path}")
    task = kind.trained(settings, about["classes"])
    model = rebuild_model(task, about)
    load_exactly(model, current_state(tensors), where=path)
    return Finetuned(model.eval().requires_grad_(False).to(device), task, about.get("training", {}))
