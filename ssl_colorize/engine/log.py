"""The log of a training run: metrics.jsonl, one JSON object a line, and TensorBoard; and its progress on the screen."""

import json
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

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
                    self.board.add_scalar(
                        name.replace("holdout_", "holdout/", 1).replace("watch_", "watch/", 1), value, step
                    )
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


# Where nobody watches a bar (a log file), a line every so many seconds does.
LINE_EVERY = 60.0


class TrainingProgress:
    """A bar with photos/s, loss and time left on a terminal; lines in a log file. Writes to standard error."""

    def __init__(
        self,
        start: int,
        steps: int,
        batch_size: int,
        *,
        title: str = "pretrain",
        part: str = "",
        quiet: bool = False,
    ) -> None:
        """Begin after `start` steps of `steps`; `part` says of which part of the run they are, where it has several."""
        self.part = f"{part}  " if part else ""
        self.console = Console(stderr=True, quiet=quiet, soft_wrap=True)
        self.batch_size = batch_size
        self.steps = steps
        self.bar = Progress(
            TextColumn(f"[bold]{title} {part}".rstrip()), BarColumn(), MofNCompleteColumn(),
            TextColumn("{task.fields[rate]:.0f} photos/s  loss {task.fields[loss]:.3f}"),
            TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(elapsed_when_finished=False),
            console=self.console, disable=quiet or not sys.stderr.isatty(),
        )  # fmt: skip
        self.task = self.bar.add_task("steps", total=steps, completed=start, rate=0.0, loss=float("nan"))
        self.last = (start, time.monotonic())
        self.rate = 0.0
        self.said = time.monotonic()

    def __enter__(self) -> "TrainingProgress":
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def advance(self, step: int, loss: float) -> float:
        """Show a step; returns photos/s since the last one shown."""
        now = time.monotonic()
        before, then = self.last
        rate = (step - before) * self.batch_size / max(now - then, 1e-9)
        self.last = (step, now)
        # The bar shows a steadier figure than the log.
        self.rate = rate if self.rate == 0 else 0.9 * self.rate + 0.1 * rate
        self.bar.update(self.task, completed=step, rate=self.rate, loss=loss)
        if self.bar.disable and now - self.said > LINE_EVERY:
            left = (self.steps - step) * self.batch_size / max(self.rate, 1e-9) / 60
            counted = f"{self.part}step {step}/{self.steps}"
            self.say(f"{counted}  {self.rate:.0f} photos/s  loss {loss:.3f}  {left:.0f} min left")
            self.said = now
        return round(rate, 2)

    def rest(self) -> None:
        """What happened since the last step is not training, and does not count in its rate."""
        self.last = (self.last[0], time.monotonic())

    def say(self, words: str) -> None:
        """Print a line, above the bar where there is one."""
        self.console.print(words, highlight=False, markup=False)
