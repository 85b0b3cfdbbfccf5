"""Color photos of any size with a trained network.

The network sees a small copy of the photo's lightness and answers with a coarse map of ab. The map is brought to the
photo's size and joined with the photo's own lightness at full resolution, so every edge of the photo stays where it
was. The full-resolution part goes through strips of rows: its memory does not grow with the photo.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ssl_colorize.color import into_gamut, lab_to_rgb, rgb_to_lightness, to_uint8_keeping_lightness
from ssl_colorize.data.images import read_photo, upright_srgb
from ssl_colorize.device import choose_device
from ssl_colorize.errors import UserError
from ssl_colorize.models.pretrained import Pretrained, load_pretrained, predict_ab

Photo = str | Path | Image.Image | NDArray[Any]

# Pixels of a strip: some twenty float32 copies of three channels of it are alive at once, about 30 MB; larger strips
# are slower, since they leave the processor's caches, and smaller ones, since there are more of them.
STRIP_PIXELS = 1 << 17
# By so much numbers may lie outside of [0, 1], which they were rounded to.
_ROUNDING = 1e-3
# The network's view of a very long photo is at most this many times as long as the usual short side; beyond that the
# short side shrinks instead.
LONGEST = 16
# A photo's aspect is squeezed by up to this factor for the network's view.
SQUEEZE = 2.0


class Colorizer:
    """A trained network that turns photos into colored photos of the same size.

    >>> colorizer = Colorizer.load("eccv16_starter", device="cpu")
    >>> colorizer.colorize(np.full((40, 60), 128, np.uint8)).size
    (60, 40)
    """

    def __init__(self, pretrained: Pretrained, *, device: str | torch.device = "cpu") -> None:
        """Take a loaded network, and move it to `device`.

        Raises:
            UserError: it predicts no colors.
        """
        pretrained.require_colors()
        self.device = torch.device(device)
        self.pretrained = pretrained.to(self.device)
        self.pretrained.model.eval()

    @classmethod
    def load(cls, source: str | Path, *, device: str = "auto") -> Colorizer:
        """Load a run folder, a .safetensors file or a released .pth file.

        Raises:
            UserError: the source holds no network that is known, or one that predicts no colors, or the device is
                not there.
        """
        where = choose_device(device)
        return cls(load_pretrained(source, device=where), device=where)

    def colorize(
        self, image: Photo, temperature: float | None = None, *, size: int | None = None, flip: bool = False
    ) -> Image.Image:
        """The photo in color, at its own size and with its own lightness.

        Args:
            image: a path, a PIL image, or an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4): uint8, uint16 (0xFFFF is
                white), bool, or float in [0, 1]. Any color it has is not looked at.
            temperature: how decided the colors are: 1 is the mean (pale), toward 0 the mode (vivid, blotchy). None
                is the checkpoint's own.
            size: short side of what the network sees, in pixels (`seen_size`). None is the size it was trained at;
                more gives finer color borders, and at some point colors that make less sense.
            flip: average what the network says of the photo and of its mirror image; twice the time.

        Returns:
            An upright RGB image. Its lightness is the photo's, to what 8 bits allow: colors that sRGB cannot show at
            that lightness lose chroma instead.

        Raises:
            UserError: the photo cannot be read, the array is no image, or a number is out of range.
        """
        pixels = _pixels(image)
        coarse, scales = self._coarse_ab(pixels, temperature=temperature, size=size, flip=flip)
        colored = np.empty(pixels.shape, dtype=np.uint8)
        for rows, ab in _stretched(coarse, pixels.shape, scales=scales):
            colored[rows] = _join(self._lightness(pixels[rows]), ab)
        return Image.fromarray(colored)

    def ab(
        self, image: Photo, temperature: float | None = None, *, size: int | None = None, flip: bool = False
    ) -> Tensor:
        """The colors alone, before sRGB limits them: (2, H, W) float32 ab of the photo's size, on the CPU.

        Arguments and errors as in `colorize`.
        """
        pixels = _pixels(image)
        coarse, scales = self._coarse_ab(pixels, temperature=temperature, size=size, flip=flip)
        return torch.cat([ab for _, ab in _stretched(coarse, pixels.shape, scales=scales)], dim=1).cpu()

    def _lightness(self, rows: NDArray[Any]) -> Tensor:
        """L (1, h, W) in 0..100 of rows (h, W, 3), on the colorizer's device."""
        return rgb_to_lightness(self._tensor(rows))

    def _tensor(self, rows: NDArray[Any]) -> Tensor:
        """Rows (h, W, 3) as (3, h, W), on the colorizer's device."""
        return torch.from_numpy(rows).to(self.device).permute(2, 0, 1)

    @torch.inference_mode()
    def _coarse_ab(
        self, pixels: NDArray[Any], *, temperature: float | None, size: int | None, flip: bool
    ) -> tuple[Tensor, tuple[float, float]]:
        """The network's ab (2, h, w), and its cells per pixel of the photo, down and across."""
        if temperature is not None and not temperature >= 0:
            raise UserError(f"The temperature must be 0 or more, not {temperature}.")
        short = self.pretrained.input_size if size is None else size
        multiple = self.pretrained.model.multiple
        if short < multiple:
            raise UserError(f"The size must be at least {multiple} pixels for this network, not {short}.")
        height, width = pixels.shape[:2]
        seen = seen_size(height, width, short=short)
        light = self._small_light(pixels, seen)
        padded = F.pad(light, (0, -seen[1] % multiple, 0, -seen[0] % multiple), mode="replicate")
        ab = predict_ab(self.pretrained, padded, temperature=temperature, flip=flip)[0].float()
        # The padding needs no cutting: no pixel of the photo lies over it.
        down = ab.shape[1] / padded.shape[2] * seen[0] / height
        across = ab.shape[2] / padded.shape[3] * seen[1] / width
        return ab, (down, across)

    def _small_light(self, pixels: NDArray[Any], seen: tuple[int, int]) -> Tensor:
        """The network's light (1, 1, h, w) in 0..100 of the whole photo at the size it sees it, antialiased.

        Widths first, strip by strip, then heights: the two passes of a separable filter.
        """
        narrow = []
        for rows in _strips(pixels.shape):
            strip = self.pretrained.model.light(self._tensor(pixels[rows])).unsqueeze(0)
            narrow.append(_resize(strip, (strip.shape[2], seen[1])))
        # Bicubic overshoots a little at hard edges.
        return _resize(torch.cat(narrow, dim=2), seen).clamp(0.0, 100.0)


