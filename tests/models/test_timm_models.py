"""The networks as timm's models: what timm's own tests ask of every model, and that they are the encoders."""

from pathlib import Path
from typing import Any

import pytest
import timm
import timm.optim
import torch
from timm.models import FeatureListNet
from torch import Tensor, nn

import ssl_colorize as sc
from ssl_colorize.color import rgb_to_lightness
from ssl_colorize.errors import UserError
from ssl_colorize.models import ColorizationModel, Pretrained, create_model, save_pretrained
from ssl_colorize.models.eccv16 import released_keys
from ssl_colorize.models.timm_models import ColorizeNet, chained

NAMES = {
    "colorize_eccv16": ("eccv16", 1.0),
    "colorize_eccv16_half": ("eccv16", 0.5),
    "colorize_eccv16_starter": ("eccv16", 0.5),
    "colorize_eccv16_quarter": ("eccv16", 0.25),
    "colorize_alexnet": ("alexnet", 1.0),
    "colorize_alexnet_half": ("alexnet", 0.5),
}
# The rest is tried at a width that is quick to run.
TINY = {"colorize_eccv16": 0.125, "colorize_alexnet": 0.05}
EVERY = pytest.mark.parametrize("name", TINY)


def tiny(name: str, **options: Any) -> Any:
    torch.manual_seed(0)
    return timm.create_model(name, **{"width": TINY[name], **options})


def rgb(side: int = 64, batch: int = 2) -> Tensor:
    return torch.rand(batch, 3, side, side, generator=torch.Generator().manual_seed(0))


@pytest.fixture(params=TINY)
def trained(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path, ColorizationModel]:
    """A name, a file of that network with statistics that are no beginner's, and the network."""
    name: str = request.param
    torch.manual_seed(1)
    model = create_model(name.removeprefix("colorize_"), width=TINY[name])
    with torch.no_grad():
        model.train()(100 * torch.rand(4, 1, 64, 64))
    save_pretrained(Pretrained(model.eval(), input_size=64), tmp_path / "model.safetensors")
    return name, tmp_path / "model.safetensors", model


# ---- names and configuration -----------------------------------------------------------------------------------------


def test_names() -> None:
    assert timm.list_models("colorize_*") == sorted([*NAMES, "colorize_timm"])
    with torch.device("meta"):
        for name, (network, width) in NAMES.items():
            whole = create_model(network, width=width)
            model = timm.create_model(name)
            assert [info["num_chs"] for info in model.feature_info] == [info["num_chs"] for info in whole.feature_info]


@EVERY
def test_the_configuration_is_true(name: str) -> None:
    model = tiny(name, num_classes=3).eval()
    config, state = model.default_cfg, model.state_dict()
    assert (config["mean"], config["std"]) == ((0, 0, 0), (1, 1, 1)) and config["num_classes"] == 0
    assert f"{config['classifier']}.weight" in state and f"{config['first_conv']}.weight" in state
    maps = model.forward_features(torch.rand(1, *config["input_size"]))
    assert maps.shape == (1, model.num_features, *config["pool_size"])
    transform = timm.data.create_transform(**timm.data.resolve_data_config({}, model=model))
    assert "Normalize(mean=tensor([0., 0., 0.]), std=tensor([1., 1., 1.]))" in str(transform)


# ---- as a classifier -------------------------------------------------------------------------------------------------


@EVERY
def test_forward_and_the_classifier(name: str) -> None:
    model = tiny(name).eval()
    assert model.num_classes == 0 and isinstance(model.get_classifier(), nn.Identity)
    assert model(rgb()).shape == (2, model.num_features)
    model.reset_classifier(5)
    assert model(rgb()).shape == (2, 5) and model.num_classes == 5
    assert model.get_classifier() is model.head.fc and model.head.fc.out_features == 5
    features = model.forward_features(rgb())
    assert torch.equal(model.forward_head(features), model(rgb()))
    assert torch.equal(model.forward_head(features, pre_logits=True), features.mean((2, 3)))
    model.reset_classifier(0, "")
    assert torch.equal(model(rgb()), features)
    assert model.head_hidden_size == model.num_features == features.shape[1]


