"""YUV against its matrix in float64."""

import numpy as np
import pytest
import torch

from ssl_colorize.models.baselines.dahl import rgb_to_luma, rgb_to_yuv, yuv_to_rgb

# As published: Y, U, V of red, green, blue, less the 0.5 of U and V.
MATRIX = np.array([[0.299, 0.587, 0.114], [-0.169, -0.331, 0.499], [0.499, -0.418, -0.0813]])


def test_yuv_is_the_published_matrix() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 5, 7), dtype=np.uint8)
    expected = np.einsum("yc,bchw->byhw", MATRIX, pixels / 255) + np.array([0, 0.5, 0.5]).reshape(1, 3, 1, 1)
    yuv = rgb_to_yuv(torch.from_numpy(pixels))
    assert yuv.dtype == torch.float32 and np.abs(yuv.numpy() - expected).max() < 1e-6
    # Not to the bit: a product of one row may be summed in another order than that of three.
    assert torch.allclose(rgb_to_luma(torch.from_numpy(pixels)), yuv[:, :1], atol=1e-6)
    assert torch.allclose(rgb_to_yuv(torch.from_numpy(pixels / 255)), yuv, atol=1e-6)


@pytest.mark.parametrize(
    ("rgb", "yuv"),
    [((1, 0, 0), (0.299, 0.331, 0.999)), ((0, 0, 1), (0.114, 0.999, 0.4187)), ((0, 0, 0), (0, 0.5, 0.5))],
)
def test_known_colors(rgb: tuple[float, ...], yuv: tuple[float, ...]) -> None:
    assert rgb_to_yuv(torch.tensor(rgb).float().view(3, 1, 1)).flatten().tolist() == pytest.approx(yuv, abs=1e-6)


def test_there_and_back() -> None:
    rgb = torch.rand(3, 8, 9, generator=torch.Generator().manual_seed(0))
    assert (yuv_to_rgb(rgb_to_yuv(rgb)) - rgb).abs().max() < 1e-5


def test_impossible_colors_are_clipped() -> None:
    rgb = yuv_to_rgb(torch.tensor([0.5, 1.0, 1.0]).view(3, 1, 1)).flatten()
    wanted = (np.linalg.inv(MATRIX) @ np.array([0.5, 0.5, 0.5])).clip(0, 1)
    assert rgb.tolist() == pytest.approx(wanted, abs=1e-5) and rgb.max() == 1
