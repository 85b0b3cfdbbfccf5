"""The training objectives: rebalanced soft cross-entropy (paper equation 2), and L2 (equation 1)."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# Numbers of a chunk of logits that are worked on at once: bounds the temporary memory, keeps kernels large.
_CHUNK = 1 << 21


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
    photos = max(1, _CHUNK // max(1, logits[:1].numel()))
    return [slice(start, start + photos) for start in range(0, len(logits), photos)]


def entropy(weights: Tensor) -> Tensor:
    """Entropy of soft targets in nats: (B, K, H, W) -> (B, H, W)."""
    return -torch.xlogy(weights, weights).sum(1)


def constant_cross_entropy(distribution: Tensor, indices: Tensor, weights: Tensor) -> Tensor:
    """Cross-entropy of one distribution (Q,) against every pixel's soft target: (B, K, H, W) -> (B, H, W)."""
    return -(distribution.log().float()[indices] * weights).sum(1)


def squared_error(output: Tensor, target: Tensor, pixel_weights: Tensor) -> Tensor:
    """Half the squared Euclidean distance, weighted, averaged over all pixels (paper equation 1).

    Args:
        output: (B, 2, H, W).
        target: (B, 2, H, W) in the same units.
        pixel_weights: (B, H, W).

    Returns:
        A scalar, float32.
    """
    distance = (output.float() - target).square().sum(1)
    return 0.5 * (distance * pixel_weights).mean()
