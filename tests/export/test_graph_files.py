"""Exported graphs, read back by ONNX Runtime and PyTorch, against the encoder and the colorizer that they came from."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import skimage
import torch
from PIL import Image
from saved_networks import Save
from torch import Tensor

from ssl_colorize.color import rgb_to_lab, rgb_to_lightness
from ssl_colorize.colorize import Colorizer
from ssl_colorize.encoder import load_encoder
from ssl_colorize.errors import UserError
from ssl_colorize.export import graph_files
from ssl_colorize.export.config import ExportSettings
from ssl_colorize.export.files import build_graph, export
from ssl_colorize.export.graph_files import TOLERANCE, read_onnx, read_program

LAYERS = ("conv2", "conv3")


def photo(height: int, width: int, *, batch: int = 1) -> Tensor:
    """Crops of a real photo, (B, 3, height, width) in [0, 1]."""
    file = Path(skimage.__file__).parent / "data" / "astronaut.png"
    if not file.is_file():
        pytest.skip("this scikit-image carries no astronaut.png")
    pixels = torch.from_numpy(np.array(Image.open(file).convert("RGB"))).permute(2, 0, 1).float() / 255
    return torch.stack([pixels[:, 60 * n : 60 * n + height, 80 : 80 + width] for n in range(batch)])


# ---- the colorizer ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def colorizer(saved: Save, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A network, and its colorizer as ONNX."""
    source, folder = saved(), tmp_path_factory.mktemp("onnx")
    figures = export(ExportSettings(source=str(source), to="onnx", what="colorizer"), folder)
    assert figures["difference"] < TOLERANCE
    return source, folder / "colorizer.onnx"


@pytest.mark.slow
# Any size, up to 2:1.
@pytest.mark.parametrize(("height", "width"), [(64, 64), (75, 131), (200, 100), (31, 47)])
@pytest.mark.slow
def test_onnx_colors_as_the_colorizer_does(colorizer: tuple[Path, Path], height: int, width: int) -> None:
    source, file = colorizer
    photos = photo(height, width)
    colored = read_onnx(file)(photos)[0]
    assert colored.shape == photos.shape and colored.min() >= 0 and colored.max() <= 1
    expected = Colorizer.load(source, device="cpu").colorize(photos[0].permute(1, 2, 0).numpy())
    levels = torch.from_numpy(np.array(expected)).permute(2, 0, 1).float()
    # The colorizer rounds to 8 bits, each channel up or down.
    assert (colored[0] * 255 - levels).abs().max() < 1.05
    # They are colors, and the photo's lightness is there.
    assert rgb_to_lab(colored)[:, 1:].abs().mean() > 5
    assert (rgb_to_lightness(colored) - rgb_to_lightness(photos)).abs().max() < 0.1


@pytest.mark.slow
def test_onnx_agrees_with_torch_in_batches(colorizer: tuple[Path, Path]) -> None:
    source, file = colorizer
    graph, _ = build_graph(ExportSettings(source=str(source), to="onnx", what="colorizer"))
    for batch in (1, 3):
        photos = photo(90, 77, batch=batch)
        found = read_onnx(file)(photos)[0]
        assert found.shape == (batch, 3, 90, 77)
        assert (found - graph(photos)[0]).abs().max() < 1e-4
        # A photo's colors do not depend on its neighbors.
        assert (found[:1] - read_onnx(file)(photos[:1])[0]).abs().max() < 1e-4


@pytest.mark.slow
def test_onnx_is_one_valid_file_that_says_what_it_is(colorizer: tuple[Path, Path]) -> None:
    _, file = colorizer
    onnx.checker.check_model(file, full_check=True)
    assert [each.name for each in file.parent.iterdir()] == ["colorizer.onnx"]
    session = onnxruntime.InferenceSession(file)
    (given,), (answer,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.shape) == ("photos", ["batch", 3, "height", "width"])
    assert (answer.name, answer.shape) == ("colored", ["batch", 3, "height", "width"])
    about = json.loads(session.get_modelmeta().custom_metadata_map["ssl_colorize.json"])
    assert (about["what"], about["size"], about["temperature"]) == ("colorizer", 32, 0.38)
    assert about["input"] == "RGB in [0, 1]"


def test_long_photos_are_squeezed_and_temperature_and_size_are_taken(saved: Save) -> None:
    source = str(saved())
    colorizer = Colorizer.load(source, device="cpu")

    def colored(**options: object) -> Tensor:
        graph, _ = build_graph(ExportSettings(source=source, to="onnx", what="colorizer", **options))  # type: ignore[arg-type]
        found: Tensor = graph(photo(100, 100))[0]
        return found

    def expected(temperature: float | None, size: int | None) -> Tensor:
        array = photo(100, 100)[0].permute(1, 2, 0).numpy()
        return torch.from_numpy(np.array(colorizer.colorize(array, temperature, size=size))).permute(2, 0, 1) / 255

    # 44 is no multiple of 8: what is repeated at the border is not stretched over the photo.
    for temperature, size in ((None, None), (0.0, None), (1.0, 44)):
        found = colored(temperature=temperature, size=size)
        assert (found[0] - expected(temperature, size)).abs().max() < 1.05 / 255
    assert (colored(temperature=1.0) - colored(temperature=0.0)).abs().mean() > 0.01
    graph, _ = build_graph(ExportSettings(source=source, to="onnx", what="colorizer"))
    assert graph(photo(20, 200))[0].shape == (1, 3, 20, 200)


