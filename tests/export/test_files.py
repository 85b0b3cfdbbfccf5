"""Weights as files: our own, timm's, and a hub's folder with its card; and what is refused."""

import json
from pathlib import Path

import pytest
import timm
import torch
from safetensors import safe_open
from saved_networks import Save

from ssl_colorize.encoder import load_encoder
from ssl_colorize.errors import UserError
from ssl_colorize.export.config import ExportSettings
from ssl_colorize.export.files import export
from ssl_colorize.export.hub import publishable
from ssl_colorize.models import load_pretrained


def settings(source: Path, **options: object) -> ExportSettings:
    return ExportSettings(source=str(source), **options)  # type: ignore[arg-type]


def same_maps(model: torch.nn.Module, source: Path, *, channels: int = 3) -> None:
    """A timm model gives the last map that the encoder gives."""
    # Of sides that are whole multiples of every stride: others timm takes as they are, and load_encoder pads.
    photos = torch.rand(2, channels, 32, 64) * (1 if channels == 3 else 100)
    encoder = load_encoder(source)
    last = encoder.layers[-1]
    with torch.inference_mode():
        found, expected = model.eval().forward_features(photos), encoder(photos, [last])[last]  # type: ignore[operator]
    assert expected.std() > 0 and (found - expected).abs().max() < 1e-4 * expected.abs().max()


def test_safetensors_is_the_whole_network(saved: Save, tmp_path: Path) -> None:
    source = saved()
    export(settings(source, to="safetensors"), tmp_path)
    found, wanted = load_pretrained(tmp_path), load_pretrained(source)
    assert all(torch.equal(found.model.state_dict()[key], each) for key, each in wanted.model.state_dict().items())
    # All of the record but where the photos lay.
    assert found.training == publishable(wanted).training and torch.equal(found.bins, wanted.bins)


def test_a_halved_file_is_half_as_large_and_keeps_statistics_whole(saved: Save, tmp_path: Path) -> None:
    source = saved()
    for name, half in (("whole", False), ("half", True)):
        (tmp_path / name).mkdir()
        export(settings(source, to="safetensors", half=half), tmp_path / name)
    sizes = {name: (tmp_path / name / "model.safetensors").stat().st_size for name in ("whole", "half")}
    assert 0.4 < sizes["half"] / sizes["whole"] < 0.7
    found, wanted = load_pretrained(tmp_path / "half").model, load_pretrained(source).model
    parameters = dict(wanted.named_parameters())
    for key, value in found.state_dict().items():
        expected = wanted.state_dict()[key]
        assert value.dtype == expected.dtype
        assert torch.equal(value, expected.half().float() if key in parameters else expected)


BODIES = ["timm:resnet10t", "timm:convnext_atto,stride=8", "timm:vit_tiny_patch16_224,patch_size=8,img_size=32"]


@pytest.mark.parametrize("name", BODIES)
def test_timm_reads_networks_on_its_own_bodies(saved: Save, tmp_path: Path, name: str) -> None:
    source = saved(name, width=1)
    for to in ("timm", "hub-folder"):
        (tmp_path / to).mkdir()
    figures = export(settings(source, to="timm"), tmp_path / "timm")
    assert (figures["model"], figures["options"]) == ("colorize_timm", {"body": name.removeprefix("timm:")})
    file = tmp_path / "timm" / "encoder.timm.safetensors"
    same_maps(timm.create_model("colorize_timm", checkpoint_path=file, **figures["options"]), source)
    export(settings(source, to="hub-folder"), tmp_path / "hub-folder")
    hub = f"local-dir:{tmp_path / 'hub-folder'}"
    same_maps(timm.create_model(hub, pretrained=True, num_classes=3), source)
    encoder, photos = load_encoder(tmp_path / "hub-folder"), torch.rand(1, 3, 32, 32)
    layers = encoder.layers[1:3]
    features = timm.create_model(hub, pretrained=True, features_only=True, out_indices=(1, 2)).eval()
    assert tuple(features.feature_info.module_name()) == layers
    with torch.inference_mode():
        for found, wanted in zip(features(photos), encoder(photos, layers).values(), strict=True):
            assert torch.allclose(found, wanted, rtol=1e-3, atol=1e-4)
    # All of them unless told otherwise, however many there are.
    every = timm.create_model(hub, pretrained=True, features_only=True).eval()
    assert tuple(every.feature_info.module_name()) == encoder.layers and len(every(photos)) == len(encoder.layers)
    # A file of another body does not pass in silence.
    with pytest.raises(RuntimeError, match=r"another network|size mismatch"):
        timm.create_model("colorize_timm", body="resnet26t", checkpoint_path=str(source))


