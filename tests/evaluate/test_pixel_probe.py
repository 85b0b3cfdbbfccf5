"""Linear classifiers of pixels, against PyTorch's own layers and optimizer on every pixel in float64."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from ssl_colorize.encoder import load_encoder
from ssl_colorize.evaluate.heads import FeatureNorm
from ssl_colorize.evaluate.pixel_probe import PixelProbe, at_pixels, draw_points
from ssl_colorize.evaluate.settings import SegmentSettings

RATES, DECAY, CLASSES = (0.01, 0.3), 0.01, 3


def made(**changes: Any) -> PixelProbe:
    values = {"encoder": "random:eccv16@0.125", "data": ("x",), "learning_rates": RATES, "weight_decays": (DECAY,)}
    settings = SegmentSettings(**values | changes)
    return PixelProbe(load_encoder(settings.encoder), ("conv2",), settings, classes=CLASSES, dtype=torch.float64)


@pytest.fixture
def batch(photos: Tensor) -> tuple[Tensor, Tensor]:
    """Eight real photos (8, 3, 32, 32), and masks by their lightness, a corner of which does not count."""
    crops = photos[::4, :, 8:40, 8:40]
    light = crops.float().mean(1)
    masks = (light > 90).to(torch.uint8) + (light > 150).to(torch.uint8)
    masks[:, :9, :7] = 255
    return crops, masks


def test_pixels_of_an_enlarged_map() -> None:
    chance = torch.Generator().manual_seed(0)
    x = torch.randn(2, 5, 3, 4, generator=chance, dtype=torch.float64)
    whole = functional.interpolate(x, (21, 30), mode="bilinear", align_corners=False)
    points = torch.randint(21 * 30, (2, 700), generator=chance)
    expected = whole.flatten(2).gather(2, points[:, None].expand(-1, 5, -1)).transpose(1, 2)
    assert torch.allclose(at_pixels(x, points, (21, 30)), expected)


def test_steps_are_those_of_sgd_on_every_pixel_of_the_enlarged_scores(batch: tuple[Tensor, Tensor]) -> None:
    photos, masks = batch
    probe, norm = made(), FeatureNorm(made().norms["conv2"].mean.numel()).double()
    everything = torch.arange(32 * 32).expand(len(photos), -1)
    heads = [torch.nn.Conv2d(norm.mean.numel(), CLASSES, 1).double() for _ in RATES]
    optimizers = []
    for head, rate in zip(heads, RATES, strict=True):
        torch.nn.init.zeros_(head.weight)
        torch.nn.init.zeros_(head.bias)
        groups = [{"params": [head.weight], "weight_decay": DECAY}, {"params": [head.bias], "weight_decay": 0.0}]
        optimizers.append(torch.optim.SGD(groups, lr=rate, momentum=0.9))
    for _ in range(3):
        losses = probe.train_on(photos, masks, everything, factor=1.0)["conv2"]
        x = norm.train()(probe.maps(photos)["conv2"])
        for number, (head, optimizer) in enumerate(zip(heads, optimizers, strict=True)):
            logits = functional.interpolate(head(x), (32, 32), mode="bilinear", align_corners=False)
            loss = functional.cross_entropy(logits, masks.long(), ignore_index=255)
            assert losses[number].item() == pytest.approx(loss.item())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    x = probe.maps(photos[:1])["conv2"]
    found = probe.scores(x, "conv2")
    for number, head in enumerate(heads):
        assert torch.allclose(found[number], head(norm.eval()(x))[0])
        assert torch.equal(probe.scores(x, "conv2", head=number)[0], found[number])


def test_drawn_pixels_give_the_same_gradient_in_expectation(batch: tuple[Tensor, Tensor]) -> None:
    photos, masks = batch
    probe = made(learning_rates=(1.0,), weight_decays=(0.0,))
    begun = {layer: {name: x.clone() for name, x in state.items()} for layer, state in probe.state_dict().items()}

    def moved(points: Tensor) -> Tensor:
        probe.load_state_dict(begun)
        probe.train_on(photos, masks, points, factor=1.0)
        return probe.heads["conv2"].weight.flatten().clone()

    whole = moved(torch.arange(32 * 32).expand(len(photos), -1))
    draws = torch.stack([
        moved(draw_points(32, photos=len(photos), size=(32, 32), seed=0, step=step)) for step in range(36)
    ])  # fmt: skip
    # The error of a mean of 36 independent draws without a bias is a sixth of that of one.
    assert (draws.mean(0) - whole).norm() < (draws - whole).norm(dim=1).mean() / 4


def test_squares_where_nothing_counts_teach_nothing(batch: tuple[Tensor, Tensor]) -> None:
    photos, masks = batch
    probe = made()
    points = draw_points(16, photos=len(photos), size=(32, 32), seed=0, step=0)
    assert probe.train_on(photos, torch.full_like(masks, 255), points, factor=1.0) == {}
    assert not probe.heads["conv2"].weight.any()
