"""Who colors: names, temperatures, and what each method gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from ssl_colorize.color import rgb_to_lab
from ssl_colorize.colorize import Colorizer, gray
from ssl_colorize.data import open_photos
from ssl_colorize.errors import UserError
from ssl_colorize.models import Pretrained, create_model, save_pretrained
from ssl_colorize.score.methods import (
    Gray,
    Network,
    Random,
    Scene,
    Truth,
    feature_bytes,
    load_methods,
    named_source,
    recolored,
)
from ssl_colorize.score.photos import center_crop


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
    return Scene("photo", rgb, rgb_to_lab(rgb), other)


def test_truth_gray_and_random(photos: Tensor) -> None:
    photo, other = photos[0], photos[9]
    assert torch.equal(Truth("truth").ab(scene(photo)), rgb_to_lab(photo)[1:])
    assert not Gray("gray").ab(scene(photo)).any() and Gray("gray").ab(scene(photo)).shape == (2, 64, 64)
    assert torch.equal(Random("random").ab(scene(photo, other)), rgb_to_lab(other)[1:])


def test_random_with_the_same_photo_is_truth(photos: Tensor) -> None:
    same = scene(photos[5], photos[5])
    assert torch.equal(Random("random").ab(same), Truth("truth").ab(same))


def test_the_true_colors_give_the_very_photo(photos: Tensor) -> None:
    for photo in photos[::5]:
        assert torch.equal(recolored(rgb_to_lab(photo), rgb_to_lab(photo)[1:]), photo)


def test_a_network_colors_as_colorize_does(runs: Path, photos: Tensor) -> None:
    (method,) = load_methods([str(runs / "tiny")], temperatures=[0.7], device="cpu")
    assert isinstance(method, Network) and method.name == "tiny"
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
    assert isinstance(one[1], Network) and one[1].temperature == 0.5


def test_costs_by_hand(runs: Path) -> None:
    (method,) = load_methods([str(runs / "tiny")], device="cpu")
    assert isinstance(method, Network)
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
        (["=truth"], "NAME=SOURCE"),
        (["a="], "NAME=SOURCE"),
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


def test_names_of_methods(tmp_path: Path) -> None:
    given = ["full=runs/x", "runs/l2", "weights/class.safetensors", "random", "gray=gray"]
    assert [named_source(each)[0] for each in given] == ["full", "l2", "class", "random", "gray"]
    there = tmp_path / "rate=0.001" / "full"
    there.mkdir(parents=True)
    assert named_source(str(there)) == ("full", str(there))
    assert named_source(f"mine={there}") == ("mine", str(there))


# ---- folders of pictures ---------------------------------------------------------------------------------------------


@pytest.fixture
def theirs(photo_folder: Path, tmp_path: Path) -> Path:
    """The photos of `photo_folder` in gray, as another program might leave them."""
    (tmp_path / "theirs").mkdir()
    for path in photo_folder.iterdir():
        gray(path).save(tmp_path / "theirs" / path.name)
    return tmp_path / "theirs"


def check(folder: Path, photos: Path) -> str:
    """What is wrong with a folder of pictures of some photos."""
    (method,) = load_methods([f"theirs={folder}"])
    with pytest.raises(UserError) as caught:
        method.check(open_photos([str(photos)], split="all"))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_folder_gives_the_ab_of_its_pictures(photo_folder: Path, theirs: Path) -> None:
    truth, colorless = load_methods([f"a={photo_folder}", f"b={theirs}"])
    photo = center_crop(Image.open(photo_folder / "photo03.png"), 40)
    it = Scene("photo03.png", photo, rgb_to_lab(photo))
    assert torch.equal(truth.ab(it), it.lab[1:])
    assert float(colorless.ab(it).abs().max()) < 0.01
    truth.check(open_photos([str(photo_folder)], split="all"))


def test_pictures_may_have_other_endings_and_sizes(photo_folder: Path, theirs: Path) -> None:
    for path in list(theirs.iterdir()):
        Image.new("RGB", (144, 120), "orange").save(path.with_suffix(".webp"), lossless=True)
        path.unlink()
    (method,) = load_methods([f"theirs={theirs}"])
    method.check(open_photos([str(photo_folder)], split="all"))
    photo = center_crop(Image.open(photo_folder / "photo03.png"), 40)
    ab = method.ab(Scene("photo03.png", photo, rgb_to_lab(photo)))
    orange = rgb_to_lab(torch.tensor([255, 165, 0], dtype=torch.uint8).view(3, 1, 1))[1:]
    assert float((ab - orange).abs().max()) < 0.01


def test_pictures_that_are_missing_or_doubled_are_named(photo_folder: Path, theirs: Path) -> None:
    for number in (0, 1, 2, 4, 5):
        (theirs / f"photo{number:02}.png").unlink()
    Image.new("RGB", (48, 40)).save(theirs / "photo06.jpg")
    said = check(theirs, photo_folder)
    assert f"{theirs} do not fit the 14 photos: 5 missing (photo00.png, photo01.png, photo02.png, ...)" in said
    assert "1 doubled (photo06.jpg and photo06.png)" in said


def test_pictures_that_are_broken_or_of_another_shape_are_named(photo_folder: Path, theirs: Path) -> None:
    whole = (theirs / "photo07.png").read_bytes()
    (theirs / "photo07.png").write_bytes(whole[: len(whole) // 2])
    (theirs / "photo09.png").write_bytes(b"no picture")
    Image.new("RGB", (64, 64)).save(theirs / "photo08.png")
    said = check(theirs, photo_folder)
    assert f"2 unreadable ({theirs / 'photo07.png'}: " in said
    assert "1 of another shape (photo08.png 64 x 64 for 48 x 40)" in said


def test_one_picture_cannot_be_that_of_two_photos(photo_folder: Path, theirs: Path) -> None:
    Image.new("RGB", (48, 40)).save(photo_folder / "photo03.jpg")
    assert "1 doubled (photo03.jpg and photo03.png)" in check(theirs, photo_folder)


def test_a_photo_that_cannot_be_read_needs_no_picture(photo_folder: Path, theirs: Path) -> None:
    (photo_folder / "photo03.png").write_bytes(b"no photo")
    (theirs / "photo03.png").unlink()
    (method,) = load_methods([str(theirs)])
    method.check(open_photos([str(photo_folder)], split="all"))


def test_a_folder_with_weights_is_a_run(runs: Path) -> None:
    Image.new("RGB", (48, 40)).save(runs / "tiny" / "samples.png")
    assert isinstance(load_methods([str(runs / "tiny")], device="cpu")[0], Network)
    (runs / "stopped").mkdir()
    (runs / "stopped" / "checkpoint.pt").write_bytes(b"")
    with pytest.raises(UserError, match=r"holds no model\.safetensors"):
        load_methods([str(runs / "stopped")], device="cpu")
    (runs / "empty").mkdir()
    with pytest.raises(UserError, match="empty holds no photos"):
        load_methods([str(runs / "empty")], device="cpu")
