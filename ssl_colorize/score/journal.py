"""A run's figures photo by photo, one line each, appended as they come."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ssl_colorize.errors import UserError

Line = dict[str, Any]


class Journal:
    """The lines of a run: of photo i line i, so that the number of lines says where to go on."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def lines(self) -> list[Line]:
        """All complete lines; what a crash left of a last one does not count."""
        if not self.path.is_file():
            return []
        whole, _, _ = self.path.read_bytes().rpartition(b"\n")
        return [json.loads(line) for line in whole.splitlines()]

    def keep(self, count: int, names: Sequence[str]) -> None:
        """Cut it to its first `count` lines.

        Raises:
            UserError: they are not about the first of the named photos.
        """
        lines = self.lines()[:count]
        for line, name in zip(lines, names, strict=False):
            if line["photo"] != name:
                raise UserError(
                    f"{self.path} goes on with {line['photo']} where the photos now have {name}: they changed since "
                    "the run began. Score them in a new run."
                )
        with self.path.open("rb+" if self.path.exists() else "wb+") as file:
            for _ in lines:
                file.readline()
            file.truncate(file.tell())

    def append(self, lines: Sequence[Line]) -> None:
        """Add lines; they are on the disk when this returns."""
        with self.path.open("ab") as file:
            file.write("".join(json.dumps(line) + "\n" for line in lines).encode())
            file.flush()
            # Other files say how far this one is, and must not be ahead of it after a power cut.
            os.fsync(file.fileno())
