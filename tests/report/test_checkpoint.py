"""What `info` says of a checkpoint."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from ssl_colorize.models import Pretrained, create_model, list_models
from ssl_colorize.report.checkpoint import describe, entropy


@pytest.mark.parametrize("name", list_models())
def test_layers_are_described_as_they_are(name: str) -> None:
    model = create_model(name, width=0.125).eval()
    about = describe(Pretrained(model=model, input_size=64, prior=torch.full((313,), 1 / 313)))
    layers = {layer.pop("layer"): layer for layer in about["layers"]}
    with torch.inference_mode():
        maps = model.forward_features(torch.zeros(1, 1, 64, 64), model.layers)
        maps["logits"] = model(torch.zeros(1, 1, 64, 64))
    assert list(layers) == [*model.layers, "logits"]
    for layer, features in maps.items():
        assert (layers[layer]["channels"], layers[layer]["height"], layers[layer]["width"]) == features.shape[1:]
    assert about["parameters"] == sum(parameter.numel() for parameter in model.parameters())
    assert about["prior_entropy"] == pytest.approx(np.log(313), rel=1e-5)
    json.dumps(about)
    assert next(model.parameters()).device.type == "cpu", "the model itself must stay where it was"


def test_entropy_of_a_coin() -> None:
    assert entropy(torch.tensor([0.5, 0.5, 0.0])) == pytest.approx(np.log(2))
