"""What a checkpoint is, as plain figures."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from ssl_colorize.models.pretrained import Pretrained, parameter_count


def describe(pretrained: Pretrained) -> dict[str, Any]:
    """Everything `ssl-colorize info` says, ready for JSON.

    Returns:
        `source`, `model`, `width`, `direction`, `objective`, `parameters`, `megabytes` (of the weights), `input_size`,
        `bins` (that it predicts), `prior_entropy` (nats), `mix`, `temperature`, `layers` (a list with `layer`,
        `channels`, `stride`, and `height` and `width` of its map for a square input of the input size), and `training`
        as the checkpoint has it.
    """
    model = pretrained.model
    prior = pretrained.prior
    return {
        "source": pretrained.source,
        "model": model.name,
        "width": model.width,
        "direction": model.direction,
        "objective": pretrained.objective,
        "parameters": parameter_count(model),
        "megabytes": sum(value.numel() * value.element_size() for value in model.state_dict().values()) / 1e6,
        "input_size": pretrained.input_size,
        "bins": len(pretrained.bins) if model.direction == "L-to-ab" else model.outputs,
        "prior_entropy": None if prior is None else entropy(prior),
        "mix": pretrained.mix,
        "temperature": pretrained.temperature if pretrained.objective == "class" and pretrained.colors else None,
        "layers": layer_sizes(pretrained),
        "training": pretrained.training,
    }


def entropy(prior: Tensor) -> float:
    """Entropy in nats of a distribution (Q,)."""
    return -float(torch.xlogy(prior.double(), prior.double()).sum())


def layer_sizes(pretrained: Pretrained) -> list[dict[str, Any]]:
    """Channels, stride and map size of every layer and the output, by a run without numbers (meta tensors)."""
    model = pretrained.model
    side = -(-pretrained.input_size // model.multiple) * model.multiple
    maps: dict[str, tuple[int, ...]] = {}
    with torch.inference_mode():
        for name, features in _without_numbers(model).stages(torch.empty(1, model.channels, side, side, device="meta")):
            maps[name] = tuple(features.shape)
    strides = {info["module"]: info["reduction"] for info in model.feature_info} | {"logits": model.target_stride}
    return [
        {"layer": name, "channels": shape[1], "stride": strides[name], "height": shape[2], "width": shape[3]}
        for name, shape in maps.items()
        if name in strides
    ]


def _without_numbers(model: nn.Module) -> Any:
    return copy.deepcopy(model).to("meta")
