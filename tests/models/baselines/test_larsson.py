"""Larsson's colorizer: targets and loss by loops, its network against an explicit hypercolumn, decoding by hand."""

import colorsys
import math

import numpy as np
import pytest
import torch
from skimage.color import rgb2hsv, rgb2lab
from torch import Tensor, nn
from torch.nn import functional

from ssl_colorize.color import rgb_to_lab
from ssl_colorize.errors import UserError
from ssl_colorize.models import ColorizationModel, Pretrained, create_model, predict_ab
from ssl_colorize.models.baselines import larsson
from ssl_colorize.models.baselines.larsson import (
    HueChroma,
    HueChromaExamples,
    Larsson,
    MeanTargets,
    at_places,
    circular_mean,
    divergences,
    grid_places,
    hue_chroma_to_rgb,
    interpolate,
    log_probabilities,
    make_examples,
    median,
    random_places,
    rgb_to_hue_chroma,
    rgb_to_mean,
)
from ssl_colorize.models.pretrained import parameter_count
from ssl_colorize.pretrain.config import Recipe
from ssl_colorize.pretrain.start import count_statistics

# ---- hue and chroma --------------------------------------------------------------------------------------------------


def test_hue_and_chroma_are_those_of_hsv() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    pixels[:3] = pixels[:3, :, :1]
    hsv = rgb2hsv(pixels)
    hue, chroma = rgb_to_hue_chroma(torch.from_numpy(pixels).permute(2, 0, 1))
    assert np.abs(chroma.numpy() - hsv[..., 1] * hsv[..., 2]).max() < 1e-6
    away = np.abs(hue.numpy() - hsv[..., 0])
    assert np.minimum(away, 1 - away).max() < 1e-6
    assert hue.min() >= 0 and hue.max() < 1


@pytest.mark.parametrize(
    ("rgb", "hue", "chroma"),
    [
        ((255, 0, 0), 0, 1),
        ((255, 255, 0), 1 / 6, 1),
        ((0, 255, 0), 1 / 3, 1),
        ((0, 0, 255), 2 / 3, 1),
        ((255, 0, 255), 5 / 6, 1),
        ((51, 102, 51), 1 / 3, 0.2),
        ((80, 80, 80), 0, 0),
        # Just below red: wraps to nearly 1, never to 1.
        ((255, 0, 1), 1 - 1 / 255 / 6, 1),
    ],
)
def test_known_pixels(rgb: tuple[int, ...], hue: float, chroma: float) -> None:
    found = rgb_to_hue_chroma(torch.tensor(rgb, dtype=torch.uint8).view(3, 1, 1))
    assert [value.item() for value in found] == pytest.approx([hue, chroma], abs=1e-6)


def test_a_hue_a_hair_below_red_does_not_become_one() -> None:
    hue, _ = rgb_to_hue_chroma(torch.tensor([1.0, 0.0, 1e-9]).view(3, 1, 1))
    assert 0 <= hue.item() < 1


def test_the_gray_is_the_mean() -> None:
    pixels = torch.tensor([30, 60, 120], dtype=torch.uint8).view(3, 1, 1)
    assert rgb_to_mean(pixels).item() == pytest.approx(70 / 255)


def test_back_is_hsv_shifted_to_the_gray() -> None:
    chance = np.random.default_rng(0)
    for hue, chroma, gray in chance.uniform((0, 0, 0.35), (1, 0.5, 0.65), (50, 3)):
        value = gray + chroma / 2
        wanted = np.array(colorsys.hsv_to_rgb(hue, chroma / value, value))
        wanted += gray - wanted.mean()
        found = hue_chroma_to_rgb(*(torch.tensor([[number]]) for number in (hue, chroma)), torch.tensor([[[gray]]]))
        assert found.flatten().tolist() == pytest.approx(wanted, abs=1e-6)


def test_there_and_back_and_clipped() -> None:
    rgb = torch.rand(2, 3, 6, 5, generator=torch.Generator().manual_seed(0))
    hue, chroma = rgb_to_hue_chroma(rgb)
    assert (hue_chroma_to_rgb(hue, chroma, rgb_to_mean(rgb)) - rgb).abs().max() < 1e-5
    # A hue has no beginning.
    assert (hue_chroma_to_rgb(hue - 1, chroma, rgb_to_mean(rgb)) - rgb).abs().max() < 1e-5
    white = hue_chroma_to_rgb(torch.zeros(1, 1), torch.ones(1, 1), torch.ones(1, 1, 1))
    assert white.flatten().tolist() == pytest.approx([1, 2 / 3, 2 / 3])


