"""COCO's format: one JSON file a part, with boxes, polygons and run-length masks."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssl_colorize.data.annotations import (
    IGNORED,
    AnnotatedPhotos,
    Boxes,
    Finding,
    box_presence,
    checked_boxes,
    checked_mask,
    checked_size,
)
from ssl_colorize.data.photos import PhotoFiles
from ssl_colorize.errors import UserError, one_line

# Names of the parts to train on and to test on, the best first.
_TRAIN, _TEST = ("train",), ("test", "val", "valid")


@dataclass(frozen=True)
class CocoFile:
    """A part's annotations, by photo."""

    path: Path
    classes: tuple[str, ...]  # in the order of their ids
    numbers: Mapping[int, int]  # id of a class -> its place in classes
    images: tuple[Mapping[str, Any], ...]  # sorted by file name
    objects: Mapping[Any, list[Mapping[str, Any]]]  # id of an image -> what is on it


def find_coco(folder: Path) -> tuple[Path, Path] | None:
    """The JSON files to train on and to test on; None if this is no COCO folder.

    Either annotations/[instances_]train*.json and annotations/[instances_]val*.json (or test*), or train/*.json and
    valid/*.json (or test/, val/).

    Raises:
        UserError: one part is missing, or there are several files for it.
    """
    found = [_find_part(folder, names) for names in (_TRAIN, _TEST)]
    if found == [None, None]:
        return None
    for part, names in zip(found, (_TRAIN, _TEST), strict=True):
        if part is None:
            raise UserError(f"{folder} has no annotations/instances_{names[-1]}*.json beside the other part's.")
    assert found[0] is not None and found[1] is not None
    return found[0], found[1]


def _find_part(folder: Path, names: Sequence[str]) -> Path | None:
    for name in names:
        for pattern in (f"annotations/instances_{name}*.json", f"annotations/{name}*.json", f"{name}/*.json"):
            files = sorted(folder.glob(pattern))
            if len(files) > 1:
                listed = ", ".join(str(file.relative_to(folder)) for file in files)
                raise UserError(f"{folder} has several annotations of one part, {listed}: leave one of them there.")
            if files:
                return files[0]
    return None


