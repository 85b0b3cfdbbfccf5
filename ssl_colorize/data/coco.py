"""COCO's format: one JSON file a part, with boxes, polygons and run-length masks."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from ssl_colorize.data.annotations import IGNORED, Annotation, Boxes
from ssl_colorize.data.datasets import LabeledDataset, Record, checked_dataset
from ssl_colorize.data.images import photo_size
from ssl_colorize.data.splits import MEASURING, Split, find_splits, split_at_end, split_of
from ssl_colorize.errors import UserError, one_line
from ssl_colorize.text import read_json

_INSTANCES = "instances_"


@dataclass(frozen=True)
class CocoFile:
    """A part's annotations, by photo."""

    path: Path
    classes: tuple[str, ...]  # in the order of their ids
    numbers: Mapping[int, int]  # id of a class -> its place in classes
    images: tuple[Mapping[str, Any], ...]  # sorted by file name
    objects: Mapping[Any, list[Mapping[str, Any]]]  # id of an image -> what is on it


def read_coco(folder: Path, annotation: Annotation) -> tuple[LabeledDataset, LabeledDataset] | None:
    """Photos with boxes or masks to train on and to test on; None if this is no COCO folder.

    Their files are annotations/[instances_]train*.json and annotations/[instances_]test*.json (or else val*), or
    train/*.json and test/*.json (or else val/, valid/). Crowds are difficult boxes, and IGNORED in masks; of two
    objects on a pixel of a mask the smaller one counts.

    Raises:
        UserError: a file is missing, unreadable, or there are several for one part; a photo is missing, or an outline
            cannot be drawn.
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


def _parts(
    first: tuple[Path, CocoFile], second: tuple[Path, CocoFile], annotation: Annotation
) -> tuple[LabeledDataset, LabeledDataset]:
    files = first[1], second[1]
    if files[0].classes != files[1].classes:
        raise UserError(f"{files[0].path} and {files[1].path} have different categories.")
    with_annotations = _with_boxes if annotation == "boxes" else _with_masks
    train, test = (with_annotations(folder, file) for folder, file in (first, second))
    return train, test


def measuring_photos(folder: Path) -> list[str]:
    """Paths of the photos that a COCO folder's files are to test on, as far as they are there.

    Raises:
        UserError: such a file cannot be read.
    """
    found = _find_files(folder)
    files = [read_file(path) for split in MEASURING for path in found[split]]
    tried = ((file, str(image["file_name"])) for file in files for image in file.images)
    return [
        str(path)
        for file, name in tried
        if (path := next((each / name for each in _places(folder, file) if (each / name).is_file()), None))
    ]


def _part(file: Path) -> str:
    """The part of a set that a file describes: that of annotations/instances_val2017.json is val2017."""
    return file.stem.removeprefix(_INSTANCES)


def _find_files(folder: Path) -> dict[Split, list[Path]]:
    """The files of each split: those called instances_* in annotations/, else others there, else in the split's folder.

    Others have to be called like a split: captions_train2017 is none of objects.
    """
    inside = sorted((folder / "annotations").glob("*.json"))
    folders = find_splits(each.name for each in folder.iterdir() if each.is_dir())
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
    test = read_file(measuring[0])
    if len(measuring) > 1 and not any(test.objects.values()):
        test = read_file(measuring[1])
    return read_file(train), test


def _only_file(folder: Path, files: Sequence[Path]) -> Path | None:
    if len(files) > 1:
        listed = ", ".join(str(file.relative_to(folder)) for file in files)
        raise UserError(f"{folder} has several annotations of one part, {listed}: leave one of them there.")
    return files[0] if files else None


def read_file(path: Path) -> CocoFile:
    """Read and index a JSON file.

    Raises:
        UserError: it is missing, not JSON, or not in COCO's format.
    """
    try:
        content = read_json(path)
        categories = sorted(content["categories"], key=lambda each: each["id"])
        objects: dict[Any, list[Mapping[str, Any]]] = {image["id"]: [] for image in content["images"]}
        numbers = {each["id"]: place for place, each in enumerate(categories)}
        for each in content["annotations"]:
            if each["image_id"] not in objects or each["category_id"] not in numbers:
                raise UserError(f"{path}: annotation {each.get('id')} is of an unknown image or category.")
            objects[each["image_id"]].append(each)
        images = tuple(sorted(content["images"], key=lambda image: str(image["file_name"])))
        return CocoFile(path, tuple(str(each["name"]) for each in categories), numbers, images, objects)
    except (ValueError, TypeError) as error:
        raise UserError(f"{path} is not COCO's JSON: {one_line(error)}.") from None
    except KeyError as error:
        raise UserError(f"{path} is not COCO's JSON: it has no {error}.") from None


def _with_boxes(folder: Path, file: CocoFile) -> LabeledDataset:
    records = [record._replace(boxes=_boxes(objects, file)) for record, objects in _records(folder, file)]
    return checked_dataset(folder, records, file.classes)


def _with_masks(folder: Path, file: CocoFile) -> LabeledDataset:
    records = [
        record._replace(mask=CocoMask(record.name, record.path, record.size, _outlines(objects, file)))
        for record, objects in _records(folder, file)
    ]
    return checked_dataset(folder, records, ("background", *file.classes))


def _boxes(objects: Sequence[Mapping[str, Any]], file: CocoFile) -> Boxes:
    corners = np.asarray([each.get("bbox") or (np.nan,) * 4 for each in objects], np.float32).reshape(-1, 4)
    corners[:, 2:] += corners[:, :2]  # from left, top, width, height
    labels = [file.numbers[each["category_id"]] for each in objects]
    return Boxes.of(corners, labels, [bool(each.get("iscrowd")) for each in objects])


def _outlines(objects: Sequence[Mapping[str, Any]], file: CocoFile) -> tuple["Outline", ...]:
    return tuple(
        Outline(IGNORED if each.get("iscrowd") else file.numbers[each["category_id"]] + 1, each.get("segmentation"))
        for each in objects
    )


@dataclass(frozen=True)
class Outline:
    """One object's mask as COCO writes it."""

    value: int  # of its pixels
    shape: Any  # polygons [[x, y, x, y, ...], ...] or a run-length code {"counts", "size"}