@EVERY
@pytest.mark.parametrize("checkpointing", [False, True])
def test_backward_reaches_every_parameter(name: str, checkpointing: bool) -> None:
    gradients = []
    for again in {False, checkpointing}:
        model = tiny(name, num_classes=42).train()
        model.set_grad_checkpointing(again)
        output = model(rgb())
        output.square().mean().backward()
        assert output.shape == (2, 42) and not output.isnan().any()
        assert not [key for key, weights in model.named_parameters() if weights.grad is None]
        gradients.append([weights.grad for weights in model.parameters()])
    for one, other in zip(gradients[0], gradients[-1], strict=True):
        torch.testing.assert_close(one, other)


@EVERY
def test_layer_groups_and_weight_decay(name: str) -> None:
    model = tiny(name, num_classes=2)
    assert model.no_weight_decay() == set()
    groups = timm.models.group_parameters(model, model.group_matcher(), reverse=True)
    assert set(groups) == {key for key, _ in model.named_parameters()}
    for key, group in groups.items():
        assert group == (model.layers.index(key.partition(".")[0]) if not key.startswith("head") else 7)
    optimizer = timm.optim.create_optimizer_v2(model, "sgd", lr=0.1, weight_decay=0.1, layer_decay=0.5)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(model.parameters()))


# ---- as features -----------------------------------------------------------------------------------------------------


