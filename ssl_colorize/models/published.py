"""Published weights of timm's models in networks for one channel: what the stem saw in three is summed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ssl_colorize.errors import UserError
from ssl_colorize.models.backbone import FAMILY, TimmColorizer, intermediates, make_body
from ssl_colorize.models.pretrained import load_exactly
from ssl_colorize.models.timm_factory import parse_name

COLORS = 3


@torch.no_grad()
def load_published(model: TimmColorizer, *, file: Path | None = None) -> None:
    """Give a network's body the published weights of its timm model, which timm fetches.

    The tag in the network's name says which, as in "timm:resnet50.a1_in1k"; without one they are timm's default.

    Gray photos give the same maps as before: each color's weights are scaled by its own deviation, summed, and what
    the colors' means differ by goes into the stem's bias, or into the BatchNorm after it. Exceptions: the outermost
    cells of a stem that pads (padding was the mean color, and is the mean gray), stems that standardize their weights,
    and those with neither bias nor BatchNorm.

    Args:
        model: changed in place; its head stays.
        file: a local copy of the weights, as timm loads it; else timm's cache or the network.

    Raises:
        UserError: they cannot be had, or not be summed.
    """
    name, options = parse_name(model.name.removeprefix(f"{FAMILY}:"))
    options.pop("stride", None)
    overlay = {"pretrained_cfg_overlay": {"file": str(file)}} if file is not None else {}
    teacher = make_body(name, options, channels=COLORS, pretrained=True, **overlay)
    state = dict(teacher.state_dict())
    convolutions = teacher.pretrained_cfg.get("first_conv")
    for stem in (convolutions,) if isinstance(convolutions, str) else convolutions or ():
        _sum_stem(model, teacher, stem, state)
    load_exactly(model.body, state, where=file or Path(model.name))


def _sum_stem(model: TimmColorizer, teacher: Any, stem: str, state: dict[str, Tensor]) -> None:
    """Make the weights of one of the first convolutions, in a teacher's state, fit the model's single channel."""
    mean, std = (torch.tensor(teacher.pretrained_cfg[key]) for key in ("mean", "std"))
    weight = state[f"{stem}.weight"]
    if weight.ndim != 4 or weight.shape[1] % COLORS:
        raise UserError(f"Setting trunk: the weights of {stem}, of shape {tuple(weight.shape)}, cannot be summed.")
    # Several channels of a color are pixels that were moved there; the color changes fastest.
    by_color = weight.unflatten(1, (-1, COLORS))
    shape = (1, 1, COLORS, 1, 1)
    own_mean, own_std = (model.get_buffer(key).cpu() for key in ("mean", "std"))
    summed = (by_color * (own_std / std).view(shape)).sum(2)
    offset = (by_color * ((own_mean - mean) / std).view(shape)).sum((1, 2, 3, 4))
    state[f"{stem}.weight"] = summed
    place = _place_of_offset(model, stem)
    if place is not None:
        key, sign = place
        state[key] = state[key] + sign * offset


def _place_of_offset(model: TimmColorizer, stem: str) -> tuple[str, float] | None:
    """Where a constant that was added to a convolution's output can go: a key of the body's state, and its sign."""
    conv = model.body.get_submodule(stem)
    if conv.bias is not None:
        return f"{stem}.bias", 1.0
    norm = _norm_after(model, conv)
    return None if norm is None else (f"{norm}.running_mean", -1.0)


def _norm_after(model: TimmColorizer, conv: nn.Module) -> str | None:
    """The name of the BatchNorm that reads a convolution's output, found by running the body."""
    outputs: list[Tensor] = []
    found: list[str] = []
    hooks = [conv.register_forward_hook(lambda _, __, output: outputs.append(output))]

    def watch(name: str) -> Any:
        def look(_: nn.Module, inputs: Sequence[Tensor]) -> None:
            if any(each is inputs[0] for each in outputs):
                found.append(name)

        return look

    hooks += [
        module.register_forward_pre_hook(watch(name))
        for name, module in model.body.named_modules()
        if isinstance(module, _BatchNorm)
    ]
    training = model.body.training
    size = model.fixed_size or (model.multiple, model.multiple)
    try:
        intermediates(model.body.eval(), torch.zeros(1, 1, *size, device=next(model.parameters()).device), [0])
    finally:
        model.body.train(training)
        for hook in hooks:
            hook.remove()
    return found[0] if found else None
