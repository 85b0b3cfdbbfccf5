"""What a colorization network can be trained for: examples, losses, best constant, and the colors of its output.

The paper's two are here: rebalanced soft cross-entropy over the 313 bins (equations 2 to 5), and squared error of ab
(equation 1). A network that is trained otherwise brings its own (see `models.baselines`).
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ssl_colorize.color import annealed_mean, is_colored, rgb_to_lab, rgb_to_lightness, soft_encode

# A regression network works in units of this many ab units, so that its outputs are of order one.
AB_SCALE = 110.0
# Numbers of a chunk of logits that are worked on at once: bounds the temporary memory, keeps kernels large.
CHUNK = 1 << 21


@dataclass
class TrainingStatistics:
    """What an objective needs to know of the training photos.

    Attributes:
        prior: (313,) float32, smoothed, sums to 1.
        class_weights: (313,) float32, expectation 1 under the prior; ones without rebalancing.
        constant: float32, the objective's best constant: what its `best_constant` found, or else (313,) the
            distribution under its weights.
        mean_ab: (2,) float32, the best constant color under squared error.
    """

    prior: Tensor
    class_weights: Tensor
    constant: Tensor
    mean_ab: Tensor

    def to(self, device: torch.device) -> "TrainingStatistics":
        return TrainingStatistics(*(getattr(self, name).to(device) for name in self.__dataclass_fields__))


class BestConstant(Protocol):
    """Finds, in a stream of training photos, the one prediction that is best for all of their pixels."""

    def update(self, photos: Tensor) -> None:
        """Count (B, 3, H, W) uint8."""

    def result(self) -> Tensor:
        """The prediction, in the form that its objective wants."""


class Examples(Protocol):
    """A batch of inputs and targets, on the training device."""

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """What the network is called with, what it sees (B, channels, H, W) first."""


class Objective(ABC):
    """Photos to examples, and a network's output on them to losses and colors.

    Attributes:
        outputs: output channels of a network that it trains.
        description: what they are, in words.
        rebalances: whether class weights can even out how common colors are.
        decodes_light: whether predicted colors depend on the light that the network saw, which must then be the
            photo's own.
    """

    outputs: ClassVar[int]
    description: ClassVar[str]
    rebalances: ClassVar[bool] = False
    decodes_light: ClassVar[bool] = False

    def __init__(
        self,
        statistics: TrainingStatistics,
        *,
        stride: int,
        neighbors: int = 5,
        sigma: float = 5.0,
        temperature: float = 0.38,
    ) -> None:
        """Take what the training photos say.

        Args:
            statistics: of the training photos, on the network's device.
            stride: of the network's output against its input.
            neighbors: bins of the soft code, where colors are bins.
            sigma: width of its Gaussian in ab units.
            temperature: of the annealed mean that the figures' colors are decoded with.
        """
        self.statistics, self.stride = statistics, stride
        self.neighbors, self.sigma, self.temperature = neighbors, sigma, temperature

    @staticmethod
    def best_constant() -> BestConstant | None:
        """What finds the best constant in the training photos; None if how common colors are tells it."""
        return None

    @staticmethod
    def decode(output: Tensor, light: Tensor, *, temperature: float = 0.38, bins: Tensor | None = None) -> Tensor:
        """A network's raw output as colors.

        Args:
            output: (B, outputs, h, w).
            light: what the network saw of the output's pixels, (B, 1, h, w) in 0..100; ignored unless `decodes_light`.
            temperature: of the annealed mean, where the output is a distribution over bins.
            bins: (Q, 2) in ab units, likewise; the 313 by default.

        Returns:
            ab (B, 2, h, w) float32.
        """
        raise NotImplementedError("this objective predicts no colors")

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

        None if the objective predicts something else.
        """
        return None


# ---- the paper's targets ---------------------------------------------------------------------------------------------


class Targets(NamedTuple):
    """Lightness in, soft-encoded color at the network's stride out: one batch on the training device.

    Attributes:
        lightness: (B, 1, H, W) float32 in 0..100, the network's input.
        ab: (B, 2, h, w) float32, the true colors at the targets' stride.
        indices: (B, K, h, w) int64, bins of the soft code, nearest first.
        weights: (B, K, h, w) float32, their probabilities.
        pixel_weights: (B, h, w) float32, class weight of the nearest bin, 0 in gray photos.
    """

    lightness: Tensor
    ab: Tensor
    indices: Tensor
    weights: Tensor
    pixel_weights: Tensor

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        return (self.lightness,)


def subsampled_ab(photos: Tensor, stride: int) -> Tensor:
    """True colors at every stride-th pixel (paper section 5, plain subsampling).

    Args:
        photos: (B, 3, H, W) uint8, or floats in [0, 1].
        stride: of the targets against the photo.

    Returns:
        (B, 2, ceil(H / stride), ceil(W / stride)) float32 in ab units.

    >>> subsampled_ab(torch.zeros(1, 3, 8, 9, dtype=torch.uint8), 4).shape
    torch.Size([1, 2, 2, 3])
    """
    return rgb_to_lab(photos[..., ::stride, ::stride])[:, 1:]


