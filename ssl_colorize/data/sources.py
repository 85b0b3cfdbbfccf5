"""From what `--data` says to photos, or to photos with labels, boxes or masks."""

import difflib
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ssl_colorize.data.annotations import Annotation, summary
from ssl_colorize.data.coco import measuring_folders, read_coco
from ssl_colorize.data.datasets import LabeledDataset, join, with_trained_classes
from ssl_colorize.data.photos import PhotoFiles, Photos, together
from ssl_colorize.data.reading import Kind, Part, PassedOver, Reading, joined
from ssl_colorize.data.samples import SamplePhotos
from ssl_colorize.data.splits import find_splits, hold_out_by_class, measuring_names
from ssl_colorize.data.torchvision_sets import TORCHVISION_SETS, fetch_voc, open_labeled_torchvision, open_torchvision
from ssl_colorize.data.voc import VOC_PHOTOS, find_voc, pretraining_photos, read_voc
from ssl_colorize.data.walk import is_photo_name, walk_photos
from ssl_colorize.errors import UserError, one_line

Parts = tuple[LabeledDataset, LabeledDataset]

_TORCHVISION_VOC = ("voc2007", "voc2012")


def leave_out(photos: Photos, file: Path) -> Photos:
    """A set without the photos whose names a file lists, one a line.

    Raises:
        UserError: the file cannot be read, lists none of the photos, or lists all of them.

    >>> _ = Path("exclude.txt").write_text("astronaut.png")
    >>> photos = leave_out(open_photos(["samples"]), Path("exclude.txt"))
    >>> "astronaut.png" in [photos.name(index) for index in range(len(photos))]
    False
    """
    try:
        names = set(file.read_text("utf-8").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read as a list of photos to leave out: {one_line(error)}.") from None
    kept = [index for index in range(len(photos)) if photos.name(index) not in names]
    if names - {""} and len(kept) == len(photos):
        example = photos.name(0)
        raise UserError(f"{file} names none of the photos to train on: they are called like {example!r}.")
    if not kept:
        raise UserError(f"{file} leaves no photo to train on.")
    left = {photos.name(index) for index in range(len(photos))}.intersection(names)
    return photos.take(kept).with_reading(photos.reading.passing("excluded", left))


def open_photos(
    data: Sequence[str], *, split: str = "train", limit: int | None = None, root: Path | None = None
) -> Photos:
    """Open the photos that `--data` names; several items make one set.

    Each item is "samples", a torchvision name of TORCHVISION_SETS, a folder, or a file. A name wins over a folder of
    the same name: write `./cifar10` for the folder.

    Of a folder, split "train" reads `train/` where there is one, and never `val/` or `test/`; of a VOC folder, its
    training list; of a COCO folder, nothing that its annotations are to test on. This holds at every depth, so a folder
    of data sets works. Split "all" reads every photo.

    Args:
        limit: at most so many photos, picked evenly by a hash of their names.
        root: where torchvision sets are stored; by default $SSL_COLORIZE_DATA, else ~/.cache/ssl-colorize.

    Raises:
        UserError: an item is unknown, missing or empty, or a set cannot be downloaded.

    >>> photos = open_photos(["samples"], limit=2)
    >>> len(photos), photos[0].mode
    (2, 'RGB')
    """
    if split not in ("train", "all"):
        raise ValueError(f"split is 'train' or 'all', not {split!r}")
    if not data:
        raise UserError("No photos given. Say which with --data: a folder, a torchvision name, or samples.")
    if limit is not None and limit < 1:
        raise UserError(f"--limit is the number of photos to use, at least 1, not {limit}.")
    opened = [_open_item(str(item), split=split, root=root) for item in data]
    photos = together(opened)
    limited = photos if limit is None else photos.limit(limit)
    return limited.with_reading(joined(each.reading for each in opened))


def _open_item(item: str, *, split: str, root: Path | None) -> Photos:
    if item == "samples":
        samples = SamplePhotos.installed()
        return samples.with_reading(Reading.of("samples", item, Part(split, len(samples))))
    if item in TORCHVISION_SETS:
        photos = open_torchvision(item, split=split, root=root or default_root())
        return photos.with_reading(Reading.of("torchvision", item, Part(split, len(photos))))
    path = Path(item).expanduser()
    if path.is_dir():
        return _open_folder(item, split=split)
    if path.is_file():
        if not is_photo_name(path.name):
            raise UserError(f"{item} is not a photo by its name. Give a photo, a folder of photos, or a set by name.")
        files = PhotoFiles.below(str(path.absolute().parent), [str(path.absolute())])
        return files.with_reading(Reading.of("photos", item, Part(split, 1)))
    raise UserError(_unknown(item))


def default_root() -> Path:
    """Where torchvision sets are stored unless told otherwise."""
    return Path(os.environ.get("SSL_COLORIZE_DATA") or "~/.cache/ssl-colorize").expanduser()


def _unknown(item: str) -> str:
    names = ["samples", *sorted(TORCHVISION_SETS)]
    close = difflib.get_close_matches(item, names, n=1)
    hint = f" Did you mean {close[0]}?" if close else ""
    return f"No photos at {item}: no such folder or file, nor one of the sets {', '.join(names)}.{hint}"


def _open_folder(item: str, *, split: str) -> PhotoFiles:
    # Absolute, so that the same file given in two ways is known as one.
    folder = str(Path(item).expanduser().absolute())
    passed: PassedOver = {}
    paths, left_out = _list_folder(folder, passed, training=split == "train")
    if paths:
        passed |= {"measuring": {f"{name}/" for name in left_out}} if left_out else {}
        reading = Reading.of("photos", item, Part(split, len(paths)), passed=passed)
        return PhotoFiles.below(folder, sorted(paths)).with_reading(reading)
    if left_out:
        names = ", ".join(f"{name}/" for name in sorted(left_out))
        raise UserError(
            f"{folder} has no photos to train on: it holds only {names}, kept for measuring. Put the photos to train "
            "on in train/, or name the very folder to train on."
        )
    raise UserError(f"{folder} holds no photos. Give a folder with files like .jpg, .png or .webp in it.")


def _list_folder(folder: str, passed: PassedOver, *, training: bool) -> tuple[list[str], set[str]]:
    """The photo files to read, and the names of folders that were left out because they are for measuring."""
    inside: list[str] = []
    left_out: set[str] = set()

    def choose(here: str, subfolders: list[str]) -> tuple[bool, list[str]]:
        if VOC_PHOTOS in subfolders:
            # Only these: the masks beside them are pictures too.
            below = f"{here}{os.sep}{VOC_PHOTOS}"
            found = pretraining_photos(here) if training else walk_photos(below, passed=passed)
            inside.extend(found)
            if not found:
                left_out.add(VOC_PHOTOS)
            return False, []
        if not training:
            return True, subfolders
        train = find_splits(subfolders)["train"]
        if train:
            # Not by this rule again: below train/ a class may have any name.
            inside.extend(path for name in train for path in walk_photos(f"{here}{os.sep}{name}", passed=passed))
            return False, []
        measuring = measuring_names(subfolders)
        if "annotations" in subfolders or Path(here).name == "images":
            coco = Path(here) if "annotations" in subfolders else Path(here).parent
            measuring += [name for name in measuring_folders(coco) if name in subfolders]
        left_out.update(measuring)
        return True, [name for name in subfolders if name not in measuring]

    return walk_photos(folder, choose, passed) + inside, left_out


# ---- photos with labels, boxes or masks ------------------------------------------------------------------------------


def open_dataset(
    data: Sequence[str], *, annotation: Annotation = "labels", limit: int | None = None, root: Path | None = None
) -> Parts:
    """The photos to train on and those to test on, with the same classes in the same order.

    Each item is, for labels,
    - a folder DATA/train/CLASS/... with DATA/test/CLASS/... (or val/) beside it; without these, or with train/ alone, a
      fifth of each class is the test part, picked by a hash of the names, so that it is the same on every machine;
    - a VOC folder, multi-label: trains on its list trainval and tests on test where that is annotated, else train
      and val;
    - a torchvision name;

    and for boxes and masks a VOC folder, a COCO folder (annotations/instances_train*.json and instances_val*.json), or
    "voc2007" or "voc2012". Boxes that reach out of their photo are clipped, unusable ones dropped, photos that do not
    fit their annotation left out; each is named in the `findings` of its part. Several items are one set.

    Args:
        limit: at most so many photos to train on, and a quarter as many to test on, with at least one of each class.
        root: where torchvision sets are stored; by default $SSL_COLORIZE_DATA, else ~/.cache/ssl-colorize.

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
    if not data:
        kinds = "a folder of class folders, VOC, or a torchvision set"
        if annotation != "labels":
            kinds = "a VOC folder, a COCO folder, voc2007 or voc2012"
        raise UserError(f"No photos given. Name {kinds} with --data.")
    opened = [_open_parts(str(item), annotation, root or default_root()) for item in data]
    where = ", ".join(map(str, data))
    train, test = (join([each[part] for each in opened]) for part in (0, 1))
    for part, name in ((train, "train on"), (test, "test on")):
        if not len(part):
            raise UserError(f"{where} has no photos to {name}.")
    if annotation != "masks":
        train, test = with_trained_classes(train, test, where=where)
    train, test = (
        replace(
            part,
            reading=replace(part.reading, findings=tuple(f"Photos {name}: {line}" for line in summary(part.findings))),
        )
        for name, part in (("to train on", train), ("to test on", test))
    )
    if limit is None:
        return train, test
    return train.limit(limit, where=where), test.limit(max(limit // 4, len(test.shown())), where=where)


def _open_parts(item: str, annotation: Annotation, root: Path) -> Parts:
    if annotation == "labels" and item in TORCHVISION_SETS and item not in _TORCHVISION_VOC:
        return _noted("torchvision", item, open_labeled_torchvision(item, root=root))
    folder = fetch_voc(item, root=root) if item in _TORCHVISION_VOC else Path(item).expanduser().absolute()
    if not folder.is_dir():
        if annotation == "labels":
            kinds = f"a folder of class folders, a VOC folder, or one of {', '.join(sorted(TORCHVISION_SETS))}"
            raise UserError(f"No labeled photos at {item}: give {kinds}.")
        raise UserError(f"No annotated photos at {item}: give a VOC folder, a COCO folder, voc2007 or voc2012.")
    voc = find_voc(folder)
    if voc is not None:
        return _noted("VOC", item, read_voc(voc, annotation))
    if annotation == "labels":
        return _open_class_folders(folder, item)
    coco = read_coco(folder, annotation)
    if coco is None:
        raise UserError(
            f"{item} holds no annotated photos: neither a VOC folder (with {VOC_PHOTOS}) nor a COCO folder "
            "(with annotations/instances_train*.json)."
        )
    return _noted("COCO", item, coco)


def _noted(kind: Kind, item: str, parts: Parts) -> Parts:
    """Parts with a reading each, which says no more than how many photos they have."""
    train, test = (
        replace(part, reading=Reading.of(kind, item, Part(split, len(part)), classes=part.classes))
        for split, part in zip(("train", "test"), parts, strict=True)
    )
    return train, test


def _open_class_folders(folder: Path, item: str) -> Parts:
    found = find_splits(each.name for each in folder.iterdir() if each.is_dir())
    measuring = measuring_names(name for names in found.values() for name in names)
    if not found["train"]:
        if measuring:
            raise UserError(f"{folder} has {measuring[0]}/ but no train/: put the photos to train on there.")
        return _with_held_out(*_read_class_folders(folder), item, ())
    train, passed = _read_class_folders(folder / found["train"][0])
    place = (f"{found['train'][0]}/",)
    if not measuring:
        return _with_held_out(train, passed, item, place)
    # Of two, test/ is the one to report on, unless it came without labels, as competitions' do.
    known = [name for name in measuring if any((folder / name / label).is_dir() for label in train.classes)]
    tested = (known or measuring)[0]
    test, passed_in_test = _read_class_folders(folder / tested)
    return (
        _with_reading(train, item, Part("train", len(train), place), passed),
        _with_reading(test, item, Part("test", len(test), (f"{tested}/",)), passed_in_test),
    )


def _with_held_out(whole: LabeledDataset, passed: PassedOver, item: str, place: tuple[str, ...]) -> Parts:
    train, test = hold_out_by_class(whole.photos, whole.labels)
    held = (*place, "a fifth held out to test")
    return (
        _with_reading(whole.take(train), item, Part("train", len(train), place), passed),
        _with_reading(whole.take(test), item, Part("test", len(test), held), passed),
    )


def _with_reading(part: LabeledDataset, item: str, counted: Part, passed: PassedOver) -> LabeledDataset:
    return replace(part, reading=Reading.of("class folders", item, counted, classes=part.classes, passed=passed))


def _read_class_folders(folder: Path) -> tuple[LabeledDataset, PassedOver]:
    """FOLDER/CLASS/**, and what was passed over; class folders without photos do not count."""
    passed: PassedOver = {}
    names = sorted(each.name for each in folder.iterdir() if each.is_dir() and not each.name.startswith("."))
    found = {name: sorted(walk_photos(str(folder / name), passed=passed)) for name in names}
    found = {name: paths for name, paths in found.items() if paths}
    if not found:
        if walk_photos(str(folder)):
            raise UserError(f"{folder} has photos but no labels: put them in one folder a class, {folder.name}/CLASS/.")
        raise UserError(f"{folder} holds no photos. Give a folder with one folder of photos a class.")
    paths = [path for each in found.values() for path in each]
    photos = PhotoFiles.below(str(folder), paths)
    labels = np.repeat(np.arange(len(found)), [len(each) for each in found.values()])
    return LabeledDataset(photos, labels, tuple(found)), passed
