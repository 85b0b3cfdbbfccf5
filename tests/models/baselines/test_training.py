"""Dahl's and Larsson's colorizers from their training to colored photos."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from skimage.color import rgb2lab
from torch import Tensor
from torchvision.models import vgg

from ssl_colorize.color import rgb_to_lightness
from ssl_colorize.colorize import Colorizer
from ssl_colorize.encoder import load_encoder
from ssl_colorize.engine.log import read_log
from ssl_colorize.models import ColorizationModel, Pretrained, create_model, load_pretrained, save_pretrained
from ssl_colorize.models.baselines.dahl import rgb_to_luma
from ssl_colorize.models.baselines.larsson import rgb_to_mean
from ssl_colorize.models.init import initialize
from ssl_colorize.pretrain.config import Recipe
from ssl_colorize.pretrain.loop import train
from ssl_colorize.pretrain.start import count_statistics
from ssl_colorize.report.checkpoint import describe

BASELINES = ("dahl", "larsson")
WEIGHTS = "ssl_colorize.models.baselines.vgg.imagenet_weights"


@pytest.fixture
def recipe(photo_folder: Path) -> Recipe:
    return Recipe(
        data=(str(photo_folder),), resize=(32, 40), crop=32, holdout=0.2, width=0.125, init_photos=8, prior_photos=16,
        batch_size=4, steps=3, warmup=2, evaluate_every=40, checkpoint_every=40, workers=0, device="cpu",
        precision="fp32",
    )  # fmt: skip


def changed(recipe: Recipe, model: str, **values: Any) -> Recipe:
    own = {"model": model, "objective": model, "rebalance": False}
    return Recipe.checked(recipe.model_dump() | own | values)


@pytest.mark.parametrize(("model", "rate"), [("dahl", 1e-2), ("larsson", 3e-3)])
def test_a_few_steps_learn_a_few_photos(photos: Tensor, model: str, rate: float) -> None:
    photos, recipe = photos[::4, :, :32, :32], Recipe(model=model)
    kind = recipe.objective_type
    objective = kind(count_statistics([photos], recipe, stride=1, best=kind.best_constant())[0], stride=1)
    torch.manual_seed(0)
    network = create_model(model, width=0.125)
    inputs = objective.examples(photos, training=True).inputs
    initialize(network, *inputs, method="lsuv", output_bias=objective.output_bias)
    optimizer = torch.optim.Adam(network.train().parameters(), lr=rate)
    losses = []
    for _ in range(20):
        examples = objective.examples(photos, training=True)
        loss = objective.losses(network(*examples.inputs), examples)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    examples = objective.examples(photos, training=False)
    sums = objective.sums(network(*examples.inputs), examples)
    constant = sums["loss_constant"].item() / objective.colors(network(*examples.inputs), examples)[1][:, 0].numel()
    # It starts near the best constant, and leaves it.
    assert losses[0] == pytest.approx(constant, rel=0.2)
    assert np.mean(losses[-3:]) < 0.75 * constant


@pytest.mark.parametrize("model", BASELINES)
def test_from_photos_to_colors(recipe: Recipe, tmp_path: Path, model: str) -> None:
    run = tmp_path / "run"
    run.mkdir()
    metrics = train(changed(recipe, model), run)["metrics"]
    log = read_log(run)
    assert metrics["kl"] is metrics["cross_entropy"] is None
    names = ("loss", "loss_constant", "chroma", "chroma_true", "spread", "spread_true")
    assert all(math.isfinite(metrics[name]) for name in names)
    if model == "larsson":
        assert log[-1]["loss"] == pytest.approx(5 * log[-1]["hue_kl"] + log[-1]["chroma_kl"], rel=1e-4)
        assert metrics["loss"] == pytest.approx(5 * metrics["hue_kl"] + metrics["chroma_kl"], rel=1e-4)

    pretrained = load_pretrained(run)
    assert (pretrained.model.name, pretrained.objective, pretrained.mix) == (model, model, None)
    about = describe(pretrained)
    assert about["objective"] == model and about["layers"][-1]["stride"] == 1
    colors(Colorizer(pretrained))


def colors(colorizer: Colorizer) -> None:
    """Odd sizes, and a view that is no multiple of anything."""
    chance = np.random.default_rng(0)
    for height, width, size in ((37, 53, None), (1, 1, None), (61, 35, 45), (20, 90, None)):
        photo = chance.integers(0, 256, (height, width, 3), dtype=np.uint8)
        ab = colorizer.ab(photo, size=size)
        assert ab.shape == (2, height, width) and ab.isfinite().all()
        assert ab.norm(dim=0).max() > 1, "it did not color anything"
        colored = np.asarray(colorizer.colorize(photo, size=size))
        assert colored.shape == photo.shape
        assert np.abs(rgb2lab(colored)[..., 0] - rgb2lab(photo)[..., 0]).max() < 0.25


@pytest.mark.parametrize("model", BASELINES)
def test_the_colors_of_a_photo_are_not_looked_at(recipe: Recipe, model: str) -> None:
    torch.manual_seed(0)
    network = create_model(model, width=0.125).eval()
    gray = {"dahl": rgb_to_luma, "larsson": rgb_to_mean}[model]
    red = torch.tensor([200, 30, 70], dtype=torch.uint8).view(3, 1, 1)
    value = round(255 * gray(red).item())
    assert network.light(red).item() == pytest.approx(100 * gray(red).item())
    # Of a gray pixel every definition is its value.
    neutral = torch.full((3, 1, 1), value, dtype=torch.uint8)
    assert network.light(neutral).item() == pytest.approx(100 * value / 255, abs=1e-4)
    assert abs(rgb_to_lightness(red).item() - rgb_to_lightness(neutral).item()) > 1, "it has a gray of its own"


@pytest.mark.parametrize("model", BASELINES)
@torch.inference_mode()
def test_encoders_see_what_the_network_was_trained_on(tmp_path: Path, photos: Tensor, model: str) -> None:
    torch.manual_seed(0)
    network = create_model(model, width=0.0625).eval()
    save_pretrained(Pretrained(model=network, objective=model), tmp_path / "model.safetensors")
    encoder = load_encoder(tmp_path)
    maps = encoder(photos[:2], ("conv2",))["conv2"]
    assert torch.allclose(maps, network.forward_features(network.light(photos[:2]), ("conv2",))["conv2"], atol=1e-5)
    # Grays are the same by their lightness.
    grays = photos[:2, :1].expand(-1, 3, -1, -1)
    by_lightness = encoder(rgb_to_lightness(grays), ("conv2",))["conv2"]
    assert torch.allclose(encoder(grays, ("conv2",))["conv2"], by_lightness, atol=1e-3)


def test_the_prior_is_counted_as_for_other_networks(recipe: Recipe, tmp_path: Path) -> None:
    priors = []
    for name, own in (("eccv16", recipe), ("dahl", changed(recipe, "dahl"))):
        (tmp_path / name).mkdir()
        train(own.model_copy(update={"steps": 1}), tmp_path / name)
        priors.append(load_pretrained(tmp_path / name).prior)
    assert torch.equal(*priors)


def test_an_imagenet_trunk_is_filled_and_stays_frozen(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(1)
    features = vgg.make_layers(vgg.cfgs["D"])
    weights = {f"features.{key}": value for key, value in features.state_dict().items()}
    monkeypatch.setattr(WEIGHTS, lambda: weights)
    recipe = changed(recipe, "dahl", trunk="imagenet", width=1.0, batch_size=2, steps=2, optimizer="muon")
    train(recipe, tmp_path)
    state = load_pretrained(tmp_path).model.state_dict()
    for ours, theirs in (("conv1.0", 0), ("conv1.2", 2), ("conv3.0", 10), ("conv4.4", 21)):
        assert torch.equal(state[f"{ours}.weight"], weights[f"features.{theirs}.weight"])
        assert torch.equal(state[f"{ours}.bias"], weights[f"features.{theirs}.bias"])
    # A resumed run needs no weights but its own, and does not thaw.
    monkeypatch.setattr(WEIGHTS, None)
    longer = recipe.model_copy(update={"steps": 3})
    train(longer, tmp_path, resume=True)
    after = load_pretrained(tmp_path).model.state_dict()
    assert torch.equal(after["conv4.4.weight"], state["conv4.4.weight"])
    assert not torch.equal(after["up4.0.weight"], state["up4.0.weight"])


def test_taps_beyond_the_training_photos_begin_at_nothing() -> None:
    # 32 px leave one cell for fc6, 96 px three: of its 7 x 7 taps only some ever meet it.
    for side, reach in ((32, 0), (96, 2)):
        model: ColorizationModel = create_model("larsson", width=0.0625)
        light = 100 * torch.rand(4, 1, side, side, generator=torch.Generator().manual_seed(0))
        initialize(model, light, torch.randint(side, (4, 128, 2)), method="lsuv")
        taps = model.get_submodule("fc6.0").weight.abs().sum((0, 1)) > 0  # type: ignore[union-attr,operator]
        wanted = torch.zeros(7, 7, dtype=torch.bool)
        wanted[3 - reach : 4 + reach, 3 - reach : 4 + reach] = True
        assert torch.equal(taps, wanted)
        # Every part of the hypercolumn has its say from the beginning.
        for part in model.hidden:  # type: ignore[union-attr]
            assert part.weight.abs().max() > 0
