"""What features are worth, measured without touching them."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ssl_colorize.evaluate.metrics import bootstrap

# Loaded on first use, as in `ssl_colorize`.
_HOMES = {"bootstrap": "metrics"}
__all__ = ["bootstrap"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
