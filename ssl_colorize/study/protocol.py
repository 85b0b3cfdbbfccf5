"""Settings of the study's two verbs, and what a participant is shown (the paper's two-alternative forced choice)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

from pydantic import Field

from ssl_colorize.config import Settings

# Side of every photo that is shown, in pixels.
SIDE = 256

# A vigilance pair stands among the counted ones and looks like any of them, but its recolored photo has the colors of
# another photo: whoever looks at the screen sees which one is real.
Kind = Literal["practice", "counted", "vigilance"]


class Protocol(Settings):
    """Settings of a session.

    Attributes:
        practice: pairs with feedback, which do not count.
        trials: pairs without feedback, vigilance pairs among them.
        vigilance: share of those trials that are vigilance pairs.
        seconds: how long each photo is shown.
        pause: seconds of blank screen before each photo, so that the two are not seen as one photo that flickers.
    """

    practice: int = Field(10, ge=0, le=1000)
    trials: int = Field(40, ge=1, le=10000)
    vigilance: float = Field(0.1, ge=0, le=0.5)
    seconds: float = Field(1.0, gt=0, le=60)
    pause: float = Field(0.5, ge=0, le=60)

    @property
    def pairs(self) -> int:
        """Pairs of a session, each of another photo."""
        return self.practice + self.trials


class ServeSettings(Protocol):
    """Settings of `ssl-colorize study serve`, beside those of a session.

    Attributes:
        photos: the real photos: what --data takes elsewhere, read whole.
        methods: "name=RUN", "name=FOLDER" of colored pictures under the same names, "gray" or "random".
        temperature: of the networks' annealed mean; None is each checkpoint's own.
        limit: prepare at most so many photos.
        device: auto, cpu or cuda.
        host: address to listen at; 0.0.0.0 is every one of this machine.
        port: to listen at; 0 takes a free one.
        contact: whom participants may ask, for the first page.
    """

    photos: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    temperature: float | None = Field(None, ge=0)
    limit: int | None = Field(None, ge=1)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    contact: str = ""


class ReportSettings(Settings):
    """Settings of `ssl-colorize study report`.

    Attributes:
        study: folder of a `study serve` run.
        vigilance: a session counts if at least this share of its vigilance pairs is answered rightly.
        unfinished: count sessions that were not finished as well.
        resamples: of the bootstrap.
        seed: of the bootstrap.
    """

    study: str
    vigilance: float = Field(0.75, ge=0, le=1)
    unfinished: bool = False
    resamples: int = Field(10_000, ge=100, le=1_000_000)
    seed: int = 0


@dataclass(frozen=True)
class Pair:
    """One photo, to be shown as it is and recolored.

    Attributes:
        photo: its name.
        real_first: whether the real one comes first.
    """

    kind: Kind
    photo: str
    real_first: bool


def plan_session(photos: Sequence[str], protocol: Protocol, chance: Random) -> list[Pair]:
    """Draw the pairs of a session: photos without repetition, the order within each pair by a coin.

    Args:
        photos: names of at least `protocol.pairs` photos.
        chance: source of what is random.

    Raises:
        ValueError: there are too few photos.

    >>> [pair.kind for pair in plan_session("abc", Protocol(practice=1, trials=2, vigilance=0), Random(0))]
    ['practice', 'counted', 'counted']
    """
    names = chance.sample(list(photos), protocol.pairs)
    watched = set(chance.sample(range(protocol.trials), round(protocol.vigilance * protocol.trials)))
    kinds: list[Kind] = ["practice"] * protocol.practice
    kinds += ["vigilance" if place in watched else "counted" for place in range(protocol.trials)]
    return [Pair(kind, name, chance.random() < 0.5) for kind, name in zip(kinds, names, strict=True)]
