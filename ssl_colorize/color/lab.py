"""sRGB to CIELAB and back, in float32 on any device.

sRGB is IEC 61966-2-1; white is D65 for the 2 degree observer; the constants are the rounded ones that scikit-image
uses, so that both agree to 1e-3.
"""

from functools import reduce

import torch
from torch import Tensor

# Rows X, Y, Z over columns R, G, B, for linear light.
_RGB_TO_XYZ = (
    (0.412453, 0.357580, 0.180423),
    (0.212671, 0.715160, 0.072169),
    (0.019334, 0.119193, 0.950227),
)
_WHITE = (0.95047, 1.0, 1.08883)
# Rows R, G, B in linear light over columns X, Y, Z, each of these relative to white. Numbers, not tensors: exported
# graphs cannot invert a matrix.
_RELATIVE_XYZ_TO_RGB = (
    torch.linalg.inv(torch.tensor(_RGB_TO_XYZ, dtype=torch.float64)) * torch.tensor(_WHITE, dtype=torch.float64)
).tolist()
# Below this, CIELAB's cube root is replaced by a line; the two meet within 1e-7.
_CUBE_ROOT_FROM = 0.008856
_CUBE_FROM = 0.2068966
_LINE_SLOPE = 7.787


def rgb_to_lab(rgb: Tensor) -> Tensor:
    """CIELAB of an sRGB image.

    Args:
        rgb: (..., 3, H, W), floats in [0, 1] or uint8 in 0..255.

    Returns:
        (..., 3, H, W) float32: L in 0..100, a in -86.19..98.24, b in -107.86..94.48 (over the sRGB cube).

    Raises:
        ValueError: the third axis from the end is not 3.

    >>> [round(value) for value in rgb_to_lab(torch.tensor([1.0, 0.0, 0.0]).view(3, 1, 1)).flatten().tolist()]
    [53, 80, 67]
    """
    x, y, z = (_f(channel) for channel in _relative_xyz(rgb).unbind(-3))
    return torch.stack((116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)), dim=-3)


def rgb_to_lightness(rgb: Tensor) -> Tensor:
    """Only the L of `rgb_to_lab`, at a third of its cost.

    Args:
        rgb: (..., 3, H, W), floats in [0, 1] or uint8 in 0..255.

    Returns:
        (..., 1, H, W) float32 in 0..100.

    Raises:
        ValueError: the third axis from the end is not 3.

    >>> round(rgb_to_lightness(torch.full((3, 1, 1), 119, dtype=torch.uint8)).item())
    50
    """
    return 116.0 * _f(luminance(rgb)) - 16.0


def lightness_to_gray(lightness: Tensor) -> Tensor:
    """The value that R, G and B of a gray have in common: (...) in 0..100 -> (...) float32 in [0, 1], sRGB.

    >>> round(255 * lightness_to_gray(torch.tensor(50.0)).item())
    119
    """
    return _to_srgb(_lightness_to_luminance(lightness.float()).clamp(0.0, 1.0))


def luminance(rgb: Tensor) -> Tensor:
    """CIE Y of an sRGB image: (..., 3, H, W) floats in [0, 1] or uint8 -> (..., 1, H, W) float32 in [0, 1].

    >>> round(luminance(torch.tensor([0.0, 1.0, 0.0]).view(3, 1, 1)).item(), 3)
    0.715
    """
    linear = _to_linear(rgb)
    weights = linear.new_tensor(_RGB_TO_XYZ[1])
    return torch.einsum("c,...chw->...hw", weights, linear).unsqueeze(-3)


def lab_to_rgb(lab: Tensor) -> Tensor:
    """sRGB of a CIELAB image, clipped to [0, 1] where the color lies outside sRGB.

    Args:
        lab: (..., 3, H, W) floats, L in 0..100.

    Returns:
        (..., 3, H, W) float32 in [0, 1].

    Raises:
        ValueError: the third axis from the end is not 3.

    >>> [round(value, 2) for value in lab_to_rgb(torch.tensor([53.24, 80.09, 67.20]).view(3, 1, 1)).flatten().tolist()]
    [1.0, 0.0, 0.0]
    """
    return _to_srgb(_f_to_linear(_lab_to_f(lab)).clamp(0.0, 1.0))


