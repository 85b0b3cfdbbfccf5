"""Dahl's colorizer: its colors and its loss in float64, its network against its description, its decoding."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from skimage.color import rgb2lab
from torch import Tensor, nn
from torch.nn import functional

from ssl_colorize.color import rgb_to_lab
from ssl_colorize.errors import UserError
from ssl_colorize.models import ColorizationModel, Pretrained, create_model, predict_ab
from ssl_colorize.models.baselines.dahl import UV, MedianUV, blur, blurred_distance, rgb_to_luma, rgb_to_yuv, yuv_to_rgb
from ssl_colorize.pretrain.config import Recipe
from ssl_colorize.pretrain.start import count_statistics

# ---- luma and color differences --------------------------------------------------------------------------------------


# As published: Y, U, V of red, green, blue, less the 0.5 of U and V.
MATRIX = np.array([[0.299, 0.587, 0.114], [-0.169, -0.331, 0.499], [0.499, -0.418, -0.0813]])


def test_yuv_is_the_published_matrix() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 5, 7), dtype=np.uint8)
    expected = np.einsum("yc,bchw->byhw", MATRIX, pixels / 255) + np.array([0, 0.5, 0.5]).reshape(1, 3, 1, 1)
    yuv = rgb_to_yuv(torch.from_numpy(pixels))
    assert yuv.dtype == torch.float32 and np.abs(yuv.numpy() - expected).max() < 1e-6
    # Not to the bit: a product of one row may be summed in another order than that of three.
    assert torch.allclose(rgb_to_luma(torch.from_numpy(pixels)), yuv[:, :1], atol=1e-6)
    assert torch.allclose(rgb_to_yuv(torch.from_numpy(pixels / 255)), yuv, atol=1e-6)


@pytest.mark.parametrize(
    ("rgb", "yuv"),
    [((1, 0, 0), (0.299, 0.331, 0.999)), ((0, 0, 1), (0.114, 0.999, 0.4187)), ((0, 0, 0), (0, 0.5, 0.5))],
)
def test_known_colors(rgb: tuple[float, ...], yuv: tuple[float, ...]) -> None:
    assert rgb_to_yuv(torch.tensor(rgb).float().view(3, 1, 1)).flatten().tolist() == pytest.approx(yuv, abs=1e-6)


def test_there_and_back() -> None:
    rgb = torch.rand(3, 8, 9, generator=torch.Generator().manual_seed(0))
    assert (yuv_to_rgb(rgb_to_yuv(rgb)) - rgb).abs().max() < 1e-5


def test_impossible_colors_are_clipped() -> None:
    rgb = yuv_to_rgb(torch.tensor([0.5, 1.0, 1.0]).view(3, 1, 1)).flatten()
    wanted = (np.linalg.inv(MATRIX) @ np.array([0.5, 0.5, 0.5])).clip(0, 1)
    assert rgb.tolist() == pytest.approx(wanted, abs=1e-5) and rgb.max() == 1


# ---- objective -------------------------------------------------------------------------------------------------------


RECIPE = Recipe(model="dahl")


def true_uv(photos: Tensor) -> np.ndarray:
    return np.einsum("yc,bchw->byhw", MATRIX[1:], photos.numpy() / 255) + 0.5


def blurred(maps: np.ndarray, sigma: float) -> np.ndarray:
    return gaussian_filter(maps, (0, 0, sigma, sigma), truncate=3, mode="nearest") if sigma else maps


def distance(uv: np.ndarray, target: np.ndarray) -> float:
    """Mean over the pixels of the Euclidean distance, sharp and at standard deviations of 3 and 5 pixels."""
    means = [np.linalg.norm(blurred(uv, s) - blurred(target, s), axis=1).mean() for s in (0, 3, 5)]
    return float(np.mean(means))


@pytest.mark.parametrize("sigma", [0, 3, 5])
@pytest.mark.parametrize("size", [(20, 33), (4, 50)])
def test_blur_is_a_gaussian(sigma: float, size: tuple[int, int]) -> None:
    maps = np.random.default_rng(0).normal(size=(2, 2, *size))
    assert np.abs(blur(torch.from_numpy(maps), sigma).numpy() - blurred(maps, sigma)).max() < 1e-6


def test_the_loss_is_that_of_a_loop_in_float64(photos: Tensor) -> None:
    uv = torch.rand(3, 2, 64, 64, generator=torch.Generator().manual_seed(0))
    target = torch.from_numpy(true_uv(photos[:3])).float()
    expected = distance(uv.double().numpy(), true_uv(photos[:3]))
    assert blurred_distance(uv, target).item() == pytest.approx(expected, rel=1e-4)
    assert blurred_distance(target, target).item() == pytest.approx(0, abs=2e-4)


def test_a_perfect_answer_has_a_gradient() -> None:
    uv = torch.full((1, 2, 8, 8), 0.5, requires_grad=True)
    blurred_distance(uv, uv.detach()).backward()
    assert uv.grad is not None and uv.grad.isfinite().all()


def test_examples_and_losses(photos: Tensor) -> None:
    statistics, _ = count_statistics([photos], RECIPE, stride=1, best=UV.best_constant())
    objective = UV(statistics, stride=1)
    examples = objective.examples(photos[:2], training=True)
    luma = np.einsum("c,bchw->bhw", [0.299, 0.587, 0.114], photos[:2].numpy() / 255)
    assert np.abs(examples.inputs[0][:, 0].numpy() - 100 * luma).max() < 1e-3
    assert np.abs(examples.uv.numpy() - true_uv(photos[:2])).max() < 1e-6

    answer = torch.rand(2, 2, 64, 64, generator=torch.Generator().manual_seed(0))
    losses, sums = objective.losses(answer, examples), objective.sums(answer, examples)
    flat = statistics.constant.double().numpy().reshape(1, 2, 1, 1) + np.zeros((2, 2, 64, 64))
    assert losses["loss"].item() == pytest.approx(distance(answer.double().numpy(), true_uv(photos[:2])), rel=1e-4)
    # Sums over the pixels that colors are read at: every fourth, down and across.
    predicted, true = objective.colors(answer, examples)
    assert true.shape == predicted.shape == (2, 2, 16, 16)
    assert sums["loss"].item() == pytest.approx(2 * 256 * losses["loss"].item(), rel=1e-5)
    assert sums["loss_constant"].item() == pytest.approx(2 * 256 * distance(flat, true_uv(photos[:2])), rel=1e-3)
    assert torch.allclose(true, rgb_to_lab(photos[:2])[:, 1:, ::4, ::4])
    # The true UV decodes to the true colors.
    found, true = objective.colors(examples.uv, examples)
    assert (found - true).abs().max() < 0.01


def test_no_other_constant_is_better(photos: Tensor) -> None:
    counter = MedianUV()
    for part in photos.split(5):
        counter.update(part)
    best = counter.result().double().numpy()

    def loss(constant: np.ndarray) -> float:
        return distance(np.broadcast_to(constant.reshape(1, 2, 1, 1), (len(photos), 2, 64, 64)), true_uv(photos))

    here = loss(best)
    for turn in np.linspace(0, 2 * np.pi, 8, endpoint=False):
        assert loss(best + 0.01 * np.array([np.cos(turn), np.sin(turn)])) > here
    mean = true_uv(photos).mean((0, 2, 3))
    assert here < loss(mean) and np.linalg.norm(mean - best) > 0.005, "a median, not the mean"


# ---- network ---------------------------------------------------------------------------------------------------------


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