# ---- objective -------------------------------------------------------------------------------------------------------


RECIPE = Recipe(model="larsson")


def one_photo(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(pixels).permute(2, 0, 1)[None]


def targets_by_hand(pixels: np.ndarray, row: int, column: int) -> tuple[np.ndarray, np.ndarray]:
    """Hard bins of hue and chroma, counted over 7 x 7 pixels; gray ones have no hue."""
    hue, chroma = np.zeros(32), np.zeros(32)
    for r in range(max(0, row - 3), min(len(pixels), row + 4)):
        for c in range(max(0, column - 3), min(pixels.shape[1], column + 4)):
            values = pixels[r, c].astype(np.float64) / 255
            amount = values.max() - values.min()
            chroma[min(31, int(amount * 32))] += 1
            if amount > 0:
                hue[int(colorsys.rgb_to_hsv(*values)[0] * 32)] += 1
    return hue / hue.sum() if hue.any() else np.full(32, 1 / 32), chroma / chroma.sum()


def test_targets_are_bins_counted_over_seven_by_seven() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 15, 3), dtype=np.uint8)
    pixels[:, 9:] = pixels[:, 9:, :1]
    places = [(6, 5), (0, 0), (11, 14), (3, 8), (5, 12), (11, 0)]
    examples = make_examples(one_photo(pixels), torch.tensor([places]))
    assert examples.hue.shape == examples.chroma.shape == (1, 32, 1, 6)
    for index, (row, column) in enumerate(places):
        hue, chroma = targets_by_hand(pixels, row, column)
        assert examples.hue[0, :, 0, index].tolist() == pytest.approx(hue, abs=1e-6), (row, column)
        assert examples.chroma[0, :, 0, index].tolist() == pytest.approx(chroma, abs=1e-6), (row, column)
    # There only grays are in reach.
    assert examples.hue[0, 0, 0, 4] == 1 / 32 and examples.hue_weight[0, 0, 4] == 0


@pytest.mark.parametrize(
    ("rgb", "hue_weight", "chroma_weight"),
    [
        ((255, 0, 0), 1, 1),
        ((0, 0, 0), 0, 0),
        ((255, 255, 255), 0, 0),
        ((51, 51, 51), 0, 0.6),
        ((204, 255, 255), 0.2, 3 * (1 - 714 / 765)),
        ((102, 128, 51), 77 / 255, 1),
    ],
)
def test_weights_by_hand(rgb: tuple[int, ...], hue_weight: float, chroma_weight: float) -> None:
    photo = torch.tensor(rgb, dtype=torch.uint8).view(1, 3, 1, 1)
    examples = make_examples(photo, torch.zeros(1, 1, 2, dtype=torch.int64))
    assert examples.hue_weight.item() == pytest.approx(hue_weight, abs=1e-6)
    assert examples.chroma_weight.item() == pytest.approx(chroma_weight, abs=1e-6)
    assert examples.gray.item() == pytest.approx(100 * sum(rgb) / 765, abs=1e-4)


def divergence(target: np.ndarray, logits: np.ndarray) -> float:
    log_probability = logits - logits.max() - math.log(np.exp(logits - logits.max()).sum())
    some = target > 0
    return float((target[some] * (np.log(target[some]) - log_probability[some])).sum())


def loss_by_hand(logits: np.ndarray, photos: Tensor, places: np.ndarray) -> float:
    values = []
    for photo, (pixels, points) in enumerate(zip(photos.permute(0, 2, 3, 1).numpy(), places, strict=True)):
        for index, (row, column) in enumerate(points):
            hue, chroma = targets_by_hand(pixels, row, column)
            rgb = pixels[row, column].astype(np.float64) / 255
            light, z = rgb.mean(), logits[photo, :, 0, index]
            weight = min(3 * light, 1, 3 * (1 - light))
            values.append(5 * divergence(hue, z[:32]) * (rgb.max() - rgb.min()) + divergence(chroma, z[32:]) * weight)
    return float(np.mean(values))


