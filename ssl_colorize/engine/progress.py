"""What a training tells whoever watches it, while it runs."""

import sys
import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

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

    def rest(self) -> None:
        """What happened since the last step is not training, and does not count in its rate."""
        self.last = (self.last[0], time.monotonic())

    def say(self, words: str) -> None:
        """Print a line, above the bar where there is one."""
        self.console.print(words, highlight=False, markup=False)
