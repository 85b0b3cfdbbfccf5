"""What can be trained: for each objective its input, targets, loss, best constant, and colors."""

from ssl_colorize.pretrain.config import Recipe
from ssl_colorize.pretrain.objectives.base import Examples, Objective
from ssl_colorize.pretrain.objectives.classification import Classification
from ssl_colorize.pretrain.objectives.hue_chroma import HueChroma, MeanTargets
from ssl_colorize.pretrain.objectives.regression import Regression
from ssl_colorize.pretrain.objectives.uv import UV, MedianUV
from ssl_colorize.pretrain.statistics import BestConstant, TrainingStatistics

_OBJECTIVES: dict[str, type[Objective]] = {
    "class": Classification, "l2": Regression, "dahl": UV, "larsson": HueChroma,
}  # fmt: skip


def make_objective(recipe: Recipe, statistics: TrainingStatistics, *, stride: int) -> Objective:
    """The recipe's objective.

    Args:
        statistics: of the training photos, on the network's device.
        stride: of the network's output against its input.
    """
    return _OBJECTIVES[recipe.objective](recipe, statistics, stride=stride)


def best_constant(recipe: Recipe) -> BestConstant | None:
    """What finds the objective's best constant in the training photos; None if the color statistics tell it."""
    if recipe.objective == "dahl":
        return MedianUV()
    return MeanTargets() if recipe.objective == "larsson" else None


__all__ = ["Examples", "Objective", "best_constant", "make_objective"]
