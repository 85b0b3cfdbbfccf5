"""The photos below a folder to pretrain on: never one that a measuring verb would test on."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ssl_colorize.data.class_folders import (
    FolderSplit,
    class_called_train,
    folders_in,
    held_out_photos,
    may_be_class_called_train,
    photos_in,
)  # fmt: skip
from ssl_colorize.data.coco import measuring_photos
from ssl_colorize.data.lists import PhotoList, find_lists, find_split, list_hold_out, splits_of_list, tested_list
from ssl_colorize.data.reading import PassedOver, pass_over
from ssl_colorize.data.splits import Split, alike, find_splits, is_unlabeled, measuring_names, only_one
from ssl_colorize.data.voc import VOC_PHOTOS, pretraining_photos
from ssl_colorize.data.walk import walk_photos
from ssl_colorize.errors import UserError

Identity = tuple[int, int] | str


@dataclass
class TrainingPhotos:
    """Photos to pretrain on.

    Attributes:
        paths: of the photos.
        measured: paths of photos that measuring verbs test on, by a split of the data's own.
        held_out: paths of those that they test on where there is none: a fifth of each class.
        places: folders and lists that the photos are from, where not all below.
        left_out: folders and lists that are left out for measuring.
        own_split: whether there is a split of the data's own at any depth.
        passed: what was passed over.
    """

    paths: list[str] = field(default_factory=list)
    measured: list[str] = field(default_factory=list)
    held_out: list[str] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    own_split: bool = False
    passed: PassedOver = field(default_factory=dict)

    def add(self, other: "TrainingPhotos") -> None:
        """Add those of a folder below."""
        for name in ("paths", "measured", "held_out", "places", "left_out"):
            getattr(self, name).extend(getattr(other, name))
        self.own_split |= other.own_split

    def without_tested(self, tested: set["Identity"]) -> None:
        """Take away what is tested on, and what is there twice, however it is linked."""
        kept: dict[Identity, str] = {}
        for path, identity in sorted(zip(self.paths, identities(self.paths), strict=True)):
            if identity in kept:
                pass_over(self.passed, "double", path)
            elif identity in tested:
                pass_over(self.passed, "measuring", path)
            else:
                kept[identity] = path
        self.paths = sorted(kept.values())


def identities(paths: Iterable[str]) -> list[Identity]:
    """What tells files apart, however they are linked: device and inode; the path where there is no such number."""

    def identity(path: str) -> Identity:
        try:
            status = os.stat(path)  # noqa: PTH116 - a Path for each costs more than the call
        except OSError:
            return path
        return (status.st_dev, status.st_ino) if status.st_ino else os.path.realpath(path)

    return [identity(path) for path in paths]


def find_training_photos(folder: Path) -> TrainingPhotos:
    """The photos below a folder to pretrain on, by the rule by which measuring verbs test.

    - Of a VOC folder those of its training list; of a COCO folder none of the photos that its files are to test on.
    - Where there is train/, that alone, and what is called unlabeled; never test/ or val/.
    - Where lists say the split, those of the list to train on.
    - Of class folders without a split all but the fifth that measuring verbs test on.

    This holds at every depth, so a folder of data sets works.

    Raises:
        UserError: train/ may as well be a class; a list or a folder cannot be read.
    """
    return _visit(folder, folder, {}, set())


def training_photos_of_list(photos: PhotoList) -> TrainingPhotos:
    """The photos of a list to pretrain on: those of its split, else all but the fifth that measuring verbs test on.

    Raises:
        UserError: it has a column of splits, and nothing to train on.
    """
    return _of_lists(splits_of_list(photos), photos.file.parent)


def _visit(here: Path, root: Path, passed: PassedOver, seen: set[Identity]) -> TrainingPhotos:
    """The photos of a folder; none of one that was `seen`, to which links lead back."""
    (identity,) = identities([str(here)])
    if identity in seen:
        return TrainingPhotos(passed=passed)
    seen.add(identity)
    if (here / VOC_PHOTOS).is_dir():
        # Only these: the masks beside them are pictures too.
        paths, measured = pretraining_photos(here, passed)
        left_out = [VOC_PHOTOS] if not paths else []
        return TrainingPhotos(paths, measured, left_out=left_out, own_split=True, passed=passed)
    names = folders_in(here)
    coco = here.parent if here.name == "images" else here
    by_annotations = measuring_photos(coco) if names or (coco / "annotations").is_dir() else []
    doubtful = not by_annotations and may_be_class_called_train(names)
    if doubtful and here == root:
        raise UserError(class_called_train(here, names, labels=False))
    split = _measured_by(here, names)
    if isinstance(split, dict):
        found = _of_lists(split, root)
    elif find_splits(names)["train"] and not doubtful:
        found = _of_train(here, root, names, split, passed)
    else:
        # Below the root, a folder called train beside others and nothing to measure on is one like the others.
        found = _of_the_rest(here, root, names, split, passed, seen)
    found.measured += by_annotations
    found.own_split |= bool(by_annotations)
    if by_annotations:
        found.held_out.clear()
    return found


def _measured_by(here: Path, names: Sequence[str]) -> FolderSplit | dict[Split, PhotoList] | None:
    """How measuring verbs split the photos of a folder; None where they cannot."""
    try:
        return find_split(here) if names else find_lists(here) or None
    except UserError:
        return None


def _of_train(
    here: Path, root: Path, names: Sequence[str], split: FolderSplit | None, passed: PassedOver
) -> TrainingPhotos:
    """Of a folder with train/."""
    found = TrainingPhotos(own_split=True, passed=passed)
    train = find_splits(names)["train"]
    if not alike(train):
        only_one(train, "train", where=here, explicit="name those meant with --train DIR")
    for name in [*train, *filter(is_unlabeled, names)]:
        # Not by this rule again: below train/ a class may have any name.
        found.paths += walk_photos(str(here / name), passed=passed)
        found.places.append(f"{(here / name).relative_to(root)}/")
    _leave_out(found, here, root, names)
    if split is not None and split.test is None:
        found.held_out = held_out_photos(split.train)
    return found


def _of_the_rest(
    here: Path, root: Path, names: Sequence[str], split: FolderSplit | None, passed: PassedOver, seen: set[Identity]
) -> TrainingPhotos:
    """Of a folder without train/: what is not for measuring."""
    found = TrainingPhotos(photos_in(here, passed), passed=passed)
    _leave_out(found, here, root, names)
    for name in sorted(set(names) - set(measuring_names(names))):
        found.add(_visit(here / name, root, passed, seen))
    if not found.own_split:
        # Whoever measures on this folder takes the folders in it for classes.
        found.held_out = [] if split is None else held_out_photos(split.train)
    return found


def _leave_out(found: TrainingPhotos, here: Path, root: Path, names: Sequence[str]) -> None:
    for name in measuring_names(names):
        found.measured += walk_photos(str(here / name))
        found.left_out.append(f"{(here / name).relative_to(root)}/")


def _of_lists(lists: Mapping[Split, PhotoList], root: Path) -> TrainingPhotos:
    train = lists["train"]
    others = [each for split, each in lists.items() if split != "train"]
    found = TrainingPhotos(list(train.paths), own_split=True)
    if others and train.file != others[0].file:
        found.places = [os.path.relpath(train.file, root)]
        found.left_out = [os.path.relpath(each.file, root) for each in others]
    elif others:
        found.left_out = [f"{train.file.name} ({', '.join(sorted(set(lists) - {'train'}))})"]
    found.measured = [path for each in others for path in each.paths]
    if tested_list(lists) is None:
        found.held_out = list_hold_out(train)
    return found
