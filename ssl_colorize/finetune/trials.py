"""Choosing a learning rate and a length: how long a training is, when it is evaluated, and what came out best."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor

from ssl_colorize.finetune.building import current_state
from ssl_colorize.finetune.config import FinetuneSettings


@dataclass(frozen=True)
class Length:
    """A training on so many photos, in optimizer steps.

    Attributes:
        photos: how many.
        steps: that the schedule is made for.
        stop: that are taken; fewer, where a shorter training was chosen.
        evaluations: after which steps to evaluate on the photos to choose on.
    """

    photos: int
    steps: int
    stop: int
    evaluations: frozenset[int] = frozenset()

    @classmethod
    def whole(cls, settings: FinetuneSettings, photos: int, *, evaluated: bool) -> "Length":
        """The length that the settings ask for; evaluated after every so many epochs, and at the end."""
        steps = settings.steps or max(1, math.ceil((settings.epochs or 0) * photos / settings.batch_size))
        each = settings.evaluate_epochs * photos / settings.batch_size
        after = {steps} if evaluated else set()
        if evaluated and settings.choose_length:
            after |= {math.ceil(number * each) for number in range(1, math.ceil(steps / each))}
        return cls(photos, steps, steps, frozenset(step for step in after if 0 < step <= steps))

    def like(self, step: int, settings: FinetuneSettings, photos: int) -> "Length":
        """A training on other photos that stops where this one did after `step`, at the same place of the schedule."""
        whole = Length.whole(settings, photos, evaluated=False)
        return Length(photos, whole.steps, max(1, round(step / self.steps * whole.steps)))

    def epochs(self, step: int, batch_size: int) -> float:
        """Passes over the photos after a step."""
        return step * batch_size / self.photos


@dataclass
class Evaluation:
    """The figure on the photos to choose on, after a step of a trial (one learning rate)."""

    trial: int
    step: int
    figure: float  # minus infinity where there is none: training blew up


def best_evaluation(evaluations: Sequence[Evaluation]) -> Evaluation:
    """The one with the highest figure; of equal ones the longest training, and then the lowest learning rate.

    On few photos many figures are equal, and the later one comes from smaller steps: it depends less on chance.

    >>> best_evaluation([Evaluation(0, 10, 0.5), Evaluation(1, 20, 0.5), Evaluation(2, 20, 0.4)])
    Evaluation(trial=1, step=20, figure=0.5)
    """
    return max(evaluations, key=lambda one: (one.figure, one.step, -one.trial))


@dataclass
class Trials:
    """What a run has tried; with the checkpoint's own, all that it takes to go on.

    Attributes:
        trial: which learning rate it is at; as many as there are rates: the final training.
        logged: steps of the trials before.
        evaluations: on the photos to choose on, so far.
        best: the weights after the best of them, where they are to be kept.
    """

    trial: int = 0
    logged: int = 0
    evaluations: list[Evaluation] = field(default_factory=list)
    best: dict[str, Tensor] | None = None

    def next(self, steps: int) -> None:
        """Go on to the next learning rate after so many steps at this one."""
        self.trial, self.logged = self.trial + 1, self.logged + steps

    def stored(self) -> dict[str, Any]:
        """Tensors and plain values, as a checkpoint keeps them."""
        return vars(self) | {"evaluations": [asdict(one) for one in self.evaluations]}

    @classmethod
    def restored(cls, content: dict[str, Any]) -> "Trials":
        """The opposite of `stored`."""
        return cls(**content | {"evaluations": [Evaluation(**one) for one in content.get("evaluations", ())]})


def from_format_1(content: dict[str, Any]) -> dict[str, Any]:
    """What was in a checkpoint before it had a format number, as keywords of `Checkpoint`."""
    state = content["state"]
    extra = {name: state[name] for name in ("trial", "logged")} | {"evaluations": state["looks"]}
    extra["best"] = None if state["best"] is None else current_state(state["best"])
    return {
        "step": state["step"],
        "model": current_state(content["model"] or {}),
        "optimizer": content["optimizer"] or {},
        "seconds": state["seconds"],
        "extra": Trials.restored(extra).stored(),
    }
