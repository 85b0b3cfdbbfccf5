"""CIELAB against scikit-image in float64, and the two repairs that keep a photo's lightness."""

import itertools

import numpy as np
import pytest
import torch
from skimage.color import lab2rgb, rgb2lab
from torch import Tensor

from ssl_colorize.color import (
    into_gamut,
    lab_to_rgb,
    luminance,
    rgb_to_lab,
    rgb_to_lightness,
    to_uint8_keeping_lightness,
)

# Both sides of sRGB's and CIELAB's kinks, the ends, and a few in between.
LEVELS = (0.0, 1 / 255, 0.0404, 0.0405, 0.04046, 0.0987, 0.1, 0.5, 254 / 255, 1.0)


def to_skimage(image: Tensor) -> np.ndarray:
    return image.movedim(-3, -1).double().numpy()


def from_skimage(image: np.ndarray) -> Tensor:
    return torch.from_numpy(image).movedim(-1, -3)


def edge_colors() -> Tensor:
    """Every combination of LEVELS: (3, 1, 1000) float32."""
    return torch.tensor(list(itertools.product(LEVELS, repeat=3))).T.reshape(3, 1, -1)


def cube(side: int = 24) -> Tensor:
    """An even grid over the sRGB cube: (3, side, side * side) float32."""
    axis = torch.linspace(0, 1, side)
    return torch.cartesian_prod(axis, axis, axis).T.reshape(3, side, side * side)


@pytest.mark.parametrize("rgb", [edge_colors(), cube()], ids=["edges", "cube"])
def test_lab_is_within_a_thousandth_of_skimage(rgb: Tensor) -> None:
    lab = rgb_to_lab(rgb)
    assert lab.dtype == torch.float32
    assert (lab.double() - from_skimage(rgb2lab(to_skimage(rgb)))).abs().max() < 1e-3


def test_all_grays_are_gray() -> None:
    gray = torch.arange(256, dtype=torch.uint8).expand(3, 1, 256)
    lab = rgb_to_lab(gray)
    # The published matrix's rows do not quite sum to the white point, hence not zero.
    assert lab[1:].abs().max() < 0.02
    assert lab[0, 0, 0] == pytest.approx(0, abs=1e-4) and lab[0, 0, 255] == pytest.approx(100, abs=1e-3)


def test_eight_bit_photos_give_what_their_floats_give(photos: Tensor) -> None:
    expected = from_skimage(rgb2lab(to_skimage(photos).astype(np.uint8)))
    assert (rgb_to_lab(photos) - rgb_to_lab(photos / 255.0)).abs().max() < 1e-4
    assert (rgb_to_lab(photos).double() - expected).abs().max() < 1e-3


def test_the_ranges_over_eight_bit_srgb_are_the_papers() -> None:
    # The extremes of a and b lie on the cube's twelve edges, so its surface at full resolution has them.
    ramp = torch.arange(256, dtype=torch.uint8)
    faces = []
    for axis, end in itertools.product(range(3), (0, 255)):
        face = torch.cartesian_prod(ramp, ramp).T
        faces.append(torch.cat((face[:axis], torch.full_like(face[:1], end), face[axis:])))
    lab = rgb_to_lab(torch.cat(faces, dim=1)[:, None])
    low, high = lab.amin(dim=(1, 2)), lab.amax(dim=(1, 2))
    assert low.tolist() == pytest.approx([0, -86.18, -107.86], abs=0.01)
    assert high.tolist() == pytest.approx([100, 98.23, 94.48], abs=0.01)


def test_lightness_alone_is_the_l_of_lab(photos: Tensor) -> None:
    for rgb in (photos, photos / 255.0, edge_colors()):
        lightness = rgb_to_lightness(rgb)
        assert lightness.shape == (*rgb.shape[:-3], 1, *rgb.shape[-2:])
        assert (lightness - rgb_to_lab(rgb)[..., :1, :, :]).abs().max() < 1e-4


def test_any_leading_axes_and_strides() -> None:
    rgb = torch.rand(2, 3, 4, 5, 3, generator=torch.Generator().manual_seed(0)).permute(0, 1, 4, 2, 3)
    assert not rgb.is_contiguous()
    lab = rgb_to_lab(rgb)
    for i, j in itertools.product(range(2), range(3)):
        assert torch.allclose(lab[i, j], rgb_to_lab(rgb[i, j].contiguous()), atol=1e-5)
    strided = rgb[0, ..., ::2, ::3]
    assert torch.allclose(rgb_to_lab(strided), rgb_to_lab(strided.contiguous()), atol=1e-4)
    assert torch.allclose(lab_to_rgb(lab), rgb, atol=1e-5)


