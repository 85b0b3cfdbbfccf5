"""What is taken from timm: its models by name, bodies for one channel, and their published weights.

timm's many ways to fail are said in one line each.
"""

import ast
import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ssl_colorize.errors import UserError, one_line
from ssl_colorize.models.registry import FeatureInfo
from ssl_colorize.models.released import checkpoints_folder
from ssl_colorize.models.source import RGB_PREFIX

# What is decided here, not by whoever names a model.
_RESERVED = frozenset({"in_chans", "num_classes", "features_only", "pretrained", "checkpoint_path", "cache_dir"})
# What lets a model take photos of any size, of models that can be told to; a model knows one of them or none.
_ANY_SIZE: tuple[dict[str, bool], ...] = ({"dynamic_img_size": True}, {"strict_img_size": False}, {})
# Of published weights.
_COLORS = 3


def parse_name(text: str) -> tuple[str, dict[str, Any]]:
    """A model's name and options: "resnet50.a1_in1k,stride=8" -> ("resnet50.a1_in1k", {"stride": 8}).

    Raises:
        UserError: an option is not written as key=value, or is not the user's to choose.

    >>> parse_name("resnet50.a1_in1k,stride=8")
    ('resnet50.a1_in1k', {'stride': 8})
    """
    # Values may have commas of their own.
    name, *parts = re.split(r",(?=\w+=)", text)
    if "," in name:
        raise UserError(f"Model {text!r}: write options as key=value after a comma, not {name.partition(',')[2]!r}.")
    options: dict[str, Any] = {}
    for part in parts:
        key, _, value = part.partition("=")
        if key in _RESERVED or key.startswith("pretrained"):
            raise UserError(f"Model {text!r}: {key} is not yours to choose here.")
        try:
            options[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            options[key] = value
    return name, options


def make_timm(name: str, *, pretrained: bool = False, **options: Any) -> Any:
    """What `timm.create_model` makes.

    Args:
        name: timm's, with or without the tag of its weights.
        pretrained: with its published weights, which timm fetches.
        options: passed on.

    Raises:
        TypeError: the model does not take one of the options.
        UserError: there is no such model, or it cannot be had.
    """
    # timm takes a second to import.
    import timm

    known = name.partition(".")[0]
    if pretrained:
        options = local_copy(name) | options
    if not timm.is_model(known):
        close = difflib.get_close_matches(known, timm.list_models(), n=3)
        hint = f" Close to it: {', '.join(close)}." if close else ""
        raise UserError(f"timm has no model {name!r}.{hint} See timm.list_models().")
    try:
        return timm.create_model(name, pretrained=pretrained, **options)
    except TypeError:
        raise
    except Exception as error:
        # The hub, the network and timm itself fail in many ways; all of them mean that there is no such model here.
        hint = f"{where_to_put(name)} Without its weights: {RGB_PREFIX}{name}." if pretrained else ""
        raise UserError(f"timm cannot make {name!r}: {one_line(error)}{hint}") from None


def local_copy(name: str) -> dict[str, Any]:
    """Options of `timm.create_model` for weights from a copy beside PyTorch's others, if one is there."""
    place = _published(name)
    return {"pretrained_cfg_overlay": {"file": str(place[1])}} if place and place[1].is_file() else {}


def where_to_put(name: str) -> str:
    """A sentence with the address of a model's weights and where a copy is looked for; empty if it has none."""
    place = _published(name)
    return f" Put {place[0]} at {place[1]}." if place else ""


def _published(name: str) -> tuple[str, Path] | None:
    """The address of a model's weights, and where a copy is looked for."""
    from timm.models import get_pretrained_cfg

    config = get_pretrained_cfg(name, allow_unregistered=True)
    if config is None or not (config.hf_hub_id or config.url):
        return None
    if not config.hf_hub_id:
        url = str(config.url)
        return url, checkpoints_folder() / url.rpartition("/")[2]
    file = config.hf_hub_filename or "model.safetensors"
    known = ".".join(filter(None, (config.architecture or name.partition(".")[0], config.tag)))
    url = f"https://huggingface.co/{config.hf_hub_id}/resolve/main/{file}"
    return url, checkpoints_folder() / f"{known}{Path(file).suffix}"


# ---- bodies ----------------------------------------------------------------------------------------------------------


def make_body(name: str, options: dict[str, Any], *, channels: int = 1, **more: Any) -> Any:
    """A timm model without its head that takes photos of any size, if it can be told to.

    Args:
        name: timm's.
        options: of the model.
        channels: of the photos.
        more: likewise options, such as `pretrained`.

    Raises:
        UserError: timm has no such model or it does not take an option, or it gives no maps.
    """
    # The classifier is made where weights are to be loaded: without it timm lets every key be missing.
    more = more if more.get("pretrained") else {**more, "num_classes": 0}
    for attempt in _ANY_SIZE:
        try:
            body = make_timm(name, in_chans=channels, **attempt, **options, **more)
            break
        except TypeError as error:
            refusal = one_line(error)
    else:
        raise UserError(f"timm cannot make {name!r} of these options: {refusal}")
    if not hasattr(body, "forward_intermediates"):
        raise UserError(f"timm's {name!r} gives no maps of its stages (forward_intermediates): choose another.")
    if hasattr(body, "prune_intermediate_layers"):
        body.prune_intermediate_layers(list(range(len(feature_info(body)))), prune_norm=True, prune_head=True)
    return body


def feature_info(body: Any) -> list[FeatureInfo]:
    """timm's description of all maps that a model gives."""
    info: list[FeatureInfo] = getattr(body.feature_info, "info", body.feature_info)
    return info


def intermediates(body: Any, x: Tensor, indices: Sequence[int]) -> list[Tensor]:
    """A timm model's maps (B, C, h, w) at ascending indices of its feature_info."""
    maps: list[Tensor] = body.forward_intermediates(
        x, indices=list(indices), stop_early=True, output_fmt="NCHW", intermediates_only=True
    )
    return maps


def own_size(body: Any, options: dict[str, Any]) -> tuple[int, int]:
    """Height and width of the photos that a model was made for."""
    size = options.get("img_size", body.pretrained_cfg["input_size"][-2:])
    height, width = (size, size) if isinstance(size, int) else size
    return int(height), int(width)


# ---- published weights -----------------------------------------------------------------------------------------------


@torch.no_grad()
def published_state(
    text: str, body: Any, *, size: tuple[int, int], mean: Tensor, std: Tensor, file: Path | None = None
) -> dict[str, Tensor]:
    """timm's published weights for a body of one channel: what the stem saw in three is summed.

    Gray photos give the same maps as before: each color's weights are scaled by its own deviation, summed, and what
    the colors' means differ by goes into the stem's bias, or into the BatchNorm after it. Exceptions: the outermost
    cells of a stem that pads (padding was the mean color, and is the mean gray), stems that standardize their weights,
    and those with neither bias nor BatchNorm.

    Args:
        text: the model's name and options (`parse_name`).
        body: what `make_body` made of them.
        size: height and width of a photo that it takes.
        mean: that its photos are normalized with, a scalar.
        std: likewise.
        file: a local copy of the weights, as timm loads it; else timm's cache or the network.

    Returns:
        A state of the body.

    Raises:
        UserError: they cannot be had, or not be summed.
    """
    name, options = parse_name(text)
    options.pop("stride", None)
    overlay = {"pretrained_cfg_overlay": {"file": str(file)}} if file is not None else {}
    original = make_body(name, options, channels=_COLORS, pretrained=True, **overlay)
    state = dict(original.state_dict())
    convolutions = original.pretrained_cfg.get("first_conv")
    for stem in (convolutions,) if isinstance(convolutions, str) else convolutions or ():
        _sum_stem(state, stem, body, own=(mean, std), config=original.pretrained_cfg, size=size)
    return state


def _sum_stem(
    state: dict[str, Tensor], stem: str, body: Any, *, own: tuple[Tensor, Tensor], config: Any, size: tuple[int, int]
) -> None:
    """Make the weights of one of the first convolutions, in a state of three channels, fit a body of one."""
    own_mean, own_std = own
    mean, std = (torch.tensor(config[key]) for key in ("mean", "std"))
    weight = state[f"{stem}.weight"]
    if weight.ndim != 4 or weight.shape[1] % _COLORS:
        raise UserError(f"Setting trunk: the weights of {stem}, of shape {tuple(weight.shape)}, cannot be summed.")
    # Several channels of a color are pixels that were moved there; the color changes fastest.
    by_color = weight.unflatten(1, (-1, _COLORS))
    shape = (1, 1, _COLORS, 1, 1)
    summed = (by_color * (own_std / std).view(shape)).sum(2)
    offset = (by_color * ((own_mean - mean) / std).view(shape)).sum((1, 2, 3, 4))
    state[f"{stem}.weight"] = summed
    place = _place_of_offset(body, stem, size)
    if place is not None:
        key, sign = place
        state[key] = state[key] + sign * offset


def _place_of_offset(body: Any, stem: str, size: tuple[int, int]) -> tuple[str, float] | None:
    """Where a constant that was added to a convolution's output can go: a key of the body's state, and its sign."""
    conv = body.get_submodule(stem)
    if conv.bias is not None:
        return f"{stem}.bias", 1.0
    norm = _norm_after(body, conv, size)
    return None if norm is None else (f"{norm}.running_mean", -1.0)


def _norm_after(body: Any, conv: nn.Module, size: tuple[int, int]) -> str | None:
    """The name of the BatchNorm that reads a convolution's output, found by running the body."""
    outputs: list[Tensor] = []
    found: list[str] = []
    hooks = [conv.register_forward_hook(lambda _, __, output: outputs.append(output))]

    def watch(name: str) -> Any:
        def note(_: nn.Module, inputs: Sequence[Tensor]) -> None:
            if any(each is inputs[0] for each in outputs):
                found.append(name)

        return note

    hooks += [
        module.register_forward_pre_hook(watch(name))
        for name, module in body.named_modules()
        if isinstance(module, _BatchNorm)
    ]
    training = body.training
    try:
        intermediates(body.eval(), torch.zeros(1, 1, *size, device=next(body.parameters()).device), [0])
    finally:
        body.train(training)
        for hook in hooks:
            hook.remove()
    return found[0] if found else None
