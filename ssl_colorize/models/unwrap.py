"""Files that torch.save wrote: the one state dict in them, out of what training programs wrap around it."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ssl_colorize.errors import UserError, one_line

# Of dictionaries within dictionaries, which hold more often configurations than weights.
_DEPTH = 3
_SHOWN = 3


def read_state(path: Path, *, mark: str, what: str) -> dict[str, Tensor]:
    """The state dict in a file, by the keys of the network alone.

    Training programs put it beside an optimizer ("state_dict", "model", "ema", ...) and wrap the network, which
    prefixes its keys ("module.", "_orig_mod.", "model.", "encoder."). Both is taken away where only one reading is
    possible. Pickles that run code are refused.

    Args:
        path: of the file.
        mark: a key that the network's state has.
        what: the network, for the messages.

    Raises:
        UserError: it is no such file, or holds no state with that key, or several.

    >>> torch.save({"model": {"module.a.weight": torch.ones(1)}, "epoch": 3}, "wrapped.pth")
    >>> read_state(Path("wrapped.pth"), mark="a.weight", what="a network")
    {'a.weight': tensor([1.])}
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # torch.load's errors are of many kinds, and none of them names the file.
        raise UserError(f"{path} is not a PyTorch weights file: {one_line(error)}") from None
    states = dict(_states(content))
    found = [(place, prefix) for place, state in states.items() for prefix in _prefixes(state, mark)]
    if not found:
        raise UserError(f"{path} is not {what}: it lacks {mark}. {_described(states)}")
    if len(found) > 1:
        names = ", ".join(
            ".".join((*place, prefix.removesuffix("."))).strip(".") or "the top" for place, prefix in found
        )
        raise UserError(f"{path} holds {what} {len(found)} times ({names}): save the one that you mean by itself.")
    place, prefix = found[0]
    # What does not begin so keeps its key, and is in nobody's network.
    return {key.removeprefix(prefix): value for key, value in states[place].items()}


def _states(content: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], dict[str, Tensor]]]:
    """The state dicts in what a file holds, each with the keys that lead to it."""
    if not isinstance(content, Mapping):
        return
    tensors = {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)}
    if tensors:
        yield place, tensors
    if len(place) < _DEPTH:
        for key, value in content.items():
            if isinstance(key, str):
                yield from _states(value, (*place, key))


def _prefixes(state: Mapping[str, Tensor], mark: str) -> list[str]:
    """What stands before a key, each time that it is there."""
    return [key.removesuffix(mark) for key in state if key == mark or key.endswith(f".{mark}")]


def _described(states: Mapping[tuple[str, ...], Mapping[str, Tensor]]) -> str:
    """What the keys of the largest state look like."""
    if not states:
        return "It holds no tensors by name."
    largest = max(states.values(), key=len)
    more = f" and {len(largest) - _SHOWN} more" if len(largest) > _SHOWN else ""
    return f"Its keys look like {', '.join(list(largest)[:_SHOWN])}{more}."
