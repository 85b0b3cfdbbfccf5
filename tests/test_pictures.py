"""Pictures say that they are sRGB, and know their maker."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from ssl_colorize.pictures import PictureFormat, encode, made_here


@pytest.mark.parametrize("kind", ["png", "jpg"])
def test_srgb_and_signed(kind: PictureFormat, tmp_path: Path) -> None:
    path = tmp_path / f"a.{kind}"
    path.write_bytes(encode(Image.new("RGB", (8, 8), "red"), kind))
    with Image.open(path) as picture:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(picture.info["icc_profile"]))
        assert "sRGB" in ImageCms.getProfileDescription(profile)
    assert made_here(path)


def test_png_is_exact() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(encode(Image.fromarray(pixels), "png")))), pixels)


def test_strangers_are_not_ours(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "other.png")
    (tmp_path / "text.png").write_text("no picture")
    assert not any(made_here(tmp_path / name) for name in ("other.png", "text.png", "missing.png", ""))
