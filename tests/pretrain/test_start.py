"""Starting a run from the weights of another."""

from pathlib import Path

import pytest
import torch

from ssl_colorize.errors import UserError
from ssl_colorize.models import Pretrained, create_model, load_pretrained, save_pretrained
from ssl_colorize.pretrain.config import Recipe
from ssl_colorize.pretrain.loop import train
from ssl_colorize.pretrain.start import start_from

LIGHT = 100 * torch.rand(4, 1, 32, 32, generator=torch.Generator().manual_seed(0))


def trained(folder: Path, *, width: float = 0.125) -> Path:
    torch.manual_seed(3)
    path = folder / "start.safetensors"
    save_pretrained(Pretrained(model=create_model("eccv16", width=width)), path)
    return path


def test_every_weight_is_taken_over(tmp_path: Path) -> None:
    source = load_pretrained(trained(tmp_path))
    model = create_model("eccv16", width=0.125)
    said = start_from(model, source, LIGHT, output_bias=torch.zeros(313))
    assert said == f"Started from the weights of {source.source}."
    wanted = source.model.state_dict()
    assert all(torch.equal(value, wanted[key]) for key, value in model.state_dict().items())


def test_regression_takes_the_trunk_of_a_classifier_and_its_own_last_layer(tmp_path: Path) -> None:
    source = load_pretrained(trained(tmp_path))
    model = create_model("eccv16", width=0.125, outputs=2)
    said = start_from(model, source, LIGHT, output_bias=torch.tensor([0.25, -0.5]))
    assert said.endswith("but for logits.weight and logits.bias: it has 313 outputs, this run 2.")
    state, wanted = model.state_dict(), source.model.state_dict()
    assert state["logits.bias"].tolist() == [0.25, -0.5]
    # However large the trunk's features are, the first predictions hardly stray from the bias.
    with torch.no_grad():
        strays = model.eval()(LIGHT) - torch.tensor([0.25, -0.5]).view(1, 2, 1, 1)
    assert 0.05 < strays.std() < 0.15
    shared = [key for key in state if not key.startswith("logits")]
    assert shared and all(torch.equal(state[key], wanted[key]) for key in shared)


def test_another_network_is_refused(tmp_path: Path) -> None:
    source = load_pretrained(trained(tmp_path, width=0.25))
    with pytest.raises(UserError, match=r"start.safetensors holds eccv16 x 0.25, not eccv16 x 0.125"):
        start_from(create_model("eccv16", width=0.125), source, LIGHT, output_bias=torch.zeros(313))


def test_a_run_begins_where_the_other_ended(tmp_path: Path, photo_folder: Path) -> None:
    start = trained(tmp_path)
    # At a rate of nearly nothing the run's network is the one that it started from.
    recipe = Recipe(
        data=(str(photo_folder),), start=str(start), resize=(32, 32), crop=32, width=0.125, prior_photos=8,
        batch_size=4, steps=1, warmup=0, learning_rate=1e-12, workers=0, device="cpu", precision="fp32",
    )  # fmt: skip
    train(recipe, tmp_path)
    before, after = load_pretrained(start).model, load_pretrained(tmp_path).model
    for (name, weight), other in zip(before.named_parameters(), after.parameters(), strict=True):
        torch.testing.assert_close(weight, other, rtol=0, atol=1e-8, msg=name)


def test_regression_goes_on_from_a_classifier_and_says_what_it_leaves(
    tmp_path: Path, photo_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # The paper's row "L2, fine-tuned from full".
    start = trained(tmp_path)
    recipe = Recipe(
        data=(str(photo_folder),), start=str(start), objective="l2", rebalance=False, resize=(32, 32), crop=32,
        width=0.125, prior_photos=8, batch_size=4, steps=1, warmup=0, learning_rate=1e-12, workers=0, device="cpu",
        precision="fp32",
    )  # fmt: skip
    train(recipe, tmp_path)
    assert "but for logits.weight and logits.bias: it has 313 outputs, this run 2" in capsys.readouterr().err
    source, run = load_pretrained(start).model, load_pretrained(tmp_path)
    assert (run.objective, run.model.outputs) == ("l2", 2)
    for (name, weight), other in zip(source.named_parameters(), run.model.parameters(), strict=True):
        if not name.startswith("logits"):
            torch.testing.assert_close(weight, other, rtol=0, atol=1e-8, msg=name)


def test_a_run_resumes_after_its_start(tmp_path: Path, photo_folder: Path) -> None:
    # The weights it started from may be gone by then.
    start = trained(tmp_path)
    recipe = Recipe(
        data=(str(photo_folder),), start=str(start), resize=(32, 32), crop=32, width=0.125, prior_photos=8,
        batch_size=4, steps=2, workers=0, device="cpu", precision="fp32",
    )  # fmt: skip
    first = train(recipe, tmp_path)["metrics"]
    start.unlink()
    assert train(recipe, tmp_path, resume=True)["metrics"]["loss"] == first["loss"]
