"""What every verb does around its work: settings, a run folder, a bar, figures, and one line on what comes next.

Bars and chatter go to standard error, results and the next step to standard output.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import click

from ssl_colorize.cli import COMMAND
from ssl_colorize.config import Settings
from ssl_colorize.errors import UserError, printable
from ssl_colorize.runs import run_folder, write_atomically, write_config, write_metrics

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table

    from ssl_colorize.data.reading import Reading

AnySettings = TypeVar("AnySettings", bound=Settings)
Say = Callable[[str], None]
Watch = Callable[[str, int, int], None]

# Characters of a line that nothing is too long for.
WHOLE = 1000


@dataclass(frozen=True)
class Invocation(Generic[AnySettings]):
    """What was typed after a verb.

    Attributes:
        kind: the class of the verb's settings.
        flags: by field; None or () where not given.
        resume: folder of the run to go on with.
        dry_run: stop after saying what would be read.
    """

    kind: type[AnySettings]
    flags: Mapping[str, Any]
    out: Path | None = None
    config: Path | None = None
    assignments: tuple[str, ...] = ()
    as_json: bool = False
    resume: Path | None = None
    dry_run: bool = False

    def settings(self, *, free: frozenset[str] = frozenset()) -> AnySettings:
        """The settings that file, assignments and flags come to.

        Args:
            free: what a resumed run may do otherwise without becoming another run, also inside of other settings.

        Raises:
            UserError: a setting is missing, unknown, does not fit, or contradicts the run to go on with.
        """
        if self.resume is None:
            self._refuse_missing()
            return self._resolved(self.config)
        file = self.resume / "config.yaml"
        if not file.is_file():
            raise UserError(f"Nothing to resume: {self.resume} holds no config.yaml, so it is not the folder of a run.")
        if self.config is not None:
            raise UserError("--resume goes on by the settings of the run; leave --config away.")
        saved, resumed = self.kind.resolve(file=file), self._resolved(file)
        settings, changed = saved.leaves(), resumed.leaves()
        for name in settings | changed:
            before, now = settings.get(name), changed.get(name)
            if before != now and name.rpartition(".")[2] not in free:
                raise UserError(
                    f"--resume goes on with {name} {before}, as the run began; {now} needs a run of its own."
                )
        return resumed

    def _resolved(self, file: Path | None) -> AnySettings:
        given = {name: None if value == () else value for name, value in self.flags.items()}
        return self.kind.resolve(file=file, assignments=self.assignments, flags=given)

    def _refuse_missing(self) -> None:
        assigned = {text.partition("=")[0].strip() for text in self.assignments}
        for name, about in self.kind.model_fields.items():
            given = self.flags.get(name) not in (None, ()) or name in assigned or self.config is not None
            if about.is_required() and not given:
                noun = {"data": "photos", "to": "kind"}.get(name, name)
                raise UserError(f"Give the {noun} with --{name}.")
        explicit = [name for name in ("train", "test") if name in self.kind.model_fields]
        if explicit and not self.kind.model_fields["data"].default:
            named = ("data", explicit[0])
            if self.config is None and not any(self.flags.get(name) or name in assigned for name in named):
                flags = " and ".join(f"--{name}" for name in explicit)
                raise UserError(f"Give the photos with --data, or with {flags}.")

    @contextmanager
    def running(
        self, verb: str, settings: Settings, *, taken: Sequence[str] = (), write_settings: bool = True
    ) -> Iterator[Run]:
        """A folder with the settings in it, and a bar. A run that cannot begin leaves no folder behind.

        Args:
            verb: what the folder is named after.
            settings: of the run.
            taken: files of a finished or stopped run, which is never trained over by accident.
            write_settings: whether to begin with writing config.yaml.

        Raises:
            UserError: the folder cannot be written, or holds a run already.
        """
        from ssl_colorize.data.reading import OnlyRead, listening
        from ssl_colorize.engine.signals import Interrupted

        if self.dry_run:
            # A verb may write before it reads: that goes where nobody sees it.
            with TemporaryDirectory() as nowhere, progress() as (say, watch):
                for path in self.resume.iterdir() if self.resume is not None else ():
                    (Path(nowhere) / path.name).symlink_to(path.absolute())
                run = Run(Path(nowhere), settings, say=say, watch=watch, only_reads=True, as_json=self.as_json)
                try:
                    with listening(run):
                        yield run
                except OnlyRead:
                    click.get_current_context().exit(0)
            return
        out = self.resume or self.out
        if out is None and int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise UserError("Under torchrun every process has to know the run folder: give it with --out.")
        found = [name for name in taken if out is not None and (out / name).exists()]
        if found and self.resume is None:
            raise UserError(
                f"{out} already holds a run ({found[0]}): go on with it by --resume {out}, or choose another --out."
            )
        fresh = out is None or not out.exists()
        folder = run_folder(out, verb)
        try:
            if write_settings and first_process():
                write_config(folder, settings)
            with progress() as (say, watch):
                run = Run(folder, settings, say=say, watch=watch)
                with listening(run):
                    yield run
        except Interrupted as stopped:
            note(str(stopped))
            click.get_current_context().exit(128 + stopped.signum)
        except BaseException:
            if fresh and first_process():
                leave_nothing(folder)
            raise


@dataclass(frozen=True)
class Run:
    """A verb at work: where it writes, and how it says what it does and what it reads."""

    folder: Path
    settings: Settings
    say: Say
    watch: Watch
    began: float = field(default_factory=perf_counter)
    only_reads: bool = False
    as_json: bool = False
    _readings: list[Reading] = field(default_factory=list)
    _passed: dict[str, set[str]] = field(default_factory=dict)

    def hear(self, reading: Reading) -> None:
        """Say what was read, which metrics.json will hold as well; with `--dry-run` that is all.

        Raises:
            OnlyRead: that was all.
        """
        from ssl_colorize.data.reading import OnlyRead

        note(reading.line())
        for finding in reading.findings:
            note(finding)
        self._readings.append(reading)
        if self.only_reads:
            if self.as_json and self.first:
                click.echo(json.dumps(reading.record(), indent=2))
            raise OnlyRead

    def pass_over(self, reason: str, names: Iterable[str]) -> None:
        """Note what is known only after reading, for metrics.json."""
        self._passed.setdefault(reason, set()).update(names)

    @property
    def read(self) -> dict[str, Any] | None:
        """What was read and what was passed over, as JSON; None where nothing was read."""
        if not self._readings:
            return None
        reading = self._readings[0]
        for reason, names in self._passed.items():
            reading = reading.passing(reason, names)
        return reading.record()

    @property
    def first(self) -> bool:
        """Whether this process speaks and writes."""
        return first_process()

    def write(self, metrics: Mapping[str, Any], *, seconds: float | None = None) -> dict[str, Any]:
        """Write metrics.json, and return what it holds.

        Args:
            metrics: the final figures.
            seconds: what the run took; since it began here by default.
        """
        return write_metrics(
            self.folder,
            command=command_line(),
            metrics=metrics,
            config=self.settings.model_dump(mode="json"),
            seed=getattr(self.settings, "seed", None),
            seconds=perf_counter() - self.began if seconds is None else seconds,
            read=self.read,
        )


def command_line() -> str:
    """The command as it was typed, for metrics.json."""
    typed: str | None = click.get_current_context().meta.get(COMMAND)
    return typed or shlex.join(["python", *sys.argv])


def first_process() -> bool:
    """Whether this process is the one of torchrun that speaks and writes; true without torchrun."""
    return os.environ.get("RANK", "0") == "0"


def leave_nothing(folder: Path) -> None:
    """Remove a folder that holds nothing but settings and empty logs; one with anything else keeps it all."""
    trivial = {"config.yaml", *(path.name for path in folder.glob("events.out.*"))}
    trivial |= {path.name for path in folder.glob("metrics.jsonl") if not path.stat().st_size}
    found = list(folder.iterdir())
    if all(path.name in trivial for path in found):
        with suppress(OSError):
            for path in found:
                path.unlink()
            folder.rmdir()


def note(text: str) -> None:
    """Chatter of the first process: goes to standard error, so that results can be piped."""
    if first_process():
        click.echo("\n".join(map(printable, text.splitlines())), err=True)


def list_unreadable(folder: Path, problems: list[str], *, of: int) -> None:
    """Write unreadable.txt, and say how many there are.

    Args:
        folder: of the run.
        problems: a line for each photo that could not be read.
        of: how many photos there were.

    Raises:
        UserError: none of them could be read.
    """
    from ssl_colorize.data.reading import report

    report("unreadable", problems)
    listed = folder / "unreadable.txt"
    if not problems:
        listed.unlink(missing_ok=True)  # of an earlier run into the same folder
        return
    # A file name need not be valid UTF-8, and still has to be told.
    write_atomically(listed, "".join(f"{problem}\n" for problem in problems).encode("utf-8", "backslashreplace"))
    if len(problems) == of:
        raise UserError(f"None of the {of} photos could be read; {listed} says why. The first: {problems[0]}")
    note(f"{len(problems)} of {of} photos could not be read and were skipped: {listed} says why.")


def results() -> Console:
    """Where results are printed: as wide as the terminal; into a file or a pipe, as wide as they are."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else WHOLE)


