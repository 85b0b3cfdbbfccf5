"""Ctrl-C and SIGTERM: a run saves before it stops, and says how to go on."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class Interrupted(Exception):
    """The run was asked to stop, and saved first."""

    def __init__(self, folder: Path, signum: int, *, verb: str, step: int | None = None) -> None:
        after = "" if step is None else f" after step {step}"
        super().__init__(f"Stopped{after}; saved. Go on with: ssl-colorize {verb} --resume {folder}")
        self.signum = signum


@dataclass
class StopRequest:
    """The number of the signal that asked the run to stop, once one did."""

    number: int | None = None


@contextmanager
def stop_signals() -> Iterator[StopRequest]:
    """Note the first SIGINT or SIGTERM, for the loop to save and stop; a second one acts at once."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        # Python gives signals to the main thread only; a run elsewhere is stopped by whoever started it.
        yield request
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, _: Any) -> None:
        request.number = number
        for name, handler in before.items():
            signal.signal(name, handler)

    for number in before:
        signal.signal(number, note)
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
