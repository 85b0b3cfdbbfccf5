"""Who colors: names, temperatures, and what each method gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ssl_colorize.color import rgb_to_lab
from ssl_colorize.colorize import Colorizer
from ssl_colorize.errors import UserError
from ssl_colorize.models import Pretrained, create_model, save_pretrained
from ssl_colorize.score.methods import (
    Gray,
    Random,
    Scene,
    Trained,
    Truth,
    feature_bytes,
    load_methods,
)
from ssl_colorize.score.scorer import recolored


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """`tiny`, which predicts distributions, and `flat`, which predicts ab."""
    torch.manual_seed(0)
    for name, objective, outputs in (("tiny", "class", 313), ("flat", "l2", 2)):
        (tmp_path / name).mkdir()
        model = create_model("eccv16", width=0.125, outputs=outputs)
        pretrained = Pretrained(model=model, input_size=36, objective=objective)  # type: ignore[arg-type]
        save_pretrained(pretrained, tmp_path / name / "model.safetensors")
    return tmp_path


def scene(rgb: Tensor, other: Tensor | None = None) -> Scene:
    return Scene(rgb, rgb_to_lab(rgb), other)


def test_truth_gray_and_random(photos: Tensor) -> None:
    photo, other = photos[0], photos[9]
    assert torch.equal(Truth().ab(scene(photo)), rgb_to_lab(photo)[1:])
    assert not Gray().ab(scene(photo)).any() and Gray().ab(scene(photo)).shape == (2, 64, 64)
    assert torch.equal(Random().ab(scene(photo, other)), rgb_to_lab(other)[1:])


def test_random_with_the_same_photo_is_truth(photos: Tensor) -> None:
    same = scene(photos[5], photos[5])
    assert torch.equal(Random().ab(same), Truth().ab(same))


def test_the_true_colors_give_the_very_photo(photos: Tensor) -> None:
    for photo in photos[::5]:
        assert torch.equal(recolored(rgb_to_lab(photo), rgb_to_lab(photo)[1:]), photo)


def test_a_network_colors_as_colorize_does(runs: Path, photos: Tensor) -> None:
    (method,) = load_methods([str(runs / "tiny")], temperatures=[0.7], device="cpu")
    assert isinstance(method, Trained) and method.name == "tiny"
    colorizer = Colorizer.load(runs / "tiny", device="cpu")
    pixels = photos[3].permute(1, 2, 0).numpy()
    ab = method.ab(scene(photos[3]))
    assert torch.equal(ab, colorizer.ab(pixels, 0.7))
    picture = torch.from_numpy(np.array(colorizer.colorize(pixels, 0.7))).permute(2, 0, 1)
    assert torch.equal(recolored(rgb_to_lab(photos[3]), ab), picture)


def test_a_network_is_not_shown_colors(runs: Path, photos: Tensor) -> None:
    (method,) = load_methods([str(runs / "tiny")], device="cpu")
    lab = rgb_to_lab(photos[3])
    # The same lightness, other colors: to 8 bits, and so is the answer.
    other = recolored(lab, -lab[1:])
    assert (other.float() - photos[3].float()).abs().max() > 20
    assert (method.ab(scene(other)) - method.ab(scene(photos[3]))).abs().max() < 0.5


def test_temperatures_make_rows_of_networks_with_distributions(runs: Path) -> None:
    asked = ["truth", f"full={runs / 'tiny'}", f"l2={runs / 'flat'}"]
    names = [method.name for method in load_methods(asked, temperatures=[0, 0.38, 1], device="cpu")]
    assert names == ["truth", "full@0", "full@0.38", "full@1", "l2"]
    one = load_methods(asked, temperatures=[0.5], device="cpu")
    assert [method.name for method in one] == ["truth", "full", "l2"]
    assert isinstance(one[1], Trained) and one[1].temperature == 0.5


def test_costs_by_hand(runs: Path) -> None:
    (method,) = load_methods([str(runs / "tiny")], device="cpu")
    assert isinstance(method, Trained)
    numbers = sum(each.numel() for each in create_model("eccv16", width=0.125).parameters())
    assert method.parameters == 4 * numbers
    # 36 px are padded to 40, a multiple of 8.
    assert method.features == feature_bytes(method.colorizer.pretrained.model, torch.full((1, 1, 40, 40), 50.0))

    layers = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Flatten())
    # The convolution's 3 x 8 x 8 and the pool's 3 x 4 x 4 with as many int64 indices; ReLU is in place, flattening a
    # view.
    assert feature_bytes(layers, torch.zeros(1, 1, 8, 8)) == 4 * 3 * 64 + (4 + 8) * 3 * 16


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["gray", "gray"], "'gray'"),
        (["protocol=truth"], "'protocol'"),
        (["nowhere/run"], "nowhere/run"),
        (["full=nowhere/run"], "truth, gray, random"),
    ],
)
def test_mistakes(asked: list[str], said: str) -> None:
    with pytest.raises(UserError) as caught:
        load_methods(asked, device="cpu")
    assert said in str(caught.value)


@pytest.mark.parametrize(("model", "outputs"), [("alexnet", 313), ("dahl", 2), ("larsson", 64)])
def test_other_networks_are_methods_as_well(model: str, outputs: int, tmp_path: Path, photos: Tensor) -> None:
    objective = "class" if model == "alexnet" else model
    network = create_model(model, width=0.0625, outputs=outputs)
    pretrained = Pretrained(model=network, input_size=64, objective=objective)  # type: ignore[arg-type]
    save_pretrained(pretrained, tmp_path / "model.safetensors")
    methods = load_methods([f"it={tmp_path}"], temperatures=[0, 1], device="cpu")
    # Only a distribution over colors has a temperature.
    assert [method.name for method in methods] == (["it@0", "it@1"] if model == "alexnet" else ["it"])
    assert methods[0].parameters and methods[0].features
    ab = methods[0].ab(scene(photos[0]))
    assert ab.shape == (2, 64, 64) and bool(ab.isfinite().all())


def test_any_method_takes_a_name(tmp_path: Path) -> None:
    assert [method.name for method in load_methods(["a=random", "b=random", "truth"])] == ["a", "b", "truth"]
