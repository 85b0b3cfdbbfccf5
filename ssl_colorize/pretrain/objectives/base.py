"""What an objective is: the one place that knows what a network is asked, and how well it answered."""

from abc import ABC, abstractmethod
from typing import Any, Protocol

from torch import Tensor

from ssl_colorize.pretrain.config import Recipe
from ssl_colorize.pretrain.statistics import TrainingStatistics
from ssl_colorize.pretrain.targets import Targets, make_targets


class Examples(Protocol):
    """A batch of questions and answers, on the training device."""

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """What the network is called with, light (B, 1, H, W) first."""


class Objective(ABC):
    """Photos to examples, and a network's output on them to losses and colors.

    Args:
        recipe: the run's.
        statistics: of the training photos, on the network's device.
        stride: of the network's output against its input.
    """

    def __init__(self, recipe: Recipe, statistics: TrainingStatistics, *, stride: int) -> None:
        self.recipe = recipe
        self.statistics = statistics
        self.stride = stride

    @property
    @abstractmethod
    def output_bias(self) -> Tensor | None:
        """(outputs,) with which the last layer starts from the best constant prediction; None where it cannot."""

    @abstractmethod
    def examples(self, photos: Tensor, *, training: bool) -> Any:
        """`Examples` of photos (B, 3, H, W) uint8 on the training device.

        What they hold is their objective's own affair. What it draws at random for training comes from torch's global
        generators; for held-out photos nothing is random.
        """

    @abstractmethod
    def losses(self, output: Tensor, examples: Any) -> dict[str, Tensor]:
        """The trained objective as "loss", a scalar, and the scalars that are logged beside it."""

    @abstractmethod
    def sums(self, output: Tensor, examples: Any) -> dict[str, Tensor | int]:
        """Sums over the pixels: of "loss", of "loss_constant" (the best constant's), and of figures of its own.

        "count" says over how many; over as many as `colors` gives, where it gives some.
        """

    def colors(self, output: Tensor, examples: Any) -> tuple[Tensor, Tensor] | None:
        """Predicted and true ab, both (B, 2, h, w), at all of the examples' pixels or at an even share of them.

        None if the objective asks for something else.
        """
        return None


class OnTargets(Objective):
    """An objective of the paper's: lightness in, and ab, soft-encoded and weighted, at the network's stride out."""

    def examples(self, photos: Tensor, *, training: bool) -> Targets:
        return make_targets(
            photos, self.statistics.class_weights,
            stride=self.stride, neighbors=self.recipe.neighbors, sigma=self.recipe.sigma,
        )  # fmt: skip
