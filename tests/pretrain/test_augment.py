"""What changes of the lightness that a network sees, against SciPy and by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from ssl_colorize.pretrain import loop
from ssl_colorize.pretrain.config import Recipe
from ssl_colorize.pretrain.loop import augment, gaussian_blur
from ssl_colorize.pretrain.pretext import Pretext


def lightness(count: int = 6, side: int = 24) -> torch.Tensor:
    return 100 * torch.rand(count, 1, side, side, generator=torch.Generator().manual_seed(0))


def test_each_photo_is_blurred_by_its_own_gaussian() -> None:
    light, sigmas = lightness(3), torch.tensor([0.3, 0.9, 1.5])
    # SciPy's own reach would follow sigma; ours is that of the widest.
    expected = [
        gaussian_filter(photo[0].double().numpy(), float(sigma), mode="nearest", radius=6)
        for photo, sigma in zip(light, sigmas, strict=True)
    ]
    assert np.abs(gaussian_blur(light, sigmas)[:, 0].numpy() - np.stack(expected)).max() < 1e-3


def test_blur_is_of_a_share_of_the_photos() -> None:
    torch.manual_seed(0)
    light = lightness(400, 8)
    changed = (augment(light, jitter=0, blur=0.25) != light).flatten(1).any(1).float().mean()
    assert 0.18 < changed < 0.32


def test_jitter_is_a_line_of_each_photo_within_its_range() -> None:
    torch.manual_seed(0)
    # Around the middle nothing is cut off at black or white.
    light = 45 + lightness(200, 8) / 10
    seen = augment(light, jitter=0.2, blur=0)
    for before, after in zip(light.flatten(1).double().numpy(), seen.flatten(1).double().numpy(), strict=True):
        slope, offset = np.polyfit(before - 50, after - 50, 1)
        assert 0.8 <= slope <= 1.2 and abs(offset) <= 10.001
        assert np.abs(slope * (before - 50) + offset + 50 - after).max() < 1e-3
    slopes = (seen.flatten(1).std(1) / light.flatten(1).std(1)).numpy()
    assert slopes.min() < 0.85 and slopes.max() > 1.15


def test_lightness_stays_lightness() -> None:
    seen = augment(lightness(), jitter=0.9, blur=1)
    assert seen.min() >= 0 and seen.max() <= 100 + 1e-3


def test_training_sees_other_lightness_and_asks_for_the_same_colors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Tensor] = []
    monkeypatch.setattr(loop, "augment", lambda light, **how: seen.append(augment(light, **how)) or seen[-1])
    recipe = Recipe(
        width=0.0625, steps=2, batch_size=4, resize=(64, 64), prior_photos=4, init_photos=4, init="plain",
        jitter=0.4, blur=0.5, workers=0, holdout_photos=4, evaluate_every=2,
    )  # fmt: skip
    asked: list[torch.Tensor] = []
    examples = Pretext.examples

    def watched(*arguments: Any, training: bool) -> Any:
        found = examples(*arguments, training=training)
        asked.append(found.lightness)
        return found

    monkeypatch.setattr(Pretext, "examples", watched)
    loop.train(recipe, tmp_path)
    # Two steps were changed; what else was asked for, held out photos among it, was seen as it is.
    assert len(seen) == 2 < len(asked)
    assert all(any(each.shape == one.shape and not torch.equal(each, one) for one in asked) for each in seen)


@pytest.mark.parametrize("model", ["dahl", "larsson"])
def test_colorizers_whose_colors_depend_on_what_they_see_refuse_it(model: str) -> None:
    with pytest.raises(ValueError, match=f"jitter and blur are not for {model}"):
        Recipe(model=model, jitter=0.1)
