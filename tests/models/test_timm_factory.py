"""Published weights of three channels in networks of one: gray photos give the maps that they gave before."""

from pathlib import Path

import pytest
import timm
import torch
from torch import Tensor, nn

from ssl_colorize.color import rgb_to_lightness
from ssl_colorize.errors import UserError
from ssl_colorize.models import create_model
from ssl_colorize.models.backbone import TimmColorizer
from ssl_colorize.models.timm_factory import parse_name

# Stems with a bias, with BatchNorm after them, with several branches; means of 0.5, and ImageNet's.
SMALL_CONVNEXT = "convnext_atto,dims=(8,16,24,32),depths=(1,1,1,1)"
SMALL_REGNET = "regnetx_002,w0=8,wa=8,wm=2.0,depth=6,group_size=8"
SMALL_REPVGG = "repvgg_a0,width_factor=0.25"


def published(name: str, folder: Path) -> tuple[nn.Module, Path]:
    """timm's model with weights and statistics that are no beginner's, and the file that it might come in."""
    torch.manual_seed(0)
    plain, options = parse_name(name)
    model: nn.Module = timm.create_model(plain, **options).eval()
    with torch.no_grad():
        for weights in model.parameters():
            weights.add_(0.02 * torch.randn_like(weights))
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.3)
                module.running_var.uniform_(0.5, 2)
    torch.save(model.state_dict(), folder / "weights.pth")
    return model, folder / "weights.pth"


def made(name: str) -> TimmColorizer:
    torch.manual_seed(1)
    model = create_model(f"timm:{name}")
    assert isinstance(model, TimmColorizer)
    return model.eval()


def both_maps(name: str, folder: Path) -> list[tuple[Tensor, Tensor]]:
    """Maps of a gray photo by timm's model on its own normalization, and by ours on its lightness."""
    plain, file = published(name, folder)
    model = made(name)
    assert model.load_imagenet(file) == ("body",)
    gray = torch.rand(2, 1, 96, 96).repeat(1, 3, 1, 1)
    mean, std = (torch.tensor(plain.pretrained_cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
    with torch.inference_mode():
        theirs = plain.forward_intermediates((gray - mean) / std, output_fmt="NCHW", intermediates_only=True)
        ours = model.forward_features(rgb_to_lightness(gray), model.layers)
    return list(zip(theirs, ours.values(), strict=True))


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_convnext", SMALL_CONVNEXT])
def test_a_gray_photo_gives_the_same_maps(name: str, tmp_path: Path) -> None:
    # Means of 0.5, or a stem without padding: the same everywhere.
    for theirs, ours in both_maps(name, tmp_path):
        assert (theirs - ours).abs().max() < 2e-4 * theirs.abs().max()


@pytest.mark.parametrize("name", [SMALL_REGNET, SMALL_REPVGG])
def test_what_differs_by_the_colors_means_goes_into_the_norm(name: str, tmp_path: Path) -> None:
    theirs, ours = both_maps(name, tmp_path)[0]
    inside = (..., slice(1, -1), slice(1, -1))
    assert (theirs[inside] - ours[inside]).abs().max() < 2e-4 * theirs.abs().max()
    # Padding was the mean color, and is the mean gray.
    assert (theirs - ours).abs().max() < 0.1 * theirs.abs().max()


def test_plain_sums_would_not_do(tmp_path: Path) -> None:
    plain, file = published(SMALL_CONVNEXT, tmp_path)
    model = made(SMALL_CONVNEXT)
    model.load_imagenet(file)
    summed = plain.get_submodule("stem.0").weight.sum(1, keepdim=True)
    ratio = model.body.get_submodule("stem.0").weight / summed
    # Red, green and blue have deviations of 0.229, 0.224 and 0.225.
    assert not torch.allclose(ratio, torch.ones_like(ratio), atol=1e-4)
    assert ratio.median().item() == pytest.approx(1, abs=0.02)


def test_everything_else_is_the_published_and_the_head_stays(tmp_path: Path) -> None:
    plain, file = published("test_resnet", tmp_path)
    model = made("test_resnet")
    head = {key: value.clone() for key, value in model.state_dict().items() if not key.startswith("body.")}
    model.load_imagenet(file)
    theirs = plain.state_dict()
    for key, value in model.body.state_dict().items():
        if key != "conv1.0.weight":
            assert torch.equal(value, theirs[key]), key
    assert all(torch.equal(model.state_dict()[key], value) for key, value in head.items())


def test_other_models_weights_are_refused(tmp_path: Path) -> None:
    _, file = published("test_resnet", tmp_path)
    with pytest.raises(UserError, match="timm cannot make 'test_vit'"):
        made("test_vit").load_imagenet(file)


def test_weights_that_cannot_be_had_are_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    make = timm.create_model

    def unreachable(*arguments: object, **options: object) -> nn.Module:
        if options.get("pretrained"):
            raise OSError("no route to the hub\nmore words")
        made: nn.Module = make(*arguments, **options)
        return made

    model = made("test_resnet")
    monkeypatch.setattr(timm, "create_model", unreachable)
    with pytest.raises(UserError, match="timm cannot make 'test_resnet': no route to the hub") as caught:
        model.load_imagenet()
    assert "\n" not in str(caught.value)
