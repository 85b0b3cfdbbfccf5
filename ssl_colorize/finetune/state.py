"""How far a fine-tuning run is, and what it has seen of its learning rates."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor


@dataclass
class Look:
    """The figure on the photos to choose on, after a step of a trial (one learning rate)."""

    trial: int
    step: int
    figure: float  # minus infinity where there is none: training blew up


def best_look(looks: Sequence[Look]) -> Look:
    """The one with the highest figure; of equal ones the longest training, and then the lowest learning rate.

    On few photos many figures are equal, and the later one comes from smaller steps: it depends less on chance.
    """
    return max(looks, key=lambda look: (look.figure, look.step, -look.trial))


@dataclass
class State:
    """How far a run is; with the model and the optimizer, all that it takes to go on.

    Attributes:
        trial: which learning rate it is at; as many as there are rates: the final training.
        step: of this trial.
        logged: steps of the trials before.
        looks: at the photos to choose on, so far.
        seconds: spent so far.
        best: the weights after the best of the looks, where they are to be kept.
    """

    trial: int = 0
    step: int = 0
    logged: int = 0
    looks: list[Look] = field(default_factory=list)
    seconds: float = 0.0
    best: dict[str, Tensor] | None = None


def stored(state: State) -> dict[str, Any]:
    """A state as tensors and plain values, which a file may hold without being able to run code."""
    return vars(state) | {"looks": [asdict(look) for look in state.looks]}


def restored(content: dict[str, Any]) -> State:
    """The opposite of `stored`."""
    return State(**content | {"looks": [Look(**look) for look in content["looks"]]})
