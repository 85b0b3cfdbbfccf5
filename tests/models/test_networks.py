"""The networks against the published table: sizes, strides, dilations, where normalization sits, named layers."""

import pytest
import torch
from torch import Tensor, nn

from ssl_colorize.errors import UserError
from ssl_colorize.models import ColorizationModel, create_model, list_models
from ssl_colorize.models.pretrained import parameter_count

# Block: channels, convolutions, stride of the last, dilation (paper, supplementary table).
ECCV16 = {
    "conv1": (64, 2, 2, 1),
    "conv2": (128, 2, 2, 1),
    "conv3": (256, 3, 2, 1),
    "conv4": (512, 3, 1, 1),
    "conv5": (512, 3, 1, 2),
    "conv6": (512, 3, 1, 2),
    "conv7": (512, 3, 1, 1),
}


def lightness(height: int, width: int, batch: int = 1) -> Tensor:
    return 100 * torch.rand(batch, 1, height, width, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def tiny(request: pytest.FixtureRequest) -> ColorizationModel:
    torch.manual_seed(0)
    return create_model(request.param, width=0.125).eval()


def test_names() -> None:
    assert list_models() == ["alexnet", "dahl", "eccv16", "larsson"]
    with pytest.raises(UserError, match=r"'vgg'.*alexnet, dahl, eccv16"):
        create_model("vgg")
    for width in (0, -1, 5, float("nan")):
        with pytest.raises(UserError, match="width"):
            create_model("eccv16", width=width)


# ---- eccv16 ---------------------------------------------------------------------------------------------------------


def test_eccv16_has_the_released_number_of_parameters() -> None:
    decoding = nn.Conv2d(313, 2, 1, bias=False)
    assert parameter_count(decoding) == 626
    assert parameter_count(create_model("eccv16")) + parameter_count(decoding) == 32_236_011


def test_eccv16_blocks_are_those_of_the_table() -> None:
    model = create_model("eccv16")
    inputs = 1
    for name, (channels, count, stride, dilation) in ECCV16.items():
        *layers, norm = model.get_submodule(name).children()
        assert isinstance(norm, nn.BatchNorm2d) and norm.num_features == channels and norm.affine
        assert [type(layer) for layer in layers] == [nn.Conv2d, nn.ReLU] * count
        convs = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
        for index, conv in enumerate(convs):
            last = index == count - 1
            assert (conv.in_channels, conv.out_channels) == (inputs, channels)
            assert conv.kernel_size == (3, 3) and conv.bias is not None and conv.groups == 1
            assert conv.stride == ((stride, stride) if last else (1, 1))
            assert conv.dilation == conv.padding == (dilation, dilation)
            inputs = channels
    up, *rest = model.get_submodule("conv8").children()
    assert isinstance(up, nn.ConvTranspose2d)
    assert (up.in_channels, up.out_channels) == (512, 256)
    assert (up.kernel_size, up.stride, up.padding) == ((4, 4), (2, 2), (1, 1))
    assert [type(layer) for layer in rest] == [nn.ReLU, nn.Conv2d, nn.ReLU, nn.Conv2d, nn.ReLU]
    logits = model.get_submodule("logits")
    assert isinstance(logits, nn.Conv2d) and (logits.in_channels, logits.out_channels) == (256, 313)
    assert logits.kernel_size == (1, 1)


def test_eccv16_sees_lightness_less_50_over_100() -> None:
    model = create_model("eccv16", width=0.125).eval()
    seen: list[Tensor] = []
    model.get_submodule("conv1.0").register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model(lightness(16, 16))
    assert torch.allclose(seen[0], (lightness(16, 16) - 50) / 100)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (64, 64), (176, 176), (40, 72)])