def into_gamut(lab: Tensor, *, steps: int = 12) -> Tensor:
    """Pull colors that sRGB cannot show toward gray at their own lightness and hue, until it can.

    Clipping RGB instead would change the lightness. The chroma's factor is found by bisection.

    Args:
        lab: (..., 3, H, W) floats, L in 0..100.
        steps: halvings; 12 leave 1/4096 of the chroma.

    Returns:
        (..., 3, H, W) float32.

    >>> light, a, b = into_gamut(torch.tensor([50.0, 120.0, 60.0]).view(3, 1, 1)).flatten().tolist()
    >>> light, round(a / b, 3), a < 120
    (50.0, 2.0, True)
    """
    lab = lab.float()
    light, ab = lab[..., :1, :, :], lab[..., 1:, :, :]
    color = _lab_to_f(lab)
    inside = _in_gamut(color)
    if torch.compiler.is_exporting():  # an exported graph searches for every pixel
        share = _share_in_gamut(color, steps=steps)
        return torch.cat((light, ab * torch.where(inside, torch.ones_like(share), share)), dim=-3)
    outside = ~inside.squeeze(-3)
    if not outside.any():
        return lab
    share = torch.ones_like(light)
    share[~inside] = _share_in_gamut(color.movedim(-3, 0)[:, outside].unsqueeze(-1), steps=steps).flatten()
    return torch.cat((light, ab * share), dim=-3)


def to_uint8_keeping_lightness(lab: Tensor) -> Tensor:
    """8-bit sRGB whose luminance is as near to the given lightness as 8 bits allow.

    Plain rounding moves L by up to 0.3. Here every channel goes down or up, whichever of the eight
    combinations has the luminance nearest to the asked one.

    Args:
        lab: (..., 3, H, W) floats inside sRGB (see `into_gamut`), L in 0..100.

    Returns:
        (..., 3, H, W) uint8.

    >>> rgb = to_uint8_keeping_lightness(torch.tensor([50.0, 20.0, 30.0]).view(3, 1, 1))
    >>> rgb.dtype, round(rgb_to_lightness(rgb).item(), 1)
    (torch.uint8, 50.0)
    """
    values = lab_to_rgb(lab) * 255.0
    floor = values.floor().clamp_(0, 254)
    # What going up adds to the squared distance from the unrounded color. Weighted far below a visible step, it prefers
    # plain rounding among equals.
    farther = ((floor - values) * 2.0 + 1.0).mul_(1e-6).unbind(-3)
    low = floor.to(torch.uint8)
    below, rise = _luminances(low)
    missing = _lightness_to_luminance(lab[..., 0, :, :].float()) - below
    # What is missing, and what else it costs, for each combination of the channels that go up.
    options = [(missing, torch.zeros_like(missing))]
    for channel in range(3):
        options += [(error - rise[channel], cost + farther[channel]) for error, cost in options]
    # Floats that are not negative are in the order of their bits, of which the last three keep the combination.
    errors = (error.abs().add_(cost).clamp_(min=0).view(torch.int32) for error, cost in options)
    best = reduce(torch.minimum, (error.bitwise_and_(~7).bitwise_or_(bits) for bits, error in enumerate(errors)))
    ups = torch.stack([best >> channel & 1 for channel in range(3)], dim=-3)
    return low + ups.to(torch.uint8)


