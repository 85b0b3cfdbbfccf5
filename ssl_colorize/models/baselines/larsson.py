"""The colorizer of Larsson, Maire, Shakhnarovich (2016): hypercolumns of VGG-16, distributions of hue and chroma.

Network, objective (at a few pixels of each photo) and decoding.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from ssl_colorize.color import rgb_to_lab
from ssl_colorize.errors import UserError
from ssl_colorize.models.baselines.vgg import VGG16, convolution, fill, unit_range
from ssl_colorize.models.objectives import BestConstant, Objective
from ssl_colorize.models.registry import register_model

# Bins of the hue, and as many of the chroma: the outputs' first and second half.
BINS = 32
OUTPUTS = 2 * BINS
MEAN_GRAY = 0.4488
# Hues so spread out that their mean direction is shorter than this lose chroma.
FADE_BELOW = 0.03
# The dense head works on so many numbers of a hidden map at once.
STRIP_NUMBERS = 1 << 24
# Pixels of each photo that a training step learns from.
PIXELS = 128
# Side of the square whose hard bins are averaged.
WINDOW = 7
HUE_WEIGHT = 5.0
# Figures of held-out photos are taken at every so manieth pixel.
_FIGURES_STRIDE = 4
# As in the color statistics: a bin that the training photos lack costs the best constant 10 nats, not infinitely many.
_FLOOR = 1e-3


# ---- hue and chroma --------------------------------------------------------------------------------------------------


def rgb_to_hue_chroma(rgb: Tensor) -> tuple[Tensor, Tensor]:
    """HSV's hue and chroma (the largest channel less the smallest).

    Args:
        rgb: (..., 3, H, W), floats in [0, 1] or uint8 in 0..255.

    Returns:
        hue (..., H, W) float32 in [0, 1), 0 for red, 1/3 for green, and 0 where there is no chroma; chroma (..., H, W)
        in [0, 1].

    >>> [value.item() for value in rgb_to_hue_chroma(torch.tensor([0.25, 0.75, 0.25]).view(3, 1, 1))]
    [0.3333333432674408, 0.5]
    """
    values = unit_range(rgb)
    red, green, blue = values.unbind(-3)
    top = values.amax(-3)
    chroma = top - values.amin(-3)
    safe = torch.where(chroma > 0, chroma, 1.0)
    sixth = torch.where(
        top == red, (green - blue) / safe, torch.where(top == green, 2 + (blue - red) / safe, 4 + (red - green) / safe)
    )
    # A tiny negative angle wraps to 1 in float32.
    hue = (sixth / 6) % 1.0
    return torch.where(hue < 1.0, hue, 0.0), chroma


def rgb_to_mean(rgb: Tensor) -> Tensor:
    """The gray (R + G + B) / 3: (..., 3, H, W) floats in [0, 1] or uint8 -> (..., 1, H, W) float32 in [0, 1]."""
    return unit_range(rgb).mean(-3, keepdim=True)


def hue_chroma_to_rgb(hue: Tensor, chroma: Tensor, gray: Tensor) -> Tensor:
    """The RGB of a hue and chroma whose channels' mean is a given gray.

    HSV fixes the channels up to a common shift, its value V: whatever V is, here the shift is the one that gives the
    gray back. So the V = gray + chroma / 2 of the paper drops out.

    Args:
        hue: (..., H, W), of period 1.
        chroma: (..., H, W) in [0, 1].
        gray: (..., 1, H, W) in [0, 1].

    Returns:
        (..., 3, H, W) float32, clipped to [0, 1].

    >>> red = hue_chroma_to_rgb(torch.zeros(1, 1), torch.full((1, 1), 0.75), torch.full((1, 1, 1), 0.25))
    >>> [round(value, 3) for value in red.flatten().tolist()]
    [0.75, 0.0, 0.0]
    """
    # A channel's share of the chroma: a trapezoid about its own hue, HSV's definition in one line.
    offsets = hue.new_tensor([0.0, 1 / 3, 2 / 3]).view(3, 1, 1)
    distance = ((hue.unsqueeze(-3) - offsets + 0.5) % 1.0 - 0.5).abs()
    share = (2 - 6 * distance).clamp(0.0, 1.0)
    rgb = chroma.unsqueeze(-3) * (share - share.mean(-3, keepdim=True)) + gray
    return rgb.clamp(0.0, 1.0)


def circular_mean(probability: Tensor) -> tuple[Tensor, Tensor]:
    """Mean direction of distributions over hue: (B, 32, H, W) -> its hue in [-1/2, 1/2] and its length in [0, 1]."""
    centers = (torch.arange(BINS, device=probability.device) + 0.5) * (2 * math.pi / BINS)
    x, y = (torch.einsum("q,bqhw->bhw", part, probability) for part in (centers.cos(), centers.sin()))
    return torch.atan2(y, x) / (2 * math.pi), (x.square() + y.square()).sqrt()


def median(probability: Tensor) -> Tensor:
    """Median of distributions over chroma, even within a bin: (B, 32, H, W) -> (B, H, W) in [0, 1].

    >>> median(torch.full((1, 32, 1, 1), 1 / 32)).item()
    0.5
    """
    cumulative = probability.cumsum(1)
    # Rounding may leave the whole a hair below, or beyond, 1.
    index = (cumulative < 0.5).sum(1, keepdim=True).clamp(max=BINS - 1)
    mass = probability.gather(1, index)
    before = cumulative.gather(1, index) - mass
    inside = ((0.5 - before) / mass.clamp(min=1e-12)).clamp(0.0, 1.0)
    return ((index + inside) / BINS).squeeze(1)


# ---- objective -------------------------------------------------------------------------------------------------------


class HueChromaExamples(NamedTuple):
    """Some pixels of photos: what Larsson's network takes, and their targets.

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
    """Weighted Kullback-Leibler divergences of hue and chroma, averaged over some pixels."""

    outputs = OUTPUTS
    description = "distributions of hue and chroma"
    decodes_light = True

    @staticmethod
    def best_constant() -> BestConstant:
        return MeanTargets()

    @staticmethod
    def decode(output: Tensor, light: Tensor, *, temperature: float = 0.38, bins: Tensor | None = None) -> Tensor:
        """Median chroma and circular mean of the hue, under the gray that they were predicted for.

        Args:
            output: log-odds (B, 64, H, W), hue first.
            light: gray (B, 1, H, W) in 0..100.
            temperature: ignored.
            bins: ignored.

        Returns:
            ab (B, 2, H, W) float32, clipped to sRGB.
        """
        hue, chroma = output.float().split(BINS, dim=1)
        angle, strength = circular_mean(hue.softmax(1))
        faded = median(chroma.softmax(1)) * (strength / FADE_BELOW).clamp(max=1.0)
        return rgb_to_lab(hue_chroma_to_rgb(angle, faded, light.float() / 100.0))[:, 1:]

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
        ab = self.decode(output, at_places(examples.gray, examples.places))
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
    # Drawn on the CPU: every device takes the same pixels.
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