@dataclass(frozen=True)
class CocoMask:
    """A mask that is drawn from outlines when it is read."""

    name: str
    path: str  # of its photo
    declared: tuple[int, int] | None  # width and height of the photo in pixels, where the file says them
    outlines: tuple[Outline, ...]

    def read(self) -> NDArray[np.uint8]:
        width, height = self.declared or photo_size(self.path)
        drawn = [(outline.value, self._filled(outline.shape, width, height)) for outline in self.outlines]
        values = np.zeros((height, width), np.uint8)
        for value, filled in sorted(drawn, key=lambda each: -int(each[1].sum())):
            values[filled] = value
        return values

    def _filled(self, shape: Any, width: int, height: int) -> NDArray[np.bool_]:
        from pycocotools import mask as coco  # compiled, and only needed here

        try:
            if isinstance(shape, list):
                code = coco.merge(coco.frPyObjects(shape, height, width))
            else:
                whole = isinstance(shape["counts"], list)
                code = coco.frPyObjects(shape, height, width) if whole else shape
            filled = np.asarray(coco.decode(code), np.bool_)
            if filled.shape != (height, width):
                raise ValueError(f"it is for a photo of {filled.shape[1]} x {filled.shape[0]} px")
            return filled
        except Exception as error:  # Its C code raises nearly anything on damaged outlines.
            raise UserError(f"{self.name}: an outline cannot be drawn: {one_line(error)}.") from None


def _records(folder: Path, file: CocoFile) -> Iterator[tuple[Record, list[Mapping[str, Any]]]]:
    """The photos of a file, each with what is on it."""
    place = _photo_folder(folder, file)
    for image in file.images:
        path = place / str(image["file_name"])
        if not path.is_file():
            raise UserError(f"{file.path} names {image['file_name']}, which is not in {place}.")
        size = (int(image["width"]), int(image["height"])) if image.get("width") and image.get("height") else None
        yield Record(str(path), f"{file.path.name} {image['file_name']}", size), file.objects[image["id"]]


def _photo_folder(folder: Path, file: CocoFile) -> Path:
    """Where the photos of a part are."""
    if not file.images:
        raise UserError(f"{file.path} lists no images.")
    first = str(file.images[0]["file_name"])
    places = _places(folder, file)
    for place in places:
        if (place / first).is_file():
            return place
    tried = ", ".join(str(place) for place in places[:2])
    raise UserError(f"{file.path} names {first}, which is not in {tried}, ... Put the photos there.")


def _places(folder: Path, file: CocoFile) -> list[Path]:
    """Where the photos of a part may be."""
    part = _part(file.path)
    return [folder / part, folder / "images" / part, file.path.parent, folder / "images", folder]
