"""Folding and rescaling: the same maps before and after, and layers that learn at the same rate."""

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from ssl_colorize.encoder import Encoder, Source, load_encoder
from ssl_colorize.errors import UserError
from ssl_colorize.finetune.prepare import (
    BorderedConv2d,
    ShiftedConvTranspose2d,
    fold_batchnorm,
    gradient_ratios,
    measure_statistics,
    prepare,
    rescale_layers,
)
from ssl_colorize.models import ColorizationModel, create_model
from ssl_colorize.models.trunks import ColorizationTrunk

WIDTHS = {"eccv16": 0.125, "alexnet": 0.06}


def trained(name: str, *, seed: int = 0) -> ColorizationModel:
    """A tiny network whose BatchNorms have statistics, scales and shifts as training leaves them."""
    torch.manual_seed(seed)
    model = create_model(name, width=WIDTHS[name]).eval()
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(module.weight)
            nn.init.normal_(module.bias, std=0.3)
        elif isinstance(module, nn.BatchNorm2d):
            module.momentum = None
            if module.affine:
                # Of both signs, and one that has vanished.
                nn.init.normal_(module.weight, std=1.0)
                module.weight.data[0] = 0.0
                nn.init.normal_(module.bias, std=0.5)
    # The running statistics become those of a batch, layer after layer.
    with torch.no_grad():
        model.train()(lightness(8, seed=1))
    return model.eval()


def lightness(count: int = 2, *, seed: int = 0, side: int = 48) -> Tensor:
    """Smooth pictures, as photos are."""
    noise = torch.rand(count, 1, 7, 7, generator=torch.Generator().manual_seed(seed)) * 100
    return nn.functional.interpolate(noise, (side, side), mode="bicubic").clamp(0, 100)


def maps(model: ColorizationModel, images: Tensor) -> dict[str, Tensor]:
    with torch.no_grad():
        return dict(model.stages(images))


def without_batchnorm(model: ColorizationModel) -> ColorizationModel:
    """A copy with BatchNorm folded."""
    folded = copy.deepcopy(model)
    fold_batchnorm(folded)
    return folded


def norms(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]


@pytest.mark.parametrize("name", ["eccv16", "alexnet"])
def test_folding_keeps_every_map_borders_included(name: str) -> None:
    model = trained(name)
    folded = without_batchnorm(model)
    assert norms(model) and not norms(folded)
    expected, found = maps(model, lightness()), maps(folded, lightness())
    assert list(found) == list(expected) and "logits" in found
    for layer, x in expected.items():
        torch.testing.assert_close(found[layer], x, rtol=1e-4, atol=1e-4 * float(x.abs().max()), msg=layer)


def test_zero_padding_would_not_do() -> None:
    # The test above can fail: with plain zeros around the maps, their borders differ a lot.
    model = trained("eccv16")
    folded = without_batchnorm(model)
    for module in folded.modules():
        if isinstance(module, BorderedConv2d):
            module.border.zero_()
    expected, found = maps(model, lightness())["conv2"], maps(folded, lightness())["conv2"]
    off = (found - expected).abs().amax((0, 1)) / expected.abs().max()
    assert off[0].max() > 0.02 and off[2:-2, 2:-2].max() < 1e-4


def test_a_bordered_convolution_by_hand() -> None:
    conv = nn.Conv2d(1, 1, 3, padding=1)
    nn.init.ones_(conv.weight)
    nn.init.constant_(conv.bias, 0.5)
    bordered = BorderedConv2d.of(conv, torch.tensor([10.0]))
    # One cell: itself, and eight cells of the border around it.
    assert bordered(torch.full((1, 1, 1, 1), 3.0)).item() == 3 + 80 + 0.5


def test_a_shifted_transposed_convolution_by_hand() -> None:
    conv = nn.ConvTranspose2d(1, 1, 2, stride=2)
    conv.weight.data = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    nn.init.zeros_(conv.bias)
    shifted = ShiftedConvTranspose2d.of(conv, torch.tensor([10.0]))
    assert torch.equal(shifted(torch.full((1, 1, 1, 1), 11.0)), torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]))


@pytest.mark.parametrize("name", ["eccv16", "alexnet"])
def test_ratios_by_autograd_of_the_whole(name: str) -> None:
    # An independent way: backward() of the sum of map x gradient, in double precision.
    model = without_batchnorm(trained(name))
    ratios = gradient_ratios(model, lightness(), draws=1, seed=3)
    generator = torch.Generator().manual_seed(3)
    double = copy.deepcopy(model).double().requires_grad_(True)
    output = double(lightness().double())
    (output * torch.randn(output.shape, generator=generator)).sum().backward()
    convs = {key: module for key, module in double.named_modules() if hasattr(module, "kernel_size") and "conv" in
             type(module).__name__.lower()}  # fmt: skip
    assert list(ratios) == list(convs)
    for key, conv in convs.items():
        expected = math.sqrt(conv.weight.grad.square().mean() / conv.weight.detach().square().mean())
        assert ratios[key] == pytest.approx(expected, rel=1e-3), key