# ---- network ---------------------------------------------------------------------------------------------------------


@register_model("larsson")
class Larsson(VGG16):
    """Gray (B, 1, H, W) in 0..100 -> log-odds of hue and chroma (B, 64, H, W), for sides that are multiples of 32.

    The hypercolumn of a pixel is the input and the maps of the 13 convolutions, fc6 and fc7, interpolated bilinearly
    at its center (12,417 numbers at width 1). With `places`, only those pixels are answered, and only their
    hypercolumns are ever made; without, all pixels, strip by strip.

    Args:
        width: factor on every hidden width.
        outputs: 64.
    """

    target_stride = 1
    multiple = 32
    objectives: ClassVar[Mapping[str, type[Objective]]] = {"larsson": HueChroma}

    def __init__(self, *, width: float = 1.0, outputs: int = OUTPUTS) -> None:
        if outputs != OUTPUTS:
            raise UserError(f"larsson has {OUTPUTS} outputs, {BINS} of hue and {BINS} of chroma, not {outputs}.")
        super().__init__(width=width, outputs=outputs, inputs=1, blocks=5, normalized=True)
        wide = self.scaled(4096)
        self.fc6 = nn.Sequential(*convolution(self.scaled(512), wide, 7, normalized=True))
        self.fc7 = nn.Sequential(*convolution(wide, wide, 1, normalized=True))
        self.add_layer("fc6", wide, 32)
        self.add_layer("fc7", wide, 32)
        self.dropout = nn.Dropout(0.5)
        hidden = self.scaled(1024)
        # One layer on the whole hypercolumn, in parts: those of its numbers that come from maps of one size.
        self.hidden = nn.ModuleList(nn.Conv2d(channels, hidden, 1) for channels in self._column_parts(wide))
        self.logits = nn.Conv2d(hidden, OUTPUTS, 1)

    def light(self, rgb: Tensor) -> Tensor:
        return 100.0 * rgb_to_mean(rgb)

    def normalize(self, light: Tensor) -> Tensor:
        return light / 100.0 - MEAN_GRAY

    def forward(self, lightness: Tensor, places: Tensor | None = None) -> Tensor:
        """Answer all pixels, or a few.

        Args:
            lightness: (B, 1, H, W) in 0..100.
            places: (B, N, 2) int64, row and column of the wanted pixels.

        Returns:
            (B, 64, H, W), or (B, 64, 1, N) of the places.
        """
        if places is None:
            return super().forward(lightness)
        *_, (_, maps) = self._mapped(lightness)
        # Added row: grids have two dimensions.
        rows, columns = (places[:, None, :, axis].double() + 0.5 for axis in (0, 1))
        height, width = lightness.shape[-2:]
        parts = []
        for layer, x in zip(self.hidden, maps, strict=True):
            place = rows * (x.shape[2] / height) - 0.5, columns * (x.shape[3] / width) - 0.5
            # Both are linear, so either may come first: the one that leaves less for the other.
            few = x.shape[2] * x.shape[3] < places.shape[1]
            parts.append(interpolate(layer(x), *place) if few else layer(interpolate(x, *place)))
        return self._head(parts)

    def stages(self, lightness: Tensor) -> Iterator[tuple[str, Tensor]]:
        for name, maps in self._mapped(lightness):
            if name == "logits":
                yield name, self._dense(maps, lightness.shape[2], lightness.shape[3])
            else:
                yield name, maps[-1]

    @torch.no_grad()
    def fill(self, weights: Mapping[str, Tensor]) -> None:
        super().fill(weights)
        for layer, key in ((self.fc6[0], "classifier.0"), (self.fc7[0], "classifier.3")):
            assert isinstance(layer, nn.Conv2d)
            fill(layer, weights, key)

    def _mapped(self, lightness: Tensor) -> Iterator[tuple[str, list[Tensor]]]:
        """The layers' maps by name; then, under "logits", the hypercolumn's: one tensor a resolution, finest first."""
        x = self.prepared(lightness)
        by_size: list[Tensor] = []
        for name, maps in self.convolved(x):
            yield name, maps
            by_size.append(torch.cat([x, *maps] if name == "conv1" else maps, dim=1))
            x = maps[-1]
        six = self.fc6(functional.max_pool2d(x, 2))
        yield "fc6", [six]
        six = self.dropout(six)
        seven = self.fc7(six)
        yield "fc7", [seven]
        by_size.append(torch.cat((six, self.dropout(seven)), dim=1))
        yield "logits", by_size

    def _head(self, parts: Sequence[Tensor]) -> Tensor:
        answer: Tensor = self.logits(self.dropout(functional.relu(torch.stack(list(parts)).sum(0))))
        return answer

    def _column_parts(self, wide: int) -> list[int]:
        """How many numbers of the hypercolumn come from the input and each block, and from fc6 and fc7."""
        parts = [
            sum(conv.out_channels for conv in self.get_submodule(name).children() if isinstance(conv, nn.Conv2d))
            for name in self.blocks
        ]
        return [1 + parts[0], *parts[1:], 2 * wide]

    def _dense(self, maps: Sequence[Tensor], height: int, width: int) -> Tensor:
        """The answers of all pixels (B, 64, H, W).

        The hidden layer is linear in the hypercolumn, so it is applied to the maps, which are small, and its sums are
        interpolated: a fortieth of the multiplications, and no hypercolumn anywhere.
        """
        numbers = self.logits.in_channels * width
        # An exported graph does not know how many photos there are.
        rows_at_once = height if torch.compiler.is_exporting() else max(1, STRIP_NUMBERS // (len(maps[0]) * numbers))
        strips = []
        for top in range(0, height, rows_at_once):
            rows = range(top, min(top + rows_at_once, height))
            strips.append(
                self._head([_strip(x, part, rows, (height, width)) for x, part in zip(maps, self.hidden, strict=True)])
            )
        return torch.cat(strips, dim=2)


def _strip(maps: Tensor, layer: nn.Module, rows: range, size: tuple[int, int]) -> Tensor:
    """A 1x1 convolution of maps (B, C, h, w), interpolated at some rows of pixels of a photo of a size."""
    scales = [cells / pixels for cells, pixels in zip(maps.shape[2:], size, strict=True)]
    down, across = (
        (torch.arange(places.start, places.stop, device=maps.device).double() + 0.5) * scale - 0.5
        for places, scale in zip((rows, range(size[1])), scales, strict=True)
    )
    # Only the rows of cells that these pixels lie between.
    top = max(0, math.floor((rows.start + 0.5) * scales[0] - 0.5))
    bottom = min(maps.shape[2], math.ceil((rows.stop - 0.5) * scales[0] - 0.5) + 1)
    projected = layer(maps[:, :, top:bottom])
    places = torch.meshgrid(down.clamp(0, maps.shape[2] - 1) - top, across, indexing="ij")
    return interpolate(projected, *(place.expand(maps.shape[0], -1, -1) for place in places))


def interpolate(maps: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Bilinear interpolation at fractional cells; beyond the outermost centers a map is continued by its border.

    Args:
        maps: (B, C, h, w).
        rows: (B, n, m), 0 at the center of the first row of cells.
        columns: (B, n, m).

    Returns:
        (B, C, n, m), of the maps' type.
    """
    height, width = maps.shape[-2:]
    grid = torch.stack(((2 * columns + 1) / width - 1, (2 * rows + 1) / height - 1), dim=-1)
    # In float32, whatever the maps are in: bfloat16 cannot tell neighboring pixels of a large photo apart.
    found = functional.grid_sample(
        maps.float(), grid.float(), mode="bilinear", padding_mode="border", align_corners=False
    )
    return found.to(maps.dtype)
