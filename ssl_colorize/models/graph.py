"""Which parameters an output depends on, by autograd's word."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor


def parameters_behind(output: Tensor, seen: set[Any]) -> Iterator[Tensor]:
    """The parameters, of those that take gradients, that a graph ends in.

    Args:
        output: computed with gradients enabled.
        seen: parts of the graph that were walked already, and are not again; grows.
    """
    waiting = [output.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        # A node that gathers a parameter's gradient holds the parameter.
        variable = getattr(node, "variable", None)
        if variable is not None:
            yield variable
        waiting += [following for following, _ in node.next_functions]
