"""The colorizer of Larsson, Maire, Shakhnarovich (2016): hypercolumns of VGG-16, distributions of hue and chroma."""

import math
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from ssl_colorize.color import hue_chroma_to_rgb, rgb_to_lab, rgb_to_mean
from ssl_colorize.errors import UserError
from ssl_colorize.models.baselines.vgg import VGG16, convolution, fill
from ssl_colorize.models.registry import register_model

# Bins of the hue, and as many of the chroma: the outputs' first and second half.
BINS = 32
OUTPUTS = 2 * BINS
MEAN_GRAY = 0.4488
# Hues so spread out that their mean direction is shorter than this lose chroma.
FADE_BELOW = 0.03
# The dense head works on so many numbers of a hidden map at once.
STRIP_NUMBERS = 1 << 24


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
    def load_imagenet(self, weights: Mapping[str, Tensor]) -> None:
        super().load_imagenet(weights)
        for layer, key in ((self.fc6[0], "classifier.0"), (self.fc7[0], "classifier.3")):
            assert isinstance(layer, nn.Conv2d)
            fill(layer, weights, key)

    def _mapped(self, lightness: Tensor) -> Iterator[tuple[str, list[Tensor]]]:
        """The layers' maps by name; then, under "logits", the hypercolumn's: one tensor a resolution, finest first."""
        x = self.normalize(lightness)
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


def decode(logits: Tensor, gray: Tensor) -> Tensor:
    """The ab of a prediction: median chroma, circular mean of the hue, under the gray it was made for.

    Args:
        logits: (B, 64, H, W), hue first.
        gray: (B, 1, H, W) in 0..100.

    Returns:
        ab (B, 2, H, W) float32, clipped to sRGB.
    """
    hue, chroma = logits.float().split(BINS, dim=1)
    angle, strength = circular_mean(hue.softmax(1))
    faded = median(chroma.softmax(1)) * (strength / FADE_BELOW).clamp(max=1.0)
    return rgb_to_lab(hue_chroma_to_rgb(angle, faded, gray.float() / 100.0))[:, 1:]


def circular_mean(probability: Tensor) -> tuple[Tensor, Tensor]:
    """Mean direction of distributions over hue: (B, 32, H, W) -> its hue in [-1/2, 1/2] and its length in [0, 1]."""
    centers = (torch.arange(BINS, device=probability.device) + 0.5) * (2 * math.pi / BINS)
    x, y = (torch.einsum("q,bqhw->bhw", part, probability) for part in (centers.cos(), centers.sin()))
    return torch.atan2(y, x) / (2 * math.pi), (x.square() + y.square()).sqrt()


def median(probability: Tensor) -> Tensor:
    """Median of distributions over chroma, even within a bin: (B, 32, H, W) -> (B, H, W) in [0, 1]."""
    cumulative = probability.cumsum(1)
    # Rounding may leave the whole a hair below, or beyond, 1.
    index = (cumulative < 0.5).sum(1, keepdim=True).clamp(max=BINS - 1)
    mass = probability.gather(1, index)
    before = cumulative.gather(1, index) - mass
    inside = ((0.5 - before) / mass.clamp(min=1e-12)).clamp(0.0, 1.0)
    return ((index + inside) / BINS).squeeze(1)
