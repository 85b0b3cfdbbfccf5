"""What the figures come to, in a sentence: decided by paired intervals, not by which figure looks higher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from ssl_colorize.evaluate.metrics import Difference

Decision = Literal["better", "worse", "open"]


class Comparison(NamedTuple):
    """One row against another at one share of the labels.

    Attributes:
        row: its name.
        against: the other's.
        difference: in accuracy or mean average precision, row less the other.
    """

    row: str
    against: str
    difference: Difference

    @property
    def decision(self) -> Decision:
        """Whether the interval leaves 0 on one side."""
        if self.difference.low > 0:
            return "better"
        return "worse" if self.difference.high < 0 else "open"

    def __str__(self) -> str:
        value, low, high = (100 * each for each in self.difference)
        return f"{value:+.1f} points (95 %: {low:.1f} to {high:.1f}) against {self.against}"


def verdict(compared: Mapping[str, Comparison], *, budget: str, test_photos: int) -> str:
    """Whether pretraining is worth it, and what to use where it is not.

    Args:
        compared: by share of the labels ("10 % of the labels"), the pretrained network against the best of those that
            cost nothing.
        budget: of the pretraining, in words ("10 minutes").
        test_photos: how many there are.

    >>> clear = Comparison("color", "starter", Difference(0.031, 0.012, 0.05))
    >>> verdict({"10 % of the labels": clear}, budget="10 minutes", test_photos=400)
    'Pretraining on your photos (10 minutes) is worth it: at 10 % of the labels +3.1 points (95 %: 1.2 to 5.0) against starter.'
    """  # noqa: E501
    parts: dict[Decision, list[tuple[str, Comparison]]] = {"better": [], "open": [], "worse": []}
    for share, one in compared.items():
        parts[one.decision].append((share, one))
    whole = f"Pretraining on your photos ({budget})"
    better, unclear, worse = (_listed(parts[decision]) for decision in ("better", "open", "worse"))
    sentences = []
    if better:
        sentences.append(f"{whole} is worth it: {better}.")
    if worse:
        begun = "It" if better else whole
        sentences.append(f"{begun} is not worth it: {worse}; use {_rivals(parts['worse'])} instead.")
    if unclear:
        begun = "It" if sentences else f"Whether pretraining on your photos ({budget}) is worth it"
        sentences.append(
            f"{begun} cannot be told with {test_photos:,} test photos: {unclear}; "
            f"use {_rivals(parts['open'])}, which costs nothing."
        )
    return " ".join(sentences)


def imagenet_verdict(compared: Mapping[str, Comparison]) -> str:
    """Where the network that learned from ImageNet's labels is better than the best of the others.

    Args:
        compared: by share of the labels, the ImageNet network against the best of the others.
    """
    better = [(share, one) for share, one in compared.items() if one.decision == "better"]
    name = next(iter(compared.values())).row
    if better:
        return f"{name}, which learned from ImageNet's labels, is better: {_listed(better)}; use it where you may."
    return f"{name}, which learned from ImageNet's labels, is no clear gain: {_listed(list(compared.items()))}."


def _listed(parts: Sequence[tuple[str, Comparison]]) -> str:
    return ", ".join(f"at {share} {one}" for share, one in parts)


def _rivals(parts: Sequence[tuple[str, Comparison]]) -> str:
    return " or ".join(dict.fromkeys(one.against for _, one in parts))