def read_coco(path: Path) -> CocoFile:
    """Read and index a JSON file.

    Raises:
        UserError: it is missing, not JSON, or not in COCO's format.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
        categories = sorted(content["categories"], key=lambda each: each["id"])
        objects: dict[Any, list[Mapping[str, Any]]] = {image["id"]: [] for image in content["images"]}
        numbers = {each["id"]: place for place, each in enumerate(categories)}
        for each in content["annotations"]:
            if each["image_id"] not in objects or each["category_id"] not in numbers:
                raise UserError(f"{path}: annotation {each.get('id')} is of an unknown image or category.")
            objects[each["image_id"]].append(each)
        images = tuple(sorted(content["images"], key=lambda image: str(image["file_name"])))
        return CocoFile(path, tuple(str(each["name"]) for each in categories), numbers, images, objects)
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror}.") from None
    except (ValueError, TypeError) as error:
        raise UserError(f"{path} is not COCO's JSON: {one_line(error)}.") from None
    except KeyError as error:
        raise UserError(f"{path} is not COCO's JSON: it has no {error}.") from None


def coco_boxes(folder: Path, file: CocoFile) -> AnnotatedPhotos:
    """Photos with boxes; crowds are difficult.

    Raises:
        UserError: a photo is missing.
    """
    boxes = []
    paths, sizes, images, findings = _usable(folder, file)
    for image, size in zip(images, sizes, strict=True):
        objects = file.objects[image["id"]]
        name = f"{file.path.name} {image['file_name']}"
        usable, found = checked_boxes(_boxes(objects, file), size, name, file.classes)
        findings += found
        if not objects:
            findings.append(Finding("empty", name))
        boxes.append(usable)
    presence = box_presence(boxes, len(file.classes))
    photos, shape = _files(folder, paths), np.asarray(sizes, np.int64).reshape(-1, 2)
    return AnnotatedPhotos(photos, shape, file.classes, presence, boxes=tuple(boxes), findings=tuple(findings))


def _boxes(objects: Sequence[Mapping[str, Any]], file: CocoFile) -> Boxes:
    corners = np.asarray([each.get("bbox") or (np.nan,) * 4 for each in objects], np.float32).reshape(-1, 4)
    corners[:, 2:] += corners[:, :2]  # from left, top, width, height
    labels = [file.numbers[each["category_id"]] for each in objects]
    return Boxes.of(corners, labels, [bool(each.get("iscrowd")) for each in objects])


def coco_masks(folder: Path, file: CocoFile) -> AnnotatedPhotos:
    """Photos with masks: of two objects on a pixel the smaller one counts, and crowds are IGNORED.

    Raises:
        UserError: a photo is missing, or an outline cannot be drawn.
    """
    classes = ("background", *file.classes)
    paths, sizes, images, findings = _usable(folder, file)
    masks = [
        CocoMask(f"{file.path.name} {image['file_name']}", size, _outlines(file.objects[image["id"]], file))
        for image, size in zip(images, sizes, strict=True)
    ]
    presence = [checked_mask(mask, size, mask.name, classes) for mask, size in zip(masks, sizes, strict=True)]
    findings += [Finding("empty", mask.name) for mask, row in zip(masks, presence, strict=True) if not row[1:].any()]
    photos, shape = _files(folder, paths), np.asarray(sizes, np.int64).reshape(-1, 2)
    rows = np.asarray(presence, np.int8).reshape(-1, len(classes))
    return AnnotatedPhotos(photos, shape, classes, rows, masks=tuple(masks), findings=tuple(findings))


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
    size: tuple[int, int]  # width and height in pixels
    outlines: tuple[Outline, ...]

    def read(self) -> NDArray[np.uint8]:
        width, height = self.size
        drawn = [(outline.value, self._filled(outline.shape)) for outline in self.outlines]
        values = np.zeros((height, width), np.uint8)
        for value, filled in sorted(drawn, key=lambda each: -int(each[1].sum())):
            values[filled] = value
        return values

    def _filled(self, shape: Any) -> NDArray[np.bool_]:
        from pycocotools import mask as coco  # compiled, and only needed here

        width, height = self.size
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


def _usable(
    folder: Path, file: CocoFile
) -> tuple[list[str], list[tuple[int, int]], list[Mapping[str, Any]], list[Finding]]:
    """Paths, sizes and entries of the photos that can be used."""
    place = _photo_folder(folder, file)
    paths, sizes, images = [], [], []
    findings: list[Finding] = []
    for image in file.images:
        path = str(place / str(image["file_name"]))
        if not Path(path).is_file():
            raise UserError(f"{file.path} names {image['file_name']}, which is not in {place}.")
        declared = (int(image["width"]), int(image["height"])) if image.get("width") and image.get("height") else None
        size, found = checked_size(path, f"{file.path.name} {image['file_name']}", declared)
        findings += found
        if size is not None:
            paths.append(path)
            sizes.append(size)
            images.append(image)
    return paths, sizes, images, findings


def _photo_folder(folder: Path, file: CocoFile) -> Path:
    """Where the photos of a part are."""
    if not file.images:
        raise UserError(f"{file.path} lists no images.")
    part = file.path.stem.removeprefix("instances_")
    places = [folder / part, folder / "images" / part, file.path.parent, folder / "images", folder]
    first = str(file.images[0]["file_name"])
    for place in places:
        if (place / first).is_file():
            return place
    tried = ", ".join(str(place) for place in places[:2])
    raise UserError(f"{file.path} names {first}, which is not in {tried}, ... Put the photos there.")


def _files(folder: Path, paths: Sequence[str]) -> PhotoFiles:
    return PhotoFiles(list(paths), [len(str(folder)) + 1] * len(paths))
