"""Starting a run from the weights of another."""

from pathlib import Path

import pytest
import torch

from ssl_colorize.errors import UserError
from ssl_colorize.models import Pretrained, create_model, load_pretrained, save_pretrained
from ssl_colorize.pretrain.config import Recipe
from ssl_colorize.pretrain.loop import start_from, train


def trained(folder: Path, *, width: float = 0.125) -> Path:
    torch.manual_seed(3)
    path = folder / "start.safetensors"
    save_pretrained(Pretrained(model=create_model("eccv16", width=width)), path)
    return path


def test_every_weight_is_taken_over(tmp_path: Path) -> None:
    source = load_pretrained(trained(tmp_path))
    model = create_model("eccv16", width=0.125)
    start_from(model, source, output_bias=torch.zeros(313))
    wanted = source.model.state_dict()
    assert all(torch.equal(value, wanted[key]) for key, value in model.state_dict().items())


def test_regression_takes_the_trunk_of_a_classifier_and_its_own_last_layer(tmp_path: Path) -> None:
    source = load_pretrained(trained(tmp_path))
    model = create_model("eccv16", width=0.125, outputs=2)
    own = model.state_dict()["logits.weight"].clone()
    start_from(model, source, output_bias=torch.tensor([0.25, -0.5]))
    state, wanted = model.state_dict(), source.model.state_dict()
    assert torch.equal(state["logits.weight"], own)
    assert state["logits.bias"].tolist() == [0.25, -0.5]
    shared = [key for key in state if not key.startswith("logits")]
    assert shared and all(torch.equal(state[key], wanted[key]) for key in shared)


def test_another_network_is_refused(tmp_path: Path) -> None:
    source = load_pretrained(trained(tmp_path, width=0.25))
    with pytest.raises(UserError, match=r"start.safetensors holds eccv16 x 0.25, not eccv16 x 0.125"):
        start_from(create_model("eccv16", width=0.125), source, output_bias=torch.zeros(313))


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