@pytest.mark.parametrize(
    ("name", "objective", "outputs"),
    [("alexnet", "class", 313), ("eccv16", "l2", 2), ("dahl", "dahl", 2), ("larsson", "larsson", 64)],
)
def test_every_network_colors_in_its_graph_as_the_colorizer_does(
    saved: Save, name: str, objective: str, outputs: int
) -> None:
    source = str(saved(name, objective=objective, outputs=outputs))
    graph, _ = build_graph(ExportSettings(source=source, to="onnx", what="colorizer"))
    photos = photo(70, 60)
    expected = Colorizer.load(source, device="cpu").colorize(photos[0].permute(1, 2, 0).numpy())
    levels = torch.from_numpy(np.array(expected)).permute(2, 0, 1).float()
    assert (graph(photos)[0][0] * 255 - levels).abs().max() < 1.05
    assert levels.std(0).max() > 1


def test_lightness_comes_in_instead_of_photos(saved: Save) -> None:
    source = str(saved())
    by_rgb, _ = build_graph(ExportSettings(source=source, to="onnx", what="colorizer"))
    by_light, about = build_graph(ExportSettings(source=source, to="onnx", what="colorizer", rgb=False))
    photos = photo(64, 80)
    assert torch.allclose(by_light(rgb_to_lightness(photos))[0], by_rgb(photos)[0], atol=1e-5)
    assert about["input"] == "CIELAB's L in 0..100"


# ---- the encoder -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def encoder(saved: Save, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A network, and a folder with two layers of its encoder in both forms."""
    source, folder = saved(), tmp_path_factory.mktemp("encoder")
    for kind in ("onnx", "torch-export"):
        export(ExportSettings(source=str(source), to=kind, layers=LAYERS), folder)
    return source, folder


@pytest.mark.parametrize("kind", ["onnx", "pt2"])
def test_graphs_give_the_encoders_maps(encoder: tuple[Path, Path], kind: str) -> None:
    source, folder = encoder
    read = read_onnx(folder / "encoder.onnx") if kind == "onnx" else read_program(folder / "encoder.pt2")
    wanted = load_encoder(source)
    # Multiples of the stride, others, and one of each.
    for batch, height, width in ((1, 64, 64), (3, 33, 50), (2, 40, 71), (1, 16, 111)):
        photos = photo(height, width, batch=batch)
        for map, expected in zip(read(photos), wanted(photos, LAYERS).values(), strict=True):
            assert map.shape == expected.shape
            assert (map - expected).abs().max() < 1e-4 * expected.abs().max()


def test_the_encoders_files_say_what_comes_out(encoder: tuple[Path, Path]) -> None:
    _, folder = encoder
    session = onnxruntime.InferenceSession(folder / "encoder.onnx")
    assert [each.name for each in session.get_outputs()] == list(LAYERS)
    extra = {"ssl_colorize.json": ""}
    torch.export.load(folder / "encoder.pt2", extra_files=extra)
    for text in (extra["ssl_colorize.json"], session.get_modelmeta().custom_metadata_map["ssl_colorize.json"]):
        about = json.loads(text)
        assert [info["module"] for info in about["feature_info"]] == list(LAYERS)
        assert about["feature_info"][0] == {"num_chs": 16, "reduction": 4, "module": "conv2"}


def test_an_encoder_may_take_one_size_and_lightness(saved: Save, tmp_path: Path) -> None:
    source = str(saved("alexnet", width=0.0625))
    settings = ExportSettings(source=source, to="torch-export", rgb=False, size=40, layers=("conv1",))
    assert export(settings, tmp_path)["difference"] < TOLERANCE
    light = 100 * torch.rand(4, 1, 40, 40)
    found = read_program(tmp_path / "encoder.pt2")(light)[0]
    assert torch.allclose(found, load_encoder(source)(light, ["conv1"])["conv1"], atol=1e-3)


# ---- what is refused -------------------------------------------------------------------------------------------------


def test_a_graph_that_differs_is_not_kept(saved: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ExportSettings(source=str(saved()), to="torch-export", layers=("conv1",), size=32)
    read = graph_files.read_program

    def wrong(path: Path) -> graph_files.Reader:
        return lambda photos: [each * 1.001 for each in read(path)(photos)]

    monkeypatch.setattr(graph_files, "read_program", wrong)
    with pytest.raises(UserError, match=r"differs from the network by 0\.001"):
        export(settings, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_graph_that_holds_at_one_size_only_is_not_kept(
    saved: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def guarded(path: Path) -> graph_files.Reader:
        def read(photos: Tensor) -> tuple[Tensor, ...]:
            raise AssertionError("Guard failed: photos.size()[2] != 64")

        return read

    monkeypatch.setattr(graph_files, "read_program", guarded)
    monkeypatch.setattr(graph_files, "trace", lambda graph, side: None)
    monkeypatch.setattr(torch.export, "save", lambda program, path, extra_files: None)
    with pytest.raises(UserError, match=r"fix them with --size \(Guard failed"):
        export(ExportSettings(source=str(saved()), to="torch-export"), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_the_exporters_cannot_do_is_a_line(saved: Save, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fails(*arguments: object, **options: object) -> None:
        raise ValueError("a guard\nand a page about it")

    source = str(saved())
    monkeypatch.setattr(torch.export, "export", fails)
    for options, complaint in (
        ({"layers": ("conv1",)}, r"for photos of any height and width: fix them with --size \(a guard\)"),
        ({"size": 32}, r"cannot be exported \(a guard\)"),
        ({"what": "colorizer"}, r"cannot be exported \(a guard\)"),
    ):
        with pytest.raises(UserError, match=complaint) as error:
            export(ExportSettings(source=source, to="torch-export", **options), tmp_path)  # type: ignore[arg-type]
        assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_without_the_extra_a_line_names_it(saved: Save, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(graph_files, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'ssl-colorize\[export\]'"):
        export(ExportSettings(source=str(saved()), to="onnx"), tmp_path)
    assert list(tmp_path.iterdir()) == []
