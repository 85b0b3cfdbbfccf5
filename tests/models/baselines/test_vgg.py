"""The shared trunk against torchvision's, and its weights."""

from urllib.error import URLError

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import vgg

from ssl_colorize.errors import UserError
from ssl_colorize.models import create_model
from ssl_colorize.models.baselines.dahl import Dahl
from ssl_colorize.models.baselines.larsson import Larsson
from ssl_colorize.models.baselines.vgg import Conv2d, imagenet_weights
from ssl_colorize.models.init import initialize


@pytest.fixture(scope="module")
def features() -> nn.Sequential:
    """torchvision's convolutions, untrained."""
    torch.manual_seed(0)
    layers: nn.Sequential = vgg.make_layers(vgg.cfgs["D"])
    return layers


def weights_of(features: nn.Sequential) -> dict[str, Tensor]:
    return {f"features.{key}": value for key, value in features.state_dict().items()}


def gray(side: int = 32) -> Tensor:
    return 100 * torch.rand(1, 1, side, side, generator=torch.Generator().manual_seed(1))


@torch.inference_mode()
def test_dahls_trunk_is_torchvisions(features: nn.Sequential) -> None:
    model = create_model("dahl").eval()
    assert isinstance(model, Dahl)
    model.fill(weights_of(features))
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    x = (gray() / 100 - mean) / std
    maps = model.forward_features(gray(), model.layers)
    # After the ReLUs of conv1_2, conv2_2, conv3_3 and conv4_3.
    for name, end in (("conv1", 4), ("conv2", 9), ("conv3", 16), ("conv4", 23)):
        assert torch.allclose(maps[name], features[:end](x), rtol=1e-4, atol=1e-6)


@torch.inference_mode()
def test_one_channel_takes_the_sum_of_three(features: nn.Sequential) -> None:
    with torch.device("meta"):
        model = create_model("larsson")
    assert isinstance(model, Larsson)
    first = Conv2d(1, 64, 3)
    model.conv1[0] = first
    some = {key: value for key, value in weights_of(features).items() if key.startswith("features.0.")}
    super(Larsson, model).fill(some)
    std = torch.tensor((0.229, 0.224, 0.225)).view(3, 1, 1)
    light = gray(16)[0] / 100
    # What torchvision's layer makes of the gray photo, but for a constant of each channel.
    wanted = functional.conv2d((light / std)[None], features[0].weight, features[0].bias)
    assert torch.allclose(functional.conv2d(light[None], first.weight, first.bias), wanted, atol=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (2, 5), (4, 4), (9, 9)])
def test_taps_that_meet_only_padding_are_left_out(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    ours = Conv2d(3, 4, 7, padding=3)
    plain = nn.Conv2d(3, 4, 7, padding=3)
    plain.load_state_dict(ours.state_dict())
    x = torch.randn(2, 3, *size)
    assert torch.allclose(ours(x), plain(x), atol=1e-6)


def test_without_the_internet_one_line_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", unreachable)
    with pytest.raises(UserError, match=r"no route to host.*vgg16-397923af\.pth.*--set trunk=scratch") as error:
        imagenet_weights()
    assert "\n" not in str(error.value)


def test_published_weights_outlive_the_initialization_of_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssl_colorize.models.baselines.vgg.imagenet_weights", dict)
    monkeypatch.setattr(Larsson, "fill", lambda model, weights: None)
    torch.manual_seed(0)
    model = create_model("larsson", width=0.0625)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    assert model.load_imagenet() == ()
    initialize(model, gray().repeat(4, 1, 1, 1), torch.randint(32, (4, 128, 2)), method="lsuv")
    moved = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert not {key for key in moved if key.startswith(("conv", "fc")) and key.endswith(("weight", "bias"))}
    # VGG-16 has no BatchNorm: its statistics are those of the photos.
    assert {"conv1.1.running_mean", "fc6.1.running_var", "hidden.0.weight", "logits.weight"} <= moved


def test_networks_without_published_weights_say_so() -> None:
    model = create_model("alexnet", width=0.03)
    model.freeze_trunk()
    assert all(parameter.requires_grad for parameter in model.parameters())
    with pytest.raises(UserError, match="no published weights for alexnet: set trunk to scratch"):
        model.load_imagenet()
