"""How long to train, when to look, and how large a step is."""

import math
import random
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ssl_colorize.encoder import Encoder
from ssl_colorize.engine import optimizer as engine
from ssl_colorize.finetune.config import FinetuneSettings


@dataclass(frozen=True)
class Length:
    """A training on so many photos, in optimizer steps.

    Attributes:
        photos: how many.
        steps: that the schedule is made for.
        stop: that are taken; fewer, where a shorter training was chosen.
        looks: after which steps to look at the photos to choose on.
    """

    photos: int
    steps: int
    stop: int
    looks: frozenset[int] = frozenset()

    @classmethod
    def whole(cls, settings: FinetuneSettings, photos: int, *, looking: bool) -> "Length":
        """The length that the settings ask for; with a look after every so many epochs, and one at the end."""
        steps = settings.steps or max(1, math.ceil((settings.epochs or 0) * photos / settings.batch_size))
        each = settings.evaluate_every * photos / settings.batch_size
        looks = {steps} if looking else set()
        if looking and settings.choose_length:
            looks |= {math.ceil(number * each) for number in range(1, math.ceil(steps / each))}
        return cls(photos, steps, steps, frozenset(look for look in looks if 0 < look <= steps))

    def like(self, step: int, settings: FinetuneSettings, photos: int) -> "Length":
        """A training on other photos that stops where this one did after `step`, at the same place of the schedule."""
        whole = Length.whole(settings, photos, looking=False)
        return Length(photos, whole.steps, max(1, round(step / self.steps * whole.steps)))

    def epochs(self, step: int, batch_size: int) -> float:
        """Passes over the photos after a step."""
        return step * batch_size / self.photos


def rate_factor(settings: FinetuneSettings, step: int, steps: int) -> float:
    """On the learning rate of the step after `step` of so many: warm-up, then half a cosine to zero, or drops."""
    warmup = min(settings.warmup, steps - 1)
    factor = min(1.0, (step + 1) / (warmup + 1))
    if settings.drop_every is not None:
        return float(factor * settings.drop_factor ** (step // settings.drop_every))
    done = max(0, step - warmup) / (steps - warmup)
    return factor * 0.5 * (1 + math.cos(math.pi * done))


def make_optimizer(model: nn.Module, settings: FinetuneSettings) -> torch.optim.Optimizer:
    """Over all that learns, in groups that differ in weight decay and in "factor" on the learning rate.

    Biases, scales and shifts do not decay; the head has a factor of its own.
    """
    inside = {id(parameter) for parameter in backbone_of(model).parameters()}
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        if parameter.requires_grad:
            groups.setdefault((id(parameter) in inside, parameter.ndim > 1), []).append(parameter)
    options: list[dict[str, Any]] = [
        {
            "params": parameters,
            "weight_decay": settings.weight_decay if decays else 0.0,
            "factor": 1.0 if body else settings.head_factor,
            # The last layer of a head has a row a class, which is no direction to keep; and a head is small.
            **({"use_fallback": not (body and decays)} if settings.optimizer == "muon" else {}),
        }
        for (body, decays), parameters in groups.items()
    ]
    return engine.make_optimizer(
        settings.optimizer, options, weight_decay=settings.weight_decay, momentum=settings.momentum
    )


def backbone_of(model: nn.Module) -> Encoder:
    """The backbone in a task's model."""
    return next(module for module in model.modules() if isinstance(module, Encoder))


def seed_step(seed: int, step: int, rank: int) -> None:
    """Seed torch for what is random in a step (dropout, sampled boxes), so that any step can be the first."""
    # Python promises random()'s numbers for a seed across versions.
    torch.manual_seed(int(random.Random(f"step {seed} {step} {rank}").random() * 2**53))
