"""Networks from lightness to color, by name."""

from ssl_colorize.models import alexnet, backbone, eccv16, lightness  # noqa: F401  (they register themselves)
from ssl_colorize.models.baselines import dahl, larsson  # noqa: F401  (likewise)
from ssl_colorize.models.objectives import Objective
from ssl_colorize.models.pretrained import Pretrained, load_pretrained, predict_ab, save_pretrained
from ssl_colorize.models.registry import ColorizationModel, FeatureInfo, create_model, list_models, register_model

__all__ = [
    "ColorizationModel",
    "FeatureInfo",
    "Objective",
    "Pretrained",
    "create_model",
    "list_models",
    "load_pretrained",
    "predict_ab",
    "register_model",
    "save_pretrained",
]
