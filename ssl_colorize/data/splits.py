"""What trains, what chooses and what tests: one rule for every layout.

A folder, a list of photos and a file of annotations are told by their names: see `split_of` and `find_splits`. A set
that brings no split of its own gets one by a hash of its photos' names, which is the same on every machine.
"""

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssl_colorize.data.photos import Photos
from ssl_colorize.errors import UserError

Split = Literal["train", "val", "test"]

# Words that say what a folder or list is for.
NAMES: dict[Split, tuple[str, ...]] = {
    "train": ("train", "training", "trainval"),
    "val": ("val", "valid", "validation", "validate", "dev", "development", "eval", "evaluation", "minival"),
    "test": ("test", "testing", "holdout", "heldout"),
}
# The splits that results are reported on, the better one first. Pretraining never reads them.
MEASURING: tuple[Split, ...] = ("test", "val")
_UNLABELED = frozenset(("unlabeled", "unlabelled", "unsup", "unsupervised"))
# Other words that no class is called by that stands beside train/.
_BESIDE = _UNLABELED | {"extra", "pred", "predict", "prediction", "predictions", "mask", "masks", "meta", "docs"}

# Words beside them that say nothing more: of train_images, seg_train, test_set_final. Single letters are such too.
_FILLING = {
    "set", "sets", "data", "dataset", "datasets", "image", "images", "img", "imgs", "photo", "photos",
    "picture", "pictures", "pic", "pics", "jpg", "jpeg", "png", "seg", "cls", "split", "splits", "subset",
    "part", "dir", "folder", "file", "files", "list", "lists", "full", "final", "raw", "all", "large", "small",
    "standard", "resized", "crop", "crops", "label", "labels", "labeled", "labelled", "annotation",
    "annotations", "instances", "coco", "ids",
}  # fmt: skip
_WORD_OF = {word: split for split, words in NAMES.items() for word in words}
# Also written as one: trainset, valdata, testimages.
_JOINED = re.compile(f"({'|'.join(sorted(_WORD_OF, key=len, reverse=True))})({'|'.join(sorted(_FILLING))})")
_TOKENS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+|[^\W\d_]+")

_HELD_OUT = 0.2  # share of each class that tests where there is no split


class Told(NamedTuple):
    """What a name tells.

    Attributes:
        split: that it is.
        word: that says so, in lower case.
        rest: words at its other end that are neither filling nor numbers: ("dogs",) of dogs_train.
    """

    split: Split
    word: str
    rest: tuple[str, ...]


def _tokens(name: str) -> list[str]:
    """Words and numbers of a name, in lower case: ["train", "2017"] of Train2017."""
    found: list[str] = []
    for token in _TOKENS.findall(name):
        joined = _JOINED.fullmatch(token.lower())
        found += joined.groups() if joined else [token.lower()]
    return found


def _told(name: str) -> Told | None:
    tokens = [each for each in _tokens(name) if not each.isdigit() and len(each) > 1 and each not in _FILLING]
    words = [each for each in tokens if each in _WORD_OF]
    # At one end: in bus_test_track it would be a part of a name.
    if len(words) != 1 or words[0] not in (tokens[0], tokens[-1]):
        return None
    return Told(_WORD_OF[words[0]], words[0], tuple(each for each in tokens if each != words[0]))


def split_of(name: str) -> Split | None:
    """The split that a folder or a list is by its name alone; None for any other name.

    Upper and lower case, numbers, and words that say nothing more make no difference.

    >>> [split_of(name) for name in ("valid", "train2017", "seg_test", "Training", "trainset", "val_256", "test-A")]
    ['val', 'train', 'test', 'train', 'train', 'val', 'test']
    >>> [split_of(name) for name in ("cat", "trains", "contest", "valley", "training_shoes", "bullet_train")]
    [None, None, None, None, None, None]
    """
    told = _told(name)
    return told.split if told is not None and not told.rest else None


def split_at_end(name: str) -> Split | None:
    """The split that a name has at one of its ends, whatever else it says; None for any other name.

    >>> split_at_end("val_cleaned"), split_at_end("cleaned"), split_of("val_cleaned")
    ('val', None, None)
    """
    told = _told(name)
    return None if told is None else told.split


def is_unlabeled(name: str) -> bool:
    """Whether a folder's name says that its photos have no labels.

    >>> is_unlabeled("unlabeled2017"), is_unlabeled("train2017")
    (True, False)
    """
    tokens = [each for each in _tokens(name) if not each.isdigit() and each not in _FILLING]
    return len(tokens) == 1 and tokens[0] in _UNLABELED


def may_be_class(name: str) -> bool:
    """Whether a folder beside one that is called like a split may be a class, by its name.

    >>> [name for name in ("cat", "images", "seg_pred", "val", "unlabeled", "12") if may_be_class(name)]
    ['cat', '12']
    """
    tokens = _tokens(name)
    beside = all(each in _FILLING or each in _BESIDE or each.isdigit() for each in tokens)
    return split_of(name) is None and (not beside or all(map(str.isdigit, tokens)))


