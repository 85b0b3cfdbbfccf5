"""Fine-tuning colorization networks that are timm's models: by their layers' names, and from their own files again."""

from pathlib import Path

import pytest
import torch
from annotated_sets import scenes
from torch import nn

from ssl_colorize.encoder import load_encoder
from ssl_colorize.finetune.building import MODEL_NAME, architecture, load_finetuned, rebuilt_encoder
from ssl_colorize.finetune.classification import ClassificationSettings
from ssl_colorize.finetune.segmentation import Segmentation, SegmentationSettings
from ssl_colorize.finetune.trainer import finetune
from ssl_colorize.models import Pretrained, create_model, save_pretrained
from ssl_colorize.models.pretrained import read_weights, write_weights

NAME = "timm:test_resnet"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A pretrained network's file."""
    torch.manual_seed(0)
    path = tmp_path / "model.safetensors"
    save_pretrained(Pretrained(create_model(NAME).eval(), input_size=64), path)
    return path


def test_the_same_network_again(run: Path) -> None:
    about = architecture(load_encoder(run))
    assert (about["model"], about["width"]) == (NAME, 1)
    again = rebuilt_encoder(about)
    assert again.layers == load_encoder(run).layers and again.input_size == 64
    assert list(again.state_dict()) == list(load_encoder(run).state_dict())


def test_a_classifier_is_trained_and_comes_back(run: Path, classes: Path, tmp_path: Path) -> None:
    settings = ClassificationSettings(
        encoder=str(run), train_from="layer4", data=(str(classes),), size=40, crop=32, batch_size=8, epochs=1,
        learning_rates=(0.01,), choosing=0.3, warmup=0, workers=0, device="cpu", precision="fp32",
        checkpoint_every=100, choose_length=False, refit=False,
    )  # fmt: skip
    out = tmp_path / "out"
    out.mkdir()
    finetune("classification", settings, out)
    found = load_finetuned(out)
    before = load_encoder(run).state_dict()
    after = {key.removeprefix("backbone."): value for key, value in found.model.state_dict().items()}
    moved = {key.split(".")[3] for key, value in before.items() if not torch.equal(value, after[key])}
    assert moved == {"layer4"}


def test_a_segmenter_reads_a_pyramid_of_its_stages(run: Path, tmp_path: Path) -> None:
    settings = SegmentationSettings.checked(
        {"encoder": str(run), "data": str(scenes(tmp_path / "voc")), "size": 64, "workers": 0, "hidden": 16}
    )
    task = Segmentation.open(settings, say=lambda line: None)
    encoder = load_encoder(run)
    assert task.layers(encoder) == ("layer2", "layer3", "layer4")
    model = task.build(encoder.trainable(task.layers(encoder)))
    assert isinstance(model, nn.Module)
    with torch.inference_mode():
        assert model.eval()(torch.zeros(1, 3, 64, 96, dtype=torch.uint8)).shape[:2] == (1, 21)


def test_a_model_of_the_first_version_comes_back(classes: Path, tmp_path: Path) -> None:
    # Other names of the encoder, of two settings and of the weights that see color.
    settings = ClassificationSettings(
        encoder="random:timm-lightness:test_resnet", color=True, data=(str(classes),), size=40, crop=32, batch_size=8,
        steps=1, epochs=None, learning_rates=(0.01,), warmup=0, workers=0, device="cpu", precision="fp32",
        choose_length=False,
    )  # fmt: skip
    finetune("classification", settings, tmp_path)
    path = tmp_path / MODEL_NAME
    expected = load_finetuned(path).model.state_dict()
    about, tensors = read_weights(path, kind="finetuned", writer="")
    about["encoder"] = about["settings"]["encoder"] = "random:timm:test_resnet"
    for now, before in (("color", "colour"), ("normalize", "normalise")):
        about["settings"][before] = about["settings"].pop(now)
    former = {key.replace(".gray.", ".grey."): value for key, value in tensors.items()}
    assert former.keys() != tensors.keys()
    write_weights(path, former, about | {"format": "ssl-colorize finetuned 1"}, kind="finetuned")
    found = load_finetuned(path).model.state_dict()
    assert found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in found)


def test_a_network_of_timm_s_by_its_former_name() -> None:
    again = rebuilt_encoder({"encoder": "timm-random:test_resnet@L", "layers": ["layer1"]})
    assert again.name == "random:timm-rgb:test_resnet@L"