def finish(content: Mapping[str, Any], *tables: Table, next_step: str, as_json: bool) -> None:
    """End a verb: its tables, or metrics.json as JSON, and one line that says what comes next.

    Args:
        content: what metrics.json holds.
        tables: to print where `content` is not.
        next_step: what to run or look at now; goes to standard error beside JSON.
        as_json: print `content`.
    """
    if as_json:
        click.echo(json.dumps(content, indent=2))
    else:
        for table in tables:
            results().print(table)
    click.echo(f"Next: {printable(next_step)}", err=as_json)


@contextmanager
def progress() -> Iterator[tuple[Say, Watch]]:
    """A bar for work in several steps, one at a time: a function that says a line above it, and one that moves it.

    The second one is told what is done, how much of it, and of how many; the bar appears when it is first called. Only
    the first process shows anything.
    """
    bar = progress_bar()
    steps: dict[str, Any] = {}

    def say(line: str) -> None:
        if first_process():
            bar.console.print(line, highlight=False, markup=False)

    def watch(what: str, done: int, total: int) -> None:
        if not first_process():
            return
        bar.start()
        if what not in steps:
            for step in steps.values():
                bar.remove_task(step)
            steps.clear()
            steps[what] = bar.add_task(what)
        bar.update(steps[what], completed=done, total=total)

    try:
        yield say, watch
    finally:
        # One that never started would print an empty line.
        if bar.live.is_started:
            bar.stop()


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
