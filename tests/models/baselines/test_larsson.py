"""Larsson's network against an explicit hypercolumn, and its decoding by hand."""

import colorsys
import math

import numpy as np
import pytest
import torch
from skimage.color import rgb2lab
from torch import Tensor, nn
from torch.nn import functional

from ssl_colorize.errors import UserError
from ssl_colorize.models import ColorizationModel, Pretrained, create_model, predict_ab
from ssl_colorize.models.baselines import larsson
from ssl_colorize.models.baselines.larsson import HueChroma, Larsson, circular_mean, interpolate, median
from ssl_colorize.models.pretrained import parameter_count


@pytest.fixture
def model() -> Larsson:
    torch.manual_seed(0)
    model = create_model("larsson", width=0.0625)
    assert isinstance(model, Larsson)
    model.train()(gray(), all_places(64, 96))
    return model.eval()


def gray(height: int = 64, width: int = 96) -> Tensor:
    return 100 * torch.rand(2, 1, height, width, generator=torch.Generator().manual_seed(0))


def all_places(height: int, width: int) -> Tensor:
    return torch.cartesian_prod(torch.arange(height), torch.arange(width)).expand(2, -1, -1)


# ---- the network ----------------------------------------------------------------------------------------------------


def test_it_has_the_published_size() -> None:
    with torch.device("meta"):
        model = create_model("larsson")
    assert isinstance(model, Larsson)
    assert sum(part.in_channels for part in model.hidden) == 12_417  # type: ignore[misc]
    # Table 1 has 588 MB of parameters.
    assert 4e-6 * parameter_count(model) == pytest.approx(588, rel=1e-3)
    six, seven = model.fc6[0], model.fc7[0]
    assert (six.kernel_size, six.padding, seven.kernel_size) == ((7, 7), (3, 3), (1, 1))
    assert model.dropout.p == 0.5
    with pytest.raises(UserError, match="larsson has 64 outputs"):
        create_model("larsson", outputs=313)


