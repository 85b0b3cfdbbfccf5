"""Lists of photos: text files with a photo and perhaps its class a line, and CSV files with named columns."""

import os
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, get_args

import numpy as np

from ssl_colorize.data.class_folders import (
    EXPLICIT,
    FolderSplit,
    Parts,
    folder_split,
    listed,
    open_class_folders,
    unwrapped,
    with_held_out,
)  # fmt: skip
from ssl_colorize.data.datasets import LabeledDataset
from ssl_colorize.data.photos import PhotoFiles
from ssl_colorize.data.reading import Kind, Part, Reading
from ssl_colorize.data.splits import MEASURING, Split, find_splits, hold_out_by_class, only_one, split_of
from ssl_colorize.data.walk import PHOTO_SUFFIXES, subfolders
from ssl_colorize.errors import UserError
from ssl_colorize.text import read_lines, read_table

TABLES = (".csv", ".tsv")
LISTS = (*TABLES, ".txt", ".lst", ".list")

# Where the lists of a data set are, below its folder; and where the photos of a list are, seen from a folder.
_LIST_FOLDERS = ("", "meta", "lists", "list", "splits", "split", "filelist", "filelists", "ImageSets")
_PHOTO_FOLDERS = ("", "images", "Images", "image", "img", "imgs", "photos", "data", "JPEGImages")
_PHOTO_COLUMNS = (
    "path", "filepath", "file", "filename", "filenames", "imagepath", "imagefile", "imagefilename", "image",
    "images", "imagename", "imageid", "img", "imgpath", "imgname", "photo", "photos", "picture", "id", "fname",
    "name",
)  # fmt: skip
_LABEL_COLUMNS = (
    "label", "labels", "class", "classname", "classes", "category", "categories", "target", "labelname",
    "species", "breed", "y", "tag",
)  # fmt: skip
_SPLIT_COLUMNS = (
    "set", "subset", "partition", "part", "phase", "fold", "usage", "dataset",
)  # fmt: skip
_FLAGS: dict[str, Split] = {"isvalid": "val", "isval": "val", "istest": "test"}
_YES, _NO = ("true", "1", "yes", "t"), ("false", "0", "no", "f", "")
_SUFFIX = re.compile(
    rf"^(.*(?:{'|'.join(map(re.escape, sorted(PHOTO_SUFFIXES, key=len, reverse=True)))}))(?:[\s,;]+(.*))?$", re.I
)


class Entry(NamedTuple):
    """A photo on a list: its line, its path as written, and its class and its split where they are said."""

    line: int
    photo: str
    label: str | None = None
    split: Split | None = None


@dataclass(frozen=True)
class PhotoList:
    """A list whose photos were found.

    Attributes:
        file: the list.
        entries: one a photo, in the list's order, each photo once.
        paths: where each is.
        root: the folder that names begin at.
    """

    file: Path
    entries: tuple[Entry, ...]
    paths: tuple[str, ...]
    root: str

    @property
    def labeled(self) -> bool:
        """Whether every photo has a class, by the list or by the folder that it lies in."""
        return all(map(self.label, range(len(self.entries))))

    def label(self, index: int) -> str:
        """The class of a photo: as the list says, else the folder that it lies in; "" if it lies in none."""
        said = self.entries[index].label
        return said if said is not None else Path(self.paths[index][len(self.root) + 1 :]).parent.name

    def take(self, indices: Iterable[int]) -> "PhotoList":
        chosen = list(indices)
        return replace(self, entries=tuple(self.entries[i] for i in chosen), paths=tuple(self.paths[i] for i in chosen))

    def part(self, split: Split) -> "PhotoList":
        """The photos of a split of the list's own."""
        return self.take(i for i, entry in enumerate(self.entries) if entry.split == split)

    @property
    def kind(self) -> Kind:
        return "CSV" if self.file.suffix.lower() in TABLES else "list"

    @property
    def photos(self) -> PhotoFiles:
        return PhotoFiles.below(self.root, self.paths)


# ---- reading ---------------------------------------------------------------------------------------------------------


def is_list_name(name: str) -> bool:
    """Whether a file's name ends like that of a list.

    >>> is_list_name("train.txt"), is_list_name("cat.jpg")
    (True, False)
    """
    return name.lower().endswith(LISTS)


