"""What the verbs print: bars and chatter on standard error, results and the next step on standard output."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from ssl_colorize.cli import COMMAND

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

# Characters of a line that nothing is too long for.
WHOLE = 1000


def command_line() -> str:
    """The command as it was typed, for metrics.json."""
    command: str = click.get_current_context().meta[COMMAND]
    return command


def note(text: str) -> None:
    """Chatter: goes to standard error, so that results can be piped."""
    click.echo(text, err=True)


def results() -> Console:
    """Where results are printed: as wide as the terminal; into a file or a pipe, as wide as they are."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else WHOLE)


def finish(
    content: Mapping[str, Any], *, title: str, next_step: str, as_json: bool, figures: Mapping[str, Any] | None = None
) -> None:
    """End a verb: the figures as a table, or metrics.json as JSON, and one line that says what comes next.

    Args:
        content: what metrics.json holds.
        title: line over the table.
        next_step: what to run or look at now.
        as_json: print `content` instead of a table; the next step then goes to standard error.
        figures: what the table shows; the content's metrics by default.
    """
    if as_json:
        click.echo(json.dumps(content, indent=2))
    else:
        from ssl_colorize.report.tables import figures_table

        results().print(figures_table(content["metrics"] if figures is None else figures, title=title))
    click.echo(f"Next: {next_step}", err=as_json)


def progress_bar() -> Progress:
    """A bar on standard error with the count, the rate in photos per second and the time left."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
    from rich.progress import TimeRemainingColumn as TimeLeft
    from rich.text import Text

    class Rate(ProgressColumn):
        """Photos per second; nothing until there is something to say."""

        def render(self, task: Task) -> Text:
            # Over the whole run: rich's own figure leaves out the time before the first photo was done.
            photos = not task.description.endswith("layers")
            speed = task.completed / task.elapsed if task.elapsed and photos else 0
            return Text(f"{speed:.3g} photos/s" if speed else "", style="cyan")

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Rate(), TimeLeft(compact=True))
    return Progress(*columns, console=Console(stderr=True))


Watch = Callable[[str, int, int], None]


@contextmanager
def watching() -> Iterator[tuple[Callable[[str], None], Watch]]:
    """A bar for work in several steps, one at a time: a function that says a line above it, and one that moves it.

    The second one is told what is done, how much of it, and of how many.
    """
    with progress_bar() as bar:
        tasks: dict[str, Any] = {}

        def watch(what: str, done: int, total: int) -> None:
            if what not in tasks:
                for task in tasks.values():
                    bar.remove_task(task)
                tasks.clear()
                tasks[what] = bar.add_task(what)
            bar.update(tasks[what], completed=done, total=total)

        yield lambda line: bar.console.print(line, highlight=False, markup=False), watch
