"""Encoders as timm and model hubs read them: a weights file, and a folder that explains itself by a model card."""

import dataclasses
import json
from pathlib import Path, PurePath
from typing import Any

import timm
import torch
from safetensors.torch import save_file
from torch import nn

from ssl_colorize import __version__
from ssl_colorize.models import Pretrained, save_pretrained
from ssl_colorize.models.pretrained import WEIGHTS_NAME, parameter_count
from ssl_colorize.models.released import RELEASES
from ssl_colorize.models.timm_models import timm_arguments
from ssl_colorize.runs import write_atomically

CONFIG_NAME, CARD_NAME = "config.json", "README.md"
_SPLITS = ("train", "val", "test")
# Settings of a training run that may be paths.
_PATHS = ("data", "exclude", "start", "prior")
# Figures of the held-out photos, as people read them.
_FIGURES = {
    "loss": "trained objective",
    "loss_constant": "the same of the best constant prediction",
    "cross_entropy": "cross-entropy, unweighted, nats a pixel",
    "kl": "cross-entropy less the targets' entropy, nats",
    "chroma": "mean chroma of its colors",
    "chroma_true": "mean chroma of the photos",
}
_FRONT = """---
library_name: timm
pipeline_tag: image-feature-extraction
tags:
- timm
- colorization
- self-supervised
---"""
_AUTHORS = "FILL IN: these are the authors' own weights, under the terms of {}."
_LICENSE_UNKNOWN = "FILL IN: under which license you publish these weights, and add `license:` to the lines at the top."


def timm_model(pretrained: Pretrained, *, channels: int) -> nn.Module:
    """The encoder as timm's model, with its weights, in eval mode."""
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


def publishable(pretrained: Pretrained) -> Pretrained:
    """A network whose record of training names data and files by name, not by where they lay."""
    recipe = dict(pretrained.training.get("recipe", {}))
    for key in _PATHS:
        if isinstance(recipe.get(key), str):
            recipe[key] = _short(recipe[key])
        elif isinstance(recipe.get(key), list):
            recipe[key] = [_short(each) for each in recipe[key]]
    training = {**pretrained.training, "recipe": recipe} if recipe else pretrained.training
    return dataclasses.replace(pretrained, training=training)


def _short(text: str) -> str:
    """The last part of a path; of a split, with the folder that it is a part of. Other words stay."""
    parts = PurePath(text).parts
    return "/".join(parts[-2:] if parts[-1] in _SPLITS else parts[-1:])


# ---- the card --------------------------------------------------------------------------------------------------------


def model_card(pretrained: Pretrained, *, name: str, options: dict[str, Any], channels: int) -> str:
    """The card in Markdown, with the lines at its top that model hubs read.

    Args:
        pretrained: as it is published.
        name: timm's of the encoder.
        options: beside the name.
        channels: of the encoder's input.
    """
    model = pretrained.model
    width = "" if model.width == 1 else f" at {model.width:g} of its width"
    release = RELEASES.get(pretrained.source)
    title = pretrained.source if release else f"{name}, trained by coloring photos"
    parts = [
        _FRONT,
        f"# {title}\n\nA network that learned from photos without labels: it sees the lightness of a photo and "
        "answers with its colors (*Colorful Image Colorization*, Zhang, Isola, Efros, ECCV 2016). Its layers are "
        "features, and its output colors gray photos.",
        f"- Network: `{model.name}`{width}, {parameter_count(model) / 1e6:.1f} M parameters with the decoder\n"
        f"- Output: {model.objectives[pretrained.objective].description}, at 1/{model.target_stride} of the input\n"
        f"- Photos as it saw them in training: {pretrained.input_size} px or more on the short side\n"
        f"- Made with ssl-colorize {__version__}",
        "## Use\n\n" + _usage(channels),
        "## Training\n\n" + _training(pretrained),
        "## Limits\n\n" + _limits(pretrained),
        f"## License\n\n{_AUTHORS.format(release.home) if release else _LICENSE_UNKNOWN}",
    ]
    return "\n\n".join(parts) + "\n"


def _usage(channels: int) -> str:
    given = "rgb (B, 3, H, W) in [0, 1]" if channels == 3 else "L (B, 1, H, W) of CIELAB, in 0..100"
    photos = "rgb" if channels == 3 else "lightness"
    return (
        "```python\n"
        "import ssl_colorize, timm                  # ssl-colorize makes the network known to timm\n\n"
        "# or local-dir:FOLDER\n"
        'features = timm.create_model("hf-hub:OWNER/NAME", pretrained=True, features_only=True)\n'
        f"maps = features({photos})                  # {given}\n"
        "```\n\n"
        "The folder is a run as well: `ssl-colorize colorize photo.jpg --checkpoint FOLDER`, "
        "`ssl-colorize linear-probe --encoder FOLDER --data PHOTOS`."
    )


def _training(pretrained: Pretrained) -> str:
    training = pretrained.training
    if not training:
        release = RELEASES.get(pretrained.source)
        known = f" It is the authors' own: {release.url}." if release else ""
        return f"The file has no record of its training.{known}"
    recipe = training.get("recipe", {})
    lines = []
    if "data" in recipe:
        lines.append(f"- Photos: {', '.join(recipe['data'])}")
    if "photos_seen" in training:
        lines.append(f"- Budget: {training['photos_seen']:,} photos seen, {_budget(training)}")
    if "crop" in recipe:
        lines.append(f"- Crops of {recipe['crop']} px from photos of {_span(recipe.get('resize'))} px")
    if "optimizer" in recipe:
        lines.append(
            f"- Optimizer: {recipe['optimizer']}, learning rate {recipe['learning_rate']:g}, batches of "
            f"{recipe['batch_size']}, seed {recipe['seed']}"
        )
    holdout = training.get("holdout", {})
    rows = [f"| {text} | {holdout[key]:.3f} |" for key, text in _FIGURES.items() if holdout.get(key) is not None]
    table = ["", "| on held-out photos | |", "|---|---|", *rows] if rows else []
    return "\n".join([*lines, *table]) or "The file has no record of its training."


def _budget(training: dict[str, Any]) -> str:
    hours, minutes = divmod(round(training.get("seconds", 0) / 60), 60)
    time = f" in {hours} h {minutes} min" if hours else f" in {minutes} min"
    return f"{training.get('step', 0):,} steps" + (time if training.get("seconds") else "")


def _limits(pretrained: Pretrained) -> str:
    lines = [
        "- A gray photo does not say what color things had: colors are plausible, not true. Do not take them for "
        "evidence.",
        f"- It learned at about {pretrained.input_size} px; fine detail of larger photos says little to it.",
        "- It sees lightness only: features that need color are not there.",
        "- It has the habits of its training photos: what is rare there comes out gray or in a common color.",
    ]
    return "\n".join(lines)


def _span(resize: Any) -> str:
    return " to ".join(map(str, dict.fromkeys(resize))) if isinstance(resize, list | tuple) else str(resize)
