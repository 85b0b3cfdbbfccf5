"""Hand-made photos for studies, and a session short enough to take in a test."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from ssl_colorize.study.protocol import Protocol

# One vigilance pair among the ten.
SHORT = Protocol(practice=2, trials=10, seconds=0.2, pause=0.05)


def silent(*_: object) -> None:
    """For whoever has something to say."""


def save_photos(folder: Path, count: int = 14) -> Path:
    """A new folder with photos of 48 x 40 pixels, a soft pattern of three colors each."""
    folder.mkdir()
    chance = np.random.default_rng(0)
    for index in range(count):
        coarse = chance.integers(0, 256, (2, 3, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((48, 40), Image.Resampling.BICUBIC).save(folder / f"photo{index:02}.png")
    return folder
