"""From what `--data` says to photos, or to photos with labels, boxes or masks."""

import difflib
import os
import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ssl_colorize.data.annotations import Annotation, summary
from ssl_colorize.data.class_folders import HELD_OUT, Parts, listed
from ssl_colorize.data.coco import read_coco, refuse_mask_values
from ssl_colorize.data.datasets import LabeledDataset, check_trained_masks, join, with_trained_classes
from ssl_colorize.data.explicit import explicit_parts
from ssl_colorize.data.lists import TABLES, is_list_name, open_labeled, open_list, read_list
from ssl_colorize.data.photos import PhotoFiles, Photos, together
from ssl_colorize.data.reading import Kind, Part, PassedOver, Reading, joined
from ssl_colorize.data.samples import SamplePhotos
from ssl_colorize.data.tested_photos import Tested, find_tested_photos, tested_of_list
from ssl_colorize.data.torchvision_sets import TORCHVISION_SETS, fetch_voc, open_labeled_torchvision, open_torchvision
from ssl_colorize.data.training_photos import (
    Identity,
    TrainingPhotos,
    find_training_photos,
    identities,
    training_photos_of_list,
)  # fmt: skip
from ssl_colorize.data.voc import VOC_PHOTOS, find_voc, read_voc
from ssl_colorize.data.walk import is_photo_name, walk_photos
from ssl_colorize.errors import UserError
from ssl_colorize.text import read_lines

_TORCHVISION_VOC = ("voc2007", "voc2012")


def leave_out(photos: Photos, file: Path) -> Photos:
    """A set without the photos whose names a file lists, one a line; lines that begin with "# " say nothing.

    How many names matched, and the first that did not, are findings of the set's reading.

    Raises:
        UserError: the file cannot be read, lists none of the photos, or lists all of them.

    >>> _ = Path("exclude.txt").write_text("astronaut.png")
    >>> photos = leave_out(open_photos(["samples"]), Path("exclude.txt"))
    >>> "astronaut.png" in [photos.name(index) for index in range(len(photos))]
    False
    """
    # Names of letters with accents are written in two ways, which look alike.
    lines = [line.removeprefix("./") for _, line in read_lines(file) if not line.startswith("# ")]
    asked = {unicodedata.normalize("NFC", line): line for line in lines}
    names = [photos.name(index) for index in range(len(photos))]
    plain = [unicodedata.normalize("NFC", name) for name in names]
    kept = [index for index, name in enumerate(plain) if name not in asked]
    if asked and len(kept) == len(photos):
        raise UserError(f"{file} names none of the photos to train on: they are called like {names[0]!r}.")
    if not kept:
        raise UserError(f"{file} leaves no photo to train on.")
    missed = [line for name, line in asked.items() if name not in set(plain)]
    matched = len(asked) - len(missed)
    said = f"{matched} of the {len(asked)} names in {file.name} matched"
    if len(photos) - len(kept) > matched:
        said += f", some of them several photos ({len(photos) - len(kept)} in all)"
    if len(lines) > len(asked):
        said += f", {len(lines) - len(asked)} are there twice"
    said += f"; not {listed(map(repr, missed))}" if missed else ""
    reading = photos.reading.passing("excluded", set(names) - {names[index] for index in kept})
    return photos.take(kept).with_reading(replace(reading, findings=(*reading.findings, said)))


