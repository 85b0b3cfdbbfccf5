"""What is exported as a graph: photos in, maps or colored photos out, with all arithmetic on colors inside."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from ssl_colorize.color import into_gamut, lab_to_rgb, rgb_to_lightness
from ssl_colorize.models import Pretrained
from ssl_colorize.models.trunks import Trunk

# Halvings on the way into sRGB: so many that runtimes which round otherwise still agree far within 1e-4.
_STEPS = 16
# Of the bicubic kernel with antialiasing, as PIL and PyTorch have it.
_CUBIC = -0.5
_CUBIC_REACH = 2.0


class PhotoEncoder(nn.Module):
    """Photos in, the maps of some layers out, as `load_encoder` gives them.

    Attributes:
        channels: 3 for RGB in [0, 1], 1 for L in 0..100.
        outputs: names of the layers, first to last.
    """

    def __init__(self, trunk: Trunk, layers: Sequence[str], *, channels: int = 3) -> None:
        super().__init__()
        self.trunk = trunk
        self.channels = channels
        self.outputs = tuple(layers)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Images (B, channels, H, W), of any H and W -> a map (B, C, h, w) a layer."""
        prepared = self.trunk.prepare(images)
        height, width = prepared.shape[2:]
        multiple = self.trunk.multiple
        if multiple > 1:
            # What is no multiple of the stride repeats the edge. By index: padding and slicing would make graphs that
            # only take photos which do, or only such as do not, need it.
            down, across = (_cells(side, multiple) * multiple for side in (height, width))
            prepared = _indexed(prepared, (down, across), last=(height - 1, width - 1))
        maps = self.trunk.maps(prepared, self.outputs)
        if multiple > 1:
            cells = {info["module"]: info["reduction"] for info in self.trunk.feature_info}
            sizes = {name: (_cells(height, cells[name]), _cells(width, cells[name])) for name in self.outputs}
            maps = {name: _indexed(maps[name], size, last=size) for name, size in sizes.items()}
        return tuple(maps[name].to(self.trunk.dtype) for name in self.outputs)


def _cells(side: int, stride: int) -> int:
    # Rounded up without negative numbers, whose division ONNX rounds the other way.
    return (side + stride - 1) // stride


def _indexed(x: Tensor, size: tuple[int, int], *, last: tuple[int, int]) -> Tensor:
    """The first rows and columns of maps (B, C, h, w), the last of them repeated as often as it takes."""
    down, across = (
        torch.arange(count, device=x.device).clamp(max=most) for count, most in zip(size, last, strict=True)
    )
    return x.index_select(2, down).index_select(3, across)


class PhotoColorizer(nn.Module):
    """Photos in, colored photos of the same size out.

    The network sees every photo as a square of `size`, which is what `Colorizer` shows it up to an aspect of 2:1;
    longer photos it sees squeezed, where `Colorizer` squeezes them by half. The rest is the same but for the last step:
    numbers stay numbers, and are not rounded to 8 bits.

    Attributes:
        channels: 3 for RGB in [0, 1], whose colors are not looked at; 1 for L in 0..100.
        outputs: the name of the only output.
    """

    outputs = ("colored",)

    def __init__(
        self, pretrained: Pretrained, *, size: int | None = None, temperature: float | None = None, channels: int = 3
    ) -> None:
        """Take a loaded network.

        Args:
            pretrained: the network.
            size: side in pixels of what it sees; by default what it was trained at.
            temperature: of the annealed mean; by default the checkpoint's own.
            channels: of the photos.

        Raises:
            UserError: the network predicts no colors.
        """
        super().__init__()
        pretrained.require_colors()
        self.model = pretrained.model
        self.register_buffer("bins", pretrained.bins)
        self.decode = pretrained.model.objectives[pretrained.objective].decode
        self.size = pretrained.input_size if size is None else size
        self.temperature = pretrained.temperature if temperature is None else temperature
        self.channels = channels

    def forward(self, photos: Tensor) -> tuple[Tensor]:
        """Photos (B, channels, H, W) -> RGB (B, 3, H, W) in [0, 1], of the photos' lightness."""
        if self.channels == 1:
            lightness, light = photos, self.model.light_of(photos)
        else:
            lightness, light = rgb_to_lightness(photos), self.model.light(photos)
        # Bicubic overshoots a little at hard edges.
        small = resize_bicubic(light, (self.size, self.size)).clamp(0.0, 100.0)
        more = -self.size % self.model.multiple
        seen = functional.pad(small, (0, more, 0, more), mode="replicate")
        ab = self.decode(self.model(seen), seen, temperature=self.temperature, bins=self.get_buffer("bins"))
        share = self.size / (self.size + more)
        lab = torch.cat((lightness, stretch_bilinear(ab, photos, seen=(share, share))), dim=1)
        return (lab_to_rgb(into_gamut(lab, steps=_STEPS)),)


# ---- resizing as two matrix products: every runtime computes them alike, at sizes known only there -------------------


def resize_bicubic(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Antialiased bicubic resizing to a fixed size: (B, C, H, W) -> (B, C, *size), as PyTorch's own to rounding."""
    down, across = (_bicubic(x, dim=dim, cells=cells) for dim, cells in zip((2, 3), size, strict=True))
    return down @ x @ across.T


def stretch_bilinear(x: Tensor, like: Tensor, *, seen: tuple[float, float]) -> Tensor:
    """Bilinear interpolation of a coarse map at every pixel of a photo, its border continued.

    Args:
        x: (B, C, h, w).
        like: (B, any, H, W), whose size is wanted.
        seen: the share of the map's height and width that the photo lies over.

    Returns:
        (B, C, H, W).
    """
    down, across = (_bilinear(x, like, dim=dim, share=share) for dim, share in zip((2, 3), seen, strict=True))
    return down @ x @ across.T


def _centers(count: int, x: Tensor) -> Tensor:
    return torch.arange(count, device=x.device, dtype=torch.float32) + 0.5


def _bicubic(x: Tensor, *, dim: int, cells: int) -> Tensor:
    """The weights (cells, n) of n pixels in each cell; rows sum to 1."""
    pixels = x.shape[dim]
    step = pixels / cells
    # Where a cell is smaller than a pixel nothing is smoothed away.
    width = torch.clamp(torch.full((), 1.0) * step, min=1.0)
    distance = ((_centers(pixels, x) - _centers(cells, x).unsqueeze(1) * step) / width).abs()
    near = ((_CUBIC + 2) * distance - (_CUBIC + 3)) * distance * distance + 1
    far = ((distance - 5) * distance + 8) * distance * _CUBIC - 4 * _CUBIC
    weights = torch.where(distance < 1, near, torch.where(distance < _CUBIC_REACH, far, torch.zeros_like(far)))
    return weights / weights.sum(1, keepdim=True)


def _bilinear(x: Tensor, like: Tensor, *, dim: int, share: float) -> Tensor:
    """The weights (n, cells) of the cells in each of n pixels."""
    pixels, cells = like.shape[dim], x.shape[dim]
    places = (_centers(pixels, x) * (cells * share / pixels)).clamp(0.5, cells - 0.5)
    return (1 - (places.unsqueeze(1) - _centers(cells, x)).abs()).clamp(min=0.0)
