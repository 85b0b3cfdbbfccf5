"""One prepared photo: cut out of the whole, as a tensor, as a file."""

from __future__ import annotations

import io
from hashlib import blake2b
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ssl_colorize.data.loading import resized_window
from ssl_colorize.runs import write_atomically
from ssl_colorize.study.protocol import SIDE


def square(photo: Image.Image) -> Image.Image:
    """The middle of a photo: its short side resized to SIDE (bicubic, antialiased), and what that leaves cut off."""
    return resized_window(photo, short_side=SIDE, crop=SIDE, across=0.5, down=0.5)


def as_tensor(picture: Image.Image) -> torch.Tensor:
    """An RGB picture as uint8 (3, H, W)."""
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


def name_hash(name: str, *, salt: bytes = b"") -> str:
    """A name, which may be any bytes of a file system, as 20 hexadecimal digits."""
    return blake2b(name.encode("utf-8", "surrogateescape"), digest_size=10, salt=salt).hexdigest()


def picture_path(folder: Path, photo: str) -> Path:
    """Where the picture of a photo lies in a folder; its name alone decides, so that a stopped preparation goes on."""
    return folder / f"{name_hash(photo)}.png"


def store(picture: Image.Image, path: Path) -> None:
    """Write a picture, bare of metadata, as PNG."""
    encoded = io.BytesIO()
    picture.save(encoded, format="PNG")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, encoded.getvalue())
