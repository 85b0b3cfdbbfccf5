"""What a linear probe found, for one seed and over all of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median_low
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssl_colorize.evaluate.metrics import Predictions
from ssl_colorize.evaluate.metrics import summarize as summarize_runs


@dataclass(frozen=True)
class Outcome:
    """One layer of one encoder, trained with one seed.

    Attributes:
        chosen: "learning_rate" and "weight_decay", or "strength".
        choosing: accuracy (or mAP) on the photos held out from training, which it was chosen by.
        answers: to the test photos.
    """

    chosen: dict[str, float]
    choosing: float
    answers: Predictions


# By layer, for the encoder and, where there is one, for its untrained twin.
Outcomes = list[dict[str, Outcome]]


def summarize(runs: Sequence[Outcomes], layers: Sequence[str], classes: Sequence[str], *, seed: int) -> dict[str, Any]:
    """The figures of all seeds by layer, and under "random" those of the untrained network."""

    def of(number: int, layer: str) -> dict[str, Any]:
        each = [run[number][layer] for run in runs]
        found = summarize_runs([one.answers for one in each], classes, seed=seed)
        # Of several seeds' choices, the one in the middle.
        chosen = {name: median_low(one.chosen[name] for one in each) for name in each[0].chosen}
        choosing = {"choosing": float(np.mean([one.choosing for one in each]))}
        return found | {"learning_rate": None} | chosen | choosing

    metrics = {layer: of(0, layer) for layer in layers}
    if len(runs[0]) > 1:
        metrics["random"] = {layer: of(1, layer) for layer in layers}
    return metrics


def packed(outcomes: Outcomes) -> list[dict[str, Any]]:
    """As tensors and plain values, which a file may hold without being able to run code."""

    def tensor(values: Any) -> Tensor | None:
        return None if values is None else torch.from_numpy(np.asarray(values))

    return [
        {
            layer: {
                "chosen": one.chosen, "choosing": one.choosing, "truth": tensor(one.answers.truth),
                "ranks": tensor(one.answers.ranks), "scores": tensor(one.answers.scores),
            }
            for layer, one in each.items()
        }
        for each in outcomes
    ]  # fmt: skip


def unpacked(outcomes: list[dict[str, Any]]) -> Outcomes:
    """The opposite of `packed`."""

    def array(values: Tensor | None) -> Any:
        return None if values is None else values.numpy()

    return [
        {
            layer: Outcome(
                one["chosen"], one["choosing"],
                Predictions(array(one["truth"]), ranks=array(one["ranks"]), scores=array(one["scores"])),
            )
            for layer, one in each.items()
        }
        for each in outcomes
    ]  # fmt: skip