def test_eccv16_answers_at_a_quarter_of_the_size(height: int, width: int) -> None:
    model = create_model("eccv16", width=0.125).eval()
    with torch.inference_mode():
        assert model(lightness(height, width, 2)).shape == (2, 313, height // 4, width // 4)
    assert (model.target_stride, model.multiple) == (4, 8)


def test_width_scales_every_hidden_layer_and_nothing_else() -> None:
    model = create_model("eccv16", width=0.5, outputs=2)
    assert [info["num_chs"] for info in model.feature_info] == [channels // 2 for channels, *_ in ECCV16.values()]
    assert model.get_submodule("conv8.0").out_channels == 128
    assert model.get_submodule("logits").out_channels == 2
    ratio = parameter_count(create_model("eccv16")) / parameter_count(create_model("eccv16", width=0.5))
    assert ratio == pytest.approx(4, rel=0.02)
    # Channels stay multiples of 8, and never vanish.
    odd = [info["num_chs"] for info in create_model("eccv16", width=0.07).feature_info]
    assert all(channels >= 8 and channels % 8 == 0 for channels in odd)


# ---- alexnet --------------------------------------------------------------------------------------------------------


def test_alexnet_layers_are_those_of_the_paper() -> None:
    model = create_model("alexnet")
    table = {  # channels in and out, kernel, stride, padding, dilation, groups
        "conv1": (1, 96, 11, 4, 5, 1, 1),
        "conv2": (96, 256, 5, 1, 2, 1, 2),
        "conv3": (256, 384, 3, 1, 1, 1, 1),
        "conv4": (384, 384, 3, 1, 1, 1, 2),
        "conv5": (384, 256, 3, 1, 1, 1, 2),
        "fc6": (256, 4096, 6, 1, 5, 2, 1),
        "fc7": (4096, 4096, 1, 1, 0, 1, 1),
    }
    for name, (inputs, outputs, kernel, stride, padding, dilation, groups) in table.items():
        conv, norm, relu = model.get_submodule(name).children()
        assert isinstance(conv, nn.Conv2d) and isinstance(relu, nn.ReLU)
        assert isinstance(norm, nn.BatchNorm2d) and not norm.affine
        assert (conv.in_channels, conv.out_channels, conv.groups) == (inputs, outputs, groups)
        square = [(side, side) for side in (kernel, stride, padding, dilation)]
        assert [conv.kernel_size, conv.stride, conv.padding, conv.dilation] == square
    pools = {name: module for name, module in model.named_children() if isinstance(module, nn.MaxPool2d)}
    assert {name: (p.kernel_size, p.stride, p.padding) for name, p in pools.items()} == {
        "pool1": (3, 2, 1), "pool2": (3, 2, 1), "pool5": (3, 1, 1),
    }  # fmt: skip
    order = ["conv1", "pool1", "conv2", "pool2", "conv3", "conv4", "conv5", "pool5", "fc6", "fc7", "logits"]
    assert [name for name, _ in model.named_children()] == order
    assert isinstance(model.get_submodule("logits"), nn.Conv2d)
    assert not [module for module in model.modules() if isinstance(module, nn.LocalResponseNorm)]


def test_alexnet_sees_lightness_less_50() -> None:
    model = create_model("alexnet", width=0.0625).eval()
    seen: list[Tensor] = []
    model.get_submodule("conv1.0").register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model(lightness(32, 32))
    assert torch.equal(seen[0], lightness(32, 32) - 50)


@pytest.mark.parametrize(("side", "answer", "inner"), [(180, 23, 12), (64, 8, 4), (227, 29, 15)])
def test_alexnet_answers_at_an_eighth_rounded_up(side: int, answer: int, inner: int) -> None:
    model = create_model("alexnet", width=0.0625).eval()
    with torch.inference_mode():
        assert model(lightness(side, side)).shape == (1, 313, answer, answer)
        maps = model.forward_features(lightness(side, side), ("conv5", "fc7"))
        assert maps["conv5"].shape[-1] == maps["fc7"].shape[-1] == inner
    # As many as the targets at stride 8 have.
    assert answer == len(range(0, side, 8)) and (model.target_stride, model.multiple) == (8, 1)


# ---- named layers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tiny", list_models(), indirect=True)
def test_features_are_the_maps_after_the_last_relu(tiny: ColorizationModel) -> None:
    seen: dict[str, Tensor] = {}
    for name in tiny.layers:
        relu = [module for module in tiny.get_submodule(name).children() if isinstance(module, nn.ReLU)][-1]
        relu.register_forward_hook(lambda _, __, output, name=name: seen.update({name: output.clone()}))
    with torch.inference_mode():
        maps = tiny.forward_features(lightness(64, 64), tiny.layers)
    assert list(maps) == list(tiny.layers) == list(seen)
    for name, features in maps.items():
        assert torch.equal(features, seen[name]) and features.min() >= 0


@pytest.mark.parametrize("tiny", list_models(), indirect=True)
def test_feature_info_is_true(tiny: ColorizationModel) -> None:
    with torch.inference_mode():
        maps = tiny.forward_features(lightness(64, 96), tiny.layers)
    for info in tiny.feature_info:
        features = maps[info["module"]]
        assert features.shape == (1, info["num_chs"], 64 // info["reduction"], 96 // info["reduction"])


@pytest.mark.parametrize("tiny", list_models(), indirect=True)
def test_nothing_beyond_the_deepest_wanted_layer_runs(tiny: ColorizationModel) -> None:
    ran: list[str] = []
    for name in tiny.layers:
        tiny.get_submodule(name)[0].register_forward_hook(lambda *_, name=name: ran.append(name))
    maps = tiny.forward_features(lightness(64, 64), ("conv3", "conv1"))
    assert sorted(maps) == ["conv1", "conv3"] and ran == ["conv1", "conv2", "conv3"]


@pytest.mark.parametrize("tiny", list_models(), indirect=True)
def test_unknown_layers_are_named(tiny: ColorizationModel) -> None:
    with pytest.raises(UserError, match=r"'conv99'.*choose from conv1, "):
        tiny.forward_features(lightness(64, 64), ("conv1", "conv99"))


def test_the_same_seed_gives_the_same_network() -> None:
    for name in list_models():
        states = []
        for seed in (0, 0, 1):
            torch.manual_seed(seed)
            states.append(create_model(name, width=0.0625).state_dict())
        assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())
        assert not torch.equal(states[0]["logits.weight"], states[2]["logits.weight"])