def gray(image: Photo) -> Image.Image:
    """The photo without color: a neutral RGB image of its CIELAB lightness, to the nearest of 256 grays.

    >>> gray(Image.new("RGB", (1, 1), (255, 0, 0))).getpixel((0, 0))
    (127, 127, 127)
    """
    pixels = _pixels(image)
    colorless = np.empty(pixels.shape, dtype=np.uint8)
    for rows in _strips(pixels.shape):
        light = rgb_to_lightness(torch.from_numpy(pixels[rows]).permute(2, 0, 1))
        rgb = lab_to_rgb(torch.cat((light, light.new_zeros(2, *light.shape[1:]))))
        # One channel for all three: their rounding may differ.
        colorless[rows] = (rgb[1] * 255).round().to(torch.uint8).unsqueeze(-1).numpy()
    return Image.fromarray(colorless)


def _join(lightness: Tensor, ab: Tensor) -> NDArray[np.uint8]:
    """L (1, h, W) and ab (2, h, W) as 8-bit rows (h, W, 3) of that very lightness."""
    lab = into_gamut(torch.cat((lightness, ab), dim=0))
    rows: NDArray[np.uint8] = to_uint8_keeping_lightness(lab).permute(1, 2, 0).cpu().numpy()
    return rows


def seen_size(height: int, width: int, *, short: int) -> tuple[int, int]:
    """Height and width at which the network sees a photo.

    Networks learn on square crops, and from the zeros around them how far the borders are: a longer photo would have
    a middle such as they never met, and it comes out tinted. So up to 2:1 a photo is squeezed into a square of side
    `short`, as the paper's released demo does, and beyond that to half its aspect.

    A photo longer than 32 times its short side is seen with a long side of 16 `short` instead.

    >>> seen_size(300, 400, short=176), seen_size(1200, 300, short=176)
    ((176, 176), (352, 176))
    """
    long = max(height, width)
    aspect = max(1.0, long / min(height, width) / SQUEEZE)
    seen_long = round(short * min(aspect, LONGEST))
    seen_short = max(1, round(short * min(1.0, LONGEST / aspect)))
    return (seen_long, seen_short) if height > width else (seen_short, seen_long)


def _stretched(
    coarse: Tensor, shape: tuple[int, ...], *, scales: tuple[float, float]
) -> Iterator[tuple[slice, Tensor]]:
    """A coarse map (C, h, w) brought to a photo (H, W, ...) strip by strip: its rows, and (C, rows, W).

    Args:
        scales: cells of the map per pixel of the photo, down and across.
    """
    across = _hat_weights(range(shape[1]), scales[1], cells=coarse.shape[2], device=coarse.device)
    wide = coarse @ across.T
    for rows in _strips(shape):
        down = _hat_weights(range(rows.start, rows.stop), scales[0], cells=coarse.shape[1], device=coarse.device)
        yield rows, down @ wide


