"""What trains, what chooses and what tests: one rule for every layout.

A folder, a list of photos and a file of annotations are told by their names, which NAMES holds. A set that brings
no split of its own gets one by a hash of its photos' names, which is the same on every machine.
"""

from collections.abc import Callable, Collection, Iterable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ssl_colorize.data.photos import Photos
from ssl_colorize.errors import UserError

Split = Literal["train", "val", "test"]

# What a name says that it is for; of two for the same the first one counts.
NAMES: dict[Split, tuple[str, ...]] = {
    "train": ("train",),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
# The splits that results are reported on, the better one first. Pretraining never reads them.
MEASURING: tuple[Split, ...] = ("test", "val")

_HELD_OUT = 0.2  # share of each class that tests where there is no split


def split_of(name: str) -> Split | None:
    """The split that a folder or a list is by its name; None for any other name.

    >>> split_of("valid"), split_of("cat")
    ('val', None)
    """
    return next((split for split, names in NAMES.items() if name in names), None)


def find_splits(children: Iterable[str]) -> dict[Split, list[str]]:
    """Which of a folder's children is which split, each in the order of NAMES; children that are none are not told.

    >>> find_splits(["cat", "val", "train", "validation"])
    {'train': ['train'], 'val': ['val', 'validation'], 'test': []}
    """
    known = [name for name in children if split_of(name)]
    return {
        split: sorted((name for name in known if split_of(name) == split), key=names.index)
        for split, names in NAMES.items()
    }


def measuring_names(children: Iterable[str]) -> list[str]:
    """Those of a folder's children that results are reported on, the better ones first.

    >>> measuring_names(["val", "train", "test"])
    ['test', 'val']
    """
    found = find_splits(children)
    return [name for split in MEASURING for name in found[split]]


# ---- VOC's lists, which also know a "trainval" -----------------------------------------------------------------------


def measuring_lists(lists: Collection[str], *, annotated: Callable[[str], bool]) -> tuple[str, str]:
    """The lists of a VOC folder to train on and to test on: trainval and test, or else train and val.

    VOC gives out the names of 2012's test photos, but not what is on most of them: such a test list does not count.

    Args:
        lists: names of the lists that are there, without their suffix.
        annotated: whether most of the photos of a list have annotations.

    >>> measuring_lists(["train", "trainval", "val", "test"], annotated=lambda name: name != "test")
    ('train', 'val')
    """
    return ("trainval", "test") if {"trainval", "test"} <= set(lists) and annotated("test") else ("train", "val")


def pretraining_lists(lists: Collection[str]) -> tuple[str | None, list[str]]:
    """The list of a VOC folder to pretrain on, None for all photos; and the lists whose photos stay out of it.

    >>> pretraining_lists(["trainval", "val", "test"])
    ('trainval', ['test', 'val'])
    """
    chosen = next((name for name in ("train", "trainval") if name in lists), None)
    return chosen, measuring_names(lists)


# ---- sets without a split of their own -------------------------------------------------------------------------------


def hold_out_by_class(photos: Photos, labels: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Hold out a fifth of each class by a hash of the names; a class of one photo only trains.

    Args:
        labels: (N,) classes.

    Returns:
        Indices to train on and indices to test on, both sorted.

    Raises:
        UserError: no class has a second photo.
    """
    held: list[int] = []
    for label in np.unique(labels):
        mine = np.flatnonzero(labels == label)
        if len(mine) > 1:
            count = max(1, round(_HELD_OUT * len(mine)))
            held += mine[photos.take(mine.tolist()).by_hash(salt=b"holdout")[:count]].tolist()
    if not held:
        raise UserError("No class has a second photo to test on. Give more photos with --data.")
    return np.setdiff1d(np.arange(len(labels)), held), np.sort(np.asarray(held, np.int64))


def choosing_split(
    labels: NDArray[np.integer], *, fraction: float = 0.2, seed: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split training photos into some to fit on and some to choose hyper-parameters on.

    Every class keeps a photo to fit on. Single labels are split class by class.

    Args:
        labels: (N,) or (N, C) as in `LabeledDataset`.
        fraction: share to choose on.

    Returns:
        Indices to fit on and indices to choose on, both sorted and not empty.

    Raises:
        UserError: no photo can be spared.

    >>> fit, choose = choosing_split(np.array([0] * 5 + [1] * 5))
    >>> len(fit), len(choose)
    (8, 2)
    """
    if not 0 < fraction < 1:
        raise ValueError(f"fraction lies between 0 and 1, not {fraction}")
    order = np.random.default_rng(seed).permutation(len(labels))
    chosen = _spared(labels[order] == 1, fraction) if labels.ndim == 2 else _stratum(labels[order], fraction)
    if not chosen.any():
        raise UserError("Choosing hyper-parameters takes at least 2 training photos of a class. Give more photos.")
    return np.sort(order[~chosen]), np.sort(order[chosen])


def _stratum(labels: NDArray[np.integer], fraction: float) -> NDArray[np.bool_]:
    """Mask of the first photos of each class, its `fraction` of them but at least one and never all."""
    counts = np.bincount(labels)
    quota = np.minimum(np.maximum(1, np.round(fraction * counts)), counts - 1)
    return np.asarray(rank_in_class(labels) < quota[labels])


def _spared(present: NDArray[np.bool_], fraction: float) -> NDArray[np.bool_]:
    """Mask of about `fraction` of the rows (N, C), passing over those without which a class would be lost."""
    wanted = max(1, round(fraction * len(present)))
    left = present.sum(0)
    mask = np.zeros(len(present), np.bool_)
    for row, here in enumerate(present):
        if wanted and (left[here] > 1).all():
            mask[row] = True
            left -= here
            wanted -= 1
    return mask if len(present) > 1 else np.zeros_like(mask)


def rank_in_class(labels: NDArray[np.integer]) -> NDArray[np.int64]:
    """(N,): how many of the same label come before each.

    >>> rank_in_class(np.array([1, 0, 1, 1])).tolist()
    [0, 0, 1, 2]
    """
    order = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[order], labels[order])
    rank = np.empty(len(labels), np.int64)
    rank[order] = np.arange(len(labels)) - starts
    return rank
