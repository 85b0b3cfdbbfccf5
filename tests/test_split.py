"""Both directions from the command line, and the split-brain encoder that is made of the two."""

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from torch import Tensor

import ssl_colorize as sc
from ssl_colorize.cli import main
from ssl_colorize.errors import UserError
from ssl_colorize.models import Pretrained, create_model, load_pretrained, save_pretrained
from ssl_colorize.models.source import Source
from ssl_colorize.pretrain.config import Recipe

HALVES = ("L-to-ab", "ab-to-L")
SPLIT = "split:L-to-ab+ab-to-L"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, catch_exceptions=False)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of three steps of each direction, on the sample photos."""
    folder = tmp_path_factory.mktemp("runs")
    small = ("width=0.125", "init=lsuv", "init_photos=8", "prior_photos=16", "crop=32", "resize=[32,48]", "warmup=1")
    for direction in HALVES:
        settings = [part for setting in (*small, f"direction={direction}") for part in ("--set", setting)]
        result = run(
            "pretrain", *settings, "--limit", "40", "--steps", "3", "--batch-size", "4", "--workers", "0",
            "--device", "cpu", "-o", str(folder / direction),
        )  # fmt: skip
        assert result.exit_code == 0, result.stderr
    return folder


@pytest.fixture
def there(runs: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(runs)
    return runs


def test_a_run_of_the_other_direction_predicts_lightness(there: Path) -> None:
    network = load_pretrained("ab-to-L")
    assert (network.model.name, network.model.outputs, network.objective) == ("eccv16-ab", 100, "class")
    metrics = json.loads((there / "ab-to-L" / "metrics.json").read_text())["metrics"]
    # It begins at the best constant, and three steps take it nowhere.
    assert metrics["loss"] == pytest.approx(metrics["loss_constant"], rel=0.05) and metrics["chroma"] is None
    assert (there / "L-to-ab" / "samples.png").exists() and not (there / "ab-to-L" / "samples.png").exists()


@pytest.mark.parametrize("size", [(64, 64), (50, 37)])
def test_maps_are_those_of_both_halves(there: Path, photos: Tensor, size: tuple[int, int]) -> None:
    images = photos[:3, :, : size[0], : size[1]]
    split, *halves = (sc.load_encoder(source) for source in (SPLIT, *HALVES))
    maps, (first, second) = split(images), (half(images) for half in halves)
    assert list(maps) == list(first) == list(second)
    for info in split.feature_info:
        layer = info["module"]
        assert torch.equal(maps[layer], torch.cat((first[layer], second[layer]), dim=1))
        assert info["num_chs"] == maps[layer].shape[1]
    assert split.fingerprint() not in {half.fingerprint() for half in halves}
    assert split.untrained == Source.parse("split:random:eccv16@0.125+random:eccv16-ab@0.125")
    untrained = sc.load_encoder(split.untrained)
    assert untrained.untrained is None and untrained.source.untrained


def test_grays_are_all_alike_to_the_half_that_sees_ab(there: Path, photos: Tensor) -> None:
    gray = photos[:2, :1].expand(-1, 3, -1, -1)
    light, color = (sc.load_encoder(half)(gray)["conv3"] for half in HALVES)
    assert torch.equal(color[0], color[1]) and not torch.allclose(light[0], light[1], atol=1e-2)
    for source in ("ab-to-L", SPLIT):
        with pytest.raises(UserError, match="sees color alone, and lightness has none: give it photos in RGB"):
            sc.load_encoder(source)(torch.full((1, 1, 32, 32), 50.0))


def test_info_tells_of_both(there: Path) -> None:
    about = json.loads(run("info", SPLIT, "--json").stdout)
    assert [half["direction"] for half in about["halves"]] == list(HALVES)
    assert [half["bins"] for half in about["halves"]] == [313, 100]
    for source in (SPLIT, "ab-to-L"):
        assert run("info", source).stdout.splitlines()[-1].startswith("Next: ssl-colorize knn --encoder")


def test_features_are_measured(there: Path) -> None:
    chance = torch.Generator().manual_seed(0)
    for name in ("red/0", "red/1", "blue/0", "blue/1"):
        pixels = torch.randint(90, (32, 32, 3), generator=chance, dtype=torch.uint8)
        pixels[..., 0 if name[0] == "r" else 2] += 150
        for part in ("train", "test"):
            path = there / "classes" / part / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.numpy()).save(path)
    result = run(
        "knn", "--encoder", SPLIT, "--data", "classes", "--k", "1", "--layer", "conv2", "--workers", "0", "--json",
        "-o", "knn",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert "split:random:eccv16@0.125+random:eccv16-ab@0.125" in result.stderr


def test_what_it_is_not_for_is_one_line(there: Path) -> None:
    Image.new("RGB", (32, 32), "red").save("red.png")
    export = ("export", "ab-to-L", "-o", "exported")
    for arguments, complaint in (
        (("colorize", "red.png", "--checkpoint", "ab-to-L", "-o", "out"), "ab-to-L predicts lightness from color"),
        (("colorize", "red.png", "--checkpoint", SPLIT, "-o", "out"), f"No checkpoint at {SPLIT}"),
        ((*export, "--to", "onnx", "--light"), "sees color alone"),
        ((*export, "--to", "onnx", "--what", "colorizer"), "predicts lightness from color"),
        ((*export, "--to", "timm"), "timm does not know eccv16-ab"),
    ):
        result = run(*arguments)
        assert result.exit_code == 2 and complaint in result.stderr.splitlines()[-1], result.stderr
    for source in ("ab-to-L", SPLIT):
        with pytest.raises(UserError, match=r"which is not fine-tuned.*give finetune one of direction L-to-ab"):
            sc.load_encoder(source).trainable(("conv3",))


def test_halves_that_do_not_fit_are_told(there: Path) -> None:
    save_pretrained(Pretrained(create_model("alexnet-ab", width=0.125, outputs=100)), there / "alexnet.safetensors")
    for source, complaint in (
        ("split:ab-to-L+L-to-ab", "the first half is a run of direction L-to-ab, the second of ab-to-L"),
        ("split:L-to-ab+L-to-ab", "the first half is a run of direction L-to-ab, the second of ab-to-L"),
        ("split:L-to-ab+random:timm-rgb:resnet10t", "the first half is a run of direction"),
        ("split:L-to-ab+alexnet.safetensors", "both halves have to be the same network"),
        ("split:L-to-ab", r"write two networks with a \+ between them"),
        ("split:L-to-ab+nowhere", "No encoder 'nowhere'"),
    ):
        with pytest.raises(UserError, match=complaint) as caught:
            sc.load_encoder(source)
        assert "\n" not in str(caught.value)


def test_paths_may_have_a_plus(there: Path) -> None:
    (there / "a+b").symlink_to(there / "L-to-ab")
    source = Source.parse("split:a+b+ab-to-L")
    assert [str(half) for half in source.halves] == ["a+b", "ab-to-L"] and Source.parse(str(source)) == source


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"model": "timm:resnet18", "width": 1}, "model timm:resnet18 has no direction ab-to-L"),
        ({"model": "dahl"}, "model dahl has no direction ab-to-L: ab-to-L is for eccv16 and alexnet"),
        ({"objective": "l2"}, "cannot be trained with objective l2"),
        ({"rebalance": True}, "ab-to-L takes no jitter, blur or rebalance"),
        ({"jitter": 0.1}, "ab-to-L takes no jitter, blur or rebalance"),
        ({"direction": "up"}, "direction"),
        ({"direction": "L-to-ab", "model": "eccv16-ab"}, "model eccv16-ab has no direction L-to-ab"),
    ],
)
def test_recipes_that_cannot_be(values: dict[str, object], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        Recipe.checked({"direction": "ab-to-L"} | values)


def test_a_recipe_without_direction_colors() -> None:
    old = Recipe().model_dump()
    del old["direction"]
    recipe = Recipe.checked(old)
    assert (recipe.direction, recipe.network, recipe.outputs, recipe.rebalance) == ("L-to-ab", "eccv16", 313, True)
    other = Recipe(direction="ab-to-L", model="alexnet")
    assert (other.network, other.outputs, other.rebalance) == ("alexnet-ab", 100, False)
