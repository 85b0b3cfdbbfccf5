"""PASCAL VOC folders: which photos are for what, and the labels, boxes or masks of what is on them."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np

from ssl_colorize.data.annotations import Annotation, Boxes, MaskFile, box_presence
from ssl_colorize.data.datasets import LabeledDataset, Record, checked_dataset
from ssl_colorize.data.photos import PhotoFiles
from ssl_colorize.data.reading import PassedOver
from ssl_colorize.data.splits import measuring_lists, pretraining_lists
from ssl_colorize.data.walk import walk_photos
from ssl_colorize.errors import UserError
from ssl_colorize.text import read_lines

VOC_PHOTOS = "JPEGImages"
VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip

_CLASSES = "classes.txt"
_TASKS = ("Main", "Segmentation")  # folders of lists


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
        found = [each.parent for each in path.glob(pattern + VOC_PHOTOS) if each.is_dir()]
        if len(found) > 1:
            names = ", ".join(sorted(str(each.relative_to(path)) for each in found))
            raise UserError(f"{path} holds several VOC folders: give one of {names}.")
        if found:
            return found[0]
    return None


def voc_of_list(file: Path) -> Path | None:
    """The VOC folder that a list belongs to, FOLDER/ImageSets/TASK/NAME.txt; None for any other file."""
    found = next((each.parent for each in file.parents if each.name == "ImageSets"), None)
    return found if found is not None and (found / VOC_PHOTOS).is_dir() else None


def read_voc(
    folder: Path, annotation: Annotation, lists: tuple[Path, Path] | None = None
) -> tuple[LabeledDataset, LabeledDataset]:
    """Photos to train on and to test on: the lists trainval and test where test is annotated, else train and val.

    - labels, of Annotations/NAME.xml: several a photo; a class whose objects are all difficult is not counted;
    - boxes, of the same files. VOC counts pixels from 1 and includes the last: its box (1, 1, W, H) is the whole photo,
      here (0, 0, W, H). Classes of labels and boxes are in alphabetical order;
    - masks, of SegmentationClass/NAME.png, whose classes are VOC's, or those of a file classes.txt, one a line, the
      background first.

    Args:
        lists: files of lists to train on and to test on in place of those.

    Raises:
        UserError: a list, a photo on it or an annotation is missing or unreadable; a mask does not fit its photo.
    """
    if annotation == "masks":
        return _read_masks(folder, lists)
    parts = _listed_parts(folder, "Main", lambda stem: _annotation_file(folder, stem), lists)
    read = [{stem: read_annotation(_annotation_file(folder, stem)) for stem in part} for part in parts]
    classes = tuple(sorted({each.name for part in read for one in part.values() for each in one.objects}))
    with_annotations = _with_labels if annotation == "labels" else _with_boxes
    train, test = (with_annotations(folder, paths, found, classes) for paths, found in zip(parts, read, strict=True))
    return train, test


# ---- lists of photos -------------------------------------------------------------------------------------------------


def pretraining_photos(folder: Path, passed: PassedOver | None = None) -> tuple[list[str], list[str]]:
    """Paths of a VOC folder's photos to pretrain on: those of its list train, else trainval, else all.

    Never those that a list of any task has for measuring: their paths come second.

    Args:
        passed: as in `walk_photos`.

    Raises:
        UserError: a list cannot be read.
    """
    measured: set[str] = set()
    wanted: set[str] | None = None
    for task in _TASKS:
        lists = _lists(folder, task)
        chosen, measuring = pretraining_lists(lists)
        if chosen and task == "Main":
            wanted = {stem for name in chosen for stem in _read_list(lists[name])}
        measured.update(stem for name in measuring for stem in _read_list(lists[name]))
    stems = {path: Path(path).stem for path in walk_photos(str(folder / VOC_PHOTOS), passed=passed)}
    paths = [path for path, stem in stems.items() if stem not in measured and (wanted is None or stem in wanted)]
    return paths, [path for path, stem in stems.items() if stem in measured]


def _listed_parts(
    folder: Path, task: str, annotation: Callable[[str], Path], files: tuple[Path, Path] | None
) -> tuple[dict[str, str], dict[str, str]]:
    """Stem -> path, sorted by stem, of the photos to train on and of those to test on."""
    paths = {Path(path).stem: path for path in walk_photos(str(folder / VOC_PHOTOS))}
    parts = []
    for file in files or _chosen_lists(folder, task, annotation):
        stems = _read_list(file)
        missing = [stem for stem in stems if stem not in paths]
        if missing:
            raise UserError(f"{file} names {missing[0]}, of which there is no photo in {folder / VOC_PHOTOS}.")
        parts.append({stem: paths[stem] for stem in stems})
    return parts[0], parts[1]


def _chosen_lists(folder: Path, task: str, annotation: Callable[[str], Path]) -> list[Path]:
    """The files of the lists to train on and to test on."""
    lists = _lists(folder, task)
    place = folder / "ImageSets" / task

    def annotated(name: str) -> bool:
        stems = _read_list(lists[name])
        return 2 * sum(annotation(stem).is_file() for stem in stems) > len(stems)

    names = measuring_lists(lists, annotated=annotated, where=place)
    return [lists.get(name, place / f"{name}.txt") for name in names]


def _lists(folder: Path, task: str) -> dict[str, Path]:
    """Name -> file of the lists of a task; of a folder without tasks, of them all."""
    place = folder / "ImageSets" / task
    return {file.stem: file for file in (place if place.is_dir() else place.parent).glob("*.txt")}


def _read_list(file: Path) -> list[str]:
    """The stems that a list names, sorted."""
    return sorted({line.split()[0] for _, line in read_lines(file)})


# ---- labels and boxes ------------------------------------------------------------------------------------------------


def _annotation_file(folder: Path, stem: str) -> Path:
    return folder / "Annotations" / f"{stem}.xml"


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


def _boxes(annotation: VocAnnotation, classes: Sequence[str]) -> Boxes:
    nowhere = (np.nan,) * 4
    corners = np.asarray([each.box or nowhere for each in annotation.objects], np.float32).reshape(-1, 4)
    labels = [classes.index(each.name) for each in annotation.objects]
    return Boxes.of(corners - [1, 1, 0, 0], labels, [each.difficult for each in annotation.objects])


def _with_labels(
    folder: Path, paths: Mapping[str, str], read: Mapping[str, VocAnnotation], classes: tuple[str, ...]
) -> LabeledDataset:
    labels = box_presence([_boxes(each, classes) for each in read.values()], len(classes))
    return LabeledDataset(PhotoFiles.below(str(folder), paths.values()), labels, classes)


def _with_boxes(
    folder: Path, paths: Mapping[str, str], read: Mapping[str, VocAnnotation], classes: tuple[str, ...]
) -> LabeledDataset:
    records = [
        Record(path, f"Annotations/{stem}.xml", read[stem].size, _boxes(read[stem], classes))
        for stem, path in paths.items()
    ]
    return checked_dataset(folder, records, classes)


# ---- masks -----------------------------------------------------------------------------------------------------------


def _read_masks(folder: Path, lists: tuple[Path, Path] | None) -> tuple[LabeledDataset, LabeledDataset]:
    masks = folder / "SegmentationClass"
    if not masks.is_dir():
        raise UserError(f"{folder} has no masks: they are expected in {masks.name}/NAME.png.")
    classes = _mask_classes(folder)
    records = (
        [
            Record(path, f"{masks.name}/{stem}.png", mask=MaskFile(str(masks / f"{stem}.png")))
            for stem, path in part.items()
        ]
        for part in _listed_parts(folder, "Segmentation", lambda stem: masks / f"{stem}.png", lists)
    )
    train, test = (checked_dataset(folder, part, classes) for part in records)
    return train, test


def _mask_classes(folder: Path) -> tuple[str, ...]:
    file = folder / _CLASSES
    if not file.is_file():
        return ("background", *VOC_CLASSES)
    names = tuple(line for _, line in read_lines(file))
    if len(names) < 2 or len(set(names)) < len(names):
        raise UserError(f"{file} must name each class once, one a line, the background first.")
    return names