def find_splits(names: Iterable[str]) -> dict[Split, list[str]]:
    """Which of the names side by side is which split, sorted; names that are none are not told.

    Where no name is a split by itself, names that differ in nothing but the split are: dogs_train beside dogs_test.
    data_256 beside val_256 is what trains, as in Places.

    >>> find_splits(["cat", "Val", "train", "validation"])
    {'train': ['train'], 'val': ['Val', 'validation'], 'test': []}
    >>> find_splits(["cars_train", "cars_test", "bullet_train"])
    {'train': ['cars_train'], 'val': [], 'test': ['cars_test']}
    """
    children = sorted(names)
    found: dict[Split, list[str]] = {split: [name for name in children if split_of(name) == split] for split in NAMES}
    measuring = [*found["val"], *found["test"]]
    if measuring and not found["train"]:
        numbers = {tuple(filter(str.isdigit, _tokens(name))) for name in measuring}
        found["train"] = [
            name for name in children if _tokens(name)[:1] == ["data"] and (*_tokens(name)[1:],) in numbers - {()}
        ]
    return found if any(found.values()) else _told_by_each_other(children)


def _told_by_each_other(children: Sequence[str]) -> dict[Split, list[str]]:
    """Names whose other words are the same, where one of them trains and one is for measuring."""
    told = {name: each for name in children if (each := _told(name)) is not None}
    groups: dict[tuple[str, ...], set[Split]] = {}
    for each in told.values():
        groups.setdefault(each.rest, set()).add(each.split)
    whole = {rest for rest, splits in groups.items() if "train" in splits and len(splits) > 1}
    return {
        split: [name for name, each in told.items() if each.split == split and each.rest in whole] for split in NAMES
    }


def measuring_names(names: Iterable[str]) -> list[str]:
    """Those of the names side by side that results are reported on, the better ones first.

    >>> measuring_names(["val", "train", "test"])
    ['test', 'val']
    """
    found = find_splits(names)
    return [name for split in MEASURING for name in found[split]]


def only_one(names: Sequence[str], split: Split, *, where: object, explicit: str) -> str | None:
    """The one name of a split; None without one.

    Args:
        names: that were found for the split.
        split: for the message.
        where: they are, for the message.
        explicit: how to say which is meant, for the message.

    Raises:
        UserError: there are several.
    """
    if len(names) > 1:
        listed = f"{', '.join(names[:-1])} and {names[-1]}" if len(names) < 5 else f"{', '.join(names[:3])}, ..."
        raise UserError(f"{where} has {len(names)} parts that are {split} by their names, {listed}: {explicit}.")
    return names[0] if names else None


def alike(names: Iterable[str]) -> bool:
    """Whether names of one split differ in numbers, single letters or filling alone, which makes them parts of it.

    >>> alike(["train2014", "train2017"]), alike(["train", "Training"]), alike(["train", "Train"])
    (True, False, False)
    """
    names = list(names)
    words = {told.word for name in names if (told := _told(name)) is not None}
    return len(words) < 2 and len({name.casefold() for name in names}) == len(names)


# ---- VOC's lists, which also know a "trainval" -----------------------------------------------------------------------


def measuring_lists(lists: Collection[str], *, annotated: Callable[[str], bool], where: object) -> tuple[str, str]:
    """The lists of a VOC folder to train on and to test on: trainval and test, or else train and val.

    VOC gives out the names of 2012's test photos, but not what is on most of them: such a test list does not count.

    Args:
        lists: names of the lists that are there, without their suffix.
        annotated: whether most of the photos of a list have annotations.
        where: they are, for messages.

    Raises:
        UserError: there are several of one split.

    >>> measuring_lists(["train", "trainval", "val", "test"], annotated=lambda name: name != "test", where="VOC2012")
    ('train', 'val')
    """
    explicit = "name the ones meant with --train FILE and --test FILE"
    found = find_splits(lists)
    both = [name for name in found["train"] if _is_trainval(name)]
    tests = [name for name in found["test"] if annotated(name)]
    if both and tests:
        trainval = only_one(both, "train", where=where, explicit=explicit)
        return str(trainval), str(only_one(tests, "test", where=where, explicit=explicit))
    train = only_one([name for name in found["train"] if name not in both], "train", where=where, explicit=explicit)
    if train is not None and tests and not found["val"]:
        return train, str(only_one(tests, "test", where=where, explicit=explicit))
    return train or "train", only_one(found["val"], "val", where=where, explicit=explicit) or "val"


def pretraining_lists(lists: Collection[str]) -> tuple[list[str], list[str]]:
    """The lists of a VOC folder to pretrain on, none for all photos; and those whose photos stay out of it.

    >>> pretraining_lists(["trainval", "val", "test"])
    (['trainval'], ['test', 'val'])
    """
    train = find_splits(lists)["train"]
    return [name for name in train if not _is_trainval(name)] or train, measuring_names(lists)


def _is_trainval(name: str) -> bool:
    told = _told(name)
    return told is not None and told.word == "trainval"


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

    Every class keeps a photo to fit on. Single labels are split class by class. Of several labels, photos to choose on
    show more than what all photos show, such as the background of masks.

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
    if labels.ndim == 2:
        telling = (labels == 1)[:, ~(labels == 1).all(0)].any(1)
        if telling.any() and not telling[order[chosen]].any():
            order = order[np.argsort(~telling[order], kind="stable")]
            chosen = _spared(labels[order] == 1, fraction)
            chosen &= telling[order[chosen]].any()
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