@pytest.fixture
def objective(photos: Tensor) -> HueChroma:
    statistics, _ = count_statistics([photos], RECIPE, stride=1, best=HueChroma.best_constant())
    return HueChroma(statistics, stride=1)


def test_the_loss_is_that_of_a_loop_in_float64(photos: Tensor, objective: HueChroma) -> None:
    photos = photos[::9, :, :24, :24]
    examples = objective.examples(photos, training=True)
    assert examples.places.shape == (4, 128, 2)
    logits = torch.randn(4, 64, 1, 128, generator=torch.Generator().manual_seed(0))
    losses = objective.losses(logits, examples)
    expected = loss_by_hand(logits.double().numpy(), photos, examples.places.numpy())
    # Hues of eight bits that lie on the border of two bins fall to either side in float32.
    assert losses["loss"].item() == pytest.approx(expected, rel=2e-3)
    assert losses["loss"].item() == pytest.approx(5 * losses["hue_kl"].item() + losses["chroma_kl"].item(), rel=1e-5)
    # The best constant, likewise; both as sums.
    constant = objective.statistics.constant.log().view(1, 64, 1, 1).expand_as(logits)
    sums = objective.sums(logits, examples)
    assert sums["loss"].item() == pytest.approx(512 * losses["loss"].item(), rel=1e-5)
    expected = loss_by_hand(constant.double().numpy(), photos, examples.places.numpy())
    assert sums["loss_constant"].item() == pytest.approx(512 * expected, rel=2e-3)
    assert torch.equal(objective.output_bias, objective.statistics.constant.log())


def test_the_targets_themselves_lose_nothing(photos: Tensor) -> None:
    examples = make_examples(photos[:2], grid_places(photos[:2]))
    logits = torch.cat((examples.hue, examples.chroma), dim=1).clamp(min=1e-30).log()
    for part in divergences(log_probabilities(logits), examples):
        assert part.abs().max() < 1e-5


def test_no_other_constant_is_better(photos: Tensor) -> None:
    counter = MeanTargets()
    for part in photos.split(5):
        counter.update(part)
    best = counter.result().double()
    assert best.view(2, 32).sum(1).tolist() == pytest.approx([1, 1], abs=1e-5)
    examples = make_examples(photos, grid_places(photos))

    def losses(logits: Tensor) -> Tensor:
        parts = divergences(log_probabilities(logits.view(1, 64, 1, 1).expand(len(photos), -1, 1, 256)), examples)
        return torch.stack([part.double().mean() for part in parts])

    here = losses(best.log())
    for bin in (0, 2, 5, 20, 33, 36, 40):
        for change in (-0.2, 0.2):
            other = best.log()
            other[bin] += change
            assert losses(other)[bin // 32] > here[bin // 32], (bin, change)


def test_the_figures_pixels_are_those_of_the_other_objectives(photos: Tensor, objective: HueChroma) -> None:
    examples: HueChromaExamples = objective.examples(photos[:2], training=False)
    logits = torch.zeros(2, 64, 1, 256)
    predicted, true = objective.colors(logits, examples)
    assert predicted.shape == true.shape == (2, 2, 1, 256)
    assert torch.allclose(true.view(2, 2, 16, 16), rgb_to_lab(photos[:2])[:, 1:, ::4, ::4], atol=1e-4)


def test_places_are_drawn_over_the_whole_photo() -> None:
    photos = torch.zeros(40, 3, 5, 9, dtype=torch.uint8)
    torch.manual_seed(0)
    places = random_places(photos)
    counts = torch.zeros(5, 9).index_put_(places.flatten(0, 1).unbind(1), torch.ones(40 * 128), accumulate=True)
    # 5,120 draws of 45 pixels: 114 each, give or take 11.
    assert counts.min() > 60 and counts.max() < 170
    torch.manual_seed(0)
    assert torch.equal(random_places(photos), places)
    assert not torch.equal(places[0], places[1])


def test_pixels_of_maps() -> None:
    maps = torch.arange(2 * 3 * 4 * 5).view(2, 3, 4, 5)
    places = torch.tensor([[[0, 0], [3, 4]], [[1, 2], [2, 0]]])
    assert at_places(maps, places)[1, 2, 0].tolist() == [maps[1, 2, 1, 2], maps[1, 2, 2, 0]]
    assert at_places(maps, places)[0, 0, 0].tolist() == [0, 19]


# ---- network and decoding --------------------------------------------------------------------------------------------


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
