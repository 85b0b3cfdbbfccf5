"""Data-dependent initialization: what it promises of every layer, and that networks learn to color sooner."""

from itertools import chain

import pytest
import torch
from torch import Tensor, nn

from ssl_colorize.color import ColorStatistics, rebalance_weights, rgb_to_lightness
from ssl_colorize.models import ColorizationModel, create_model
from ssl_colorize.models.init import LOGIT_DEVIATION, InitMethod, initialize
from ssl_colorize.models.objectives import constant_cross_entropy, make_targets, soft_cross_entropy, subsampled_ab


def initialized(
    name: str, light: Tensor, method: InitMethod, *, bias: Tensor | None = None, seed: int = 0
) -> ColorizationModel:
    torch.manual_seed(0)
    model = create_model(name, width=0.125)
    initialize(model, light, method=method, output_bias=bias, seed=seed)
    return model


def responses(model: ColorizationModel, light: Tensor) -> dict[str, Tensor]:
    """Outputs of every convolution and, under "<name> input", inputs of every BatchNorm, statistics from the batch."""
    found: dict[str, Tensor] = {}
    hooks = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            hooks.append(module.register_forward_hook(lambda _, __, out, name=name: found.update({name: out.clone()})))
        elif isinstance(module, nn.BatchNorm2d):
            key = f"{name} input"
            hooks.append(module.register_forward_hook(lambda _, xs, __, key=key: found.update({key: xs[0].clone()})))
            module.momentum = 0.0
    with torch.no_grad():
        model.train()(light)
    for hook in hooks:
        hook.remove()
    model.eval()
    return found


@pytest.fixture(scope="module")
def light(photos: Tensor) -> Tensor:
    return rgb_to_lightness(photos[::2, :, :48, :48])


@pytest.mark.parametrize("method", ["kmeans", "lsuv"])
@pytest.mark.parametrize("name", ["eccv16", "alexnet"])
def test_every_layer_starts_with_unit_variance(name: str, method: InitMethod, light: Tensor) -> None:
    found = responses(initialized(name, light, method), light)
    convs = {key: out for key, out in found.items() if not key.endswith("input") and key != "logits"}
    assert len(convs) == (22 if name == "eccv16" else 7)
    for layer, out in convs.items():
        assert out.std().item() == pytest.approx(1, abs=0.02), layer
        if method == "kmeans":
            deviation, mean = torch.std_mean(out, dim=(0, 2, 3))
            assert (mean.abs() < 0.02).all() and ((deviation - 1).abs() < 0.02).all(), layer
    # Plain PyTorch is nothing like it, so the property is not free.
    plain = responses(initialized(name, light, "plain"), light)
    assert min(plain[layer].std().item() for layer in convs) < 0.5


@pytest.mark.parametrize("method", ["kmeans", "lsuv"])
@pytest.mark.parametrize("name", ["eccv16", "alexnet"])
def test_running_statistics_are_those_of_the_photos(name: str, method: InitMethod, light: Tensor) -> None:
    model = initialized(name, light, method)
    found = responses(model, light)
    norms = {key: module for key, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)}
    assert norms
    for key, norm in norms.items():
        variance, mean = torch.var_mean(found[f"{key} input"], dim=(0, 2, 3))
        assert norm.running_mean is not None and torch.allclose(norm.running_mean, mean, atol=1e-4), key
        assert norm.running_var is not None and torch.allclose(norm.running_var, variance, atol=1e-4), key


