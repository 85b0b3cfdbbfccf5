"""The objective of Larsson et al.: distributions over hue and chroma at a few pixels of each photo."""

from typing import NamedTuple

import torch
from torch import Tensor

from ssl_colorize.color import rgb_to_hue_chroma, rgb_to_lab, rgb_to_mean
from ssl_colorize.models.baselines import larsson
from ssl_colorize.models.baselines.larsson import BINS
from ssl_colorize.pretrain.objectives.base import Objective

# Pixels of each photo that a training step looks at.
PIXELS = 128
# Side of the square whose hard bins are averaged.
WINDOW = 7
HUE_WEIGHT = 5.0
# Held-out photos are looked at at every so manieth pixel.
_FIGURES_STRIDE = 4
# As in the color statistics: a bin that the training photos lack costs the best constant 10 nats, not infinitely many.
_FLOOR = 1e-3


class HueChromaExamples(NamedTuple):
    """Some pixels of photos as Larsson's network is asked about them.

    Attributes:
        gray: (B, 1, H, W) float32 in 0..100.
        places: (B, N, 2) int64, rows and columns.
        hue: (B, 32, 1, N) float32, a distribution.
        chroma: (B, 32, 1, N) likewise.
        hue_weight: (B, 1, N) float32.
        chroma_weight: (B, 1, N).
        photos: (B, 3, H, W) uint8.
    """

    gray: Tensor
    places: Tensor
    hue: Tensor
    chroma: Tensor
    hue_weight: Tensor
    chroma_weight: Tensor
    photos: Tensor

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        return self.gray, self.places


class HueChroma(Objective):
    """Weighted Kullback-Leibler divergences of hue and chroma, averaged over the pixels looked at."""

    @property
    def output_bias(self) -> Tensor:
        return self.statistics.constant.log()

    def examples(self, photos: Tensor, *, training: bool) -> HueChromaExamples:
        return make_examples(photos, random_places(photos) if training else grid_places(photos))

    def losses(self, output: Tensor, examples: HueChromaExamples) -> dict[str, Tensor]:
        hue, chroma = divergences(log_probabilities(output), examples)
        loss = HUE_WEIGHT * hue.mean() + chroma.mean()
        return {"loss": loss, "hue_kl": hue.mean().detach(), "chroma_kl": chroma.mean().detach()}

    def sums(self, output: Tensor, examples: HueChromaExamples) -> dict[str, Tensor | int]:
        hue, chroma = divergences(log_probabilities(output), examples)
        constant = self.statistics.constant.log().view(1, -1, 1, 1).expand_as(output).split(BINS, dim=1)
        flat_hue, flat_chroma = divergences(constant, examples)
        return {
            "count": hue.numel(),
            "loss": (HUE_WEIGHT * hue + chroma).sum(),
            "loss_constant": (HUE_WEIGHT * flat_hue + flat_chroma).sum(),
            "hue_kl": hue.sum(),
            "chroma_kl": chroma.sum(),
        }

    def colors(self, output: Tensor, examples: HueChromaExamples) -> tuple[Tensor, Tensor]:
        ab = larsson.decode(output, at_places(examples.gray, examples.places))
        return ab, rgb_to_lab(at_places(examples.photos, examples.places))[:, 1:]


