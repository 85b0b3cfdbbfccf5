"""PASCAL VOC folders: which photos, and which objects are on them."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from ssl_colorize.data.images import walk_photos
from ssl_colorize.data.photos import PhotoFiles
from ssl_colorize.errors import UserError

# What is on a photo: class name -> whether every object of it is marked difficult.
Objects = Mapping[str, bool]

VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip

_PHOTOS = "JPEGImages"


class VocObject(NamedTuple):
    """One object of an annotation file."""

    name: str
    difficult: bool
    box: tuple[float, float, float, float] | None  # xmin, ymin, xmax, ymax as written: whole pixels, the first is 1


class VocAnnotation(NamedTuple):
    size: tuple[int, int] | None  # width and height in pixels, where the file says them
    objects: list[VocObject]


def find_voc(path: Path) -> Path | None:
    """The VOC folder at a path: itself, or the only one up to two levels below (VOCdevkit/VOC2007); else None."""
    for pattern in ("", "*/", "*/*/"):
        found = [each.parent for each in path.glob(pattern + _PHOTOS) if each.is_dir()]
        if len(found) > 1:
            names = ", ".join(sorted(str(each.relative_to(path)) for each in found))
            raise UserError(f"{path} holds several VOC folders: give one of {names}.")
        if found:
            return found[0]
    return None


def read_voc(folder: Path) -> tuple[tuple[PhotoFiles, list[Objects]], tuple[PhotoFiles, list[Objects]]]:
    """Photos and their objects, to train on and to test on: trainval and test where test is there, else train and val.

    Raises:
        UserError: a list, a photo on it, or a photo's annotation is missing or unreadable.
    """
    lists = folder / "ImageSets" / "Main"
    names = ("trainval", "test") if (lists / "test.txt").is_file() else ("train", "val")
    train, test = (_read_list(folder, listed_photos(folder, [lists / f"{name}.txt"])[0]) for name in names)
    return train, test


def listed_photos(folder: Path, lists: Sequence[Path]) -> list[dict[str, str]]:
    """Of each list its photos: stem -> path, sorted by stem.

    Raises:
        UserError: a list cannot be read, or a photo on it is missing.
    """
    paths = {Path(path).stem: path for path in walk_photos(str(folder / _PHOTOS))}
    found = []
    for file in lists:
        try:
            stems = sorted({line.split()[0] for line in file.read_text("utf-8").splitlines() if line.strip()})
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"Cannot read the list {file}: {getattr(error, 'strerror', None) or error}.") from None
        missing = [stem for stem in stems if stem not in paths]
        if missing:
            raise UserError(f"{file} names {missing[0]}, of which there is no photo in {folder / _PHOTOS}.")
        found.append({stem: paths[stem] for stem in stems})
    return found


def voc_files(folder: Path, paths: Iterable[str]) -> PhotoFiles:
    """Photos named by their path below the VOC folder, in the order given."""
    paths = list(paths)
    return PhotoFiles(paths, [len(str(folder)) + 1] * len(paths))


def _read_list(folder: Path, paths: Mapping[str, str]) -> tuple[PhotoFiles, list[Objects]]:
    return voc_files(folder, paths.values()), [read_objects(annotation_file(folder, stem)) for stem in paths]


def annotation_file(folder: Path, stem: str) -> Path:
    return folder / "Annotations" / f"{stem}.xml"


def read_objects(path: Path) -> Objects:
    """The kinds of object of an annotation file.

    Raises:
        UserError: the file is missing or is no annotation.
    """
    found: dict[str, bool] = {}
    for each in read_annotation(path).objects:
        found[each.name] = found.get(each.name, True) and each.difficult
    return found


def read_annotation(path: Path) -> VocAnnotation:
    """All that an annotation file says about the photo's objects.

    Raises:
        UserError: the file is missing or is no annotation.
    """
    try:
        root = ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError) as error:
        raise UserError(f"Cannot read the annotation {path}: {getattr(error, 'strerror', None) or error}.") from None
    try:
        size = int(float(root.findtext("size/width") or 0)), int(float(root.findtext("size/height") or 0))
        return VocAnnotation(size if min(size) > 0 else None, [_object(each) for each in root.iter("object")])
    except ValueError as error:
        raise UserError(f"The annotation {path} has {error}.") from None


def _object(element: ElementTree.Element) -> VocObject:
    name = (element.findtext("name") or "").strip()
    if not name:
        raise ValueError("an object without a name")
    difficult = (element.findtext("difficult") or "0").strip() == "1"
    box = element.find("bndbox")
    if box is None:
        return VocObject(name, difficult, None)
    sides = [float(box.findtext(side) or "nan") for side in ("xmin", "ymin", "xmax", "ymax")]
    return VocObject(name, difficult, (sides[0], sides[1], sides[2], sides[3]))


def voc_labels(objects: Sequence[Objects], classes: Sequence[str]) -> NDArray[np.int8]:
    """(N, C): 1 where the class is there, -1 where all of its objects are difficult, 0 elsewhere."""
    labels = np.zeros((len(objects), len(classes)), np.int8)
    column = {name: number for number, name in enumerate(classes)}
    for row, each in enumerate(objects):
        for name, difficult in each.items():
            labels[row, column[name]] = -1 if difficult else 1
    return labels
