"""Self-supervised visual features by colorization (Zhang, Isola, Efros, ECCV 2016)."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ssl_colorize.timm_registration import import_after

if TYPE_CHECKING:
    from ssl_colorize.colorize import Colorizer
    from ssl_colorize.encoder import Encoder, load_encoder
    from ssl_colorize.models import create_model, list_models

__version__ = "0.1.0"
__all__ = ["Colorizer", "Encoder", "__version__", "create_model", "list_models", "load_encoder"]

# Loaded on first use: `ssl-colorize --help` must not wait for torch.
_HOMES = {
    "Colorizer": "ssl_colorize.colorize",
    "Encoder": "ssl_colorize.encoder",
    "create_model": "ssl_colorize.models",
    "list_models": "ssl_colorize.models",
    "load_encoder": "ssl_colorize.encoder",
}


# timm.create_model("colorize_eccv16") works from here on.
import_after("timm", "ssl_colorize.models.timm_models")


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'ssl_colorize' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