def _hat_weights(pixels: range, scale: float, *, cells: int, device: torch.device) -> Tensor:
    """The weights of bilinear interpolation along one side: a photo's pixels times these are a coarse map's cells.

    Pixel and cell centers lie at half units (torch's align_corners=False); beyond the outermost centers the map is
    continued by its border.

    Args:
        pixels: the places wanted.
        scale: cells per pixel.
        cells: how many there are.

    Returns:
        (len(pixels), cells) float32, in [0, 1]; rows add up to 1.

    >>> _hat_weights(range(4), 0.5, cells=2, device=torch.device("cpu")).tolist()
    [[1.0, 0.0], [0.75, 0.25], [0.25, 0.75], [0.0, 1.0]]
    """
    places = torch.arange(pixels.start, pixels.stop, device=device, dtype=torch.float64)
    places = ((places + 0.5) * scale - 0.5).clamp(0, cells - 1)
    distance = places.unsqueeze(1) - torch.arange(cells, device=device)
    return (1 - distance.abs()).clamp(min=0).float()


def _resize(values: Tensor, size: tuple[int, int]) -> Tensor:
    if values.shape[2:] == size:
        return values
    return F.interpolate(values, size=size, mode="bicubic", antialias=True, align_corners=False)


def _strips(shape: tuple[int, ...]) -> Iterator[slice]:
    """Row ranges that cover an image (H, W, ...) in pieces of about STRIP_PIXELS."""
    rows = max(1, STRIP_PIXELS // shape[1])
    for start in range(0, shape[0], rows):
        yield slice(start, min(start + rows, shape[0]))


# ---- what people hand in --------------------------------------------------------------------------------------------


def _pixels(image: Photo) -> NDArray[Any]:
    """Any accepted photo as a contiguous array (H, W, 3), uint8 or float32 in [0, 1]."""
    if isinstance(image, np.ndarray):
        return _array_pixels(image)
    if isinstance(image, Image.Image):
        return np.array(_upright(image))
    if not (isinstance(image, str | Path) or hasattr(image, "read")):
        raise UserError(
            f"A photo is a path, a PIL image or a NumPy array, not a {type(image).__name__}: of a tensor (3, H, W) "
            "give tensor.permute(1, 2, 0).cpu().numpy()."
        )
    return np.array(read_photo(image))


def _upright(image: Image.Image) -> Image.Image:
    try:
        image.load()  # a photo opened lazily may turn out to be cut short
        return upright_srgb(image)
    except (OSError, ValueError, SyntaxError) as error:
        raise UserError(f"The image cannot be used as a photo: {error}") from None


def _array_pixels(array: NDArray[Any]) -> NDArray[Any]:
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or 0 in array.shape:
        first = array.ndim == 3 and array.shape[0] in (1, 3, 4)
        hint = ": move its channels to the end, as by np.moveaxis(array, 0, -1)" if first else ""
        raise UserError(f"An image array must be (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), not {array.shape}{hint}.")
    array = _numbers(array)
    if array.shape[2] == 4:
        return _on_white(array)
    # A copy: torch wants memory that may be written.
    return np.array(np.broadcast_to(array, (*array.shape[:2], 3)), order="C")


def _numbers(array: NDArray[Any]) -> NDArray[Any]:
    """uint8 as it is, all else as float32 in [0, 1]."""
    kind = array.dtype.newbyteorder("=")
    if kind == np.uint8:
        return array
    if kind == np.uint16:
        return array.astype(np.float32) / np.float32(0xFFFF)
    if kind == np.bool_:
        return array.astype(np.float32)
    if not np.issubdtype(kind, np.floating):
        raise UserError(f"An image array must be uint8, uint16, bool, or float in [0, 1], not {array.dtype}.")
    array = array.astype(np.float32)
    low, high = array.min(), array.max()
    if not (low >= -_ROUNDING and high <= 1 + _ROUNDING):  # written so that NaN fails
        raise UserError(
            f"A float image must lie in [0, 1]; this one spans {low:.3g}..{high:.3g}. Divide it by 255, or undo what "
            "normalized it."
        )
    clipped: NDArray[Any] = array.clip(0, 1)
    return clipped


def _on_white(array: NDArray[Any]) -> NDArray[Any]:
    """RGBA over white paper, in the kind of numbers it came in."""
    top = 255.0 if array.dtype == np.uint8 else 1.0
    alpha = array[:, :, 3:].astype(np.float32) / top
    over = array[:, :, :3] * alpha + top * (1 - alpha)
    flat: NDArray[Any] = over.round().astype(np.uint8) if array.dtype == np.uint8 else over.clip(0, 1)
    return flat
