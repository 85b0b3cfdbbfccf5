"""Encoders as timm reads them: a weights file, and a folder for a model hub that explains itself."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from ssl_colorize.export.card import model_card, publishable
from ssl_colorize.models import Pretrained, save_pretrained
from ssl_colorize.models.pretrained import WEIGHTS_NAME
from ssl_colorize.models.timm_models import timm_arguments
from ssl_colorize.runs import write_atomically

CONFIG_NAME, CARD_NAME = "config.json", "README.md"


def timm_model(pretrained: Pretrained, *, channels: int) -> nn.Module:
    """The encoder as timm's model, with its weights, in eval mode."""
    import timm

    name, options = timm_arguments(pretrained.model, channels=channels)
    model: nn.Module = timm.create_model(name, **options)
    # The table of colors tells it whose keys these are.
    model.load_state_dict({**pretrained.model.state_dict(), "color.bins": pretrained.bins})
    return model.eval()


def write_timm(pretrained: Pretrained, path: Path, *, channels: int) -> None:
    """Write the encoder's weights under timm's keys, for `timm.create_model(..., checkpoint_path=...)`.

    Raises:
        UserError: timm has no such network, or the file cannot be written.
    """
    state = timm_model(pretrained, channels=channels).state_dict()
    solid = {key: value.detach().cpu().contiguous() for key, value in state.items()}
    write_atomically(path, lambda target: save_file(solid, target, metadata={"format": "pt"}))


def write_hub_folder(pretrained: Pretrained, folder: Path, *, channels: int) -> None:
    """Write config.json, model.safetensors and README.md into a folder that is there.

    `timm.create_model("local-dir:FOLDER", pretrained=True)` reads the encoder, and all verbs read the folder as a run:
    the weights are the self-contained file, colors and all, less the paths of the machine that it was trained on.

    Raises:
        UserError: timm has no such network, it predicts no colors, or a file cannot be written.
    """
    # The card speaks of colors.
    pretrained.require_colors()
    public = publishable(pretrained)
    name, options = timm_arguments(public.model, channels=channels)
    config = hub_config(public, channels=channels)
    save_pretrained(public, folder / WEIGHTS_NAME)
    write_atomically(folder / CONFIG_NAME, json.dumps(config, indent=2) + "\n")
    write_atomically(folder / CARD_NAME, model_card(public, name=name, options=options, channels=channels))


def hub_config(pretrained: Pretrained, *, channels: int) -> dict[str, Any]:
    """What timm asks of a hub's config.json."""
    name, options = timm_arguments(pretrained.model, channels=channels)
    model = timm_model(pretrained, channels=channels)
    own: dict[str, Any] = dict(model.pretrained_cfg)  # type: ignore[arg-type]
    kept = {key: own[key] for key in ("crop_pct", "interpolation", "first_conv", "classifier") if key in own}
    side = -(-pretrained.input_size // pretrained.model.multiple) * pretrained.model.multiple
    with torch.no_grad():
        last = model.forward_features(torch.zeros(1, channels, side, side))  # type: ignore[operator]
    return {
        "architecture": name,
        "num_classes": 0,
        "num_features": model.num_features,
        "global_pool": "avg",
        **({"model_args": options} if options else {}),
        "pretrained_cfg": {
            "custom_load": False,
            "input_size": [channels, side, side],
            "fixed_input_size": False,
            "pool_size": list(last.shape[2:]),
            "mean": [0.0] * channels,
            "std": [1.0] * channels,
            "num_classes": 0,
            **kept,
        },
    }