def test_the_norms_get_their_momentum_back(light: Tensor) -> None:
    model = initialized("eccv16", light, "kmeans")
    assert {module.momentum for module in model.modules() if isinstance(module, nn.BatchNorm2d)} == {0.1}
    assert not model.training and not any(module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("method", ["kmeans", "lsuv"])
def test_the_first_prediction_is_the_given_constant(method: InitMethod, light: Tensor) -> None:
    bias = torch.linspace(-3, 3, 313)
    model = initialized("eccv16", light, method, bias=bias)
    with torch.inference_mode():
        off = model(light) - bias.view(1, -1, 1, 1)
    assert torch.equal(model.get_submodule("logits").bias, bias)
    assert off.std().item() == pytest.approx(LOGIT_DEVIATION, rel=0.05)
    assert off.mean(dim=(0, 2, 3)).abs().max() < 5 * LOGIT_DEVIATION
    assert not initialized("eccv16", light, method).get_submodule("logits").bias.any()


@pytest.mark.parametrize("method", ["kmeans", "lsuv"])
def test_the_seed_decides(method: InitMethod, light: Tensor) -> None:
    one, same, other = (initialized("eccv16", light, method, seed=seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(value, same[key]) for key, value in one.items())
    assert not torch.equal(one["conv4.0.weight"], other["conv4.0.weight"])


def test_plain_changes_nothing(light: Tensor) -> None:
    torch.manual_seed(0)
    untouched = create_model("eccv16", width=0.125).state_dict()
    bias = torch.ones(313)
    state = initialized("eccv16", light, "plain", bias=bias).state_dict()
    assert all(torch.equal(value, untouched[key]) for key, value in state.items())


def test_orthogonal_filters(light: Tensor) -> None:
    weight = initialized("eccv16", light, "lsuv").get_submodule("conv4.2").weight.flatten(1)
    gram = weight @ weight.T
    assert torch.allclose(gram / gram[0, 0], torch.eye(len(gram)), atol=1e-4)


def test_first_kmeans_filters_are_patterns_of_the_photos(light: Tensor) -> None:
    # Vertical stripes: filters learned from them change across the stripes, and hardly along.
    stripes = 50 + 40 * torch.sin(torch.arange(48) * 1.3).view(1, 1, 1, -1).expand(8, 1, 48, 48)
    stripes = stripes * torch.linspace(0.2, 1, 8).view(-1, 1, 1, 1)
    learned = initialized("eccv16", stripes, "kmeans").get_submodule("conv1.0").weight
    random = initialized("eccv16", stripes, "lsuv").get_submodule("conv1.0").weight

    def vertical_change(weight: Tensor) -> float:
        share = weight.diff(dim=2).square().sum((1, 2, 3)) / weight.square().sum((1, 2, 3))
        return share.median().item()

    # The median: a filter or two see the border, where the padding begins.
    assert vertical_change(learned) < 0.2 < 0.5 < vertical_change(random)


@pytest.mark.parametrize("name", ["eccv16", "alexnet"])
@pytest.mark.parametrize("side", [8, 16])
def test_few_tiny_photos_will_do(name: str, side: int, light: Tensor) -> None:
    # Fewer patches than filters, and maps smaller than a dilated kernel.
    model = initialized(name, light[:2, :, :side, :side].clone(), "kmeans")
    assert all(value.isfinite().all() for value in chain(model.parameters(), model.buffers()))


def test_a_flat_photo_leaves_finite_weights() -> None:
    for method in ("kmeans", "lsuv"):
        model = initialized("eccv16", torch.full((4, 1, 16, 16), 50.0), method)  # type: ignore[arg-type]
        assert all(value.isfinite().all() for value in model.state_dict().values())


# ---- what it is for -------------------------------------------------------------------------------------------------


def below_constant(photos: Tensor, method: InitMethod, *, seed: int, constant_bias: bool, steps: int = 80) -> float:
    """Train a small network; the mean rebalanced loss of the last 20 steps less that of the best constant."""
    statistics = ColorStatistics()
    statistics.update(subsampled_ab(photos, 4))
    class_weights = rebalance_weights(statistics.prior())
    constant = (0.999 * statistics.best_constant(class_weights) + 1e-3 / 313).float()
    torch.manual_seed(seed)
    model = create_model("eccv16", width=0.125)
    initialize(model, rgb_to_lightness(photos[:, :, :48, :48]), method=method, output_bias=constant.log(), seed=seed)
    if constant_bias:
        with torch.no_grad():
            model.get_parameter("logits.bias").copy_(constant.log())
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, betas=(0.9, 0.99))
    generator = torch.Generator().manual_seed(seed)
    differences = []
    model.train()
    for _ in range(steps):
        chosen = torch.randint(len(photos), (8,), generator=generator)
        top, left = torch.randint(33, (2,), generator=generator).tolist()
        targets = make_targets(photos[chosen, :, top : top + 32, left : left + 32], class_weights, stride=4)
        weighting = (targets.indices, targets.weights, targets.pixel_weights)
        loss, _ = soft_cross_entropy(model(targets.lightness), *weighting)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        flat = constant_cross_entropy(constant, targets.indices, targets.weights) * targets.pixel_weights
        differences.append(loss.item() - flat.mean().item())
    return sum(differences[-20:]) / 20


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_training_from_it_beats_the_constant_color_where_plain_weights_are_slower(photos: Tensor, seed: int) -> None:
    lsuv, kmeans, plain = (
        below_constant(photos, method, seed=seed, constant_bias=False) for method in ("lsuv", "kmeans", "plain")
    )
    assert max(lsuv, kmeans) < -0.05 < 0 < plain
    # Not only because it starts at the constant's own bias.
    assert kmeans < below_constant(photos, "plain", seed=seed, constant_bias=True)
