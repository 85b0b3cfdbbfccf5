"""A small network, some photos, and a folder to run in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_colorize.models import Pretrained, create_model, save_pretrained


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder with `runs/tiny`, an untrained network."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    torch.manual_seed(0)
    folder = tmp_path / "runs" / "tiny"
    folder.mkdir(parents=True)
    model = create_model("eccv16", width=0.125)
    save_pretrained(
        Pretrained(model=model, input_size=32, training={"step": 7, "seconds": 65.0}), folder / "model.safetensors"
    )
    return tmp_path


@pytest.fixture
def photos(workplace: Path) -> Path:
    """`photos/` with eight photos of colored noise, one of them a level deeper."""
    folder = workplace / "photos"
    (folder / "deep").mkdir(parents=True)
    random = np.random.default_rng(0)
    for number in range(8):
        coarse = random.integers(0, 256, (5, 7, 3), dtype=np.uint8)
        place = folder / "deep" if number == 7 else folder
        Image.fromarray(coarse).resize((70, 50), Image.Resampling.BICUBIC).save(place / f"{number}.jpg")
    return folder
