"""Dahl's network against its description, and its decoding."""

import numpy as np
import pytest
import torch
from skimage.color import rgb2lab
from torch import Tensor, nn
from torch.nn import functional

from ssl_colorize.errors import UserError
from ssl_colorize.models import ColorizationModel, Pretrained, create_model, predict_ab
from ssl_colorize.models.baselines.dahl import UV, rgb_to_yuv


@pytest.fixture
def model() -> ColorizationModel:
    """A narrow one, whose every number matters: running statistics and scales are not the default."""
    torch.manual_seed(0)
    model = create_model("dahl", width=0.125).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values in (module.running_var, module.weight):
                nn.init.uniform_(values, 0.5, 2)  # type: ignore[arg-type]
            for values in (module.running_mean, module.bias):
                nn.init.normal_(values, std=0.1)  # type: ignore[arg-type]
    return model


def luma(height: int = 16, width: int = 24) -> Tensor:
    return 100 * torch.rand(2, 1, height, width, generator=torch.Generator().manual_seed(0))


def by_hand(state: dict[str, Tensor], light: Tensor) -> Tensor:
    """The network written down from its description."""

    def conv(x: Tensor, name: str) -> Tensor:
        weight = state[f"{name}.weight"]
        return functional.conv2d(x, weight, state[f"{name}.bias"], padding=weight.shape[-1] // 2)

    def norm(x: Tensor, name: str) -> Tensor:
        mean, var, weight, bias = (
            state[f"{name}.{part}"].view(-1, 1, 1) for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (var + 1e-5).sqrt() * weight + bias

    def doubled(x: Tensor) -> Tensor:
        return functional.interpolate(x, scale_factor=2, mode="bilinear")

    std = torch.tensor((0.229, 0.224, 0.225)).view(3, 1, 1)
    gray = (light / 100 - torch.tensor((0.485, 0.456, 0.406)).view(3, 1, 1)) / std
    taps, x = [], gray
    for number, convs in enumerate((2, 2, 3, 3), start=1):
        x = functional.max_pool2d(x, 2) if number > 1 else x
        for index in range(convs):
            x = conv(x, f"conv{number}.{2 * index}").relu()
        taps.append(norm(x, f"conv{number}_norm"))
    x = doubled(conv(taps[3], "up4.0").relu())
    x = doubled(norm(conv(x + taps[2], "up3.0"), "up3.1").relu())
    x = doubled(norm(conv(x + taps[1], "up2.0"), "up2.1").relu())
    x = norm(conv(x + taps[0], "up1.0"), "up1.1").relu() + gray
    x = norm(conv(x, "up0.0"), "up0.1").relu()
    return norm(conv(x, "logits"), "logits_norm").sigmoid()


@torch.inference_mode()
def test_the_network_is_the_described_one(model: ColorizationModel) -> None:
    uv = model(luma())
    assert uv.shape == (2, 2, 16, 24) and uv.std() > 0.01
    assert torch.allclose(uv, by_hand(model.state_dict(), luma()), atol=1e-5)


def test_the_decoder_has_the_published_widths() -> None:
    state = create_model("dahl").state_dict()
    shapes = {name: tuple(state[f"{name}.weight"].shape) for name in ("up4.0", "up3.0", "up2.0", "up1.0", "up0.0")}
    assert shapes == {
        "up4.0": (256, 512, 1, 1), "up3.0": (128, 256, 3, 3), "up2.0": (64, 128, 3, 3), "up1.0": (3, 64, 3, 3),
        "up0.0": (3, 3, 3, 3),
    }  # fmt: skip
    assert state["logits.weight"].shape == (2, 3, 3, 3)
    with pytest.raises(UserError, match="dahl has 2 outputs"):
        create_model("dahl", outputs=313)


def test_it_sees_luma() -> None:
    rgb = torch.tensor([255, 0, 51], dtype=torch.uint8).view(1, 3, 1, 1)
    light = create_model("dahl", width=0.125).light(rgb)
    assert light.item() == pytest.approx(100 * (0.299 + 0.2 * 0.114), abs=1e-4)


def test_colors_come_back_from_their_own_yuv() -> None:
    rgb = torch.rand(2, 3, 5, 6, generator=torch.Generator().manual_seed(0))
    light, uv = rgb_to_yuv(rgb).split((1, 2), dim=1)
    expected = rgb2lab(rgb.permute(0, 2, 3, 1).double().numpy())[..., 1:]
    assert np.abs(UV.decode(uv, 100 * light).permute(0, 2, 3, 1).numpy() - expected).max() < 0.01


@torch.inference_mode()
def test_predictions_are_decoded_under_the_gray_they_were_made_for(model: ColorizationModel) -> None:
    pretrained = Pretrained(model=model, objective="dahl")
    ab = predict_ab(pretrained, luma(), temperature=0.1)
    assert torch.equal(ab, UV.decode(model(luma()), luma())) and ab.shape == (2, 2, 16, 24)
