"""LPIPS and FID: what they are, and how they say that they are missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch import Tensor

from ssl_colorize.errors import UserError
from ssl_colorize.score.instruments import (
    Extractor,
    FrechetDistances,
    Lpips,
    load_extractor,
)

CPU = torch.device("cpu")


def means(pictures: Tensor) -> Tensor:
    """Six numbers a picture: means and spreads of its channels."""
    values = pictures.double().flatten(2)
    return torch.cat((values.mean(2), values.std(2)), dim=1)


def frechet(one: np.ndarray, other: np.ndarray) -> float:
    """The distance by its definition, in float64."""
    first, second = np.cov(one.T), np.cov(other.T)
    between = np.square(one.mean(0) - other.mean(0)).sum()
    return float(between + np.trace(first + second - 2 * np.real(sqrtm(first @ second))))


def test_fid_is_the_distance_of_two_gaussians(photos: Tensor) -> None:
    darker = (photos.float() * 0.7).to(torch.uint8)
    distances = FrechetDistances(Extractor("means", 6, means), ["same", "darker"])
    for start in range(0, 32, 8):
        part = slice(start, start + 8)
        distances.update(photos[part], None)
        distances.update(photos[part], "same")
        distances.update(darker[part], "darker")
    found = distances.distances()
    assert found["same"] == pytest.approx(0, abs=1e-6)
    assert found["darker"] == pytest.approx(frechet(means(photos).numpy(), means(darker).numpy()), rel=1e-6)


def test_fid_goes_on_from_its_file(photos: Tensor, tmp_path: Path) -> None:
    def begun() -> FrechetDistances:
        return FrechetDistances(Extractor("means", 6, means), ["a", "b"])

    def count(distances: FrechetDistances, part: slice) -> None:
        distances.update(photos[part], None)
        distances.update(photos.flip(1)[part], "a")
        distances.update(photos.flip(0)[part], "b")

    whole, first, second = begun(), begun(), begun()
    count(whole, slice(0, 12))
    count(whole, slice(12, 32))
    count(first, slice(0, 12))
    first.save(tmp_path / "fid.pt", counted=12)
    assert second.load(tmp_path / "nothing.pt") == 0
    assert second.load(tmp_path / "fid.pt") == 12
    count(second, slice(12, 32))
    assert second.distances() == whole.distances()


def test_any_encoder_gives_features(photos: Tensor) -> None:
    extractor = load_extractor("random:eccv16@0.125", device=CPU)
    assert extractor.features(photos[:2]).shape == (2, extractor.width)
    assert "random:eccv16@0.125" in extractor.about and "conv7" in extractor.about


def test_missing_inception_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    import torchmetrics.image.fid

    def missing(*_: Any, **__: Any) -> None:
        raise ModuleNotFoundError("no torch-fidelity")

    monkeypatch.setattr(torchmetrics.image.fid, "FrechetInceptionDistance", missing)
    with pytest.raises(UserError, match=r"ssl-colorize\[score\].*--fid-features efficientnet_lite0"):
        load_extractor("inception", device=CPU)


def test_lpips_is_zero_for_equal_pictures(photos: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision import models

    state = models.alexnet(weights=None).state_dict()
    monkeypatch.setattr(models.AlexNet_Weights, "get_state_dict", lambda *_, **__: state)
    lpips = Lpips("alex", device=CPU)
    distances = lpips(torch.cat((photos[:2], photos[2:3])), torch.cat((photos[:2], photos[20:21])))
    assert distances.shape == (3,) and distances[:2].tolist() == [0.0, 0.0] and float(distances[2]) > 0


def test_missing_weights_of_lpips_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision import models

    def offline(*_: Any, **__: Any) -> None:
        raise URLError("Name or service not known")

    monkeypatch.setattr(models.AlexNet_Weights, "get_state_dict", offline)
    with pytest.raises(UserError, match="weights of LPIPS") as caught:
        Lpips("alex", device=CPU)
    assert "\n" not in str(caught.value)