def read_entries(file: Path) -> list[Entry]:
    """What a list says, before any photo is looked for.

    A text file has a photo and perhaps a class a line, the photo in quotes or not, with spaces in its name or not;
    lines that begin with # say nothing. A CSV file has columns that a first line names, or photo and class.

    Raises:
        UserError: the file is no such list.

    >>> _ = Path("train.txt").write_text('a/cat (1).jpg 3\\n"b c.png" 4\\n# the rest\\nd.jpg\\n')
    >>> [(each.photo, each.label) for each in read_entries(Path("train.txt"))]
    [('a/cat (1).jpg', '3'), ('b c.png', '4'), ('d.jpg', None)]
    """
    if file.suffix.lower() in TABLES:
        return _read_rows(file)
    return [_entry(number, line) for number, line in read_lines(file) if not line.startswith("#")]


def _entry(number: int, line: str) -> Entry:
    quoted = re.match(r"""^(["'])(.+?)\1(?:[\s,;]+(.*))?$""", line)
    if quoted:
        return Entry(number, quoted[2], _unquoted(quoted[3]))
    if "\t" in line:
        photo, _, label = line.partition("\t")
        return Entry(number, photo.strip(), _unquoted(label))
    named = _SUFFIX.match(line)
    if named:
        return Entry(number, named[1], _unquoted(named[2]))
    return Entry(number, line)  # A name without a suffix; what follows it is told by whether it is there.


def _unquoted(label: str | None) -> str | None:
    return (label or "").strip().strip("\"'") or None


def _read_rows(file: Path) -> list[Entry]:
    rows = read_table(file)
    if not rows:
        raise UserError(f"{file} lists no photos.")
    header = [re.sub(r"[^a-z]", "", value.lower()) for value in rows[0][1]]
    if _SUFFIX.match(rows[0][1][0]):
        header = ["path", "label"][: len(rows[0][1])]
    else:
        rows = rows[1:]
    photo = _column(header, _PHOTO_COLUMNS)
    if photo is None:
        raise UserError(
            f"{file} has no column of photos: its first line names {listed(header)}; call one of them path or image, "
            "and one label."
        )
    label = _column(header, _LABEL_COLUMNS, other_than=photo)
    split = _split_column(header, rows, photo)
    flags = {place: _FLAGS[name] for place, name in enumerate(header) if name in _FLAGS}
    entries = []
    for number, row in rows:
        if len(row) <= max(photo, label or 0, split or 0, *flags):
            raise UserError(f"{file}, line {number}, has {len(row)} values, fewer than the first line names.")
        said = None if split is None else _split_value(row[split], file, number)
        for place, name in flags.items():
            said = name if _flag_value(row[place], file, number) else said or "train"
        entries.append(Entry(number, row[photo], None if label is None else row[label] or None, said))
    return entries


def _column(header: Sequence[str], names: Sequence[str], other_than: int | None = None) -> int | None:
    """The column of one of the names; else the only one whose name holds the first of them."""
    for name in names:
        if name in header and header.index(name) != other_than:
            return header.index(name)
    alike = [place for place, name in enumerate(header) if names[0] in name and place != other_than]
    return alike[0] if len(alike) == 1 else None


def _split_column(header: Sequence[str], rows: Sequence[tuple[int, list[str]]], photo: int) -> int | None:
    """The column of splits. One that may as well be of something else counts if all its values are splits."""
    for place, name in enumerate(header):
        values = {row[place] for _, row in rows if place < len(row)}
        if place != photo and (name == "split" or (name in _SPLIT_COLUMNS and all(map(split_of, values)))):
            return place
    return None


def _split_value(value: str, file: Path, number: int) -> Split:
    split = split_of(value)
    if split is None:
        raise UserError(f"{file}, line {number}: {value!r} is no split. Write train, val or test.")
    return split


def _flag_value(value: str, file: Path, number: int) -> bool:
    if value.lower() not in (*_YES, *_NO):
        raise UserError(f"{file}, line {number}: {value!r} is neither true nor false.")
    return value.lower() in _YES


# ---- finding the photos ----------------------------------------------------------------------------------------------


def read_list(file: Path, *, places: Sequence[Path] = ()) -> PhotoList:
    """A list with its photos, looked for beside it, in folders such as images/ there, and one folder above.

    Args:
        places: folders to look in first.

    Raises:
        UserError: the file is no list, a photo on it is missing, or is on it twice with different classes.
    """
    entries = read_entries(file)
    if not entries:
        raise UserError(f"{file} lists no photos.")
    root = _root(file, entries, places)
    if root is None:
        raise UserError(f"{file} names {entries[0].photo}, of which there is no photo in {file.parent} or near it.")
    found: dict[str, Entry] = {}
    missing = []
    for entry in entries:
        path, entry = _located(root, entry)
        if path is None:
            missing.append(entry)
            continue
        before = found.setdefault(path, entry)
        if (before.label, before.split) != (entry.label, entry.split):
            raise UserError(
                f"{file} has {entry.photo} twice, in lines {before.line} and {entry.line}, with different values."
            )
    if missing:
        more = f" and {len(missing) - 1} more photos" if len(missing) > 1 else ""
        raise UserError(f"{file}, line {missing[0].line}, names {missing[0].photo}{more}, not to be found in {root}.")
    return PhotoList(file, tuple(found.values()), tuple(found), _common(str(root), found))


