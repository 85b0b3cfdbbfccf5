"""What tests of several rooms share: real photos from the installed packages, hand-made ones, reference files."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import skimage
import torch
from PIL import Image
from torch import Tensor

# The 313 bins and ImageNet's prior over them, as published with the paper: (313, 2) and (313,).
REFERENCE = Path(__file__).resolve().parent / "reference"
SKIMAGE_PHOTOS = Path(skimage.__file__).parent / "data"


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Tiny tensors gain nothing from threads, and sums in a fixed order come out the same every time.

    So it is for the processes that tests start: threads that wait for each other on busy cores take many times longer.
    """
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture
def reference() -> Callable[[str], np.ndarray]:
    """Loads a published array by its file name."""
    return lambda name: np.load(REFERENCE / name)


@pytest.fixture(scope="session")
def photos() -> Tensor:
    """(32, 3, 64, 64) uint8 crops of real color photos that scikit-image carries."""
    crops = []
    for name in ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg"):
        if not (SKIMAGE_PHOTOS / name).is_file():
            pytest.skip(f"this scikit-image carries no {name}")
        photo = Image.open(SKIMAGE_PHOTOS / name).convert("RGB")
        photo.thumbnail((256, 256))
        pixels = np.asarray(photo)
        for top in (0, pixels.shape[0] - 64):
            for left in np.linspace(0, pixels.shape[1] - 64, 4).astype(int):
                crops.append(pixels[top : top + 64, left : left + 64])
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).contiguous()


@pytest.fixture
def photo_folder(tmp_path: Path) -> Path:
    """A folder of 14 hand-made color photos of 40 x 48 pixels: a lit gradient of two hues, each photo its own."""
    folder = tmp_path / "photos"
    folder.mkdir()
    chance = np.random.default_rng(0)
    along = np.linspace(0, 1, 48)[None, :, None]
    for index in range(14):
        first, second = chance.uniform(0, 255, (2, 1, 1, 3))
        light = 0.4 + 0.6 * np.linspace(0, 1, 40)[:, None, None]
        pixels = light * (first * (1 - along) + second * along) + chance.normal(0, 4, (40, 48, 3))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"photo{index:02}.png")
    return folder