@pytest.mark.parametrize("function", [rgb_to_lab, rgb_to_lightness, lab_to_rgb])
@pytest.mark.parametrize("shape", [(3, 4), (2, 4, 4), (2, 4, 4, 3)])
def test_other_shapes_are_refused(function: object, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected an image of shape"):
        function(torch.zeros(shape))  # type: ignore[operator]


@pytest.mark.parametrize("rgb", [edge_colors(), cube()], ids=["edges", "cube"])
def test_lab_goes_back_to_rgb(rgb: Tensor) -> None:
    assert (lab_to_rgb(rgb_to_lab(rgb)) - rgb).abs().max() < 1e-4


@pytest.mark.filterwarnings("ignore:Conversion from CIE-LAB")
def test_impossible_colors_clip_as_skimage_clips_them() -> None:
    lab = torch.tensor([[0.0, -110, -110], [1, 0, 110], [50, -110, 110], [100, 110, -110], [8, 90, 80], [100, 0, 0]])
    lab = torch.cat((lab, torch.rand(500, 3, generator=torch.Generator().manual_seed(0)) * 220 - 110))
    lab[:, 0] = lab[:, 0].abs().clamp(max=100)
    lab = lab.T.reshape(3, 1, -1)
    rgb = lab_to_rgb(lab)
    assert rgb.min() >= 0 and rgb.max() <= 1
    assert (rgb.double() - from_skimage(lab2rgb(to_skimage(lab)))).abs().max() < 1e-3


def test_luminance_is_the_y_of_lightness() -> None:
    gray = torch.full((3, 1, 1), 0.5)
    assert luminance(gray).item() == pytest.approx(((0.5 + 0.055) / 1.055) ** 2.4, abs=1e-5)


def test_into_gamut_leaves_possible_colors_and_mends_the_others_at_their_lightness_and_hue() -> None:
    inside = rgb_to_lab(cube(12))
    assert torch.allclose(into_gamut(inside), inside, atol=0.02)

    light, angle = torch.meshgrid(torch.linspace(2, 98, 25), torch.linspace(0, 6.2, 40), indexing="ij")
    outside = torch.stack((light, 150 * angle.cos(), 150 * angle.sin()))
    mended = into_gamut(outside)
    back = rgb_to_lab(lab_to_rgb(mended))
    # Nothing to speak of was clipped away: the color survives the way through RGB.
    assert (back - mended)[0].abs().max() < 0.1
    assert (back - mended)[1:].abs().max() < 0.3
    assert torch.equal(mended[0], outside[0])
    hue = torch.atan2(mended[2], mended[1]) - torch.atan2(outside[2], outside[1])
    assert (torch.atan2(hue.sin(), hue.cos()).abs() < 1e-3).all()
    # As much chroma as there is: 2 % more would leave sRGB.
    more = torch.cat((mended[:1], mended[1:] * 1.02))
    assert ((rgb_to_lab(lab_to_rgb(more)) - more).abs().amax(0) > 1e-3).all()


def test_eight_bits_keep_the_lightness_better_than_rounding() -> None:
    lab = into_gamut(rgb_to_lab(torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))))
    kept = to_uint8_keeping_lightness(lab)
    rounded = (lab_to_rgb(lab) * 255).round().to(torch.uint8)
    assert kept.dtype == torch.uint8 and kept.shape == lab.shape
    # Each channel goes to one of its two neighbors.
    assert ((kept - lab_to_rgb(lab) * 255).abs() <= 1.001).all()

    def error(image: Tensor) -> np.ndarray:
        return np.abs(rgb2lab(to_skimage(image / 255))[..., 0] - lab[0].double().numpy())

    floor = (lab_to_rgb(lab) * 255).floor().clamp(0, 254)
    corners = [error(floor + torch.tensor(up).view(3, 1, 1)) for up in itertools.product((0, 1), repeat=3)]
    assert np.abs(error(kept) - np.min(corners, axis=0)).max() < 2e-3
    assert error(kept).mean() < 0.6 * error(rounded).mean()
    assert error(rounded).max() < 0.3


def test_black_and_white_stay_in_range() -> None:
    lab = torch.tensor([[0.0, 100.0], [0.0, 0.0], [0.0, 0.0]]).reshape(3, 1, 2)
    assert to_uint8_keeping_lightness(lab)[:, 0].T.tolist() == [[0, 0, 0], [255, 255, 255]]