@EVERY
@pytest.mark.parametrize("out_indices", [None, (0,), (1, 4), (-2, -1), 3, (6,)])
def test_features_only(name: str, out_indices: Any) -> None:
    options = {} if out_indices is None else {"out_indices": out_indices}
    model = tiny(name, features_only=True, **options).eval()
    whole = tiny(name).eval()
    chosen = range(7) if out_indices is None else range(4, 7) if out_indices == 3 else [i % 7 for i in out_indices]
    info = model.feature_info
    assert info.module_name() == [whole.feature_info[index]["module"] for index in chosen]
    maps = model(rgb(128))
    assert isinstance(model, FeatureListNet) and len(maps) == len(info.channels())
    for x, channels, reduction in zip(maps, info.channels(), info.reduction(), strict=True):
        assert x.shape == (2, channels, 128 // reduction, 128 // reduction)
    expected = whole.forward_intermediates(rgb(128), indices=list(chosen), intermediates_only=True)
    assert all(torch.equal(one, other) for one, other in zip(maps, expected, strict=True))
    # What is not needed is not there.
    deepest = whole.feature_info[max(chosen)]["module"]
    assert list(model)[-1] == deepest


@EVERY
def test_forward_intermediates(name: str) -> None:
    model = tiny(name).eval()
    last, maps = model.forward_intermediates(rgb())
    assert len(maps) == 7 and torch.equal(last, maps[-1]) and torch.equal(last, model.forward_features(rgb()))
    ran: list[str] = []
    for layer in model.layers:
        model.get_submodule(layer).register_forward_hook(lambda *_, layer=layer: ran.append(layer))
    early, some = model.forward_intermediates(rgb(), indices=[0, 2], stop_early=True)
    assert ran == list(model.layers[:3]) and torch.equal(early, maps[2])
    assert torch.equal(some[0], maps[0]) and torch.equal(some[1], maps[2])
    assert len(model.forward_intermediates(rgb(), indices=2, intermediates_only=True)) == 2
    with pytest.raises(AssertionError):
        model.forward_intermediates(rgb(), indices=[7])
    assert model.prune_intermediate_layers([1, -4]) == [1, 3]
    assert model.layers[-1] == model.feature_info[3]["module"] and not hasattr(model, model.feature_info[4]["module"])
    assert torch.equal(model(rgb()), maps[3])


@EVERY
@pytest.mark.parametrize("getter", ["getter", "hook", "dict"])
def test_timms_other_wrappers_give_the_same(name: str, getter: str) -> None:
    expected = tiny(name, features_only=True, out_indices=(1, 3)).eval()(rgb())
    found = tiny(name, features_only=True, out_indices=(1, 3), feature_cls=getter).eval()(rgb())
    for one, other in zip(expected, found.values() if isinstance(found, dict) else found, strict=True):
        assert torch.equal(one, other)


# ---- what goes in ----------------------------------------------------------------------------------------------------


def test_lightness_is_computed_inside(trained: tuple[str, Path, ColorizationModel]) -> None:
    name, file, network = trained
    encoder = sc.load_encoder(file)
    color = tiny(name, features_only=True, checkpoint_path=file).eval()
    light = tiny(name, features_only=True, checkpoint_path=file, in_chans=1).eval()
    expected = network.forward_features(rgb_to_lightness(rgb()), network.layers)
    for layer, one, other, third in zip(
        network.layers, color(rgb()), light(rgb_to_lightness(rgb())), encoder(rgb()).values(), strict=True
    ):
        torch.testing.assert_close(one, expected[layer])
        torch.testing.assert_close(other, expected[layer])
        torch.testing.assert_close(third, expected[layer], rtol=1e-4, atol=1e-5)
    with pytest.raises(UserError, match=r"in_chans is 3 \(RGB\) or 1 \(lightness\), not 2"):
        tiny(name, in_chans=2)


@pytest.mark.parametrize(
    "options", [{}, {"num_classes": 3}, {"features_only": True}, {"in_chans": 1}, {"body": "test_resnet"}]
)
@pytest.mark.parametrize("bring", ["half", "bfloat16", "double"])
def test_other_precisions(bring: str, options: dict[str, Any]) -> None:
    def made() -> Any:
        torch.manual_seed(0)
        return (
            timm.create_model("colorize_timm", **options) if "body" in options else tiny("colorize_eccv16", **options)
        )

    images = rgb_to_lightness(rgb()) if "in_chans" in options else rgb()
    model = getattr(made().eval(), bring)()
    dtype = next(model.parameters()).dtype
    expected = made().eval()(images)
    for given in (images, images.to(dtype)):
        found = model(given)
        for one, other in zip(found, expected, strict=True) if isinstance(found, list) else [(found, expected)]:
            assert one.dtype == dtype
            assert (one.double() - other).norm() < 0.06 * other.norm()


def test_layers_end_at_their_last_relu() -> None:
    for network in ("eccv16", "alexnet"):
        whole = create_model(network, width=0.05)
        layers = dict(chained(whole))
        assert tuple(layers) == whole.layers
        assert all(isinstance(layer[-1], nn.ReLU) for layer in layers.values())
        convolutions = [module for layer in layers.values() for module in layer if isinstance(module, nn.Conv2d)]
        assert len(convolutions) == (19 if network == "eccv16" else 7)


# ---- weights ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"num_classes": 4}, {"features_only": True, "out_indices": (2,)}])
def test_pretrained_from_a_run(trained: tuple[str, Path, ColorizationModel], options: dict[str, Any]) -> None:
    name, file, network = trained
    model = tiny(name, pretrained=True, pretrained_cfg_overlay={"file": str(file)}, **options)
    ours = network.state_dict()
    assert torch.equal(model.state_dict()["conv1.0.weight"], ours["conv1.0.weight"])
    layer = network.layers[2]
    expected = network.forward_features(rgb_to_lightness(rgb()), (layer,))[layer]
    model.eval()
    found = model(rgb())[0] if "features_only" in options else model.forward_intermediates(rgb(), indices=[2])[1][0]
    torch.testing.assert_close(found, expected)


FILES = ["ours", "ours, in pretrained_cfg", "exported", "wrapped by DDP", "of the whole network"]


def options_for(file: Path, kind: str, name: str, options: dict[str, Any]) -> dict[str, Any]:
    """Options of `create_model` that name a file with the same weights."""
    if kind == "ours":
        return {"checkpoint_path": file}
    if kind == "ours, in pretrained_cfg":
        return {"pretrained": True, "pretrained_cfg": {"file": str(file)}}
    state = timm.create_model(name, checkpoint_path=file, **options).state_dict()
    if kind == "wrapped by DDP":
        state = {"state_dict": {f"module.{key}": value for key, value in state.items()}, "epoch": 3}
    elif kind == "of the whole network":
        state = sc.load_encoder(file).trunk.model.state_dict()
    torch.save(state, file.with_suffix(".pth"))
    return {"checkpoint_path": file.with_suffix(".pth")}


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("getter", [None, "list", "dict", "hook", "getter"])
@pytest.mark.parametrize("indices", [None, (1, 3), (-2,)])
def test_features_of_some_layers_from_every_file(
    indices: tuple[int, ...] | None, getter: str | None, kind: str, tmp_path: Path
) -> None:
    name, options = "colorize_eccv16", {"width": TINY["colorize_eccv16"]}
    torch.manual_seed(1)
    network = create_model("eccv16", **options)
    save_pretrained(Pretrained(network.eval()), tmp_path / "model.safetensors")
    given = options_for(tmp_path / "model.safetensors", kind, name, options)
    more = {"out_indices": indices, "feature_cls": getter}
    more = {key: value for key, value in more.items() if value is not None}
    found = timm.create_model(name, features_only=True, **given, **options, **more).eval()(rgb())
    layers = [network.layers[index] for index in (indices or range(7))]
    expected = network.forward_features(rgb_to_lightness(rgb()), layers)
    maps = list(found.values()) if isinstance(found, dict) else found
    assert len(maps) == len(layers)
    for one, layer in zip(maps, layers, strict=True):
        torch.testing.assert_close(one, expected[layer])


@pytest.mark.parametrize("kind", FILES)
def test_features_of_a_timm_body_from_every_file(kind: str, tmp_path: Path) -> None:
    name, options = "colorize_timm", {"body": "test_resnet"}
    torch.manual_seed(1)
    network = create_model("timm:test_resnet").eval()
    save_pretrained(Pretrained(network), tmp_path / "model.safetensors")
    given = options_for(tmp_path / "model.safetensors", kind, name, options)
    (found,) = timm.create_model(name, features_only=True, out_indices=(2,), **given, **options).eval()(rgb())
    layer = network.layers[2]
    expected = network.forward_features(rgb_to_lightness(rgb()), (layer,))[layer]
    torch.testing.assert_close(found, expected)
    with pytest.raises(UserError, match="feature_cls='getter'"):
        timm.create_model(name, features_only=True, feature_cls="list", **options)


def test_a_file_without_some_of_the_weights_is_refused(tmp_path: Path) -> None:
    model = tiny("colorize_eccv16")
    state = {key: value for key, value in model.state_dict().items() if key != "conv2.3.weight"}
    torch.save(state, tmp_path / "part.pth")
    for options in ({}, {"features_only": True}, {"features_only": True, "feature_cls": "getter"}):
        with pytest.raises(RuntimeError, match=r"Missing key.*conv2\.3\.weight"):
            tiny("colorize_eccv16", checkpoint_path=tmp_path / "part.pth", **options)


def test_the_authors_file(tmp_path: Path) -> None:
    torch.manual_seed(2)
    whole = create_model("eccv16", width=0.125).eval()
    state = whole.state_dict()
    released = {old: state[new] for old, new in released_keys().items()} | {
        "model_out.weight": torch.zeros(2, 313, 1, 1)
    }
    torch.save(released, tmp_path / "colorization_release.pth")
    model = tiny("colorize_eccv16", features_only=True, checkpoint_path=tmp_path / "colorization_release.pth").eval()
    expected = whole.forward_features(rgb_to_lightness(rgb()), ("conv7",))["conv7"]
    torch.testing.assert_close(model(rgb())[-1], expected)


@EVERY
def test_timms_own_checkpoints(name: str, tmp_path: Path) -> None:
    model = tiny(name, num_classes=3).eval()
    torch.save(model.state_dict(), tmp_path / "checkpoint.pth")
    torch.manual_seed(5)
    again = timm.create_model(name, width=TINY[name], num_classes=3, checkpoint_path=tmp_path / "checkpoint.pth").eval()
    assert torch.equal(again(rgb()), model(rgb()))


@pytest.mark.parametrize("classes", [0, 4])
def test_files_of_another_network_are_refused(classes: int, tmp_path: Path) -> None:
    save_pretrained(Pretrained(create_model("alexnet", width=0.05)), tmp_path / "model.safetensors")
    with pytest.raises(RuntimeError, match=r"of another network|Missing key|size mismatch"):
        tiny(
            "colorize_eccv16", pretrained=True, num_classes=classes,
            pretrained_cfg_overlay={"file": str(tmp_path / "model.safetensors")},
        )  # fmt: skip


def test_without_weights_pretrained_says_so() -> None:
    with pytest.raises(RuntimeError, match="No pretrained weights"):
        tiny("colorize_eccv16", pretrained=True)


def test_it_can_be_exported() -> None:
    model = tiny("colorize_eccv16", num_classes=3).eval()
    batch = torch.export.Dim("batch", min=1, max=16)
    program = torch.export.export(model, (rgb(),), dynamic_shapes={"x": {0: batch}})
    torch.testing.assert_close(program.module()(rgb(batch=5)), model(rgb(batch=5)))
    assert isinstance(model, ColorizeNet)
