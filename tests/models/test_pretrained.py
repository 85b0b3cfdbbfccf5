"""Weights files: our own, the authors' released one, and files that must be refused."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ssl_colorize.color import ab_bins, annealed_mean
from ssl_colorize.errors import UserError
from ssl_colorize.models import Pretrained, create_model, load_pretrained, predict_ab, save_pretrained
from ssl_colorize.models.objectives import AB_SCALE


def lightness(side: int = 32, batch: int = 2) -> Tensor:
    return 100 * torch.rand(batch, 1, side, side, generator=torch.Generator().manual_seed(0))


# ---- the authors' released file -------------------------------------------------------------------------------------


class ReleasedGraph(nn.Module):
    """The published graph, written down from its description: lightness in, ab at the input's size out."""

    def __init__(self) -> None:
        super().__init__()
        blocks = [(64, 2, 2, 1), (128, 2, 2, 1), (256, 3, 2, 1), (512, 3, 1, 1), (512, 3, 1, 2), (512, 3, 1, 2), (512, 3, 1, 1)]  # fmt: skip # noqa: E501
        inputs = 1
        for number, (channels, count, stride, dilation) in enumerate(blocks, start=1):
            layers: list[nn.Module] = []
            for index in range(count):
                step = stride if index == count - 1 else 1
                layers += [nn.Conv2d(inputs, channels, 3, step, padding=dilation, dilation=dilation), nn.ReLU(True)]
                inputs = channels
            self.add_module(f"model{number}", nn.Sequential(*layers, nn.BatchNorm2d(channels)))
        self.model8 = nn.Sequential(
            nn.ConvTranspose2d(512, 256, 4, 2, 1), nn.ReLU(True), nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(True),
            nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(True), nn.Conv2d(256, 313, 1),
        )  # fmt: skip
        self.softmax = nn.Softmax(dim=1)
        self.model_out = nn.Conv2d(313, 2, 1, bias=False)
        self.upsample4 = nn.Upsample(scale_factor=4, mode="bilinear")

    def forward(self, light: Tensor) -> Tensor:
        x = (light - 50) / 100
        for number in range(1, 9):
            x = self.get_submodule(f"model{number}")(x)
        return self.upsample4(self.model_out(self.softmax(x))) * 110


@pytest.fixture(scope="module")
def graph() -> ReleasedGraph:
    """Random weights that let the photo through to vivid colors, and running statistics that are not the default."""
    torch.manual_seed(0)
    graph = ReleasedGraph()
    for module in graph.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(module.weight)
            if module.bias is not None:
                nn.init.normal_(module.bias, std=0.1)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.bias, std=0.1)
    graph.model_out.weight.data = ab_bins().T.reshape(2, 313, 1, 1) / 110
    return graph.eval()


