"""What features are worth, measured without touching them: plain functions on arrays, and the runs of the verbs."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ssl_colorize.evaluate.attentive import attentive_probe
    from ssl_colorize.evaluate.closed_form import linear_probe
    from ssl_colorize.evaluate.features import extract, frozen, map_sides
    from ssl_colorize.evaluate.inputs import concatenate_layers
    from ssl_colorize.evaluate.knn import knn_predict, run_knn
    from ssl_colorize.evaluate.linear_svm import low_shot, run_svm, svm
    from ssl_colorize.evaluate.metrics import (
        Predictions,
        average_precisions,
        bootstrap,
        mean_average_precision,
        mean_interval,
        summarize,
        top_k_accuracy,
    )
    from ssl_colorize.evaluate.patches import neighbor_segmentation
    from ssl_colorize.evaluate.probe import run_linear_probe
    from ssl_colorize.evaluate.retrieval import run_retrieval
    from ssl_colorize.evaluate.segment import run_segment
    from ssl_colorize.evaluate.settings import KnnSettings, ProbeSettings, SegmentSettings, SvmSettings

# Loaded on first use, as in `ssl_colorize`.
_HOMES = {
    "KnnSettings": "settings", "Predictions": "metrics", "ProbeSettings": "settings", "SegmentSettings": "settings",
    "SvmSettings": "settings", "attentive_probe": "attentive", "average_precisions": "metrics", "bootstrap": "metrics",
    "concatenate_layers": "inputs", "extract": "features", "frozen": "features", "knn_predict": "knn",
    "linear_probe": "closed_form", "low_shot": "linear_svm", "map_sides": "features",
    "mean_average_precision": "metrics", "mean_interval": "metrics", "neighbor_segmentation": "patches",
    "run_knn": "knn", "run_linear_probe": "probe", "run_retrieval": "retrieval", "run_segment": "segment",
    "run_svm": "linear_svm", "summarize": "metrics", "svm": "linear_svm", "top_k_accuracy": "metrics",
}  # fmt: skip
__all__ = [
    "KnnSettings", "Predictions", "ProbeSettings", "SegmentSettings", "SvmSettings", "attentive_probe",
    "average_precisions", "bootstrap",
    "concatenate_layers", "extract", "frozen", "knn_predict", "linear_probe", "low_shot", "map_sides",
    "mean_average_precision", "mean_interval", "neighbor_segmentation", "run_knn", "run_linear_probe",
    "run_retrieval", "run_segment",
    "run_svm", "summarize", "svm", "top_k_accuracy",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
