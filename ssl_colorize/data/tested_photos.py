"""The photos below a folder that measuring verbs test on, for what needs no labels."""

from pathlib import Path

from ssl_colorize.data.class_folders import (
    EXPLICIT,
    HELD_OUT,
    class_called_train,
    folders_in,
    held_out_photos,
    may_be_class_called_train,
)  # fmt: skip
from ssl_colorize.data.coco import tested_photos
from ssl_colorize.data.lists import PhotoList, find_split, list_hold_out, splits_of_list, tested_list
from ssl_colorize.data.reading import PassedOver
from ssl_colorize.data.splits import MEASURING, Split, find_splits, only_one
from ssl_colorize.data.walk import walk_photos
from ssl_colorize.errors import UserError

# The folder that names begin at, the photos' paths, and where they are from in words; "" where that is all there is.
Tested = tuple[str, list[str], str]


def find_tested_photos(folder: Path, passed: PassedOver | None = None) -> Tested:
    """The photos below a folder that measuring verbs test on; of a folder without labels test/ or else val/, or all.

    `passed` gets the paths of what is passed over, by reason.

    Raises:
        UserError: it cannot be told which they are.
    """
    names = folders_in(folder)
    by_annotations = tested_photos(folder)
    if by_annotations:
        return str(folder), sorted(by_annotations), "by annotations"
    if may_be_class_called_train(names):
        raise UserError(class_called_train(folder, names, labels=False).replace("--train", "--test"))
    found = find_splits(names)
    try:
        split = find_split(folder)
    except UserError:
        if all(len(found[name]) < 2 for name in found) and (found["val"] or found["test"]):
            split = None  # Without train/ there is nothing to measure labels with, but what is for measuring is plain.
        else:
            raise
    if isinstance(split, dict):
        return tested_of_lists(split)
    if split is not None and split.test is not None:
        return _all_below(split.test, folder, passed)
    for name in MEASURING:
        chosen = only_one(found[name], name, where=folder, explicit=EXPLICIT)
        if chosen is not None:
            return _all_below(folder / chosen, folder, passed)
    held_out = [] if split is None else held_out_photos(split.train)
    if split is not None and held_out:
        return str(split.train), sorted(held_out), HELD_OUT
    return str(folder), sorted(walk_photos(str(folder), passed=passed)), ""


def _all_below(part: Path, folder: Path, passed: PassedOver | None) -> Tested:
    return str(part), sorted(walk_photos(str(part), passed=passed)), f"{part.relative_to(folder)}/"


def tested_of_list(photos: PhotoList) -> Tested:
    """The photos of one list that measuring verbs test on; all of them where it says no classes and no splits.

    Raises:
        UserError: it has a column of splits, and nothing to train on.
    """
    return tested_of_lists(splits_of_list(photos))


def tested_of_lists(lists: dict[Split, PhotoList]) -> Tested:
    """Likewise of lists by split."""
    chosen = tested_list(lists) or next((lists[split] for split in MEASURING if split in lists), None)
    if chosen is not None:
        return chosen.root, list(chosen.paths), chosen.file.name
    train = lists["train"]
    held_out = list_hold_out(train)
    return train.root, held_out or list(train.paths), HELD_OUT if held_out else ""
