"""Rebalanced soft cross-entropy over the 313 bins (paper equations 2 to 5)."""

from torch import Tensor

from ssl_colorize.color import annealed_mean
from ssl_colorize.pretrain.loss import constant_cross_entropy, entropy, soft_cross_entropy
from ssl_colorize.pretrain.objectives.base import OnTargets
from ssl_colorize.pretrain.targets import Targets


class Classification(OnTargets):
    """The paper's; without rebalancing its row "class"."""

    @property
    def output_bias(self) -> Tensor:
        return self.statistics.constant.log()

    def losses(self, output: Tensor, examples: Targets) -> dict[str, Tensor]:
        loss, cross_entropy = _cross_entropy(output, examples)
        unweighted = cross_entropy.mean()
        return {"loss": loss, "cross_entropy": unweighted, "kl": unweighted - entropy(examples.weights).mean()}

    def sums(self, output: Tensor, examples: Targets) -> dict[str, Tensor | int]:
        loss, cross_entropy = _cross_entropy(output, examples)
        constant = constant_cross_entropy(self.statistics.constant, examples.indices, examples.weights)
        return {
            "count": cross_entropy.numel(),
            "loss": loss * cross_entropy.numel(),
            "loss_constant": (constant * examples.pixel_weights).sum(),
            "cross_entropy": cross_entropy.sum(),
            "kl": (cross_entropy - entropy(examples.weights)).sum(),
        }

    def colors(self, output: Tensor, examples: Targets) -> tuple[Tensor, Tensor]:
        return annealed_mean(output, self.recipe.temperature), examples.ab


def _cross_entropy(output: Tensor, examples: Targets) -> tuple[Tensor, Tensor]:
    return soft_cross_entropy(output, examples.indices, examples.weights, examples.pixel_weights)