def spread(ratios: dict[str, float]) -> float:
    return max(ratios.values()) / min(ratios.values())


@pytest.mark.parametrize(("name", "top"), [("eccv16", None), ("alexnet", None), ("eccv16", "conv3")])
def test_rescaled_layers_learn_alike_and_the_maps_stay(name: str, top: str | None) -> None:
    model = without_batchnorm(trained(name))
    photos = lightness(2, side=32)
    before = gradient_ratios(model, photos, top=top, draws=2)
    expected = maps(model, photos)
    factors = rescale_layers(model, photos, top=top, draws=2)
    # By the same random gradients the ratios are their geometric mean, all but exactly.
    after = gradient_ratios(model, photos, top=top, draws=2)
    mean = math.exp(sum(map(math.log, before.values())) / len(before))
    assert spread(before) > 3 and all(value == pytest.approx(mean, rel=1e-3) for value in after.values())
    # Nothing has changed but the scale of the maps on the way.
    found = maps(model, photos)
    assert list(factors) == [layer for layer in (*model.layers, "logits") if layer in factors]
    assert factors[top or "logits"] == pytest.approx(1, rel=1e-6)
    for layer, factor in factors.items():
        expect = expected[layer] * factor
        torch.testing.assert_close(found[layer], expect, rtol=1e-4, atol=1e-4 * float(expect.abs().max()), msg=layer)


def test_rescaled_layers_agree_within_five_percent_on_other_random_gradients() -> None:
    model = without_batchnorm(trained("eccv16"))
    photos = lightness(2, side=24)
    rescale_layers(model, photos, top="conv2", draws=400)
    after = gradient_ratios(model, photos, top="conv2", draws=400, seed=1)
    mean = math.exp(sum(map(math.log, after.values())) / len(after))
    assert all(value == pytest.approx(mean, rel=0.05) for value in after.values()), after


def test_layers_beyond_the_top_are_left_alone() -> None:
    model = without_batchnorm(trained("eccv16"))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    factors = rescale_layers(model, lightness(), top="conv3", draws=2)
    assert list(factors) == ["conv1", "conv2", "conv3"]
    changed = {
        key.partition(".")[0] for key, value in model.state_dict().items() if not torch.equal(value, before[key])
    }
    assert changed == {"conv1", "conv2", "conv3"}


def test_rescaling_needs_folding_and_living_layers() -> None:
    with pytest.raises(ValueError, match="fold BatchNorm first"):
        rescale_layers(trained("eccv16"), lightness())
    model = without_batchnorm(trained("alexnet"))
    with torch.no_grad():
        model.get_submodule("conv4.0").bias.fill_(-1e6)
    with pytest.raises(UserError, match=r"layer conv1\.0 of alexnet has no gradient"):
        rescale_layers(model, lightness(), draws=1)


def test_an_encoder_is_prepared_in_place() -> None:
    encoder = Encoder(ColorizationTrunk(trained("eccv16"), input_size=48), source=Source("file", "tiny"))
    expected = encoder(lightness(), ("conv5",))["conv5"]
    assert prepare(encoder, rescale=True, lightness=lightness(4), top="conv5") is encoder
    assert not norms(encoder)
    torch.testing.assert_close(encoder(lightness(), ("conv5",))["conv5"], expected, rtol=1e-4, atol=1e-4)
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


def test_statistics_of_an_untrained_network_become_those_of_photos() -> None:
    encoder = load_encoder("random:eccv16@0.125")
    photos = torch.randint(0, 256, (6, 3, 48, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    measure_statistics(encoder, photos)
    trunk = encoder.trunk
    for layer in ("conv1", "conv4"):
        found = encoder(photos, (layer,))[layer]
        norm = trunk.model.get_submodule(f"{layer}.{len(trunk.model.get_submodule(layer)) - 1}")
        assert not norm.training and norm.momentum == 0.1
        # Stored variances are the unbiased ones, of few cells in deep layers, and those in use while measuring are not.
        torch.testing.assert_close(norm.running_mean, found.mean((0, 2, 3)), rtol=0.03, atol=1e-6)
        torch.testing.assert_close(norm.running_var, found.var((0, 2, 3)), rtol=0.05, atol=1e-8)
    # The network without BatchNorm, which has nothing to measure.
    measure_statistics(prepare(encoder, rescale=False), photos)


def test_only_our_networks() -> None:
    with pytest.raises(UserError, match=r"not for random:timm-rgb:resnet10t"):
        prepare(load_encoder("random:timm-rgb:resnet10t"), rescale=False)