@pytest.fixture(scope="module")
def released(graph: ReleasedGraph, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("released") / "colorization_release_v2-9b330a0b.pth"
    torch.save(graph.state_dict(), path)
    yield path
    # Some 130 MB, which pytest would keep for three runs.
    path.unlink()


def test_the_released_keys_are_the_documented_ones(graph: ReleasedGraph) -> None:
    # That the test's own graph is the published one: names from its description, and its number of parameters.
    assert sum(parameter.numel() for parameter in graph.parameters()) == 32_236_011
    keys = set(graph.state_dict())
    assert {"model1.0.weight", "model1.2.bias", "model2.4.running_var", "model7.6.weight"} <= keys
    assert {"model8.0.weight", "model8.6.bias", "model_out.weight"} <= keys and "model_out.bias" not in keys


@torch.inference_mode()
def test_a_released_file_colors_as_its_own_graph(graph: ReleasedGraph, released: Path) -> None:
    pretrained = load_pretrained(released)
    assert (pretrained.temperature, pretrained.objective, pretrained.input_size) == (1.0, "class", 256)
    assert not pretrained.model.training
    assert pretrained.prior is None and pretrained.mix is None
    assert (pretrained.bins - ab_bins()).abs().max() < 1e-4

    expected = graph(lightness())
    ab = predict_ab(pretrained, lightness())
    assert ab.shape == (2, 2, 8, 8)
    ours = nn.functional.interpolate(ab, scale_factor=4, mode="bilinear")
    # The colors really vary, or any network would do.
    assert expected.std() > 5
    assert (ours - expected).abs().max() < 1e-4 * expected.abs().max()


def test_a_released_file_that_does_not_fit_is_refused_by_the_name_of_its_keys(released: Path, tmp_path: Path) -> None:
    whole = torch.load(released, weights_only=True)
    path = tmp_path / "other.pth"

    def refused(state: object, complaint: str) -> None:
        torch.save(state, path)
        with pytest.raises(UserError, match=complaint) as error:
            load_pretrained(path)
        assert str(path) in str(error.value) and "\n" not in str(error.value)

    def without(key: str) -> dict[str, Tensor]:
        return {name: value for name, value in whole.items() if name != key}

    refused(without("model3.2.weight"), r"lacks conv3\.2\.weight")
    refused(without("model5.6.running_var"), r"lacks conv5\.6\.running_var")
    refused(without("model_out.weight"), r"model_out\.weight")
    refused(without("model8.6.weight"), r"model8\.6\.weight")
    refused(whole | {"model9.0.weight": torch.zeros(1)}, r"model9\.0\.weight")
    refused(whole | {"model1.0.weight": torch.zeros(64, 3, 3, 3)}, r"\(64, 3, 3, 3\), expected \(64, 1, 3, 3\)")
    refused(whole | {"model_out.weight": torch.zeros(2, 312, 1, 1)}, r"\(2, 312, 1, 1\)")
    refused([1, 2], "released eccv16")
    for size in (0, 100_000):
        path.write_bytes(released.read_bytes()[:size])
        with pytest.raises(UserError, match="not a PyTorch weights file"):
            load_pretrained(path)


def test_a_released_file_is_unwrapped_and_checked(released: Path, tmp_path: Path) -> None:
    whole = torch.load(released, weights_only=True)
    path = tmp_path / "last.ckpt"
    wrapped = {f"model.{key}": value for key, value in whole.items()}
    torch.save({"state_dict": wrapped, "epoch": 3, "optimizer_states": [{"state": {}}]}, path)
    assert torch.equal(load_pretrained(path).model.state_dict()["logits.bias"], whole["model8.6.bias"])
    whole["model3.2.bias"][5] = torch.nan
    torch.save(whole, path)
    with pytest.raises(UserError, match=r"last\.ckpt holds numbers that are not finite .* in conv3\.2\.bias"):
        load_pretrained(path)
    path.unlink()


def test_a_released_file_may_lack_the_batch_counters(released: Path, tmp_path: Path) -> None:
    whole = torch.load(released, weights_only=True)
    torch.save({key: value for key, value in whole.items() if "num_batches" not in key}, tmp_path / "old.pth")
    assert load_pretrained(tmp_path / "old.pth").model.name == "eccv16"


def test_pickles_with_code_are_refused(tmp_path: Path) -> None:
    torch.save({"model_out.weight": print}, tmp_path / "code.pth")
    with pytest.raises(UserError, match=r"code\.pth is not a PyTorch weights file") as error:
        load_pretrained(tmp_path / "code.pth")
    assert "\n" not in str(error.value)


# ---- our own files --------------------------------------------------------------------------------------------------


def trained(name: str = "eccv16", *, outputs: int = 313) -> Pretrained:
    """A tiny network with statistics, and nothing at its default."""
    torch.manual_seed(1)
    model = create_model(name, width=0.125, outputs=outputs)
    model.train()(lightness(64))
    return Pretrained(
        model=model.eval(),
        prior=torch.rand(313).softmax(0),
        mix=0.3,
        temperature=0.123,
        input_size=77,
        objective="class" if outputs == 313 else "l2",
        training={"step": 5, "holdout": {"loss": 1.5, "kl": None}},
    )


@pytest.mark.parametrize("name", ["eccv16", "alexnet"])
@pytest.mark.parametrize("outputs", [313, 2])
@torch.inference_mode()
def test_what_is_saved_comes_back_to_the_bit(tmp_path: Path, name: str, outputs: int) -> None:
    saved = trained(name, outputs=outputs)
    save_pretrained(saved, tmp_path / "model.safetensors")
    for source in (tmp_path, tmp_path / "model.safetensors", str(tmp_path)):
        loaded = load_pretrained(source)
        assert loaded.source == str(source) and loaded.model.name == name and not loaded.model.training
        state = loaded.model.state_dict()
        assert state.keys() == saved.model.state_dict().keys()
        assert all(torch.equal(state[key], value) for key, value in saved.model.state_dict().items())
        assert loaded.prior is not None and torch.equal(loaded.prior, saved.prior)  # type: ignore[arg-type]
        assert torch.equal(loaded.bins, saved.bins)
        for field in ("mix", "temperature", "input_size", "objective", "training"):
            assert getattr(loaded, field) == getattr(saved, field)
        assert torch.equal(predict_ab(loaded, lightness(64)), predict_ab(saved, lightness(64)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.safetensors"]


def described(path: Path, **changes: object) -> None:
    """The file again with other words about itself."""
    with safe_open(path, framework="pt") as file:
        about = json.loads(file.metadata()["ssl_colorize"])
    kept = {key: value for key, value in (about | changes).items() if value is not None}
    save_file(load_file(path), path, metadata={"ssl_colorize": json.dumps(kept)})


def test_files_of_the_first_format_load_and_of_a_later_one_say_so(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_pretrained(trained(), path)
    described(path, format="ssl-colorize 1", kind=None)
    assert load_pretrained(path).temperature == 0.123
    described(path, format="ssl-colorize finetuned 1", kind=None)
    with pytest.raises(UserError, match="does not say that it holds a network"):
        load_pretrained(path)
    described(path, format=99, kind="network")
    with pytest.raises(UserError, match=r"of format 99.*update ssl-colorize"):
        load_pretrained(path)
    described(path, format=2, kind="network", objective="depth")
    with pytest.raises(UserError, match="trained for 'depth', which this version does not know for eccv16"):
        load_pretrained(path)


def test_unknown_prior_and_mix_stay_unknown(tmp_path: Path) -> None:
    saved = trained()
    saved.prior = saved.mix = None
    save_pretrained(saved, tmp_path / "model.safetensors")
    loaded = load_pretrained(tmp_path)
    assert loaded.prior is None and loaded.mix is None


@torch.inference_mode()
def test_predictions_are_decoded_by_the_objective() -> None:
    classes, regression = trained(), trained(outputs=2)
    logits = classes.model(lightness())
    assert torch.equal(predict_ab(classes, lightness()), annealed_mean(logits, 0.123))
    assert torch.equal(predict_ab(classes, lightness(), temperature=0), annealed_mean(logits, 0))
    expected = regression.model(lightness()) * AB_SCALE
    assert torch.equal(predict_ab(regression, lightness(), temperature=0.9), expected)


def rewritten(path: Path, **changes: Tensor | None) -> None:
    """The file again with tensors changed or, for None, left out; metadata as it was."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    tensors = load_file(path) | {key.replace("__", "."): value for key, value in changes.items()}
    save_file({key: value for key, value in tensors.items() if value is not None}, path, metadata=metadata)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"conv3__2__weight": None}, r"lacks conv3\.2\.weight"),
        ({"conv2__4__running_mean": None}, r"lacks conv2\.4\.running_mean"),
        ({"color__bins": None}, r"lacks color\.bins"),
        ({"conv9__weight": torch.zeros(3)}, r"unknown conv9\.weight"),
        ({"logits__bias": torch.zeros(312)}, r"logits\.bias has shape \(312,\), expected \(313,\)"),
    ],
)
def test_our_file_that_does_not_fit_is_refused(tmp_path: Path, changes: dict[str, Tensor], complaint: str) -> None:
    path = tmp_path / "model.safetensors"
    save_pretrained(trained(), path)
    rewritten(path, **changes)
    with pytest.raises(UserError, match=complaint) as error:
        load_pretrained(path)
    assert str(path) in str(error.value)


def test_many_wrong_keys_make_one_line(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_pretrained(trained(), path)
    rewritten(path, **{f"conv{n}__0__weight": None for n in range(1, 8)})
    with pytest.raises(UserError, match=r"conv4\.0\.weight and 3 more") as error:
        load_pretrained(path)
    assert "\n" not in str(error.value)


def test_foreign_and_damaged_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.zeros(2)}, path)
    with pytest.raises(UserError, match="not written by ssl-colorize"):
        load_pretrained(path)
    save_file({"a": torch.zeros(2)}, path, metadata={"ssl_colorize": "no json"})
    with pytest.raises(UserError, match="safetensors"):
        load_pretrained(path)
    save_pretrained(trained(), path)
    whole = path.read_bytes()
    for size in (0, 4, 200, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(UserError, match="not a readable safetensors file"):
            load_pretrained(path)


def test_missing_sources_say_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No checkpoint at"):
        load_pretrained(tmp_path / "nothing.safetensors")
    with pytest.raises(UserError, match=r"holds no model\.safetensors"):
        load_pretrained(tmp_path)
