"""Folders that hold a folder of photos a class: which photos train, which test, and what each shows."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ssl_colorize.data.datasets import LabeledDataset
from ssl_colorize.data.photos import PhotoFiles
from ssl_colorize.data.reading import Part, PassedOver, Reading, pass_over
from ssl_colorize.data.splits import (
    MEASURING,
    Split,
    find_splits,
    hold_out_by_class,
    may_be_class,
    only_one,
    split_of,
)  # fmt: skip
from ssl_colorize.data.walk import is_hidden_folder, is_photo_name, subfolders, walk_photos
from ssl_colorize.errors import UserError

Parts = tuple[LabeledDataset, LabeledDataset]

EXPLICIT = "name the ones meant with --train DIR and --test DIR"
HELD_OUT = "a fifth held out to test"
_NAMED = 3  # in a message


@dataclass(frozen=True)
class FolderSplit:
    """Which of the folders below one are which split. A folder is given by its path.

    Attributes:
        train: the folder whose class folders train.
        test: the one whose class folders test; None where a fifth of each class of `train` does.
        measuring: all folders that are for measuring, whether they are tested on or not.
        findings: what is worth knowing of it.
    """

    train: Path
    test: Path | None = None
    measuring: tuple[Path, ...] = ()
    findings: tuple[str, ...] = ()


# ---- what is in a folder ---------------------------------------------------------------------------------------------


def photos_in(folder: Path, passed: PassedOver | None = None) -> list[str]:
    """Paths of the photos right inside a folder; `passed` as in `walk_photos`."""
    return walk_photos(str(folder), lambda here, names: (True, []), passed)


def has_photos(folder: str | Path, above: frozenset[tuple[int, int]] = frozenset()) -> bool:
    """Whether there is a photo in a folder, at any depth; stops at the first one.

    Args:
        above: device and inode of the folders above, which links may lead back to.
    """
    try:
        status = os.stat(folder)  # noqa: PTH116 - as in walk_photos
        here = status.st_dev, status.st_ino
        if here in above:
            return False
        with os.scandir(folder) as entries:
            below = []
            for entry in entries:
                if entry.is_dir():
                    below.append(entry)
                elif is_photo_name(entry.name) and not entry.name.startswith("."):
                    return True
    except OSError:  # Whoever reads the photos says so.
        return False
    return any(not is_hidden_folder(each.name) and has_photos(each.path, above | {here}) for each in below)


def _photos_right_inside(folder: Path) -> bool:
    return any(
        is_photo_name(each.name) and not each.name.startswith(".") and each.is_file() for each in folder.iterdir()
    )


def folders_in(folder: Path) -> list[str]:
    """Names of the folders right inside a folder that hold photos at any depth, sorted."""
    return [name for name in subfolders(folder) if has_photos(folder / name)]


def unwrapped(folder: Path, inside: Split | None = None) -> Path:
    """The folder of class folders or of splits where a folder holds it and nothing else, as archives unpack.

    Args:
        inside: the split that the folder is, which the one in it may be called as well.
    """
    here = folder
    while not _photos_right_inside(here):
        names = folders_in(here)
        if len(names) != 1 or split_of(names[0]) not in (None, inside):
            break
        here = here / names[0]
        if len(folders_in(here)) > 1 and not _photos_right_inside(here):
            return here
        if inside is None and any(find_splits(folders_in(here)).values()):
            return here
    return folder


# ---- which folder is which split -------------------------------------------------------------------------------------


def folder_split(folder: Path, classes: Sequence[str] = ()) -> FolderSplit:
    """Which folders train and test; of a folder without splits the folder itself trains.

    Args:
        classes: where they are folders right inside `folder`, whatever they are called, there are no splits.

    Raises:
        UserError: it cannot be told which they are.
    """
    folder = unwrapped(folder)
    inside = set(subfolders(folder)).intersection(classes)
    if len(inside) > 1 or not all(map(split_of, inside)) or (inside and len(inside) == len(classes)):
        return FolderSplit(folder)
    names = folders_in(folder)
    found = find_splits(names)
    measuring = [name for split in MEASURING for name in found[split]]
    if not found["train"]:
        if measuring:
            raise UserError(_without_train(folder, names, measuring))
        return FolderSplit(folder)
    if may_be_class_called_train(names):
        raise UserError(class_called_train(folder, names))
    train = only_one(found["train"], "train", where=folder, explicit=EXPLICIT)
    assert train is not None
    below = unwrapped(folder / train, "train")
    test, findings = _tested(folder, found, folders_in(below))
    return FolderSplit(below, test, tuple(folder / name for name in measuring), findings)


def may_be_class_called_train(names: Sequence[str]) -> bool:
    """Whether there is train/ beside what may be classes, and nothing to measure on.

    Args:
        names: of the folders that stand side by side and hold photos.
    """
    found = find_splits(names)
    beside = [name for name in names if may_be_class(name) and name not in found["train"]]
    return bool(found["train"] and beside and not found["val"] and not found["test"])


def class_called_train(folder: Path, names: Sequence[str], *, labels: bool = True) -> str:
    """What to say of such a folder, where labels are read and where not."""
    train = find_splits(names)["train"][0]
    beside = listed(f"{name}/" for name in names if may_be_class(name) and name != train)
    said = f"{folder} has {train}/ beside {beside}: if it is the part to train on, give --train {folder / train}; if "
    whole = f"name all classes with --classes {','.join(names)}" if labels else f"give --train {folder}"
    return f"{said}{train} is a class, {whole}."


def _without_train(folder: Path, names: Sequence[str], measuring: Sequence[str]) -> str:
    if all(split_of(name) for name in names) and len(names) > 1:
        return (
            f"{folder} has folders called {listed(names)} but no train/: if they are classes, name them with "
            f"--classes {','.join(names)}; else say which is which with --train DIR and --test DIR."
        )
    others = [name for name in names if may_be_class(name)]
    more = f" If {measuring[0]} is a class beside {listed(others)}, name all classes with --classes." if others else ""
    train = "put the photos to train on there, or name them with --train."
    return f"{folder} has {measuring[0]}/ but no train/: {train}{more}"


def _tested(folder: Path, found: dict[Split, list[str]], trained: Sequence[str]) -> tuple[Path | None, tuple[str, ...]]:
    """The folder to test on, None if none has labels; and findings.

    Of two, test/ is the one to report on, unless it came without labels, as competitions' do.
    """
    known = {name.casefold() for name in trained}
    unlabeled, foreign = [], []
    for split in MEASURING:
        labeled = []
        for name in found[split]:
            classes = folders_in(unwrapped(folder / name, split))
            if known.intersection(map(str.casefold, classes)):
                labeled.append(name)
            elif len(classes) > 1:
                foreign.append(name)
            else:
                unlabeled.append(name)
        chosen = only_one(labeled, split, where=folder, explicit=EXPLICIT)
        if chosen is not None:
            findings = tuple(f"{name}/ has no labels and is not tested on" for name in unlabeled)
            return unwrapped(folder / chosen, split), findings
    if foreign:
        split = split_of(foreign[0]) or "test"
        return unwrapped(folder / foreign[0], split), ()
    findings = tuple(f"{name}/ has no labels: a fifth of each class of train/ tests in its place" for name in unlabeled)
    return None, findings


def listed(names: Iterable[str]) -> str:
    """The first few names, and that there are more."""
    names = list(names)
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


# ---- photos and their classes ----------------------------------------------------------------------------------------


def open_class_folders(folder: Path, split: FolderSplit, item: str, classes: Sequence[str] = ()) -> Parts:
    """The photos of class folders to train on and to test on.

    Args:
        folder: that places are told from.
        split: which of the folders in it are which split.
        item: of --data, for what is said of it.
        classes: only those, in this order.

    Raises:
        UserError: the photos have no labels, or their class folders have splits of their own.
    """
    if not split.measuring and not classes:
        by_class = _splits_by_class(split.train, item)
        if by_class is not None:
            return by_class
    train = read_class_folders(split.train, item, classes, place=_place(split.train, folder), split="train")
    train = _with_findings(train, split.findings)
    if split.test is None:
        return with_held_out(train)
    test = read_class_folders(split.test, item, classes, place=_place(split.test, folder), split="test")
    return train, test


def _place(part: Path, folder: Path) -> str:
    return "" if part == folder else f"{part.relative_to(folder)}/"


def _splits_by_class(folder: Path, item: str) -> Parts | None:
    """FOLDER/CLASS/train/ and FOLDER/CLASS/test/; None where the class folders have no splits.

    Raises:
        UserError: some of them have splits, or they are data sets with classes.
    """
    found = {name: find_splits(folders_in(folder / name)) for name in folders_in(folder)}
    whole = {name: each for name, each in found.items() if each["train"] and (each["val"] or each["test"])}
    if not whole:
        return None
    if len(whole) < len(found) or any(folders_in(folder / name / each["train"][0]) for name, each in whole.items()):
        raise UserError(
            f"{folder} holds {listed(f'{name}/' for name in whole)} with splits of their own: give each with a --data "
            "of its own."
        )
    passed: PassedOver = {}
    places: tuple[dict[str, list[str]], dict[str, list[str]]] = ({}, {})
    for name, each in whole.items():
        split: Split = "test" if each["test"] else "val"
        for place, part in zip(places, ("train", split), strict=True):
            inside = only_one(each[part], part, where=folder / name, explicit=EXPLICIT)
            place[name] = walk_photos(str(folder / name / str(inside)), passed=passed)
    train, test = (
        _of_classes(folder, item, place, passed, Part(split, 0, (f"CLASS/{split}/",)))
        for split, place in zip(("train", "test"), places, strict=True)
    )
    return train, test


def with_held_out(whole: LabeledDataset) -> Parts:
    """A set without a split: a fifth of each class tests."""
    indices = hold_out_by_class(whole.photos, whole.labels)
    source = whole.reading.sources[0]
    places = source.places
    single = [name for name, count in zip(whole.classes, whole.counts(), strict=True) if count == 1]
    findings = whole.reading.findings
    if single:
        findings += (f"of {listed(single)} there is 1 photo, which trains",)
    parts = []
    for split, chosen, more in zip(("train", "test"), indices, ((), (HELD_OUT,)), strict=True):
        counted = Part(split, len(chosen), (*places, *more))
        reading = Reading((replace(source, parts=(counted,)),), findings)
        parts.append(replace(whole.take(chosen), reading=reading))
    return parts[0], parts[1]


def held_out_photos(folder: Path) -> list[str]:
    """Paths of the photos of class folders that test where there is no split; none where nothing can be tested on.

    Raises:
        UserError: a folder cannot be read.
    """
    found = _photos_by_class(folder, subfolders(folder), {})
    if len(found) < 2 or all(map(split_of, found)) or max(map(len, found.values())) < 2:
        return []
    whole = _of_classes(folder, str(folder), found, {}, Part("train", 0))
    _, test = hold_out_by_class(whole.photos, whole.labels)
    assert isinstance(whole.photos, PhotoFiles)
    return whole.photos.take(test).paths


def read_class_folders(
    folder: Path, item: str, classes: Sequence[str] = (), *, place: str = "", split: str = "train"
) -> LabeledDataset:
    """FOLDER/CLASS/**, sorted; class folders without photos do not count.

    Args:
        item: of --data, for what is said of it.
        classes: only those of these that are there, in this order; all, sorted by name, if none is given.
        place: of the folder in the item.
        split: that it is.

    Raises:
        UserError: there are no photos, or none in class folders.
    """
    passed: PassedOver = {}
    names = subfolders(folder)
    wanted = [name for name in classes if name in names] if classes else names
    found = _photos_by_class(folder, wanted, passed)
    if not found:
        raise UserError(_without_labels(folder))
    if len(found) > 1 and not classes and all(map(split_of, found)):
        raise UserError(
            f"{folder} has folders called {listed(found)}: if they are classes, name them with --classes "
            f"{','.join(found)}; else say which is which with --train DIR and --test DIR."
        )
    for path in photos_in(folder):
        pass_over(passed, "unlabeled", path)
    read = _of_classes(folder, item, found, passed, Part(split, 0, (place,) if place else ()))
    empty = [f"{place}{name}/" for name in wanted if name not in found]
    return _with_findings(read, (f"no photos in {listed(empty)}",) if empty else ())


def _photos_by_class(folder: Path, names: Iterable[str], passed: PassedOver) -> dict[str, list[str]]:
    """Paths of the photos below each class folder that has any."""
    found = {name: walk_photos(str(folder / name), passed=passed) for name in names}
    return {name: paths for name, paths in found.items() if paths}


def _without_labels(folder: Path) -> str:
    if not photos_in(folder):
        return f"{folder} holds no photos. Give a folder with one folder of photos a class."
    lists = [file.name for file in folder.iterdir() if file.suffix.lower() in (".csv", ".tsv", ".txt")]
    more = f", or give the list that says what they show: --data {folder / min(lists)}" if lists else ""
    if split_of(folder.name):
        more += f"; if {folder.name} is a class itself, name all classes with --classes"
    return f"{folder} has photos but no labels: put them in one folder a class, {folder.name}/CLASS/{more}."


def _of_classes(
    folder: Path, item: str, found: dict[str, list[str]], passed: PassedOver, counted: Part
) -> LabeledDataset:
    """The photos of each class, sorted; `counted` is the reading's part without their number."""
    paths = [path for each in found.values() for path in sorted(each)]
    labels = np.repeat(np.arange(len(found)), [len(each) for each in found.values()])
    counted = replace(counted, photos=len(paths))
    reading = Reading.of("class folders", item, counted, classes=tuple(found), passed=passed)
    return LabeledDataset(PhotoFiles.below(str(folder), paths), labels, tuple(found), reading=reading)


def _with_findings(part: LabeledDataset, findings: tuple[str, ...]) -> LabeledDataset:
    return replace(part, reading=replace(part.reading, findings=part.reading.findings + findings))
