"""What moves the weights, and how far: the optimizers, and the schedule of the learning rate."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from ssl_colorize.engine.muon import Muon

OptimizerName = Literal["adam", "adamw", "muon", "sgd"]

# Muon's matrices take fewer iterations with these coefficients to be as good as orthogonal.
_COEFFICIENTS, _ITERATIONS = "polar_express", 4


def make_optimizer(
    name: OptimizerName,
    groups: Sequence[dict[str, Any]],
    *,
    learning_rate: float = 0.0,
    weight_decay: float = 0.0,
    betas: tuple[float, float] = (0.9, 0.999),
    momentum: float = 0.9,
    fallback_share: float = 1.0,
) -> torch.optim.Optimizer:
    """An optimizer over groups of weights.

    A deep plain network trained with Adam comes to use few directions of its features (benchmarks/frozen.py rank). Muon
    (Jordan et al. 2024) orthogonalizes the step of each weight matrix (a convolution's is outputs x the rest), so that
    no direction is forgotten. Its steps are scaled to the size of Adam's, and the learning rate means the same.

    >>> weight = torch.nn.Parameter(torch.zeros(2))
    >>> optimizer = make_optimizer("sgd", [{"params": [weight], "factor": 10.0}])
    >>> set_learning_rate(optimizer, 0.01)
    >>> optimizer.param_groups[0]["lr"]
    0.1

    Args:
        name: of the optimizer.
        groups: as torch's optimizers take them. "factor" is one on the learning rate (see `set_learning_rate`); with
            "use_fallback", Muon leaves the group to AdamW, as it does with all that are no matrices.
        learning_rate: of the first step, where it is not set before every step.
        weight_decay: of groups that do not say it: coupled L2 with adam and sgd, decoupled with adamw and muon.
        betas: of Adam, AdamW and Muon's AdamW.
        momentum: of SGD.
        fallback_share: what the learning rate of Muon's AdamW is times that of the matrices.
    """
    # Only Muon knows what to do with it.
    others = [{key: value for key, value in group.items() if key != "use_fallback"} for group in groups]
    if name == "adam":
        return torch.optim.Adam(others, lr=learning_rate, betas=betas, weight_decay=weight_decay)
    if name == "adamw":
        return torch.optim.AdamW(others, lr=learning_rate, betas=betas, weight_decay=weight_decay)
    if name == "sgd":
        return torch.optim.SGD(others, lr=learning_rate, momentum=momentum, weight_decay=weight_decay)
    return Muon(
        list(groups),
        lr=learning_rate, momentum=0.95, nesterov=True, betas=betas, weight_decay=weight_decay,
        ns_steps=_ITERATIONS, ns_coefficients=_COEFFICIENTS, adjust_lr_fn="match_rms_adamw",
        fallback_lr_scale=fallback_share,
    )  # fmt: skip


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of every group, times its "factor" where it has one."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("factor", 1.0)


# ---- the learning rate, and what is random in a step -----------------------------------------------------------------


@dataclass(frozen=True)
class Schedule:
    """The factor on every learning rate: linear warm-up, then half a cosine to zero, or constant between drops.

    With `decay`, it stays at one after the warm-up, and falls to zero in the last steps as one minus a square root
    (Hägele et al. 2024, arXiv 2405.18392): how long the training is need not be known before the fall begins.

    >>> cosine = Schedule(12, warmup=2)
    >>> [round(cosine(step), 2) for step in (0, 1, 2, 7, 11)]
    [0.33, 0.67, 1.0, 0.5, 0.02]
    >>> [Schedule(4, drops=[(2, 0.1)])(step) for step in range(4)]
    [1.0, 1.0, 0.1, 0.1]
    >>> [round(Schedule(8, decay=4)(step), 2) for step in range(8)]
    [1.0, 1.0, 1.0, 1.0, 1.0, 0.5, 0.29, 0.13]

    Attributes:
        steps: of the whole training.
        warmup: steps until the factor is 1.
        drops: [step, factor from there on], ascending; None for the cosine.
        decay: steps at the end in which the factor falls; None for the cosine.
    """

    steps: int
    warmup: int = 0
    drops: Sequence[tuple[int, float]] | None = None
    decay: int | None = None

    def __call__(self, step: int) -> float:
        """The factor for the step that follows after `step` steps."""
        factor = min(1.0, (step + 1) / (self.warmup + 1))
        if self.decay is not None:
            return factor * (1 - math.sqrt(max(0.0, 1 - (self.steps - step) / self.decay)))
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
