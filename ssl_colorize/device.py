"""Where to compute, and in which precision."""

from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Protocol

import torch

from ssl_colorize.config import Precision
from ssl_colorize.errors import UserError


class Autocast(Protocol):
    """Makes the context that a forward pass runs in."""

    def __call__(self) -> AbstractContextManager[object]: ...


def choose_device(wanted: str) -> torch.device:
    """The device for "cpu", "cuda", or "auto" (a GPU where there is one).

    Raises:
        UserError: CUDA is asked for and is not there.
    """
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    if wanted.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"--device {wanted}: PyTorch sees no CUDA GPU here. Use --device cpu.")
    return torch.device(wanted)


def choose_autocast(precision: Precision, device: torch.device) -> Autocast:
    """The forward pass's context: bfloat16 as asked, or under "auto" where the hardware computes in it."""
    if precision == "auto":
        precision = "bf16" if _has_bf16(device) else "fp32"
    return partial(torch.autocast, device.type, torch.bfloat16) if precision == "bf16" else nullcontext


def _has_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # PyTorch tells a CPU's instructions by these two only.
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
