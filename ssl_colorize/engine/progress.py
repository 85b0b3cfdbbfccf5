"""What a training run tells while it runs: to whoever watches, and to its log."""

import json
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch.utils.tensorboard import SummaryWriter

from ssl_colorize.engine.checkpoint import METRICS_LOG
from ssl_colorize.errors import UserError
from ssl_colorize.pretrain.holdout import sepia_warning

# Where nobody watches a bar (a log file), a line every so many seconds does.
LINE_EVERY = 60.0


class TrainingProgress:
    """A bar with photos/s, loss and time left on a terminal; lines in a log file. Writes to standard error."""

    def __init__(
        self, start: int, steps: int, batch_size: int, *, title: str = "pretrain", quiet: bool = False
    ) -> None:
        self.console = Console(stderr=True, quiet=quiet, soft_wrap=True)
        self.batch_size = batch_size
        self.steps = steps
        self.bar = Progress(
            TextColumn(f"[bold]{title}"), BarColumn(), MofNCompleteColumn(),
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
            self.say(f"step {step}/{self.steps}  {self.rate:.0f} photos/s  loss {loss:.3f}  {left:.0f} min left")
            self.said = now
        return round(rate, 2)

    def look(self, step: int, figures: dict[str, Any]) -> None:
        """Show the figures on held-out photos; time spent on them does not count as training."""
        if figures:
            beside = {name: figures.get(f"{name}_constant") for name in figures}
            parts = [
                f"{name} {figures[name]:.4f} (best constant {constant:.4f})"
                for name, constant in beside.items()
                if constant is not None
            ]
            if figures.get("kl") is not None:
                parts.append(f"KL {figures['kl']:.3f} nats")
            colors = figures.get("chroma") is not None
            if colors:
                parts.append(f"chroma {figures['chroma']:.1f} (true {figures['chroma_true']:.1f})")
            self.say(f"held out at step {step}: " + ", ".join(parts))
            if colors and (warning := sepia_warning(figures)):
                self.say(warning)
        self.rest()

    def rest(self) -> None:
        """What happened since the last step is not training, and does not count in its rate."""
        self.last = (self.last[0], time.monotonic())

    def say(self, words: str) -> None:
        self.console.print(words, highlight=False, markup=False)


class RunLog:
    """metrics.jsonl and TensorBoard, both in the run folder; nothing if quiet."""

    def __init__(self, folder: Path, start: int, *, quiet: bool = False) -> None:
        self.file = None if quiet else (folder / METRICS_LOG).open("a", encoding="utf-8")
        # A run that goes on drops the events after its checkpoint, since it will write them again.
        self.board = None if quiet else SummaryWriter(folder, purge_step=start + 1 if start else None)

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