def test_normalization_without_scale_and_shift_stands_before_every_relu() -> None:
    model = create_model("larsson", width=0.0625)
    for name in model.layers:
        kinds = [type(module).__name__ for module in model.get_submodule(name).children()]
        assert kinds == ["Conv2d", "BatchNorm2d", "ReLU"] * (len(kinds) // 3)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) == 15 and not any(norm.affine for norm in norms)


def hypercolumn(model: Larsson, light: Tensor) -> Tensor:
    """Every number at every pixel, which the model never makes."""
    seen: list[Tensor] = [light / 100 - 0.4488]
    hooks = [
        module.register_forward_hook(lambda _, __, output: seen.append(output))
        for module in model.modules()
        if isinstance(module, nn.ReLU)
    ]
    model.forward_features(light, model.layers)
    for hook in hooks:
        hook.remove()
    assert len(seen) == 16
    return torch.cat([functional.interpolate(x, light.shape[2:], mode="bilinear") for x in seen], dim=1)


@torch.inference_mode()
def test_all_pixels_are_answered_as_by_the_explicit_hypercolumn(model: Larsson) -> None:
    weight = torch.cat([part.weight for part in model.hidden], dim=1)  # type: ignore[misc]
    bias = torch.stack([part.bias for part in model.hidden]).sum(0)  # type: ignore[misc]
    expected = model.logits(functional.conv2d(hypercolumn(model, gray()), weight, bias).relu())
    assert expected.shape == (2, 64, 64, 96) and expected.std() > 0.05
    assert (model(gray()) - expected).abs().max() < 1e-4


@pytest.mark.parametrize("numbers", [1, 30_000, 1 << 24])
@torch.inference_mode()
def test_strips_do_not_show(model: Larsson, monkeypatch: pytest.MonkeyPatch, numbers: int) -> None:
    whole = model(gray())
    monkeypatch.setattr(larsson, "STRIP_NUMBERS", numbers)
    assert (model(gray()) - whole).abs().max() < 1e-5


@torch.inference_mode()
def test_a_few_pixels_are_answered_as_among_all(model: Larsson) -> None:
    dense = model(gray())
    # So few that every map is interpolated before the hidden layer, and so many that most are after it.
    for count in (3, 700):
        places = torch.stack([torch.randint(side, (2, count)) for side in (64, 96)], dim=-1)
        places[:, :2] = torch.tensor([[0, 0], [63, 95]])
        answers = model(gray(), places)
        assert answers.shape == (2, 64, 1, count)
        for photo, (of_photo, found) in enumerate(zip(places, answers, strict=True)):
            wanted = dense[photo, :, of_photo[:, 0], of_photo[:, 1]]
            assert (found[:, 0] - wanted).abs().max() < 1e-4


def test_training_makes_no_map_of_the_photos_size_but_conv1s(model: Larsson) -> None:
    model.train()
    places = torch.zeros(2, 4, 2, dtype=torch.int64)
    shapes: list[torch.Size] = []
    for part in model.hidden:
        part.register_forward_hook(lambda _, __, output: shapes.append(output.shape))
    model(gray(), places)
    assert len(shapes) == 6 and max(shape.numel() for shape in shapes) <= 2 * 64 * 6


def test_interpolation_by_hand() -> None:
    maps = torch.tensor([[0.0, 1.0], [10.0, 31.0]]).view(1, 1, 2, 2)
    places = [(0, 0, 0), (1, 1, 31), (0.5, 0, 5), (0, 0.25, 0.25), (0.5, 0.5, 10.5), (-0.4, -3, 0), (1.7, 0.5, 20.5)]
    rows, columns, expected = (torch.tensor(v).float().view(1, 1, -1) for v in zip(*places, strict=True))
    assert torch.allclose(interpolate(maps, rows, columns)[0], expected, atol=1e-5)


def test_it_sees_the_mean() -> None:
    model = create_model("larsson", width=0.0625)
    light = model.light(torch.tensor([255, 0, 51], dtype=torch.uint8).view(1, 3, 1, 1))
    assert light.item() == pytest.approx(40, abs=1e-4)
    assert model.normalize(light).item() == pytest.approx(0.4 - 0.4488, abs=1e-6)


# ---- decoding -------------------------------------------------------------------------------------------------------


def distribution(**mass: float) -> Tensor:
    """(1, 32, 1, 1) with some mass in some bins: b3=0.5."""
    probability = torch.zeros(1, 32, 1, 1)
    for name, value in mass.items():
        probability[0, int(name[1:])] = value
    return probability


@pytest.mark.parametrize(
    ("probability", "expected"),
    [
        (distribution(b5=1), 5.5 / 32),
        (distribution(b0=1), 0.5 / 32),
        (distribution(b31=1), 31.5 / 32),
        (torch.full((1, 32, 1, 1), 1 / 32), 0.5),
        # A quarter of the second bin's mass is missing to the half.
        (distribution(b2=0.4, b10=0.4, b20=0.2), (10 + 0.25) / 32),
        (distribution(b0=0.5, b31=0.5), 1 / 32),
    ],
)
def test_median_by_hand(probability: Tensor, expected: float) -> None:
    assert median(probability).item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("probability", "hue", "length"),
    [
        (distribution(b3=1), 3.5 / 32, 1),
        # Either side of red.
        (distribution(b31=0.5, b0=0.5), 0, math.cos(math.pi / 32)),
        (distribution(b31=0.5, b1=0.5), 0.5 / 32, math.cos(2 * math.pi / 32)),
        (distribution(b4=0.6, b20=0.4), 4.5 / 32, 0.2),
    ],
)
def test_circular_mean_by_hand(probability: Tensor, hue: float, length: float) -> None:
    angle, strength = circular_mean(probability)
    assert (angle.item() % 1) == pytest.approx(hue % 1, abs=1e-6) and strength.item() == pytest.approx(length, abs=1e-6)


def decoded(hue: Tensor, chroma: Tensor, light: float) -> np.ndarray:
    logits = torch.cat((hue, chroma), dim=1).clamp(min=1e-12).log()
    return HueChroma.decode(logits, torch.full((1, 1, 1, 1), 100 * light)).flatten().numpy()


def expected_ab(hue: float, chroma: float, light: float) -> np.ndarray:
    value = light + chroma / 2
    rgb = np.array(colorsys.hsv_to_rgb(hue, chroma / value, value))
    return rgb2lab((rgb + light - rgb.mean()).clip(0, 1))[1:]


def test_decoding_by_hand() -> None:
    ab = decoded(distribution(b3=1), distribution(b5=1), 0.5)
    assert ab == pytest.approx(expected_ab(3.5 / 32, 5.5 / 32, 0.5), abs=0.01)
    # Opposite hues: no color; nearly opposite ones: as much of it as their mean is long, over 0.03.
    assert decoded(distribution(b4=0.5, b20=0.5), distribution(b8=1), 0.5) == pytest.approx([0, 0], abs=0.01)
    faded = decoded(distribution(b4=0.505, b20=0.495), distribution(b8=1), 0.5)
    assert faded == pytest.approx(expected_ab(4.5 / 32, 8.5 / 32 / 3, 0.5), abs=0.02)
    kept = decoded(distribution(b4=0.52, b20=0.48), distribution(b8=1), 0.5)
    assert kept == pytest.approx(expected_ab(4.5 / 32, 8.5 / 32, 0.5), abs=0.02)


@torch.inference_mode()
def test_predictions_are_decoded_under_the_gray_they_were_made_for(model: ColorizationModel) -> None:
    ab = predict_ab(Pretrained(model=model, objective="larsson"), gray())
    assert torch.equal(ab, HueChroma.decode(model(gray()), gray())) and ab.shape == (2, 2, 64, 96)
