"""Settings of the study's two verbs, and what a participant is shown (the paper's two-alternative forced choice)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

from pydantic import Field

from ssl_colorize.config import DeviceName, Limit, Seed, Settings

# Side of every photo that is shown, in pixels.
SIDE = 256

# A vigilance pair stands among the counted ones and looks like any of them, but its recolored photo has the colors of
# another photo: whoever looks at the screen sees which one is real.
Kind = Literal["practice", "counted", "vigilance"]


class Protocol(Settings):
    """Settings of a session."""

    practice: int = Field(10, ge=0, le=1000, description="pairs with feedback, which do not count")
    trials: int = Field(40, ge=1, le=10000, description="pairs without feedback, vigilance pairs among them")
    vigilance: float = Field(0.1, ge=0, le=0.5, description="share of those trials that are vigilance pairs")
    seconds: float = Field(1.0, gt=0, le=60, description="how long each photo is shown")
    # So that the two photos are not seen as one that flickers.
    pause: float = Field(0.5, ge=0, le=60, description="seconds of blank screen before each photo")

    @property
    def pairs(self) -> int:
        """Pairs of a session, each of another photo."""
        return self.practice + self.trials


class ServeSettings(Protocol):
    """Settings of `ssl-colorize study serve`, beside those of a session."""

    photos: tuple[str, ...] = Field((), description="the real photos: what --data takes elsewhere, read whole")
    methods: tuple[str, ...] = Field(
        (),
        description="a run that colors the photos, a folder with a colored picture of each under its name, gray or "
        "random; also as NAME=RUN or NAME=FOLDER; a session has one of them",
    )
    temperature: float | None = Field(None, ge=0, description="of the runs; their own if none is given")
    limit: Limit = None
    device: DeviceName = "auto"
    host: str = Field("127.0.0.1", description="where to listen; 0.0.0.0 lets phones in")
    port: int = Field(8000, ge=0, le=65535, description="0 takes a free one")
    contact: str = Field("", description="whom participants may ask, for the first page")


class ReportSettings(Settings):
    """Settings of `ssl-colorize study report`."""

    study: str = Field(description="folder of a `study serve` run")
    vigilance: float = Field(
        0.75, ge=0, le=1, description="share of its vigilance pairs that a session must have right to count"
    )
    unfinished: bool = Field(False, description="count unfinished sessions as well")
    resamples: int = Field(10_000, ge=100, le=1_000_000, description="of the bootstrap")
    seed: Seed = 0


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
