"""What a run teaches its network."""

from typing import Any, ClassVar

from ssl_colorize.data import Batch, Photos
from ssl_colorize.models import ColorizationModel, Pretrained, create_model
from ssl_colorize.models.objectives import BestConstant, Objective, TrainingStatistics
from ssl_colorize.pretrain.config import Recipe


class Pretext:
    """Colors from lightness, or lightness from colors, as the recipe's direction says.

    Other pretexts are subclasses (benchmarks/pretexts.py), and differ in these methods only.

    Attributes:
        command: what metrics.json says that its figures were made by.
    """

    command: ClassVar[str] = "pretrain"

    def __init__(self, recipe: Recipe, photos: Photos, held_out: Photos) -> None:
        self.recipe, self.photos, self.held_out = recipe, photos, held_out

    def make_model(self) -> ColorizationModel:
        """The network to train."""
        return create_model(self.recipe.network, width=self.recipe.width, outputs=self.recipe.outputs)

    def best_constant(self) -> BestConstant | None:
        """What finds the best constant in the first training photos; None if how common colors are tells it."""
        return self.recipe.objective_type.best_constant()

    def make_objective(self, statistics: TrainingStatistics, *, stride: int) -> Objective:
        """What the network is trained for.

        Args:
            statistics: of the training photos, on the network's device.
            stride: of the network's output against its input.
        """
        recipe = self.recipe
        return recipe.objective_type(
            statistics, stride=stride, neighbors=recipe.neighbors, sigma=recipe.sigma, temperature=recipe.temperature
        )

    def examples(self, objective: Objective, batch: Batch, *, training: bool) -> Any:
        """`Examples` of a batch whose photos are on the device; of the held-out photos if not training."""
        return objective.examples(batch.photos, training=training)

    def shipped(self, trained: Pretrained) -> Pretrained:
        """The trained network as model.safetensors keeps it."""
        return trained
