"""COCO's format: one JSON file a part, with boxes, polygons and run-length masks."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from ssl_colorize.data.annotations import Annotation, Finding
from ssl_colorize.data.coco_json import CocoFile, CocoImage, coco_boxes, coco_mask, read_file
from ssl_colorize.data.datasets import LabeledDataset, Record, checked_dataset
from ssl_colorize.data.images import UnreadablePhoto, photo_size
from ssl_colorize.data.mask_classes import MOST_CLASSES
from ssl_colorize.data.splits import MEASURING, Split, find_splits, split_at_end, split_of
from ssl_colorize.data.walk import subfolders
from ssl_colorize.errors import UserError

_INSTANCES = "instances_"


def read_coco(folder: Path, annotation: Annotation) -> tuple[LabeledDataset, LabeledDataset] | None:
    """Photos with boxes or masks to train on and to test on; None if this is no COCO folder.

    Their files are annotations/[instances_]train*.json and annotations/[instances_]test*.json (or else val*), or
    train/*.json and test/*.json (or else val/, valid/). Crowds are difficult boxes, and IGNORED in masks; of two
    objects on a pixel of a mask the smaller one counts.

    Raises:
        UserError: a file is missing, unreadable, or there are several for one part; nothing in it can be used.
    """
    files = _chosen_files(folder)
    return None if files is None else _parts((folder, files[0]), (folder, files[1]), annotation)


def read_coco_files(train: Path, test: Path, annotation: Annotation) -> tuple[LabeledDataset, LabeledDataset]:
    """Photos with boxes or masks of two files, whatever they are called.

    Raises:
        UserError: as `read_coco`.
    """
    first, second = (
        (path.parent.parent if path.parent.name == "annotations" else path.parent, read_file(path))
        for path in (train, test)
    )
    return _parts(first, second, annotation)


def refuse_mask_values(mask_values: str | None, item: str) -> None:
    """Say that outlines have no values, where somebody says what they stand for.

    Raises:
        UserError: somebody does.
    """
    if mask_values is not None:
        raise UserError(f"--mask-values is for masks in files, and {item} has outlines: leave it away.")


def _parts(
    first: tuple[Path, CocoFile], second: tuple[Path, CocoFile], annotation: Annotation
) -> tuple[LabeledDataset, LabeledDataset]:
    files = first[1], second[1]
    if set(files[0].classes) != set(files[1].classes):
        raise UserError(f"{files[0].path} and {files[1].path} have different categories.")
    second = second[0], second[1].with_classes(files[0].classes)
    with_annotations = _with_boxes if annotation == "boxes" else _with_masks
    train, test = (with_annotations(folder, file) for folder, file in (first, second))
    return train, test


def measuring_photos(folder: Path) -> list[str]:
    """Paths of the photos that a COCO folder's files are to test on, as far as they are there.

    Raises:
        UserError: such a file cannot be read.
    """
    found = _find_files(folder)
    return _photos_of(folder, [read_file(path) for split in MEASURING for path in found[split]])


def tested_photos(folder: Path) -> list[str]:
    """Paths of the photos of the one file of them that is tested on.

    Raises:
        UserError: there are several for a split, or the file cannot be read.
    """
    found = _find_files(folder)
    measuring = [file for split in MEASURING if (file := _only_file(folder, found[split])) is not None]
    return _photos_of(folder, [_first_annotated(measuring)] if measuring else [])


def _photos_of(folder: Path, files: Sequence[CocoFile]) -> list[str]:
    """Paths of the photos that files name, as far as they are there."""
    tried = (_find_photo(_places(folder, file), image.file_name) for file in files for image in file.images)
    return [path for path in tried if path is not None]


def _part(file: Path) -> str:
    """The part of a set that a file describes: that of annotations/instances_val2017.json is val2017."""
    return file.stem.removeprefix(_INSTANCES)


def _find_files(folder: Path) -> dict[Split, list[Path]]:
    """The files of each split: those called instances_* in annotations/, else others there, else in the split's folder.

    Others have to be called like a split: captions_train2017 is none of objects.
    """
    inside = sorted((folder / "annotations").glob("*.json"))
    folders = find_splits(subfolders(folder))
    found: dict[Split, list[Path]] = {}
    for split in get_args(Split):
        instances = [each for each in inside if each.stem.startswith(_INSTANCES) and split_at_end(_part(each)) == split]
        others = [each for each in inside if split_of(each.stem) == split]
        beside = [each for name in folders[split] for each in sorted((folder / name).glob("*.json"))]
        found[split] = instances or others or beside
    return found


def _chosen_files(folder: Path) -> tuple[CocoFile, CocoFile] | None:
    """The files to train on and to test on; None if there are none. A file to test on without objects does not count.

    Raises:
        UserError: there are several for a split, or one is missing or cannot be read.
    """
    found = _find_files(folder)
    train = _only_file(folder, found["train"])
    measuring = [file for split in MEASURING if (file := _only_file(folder, found[split])) is not None]
    if train is None and not measuring:
        return None
    if train is None or not measuring:
        missing = "train" if train is None else "val"
        raise UserError(f"{folder} has no annotations/instances_{missing}*.json beside the other part's.")
    return read_file(train), _first_annotated(measuring)


def _first_annotated(files: Sequence[Path]) -> CocoFile:
    """The first of files that has objects, else the first one."""
    first = read_file(files[0])
    return first if len(files) == 1 or any(image.objects for image in first.images) else read_file(files[1])


def _only_file(folder: Path, files: Sequence[Path]) -> Path | None:
    if len(files) > 1:
        listed = ", ".join(str(file.relative_to(folder)) for file in files)
        raise UserError(f"{folder} has several annotations of one part, {listed}: leave one of them there.")
    return files[0] if files else None


def _with_boxes(folder: Path, file: CocoFile) -> LabeledDataset:
    records, findings = [], list(file.findings)
    for record, image in _records(folder, file, findings):
        boxes, found = coco_boxes(image, _annotated_size(record), record.name)
        findings += found
        records.append(record._replace(boxes=boxes))
    return checked_dataset(folder, records, file.classes, findings)


def _with_masks(folder: Path, file: CocoFile) -> LabeledDataset:
    classes = ("background", *file.classes)
    if len(classes) > MOST_CLASSES:
        raise UserError(f"{file.path} has {len(file.classes)} categories: masks take {MOST_CLASSES - 1} at most.")
    records, findings = [], list(file.findings)
    for record, image in _records(folder, file, findings):
        mask, found = coco_mask(image, _annotated_size(record), record.name)
        findings += found
        records.append(record._replace(mask=mask))
    return checked_dataset(folder, records, classes, findings)


def _annotated_size(record: Record) -> tuple[int, int]:
    """Width and height in pixels that a photo was annotated at; of one that cannot be read, which is left out, any."""
    if record.size is not None:
        return record.size
    try:
        return photo_size(record.path)
    except UnreadablePhoto:
        return 1, 1


def _records(folder: Path, file: CocoFile, findings: list[Finding]) -> list[tuple[Record, CocoImage]]:
    """The photos of a file that are there, each with what is on it; those that are not are findings."""
    if not file.images:
        raise UserError(f"{file.path} lists no images.")
    places = _places(folder, file)
    found: dict[str, list[CocoImage]] = {}
    missing = []
    for image in file.images:
        path = _find_photo(places, image.file_name)
        if path is None:
            missing.append(image.file_name)
        else:
            found.setdefault(path, []).append(image)
    findings += [Finding("left out", f"{file.path.name}: {name} is not there") for name in missing]
    if not found:
        tried = ", ".join(str(place) for place in places[:2])
        raise UserError(f"{file.path} names {missing[0]}, which is not in {tried}, ... Put the photos there.")
    records = []
    for path, images in found.items():
        if len(images) > 1:
            names = " and ".join(image.file_name for image in images[:2])
            findings.append(Finding("left out", f"{file.path.name}: {names} are both {path}"))
        else:
            name = f"{file.path.name} {images[0].file_name}"
            records.append((Record(path, name, images[0].size), images[0]))
    return records


def _find_photo(places: Sequence[Path], name: str) -> str | None:
    """The file that a set calls by a name: as it says, or, from another machine or folder, by the end of the name.

    Parts like ".." are left away: it is below one of the places, whatever a file says.
    """
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    for start in range(len(parts)):
        for place in places:
            path = os.path.join(place, *parts[start:])  # noqa: PTH118 - a Path raises on names that no file can have
            if os.path.isfile(path):  # noqa: PTH113
                return path
    return None


def _places(folder: Path, file: CocoFile) -> list[Path]:
    """Where the photos of a part may be."""
    part = _part(file.path)
    return [folder / part, folder / "images" / part, file.path.parent, folder / "images", folder]
