"""The log of a training run: metrics.jsonl, one JSON object a line, and TensorBoard."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from ssl_colorize.errors import UserError
from ssl_colorize.runs import write_atomically

METRICS_LOG = "metrics.jsonl"


class RunLog:
    """metrics.jsonl and TensorBoard, both in the run folder; nothing if quiet.

    A run that goes on drops the rows and events after its checkpoint, since it will write them again.
    """

    def __init__(self, folder: Path, start: int = 0, *, quiet: bool = False) -> None:
        """Open the log of a run after `start` steps."""
        self.file, self.board = None, None
        if not quiet:
            # Slow to import.
            from torch.utils.tensorboard import SummaryWriter

            rewind_log(folder, start)
            self.file = (folder / METRICS_LOG).open("a", encoding="utf-8")
            self.board = SummaryWriter(folder, purge_step=start + 1 if start else None)

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(self, *_: object) -> None:
        # What a full disk could not take was told when it was written.
        for log in (self.file, self.board):
            if log is not None:
                with suppress(OSError):
                    log.close()

    def write(self, step: int, row: dict[str, Any]) -> None:
        """Log a step: figures by name, those of held-out photos beginning with "holdout_".

        Raises:
            UserError: it cannot be written (full disk).
        """
        if self.file is None or self.board is None:
            return
        try:
            self.file.write(json.dumps({"step": step} | row) + "\n")
            self.file.flush()
            for name, value in row.items():
                if value is not None:
                    self.board.add_scalar(name.replace("holdout_", "holdout/", 1), value, step)
        except OSError as error:
            raise UserError(f"Cannot write {self.file.name}: {error.strerror}. Make room, then --resume.") from None


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
