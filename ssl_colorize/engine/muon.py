"""Muon (Jordan et al. 2024) as timm has it, without moving the weights of convolutions about in memory."""

from typing import Any

import torch
from timm.optim import muon
from torch import Tensor


class Muon(muon.Muon):
    """timm's, whose state it shares; its steps are the same but for the order of sums.

    An orthogonal step does not depend on the order of a matrix's columns. Convolutions lie in memory channels last, and
    timm brings them into another order and back, which costs a fifth of the whole step on a CPU.
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Take a step; the gradients of the matrices are overwritten by it."""
        taken: list[tuple[Tensor, Tensor]] = []
        for group in self.param_groups:
            if group.get("use_fallback", False):
                continue
            for weights in group["params"]:
                plain = weights.is_contiguous() or is_channels_last(weights)
                if weights.grad is not None and plain and muon._is_suitable_for_muon(weights):
                    self._orthogonal_step(weights, weights.grad, group)
                    taken.append((weights, weights.grad))
                    weights.grad = None
        # What is left is AdamW's.
        loss = super().step(closure)  # type: ignore[no-untyped-call]
        for weights, gradient in taken:
            weights.grad = gradient
        return loss

    def _orthogonal_step(self, weights: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[weights]
        state["use_muon"] = True
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(weights)
        momentum = state["momentum_buffer"].lerp_(gradient, 1 - group["momentum"])
        update = gradient.lerp_(momentum, group["momentum"]) if group["nesterov"] else momentum
        rows = as_rows(update, like=weights)
        orthogonal = muon.zeropower_via_newtonschulz(
            rows,
            group["ns_steps"],
            muon.resolve_ns_coefficients(group["ns_coefficients"], muon._COEFFICIENTS),
            eps=group["eps"],
            safety_factor=group["safety_factor"],
        )
        scale = muon.get_lr_scale(rows.shape, group["adjust_lr_fn"])
        weights.mul_(1 - group["lr"] * group["weight_decay"])
        as_rows(weights, like=weights).add_(orthogonal, alpha=-group["lr"] * scale)


def as_rows(values: Tensor, *, like: Tensor) -> Tensor:
    """Values (outputs, ...) as a matrix with a row an output, its columns in the order that `like` has in memory.

    Of `like` itself it is a view.

    >>> weights = torch.zeros(8, 4, 3, 3).to(memory_format=torch.channels_last)
    >>> rows = as_rows(weights, like=weights)
    >>> rows.shape, rows.data_ptr() == weights.data_ptr()
    (torch.Size([8, 36]), True)
    """
    if is_channels_last(like):
        values = values.permute(0, 2, 3, 1)
    return values.reshape(len(values), -1)


def is_channels_last(weights: Tensor) -> bool:
    """Whether a convolution's weights have their channels last in memory, and would not do so in any other order."""
    return (
        weights.ndim == 4 and not weights.is_contiguous() and weights.is_contiguous(memory_format=torch.channels_last)
    )
