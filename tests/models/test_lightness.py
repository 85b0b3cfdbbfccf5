"""The objective of direction ab-to-L: bins and loss against a float64 loop over skimage's Lab, and what it sees."""

import math

import numpy as np
import pytest
import torch
from skimage.color import rgb2lab
from torch import Tensor, nn

from ssl_colorize.errors import UserError
from ssl_colorize.models import create_model
from ssl_colorize.models.lightness import CommonLightness, LightnessClassification, lightness_bins
from ssl_colorize.models.objectives import TrainingStatistics

STRIDE = 4


def made_photos() -> Tensor:
    """Two photos of noise and a gray one: (3, 3, 16, 12) uint8."""
    photos = np.random.default_rng(0).integers(0, 256, (3, 3, 16, 12), dtype=np.uint8)
    photos[2] = photos[2, :1]
    return torch.from_numpy(photos)


def lab(photos: Tensor) -> np.ndarray:
    """(B, H, W, 3) float64."""
    return np.stack([rgb2lab(photo.permute(1, 2, 0).numpy() / 255.0) for photo in photos])


def objective(photos: Tensor) -> LightnessClassification:
    constant = CommonLightness()
    constant.update(photos)
    none = torch.zeros(0)
    return LightnessClassification(TrainingStatistics(none, none, constant.result(), none), stride=STRIDE)


def test_bins_are_a_unit_of_lightness_wide() -> None:
    light = torch.cat((torch.arange(100) + 0.001, torch.arange(1, 101) - 0.001))
    assert lightness_bins(light).tolist() == 2 * list(range(100))
    assert lightness_bins(torch.tensor([-1e-5, 0.0, 100.0, 100.0001])).tolist() == [0, 0, 99, 99]


def test_losses_and_sums_are_those_of_a_loop() -> None:
    photos = made_photos()
    made = objective(photos)
    examples = made.examples(photos, training=True)
    output = torch.randn(3, 100, 4, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    constant = made.statistics.constant.double()

    loss = unweighted = flat = 0.0
    for photo, pixels in enumerate(lab(photos)):
        for row in range(4):
            for column in range(3):
                light = pixels[STRIDE * row, STRIDE * column, 0]
                scores = output.detach()[photo, :, row, column].double()
                entropy = float(scores.exp().sum().log() - scores[int(light)])
                unweighted += entropy
                # The last photo has no color.
                loss += entropy * (photo < 2)
                flat -= math.log(constant[int(light)]) * (photo < 2)
    found = made.losses(output, examples)
    assert found["loss"].item() == pytest.approx(loss / 36, rel=1e-5)
    assert found["cross_entropy"].item() == pytest.approx(unweighted / 36, rel=1e-5)
    sums = {name: float(value) for name, value in made.sums(output.detach(), examples).items()}
    assert sums["count"] == 36 and sums["loss"] == pytest.approx(loss, rel=1e-5)
    assert sums["loss_constant"] == pytest.approx(flat, rel=1e-5)
    found["loss"].backward()
    assert output.grad is not None and not output.grad[2].any() and output.grad[:2].abs().sum() > 0


def test_the_best_constant_is_how_common_the_lightness_of_colored_photos_is() -> None:
    photos = made_photos()
    counts = np.ones(100)
    for light in lab(photos)[:2, ::4, ::4, 0].flatten():
        counts[int(light)] += 1
    assert objective(photos).output_bias.exp().numpy() == pytest.approx(counts / counts.sum(), rel=1e-5)


@pytest.mark.parametrize(("name", "stride", "multiple"), [("eccv16-ab", 4, 8), ("alexnet-ab", 8, 1)])
def test_the_network_sees_all_of_ab_over_110(name: str, stride: int, multiple: int) -> None:
    photos = made_photos().repeat(1, 1, 2, 2)
    model = create_model(name, width=0.125, outputs=100).eval()
    first = next(module for module in model.modules() if isinstance(module, nn.Conv2d))
    seen: list[Tensor] = []
    first.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    (ab,) = objective(photos).examples(photos, training=False).inputs
    side = (32 - 32 % multiple, 24 - 24 % multiple)
    output = model(ab[..., : side[0], : side[1]])
    assert output.shape == (3, 100, side[0] // stride, side[1] // stride)
    expected = lab(photos)[..., 1:].transpose(0, 3, 1, 2)
    assert np.abs(seen[0].detach().numpy() * 110 - expected[..., : side[0], : side[1]]).max() < 1e-2
    assert torch.equal(model.light(photos), ab)


def test_lightness_is_nothing_to_see() -> None:
    with pytest.raises(UserError, match="sees color alone"):
        create_model("eccv16-ab", width=0.125).light_of(torch.zeros(1, 1, 8, 8))
