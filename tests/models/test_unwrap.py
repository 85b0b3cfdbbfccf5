"""Out of a file of torch.save comes the one network in it, or a line that says what is there."""

from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ssl_colorize.errors import UserError
from ssl_colorize.models.unwrap import read_state

STATE = {"model1.0.weight": torch.ones(2, 3), "model8.6.weight": torch.arange(3.0)}


def read(content: Any, folder: Path) -> dict[str, Tensor]:
    torch.save(content, folder / "weights.pth")
    return read_state(folder / "weights.pth", mark="model8.6.weight", what="the network")


def prefixed(prefix: str) -> dict[str, Tensor]:
    return {f"{prefix}{key}": value for key, value in STATE.items()}


OPTIMIZER = {"state": {0: {"step": torch.ones(1), "exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 0.1}]}


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "model.", "encoder.", "a.b.c."])
@pytest.mark.parametrize("key", [None, "state_dict", "model", "model_state", "model_state_dict", "net", "ema", "any"])
def test_one_network_comes_out(tmp_path: Path, key: str | None, prefix: str) -> None:
    state = prefixed(prefix)
    content = state if key is None else {key: state, "optimizer": OPTIMIZER, "epoch": 3, "loss": torch.ones(())}
    found = read(content, tmp_path)
    assert found.keys() == STATE.keys()
    assert all(torch.equal(found[name], value) for name, value in STATE.items())


def test_of_several_none_is_chosen(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"weights.pth holds the network 2 times \(model, ema\.module\): save the one"):
        read({"model": STATE, "ema": prefixed("module.")}, tmp_path)
    with pytest.raises(UserError, match=r"2 times \(student, teacher\)"):
        read({**prefixed("student."), **prefixed("teacher.")}, tmp_path)
    with pytest.raises(UserError, match=r"2 times \(the top, teacher\)"):
        read({**STATE, **prefixed("teacher.")}, tmp_path)


def test_what_is_not_the_networks_keeps_its_key(tmp_path: Path) -> None:
    """So that whoever loads it finds it left over."""
    found = read({**prefixed("model."), "criterion.weight": torch.ones(2)}, tmp_path)
    assert set(found) == {*STATE, "criterion.weight"}


@pytest.mark.parametrize(
    ("content", "seen"),
    [
        ({"state_dict": {"layer1.0.weight": torch.ones(1)}}, "Its keys look like layer1.0.weight."),
        ({f"conv{n}": torch.ones(1) for n in range(9)}, "look like conv0, conv1, conv2 and 6 more."),
        ({"epoch": 3, "optimizer": OPTIMIZER}, "holds no tensors by name"),
        ([1, 2], "holds no tensors by name"),
        (torch.ones(3), "holds no tensors by name"),
    ],
)
def test_another_network_is_told_by_its_keys(tmp_path: Path, content: Any, seen: str) -> None:
    with pytest.raises(UserError, match=r"weights.pth is not the network: it lacks model8.6.weight.") as caught:
        read(content, tmp_path)
    assert seen in str(caught.value) and "\n" not in str(caught.value)


def test_pickles_that_run_code_are_refused(tmp_path: Path) -> None:
    for content in ({"state_dict": STATE, "args": Namespace(a=1)}, torch.nn.Linear(2, 2), {"hook": print}):
        with pytest.raises(UserError, match=r"weights\.pth is not a PyTorch weights file") as caught:
            read(content, tmp_path)
        assert "\n" not in str(caught.value)
