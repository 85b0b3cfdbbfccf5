"""A run's figures: photo by photo, a line each, appended as they come; and summed up, one row a method."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssl_colorize.errors import UserError
from ssl_colorize.evaluate.metrics import bootstrap, mean_interval
from ssl_colorize.score.methods import Method

Line = dict[str, Any]

# Which way each measure is better; colorfulness is best where it is the true photos'.
HIGHER = ("auc", "auc_rebalanced", "classifier_top1", "classifier_top5", "classifier_agreement", "psnr", "ssim")
LOWER = ("lpips", "fid")
_CLASSIFIED = ("classifier_top1", "classifier_top5", "classifier_agreement")
_MEANS = ("auc", "psnr", "ssim", "lpips", "colorfulness")


class Journal:
    """The lines of a run: of photo i line i, so that the number of lines says where to go on."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def lines(self) -> list[Line]:
        """All complete lines; what a crash left of a last one does not count.

        Raises:
            UserError: one of the others is damaged.
        """
        if not self.path.is_file():
            return []
        whole, _, _ = self.path.read_bytes().rpartition(b"\n")
        lines: list[Line] = []
        for line in whole.splitlines():
            try:
                lines.append(json.loads(line))
            except ValueError:
                raise UserError(
                    f"Line {len(lines) + 1} of {self.path} is damaged and cannot be resumed: score in a new run."
                ) from None
        return lines

    def keep(self, count: int, names: Sequence[str]) -> None:
        """Cut it to its first `count` lines.

        Raises:
            UserError: they are not about the first of the named photos.
        """
        lines = self.lines()[:count]
        for line, name in zip(lines, names, strict=False):
            if line["photo"] != name:
                raise UserError(
                    f"{self.path} goes on with {line['photo']} where the photos now have {name}: they changed since "
                    "the run began. Score them in a new run."
                )
        with self.path.open("rb+" if self.path.exists() else "wb+") as file:
            for _ in lines:
                file.readline()
            file.truncate(file.tell())

    def append(self, lines: Sequence[Line]) -> None:
        """Add lines; they are on the disk when this returns."""
        with self.path.open("ab") as file:
            file.write("".join(json.dumps(line) + "\n" for line in lines).encode())
            file.flush()
            # Other files say how far this one is, and must not be ahead of it after a power cut.
            os.fsync(file.fileno())


# ---- one row a method ------------------------------------------------------------------------------------------------


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
    columns = {key: _column(rows, key) for key in (*_MEANS, "auc_weighted", "seconds")}
    found = {key: None if columns[key] is None else float(columns[key].mean()) for key in _MEANS}
    intervals = {"auc": mean_interval(columns["auc"], seed=seed)}
    found |= {"auc_rebalanced": None, "fid": None}
    if (weighted := columns["auc_weighted"]) is not None:
        weights = np.asarray([line["weight"] for line in lines], np.float64)
        found["auc_rebalanced"] = float((weights * weighted).sum() / weights.sum())
        intervals["auc_rebalanced"] = ratio_interval(weights * weighted, weights, seed=seed)
    for key, right in _classified(lines, rows).items():
        found[key] = None if right is None else float(right.mean())
        if right is not None:
            intervals[key] = mean_interval(right, seed=seed)
    network = method.parameters is not None
    return found | {
        "parameters_mb": _megabytes(method.parameters),
        "features_mb": _megabytes(method.features),
        # The middle one: the first photo pays for what is set up once.
        "seconds_per_photo": float(np.median(columns["seconds"])) if network else None,
        "intervals": {key: list(ends) for key, ends in intervals.items()},
    }


def _classified(lines: Sequence[Line], rows: Sequence[Mapping[str, Any]]) -> dict[str, NDArray[np.bool_] | None]:
    """By figure, which answers are right where the class is known, and which are as on the true photo."""
    found: dict[str, NDArray[np.bool_] | None] = dict.fromkeys(_CLASSIFIED)
    if rows[0]["says"] is None:
        return found
    both = list(zip(lines, rows, strict=True))
    found["classifier_agreement"] = np.asarray([row["says"][0] == line["says"] for line, row in both])
    known = [(line["class"], row["says"]) for line, row in both if line["class"] is not None]
    if known:
        found["classifier_top1"] = np.asarray([truth == says[0] for truth, says in known])
        found["classifier_top5"] = np.asarray([truth in says for truth, says in known])
    return found


def ratio_interval(above: NDArray[np.float64], below: NDArray[np.float64], *, seed: int) -> tuple[float, float]:
    """The 95 % interval of sum(above) / sum(below), by bootstrap over photos: (N,) each."""
    return bootstrap(lambda rows: float(above[rows].sum() / below[rows].sum()), len(above), seed=seed)


def _column(rows: Sequence[Mapping[str, Any]], key: str) -> Any:
    """(N,) float64; None for what was not measured."""
    return None if rows[0][key] is None else np.asarray([row[key] for row in rows], np.float64)


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