def open_photos(
    data: Sequence[str] = (),
    *,
    train: Sequence[str] = (),
    split: str = "train",
    limit: int | None = None,
    root: Path | None = None,
) -> Photos:
    """Open the photos that `--data` names; several items make one set.

    Each item is "samples", a torchvision name of TORCHVISION_SETS, a folder, or a file. A name wins over a folder of
    the same name: write `./cifar10` for the folder.

    Split "train" never reads what `open_dataset` of the same items has to test on: see `find_training_photos`. Split
    "test" reads that, and all of what has neither labels nor splits; "all" reads every photo.

    Args:
        train: folders, lists and photos of which everything is read, whatever they are called; of a torchvision set
            its training part.
        limit: at most so many photos, picked evenly by a hash of their names.
        root: where torchvision sets are stored; by default $SSL_COLORIZE_DATA, else ~/.cache/ssl-colorize.

    Raises:
        UserError: an item is unknown, missing or empty, or a set cannot be downloaded.

    >>> photos = open_photos(["samples"], limit=2)
    >>> len(photos), photos[0].mode
    (2, 'RGB')
    """
    if split not in ("train", "test", "all"):
        raise ValueError(f"split is 'train', 'test' or 'all', not {split!r}")
    if not (data or train):
        raise UserError("No photos given. Say which with --data: a folder, a list, a torchvision name, or samples.")
    if limit is not None and limit < 1:
        raise UserError(f"--limit is the number of photos to use, at least 1, not {limit}.")
    opened, tested = [], set()
    for item in data:
        photos, measured = _open_item(str(item), split=split, root=root)
        opened.append(photos)
        tested.update(measured)
    # Of one item this is done: what it tests on may be what another one is to train on.
    opened = [_without(each, tested) for each in opened] if tested and len(opened) > 1 else opened
    for item in map(str, train):
        # Sets by name keep to their own splits.
        everything = "train" if item in TORCHVISION_SETS else "all"
        opened.append(_open_item(item, split=everything, root=root)[0])
    whole = together(opened)
    if not len(whole):
        raise UserError(f"{', '.join(map(str, data))}: all photos are in what another item has to test on.")
    limited = whole if limit is None else whole.limit(limit)
    return limited.with_reading(joined(each.reading for each in opened))


def _without(photos: Photos, tested: set[Identity]) -> Photos:
    if not isinstance(photos, PhotoFiles):
        return photos
    found = identities(photos.paths)
    left = {photos.name(index) for index, each in enumerate(found) if each in tested}
    if not left:
        return photos
    kept = photos.take(index for index, each in enumerate(found) if each not in tested)
    return kept.with_reading(photos.reading.passing("measuring", left))


def _open_item(item: str, *, split: str, root: Path | None) -> tuple[Photos, set[Identity]]:
    """The photos of an item, and what tells the files that it has to test on."""
    if item == "samples":
        samples = SamplePhotos.installed()
        return samples.with_reading(Reading.of("samples", item, Part(split, len(samples)))), set()
    if item in TORCHVISION_SETS:
        photos = open_torchvision(item, split=split, root=root or default_root())
        return photos.with_reading(Reading.of("torchvision", item, Part(split, len(photos)))), set()
    path = Path(item).expanduser().absolute()
    if path.is_dir() and split == "test":
        passed: PassedOver = {}
        return _open_tested(find_tested_photos(path, passed), path, item, "photos", passed), set()
    if path.is_dir():
        return _open_folder(path, item) if split == "all" else _open_training(find_training_photos(path), path, item)
    if path.is_file() and is_list_name(path.name):
        listing = read_list(path)
        if split == "test":
            return _open_tested(tested_of_list(listing), path, item, listing.kind), set()
        if split == "train":
            return _open_training(training_photos_of_list(listing), path, item, root=listing.root)
        reading = Reading.of(listing.kind, item, Part(split, len(listing.paths)))
        return listing.photos.with_reading(reading), set()
    if path.is_file():
        if not is_photo_name(path.name):
            raise UserError(
                f"{item} is not a photo by its name, nor a list (.txt, .csv). Give a photo, a folder of photos, a "
                "list, or a set by name."
            )
        files = PhotoFiles.below(str(path.parent), [str(path)])
        return files.with_reading(Reading.of("photos", item, Part(split, 1))), set()
    raise UserError(_unknown(item))


def default_root() -> Path:
    """Where torchvision sets are stored unless told otherwise."""
    return Path(os.environ.get("SSL_COLORIZE_DATA") or "~/.cache/ssl-colorize").expanduser()