def is_list_of_photos(file: Path, *, places: Sequence[Path] = ()) -> bool:
    """Whether a file names photos that are there; a log or a licence does not."""
    try:
        return _root(file, read_entries(file), places) is not None
    except UserError:
        return False


def _root(file: Path, entries: Sequence[Entry], places: Sequence[Path]) -> Path | None:
    """The folder where most of a list's first photos are; None if none of them is anywhere."""
    near = [base / name for base in (file.parent, file.parent.parent) for name in _PHOTO_FOLDERS]
    counts = {
        place: sum(_located(place, entry)[0] is not None for entry in entries[:20])
        for place in dict.fromkeys([*places, *near])
        if place.is_dir()
    }
    best = max(counts, key=lambda place: counts[place], default=None)
    return best if best is not None and counts[best] else None


def _located(root: Path, entry: Entry) -> tuple[str | None, Entry]:
    """The path of an entry's photo, None if it is not there; and the entry, with what turned out to be its class."""
    path = _path(root, entry.photo)
    if path is None and entry.label is None:
        # A name without a suffix, followed by a class.
        photo, _, label = entry.photo.partition(" ")
        path = _path(root, photo) if label else None
        if path is not None:
            entry = entry._replace(photo=photo, label=label.strip())
    return path, entry


def _path(root: Path, photo: str) -> str | None:
    for name in dict.fromkeys((photo, photo.replace("\\", "/"), unicodedata.normalize("NFD", photo),
                               unicodedata.normalize("NFC", photo))):  # fmt: skip
        written = os.path.expanduser(name)  # noqa: PTH111 - strings all the way, as in walk_photos
        # "/a/airfield/1.jpg" begins at the root of the photos in Places' lists.
        for path in (f"{root}/{written.lstrip('/')}", *([written] if os.path.isabs(written) else [])):  # noqa: PTH117
            path = os.path.normpath(path)
            if os.path.isfile(path):  # noqa: PTH113
                return path
            if not _SUFFIX.match(path):
                for suffix in (*_USUAL, *(each.upper() for each in _USUAL)):
                    if os.path.isfile(path + suffix):  # noqa: PTH113
                        return path + suffix
    return None


_USUAL = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif")


def _common(root: str, paths: Iterable[str]) -> str:
    """The root, or what all paths have in common if one lies elsewhere."""
    root = os.path.normpath(root)
    if all(path.startswith(f"{root}{os.sep}") for path in paths):
        return root
    return os.path.commonpath([root, *map(os.path.dirname, paths)]).rstrip(os.sep)


# ---- lists as data sets ----------------------------------------------------------------------------------------------


def find_lists(folder: Path) -> dict[Split, PhotoList]:
    """The lists of photos of a folder, by split; none where there is none to train on.

    Raises:
        UserError: there are several for one split, or a photo on one is missing.
    """
    for name in _LIST_FOLDERS:
        place = folder / name
        if not place.is_dir():
            continue
        files = {file.stem: file for file in sorted(place.iterdir()) if is_list_name(file.name) and file.is_file()}
        found = find_splits(files)
        if not any(found.values()):
            continue
        beside = find_splits(subfolders(folder))
        lists: dict[Split, PhotoList] = {}
        for split, stems in found.items():
            places = [folder / each for each in beside[split]]
            # A list of the photos of one split may name them from there, or from the folder of all.
            real = [stem for stem in stems if is_list_of_photos(files[stem], places=[folder, *places])]
            stem = only_one(real, split, where=place, explicit=EXPLICIT.replace("DIR", "FILE"))
            if stem is not None:
                lists[split] = read_list(files[stem], places=[folder, *places])
        if "train" in lists and (len(lists) > 1 or all(each.label for each in lists["train"].entries)):
            return lists
    return {}


def open_list(file: Path, item: str, classes: Sequence[str] = ()) -> Parts:
    """The photos of one list to train on and to test on: by its column of splits, else a fifth of each class tests.

    Raises:
        UserError: as `read_list`; or photos have no class.
    """
    photos = read_list(file)
    lists = splits_of_list(photos)
    if len(lists) > 1:
        return parts_of_lists(lists, item, classes)
    return with_held_out(labeled(photos, class_names([photos], classes), item, "train"))


