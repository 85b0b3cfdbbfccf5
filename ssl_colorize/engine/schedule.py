"""The learning rate over the steps of a training, and the seed of what is random in a step."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Schedule:
    """The factor on every learning rate: linear warm-up, then half a cosine to zero, or constant between drops.

    >>> cosine = Schedule(12, warmup=2)
    >>> [round(cosine(step), 2) for step in (0, 1, 2, 7, 11)]
    [0.33, 0.67, 1.0, 0.5, 0.02]
    >>> [Schedule(4, drops=[(2, 0.1)])(step) for step in range(4)]
    [1.0, 1.0, 0.1, 0.1]

    Attributes:
        steps: of the whole training.
        warmup: steps until the factor is 1.
        drops: [step, factor from there on], ascending; None for the cosine.
    """

    steps: int
    warmup: int = 0
    drops: Sequence[tuple[int, float]] | None = None

    def __call__(self, step: int) -> float:
        """The factor for the step that follows after `step` steps."""
        factor = min(1.0, (step + 1) / (self.warmup + 1))
        if self.drops is None:
            done = max(0, step - self.warmup) / max(1, self.steps - self.warmup)
            return factor * 0.5 * (1 + math.cos(math.pi * done))
        reached = [lower for at, lower in self.drops if step >= at]
        return factor * reached[-1] if reached else factor


def regular_drops(every: int, factor: float, steps: int) -> list[tuple[int, float]]:
    """Drops to a share of the rate after every so many steps.

    >>> regular_drops(3, 0.5, 8)
    [(3, 0.5), (6, 0.25)]
    """
    return [(number * every, float(factor**number)) for number in range(1, (steps - 1) // every + 1)]


def step_seed(seed: int, step: int, rank: int) -> int:
    """Of what is random within a step (dropout, which pixels are sampled): the same however the run came there."""
    return int(np.random.SeedSequence((seed, step, rank)).generate_state(1, np.uint64)[0] >> np.uint64(1))