def _unknown(item: str) -> str:
    names = ["samples", *sorted(TORCHVISION_SETS)]
    close = difflib.get_close_matches(item, names, n=1)
    hint = f" Did you mean {close[0]}?" if close else ""
    return f"No photos at {item}: no such folder or file, nor one of the sets {', '.join(names)}.{hint}"


def _open_folder(folder: Path, item: str) -> tuple[Photos, set[Identity]]:
    """Every photo of a folder; of a VOC folder at any depth none of the masks, which are pictures too."""
    passed: PassedOver = {}
    voc: list[str] = []

    def choose(here: str, subfolders: list[str]) -> tuple[bool, list[str]]:
        if VOC_PHOTOS in subfolders:
            voc.extend(walk_photos(f"{here}{os.sep}{VOC_PHOTOS}", passed=passed))
            return False, []
        return True, subfolders

    paths = sorted(walk_photos(str(folder), choose, passed) + voc)
    if not paths:
        raise UserError(_NO_PHOTOS.format(folder))
    photos = PhotoFiles.below(str(folder), paths)
    return photos.with_reading(Reading.of("photos", item, Part("all", len(photos)), passed=passed)), set()


def _open_tested(tested: Tested, path: Path, item: str, kind: Kind, passed: PassedOver | None = None) -> Photos:
    """The photos of a folder or list that measuring verbs test on."""
    root, paths, place = tested
    if not paths:
        raise UserError(_NO_PHOTOS.format(path))
    if place == HELD_OUT:
        place = f"only the fifth of each class that no verb trains on; --test {item} reads all"
    reading = Reading.of(kind, item, Part("test", len(paths), (place,) if place else ()), passed=passed or {})
    return PhotoFiles.below(root, paths).with_reading(reading)


_NO_PHOTOS = "{} holds no photos. Give a folder with files like .jpg, .png or .webp in it."


def _open_training(
    found: TrainingPhotos, path: Path, item: str, *, root: str | None = None
) -> tuple[Photos, set[Identity]]:
    """The photos of a folder or list to pretrain on; names begin at `root`, by default the folder."""
    tested = set(identities([*found.measured, *found.held_out]))
    there = bool(found.paths)
    found.without_tested(tested)
    if not found.paths:
        if found.left_out or there:
            names = ", ".join(sorted(found.left_out)) or "photos"
            raise UserError(
                f"{path} has no photos to train on: it holds only {names}, kept for measuring. Put the photos to "
                "train on in train/, or name the very folder to train on."
            )
        raise UserError(_NO_PHOTOS.format(path))
    passed = dict(found.passed)
    if found.measured or found.held_out:
        passed["measuring"] = {*passed.get("measuring", set()), *found.measured, *found.held_out}
    kind: Kind = "photos" if path.is_dir() else "CSV" if path.suffix.lower() in TABLES else "list"
    places = tuple(found.places) if path.is_dir() else ()
    if found.held_out:
        places += (f"all but the fifth of each class that measuring verbs test on; --train {item} reads all",)
    reading = Reading.of(kind, item, Part("train", len(found.paths), places), passed=passed)
    photos = PhotoFiles.below(root or str(path), found.paths)
    return photos.with_reading(reading), tested


# ---- photos with labels, boxes or masks ------------------------------------------------------------------------------


