"""timm's models as colorization networks: every family gives what it promises, learns, and says no in one line."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import ssl_colorize as sc
from ssl_colorize.color import rgb_to_lab, rgb_to_lightness
from ssl_colorize.errors import UserError
from ssl_colorize.models import ColorizationModel, Pretrained, create_model, save_pretrained
from ssl_colorize.models.backbone import TimmColorizer
from ssl_colorize.models.init import initialize
from ssl_colorize.models.objectives import make_targets, soft_cross_entropy
from ssl_colorize.models.registry import is_model
from ssl_colorize.models.timm_factory import make_body, parse_name
from ssl_colorize.pretrain.config import Recipe
from ssl_colorize.pretrain.loop import recipe_optimizer

# One of each family, of its smallest, and whether it takes photos of any size.
FAMILIES = {
    "test_resnet": True,
    "test_convnext": True,
    "test_efficientnet": True,
    "mobilenetv3_small_050": True,
    "regnetx_002,w0=8,wa=8,wm=2.0,depth=6,group_size=8": True,
    "densenet121,growth_rate=8,block_config=(2,2,2,2)": True,
    "test_nfnet": True,
    "test_byobnet": True,
    "test_mambaout": True,
    "pvt_v2_b0,embed_dims=(8,16,40,64),depths=(1,1,1,1)": True,
    "test_vit": True,
    "deit_tiny_distilled_patch16_224,embed_dim=48,depth=5,patch_size=8": True,
    "swin_tiny_patch4_window7_224,embed_dim=24,depths=(1,1,1,1),num_heads=(1,2,4,8)": True,
    "test_vit_relpos,img_size=64": False,
    "test_maxvit,img_size=64": False,
    "test_coatnet,img_size=64": False,
}
EVERY = pytest.mark.parametrize("name", FAMILIES)


def made(name: str, *, outputs: int = 313) -> TimmColorizer:
    torch.manual_seed(0)
    model = create_model(f"timm:{name}", outputs=outputs)
    assert isinstance(model, TimmColorizer)
    return model.eval()


def lightness(height: int, width: int, batch: int = 2) -> Tensor:
    return 100 * torch.rand(batch, 1, height, width, generator=torch.Generator().manual_seed(0))


# ---- every family ----------------------------------------------------------------------------------------------------


@EVERY
def test_maps_and_logits_have_the_promised_sizes(name: str) -> None:
    model = made(name)
    assert (model.fixed_size is None) == FAMILIES[name]
    # Of its own size a fixed network's maps are timm's; of others they are brought to their strides all the same.
    with torch.inference_mode():
        for height, width in ((64, 64), (64, 96)):
            light = lightness(height, width)
            stages = dict(model.stages(light))
            assert stages.pop("logits").shape == (2, 313, height // 4, width // 4) == model(light).shape
            assert tuple(stages) == model.layers
            for info in model.feature_info:
                reduced = (height // info["reduction"], width // info["reduction"])
                assert stages[info["module"]].shape == (2, info["num_chs"], *reduced), info


@EVERY
def test_features_are_timms_by_timms_names_and_stop_at_the_deepest(name: str) -> None:
    model = made(name)
    plain = make_body(*parse_name(name))
    assert model.layers == tuple(each["module"] for each in getattr(plain.feature_info, "info", plain.feature_info))
    assert all(isinstance(plain.get_submodule(layer), nn.Module) for layer in model.layers)
    plain.load_state_dict(model.body.state_dict())
    light = lightness(64, 64)
    ran: list[nn.Module] = []
    with torch.inference_mode():
        seen = model.normalize(light)
        expected = plain.eval().forward_intermediates(seen, output_fmt="NCHW", intermediates_only=True)
        every = model.forward_features(light, model.layers)
        model.body.get_submodule(model.layers[-1]).register_forward_hook(lambda module, *_: ran.append(module))
        some = model.forward_features(light, (model.layers[1], model.layers[0]))
    assert list(every) == list(model.layers) and list(some) == list(model.layers[:2]) and not ran
    for layer, x in zip(model.layers, expected, strict=True):
        torch.testing.assert_close(every[layer], x)
        if layer in some:
            torch.testing.assert_close(some[layer], x)


@EVERY
def test_every_parameter_gets_a_gradient(name: str) -> None:
    model = made(name).train()
    learning = [key for key, weights in model.named_parameters() if weights.requires_grad]
    assert learning == [key for key, _ in model.named_parameters()]
    model(lightness(64, 64)).square().mean().backward()
    without = [key for key, weights in model.named_parameters() if weights.grad is None]
    assert not without


@pytest.mark.parametrize(
    ("name", "optimizer"), [*((name, "adam") for name in FAMILIES), ("test_resnet", "muon"), ("test_vit", "muon")]
)
def test_a_few_steps_beat_the_best_constant(name: str, optimizer: str, photos: Tensor) -> None:
    model = made(name)
    targets = make_targets(photos[:2], torch.ones(313), stride=4)
    dense = torch.zeros(313).index_add_(0, targets.indices.flatten(), targets.weights.flatten())
    constant = (dense / dense.sum() + 1e-6).log()
    initialize(model, targets.lightness, method="lsuv", output_bias=constant)
    recipe = Recipe(model=f"timm:{name}", width=1, optimizer=optimizer, learning_rate=3e-3)
    steps = recipe_optimizer(recipe, model)

    def loss(output: Tensor) -> Tensor:
        return soft_cross_entropy(output, targets.indices, targets.weights, targets.pixel_weights)[0]

    best_constant = loss(constant.view(1, -1, 1, 1).expand(2, -1, 16, 16)).item()
    model.train()
    for _ in range(6):
        steps.zero_grad()
        loss(model(targets.lightness)).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        steps.step()
    assert loss(model(targets.lightness)).item() < 0.97 * best_constant


# ---- what goes in ----------------------------------------------------------------------------------------------------


def test_it_sees_the_gray_of_a_lightness_as_timm_normalizes_it() -> None:
    model = made("convnext_atto,dims=(8,16,24,32),depths=(1,1,1,1)")
    gray = torch.linspace(0, 1, 64).view(1, 1, 8, 8)
    light = rgb_to_lightness(gray.repeat(1, 3, 1, 1))
    mean, std = sum((0.485, 0.456, 0.406)) / 3, sum((0.229, 0.224, 0.225)) / 3
    torch.testing.assert_close(model.normalize(light), (gray - mean) / std, rtol=0, atol=1e-4)
    # Lab beside it, for fine-tuning in color: light is the same, ab is of its order.
    lab = rgb_to_lab(torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)))
    seen = model.normalize(lab)
    assert torch.equal(seen[:, :1], model.normalize(lab[:, :1])) and seen[:, 1:].abs().max() < 6


def test_our_own_networks_take_lightness_as_it_is() -> None:
    """By timm's door they come with a hypercolumn's head, and see L as they do without it."""
    network, model = sc.create_model("eccv16", width=0.25).eval(), made("colorize_eccv16_quarter")
    state = network.state_dict()
    model.body.load_state_dict({new: state[old] for old, new in model.body.new_keys.items() if new})
    light = lightness(32, 32)
    with torch.inference_mode():
        found, expected = (each.eval().forward_features(light, ("conv2", "conv7")) for each in (model, network))
    for name in expected:
        torch.testing.assert_close(found[name], expected[name])


def test_a_network_of_one_size_sees_the_photo_at_that_size() -> None:
    model = made("test_vit_relpos,img_size=64")
    assert (model.fixed_size, model.multiple) == ((64, 64), 1)
    small = lightness(32, 32)
    seen: list[Tensor] = []
    model.body.patch_embed.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.inference_mode():
        maps = model.forward_features(small, model.layers[-1:])
        large = functional.interpolate(model.normalize(small), (64, 64), mode="bilinear", antialias=True)
    torch.testing.assert_close(seen[0], large)
    assert maps[model.layers[-1]].shape[2:] == (2, 2)


def test_the_stride_of_the_output_can_be_8() -> None:
    model = made("test_resnet,stride=8", outputs=2)
    assert model(lightness(64, 96)).shape == (2, 2, 8, 12) and model.target_stride == 8


def test_transformers_without_stages_are_read_at_four_depths() -> None:
    assert made("vit_tiny_patch16_224,embed_dim=48,num_heads=3").reads == (2, 5, 8, 11)
    assert made("test_vit").reads == (0, 2, 3, 5)
    assert made("test_resnet").reads == (0, 1, 2, 3, 4)


def test_under_bfloat16_it_computes_the_same_but_for_rounding() -> None:
    for name in ("test_convnext", "test_resnet", "test_vit"):
        model, light = made(name), lightness(64, 64)
        exact = model(light)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = model(light)
        assert rounded.dtype == torch.bfloat16
        assert (rounded.float() - exact).abs().max() < 0.05 * exact.abs().max()


# ---- parameters ------------------------------------------------------------------------------------------------------


def test_what_the_output_does_not_depend_on_takes_no_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    from ssl_colorize.models import backbone

    def with_an_idle_part(*arguments: object, **options: object) -> nn.Module:
        body: nn.Module = make_body(*arguments, **options)  # type: ignore[arg-type]
        body.idle = nn.Linear(2, 2)
        return body

    monkeypatch.setattr(backbone, "make_body", with_an_idle_part)
    model = made("test_resnet")
    still = [key for key, weights in model.named_parameters() if not weights.requires_grad]
    assert still == ["body.idle.weight", "body.idle.bias"]


def test_the_body_keeps_timms_weights_and_the_head_gets_ours(photos: Tensor) -> None:
    model, light = made("test_resnet"), rgb_to_lightness(photos[:8])
    before = {key: value.clone() for key, value in model.state_dict().items()}
    bias = torch.linspace(-1, 1, 313)
    initialize(model, light, method="lsuv", output_bias=bias)
    after = model.state_dict()
    moved = {key for key, value in after.items() if not torch.equal(value, before[key])}
    weights = {key for key, _ in model.named_parameters()}
    assert not {key for key in moved & weights if key.startswith("body.")}
    assert {"head.reduce.0.0.weight", "head.fuse.1.weight", "logits.weight"} <= moved
    assert "body.layer1.0.bn1.running_var" in moved and torch.equal(after["logits.bias"], bias)
    with torch.inference_mode():
        assert (model(light) - bias.view(1, -1, 1, 1)).std().item() == pytest.approx(0.1, rel=0.2)


def test_a_trained_body_is_not_touched_by_the_initialization(photos: Tensor) -> None:
    model = made("test_resnet")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    initialize(model, rgb_to_lightness(photos[:8]), method="kmeans", keep=("body",))
    moved = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert moved and not {key for key in moved if key.startswith("body.")}
    assert {norm.momentum for norm in model.body.modules() if isinstance(norm, nn.BatchNorm2d)} == {0.1}


def test_muon_takes_matrices_of_the_body_and_leaves_the_rest_to_adam() -> None:
    model = made("test_resnet")
    for weights in model.parameters():
        weights.grad = torch.randn_like(weights)
    before = {key: weights.detach().clone() for key, weights in model.named_parameters()}
    recipe_optimizer(Recipe(optimizer="muon", learning_rate=1e-2, weight_decay=0), model).step()
    steps = {key: (weights.detach() - before[key]).abs() for key, weights in model.named_parameters()}
    # Adam's first step has one length everywhere; an orthogonal matrix has not.
    alike = {key: bool(step.std() < 1e-3 * step.mean()) for key, step in steps.items()}
    assert not alike["body.layer3.0.conv1.weight"] and not alike["head.fuse.1.weight"]
    assert alike["logits.weight"] and alike["body.layer3.0.bn1.weight"] and alike["body.conv1.0.weight"]


# ---- names and files -------------------------------------------------------------------------------------------------


def test_it_comes_back_from_its_file(tmp_path: Path) -> None:
    model = made("test_vit,patch_size=8,stride=8", outputs=2)
    with torch.no_grad():
        model.get_buffer("mean").fill_(0.25)
    save_pretrained(Pretrained(model, objective="l2", input_size=64), tmp_path / "model.safetensors")
    again = sc.load_encoder(tmp_path)
    light = lightness(64, 64)
    assert again.layers == model.layers
    expected = model.forward_features(light, model.layers)
    for layer, x in again(light).items():
        torch.testing.assert_close(x, expected[layer])


def test_untrained_encoders_by_name(photos: Tensor) -> None:
    encoder = sc.load_encoder("random:timm-lightness:test_resnet")
    same, other = (sc.load_encoder("random:timm-lightness:test_resnet@1", seed=seed) for seed in (0, 1))
    assert encoder.layers == ("act1", "layer1", "layer2", "layer3", "layer4")
    assert encoder.fingerprint() == same.fingerprint() != other.fingerprint()
    for name, x in encoder(photos[:2, :, :50, :41]).items():
        info = next(each for each in encoder.feature_info if each["module"] == name)
        assert x.shape == (2, info["num_chs"], -(-50 // info["reduction"]), -(-41 // info["reduction"]))
    with pytest.raises(UserError, match=r"kmeans:timm:test_resnet.*use random:timm-lightness:test_resnet"):
        sc.load_encoder("kmeans:timm:test_resnet")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("timm:resnet1", r"timm has no model 'resnet1'\. Close to it: resnet1"),
        ("timm:test_resnet,stride=2", "stride is 4 or 8, not 2"),
        ("timm:test_resnet,stride", "key=value"),
        ("timm:test_resnet,no_such=1", "'test_resnet' of these options.*no_such"),
        ("timm:test_resnet,pretrained=True", "pretrained is not yours"),
        ("timm:test_resnet,in_chans=3", "in_chans is not yours"),
        ("torchvision:resnet18", "Unknown model 'torchvision:resnet18'.*timm:NAME"),
    ],
)
def test_names_that_cannot_be_are_refused_in_a_line(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        create_model(name)
    assert "\n" not in str(caught.value)


def test_there_is_one_width() -> None:
    with pytest.raises(UserError, match=r"timm:test_resnet comes in one width: set width to 1, not 0.5"):
        create_model("timm:test_resnet", width=0.5)
    with pytest.raises(UserError, match="has no layer 'conv5': choose from act1"):
        made("test_resnet").forward_features(lightness(32, 32), ("conv5",))


def test_names_of_families_are_known() -> None:
    assert is_model("timm:resnet18") and is_model("eccv16")
    assert not is_model("resnet18") and not is_model("torch:resnet18")
    assert isinstance(made("test_resnet"), ColorizationModel) and made("test_resnet").name == "timm:test_resnet"
