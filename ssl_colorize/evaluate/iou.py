"""Mean IoU: pixels of each class counted photo by photo, and what follows from them for any set of photos.

Of a photo three numbers a class are kept, and not the (C, C) confusion matrix: they are all that IoU and pixel
accuracy take, and those of thousands of photos with dozens of classes still fit in memory.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssl_colorize.data.annotations import IGNORED
from ssl_colorize.evaluate.metrics import COMMON, DRAWS, as_array, class_mean_interval, common_mean

# What is counted of each class: pixels that are of it and were said to be, that are of it, and that were said to be.
BOTH, TRUE, SAID = range(3)


def class_pixels(said: Any, truth: Any, classes: int) -> NDArray[np.int64]:
    """(3, C) pixels of each class: right ones, true ones, and said ones; those that are IGNORED in truth do not count.

    Args:
        said: classes 0..C - 1, array or tensor of any shape.
        truth: of the same shape; IGNORED where nothing counts.

    >>> class_pixels([[0, 1], [1, 1]], [[0, 1], [0, 255]], 2).tolist()
    [[1, 1], [2, 1], [1, 2]]
    """
    found, wanted = as_array(said).ravel(), as_array(truth).ravel()
    counted = wanted != IGNORED
    found, wanted = found[counted], wanted[counted]
    parts = wanted[found == wanted], wanted, found
    return np.stack([np.bincount(part, minlength=classes) for part in parts]).astype(np.int64)


def ious(pixels: NDArray[Any]) -> NDArray[np.float64]:
    """IoU of each class from (..., 3, C) counts: (..., C), NaN for a class that is neither there nor said.

    >>> ious(class_pixels([[0, 1], [1, 1]], [[0, 1], [0, 255]], 3))
    array([0.5, 0.5, nan])
    """
    both, true, said = (pixels[..., part, :].astype(np.float64) for part in (BOTH, TRUE, SAID))
    either = true + said - both
    return np.asarray(np.divide(both, either, out=np.full(both.shape, np.nan), where=either > 0))


def miou_interval(pixels: NDArray[np.int64], *, seed: int, draws: int = DRAWS) -> tuple[float, float]:
    """The 95 % interval of the mean IoU, by bootstrap over photos (N, 3, C): see `class_mean_interval`."""
    # In floating point, which multiplies matrices a hundred times as fast; pixels of a set are far below 2^53.
    flat = pixels.reshape(len(pixels), -1).astype(np.float64)

    def drawn(rows: NDArray[np.int64]) -> NDArray[np.float64]:
        return ious((np.bincount(rows, minlength=len(pixels)) @ flat).reshape(pixels.shape[1:]))

    return class_mean_interval(drawn, ious(pixels.sum(0)), len(pixels), seed=seed, draws=draws)


def presence(pixels: NDArray[np.int64]) -> NDArray[np.int8]:
    """(N, C), 1 where a photo shows a class, from (N, 3, C) counts."""
    return (pixels[:, TRUE] > 0).astype(np.int8)


def iou_figures(pixels: NDArray[np.int64]) -> dict[str, float]:
    """Mean IoUs over photos (N, 3, C), without intervals.

    Returns:
        "miou", the mean over the classes that are there or were said to be; "miou_present", over those that are there;
        and "miou_common", over those that at least 20 photos show, where these are the background and some of the other
        classes, not all.
    """
    whole = pixels.sum(0)
    values = ious(whole)
    there = whole[TRUE] > 0
    shown = presence(pixels)
    # The background alone, which every photo shows, says nothing of the classes.
    common = common_mean("miou_common", values, shown) if (shown.sum(0)[1:] >= COMMON).any() else {}
    return {
        "miou": float(np.nanmean(values)) if there.any() else float("nan"),
        "miou_present": float(values[there].mean()) if there.any() else float("nan"),
        **common,
    }


def choosing_value(pixels: NDArray[np.int64]) -> float:
    """What settings are chosen by: the mean IoU over common classes where there are any, else over those present."""
    figures = iou_figures(pixels)
    return figures.get("miou_common", figures["miou_present"])


def summarize_ious(runs: Sequence[NDArray[np.int64]], classes: Sequence[str], *, seed: int) -> dict[str, Any]:
    """The figures of one layer over the runs of several seeds, all on the same test photos, (N, 3, C) each.

    Returns:
        The means over the runs of `iou_figures`; "low" and "high", the 95 % interval of "miou" over photos, and
        "low_common" and "high_common", that of "miou_common" where there is one; "pixel_accuracy";
        "per_class", the IoU by name; and, of several runs, "spread" (standard deviation of "miou") and "runs" (each
        one's).
    """
    figures = [iou_figures(run) for run in runs]
    low, high = _ends(runs, seed)
    each = np.stack([ious(run.sum(0)) for run in runs])
    known = np.flatnonzero(~np.isnan(each).all(0)).tolist()
    found: dict[str, Any] = {name: float(np.mean([one[name] for one in figures])) for name in figures[0]}
    found |= {
        "low": low, "high": high,
        "pixel_accuracy": float(np.mean([run[:, BOTH].sum() / max(1, run[:, TRUE].sum()) for run in runs])),
        "per_class": {classes[number]: float(np.nanmean(each[:, number])) for number in known},
    }  # fmt: skip
    if "miou_common" in found:
        common = presence(runs[0]).sum(0, dtype=np.int64) >= COMMON
        found["low_common"], found["high_common"] = _ends([run[..., common] for run in runs], seed)
    if len(runs) > 1:
        values = [one["miou"] for one in figures]
        found |= {"spread": float(np.std(values, ddof=1)), "runs": values}
    return found


def _ends(runs: Sequence[NDArray[np.int64]], seed: int) -> tuple[float, float]:
    low, high = np.mean([miou_interval(run, seed=seed) for run in runs], axis=0).tolist()
    return low, high


def classes_there(pixels: NDArray[np.int64], classes: Sequence[str]) -> dict[str, list[str]]:
    """Names of the classes that the photos (N, 3, C) show: "common", on at least 20 of them, "rare", and "absent"."""
    counts = presence(pixels).sum(0, dtype=np.int64)
    kinds = {"common": counts >= COMMON, "rare": (counts > 0) & (counts < COMMON), "absent": counts == 0}
    return {kind: [classes[number] for number in np.flatnonzero(mask).tolist()] for kind, mask in kinds.items()}
