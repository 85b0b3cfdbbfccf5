"""From figures photo by photo to one row a method."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssl_colorize.evaluate.features import bootstrap_interval
from ssl_colorize.score.journal import Line
from ssl_colorize.score.methods import Method, Trained

DRAWS = 1000
# Which way each measure is better; colorfulness is best where it is the true photos'.
HIGHER = ("auc", "auc_rebalanced", "classifier_top1", "classifier_top5", "classifier_agreement", "psnr", "ssim")
LOWER = ("lpips", "fid")
_MEANS = ("auc", "psnr", "ssim", "lpips", "colorfulness")


def summarize(lines: Sequence[Line], methods: Sequence[Method], *, seed: int) -> dict[str, dict[str, Any]]:
    """The figures of each method over the photos that could be read.

    Args:
        lines: as `Scorer.lines` makes them, those of unreadable photos among them.
        methods: whose figures these are.
        seed: of the bootstrap.

    Returns:
        By method "auc", "auc_rebalanced", "classifier_top1", "classifier_top5", "classifier_agreement" and "ssim" in
        0..1, "psnr" in dB, "lpips", "fid" (left to the caller), "colorfulness", "parameters_mb" and "features_mb"
        (10^6 bytes), "seconds_per_photo"; None where a figure was not measured; and under "intervals" the 95 %
        intervals over photos.
    """
    read = [line for line in lines if "methods" in line]
    return {method.name: _figures(read, method, seed) for method in methods}


def _figures(lines: Sequence[Line], method: Method, seed: int) -> dict[str, Any]:
    rows = [line["methods"][method.name] for line in lines]
    found: dict[str, Any] = {key: _mean(rows, key) for key in _MEANS}
    intervals = {"auc": bootstrap_interval(_column(rows, "auc"), seed=seed)}
    found["auc_rebalanced"] = None
    if rows and rows[0]["auc_weighted"] is not None:
        weights = np.asarray([line["weight"] for line in lines], np.float64)
        weighted = _column(rows, "auc_weighted")
        found["auc_rebalanced"] = float((weights * weighted).sum() / weights.sum())
        intervals["auc_rebalanced"] = ratio_interval(weights * weighted, weights, seed=seed)
    found |= _classified(lines, rows, intervals, seed)
    found |= {
        "fid": None,
        "parameters_mb": _megabytes(method.parameters),
        "features_mb": _megabytes(method.features),
        # The middle one: the first photo pays for what is set up once.
        "seconds_per_photo": float(np.median(_column(rows, "seconds"))) if isinstance(method, Trained) else None,
    }
    return found | {"intervals": {key: list(ends) for key, ends in intervals.items()}}


def _classified(
    lines: Sequence[Line], rows: Sequence[Mapping[str, Any]], intervals: dict[str, tuple[float, float]], seed: int
) -> dict[str, float | None]:
    """Right answers where the class is known, and answers as on the true photo."""
    keys = ("classifier_top1", "classifier_top5", "classifier_agreement")
    found: dict[str, float | None] = dict.fromkeys(keys)
    if not rows or rows[0]["says"] is None:
        return found
    agreed = np.asarray([row["says"][0] == line["says"] for line, row in zip(lines, rows, strict=True)])
    known = [(line["class"], row["says"]) for line, row in zip(lines, rows, strict=True) if line["class"] is not None]
    shares = {"classifier_agreement": agreed}
    if known:
        shares["classifier_top1"] = np.asarray([truth == says[0] for truth, says in known])
        shares["classifier_top5"] = np.asarray([truth in says for truth, says in known])
    for key, right in shares.items():
        found[key] = float(right.mean())
        intervals[key] = bootstrap_interval(right, seed=seed)
    return found


def ratio_interval(
    above: NDArray[np.float64], below: NDArray[np.float64], *, seed: int, draws: int = DRAWS
) -> tuple[float, float]:
    """The 95 % interval of sum(above) / sum(below), by bootstrap over photos: (N,) each."""
    chance = np.random.default_rng(seed)
    values = []
    for _ in range(draws):
        drawn = chance.integers(len(above), size=len(above))
        values.append(above[drawn].sum() / below[drawn].sum())
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def _mean(rows: Sequence[Mapping[str, Any]], key: str) -> float | None:
    return None if rows[0][key] is None else float(_column(rows, key).mean())


def _column(rows: Sequence[Mapping[str, Any]], key: str) -> NDArray[np.float64]:
    return np.asarray([row[key] for row in rows], np.float64)


def _megabytes(size: int | None) -> float | None:
    return None if size is None else size / 1e6


def best_temperatures(
    figures: Mapping[str, Mapping[str, Any]], temperatures: Sequence[float], *, true_colorfulness: float
) -> dict[str, dict[str, float]]:
    """For each network that was taken at several temperatures, which of them is best by each measure.

    Args:
        figures: by method, NAME@T for a network at a temperature.
        true_colorfulness: of the photos themselves, which the best temperature comes nearest to.

    Returns:
        {name: {measure: T}}; of equal ones the first.
    """
    swept = {name.rpartition("@")[0] for name in figures if name.endswith(tuple(f"@{each:g}" for each in temperatures))}
    found: dict[str, dict[str, float]] = {}
    for name in sorted(swept):
        at = {each: figures[f"{name}@{each:g}"] for each in temperatures if f"{name}@{each:g}" in figures}
        best: dict[str, float] = {}
        for key in (*HIGHER, *LOWER, "colorfulness"):
            values = {each: found_at[key] for each, found_at in at.items() if found_at.get(key) is not None}
            if not values:
                continue
            if key == "colorfulness":
                best[key] = min(values, key=lambda each: abs(values[each] - true_colorfulness))
            else:
                best[key] = (max if key in HIGHER else min)(values, key=lambda each: values[each])
        found[name] = best
    return found


def heaviest_share(lines: Sequence[Line]) -> float | None:
    """The share of all rebalanced weight that the heaviest photo carries; None without weights."""
    weights = [line["weight"] for line in lines if line.get("weight") is not None]
    return max(weights) / sum(weights) if weights else None
