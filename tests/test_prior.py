"""The prior of hand-made photos, whose colors are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.color import lab2rgb

from ssl_colorize.color import ab_bins
from ssl_colorize.data import open_photos
from ssl_colorize.errors import UserError
from ssl_colorize.prior import PriorSettings, measure_prior, read_prior


def flat_photo(path: Path, a: float, b: float) -> None:
    rgb = lab2rgb(np.full((24, 32, 3), (60.0, a, b)))
    Image.fromarray((rgb * 255).round().astype(np.uint8)).save(path)


def bin_of(a: float, b: float) -> int:
    return int((ab_bins() - torch.tensor([a, b])).square().sum(1).argmin())


def test_colors_are_counted_in_their_bins(tmp_path: Path) -> None:
    for number in range(3):
        flat_photo(tmp_path / f"red{number}.png", 50, 30)
    flat_photo(tmp_path / "gray.png", 0, 0)
    settings = PriorSettings(
        data=(str(tmp_path),), size=16, stride=4, workers=0, neighbors=1, smoothing=0, batch_size=3
    )
    seen: list[int] = []
    measured = measure_prior(open_photos(settings.data), settings, tmp_path, on_batch=seen.append)
    # Three photos of four are red, and every pixel counts alike.
    assert measured.prior[bin_of(50, 30)] == pytest.approx(0.75)
    assert measured.prior[bin_of(0, 0)] == pytest.approx(0.25)
    assert (measured.photos, measured.gray_photos, measured.pixels) == (4, 1, 4 * 4 * 4)
    figures = measured.figures()
    assert figures["entropy"] == pytest.approx(-0.75 * np.log(0.75) - 0.25 * np.log(0.25))
    assert figures["gray_share"] == 0.25
    # w = 1 / (p / 2 + 1 / 626), scaled to expectation 1.
    raw = {p: 1 / (p / 2 + 0.5 / 313) for p in (0.75, 0.25)}
    scale = 0.75 * raw[0.75] + 0.25 * raw[0.25]
    assert measured.weights[bin_of(0, 0)] == pytest.approx(raw[0.25] / scale, rel=1e-5)
    assert sum(seen) == 4


def test_unreadable_photos_are_counted_and_listed(tmp_path: Path) -> None:
    data, folder = tmp_path / "data", tmp_path / "run"
    data.mkdir()
    folder.mkdir()
    for number in range(3):
        flat_photo(data / f"{number}.png", 20, 20)
    (data / "bad.png").write_text("no photo")
    settings = PriorSettings(data=(str(data),), size=16, workers=0)
    measured = measure_prior(open_photos(settings.data), settings, folder)
    assert measured.figures()["unreadable"] == 1
    assert "bad.png" in (folder / "unreadable.txt").read_text()


def test_no_weights_without_mass_everywhere(tmp_path: Path) -> None:
    flat_photo(tmp_path / "a.png", 20, 20)
    settings = PriorSettings(data=(str(tmp_path),), size=16, workers=0, mix=0, smoothing=0)
    with pytest.raises(UserError, match="mix"):
        measure_prior(open_photos(settings.data), settings, tmp_path)


@pytest.mark.parametrize(
    "values",
    [np.ones(312), -np.ones(313), np.full(313, np.nan), np.zeros(313), np.array(["a"] * 313), np.ones((313, 1))],
)
def test_unusable_prior_files_are_refused(tmp_path: Path, values: np.ndarray) -> None:
    np.save(tmp_path / "prior.npy", values)
    with pytest.raises(UserError, match=r"prior\.npy"):
        read_prior(tmp_path / "prior.npy")


def test_missing_or_foreign_prior_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"Cannot read the prior .*No such file"):
        read_prior(tmp_path / "none.npy")
    for content in (b"no numpy", b""):
        (tmp_path / "text.npy").write_bytes(content)
        with pytest.raises(UserError, match="Cannot read the prior"):
            read_prior(tmp_path / "text.npy")
    np.savez(tmp_path / "many.npz", a=np.ones(313))
    with pytest.raises(UserError, match="prior"):
        read_prior(tmp_path / "many.npz")
