"""What the verbs that measure an encoder on frozen features share: their flags' meaning, their folder, their bar."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from ssl_colorize.errors import UserError

if TYPE_CHECKING:
    from ssl_colorize.config import Settings

    AnySettings = TypeVar("AnySettings", bound=Settings)


def resolve(
    kind: type[AnySettings], *, file: Path | None, assignments: tuple[str, ...], flags: Mapping[str, Any]
) -> AnySettings:
    """The verb's settings; a flag that may be given again and was not given at all counts as not given.

    Raises:
        UserError: the encoder or the photos are missing, or a setting does not fit.
    """
    given = {name: None if value == () else value for name, value in flags.items()}
    for name in ("encoder", "data"):
        if name not in given:  # a verb without it
            continue
        if given[name] is None and file is None and not any(one.startswith(f"{name}=") for one in assignments):
            raise UserError(f"Give the {'photos' if name == 'data' else name} with --{name}.")
    return kind.resolve(file=file, assignments=assignments, flags=given)


class Run(NamedTuple):
    """A measurement on its way: where it writes, and how it says what it does."""

    folder: Path
    say: Callable[[str], None]
    watch: Callable[[str, int, int], None]


@contextmanager
def measuring(verb: str, settings: Settings, out: Path | None) -> Iterator[Run]:
    """A folder with the settings in it, and a bar; a run that cannot begin leaves no folder behind."""
    from ssl_colorize.cli.output import watching
    from ssl_colorize.runs import run_folder, write_config

    fresh = out is None or not out.exists()
    folder = run_folder(out, verb)
    write_config(folder, settings)
    try:
        with watching() as (say, watch):
            yield Run(folder, say, watch)
    except UserError:
        if fresh:
            with suppress(OSError):
                (folder / "config.yaml").unlink()
                folder.rmdir()
        raise


def percent(share: float | None) -> str:
    """A fraction in percent, as tables show it; a dash for none."""
    return "-" if share is None else f"{100 * share:.1f}"


def interval(figures: Mapping[str, Any]) -> str:
    """The 95 % interval, in percent."""
    return f"{percent(figures['low'])} to {percent(figures['high'])}"
