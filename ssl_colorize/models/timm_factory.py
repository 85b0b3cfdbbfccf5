"""timm's models by name, with its many ways to fail said in one line."""

import ast
import difflib
import re
from typing import Any

from ssl_colorize.errors import UserError, one_line

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
        hint = f" Without its weights: timm-random:{name}." if pretrained else ""
        raise UserError(f"timm cannot make {name!r}: {one_line(error)}{hint}") from None