@pytest.mark.parametrize("name", ["eccv16", "alexnet"])
@pytest.mark.parametrize("width", [0.5, 0.125])
def test_timm_reads_its_file(saved: Save, tmp_path: Path, name: str, width: float) -> None:
    source = saved(name, width=width)
    figures = export(settings(source, to="timm"), tmp_path)
    assert figures["model"] == (f"colorize_{name}_half" if width == 0.5 else f"colorize_{name}")
    assert figures["options"] == ({} if width == 0.5 else {"width": width})
    file = tmp_path / "encoder.timm.safetensors"
    with safe_open(file, framework="pt") as keys:
        # timm's own keys, without our decoder.
        assert not any(key.startswith(("logits", "conv8", "color.")) for key in keys.keys())  # noqa: SIM118
    same_maps(timm.create_model(figures["model"], checkpoint_path=file, **figures["options"]), source)


@pytest.mark.parametrize(("width", "channels"), [(0.5, 3), (0.125, 1)])
def test_timm_reads_the_hub_folder(saved: Save, tmp_path: Path, width: float, channels: int) -> None:
    source = saved(width=width)
    export(settings(source, to="hub-folder", rgb=channels == 3), tmp_path)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    model = timm.create_model(f"local-dir:{tmp_path}", pretrained=True)
    same_maps(model, source, channels=channels)
    same_maps(timm.create_model(f"local-dir:{tmp_path}", pretrained=True, num_classes=5), source, channels=channels)
    features = timm.create_model(f"local-dir:{tmp_path}", pretrained=True, features_only=True, out_indices=(1, 3))
    photos = torch.rand(1, channels, 32, 32) * (1 if channels == 3 else 100)
    expected = load_encoder(source)(photos, ["conv2", "conv4"])
    with torch.inference_mode():
        for found, wanted in zip(features.eval()(photos), expected.values(), strict=True):
            assert torch.allclose(found, wanted, rtol=1e-3, atol=1e-4)
    config = timm.data.resolve_model_data_config(model)
    assert (
        tuple(config["input_size"]) == (channels, 32, 32)
        and set(config["mean"]) == {0.0}
        and set(config["std"]) == {1.0}
    )
    assert json.loads((tmp_path / "config.json").read_text())["num_features"] == model.num_features
    # The folder is a run as well.
    assert load_pretrained(tmp_path).model.width == width


def test_the_card_is_filled_in_and_gives_no_paths_away(saved: Save, tmp_path: Path) -> None:
    export(settings(saved(width=0.25), to="hub-folder"), tmp_path)
    card = (tmp_path / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: timm\n")
    for text in (
        "`eccv16` at 0.25 of its width, 2.0 M parameters", "tiny/train, samples",
        "230,400 photos seen, 3,600 steps in 1 h 15 min",
        "Crops of 32 px from photos of 32 to 48 px", "muon, learning rate 0.001, batches of 64, seed 3",
        "| trained objective | 3.500 |", "FILL IN", "## Limits",
    ):  # fmt: skip
        assert text in card, text
    # What was not measured is left out.
    assert card.count("FILL IN") == 1 and "None" not in card and "targets' entropy" not in card
    published = b"".join(each.read_bytes() for each in tmp_path.iterdir())
    assert b"somebody" not in published


def test_a_network_without_a_record_says_so(saved: Save, tmp_path: Path) -> None:
    from ssl_colorize.models import save_pretrained

    bare = load_pretrained(saved())
    bare.training = {}
    save_pretrained(bare, tmp_path / "bare.safetensors")
    (tmp_path / "hub").mkdir()
    export(settings(tmp_path / "bare.safetensors", to="hub-folder"), tmp_path / "hub")
    assert "no record of its training" in (tmp_path / "hub" / "README.md").read_text()


def test_nothing_is_overwritten(saved: Save, tmp_path: Path) -> None:
    source = saved()
    for to, name in (("safetensors", "model.safetensors"), ("hub-folder", "README.md"), ("onnx", "encoder.onnx")):
        folder = tmp_path / to
        folder.mkdir()
        (folder / name).write_text("mine")
        with pytest.raises(UserError, match=f"{name} is there already"):
            export(settings(source, to=to), folder)
        assert [(each.name, each.read_text()) for each in folder.iterdir()] == [(name, "mine")]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"to": "timm", "what": "colorizer"}, "timm's models are encoders"),
        ({"to": "safetensors", "size": 64}, "--size means nothing for --to safetensors"),
        ({"to": "onnx", "temperature": 0.5}, "--temperature means nothing for --to onnx --what encoder"),
        ({"to": "onnx", "what": "colorizer", "layers": ("conv1",)}, "--layer means nothing"),
        ({"to": "safetensors", "rgb": False}, "--light: a safetensors file"),
    ],
)
def test_flags_without_meaning_are_refused(tmp_path: Path, options: dict[str, object], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        export(settings(tmp_path / "nothing", **options), tmp_path)


def test_networks_that_timm_has_not_are_a_line(saved: Save, tmp_path: Path) -> None:
    source = saved("dahl", objective="dahl", outputs=2)
    for to in ("timm", "hub-folder"):
        with pytest.raises(UserError, match="timm does not know dahl as an encoder of ours: use --to onnx"):
            export(settings(source, to=to), tmp_path)
    assert list(tmp_path.iterdir()) == []
