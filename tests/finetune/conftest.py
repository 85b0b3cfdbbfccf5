"""Class folders whose classes even a small network tells apart in a few steps."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    """`classes/{train,test}/{dark,light}` with 12 and 6 photos of 28 x 24 pixels in each."""
    chance = np.random.default_rng(0)
    for part, count in (("train", 12), ("test", 6)):
        for name, light in (("dark", 60), ("light", 190)):
            folder = tmp_path / "classes" / part / name
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = chance.normal(light, 40, (24, 28, 3)).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{index}.png")
    return tmp_path / "classes"
