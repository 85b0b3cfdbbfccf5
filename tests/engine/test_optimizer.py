"""What a step of each optimizer is, against its definition."""

from typing import Any

import pytest
import torch
from timm.optim import muon as timm_muon
from torch import Tensor

from ssl_colorize.engine.muon import Muon
from ssl_colorize.engine.optimizer import OptimizerName, make_optimizer, set_learning_rate
from ssl_colorize.models import create_model

MATRICES = ("conv2.2.weight", "conv5.0.weight", "conv8.0.weight")


def narrow(weights: Tensor) -> Tensor:
    """A gradient whose directions differ in strength by a factor of 100, as real ones do."""
    left, values, right = torch.linalg.svd(torch.randn_like(weights).flatten(1), full_matrices=False)
    return (left @ torch.diag(torch.logspace(0, -2, len(values))) @ right).reshape(weights.shape)


def stepped(optimizer: OptimizerName) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Gradients of a network, and how far one step at a rate of 1e-2 moves its weights."""
    torch.manual_seed(0)
    model = create_model("eccv16", width=0.125)
    before = {name: weights.detach().clone() for name, weights in model.named_parameters()}
    for name, weights in model.named_parameters():
        weights.grad = narrow(weights.detach()) if name in MATRICES else torch.randn_like(weights)
    gradients = {name: weights.grad.clone() for name, weights in model.named_parameters() if weights.grad is not None}
    logits = list(model.get_submodule("logits").parameters())
    body = [weights for name, weights in model.named_parameters() if not name.startswith("logits")]
    groups: list[dict[str, Any]] = [{"params": body}, {"params": logits, "use_fallback": True}]
    make_optimizer(optimizer, groups, learning_rate=1e-2, betas=(0.9, 0.99), fallback_share=0.3).step()
    return gradients, {name: weights.detach() - before[name] for name, weights in model.named_parameters()}


@pytest.mark.parametrize("name", MATRICES)
def test_muon_steps_along_all_directions_alike(name: str) -> None:
    gradients, steps = stepped("muon")
    gradient = gradients[name].flatten(1)
    left, _, right = torch.linalg.svd(gradient, full_matrices=False)
    along = left.T @ steps[name].flatten(1) @ right.T
    along /= -1e-2 * 0.2 * max(gradient.shape) ** 0.5
    # In the gradient's own directions the step is nearly the identity: where it was 100 times weaker, as far again.
    assert along.diagonal().min() > 0.3 and along.diagonal().max() < 1.8
    assert (along - torch.diag(along.diagonal())).abs().max() < 0.1
    # As large as Adam's steps usually are.
    assert steps[name].square().mean().sqrt() == pytest.approx(0.2e-2, rel=0.3)


@pytest.mark.parametrize("name", ["conv1.0.weight", "conv3.2.bias", "conv5.6.weight", "logits.weight", "logits.bias"])
def test_what_is_no_matrix_of_features_gets_the_smaller_steps_of_adam(name: str) -> None:
    gradients, steps = stepped("muon")
    # The first step of Adam is the rate times the sign; looking ahead (Nesterov) adds 0.9 of it.
    assert torch.allclose(steps[name], -0.3e-2 * 1.9 * gradients[name].sign(), rtol=1e-3, atol=2e-6)


def test_adam_moves_every_weight_by_the_rate() -> None:
    gradients, steps = stepped("adam")
    for name, step in steps.items():
        felt = gradients[name].abs() > 1e-4  # Smaller ones are not far from Adam's own epsilon.
        assert torch.allclose(step[felt], -1e-2 * gradients[name][felt].sign(), rtol=1e-3, atol=2e-6), name


@pytest.mark.parametrize("name", ["adam", "adamw", "muon", "sgd"])
def test_every_group_has_the_rate_times_its_factor(name: OptimizerName) -> None:
    weights = [torch.nn.Parameter(torch.zeros(2, 2)) for _ in range(2)]
    groups: list[dict[str, Any]] = [{"params": weights[:1]}, {"params": weights[1:], "factor": 3.0}]
    optimizer = make_optimizer(name, groups)
    for rate in (0.1, 0.2):
        set_learning_rate(optimizer, rate)
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([rate, 3 * rate])


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("gradients_layout", [torch.contiguous_format, torch.channels_last])
def test_muon_takes_the_steps_of_timms(layout: torch.memory_format, gradients_layout: torch.memory_format) -> None:
    made = []
    for kind in (Muon, timm_muon.Muon):
        torch.manual_seed(0)
        model = create_model("eccv16", width=0.125).to(memory_format=layout)
        optimizer = kind(
            model.parameters(), lr=1e-2, momentum=0.95, nesterov=True, weight_decay=0.1, ns_steps=4,
            ns_coefficients="polar_express", adjust_lr_fn="match_rms_adamw", fallback_lr_scale=0.3,
        )  # fmt: skip
        begun = {name: weights.detach().clone() for name, weights in model.named_parameters()}
        for _ in range(3):
            for weights in model.parameters():
                gradient = narrow(weights.detach()) if weights.ndim == 4 else torch.randn_like(weights)
                weights.grad = gradient.contiguous(memory_format=gradients_layout) if weights.ndim == 4 else gradient
            optimizer.step()
        made.append((model, optimizer))
    (ours, optimizer), (theirs, reference) = made
    for (name, weights), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        # bfloat16 inside: sums in another order differ in the third digit of a step.
        assert (weights - other).norm() <= 0.02 * (other - begun[name]).norm(), name
    # Checkpoints of one are checkpoints of the other.
    state, other_state = optimizer.state_dict(), reference.state_dict()
    assert state["state"].keys() == other_state["state"].keys()
    for number, values in state["state"].items():
        assert values.keys() == other_state["state"][number].keys()
        if "momentum_buffer" in values:
            assert torch.allclose(values["momentum_buffer"], other_state["state"][number]["momentum_buffer"])
    reference.load_state_dict(state)
