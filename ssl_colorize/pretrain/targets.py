"""What a batch of photos asks of the network: lightness in, soft-encoded color at the network's stride out."""

from typing import NamedTuple

from torch import Tensor

from ssl_colorize.color import is_colored, rgb_to_lab, rgb_to_lightness, soft_encode


class Targets(NamedTuple):
    """One batch on the training device.

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
    """
    ab = subsampled_ab(photos, stride)
    indices, weights = soft_encode(ab, neighbors, sigma)
    colored = is_colored(ab).to(class_weights.dtype)
    pixel_weights = class_weights[indices[:, 0]] * colored.view(-1, 1, 1)
    return Targets(rgb_to_lightness(photos), ab, indices, weights, pixel_weights)
