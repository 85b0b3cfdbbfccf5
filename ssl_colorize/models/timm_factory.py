"""timm's models by name, with its many ways to fail said in one line."""

import ast
import difflib
import re
from pathlib import Path
from typing import Any

from ssl_colorize.errors import UserError, one_line
from ssl_colorize.models.released import checkpoints_folder

# What is decided here, not by whoever names a model.
_RESERVED = frozenset({"in_chans", "num_classes", "features_only", "pretrained", "checkpoint_path", "cache_dir"})


def parse_name(text: str) -> tuple[str, dict[str, Any]]:
    """A model's name and options: "resnet50.a1_in1k,stride=8" -> ("resnet50.a1_in1k", {"stride": 8}).

    Raises:
        UserError: an option is not written as key=value, or is not the user's to choose.
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
        hint = f"{where_to_put(name)} Without its weights: timm-random:{name}." if pretrained else ""
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