def make_targets(
    photos: Tensor, class_weights: Tensor, *, stride: int, neighbors: int = 5, sigma: float = 5.0
) -> Targets:
    """Input and targets of a batch.

    Args:
        photos: (B, 3, H, W) uint8.
        class_weights: (313,) float32 on the same device; ones for no rebalancing.
        stride: of the network's output against its input.
        neighbors: bins of the soft code.
        sigma: width of its Gaussian in ab units.

    >>> photos = torch.randint(256, (2, 3, 32, 32), dtype=torch.uint8)
    >>> targets = make_targets(photos, torch.ones(313), stride=4)
    >>> targets.lightness.shape, targets.indices.shape
    (torch.Size([2, 1, 32, 32]), torch.Size([2, 5, 8, 8]))
    """
    ab = subsampled_ab(photos, stride)
    indices, weights = soft_encode(ab, neighbors, sigma)
    colored = is_colored(ab).to(class_weights.dtype)
    pixel_weights = class_weights[indices[:, 0]] * colored.view(-1, 1, 1)
    return Targets(rgb_to_lightness(photos), ab, indices, weights, pixel_weights)


class _OnTargets(Objective):
    def examples(self, photos: Tensor, *, training: bool) -> Targets:
        return make_targets(
            photos, self.statistics.class_weights, stride=self.stride, neighbors=self.neighbors, sigma=self.sigma
        )


# ---- classification --------------------------------------------------------------------------------------------------


class CrossEntropy(Objective):
    """Weighted soft cross-entropy over bins of whatever: examples have `indices`, `weights`, `pixel_weights`."""

    @property
    def output_bias(self) -> Tensor:
        return self.statistics.constant.log()

    def losses(self, output: Tensor, examples: Any) -> dict[str, Tensor]:
        loss, cross_entropy = self._cross_entropy(output, examples)
        unweighted = cross_entropy.mean()
        return {"loss": loss, "cross_entropy": unweighted, "kl": unweighted - entropy(examples.weights).mean()}

    def sums(self, output: Tensor, examples: Any) -> dict[str, Tensor | int]:
        loss, cross_entropy = self._cross_entropy(output, examples)
        constant = constant_cross_entropy(self.statistics.constant, examples.indices, examples.weights)
        return {
            "count": cross_entropy.numel(),
            "loss": loss * cross_entropy.numel(),
            "loss_constant": (constant * examples.pixel_weights).sum(),
            "cross_entropy": cross_entropy.sum(),
            "kl": (cross_entropy - entropy(examples.weights)).sum(),
        }

    @staticmethod
    def _cross_entropy(output: Tensor, examples: Any) -> tuple[Tensor, Tensor]:
        return soft_cross_entropy(output, examples.indices, examples.weights, examples.pixel_weights)


class Classification(_OnTargets, CrossEntropy):
    """Rebalanced soft cross-entropy over the 313 bins (paper equations 2 to 5); its row "class" without rebalancing."""

    outputs = 313
    description = "distributions over 313 bins of the ab plane"
    rebalances = True

    @staticmethod
    def decode(output: Tensor, light: Tensor, *, temperature: float = 0.38, bins: Tensor | None = None) -> Tensor:
        return annealed_mean(output, temperature, bins=bins)

    def colors(self, output: Tensor, examples: Targets) -> tuple[Tensor, Tensor]:
        return annealed_mean(output, self.temperature), examples.ab


def soft_cross_entropy(
    logits: Tensor, indices: Tensor, weights: Tensor, pixel_weights: Tensor
) -> tuple[Tensor, Tensor]:
    """Weighted cross-entropy against sparse soft targets, averaged over all pixels.

    The sum over pixels is divided by their number, not by the sum of their weights, so that a photo of weight 0
    pulls the average down rather than the others up (paper section 2.2 as released).

    Args:
        logits: (B, Q, H, W), any floating type.
        indices: (B, K, H, W) int64 in 0..Q-1, the target's bins; distinct within a pixel.
        weights: (B, K, H, W) the target's probabilities, summing to 1 over K.
        pixel_weights: (B, H, W).

    Returns:
        The objective, a scalar in float32 (float64 for float64 logits), differentiable once with respect to the
        logits; and the unweighted cross-entropy of each pixel in nats (B, H, W), detached.

    Raises:
        ValueError: the shapes do not fit each other.

    >>> logits = torch.zeros(1, 4, 1, 1)
    >>> indices, weights = torch.tensor([0, 3]).view(1, 2, 1, 1), torch.tensor([0.5, 0.5]).view(1, 2, 1, 1)
    >>> loss, cross_entropy = soft_cross_entropy(logits, indices, weights, torch.full((1, 1, 1), 2.0))
    >>> round(loss.item(), 4), round(cross_entropy.item(), 4)  # 2 log 4 and log 4
    (2.7726, 1.3863)
    """
    batch, _, height, width = logits.shape
    if indices.shape != weights.shape or (batch, height, width) != (len(indices), *indices.shape[2:]):
        raise ValueError(f"targets {tuple(indices.shape)} do not fit logits {tuple(logits.shape)}")
    if pixel_weights.shape != (batch, height, width):
        raise ValueError(f"pixel weights {tuple(pixel_weights.shape)} do not fit logits {tuple(logits.shape)}")
    loss, cross_entropy = _SoftCrossEntropy.apply(logits, indices, weights, pixel_weights)
    return loss, cross_entropy


