"""What a participant is shown, and in which order (the paper's two-alternative forced choice)."""

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
    """
    names = chance.sample(list(photos), protocol.pairs)
    watched = set(chance.sample(range(protocol.trials), round(protocol.vigilance * protocol.trials)))
    kinds: list[Kind] = ["practice"] * protocol.practice
    kinds += ["vigilance" if place in watched else "counted" for place in range(protocol.trials)]
    return [Pair(kind, name, chance.random() < 0.5) for kind, name in zip(kinds, names, strict=True)]
