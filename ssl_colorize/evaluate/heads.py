"""Linear heads on frozen features that train together, and the normalization that they share."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor, nn
from torch.nn import functional

IGNORED = -1


@dataclass(frozen=True)
class HeadSettings:
    """What one head is trained with."""

    learning_rate: float
    weight_decay: float


def grid(learning_rates: Sequence[float], weight_decays: Sequence[float]) -> tuple[HeadSettings, ...]:
    """Every learning rate with every weight decay."""
    return tuple(HeadSettings(rate, decay) for rate, decay in product(learning_rates, weight_decays))


class LinearHeads:
    """R heads that differ only in learning rate and weight decay, trained by SGD with momentum.

    They see the same features, so the scores of all of them are one product with an (R x C, D) matrix, and so are
    their gradients; heads whose features are their own (B, R, D) get theirs one by one. The update is PyTorch's SGD
    with momentum, head by head: v <- m v + (g + decay w), w <- w - rate v. Biases do not decay. All start at zero: the
    problem is convex, and nothing needs to be drawn.

    Attributes:
        weight: (R, C, D).
        bias: (R, C).
    """

    def __init__(
        self,
        features: int,
        classes: int,
        *,
        settings: Sequence[HeadSettings],
        multilabel: bool = False,
        momentum: float = 0.9,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.settings, self.multilabel, self.momentum = tuple(settings), multilabel, momentum
        self.weight = torch.zeros(len(self.settings), classes, features, device=device, dtype=dtype)
        self.bias = self.weight.new_zeros(len(self.settings), classes)
        self._weight_velocity, self._bias_velocity = torch.zeros_like(self.weight), torch.zeros_like(self.bias)
        self._rates = self.weight.new_tensor([one.learning_rate for one in self.settings])

    @torch.no_grad()
    def scores(self, features: Tensor, *, head: int | None = None) -> Tensor:
        """(B, D), or (B, R, D) of each head its own -> the scores (B, R, C) of all heads, or (B, 1, C) of one."""
        weight, bias = (self.weight, self.bias) if head is None else (self.weight[head, None], self.bias[head, None])
        if features.ndim == 3:
            return torch.baddbmm(bias[:, None], features.transpose(0, 1), weight.mT).transpose(0, 1)
        flat: Tensor = functional.linear(features, weight.flatten(0, 1), bias.flatten())
        scores: Tensor = flat.unflatten(1, bias.shape)
        return scores

    @torch.no_grad()
    def train_on(self, features: Tensor, targets: Tensor, *, factor: float = 1.0) -> Tensor:
        """One step on a batch.

        Args:
            features: (B, D), or (B, R, D).
            targets: (B,) classes; or, multi-label, (B, C) of 1, 0, and -1 for what is not counted.
            factor: of the schedule, on every learning rate.

        Returns:
            The loss (R,) of each head before the step, averaged over the photos (multi-label: summed over classes).
        """
        loss, gradient = loss_and_gradient(self.scores(features), targets, multilabel=self.multilabel)
        self.descend(features, gradient, factor=factor)
        return loss

    def descend(self, features: Tensor, gradient: Tensor, *, factor: float) -> None:
        """Move weights and biases, given the gradient (B, R, C) of the scores."""
        # Head by head, which keeps a head's weights in the cache for all three operations. The momentum is part of the
        # product, so the gradient itself is never stored: it is as large as W.
        for number, one in enumerate(self.settings):
            weight, velocity = self.weight[number], self._weight_velocity[number]
            mine = features if features.ndim == 2 else features[:, number]
            velocity.addmm_(gradient[:, number].T, mine, beta=self.momentum)
            velocity.add_(weight, alpha=one.weight_decay)
            weight.add_(velocity, alpha=-factor * one.learning_rate)
        self._bias_velocity.mul_(self.momentum).add_(gradient.sum(0))
        self.bias.addcmul_(self._bias_velocity, self._rates.view(-1, 1), value=-factor)

    def state_dict(self) -> dict[str, Tensor]:
        """What a stopped training needs to go on exactly."""
        return {
            "weight": self.weight, "bias": self.bias,
            "weight_velocity": self._weight_velocity, "bias_velocity": self._bias_velocity,
        }  # fmt: skip

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """The opposite of `state_dict`."""
        for name, value in self.state_dict().items():
            value.copy_(state[name])


class FeatureNorm(nn.Module):
    """BatchNorm without scale and shift, for maps (B, C, h, w), that works alike at any scale of the features.

    PyTorch's adds a fixed 1e-5 to each variance. An untrained network's deep features have variances around 1e-6: they
    would come out an order of magnitude too small, and its row would be an easy one to beat. Here the addition is 1e-5
    of the layer's mean variance. The statistics kept for testing are plain means over all batches seen, as the network
    under it does not change.
    """

    mean: Tensor
    variance: Tensor
    batches: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("variance", torch.ones(channels))
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return _normalized(x, self.mean, self.variance)
        # As `var_mean` over all but the channels, in a tenth of its time.
        mean, variance = torch.batch_norm_update_stats(x, None, None, 0.0)
        self.batches += 1
        self.mean.lerp_(mean, 1 / self.batches)
        count = x.numel() // x.shape[1]
        self.variance.lerp_(variance * (count / max(count - 1, 1)), 1 / self.batches)
        return _normalized(x, mean, variance)


def _normalized(x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    # Were all channels dead, they should become 0 and not NaN.
    scale = torch.rsqrt(variance + 1e-5 * variance.mean().clamp_min(1e-30))
    shift = -mean * scale
    return torch.addcmul(shift.view(-1, 1, 1), x, scale.view(-1, 1, 1))


def loss_and_gradient(scores: Tensor, targets: Tensor, *, multilabel: bool) -> tuple[Tensor, Tensor]:
    """Softmax or sigmoid cross-entropy of scores (B, R, C): the loss (R,) and its gradient (B, R, C).

    Both are averages over the photos; classes of a multi-label photo are summed, but for those not counted.
    """
    count = len(scores)
    if multilabel:
        counted = (targets != IGNORED).to(scores.dtype)[:, None]
        wanted = (targets == 1).to(scores.dtype)[:, None].expand_as(scores)
        each = functional.binary_cross_entropy_with_logits(scores, wanted, reduction="none")
        return (each * counted).sum((0, 2)) / count, (scores.sigmoid() - wanted) * counted / count
    logarithms = scores.log_softmax(-1)
    places = targets.view(-1, 1, 1).expand(-1, scores.shape[1], 1)
    loss = -logarithms.gather(-1, places).squeeze(-1).mean(0)
    gradient = logarithms.exp_()
    gradient.scatter_add_(-1, places, gradient.new_full((1, 1, 1), -1.0).expand(places.shape))
    return loss, gradient / count
