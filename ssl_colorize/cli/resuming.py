"""Going on with a stopped run: by its own settings, but for those that do not make it another run."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ssl_colorize.errors import UserError

if TYPE_CHECKING:
    from ssl_colorize.config import Settings

    AnySettings = TypeVar("AnySettings", bound=Settings)


def resumed_settings(
    kind: type[AnySettings],
    folder: Path,
    *,
    config: Path | None,
    ask: Callable[[Path], AnySettings],
    free: frozenset[str],
) -> AnySettings:
    """The settings of the run in a folder, with what was asked beside `--resume`.

    Args:
        config: what `--config` says, which has no place here.
        ask: the settings that a file, the flags and the assignments come to.
        free: settings that may differ from the run's.

    Raises:
        UserError: the folder is no run, or what was asked contradicts its settings.
    """
    file = folder / "config.yaml"
    if not file.is_file():
        raise UserError(f"Nothing to resume: {folder} holds no config.yaml, so it is not the folder of a run.")
    if config is not None:
        raise UserError("--resume goes on by the settings of the run; leave --config away.")
    saved, asked = kind.resolve(file=file), ask(file)
    for name in kind.model_fields:
        before, now = getattr(saved, name), getattr(asked, name)
        if before != now and name not in free:
            raise UserError(f"--resume goes on with {name} {before}, as the run began; {now} needs a run of its own.")
    return asked


def first_process() -> bool:
    """Whether this process is the one of torchrun that speaks and writes; true without torchrun."""
    return os.environ.get("RANK", "0") == "0"


def refuse_unknown_folder(out: Path | None) -> None:
    """Processes must agree on the run folder, whose default name is a time.

    Raises:
        UserError: there are several, and no `--out`.
    """
    if out is None and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("Under torchrun every process has to know the run folder: give it with --out.")


def refuse_taken(out: Path | None, *, files: tuple[str, ...]) -> None:
    """A finished or stopped run is never trained over by accident.

    Raises:
        UserError: the folder holds one of a run's files.
    """
    for name in files if out is not None else ():
        if out is not None and (out / name).exists():
            raise UserError(
                f"{out} already holds a run ({name}): go on with it by --resume {out}, or choose another --out."
            )
