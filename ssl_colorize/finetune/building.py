"""From an encoder to a task's model, and to one file from which it is built again where the encoder is no more."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ssl_colorize.color import rgb_to_lightness
from ssl_colorize.data import training_batches
from ssl_colorize.encoder import Encoder, Source, load_encoder
from ssl_colorize.errors import UserError
from ssl_colorize.finetune.config import FinetuneSettings
from ssl_colorize.finetune.prepare import measure_statistics, prepare
from ssl_colorize.finetune.tasks import Task, task_type
from ssl_colorize.models import create_model
from ssl_colorize.models.pretrained import load_exactly, read_weights, write_weights
from ssl_colorize.models.source import current_name
from ssl_colorize.models.trunks import ColorizationTrunk

# Photos that the layers are rescaled on, and that an untrained network's statistics are of; their side in pixels.
_RESCALE_PHOTOS, _STATISTICS_PHOTOS, _SIDE = 8, 32, 96


def build_model(task: Task, settings: FinetuneSettings) -> tuple[dict[str, Any], nn.Module]:
    """The model that training begins with, on the CPU: the same in every process, and after a stop.

    Returns:
        What `rebuild_model` needs beside the task to make it again, as values that JSON takes; and the model.

    Raises:
        UserError: the encoder cannot be had, or the settings do not fit it.
    """
    encoder = load_encoder(settings.encoder, seed=settings.seed)
    encoder.require_trainable()
    layers = task.layers(encoder)
    about = {**architecture(encoder), "layers": list(layers)}
    if not encoder.source.has_statistics:
        measure_statistics(encoder, _some_photos(task, settings, count=_STATISTICS_PHOTOS))
    if settings.batchnorm == "fold":
        photos = _some_photos(task, settings, count=_RESCALE_PHOTOS) if settings.rescale else None
        lightness = rgb_to_lightness(photos) if photos is not None else None
        prepare(encoder, rescale=settings.rescale, lightness=lightness, top=layers[-1])
    backbone = make_trainable(encoder, layers, settings)
    # For the new head.
    torch.manual_seed(settings.seed)
    return about, task.build(backbone)


def rebuild_model(task: Task, about: dict[str, Any]) -> nn.Module:
    """A model of the same shape, whose weights are yet to be loaded."""
    encoder = rebuilt_encoder(about)
    if task.settings.batchnorm == "fold":
        prepare(encoder, rescale=False)
    return task.build(make_trainable(encoder, about["layers"], task.settings))


def _some_photos(task: Task, settings: FinetuneSettings, *, count: int) -> Tensor:
    """Training photos (B, 3, H, W) uint8."""
    batches = training_batches(
        task.photos, resize=(_SIDE, _SIDE), crop=_SIDE, batch_size=count,
        seed=settings.seed, start=0, steps=1, workers=0,
    )  # fmt: skip
    return next(iter(batches)).photos


def make_trainable(encoder: Encoder, layers: Sequence[str], settings: FinetuneSettings) -> Encoder:
    """The encoder, prepared already, with what the settings let learn."""
    return encoder.trainable(
        layers,
        train_from=settings.train_from,
        color=settings.color,
        # Folded, there is none left.
        batchnorm="train" if settings.batchnorm == "train" else "frozen",
    )


def architecture(encoder: Encoder) -> dict[str, Any]:
    """What it takes to have an encoder's network again, but not its weights, as values that JSON takes."""
    model = encoder.trunk.colorizer
    if model is None:
        return {"encoder": str(encoder.untrained or encoder.source)}
    return {
        "encoder": encoder.name,
        "model": model.name,
        "width": model.width,
        "outputs": model.outputs,
        "input_size": encoder.input_size,
    }


def rebuilt_encoder(about: dict[str, Any]) -> Encoder:
    """The opposite of `architecture`, also of one that was written when untrained networks had other names."""
    if "model" not in about:
        return load_encoder(current_name(about["encoder"]))
    model = create_model(about["model"], width=about["width"], outputs=about["outputs"])
    return Encoder(ColorizationTrunk(model, input_size=about["input_size"]), source=Source("file", about["encoder"]))


def current_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A model's state by today's names, whenever it was written (stems that see color spelled gray otherwise)."""
    return {key.replace(".grey.", ".gray."): value for key, value in state.items()}


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