def splits_of_list(photos: PhotoList) -> dict[Split, PhotoList]:
    """The parts of a list that has a column of splits; it alone, as what trains, if it has none.

    Raises:
        UserError: nothing is there to train on.
    """
    parts = {split: part for split in get_args(Split) if (part := photos.part(split)).entries}
    if parts and "train" not in parts:
        raise UserError(f"{photos.file} has no photo whose split is train.")
    return parts or {"train": photos}


def parts_of_lists(lists: Mapping[Split, PhotoList], item: str, classes: Sequence[str] = ()) -> Parts:
    """Photos to train on and to test on of lists by split: test, or where that has no classes val.

    Raises:
        UserError: photos have no class.
    """
    train, test = lists["train"], tested_list(lists)
    names = class_names([train, *([test] if test else [])], classes)
    part = labeled(train, names, item, "train")
    return with_held_out(part) if test is None else (part, labeled(test, names, item, "test"))


def tested_list(lists: Mapping[Split, PhotoList]) -> PhotoList | None:
    """The list to test on: that of test, unless it says no classes, else that of val; None if neither does."""
    return next((lists[split] for split in MEASURING if split in lists and lists[split].labeled), None)


def list_hold_out(photos: PhotoList) -> list[str]:
    """Paths of the photos of a list that test where there is no split; none where nothing can be tested on."""
    if not photos.labeled:
        return []
    whole = labeled(photos, class_names([photos]), str(photos.file), "train")
    if len(whole.classes) < 2 or whole.counts().max() < 2:
        return []
    _, test = hold_out_by_class(whole.photos, whole.labels)
    return [photos.paths[index] for index in test]


def find_split(folder: Path, classes: Sequence[str] = ()) -> FolderSplit | dict[Split, PhotoList]:
    """How a folder's photos are split: by class folders, else by lists, else a fifth of each class folder tests.

    Raises:
        UserError: it cannot be told.
    """
    try:
        split = folder_split(folder, classes)
        if split.test is not None or (classes and not split.measuring):
            return split
    except UserError as problem:
        lists = _any_lists(folder)
        if not lists:
            raise problem from None
        return lists
    return _any_lists(folder) or split


def open_labeled(folder: Path, item: str, classes: Sequence[str] = ()) -> Parts:
    """The photos of a folder to train on and to test on, by what `find_split` finds.

    Raises:
        UserError: it cannot be told which are which, or what they show.
    """
    split = find_split(folder, classes)
    if isinstance(split, dict):
        return parts_of_lists(split, item, classes)
    return open_class_folders(folder, split, item, classes)


def _any_lists(folder: Path) -> dict[Split, PhotoList]:
    return next((lists for each in dict.fromkeys((folder, unwrapped(folder))) if (lists := find_lists(each))), {})


def class_names(lists: Sequence[PhotoList], classes: Sequence[str] = ()) -> tuple[str, ...]:
    """The classes of lists: as given, else sorted, numbers by their value.

    Raises:
        UserError: a photo has no class.
    """
    for each in lists:
        if not each.labeled:
            number = next(i for i in range(len(each.entries)) if not each.label(i))
            raise UserError(
                f"{each.file}, line {each.entries[number].line}, does not say what {each.entries[number].photo} shows: "
                "write the class behind the photo."
            )
    found = {each.label(i) for each in lists for i in range(len(each.entries))}
    if classes:
        return tuple(classes)
    return tuple(sorted(found, key=lambda name: (0, int(name), "") if _is_number(name) else (1, 0, name)))


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdigit()


def labeled(photos: PhotoList, classes: Sequence[str], item: str, split: str) -> LabeledDataset:
    """The photos of a list with their classes; those of other classes are passed over.

    Labels that are numbers below the number of classes, none of which is called so, count the classes.
    """
    said = [photos.label(i) for i in range(len(photos.entries))]
    numbers = {name: place for place, name in enumerate(classes)}
    if not numbers.keys() & set(said) and all(_is_number(name) and int(name) < len(classes) for name in said):
        numbers = {str(name): int(name) for name in said}
    kept = photos.take(i for i, name in enumerate(said) if name in numbers)
    other = {photos.entries[i].photo for i, name in enumerate(said) if name not in numbers}
    labels = np.asarray([numbers[name] for name in said if name in numbers], np.int64)
    place = () if Path(item).name == photos.file.name else (photos.file.name,)
    reading = Reading.of(photos.kind, item, Part(split, len(labels), place), classes=tuple(classes))
    if other:
        reading = reading.passing("unlabeled", other)
    return LabeledDataset(kept.photos, labels, tuple(classes), reading=reading)
