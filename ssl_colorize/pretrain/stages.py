"""The stages of a run: the steps and the learning rate of each, and how its length may change while the run rests."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

from ssl_colorize.engine.optimizer import Schedule
from ssl_colorize.errors import UserError
from ssl_colorize.pretrain.config import Recipe


@dataclass(frozen=True)
class Stage:
    """A part of a run.

    Attributes:
        recipe: what is done in it, as if it were a run of its own.
        number: from 0 on, as in the setting `stages.0`.
        begins: steps of the run before it.
        ends: steps of the run after which it is over.
        seen: photos that the run has seen before it, counted again as often as they came.
    """

    recipe: Recipe
    number: int
    begins: int
    ends: int
    seen: int

    @property
    def steps(self) -> int:
        """Its own."""
        return self.ends - self.begins

    def photos_seen(self, step: int) -> int:
        """By the run after `step` steps, which lie in this stage."""
        return self.seen + (step - self.begins) * self.recipe.batch_size

    def learning_rate(self, step: int) -> float:
        """Of the step that follows after `step` steps of the run, which lie in this stage."""
        return self.recipe.learning_rate * schedule(self.recipe, self.steps)(step - self.begins)


def plan(recipe: Recipe, photos: int) -> list[Stage]:
    """The stages of a run on so many photos, one after the other.

    >>> recipe = Recipe(batch_size=8, stages=({"steps": 5}, {"epochs": 2, "batch_size": 4}))
    >>> [(stage.begins, stage.ends, stage.seen) for stage in plan(recipe, photos=10)]
    [(0, 5, 0), (5, 10, 40)]
    """
    stages: list[Stage] = []
    begins = seen = 0
    for number, one in enumerate(recipe.in_stages()):
        steps = one.steps or math.ceil((one.epochs or 0) * photos / one.batch_size)
        stages.append(Stage(one, number, begins, begins + steps, seen))
        begins, seen = begins + steps, seen + steps * one.batch_size
    return stages


def stage_after(stages: Sequence[Stage], step: int) -> Stage:
    """The stage that the last of so many steps belongs to; the first one before any step."""
    return next((stage for stage in stages if step <= stage.ends), stages[-1])


def schedule(recipe: Recipe, steps: int) -> Schedule:
    """The recipe's, over so many steps; its milestones are learning rates, the schedule's drops are factors."""
    if recipe.schedule == "cosine":
        return Schedule(steps, recipe.warmup)
    if recipe.schedule == "wsd":
        return Schedule(steps, recipe.warmup, decay=math.ceil(recipe.decay * steps))
    return Schedule(steps, recipe.warmup, [(step, rate / recipe.learning_rate) for step, rate in recipe.milestones])


def changed_lengths(before: Sequence[int], stages: Sequence[Stage], step: int) -> str | None:
    """How the stages of a run that stopped after `step` steps are longer or shorter than planned, in words.

    Args:
        before: the steps of each stage as the run had them.
        stages: as the run is to go on.
        step: steps done.

    Returns:
        A line for the run's history; None if nothing is changed.

    Raises:
        UserError: the change is of what has been done already.

    >>> recipe = Recipe(stages=({"steps": 5}, {"steps": 9}))
    >>> changed_lengths([5, 4], plan(recipe, photos=10), step=7)
    'after step 7: stages.1.steps 4 -> 9'
    """
    words = []
    begins = 0
    for number, (old, new) in enumerate(zip_longest(before, (stage.steps for stage in stages), fillvalue=0)):
        key = f"stages.{number}.steps" if max(len(before), len(stages)) > 1 else "steps"
        if old != new:
            done = step - begins
            if old and old < done:
                raise UserError(f"Setting {key}: that stage is over, after {old} steps. What is done stays as it was.")
            if new <= done:
                raise UserError(f"Setting {key}: {done} steps are done already: give at least {done + 1}.")
            words.append(f"{key} {old or 'none'} -> {new or 'none'}")
        begins += new
    return f"after step {step}: {', '.join(words)}" if words else None
