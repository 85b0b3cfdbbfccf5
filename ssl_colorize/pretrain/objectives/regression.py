"""Squared error of ab (paper equation 1): its row "L2"."""

from torch import Tensor

from ssl_colorize.models.pretrained import AB_SCALE
from ssl_colorize.pretrain.loss import squared_error
from ssl_colorize.pretrain.objectives.base import OnTargets
from ssl_colorize.pretrain.targets import Targets


class Regression(OnTargets):
    """Half the squared distance, in units of `AB_SCALE`."""

    @property
    def output_bias(self) -> Tensor:
        return self.statistics.mean_ab / AB_SCALE

    def losses(self, output: Tensor, examples: Targets) -> dict[str, Tensor]:
        return {"loss": squared_error(output, examples.ab / AB_SCALE, examples.pixel_weights)}

    def sums(self, output: Tensor, examples: Targets) -> dict[str, Tensor | int]:
        scaled, weights = examples.ab / AB_SCALE, examples.pixel_weights
        flat = self.output_bias.view(1, 2, 1, 1).expand_as(scaled)
        return {
            "count": weights.numel(),
            "loss": squared_error(output, scaled, weights) * weights.numel(),
            "loss_constant": squared_error(flat, scaled, weights) * weights.numel(),
        }

    def colors(self, output: Tensor, examples: Targets) -> tuple[Tensor, Tensor]:
        return output.float() * AB_SCALE, examples.ab