def open_dataset(
    data: Sequence[str] = (),
    *,
    train: Sequence[str] = (),
    test: Sequence[str] = (),
    classes: Sequence[str] = (),
    annotation: Annotation = "labels",
    limit: int | None = None,
    root: Path | None = None,
    mask_values: str | None = None,
) -> Parts:
    """The photos to train on and those to test on, with the same classes in the same order.

    Each item is, for labels,
    - a folder DATA/train/CLASS/... with DATA/test/CLASS/... (or val/) beside it; without these, or with train/ alone, a
      fifth of each class is the test part, picked by a hash of the names, so that it is the same on every machine;
    - a VOC folder, multi-label: trains on its list trainval and tests on test where that is annotated, else train
      and val;
    - a folder with lists (train.txt and test.txt, or CSV), whose photos lie beside or below them; or one list, whose
      column of splits counts;
    - a torchvision name;

    and for boxes and masks a VOC folder, a COCO folder (annotations/instances_train*.json and instances_val*.json), or
    "voc2007" or "voc2012". Boxes that reach out of their photo are clipped, unusable ones dropped, photos that do not
    fit their annotation left out; each is named in the `findings` of its part. Several items are one set.

    A photo that is a file to test on, under whatever name, is not trained on.

    Args:
        train: in place of `data`, what to train on, whatever it is called: folders of class folders, lists, COCO's
            files, lists of a VOC folder.
        test: likewise what to test on; a fifth of each class of what is labeled in `train` if none is given.
        classes: only these, in this order: names, with commas between them, and files of names, one a line.
        limit: at most so many photos to train on, and a quarter as many to test on, with at least one of each class.
        root: where torchvision sets are stored; by default $SSL_COLORIZE_DATA, else ~/.cache/ssl-colorize.
        mask_values: of masks in files, what stands for class 0, 1, ...: "0,255"; 0, 1, ... if not given.

    Raises:
        UserError: an item is missing, empty or unusable; there are fewer than 2 classes to label with; a class of the
            test part has no photo to train on; a mask does not fit its photo.

    >>> from PIL import Image
    >>> for path in [Path("photos", name, f"{number}.png") for name in ("cat", "dog") for number in range(5)]:
    ...     path.parent.mkdir(parents=True, exist_ok=True)
    ...     Image.new("RGB", (8, 8)).save(path)
    >>> train, test = open_dataset(["photos"])
    >>> train.classes, len(train), test.labels.tolist()
    (('cat', 'dog'), 8, [0, 1])
    """
    if data and (train or test):
        raise UserError("Give --data, or --train and --test, which say which photos are for what; not both.")
    if not (data or train):
        kinds = "a folder of class folders, a list, VOC, or a torchvision set"
        if annotation != "labels":
            kinds = "a VOC folder, a COCO folder, voc2007 or voc2012"
        alone = "--test says what to test on; " if test else "No photos given. "
        raise UserError(f"{alone}Name {kinds} with --data{', or the part to train on with --train' if test else ''}.")
    wanted = _classes(classes)
    if wanted and annotation == "masks":
        raise UserError("--classes does not go with masks, whose values say what is what: change classes.txt.")
    where = ", ".join(map(str, data or (*train, *test)))
    if data:
        opened = [_open_parts(str(item), annotation, root or default_root(), wanted, mask_values) for item in data]
        parts = join([each[0] for each in opened]), join([each[1] for each in opened])
    else:
        parts = explicit_parts(list(map(str, train)), list(map(str, test)), annotation, wanted, mask_values)
    if wanted:
        parts = _of_classes(parts[0], wanted, where), _of_classes(parts[1], wanted, where)
    parts = _apart(*parts, where=where)
    for part, name in zip(parts, ("train on", "test on"), strict=True):
        if not len(part):
            raise UserError(f"{where} has no photos to {name}.")
    if annotation == "masks":
        parts = check_trained_masks(*parts, where=where), parts[1]
    else:
        parts = with_trained_classes(*parts, where=where)
    parts = _with_findings(parts[0], "to train on"), _with_findings(parts[1], "to test on")
    untested = set(parts[0].shown()) - set(parts[1].shown())
    if untested and annotation != "masks":
        parts = parts[0], _finding(parts[1], f"no photo to test on of {listed(sorted(untested))}")
    if limit is None:
        return parts
    most = max(limit // 4, len(parts[1].shown()))
    return parts[0].limit(limit, where=where), parts[1].limit(most, where=where)


def _with_findings(part: LabeledDataset, name: str) -> LabeledDataset:
    """With what was found of annotations in its reading."""
    for line in summary(part.findings):
        part = _finding(part, f"Photos {name}: {line}")
    return part


def _finding(part: LabeledDataset, line: str) -> LabeledDataset:
    return replace(part, reading=replace(part.reading, findings=(*part.reading.findings, line)))


def _classes(said: Sequence[str]) -> tuple[str, ...]:
    """The names of --classes: each value is a file with one a line, or names with commas between them.

    Raises:
        UserError: a name is there twice.
    """
    names: list[str] = []
    for value in said:
        file = Path(value).expanduser()
        if (file.suffix or os.sep in value) and file.is_file():
            names += [line for _, line in read_lines(file)]
        else:
            names += [name.strip() for name in value.split(",") if name.strip()]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"--classes names {name} twice.")
    return tuple(names)


