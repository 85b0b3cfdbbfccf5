"""All that a run needs to go on exactly as if it had never stopped, in one file with a format number."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, fields
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import nn

from ssl_colorize.errors import UserError, one_line
from ssl_colorize.runs import write_atomically

CHECKPOINT_NAME = "checkpoint.pt"
# Of what is written. Files before had no number, and a content of each verb's own.
FORMAT = 2

# The content of a file without a number -> the keywords of `Checkpoint`.
FromFormat1 = Callable[[dict[str, Any]], dict[str, Any]]


@dataclass
class Checkpoint:
    """A training after `step` steps, as tensors and plain values: a file that cannot run code may hold them.

    What is random is not in it: the order of the photos, their augmentation and dropout follow from the step and the
    seed alone.

    Attributes:
        kind: of run ("pretrain", "finetune", ...), which alone goes on with it.
        step: steps done.
        model: state dict of the network; empty if it is as it began.
        optimizer: state dict of the optimizer; empty likewise.
        ema: state dict of the average of the weights, where there is one.
        seconds: spent on the run so far.
        extra: what else the run keeps.
    """

    kind: str
    step: int
    model: dict[str, Any] = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=dict)
    ema: dict[str, Any] | None = None
    seconds: float = 0.0
    extra: dict[str, Any] = field(default_factory=dict)


def save_checkpoint(checkpoint: Checkpoint, folder: Path) -> None:
    """Write the folder's checkpoint, atomically.

    Raises:
        UserError: it cannot be written; the one before is untouched.
    """
    content = {"format": FORMAT} | {one.name: getattr(checkpoint, one.name) for one in fields(checkpoint)}

    def write(path: Path) -> None:
        try:
            # Through a file of our own: torch's writer reports a full disk in several ways.
            with path.open("wb") as file:
                torch.save(content, file)
        except RuntimeError as error:
            raise OSError(one_line(error)) from error

    write_atomically(folder / CHECKPOINT_NAME, write)


def load_checkpoint(
    folder: Path,
    kind: str,
    *,
    extra: Collection[str] = (),
    name: str = CHECKPOINT_NAME,
    from_format_1: FromFormat1 | None = None,
) -> Checkpoint:
    """Read the folder's checkpoint, onto the CPU.

    Args:
        folder: of the run.
        kind: that it has to be of.
        extra: names of what its run keeps, which have to be there.
        name: of the file, where older versions had another.
        from_format_1: what the content of a file without a format number is today.

    Raises:
        UserError: there is none, it is damaged, of another kind of run, or of a newer version.
    """
    path = folder / name
    if not path.is_file():
        raise UserError(f"Nothing to resume: {folder} holds no {name}.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError:
        # torch would have the user load it unsafely.
        raise UserError(_damaged(path, ValueError("it is no checkpoint"))) from None
    except Exception as error:
        # torch.load's errors are of many kinds, and none of them names the file.
        raise UserError(_damaged(path, error)) from None
    if not isinstance(content, dict):
        raise UserError(_damaged(path, TypeError(f"it holds a {type(content).__name__}")))
    try:
        number = int(content.pop("format", 1))
        if number > FORMAT:
            raise UserError(f"{path} is of format {number}, this version reads up to {FORMAT}: update ssl-colorize.")
        if number == 1 and from_format_1 is not None:
            content = {"kind": kind} | from_format_1(content)
        checkpoint = Checkpoint(**content)
        # What is missing or of another type fails here, and not in the middle of a run.
        _ = checkpoint.step + 0, {**checkpoint.model}, {**checkpoint.optimizer}
        if checkpoint.kind == kind and (missing := set(extra) - set(checkpoint.extra)):
            raise ValueError(f"it lacks {' and '.join(sorted(missing))}")
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(_damaged(path, error)) from None
    if checkpoint.kind != kind:
        raise UserError(f"{path} is of `ssl-colorize {checkpoint.kind}`, which alone can go on with it.")
    return checkpoint


def restore(
    checkpoint: Checkpoint,
    folder: Path,
    *,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    ema: nn.Module | None = None,
) -> None:
    """Give a network, its optimizer and its average the state that a checkpoint has; what it lacks stays as it is.

    Args:
        checkpoint: what `load_checkpoint` gave.
        folder: that it came from.
        model: changed in place.
        optimizer: likewise.
        ema: likewise, where there is an average of the weights.

    Raises:
        UserError: they do not fit, key by key.
    """
    try:
        if checkpoint.model:
            model.load_state_dict(checkpoint.model)
        if checkpoint.optimizer:
            optimizer.load_state_dict(checkpoint.optimizer)
        if ema is not None and checkpoint.ema is not None:
            ema.load_state_dict(checkpoint.ema)
    except (RuntimeError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"{folder / CHECKPOINT_NAME} does not fit the run, which cannot go on: {reason}") from None


def _damaged(path: Path, error: Exception) -> str:
    return f"{path} is damaged and cannot be resumed: {one_line(error)}"
