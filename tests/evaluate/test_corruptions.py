"""Photos made worse: what scikit-image, Pillow and loops by hand make of them."""

import io

import numpy as np
import pytest
import skimage.color
import skimage.filters
import torch
from PIL import Image
from torch import Tensor

from ssl_colorize.color import rgb_to_lightness
from ssl_colorize.evaluate.corruptions import CORRUPTIONS, HUE, SEVERITIES, corrupt, severities_of


@pytest.fixture
def some(photos: Tensor) -> Tensor:
    return photos[::8]


def as_rows(photos: Tensor) -> np.ndarray:
    return photos.permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize("severity", [1, 3, 5])
def test_hues_turn_in_lab_and_lightness_stays(some: Tensor, severity: int) -> None:
    turned = corrupt(some, "hue", severity, indices=range(len(some)))
    moved = (rgb_to_lightness(turned) - rgb_to_lightness(some)).abs()
    assert moved.max() < 0.3 and moved.mean() < 0.05
    before, after = (skimage.color.rgb2lab(as_rows(each)) for each in (some, turned))
    colored = np.hypot(before[..., 1], before[..., 2]) > 15
    colored &= np.hypot(after[..., 1], after[..., 2]) > 10
    angles = [np.degrees(np.arctan2(each[..., 2], each[..., 1])) for each in (before, after)]
    difference = (angles[1] - angles[0] - HUE[severity - 1] + 180) % 360 - 180
    assert colored.sum() > 1000 and np.median(np.abs(difference[colored])) < 1.5  # of 8 bits


def test_gray_has_no_color_and_its_own_lightness(some: Tensor) -> None:
    gray = corrupt(some, "gray", 1, indices=range(len(some)))
    assert (gray == gray[:, :1]).all() and severities_of("gray") == (1,)
    # A level of gray is up to 0.45 of lightness apart from the next.
    assert (rgb_to_lightness(gray) - rgb_to_lightness(some)).abs().max() < 0.6


@pytest.mark.parametrize(("severity", "spread"), [(1, 0.08), (5, 0.38)])
def test_noise_is_by_place_and_as_strong_as_the_photo_is_large(severity: int, spread: float) -> None:
    middle = torch.full((3, 3, 56, 56), 128, dtype=torch.uint8)
    made = corrupt(middle, "noise", severity, indices=[5, 6, 7], seed=2)
    deviation = made.double().std().item() / 255
    assert deviation == pytest.approx(spread * 56 / 224, rel=0.03)
    alone = corrupt(middle[:1], "noise", severity, indices=[6], seed=2)
    assert torch.equal(alone[0], made[1]) and not torch.equal(made[0], made[1])
    assert not torch.equal(corrupt(middle, "noise", severity, indices=[5, 6, 7], seed=3), made)


@pytest.mark.parametrize(("severity", "width"), [(2, 2), (5, 6)])
def test_blur_is_scikit_images(some: Tensor, severity: int, width: float) -> None:
    made = corrupt(some, "blur", severity, indices=range(len(some)))
    for ours, photo in zip(as_rows(made), as_rows(some), strict=True):
        reference = skimage.filters.gaussian(photo / 255.0, sigma=width * 64 / 224, channel_axis=-1)
        assert np.abs(ours / 255.0 - reference).max() <= 0.5 / 255 + 1e-6


def test_jpeg_is_pillows(some: Tensor) -> None:
    made = corrupt(some, "jpeg", 4, indices=range(len(some)))
    for ours, photo in zip(as_rows(made), as_rows(some), strict=True):
        file = io.BytesIO()
        Image.fromarray(photo).save(file, "JPEG", quality=10)
        assert np.array_equal(ours, np.asarray(Image.open(file)))


def test_contrast_and_brightness_by_hand(some: Tensor) -> None:
    flat, bright = (corrupt(some, name, 2, indices=range(len(some))) for name in ("contrast", "brightness"))
    for number, photo in enumerate(as_rows(some) / 255.0):
        expected = (photo - photo.mean((0, 1))) * 0.3 + photo.mean((0, 1))
        assert np.abs(as_rows(flat)[number] / 255.0 - expected).max() <= 0.5 / 255 + 1e-9
        hsv = skimage.color.rgb2hsv(photo)
        hsv[..., 2] = (hsv[..., 2] + 0.2).clip(0, 1)
        assert np.abs(as_rows(bright)[number] / 255.0 - skimage.color.hsv2rgb(hsv)).max() <= 0.5 / 255 + 1e-6
    black = corrupt(torch.zeros(1, 3, 2, 2, dtype=torch.uint8), "brightness", 5, indices=[0])
    assert (black == 128).all()


@pytest.mark.parametrize("corruption", sorted(set(CORRUPTIONS) - {"hue", "gray"}))
def test_each_severity_is_worse_than_the_one_before(some: Tensor, corruption: str) -> None:
    made = [corrupt(some, corruption, severity, indices=range(len(some))) for severity in SEVERITIES]
    lost = [(each.float() - some.float()).abs().mean().item() for each in made]
    assert all(each.dtype == torch.uint8 and each.shape == some.shape for each in made)
    # The mildest blur is of a quarter of a pixel here.
    assert lost == sorted(lost) and lost[0 if corruption != "blur" else 1] > 0.5


def test_what_is_no_corruption() -> None:
    for name, severity in (("fog", 1), ("gray", 2), ("noise", 6)):
        with pytest.raises(ValueError, match="no corruption"):
            corrupt(torch.zeros(1, 3, 4, 4, dtype=torch.uint8), name, severity, indices=[0])