def _of_classes(part: LabeledDataset, classes: tuple[str, ...], where: str) -> LabeledDataset:
    """The part over these classes, in this order; photos of other classes alone are passed over.

    Raises:
        UserError: one is no class of it.
    """
    missing = [name for name in classes if name not in part.classes]
    if missing:
        raise UserError(f"--classes names {missing[0]}, which is no class of {where}: it has {listed(part.classes)}.")
    if not part.multilabel:
        known = [part.classes.index(name) for name in classes]
        inside = np.isin(part.labels, known)
        other = {part.photos.name(index) for index in np.flatnonzero(~inside).tolist()}
        reading = part.reading.passing("unlabeled", other)
        part = replace(part.take(np.flatnonzero(inside).tolist()), reading=reading)
    return part.restrict(classes)


def _apart(train: LabeledDataset, test: LabeledDataset, *, where: str) -> Parts:
    """Both parts, without those photos to train on that are files, under whatever name, that are tested on.

    Raises:
        UserError: that is all of them.
    """
    if not (isinstance(train.photos, PhotoFiles) and isinstance(test.photos, PhotoFiles)):
        return train, test
    tested = set(identities(test.photos.paths))
    kept = [index for index, each in enumerate(identities(train.photos.paths)) if each not in tested]
    if len(kept) == len(train):
        return train, test
    if not kept:
        raise UserError(f"{where}: the photos to train on and those to test on are the same files.")
    left = set(map(train.photos.name, range(len(train)))) - {train.photos.name(index) for index in kept}
    return replace(train.take(kept), reading=train.reading.passing("measuring", left)), test


def _open_parts(
    item: str, annotation: Annotation, root: Path, classes: Sequence[str], mask_values: str | None
) -> Parts:
    if annotation == "labels" and item in TORCHVISION_SETS and item not in _TORCHVISION_VOC:
        return _noted("torchvision", item, open_labeled_torchvision(item, root=root))
    folder = fetch_voc(item, root=root) if item in _TORCHVISION_VOC else Path(item).expanduser().absolute()
    if annotation == "labels" and folder.is_file() and is_list_name(folder.name):
        return open_list(folder, item, classes)
    if not folder.is_dir():
        if annotation == "labels":
            kinds = f"a folder of class folders, a list, a VOC folder, or one of {', '.join(sorted(TORCHVISION_SETS))}"
            raise UserError(f"No labeled photos at {item}: give {kinds}.")
        raise UserError(f"No annotated photos at {item}: give a VOC folder, a COCO folder, voc2007 or voc2012.")
    voc = find_voc(folder)
    if voc is not None:
        return _noted("VOC", item, read_voc(voc, annotation, mask_values=mask_values))
    if annotation == "labels":
        return open_labeled(folder, item, classes)
    coco = read_coco(folder, annotation)
    if coco is None:
        raise UserError(
            f"{item} holds no annotated photos: neither a VOC folder (with {VOC_PHOTOS}) nor a COCO folder "
            "(with annotations/instances_train*.json)."
        )
    refuse_mask_values(mask_values, item)
    return _noted("COCO", item, coco)


def _noted(kind: Kind, item: str, parts: Parts) -> Parts:
    """Parts with a reading each, which says no more than how many photos they have."""
    train, test = (
        replace(part, reading=Reading.of(kind, item, Part(split, len(part)), classes=part.classes))
        for split, part in zip(("train", "test"), parts, strict=True)
    )
    return train, test
