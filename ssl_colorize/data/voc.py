"""PASCAL VOC folders: which photos, and which objects are on them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
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
    paths = {Path(path).stem: path for path in walk_photos(str(folder / _PHOTOS))}
    train, test = (_read_list(folder, lists / f"{name}.txt", paths) for name in names)
    return train, test


def _read_list(folder: Path, file: Path, paths: Mapping[str, str]) -> tuple[PhotoFiles, list[Objects]]:
    try:
        stems = sorted({line.split()[0] for line in file.read_text("utf-8").splitlines() if line.strip()})
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"Cannot read the list {file}: {getattr(error, 'strerror', None) or error}.") from None
    missing = [stem for stem in stems if stem not in paths]
    if missing:
        raise UserError(f"{file} names {missing[0]}, of which there is no photo in {folder / _PHOTOS}.")
    objects = [read_objects(folder / "Annotations" / f"{stem}.xml") for stem in stems]
    start = len(str(folder)) + 1
    return PhotoFiles([paths[stem] for stem in stems], [start] * len(stems)), objects


def read_objects(path: Path) -> Objects:
    """The objects of an annotation file.

    Raises:
        UserError: the file is missing or is no annotation.
    """
    try:
        root = ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError) as error:
        raise UserError(f"Cannot read the annotation {path}: {getattr(error, 'strerror', None) or error}.") from None
    found: dict[str, bool] = {}
    for each in root.iter("object"):
        name = (each.findtext("name") or "").strip()
        if not name:
            raise UserError(f"The annotation {path} has an object without a name.")
        difficult = (each.findtext("difficult") or "0").strip() == "1"
        found[name] = found.get(name, True) and difficult
    return found


def voc_labels(objects: Sequence[Objects], classes: Sequence[str]) -> NDArray[np.int8]:
    """(N, C): 1 where the class is there, -1 where all of its objects are difficult, 0 elsewhere."""
    labels = np.zeros((len(objects), len(classes)), np.int8)
    column = {name: number for number, name in enumerate(classes)}
    for row, each in enumerate(objects):
        for name, difficult in each.items():
            labels[row, column[name]] = -1 if difficult else 1
    return labels
