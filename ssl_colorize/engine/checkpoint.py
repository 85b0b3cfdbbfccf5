"""All that a run needs to go on exactly as if it had never stopped."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ssl_colorize.errors import UserError, one_line
from ssl_colorize.models.objectives import TrainingStatistics
from ssl_colorize.runs import write_atomically

CHECKPOINT_NAME = "checkpoint.pt"
METRICS_LOG = "metrics.jsonl"


@dataclass
class Checkpoint:
    """A run after `step` steps, with the last figures on its held-out photos.

    Data order and augmentation are not in it: they follow from the step and the seed alone.
    """

    step: int
    model: dict[str, Tensor]
    optimizer: dict[str, Any]
    ema: dict[str, Tensor] | None
    statistics: TrainingStatistics
    random_state: Tensor
    seconds: float
    figures: dict[str, Any]


def save_checkpoint(checkpoint: Checkpoint, folder: Path) -> None:
    """Write the folder's checkpoint, atomically.

    Raises:
        UserError: it cannot be written; the one before is untouched.
    """
    write_state(asdict(checkpoint), folder)


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read the folder's checkpoint.

    Raises:
        UserError: there is none, or it is damaged.
    """
    content = read_state(folder)
    try:
        return Checkpoint(**content | {"statistics": TrainingStatistics(**content["statistics"])})
    except (KeyError, TypeError) as error:
        raise UserError(_damaged(folder, error)) from None


def write_state(content: dict[str, Any], folder: Path) -> None:
    """Write tensors and plain values as the folder's checkpoint, atomically.

    Raises:
        UserError: it cannot be written; the one before is untouched.
    """

    def write(path: Path) -> None:
        try:
            # Through a file of our own: torch's writer reports a full disk in several ways.
            with path.open("wb") as file:
                torch.save(content, file)
        except RuntimeError as error:
            raise OSError(one_line(error)) from error

    write_atomically(folder / CHECKPOINT_NAME, write)


def read_state(folder: Path) -> dict[str, Any]:
    """The content of the folder's checkpoint, on the CPU.

    Raises:
        UserError: there is none, or it is damaged.
    """
    path = folder / CHECKPOINT_NAME
    if not path.is_file():
        raise UserError(f"Nothing to resume: {folder} holds no {CHECKPOINT_NAME}.")
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # torch.load's errors are of many kinds, and none of them names the file.
        raise UserError(_damaged(folder, error)) from None
    return content


def _damaged(folder: Path, error: Exception) -> str:
    return f"{folder / CHECKPOINT_NAME} is damaged and cannot be resumed: {one_line(error)}"


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The rows of `metrics.jsonl`; a last line that a crash cut short is left out."""
    path = folder / METRICS_LOG
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def rewind_log(folder: Path, step: int) -> None:
    """Drop the rows after `step`: a run that was killed has logged steps that it will now do again."""
    rows = [row for row in read_log(folder) if row["step"] <= step]
    write_atomically(folder / METRICS_LOG, "".join(json.dumps(row) + "\n" for row in rows))