def _luminances(low: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    """CIE Y of 8-bit colors (..., 3, H, W) up to 254: (..., H, W), and by how much it rises with each channel by 1."""
    curve = _srgb_to_linear(torch.arange(256, device=low.device, dtype=torch.float32) / 255.0)
    channels = list(zip(_RGB_TO_XYZ[1], low.unbind(-3), strict=True))
    below = [_look_up(curve[:-1] * weight, channel) for weight, channel in channels]
    rise = [_look_up(curve.diff() * weight, channel) for weight, channel in channels]
    return below[0] + below[1] + below[2], tuple(rise)


def _look_up(table: Tensor, indices: Tensor) -> Tensor:
    # Several times as fast as table[indices].
    return table.index_select(0, indices.int().flatten()).view(indices.shape)


def _share_in_gamut(color: Tensor, *, steps: int) -> Tensor:
    """The largest factor (..., 1, H, W) of ab at which sRGB shows a color f (..., 3, H, W), to 1 / 2 ** steps."""
    gray = color[..., 1:2, :, :]
    low, size = torch.zeros_like(gray), 1.0
    for _ in range(steps):
        size /= 2
        # f is linear in ab.
        low = low + size * _in_gamut(torch.lerp(gray, color, low + size))
    return low


def _in_gamut(f: Tensor) -> Tensor:
    # A hair of tolerance: the grays themselves miss [0, 1] by the rounding of the matrix.
    low, high = torch.aminmax(_f_to_linear(f), dim=-3, keepdim=True)
    return (low >= -1e-4) & (high <= 1.0 + 1e-4)


def _relative_xyz(rgb: Tensor) -> Tensor:
    linear = _to_linear(rgb)
    matrix = linear.new_tensor(_RGB_TO_XYZ) / linear.new_tensor(_WHITE).unsqueeze(1)
    return torch.einsum("xc,...chw->...xhw", matrix, linear)


def _to_linear(rgb: Tensor) -> Tensor:
    if rgb.ndim < 3 or rgb.shape[-3] != 3:
        raise ValueError(f"expected an image of shape (..., 3, H, W), got {tuple(rgb.shape)}")
    if rgb.dtype == torch.uint8:
        # 256 values only: a table spares a power per pixel.
        table = _srgb_to_linear(torch.arange(256, device=rgb.device, dtype=torch.float32) / 255.0)
        return _look_up(table, rgb)
    return _srgb_to_linear(rgb.float())


# Each of these curves is a line up to a threshold and a power from there. Both are added up, each held at the threshold
# beyond its end: on a processor that is several times as fast as to choose between them, as exp and log are as a power.


def _srgb_to_linear(value: Tensor) -> Tensor:
    power = ((value.clamp(min=0.04045) + 0.055) / 1.055).log().mul(2.4).exp()
    return power + (value.clamp(max=0.04045) - 0.04045) / 12.92


def _to_srgb(linear: Tensor) -> Tensor:
    power = 1.055 * (linear.clamp(min=0.0031308).log() / 2.4).exp() - 0.055
    return (power + (linear.clamp(max=0.0031308) - 0.0031308) * 12.92).clamp(0.0, 1.0)


def _f(t: Tensor) -> Tensor:
    power = (t.clamp(min=_CUBE_ROOT_FROM).log() / 3.0).exp()
    return power + _LINE_SLOPE * (t.clamp(max=_CUBE_ROOT_FROM) - _CUBE_ROOT_FROM)


def _f_inverse(f: Tensor) -> Tensor:
    return f.clamp(min=_CUBE_FROM) ** 3 + (f.clamp(max=_CUBE_FROM) - _CUBE_FROM) / _LINE_SLOPE


def _lightness_to_luminance(lightness: Tensor) -> Tensor:
    return _f_inverse((lightness + 16.0) / 116.0)


def _lab_to_f(lab: Tensor) -> Tensor:
    """CIELAB's f of x, y, z relative to white: (..., 3, H, W) -> (..., 3, H, W)."""
    if lab.ndim < 3 or lab.shape[-3] != 3:
        raise ValueError(f"expected an image of shape (..., 3, H, W), got {tuple(lab.shape)}")
    light, a, b = lab.float().unbind(-3)
    fy = (light + 16.0) * (1 / 116.0)
    return torch.stack((fy + a * (1 / 500.0), fy, fy - b * (1 / 200.0)), dim=-3)


def _f_to_linear(f: Tensor) -> Tensor:
    """Linear sRGB (..., 3, H, W) of f."""
    # Impossible colors may ask for negative light; scikit-image clips z there as well.
    f = torch.cat((f[..., :2, :, :], f[..., 2:, :, :].clamp(min=0.0)), dim=-3)
    relative = _f_inverse(f)
    return torch.einsum("cx,...xhw->...chw", relative.new_tensor(_RELATIVE_XYZ_TO_RGB), relative)
