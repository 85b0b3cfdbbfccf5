"""Tiny networks with weights and statistics that are no beginner's, as files."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from ssl_colorize.models import Pretrained, create_model, save_pretrained

RECIPE = {
    "data": ["/home/somebody/photos/tiny/train", "samples"], "start": None, "prior": "/home/somebody/prior.npy",
    "resize": [32, 48], "crop": 32, "optimizer": "muon", "learning_rate": 0.001, "batch_size": 64, "seed": 3,
}  # fmt: skip
TRAINING = {
    "step": 3600, "photos_seen": 230400, "seconds": 4500.0, "recipe": RECIPE,
    "holdout": {"loss": 3.5, "loss_constant": 4.25, "kl": None},
}  # fmt: skip

# (name, width=, objective=, outputs=, size=) -> the file.
Save = Callable[..., Path]


def save_network(
    folder: Path,
    name: str = "eccv16",
    *,
    width: float = 0.125,
    objective: str = "class",
    outputs: int = 313,
    size: int = 32,
) -> Path:
    """Write a network as a run folder would hold it, and return the file."""
    torch.manual_seed(0)
    model = create_model(name, width=width, outputs=outputs)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
    # Distributions that differ from pixel to pixel: vivid colors, some of them outside sRGB.
    assert isinstance(model.logits, nn.Conv2d)
    nn.init.normal_(model.logits.weight, std=1.0)
    path = folder / "model.safetensors"
    pretrained = Pretrained(model=model.eval(), input_size=size, objective=objective, training=TRAINING)
    save_pretrained(pretrained, path)
    return path