def log_probabilities(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Of hue and of chroma, both (B, 32, H, W) float32, from a network's output (B, 64, H, W)."""
    hue, chroma = logits.float().split(BINS, dim=1)
    return hue.log_softmax(1), chroma.log_softmax(1)


def divergences(predicted: tuple[Tensor, Tensor], examples: HueChromaExamples) -> tuple[Tensor, Tensor]:
    """Weighted KL divergence of each pixel's hue and chroma from its targets, in nats: both (B, 1, N)."""
    hue, chroma = (
        (torch.xlogy(target, target) - target * log_probability).sum(1)
        for target, log_probability in zip((examples.hue, examples.chroma), predicted, strict=True)
    )
    return hue * examples.hue_weight, chroma * examples.chroma_weight


def make_examples(photos: Tensor, places: Tensor) -> HueChromaExamples:
    """Targets and weights of some pixels.

    Hue weighs as much as the pixel's own chroma, and chroma min(3 L, 1, 3 (1 - L)) with the gray as L: next to nothing
    in the dark and in the light, where it hardly shows.

    Args:
        photos: (B, 3, H, W) uint8.
        places: (B, N, 2) int64, rows and columns.
    """
    hue, chroma = rgb_to_hue_chroma(photos)
    gray = rgb_to_mean(photos)
    light = at_places(gray, places)[:, 0]
    return HueChromaExamples(
        100.0 * gray,
        places,
        window_histogram(hue, places, counts=chroma > 0),
        window_histogram(chroma, places),
        at_places(chroma.unsqueeze(1), places)[:, 0],
        torch.minimum(3 * light, 3 * (1 - light)).clamp(max=1.0),
        photos,
    )


def random_places(photos: Tensor) -> Tensor:
    """`PIXELS` pixels of each photo (B, C, H, W), evenly distributed, perhaps one twice: (B, N, 2)."""
    batch, _, height, width = photos.shape
    # Drawn on the CPU: every device looks at the same pixels.
    places = [torch.randint(side, (batch, PIXELS)) for side in (height, width)]
    return torch.stack(places, dim=-1).to(photos.device)


def grid_places(photos: Tensor) -> Tensor:
    """Every fourth pixel of photos (B, C, H, W), down and across: (B, N, 2)."""
    sides = [torch.arange(0, side, _FIGURES_STRIDE, device=photos.device) for side in photos.shape[-2:]]
    return torch.cartesian_prod(*sides).expand(len(photos), -1, -1)


def at_places(maps: Tensor, places: Tensor) -> Tensor:
    """Pixels (B, C, 1, N) of maps (B, C, H, W)."""
    index = places[..., 0] * maps.shape[-1] + places[..., 1]
    return maps.flatten(2).gather(2, index.unsqueeze(1).expand(-1, maps.shape[1], -1)).unsqueeze(2)


def window_histogram(values: Tensor, places: Tensor, *, counts: Tensor | None = None) -> Tensor:
    """How the values around some pixels are distributed over 32 equal bins of [0, 1].

    Args:
        values: (B, H, W) in [0, 1].
        places: (B, N, 2), middles of windows of 7 x 7; what lies beyond the border does not count.
        counts: (B, H, W) bool, which pixels have a value at all; all by default. A window of none is uniform.

    Returns:
        (B, 32, 1, N) float32, summing to 1.
    """
    batch, height, width = values.shape
    offsets = torch.arange(WINDOW, device=values.device) - WINDOW // 2
    # (B, 49, N)
    rows, columns = (
        places[..., axis].unsqueeze(1) + steps.reshape(1, -1, 1)
        for axis, steps in enumerate(torch.meshgrid(offsets, offsets, indexing="ij"))
    )
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    index = (rows.clamp(0, height - 1) * width + columns.clamp(0, width - 1)).flatten(1)
    bins = (values * BINS).long().clamp(0, BINS - 1).flatten(1).gather(1, index).view_as(inside)
    if counts is not None:
        inside = inside & counts.flatten(1).gather(1, index).view_as(inside)
    histogram = torch.zeros(batch, BINS, places.shape[1], device=values.device)
    histogram.scatter_add_(1, bins, inside.float())
    total = histogram.sum(1, keepdim=True)
    return torch.where(total > 0, histogram / total.clamp(min=1.0), 1 / BINS).unsqueeze(2)


class MeanTargets:
    """The distributions of hue and chroma of the least mean divergence: the weighted means of the targets."""

    def __init__(self) -> None:
        self._hue = torch.zeros(BINS, dtype=torch.float64)
        self._chroma = torch.zeros(BINS, dtype=torch.float64)

    def update(self, photos: Tensor) -> None:
        examples = make_examples(photos, grid_places(photos))
        self._hue += (examples.hue * examples.hue_weight.unsqueeze(1)).double().sum((0, 2, 3))
        self._chroma += (examples.chroma * examples.chroma_weight.unsqueeze(1)).double().sum((0, 2, 3))

    def result(self) -> Tensor:
        """(64,) float32, hue first, each half summing to 1."""
        halves = [mass / mass.sum() for mass in (self._hue, self._chroma)]
        return torch.cat([(1 - _FLOOR) * half + _FLOOR / BINS for half in halves]).float()