class _SoftCrossEntropy(torch.autograd.Function):
    """Gradient (softmax - target) * weight / pixels, written straight into one buffer of the logits' size.

    Autograd would keep the log-softmax, and allocate a zero-filled gradient for the gather beside the one for the
    softmax; a dense target would be one more array of that size.
    """

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, indices: Tensor, weights: Tensor, pixel_weights: Tensor
    ) -> tuple[Tensor, Tensor]:
        cross_entropy = pixel_weights.new_empty(pixel_weights.shape, dtype=_working_type(logits))
        normalizer = torch.empty_like(cross_entropy)
        for part in _parts(logits):
            scores = logits[part].to(cross_entropy.dtype)
            normalizer[part] = torch.logsumexp(scores, dim=1)
            target_score = (scores.gather(1, indices[part]) * weights[part]).sum(1)
            cross_entropy[part] = normalizer[part] - target_score
        loss = (cross_entropy * pixel_weights).sum() / pixel_weights.numel()
        ctx.save_for_backward(logits, indices, weights, pixel_weights, normalizer)
        ctx.mark_non_differentiable(cross_entropy)
        return loss, cross_entropy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, loss_gradient: Tensor, _: Tensor) -> tuple[Tensor, None, None, None]:
        logits, indices, weights, pixel_weights, normalizer = ctx.saved_tensors
        scale = (pixel_weights * (loss_gradient / pixel_weights.numel())).unsqueeze(1)
        gradient = torch.empty_like(logits)
        for part in _parts(logits):
            probability = torch.exp_(logits[part].to(normalizer.dtype) - normalizer[part].unsqueeze(1))
            probability.mul_(scale[part])
            probability.scatter_add_(1, indices[part], (-weights[part] * scale[part]).to(probability.dtype))
            gradient[part] = probability
        return gradient, None, None, None


def _working_type(logits: Tensor) -> torch.dtype:
    return torch.float64 if logits.dtype == torch.float64 else torch.float32


def _parts(logits: Tensor) -> list[slice]:
    photos = max(1, CHUNK // max(1, logits[:1].numel()))
    return [slice(start, start + photos) for start in range(0, len(logits), photos)]


def entropy(weights: Tensor) -> Tensor:
    """Entropy of soft targets in nats: (B, K, H, W) -> (B, H, W).

    >>> round(entropy(torch.full((1, 4, 1, 1), 0.25)).item(), 4)  # log 4
    1.3863
    """
    return -torch.xlogy(weights, weights).sum(1)


def constant_cross_entropy(distribution: Tensor, indices: Tensor, weights: Tensor) -> Tensor:
    """Cross-entropy of one distribution (Q,) against every pixel's soft target: (B, K, H, W) -> (B, H, W).

    >>> indices, weights = torch.tensor([0, 3]).view(1, 2, 1, 1), torch.tensor([0.5, 0.5]).view(1, 2, 1, 1)
    >>> round(constant_cross_entropy(torch.full((4,), 0.25), indices, weights).item(), 4)  # log 4
    1.3863
    """
    return -(distribution.log().float()[indices] * weights).sum(1)


# ---- regression ------------------------------------------------------------------------------------------------------


class Regression(_OnTargets):
    """Half the squared distance of ab in units of `AB_SCALE` (paper equation 1): its row "L2"."""

    outputs = 2
    description = "ab itself, by regression"

    @staticmethod
    def decode(output: Tensor, light: Tensor, *, temperature: float = 0.38, bins: Tensor | None = None) -> Tensor:
        return output.float() * AB_SCALE

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


def squared_error(output: Tensor, target: Tensor, pixel_weights: Tensor) -> Tensor:
    """Half the squared Euclidean distance, weighted, averaged over all pixels (paper equation 1).

    Args:
        output: (B, 2, H, W).
        target: (B, 2, H, W) in the same units.
        pixel_weights: (B, H, W).

    Returns:
        A scalar, float32.

    >>> squared_error(torch.ones(1, 2, 3, 3), torch.zeros(1, 2, 3, 3), torch.ones(1, 3, 3)).item()
    1.0
    """
    distance = (output.float() - target).square().sum(1)
    return 0.5 * (distance * pixel_weights).mean()
