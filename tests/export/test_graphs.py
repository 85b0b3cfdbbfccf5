"""Resizing by matrices, against PyTorch's own."""

import pytest
import torch
from torch.nn import functional

from ssl_colorize.export.graphs import resize_bicubic, stretch_bilinear


@pytest.mark.parametrize("shape", [(64, 64), (123, 211), (20, 300), (5, 3)])
@pytest.mark.parametrize("size", [(64, 64), (40, 17)])
def test_bicubic_is_pytorchs_with_antialiasing(shape: tuple[int, int], size: tuple[int, int]) -> None:
    x = torch.rand(2, 1, *shape, generator=torch.Generator().manual_seed(0))
    expected = functional.interpolate(x, size=size, mode="bicubic", antialias=True, align_corners=False)
    assert (resize_bicubic(x, size) - expected).abs().max() < 2e-6


@pytest.mark.parametrize("size", [(16, 24), (100, 31), (3, 2)])
def test_bilinear_is_pytorchs(size: tuple[int, int]) -> None:
    x = torch.rand(2, 3, 16, 12, generator=torch.Generator().manual_seed(0))
    expected = functional.interpolate(x, size=size, mode="bilinear", align_corners=False)
    assert (stretch_bilinear(x, torch.zeros(1, 1, *size), seen=(1.0, 1.0)) - expected).abs().max() < 1e-5


def test_a_photo_may_lie_over_a_part_of_the_map() -> None:
    # Cells of 0 and 1 and one beyond the photo: its pixels have their centers at 0.5 and 1.5 cells.
    x = torch.tensor([0.0, 1.0, 100.0]).view(1, 1, 1, 3)
    across = stretch_bilinear(x, torch.zeros(1, 1, 1, 4), seen=(1.0, 2 / 3))
    # Of four pixels they lie at 0.25, 0.75, 1.25 and 1.75 cells; the last reaches over the border by a quarter.
    assert across.flatten().tolist() == pytest.approx([0.0, 0.25, 0.75, 1 + 0.25 * 99], abs=1e-5)
