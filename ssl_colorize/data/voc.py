"""PASCAL VOC folders: which photos are for what, and the labels, boxes or masks of what is on them."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ssl_colorize.data.annotations import Annotation, Finding, box_presence
from ssl_colorize.data.datasets import LabeledDataset, Record, checked_dataset
from ssl_colorize.data.mask_classes import read_mask_classes
from ssl_colorize.data.mask_pixels import MaskFolder
from ssl_colorize.data.masks import MaskFile
from ssl_colorize.data.photos import PhotoFiles
from ssl_colorize.data.reading import PassedOver
from ssl_colorize.data.splits import measuring_lists, pretraining_lists
from ssl_colorize.data.voc_xml import VocAnnotation, class_names, read_annotations, voc_boxes
from ssl_colorize.data.walk import walk_photos
from ssl_colorize.errors import UserError
from ssl_colorize.text import read_lines

VOC_PHOTOS = "JPEGImages"
VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip

_TASKS = ("Main", "Segmentation")  # folders of lists


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
    folder: Path, annotation: Annotation, lists: tuple[Path, Path] | None = None, mask_values: str | None = None
) -> tuple[LabeledDataset, LabeledDataset]:
    """Photos to train on and to test on: the lists trainval and test where test is annotated, else train and val.

    - labels, of Annotations/NAME.xml: several a photo; a class whose objects are all difficult is not counted;
    - boxes, of the same files. VOC counts pixels from 1 and includes the last: its box (1, 1, W, H) is the whole photo,
      here (0, 0, W, H). Classes of labels and boxes are in alphabetical order;
    - masks, of SegmentationClass/NAME.png, whose classes are VOC's, or those of a file such as classes.txt, one a
      line, the background first, or such as classes.csv, with a color each.

    An annotation that cannot be read leaves out its photo, with a finding.

    Args:
        lists: files of lists to train on and to test on in place of those.
        mask_values: what stands for the classes in masks, as `MaskClasses.with_values` reads it.

    Raises:
        UserError: a list, or a photo or a mask on it, is missing or unreadable; a mask does not fit its photo; nothing
            is left.
    """
    if annotation == "masks":
        return _read_masks(folder, lists, mask_values)
    parts = _listed_parts(folder, "Main", lambda stem: _annotation_file(folder, stem), lists)
    read = [read_annotations({stem: _annotation_file(folder, stem) for stem in part}) for part in parts]
    classes = class_names(each for found, _ in read for each in found.values())
    with_annotations = _with_labels if annotation == "labels" else _with_boxes
    train, test = (
        with_annotations(folder, paths, found, classes, findings)
        for paths, (found, findings) in zip(parts, read, strict=True)
    )
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


def _with_labels(
    folder: Path, paths: Mapping[str, str], read: Mapping[str, VocAnnotation], classes: tuple[str, ...],
    findings: Sequence[Finding],
) -> LabeledDataset:  # fmt: skip
    if not read and findings:
        raise UserError(f"{folder}: none of the annotations can be used, the first one for this: {findings[0].text}.")
    labels = box_presence([voc_boxes(each, classes) for each in read.values()], len(classes))
    photos = PhotoFiles.below(str(folder), [paths[stem] for stem in read])
    return LabeledDataset(photos, labels, classes, findings=tuple(findings))


def _with_boxes(
    folder: Path, paths: Mapping[str, str], read: Mapping[str, VocAnnotation], classes: tuple[str, ...],
    findings: Sequence[Finding],
) -> LabeledDataset:  # fmt: skip
    records = [
        Record(paths[stem], f"Annotations/{stem}.xml", each.size, voc_boxes(each, classes))
        for stem, each in read.items()
    ]
    return checked_dataset(folder, records, classes, findings)


# ---- masks -----------------------------------------------------------------------------------------------------------

_MASKS = ("SegmentationClass", "SegmentationClassPNG")


def _read_masks(
    folder: Path, lists: tuple[Path, Path] | None, mask_values: str | None
) -> tuple[LabeledDataset, LabeledDataset]:
    place = next((folder / name for name in _MASKS if (folder / name).is_dir()), None)
    if place is None:
        raise UserError(f"{folder} has no masks: they are expected in {_MASKS[0]}/NAME.png.")
    masks = MaskFolder(place)
    classes = read_mask_classes(folder, ("background", *VOC_CLASSES), mask_values)

    def record(stem: str, photo: str) -> Record:
        path = masks.path(stem)
        return Record(photo, f"{place.name}/{Path(path).name}", mask=MaskFile(path, classes))

    parts = _listed_parts(folder, "Segmentation", lambda stem: Path(masks.path(stem)), lists)
    train, test = (
        checked_dataset(folder, [record(stem, photo) for stem, photo in part.items()], classes.names) for part in parts
    )
    return train, test
