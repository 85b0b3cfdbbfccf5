"""COCO's JSON file of a part of a set: what of it can be used, and what was found wrong with the rest."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ssl_colorize.data.annotations import IGNORED, Boxes, Finding
from ssl_colorize.data.outlines import Box, DrawnMask, checked_shape, outline_of
from ssl_colorize.errors import UserError
from ssl_colorize.text import read_json

_NOWHERE = (math.nan,) * 4


class CocoObject(NamedTuple):
    """An annotation as it stands in the file."""

    name: str  # for findings
    label: int  # index into the file's classes
    crowd: bool
    bbox: Any
    segmentation: Any


class CocoImage(NamedTuple):
    """A photo and what is on it."""

    file_name: str
    size: tuple[int, int] | None  # width and height in pixels, where the file says them
    objects: list[CocoObject]


@dataclass(frozen=True)
class CocoFile:
    """A part's annotations.

    Attributes:
        classes: in the order of their ids.
        images: sorted by file name.
        findings: what was passed over on reading.
    """

    path: Path
    classes: tuple[str, ...]
    images: tuple[CocoImage, ...]
    findings: tuple[Finding, ...] = ()

    def with_classes(self, classes: Sequence[str]) -> "CocoFile":
        """The same classes in another order."""
        place = [classes.index(name) for name in self.classes]
        images = tuple(
            image._replace(objects=[each._replace(label=place[each.label]) for each in image.objects])
            for image in self.images
        )
        return CocoFile(self.path, tuple(classes), images, self.findings)


def read_file(path: Path) -> CocoFile:
    """Read and index a JSON file.

    Raises:
        UserError: it is missing, not JSON, or not in COCO's format.
    """
    images, annotations, categories = _lists(path)
    findings: list[Finding] = []
    classes, labels = _classes(categories, path.name, findings)
    if not classes:
        raise UserError(f"{path} is not COCO's JSON: none of its categories has an id and a name.")
    by_id = _images(images, path.name, findings)
    _place_objects(annotations, by_id, labels, path.name, findings)
    merged: dict[str, CocoImage] = {}
    for image in by_id.values():
        if image.file_name in merged:
            findings.append(Finding("unknown", f"{path.name}: {image.file_name} is there twice, taken as one"))
            merged[image.file_name].objects.extend(image.objects)
        else:
            merged[image.file_name] = image
    ordered = tuple(merged[name] for name in sorted(merged))
    return CocoFile(path, classes, ordered, tuple(findings))


def _lists(path: Path) -> tuple[list[Any], list[Any], list[Any]]:
    """The file's images, annotations and categories."""
    content = read_json(path)
    if not isinstance(content, dict):
        raise UserError(f"{path} is not COCO's JSON: it holds {_kind(content)}, not images, annotations, categories.")
    for key in ("images", "annotations", "categories"):
        if key not in content:
            raise UserError(f"{path} is not COCO's JSON: it has no '{key}'.")
        if not isinstance(content[key], list):
            raise UserError(f"{path} is not COCO's JSON: its '{key}' are {_kind(content[key])}, not a list.")
    return content["images"], content["annotations"], content["categories"]


def _kind(value: Any) -> str:
    return {list: "a list", dict: "an object", str: "a string", type(None): "null"}.get(type(value), "a number")


def _classes(categories: list[Any], name: str, findings: list[Finding]) -> tuple[tuple[str, ...], dict[Any, int]]:
    """Names in the order of their ids, and the place of each id; two ids of one name are one class."""
    named: dict[Any, str] = {}
    for each in categories:
        key = _id(_get(each, "id"))
        text = _get(each, "name")
        if key is None or text is None:
            findings.append(Finding("unknown", f"{name}: a category without an id or a name"))
        elif named.setdefault(key, str(text)) != str(text):
            findings.append(Finding("unknown", f"{name}: category {key} is {named[key]}, and again {text}"))
    ordered = [named[key] for key in sorted(named, key=_order)]
    classes = tuple(dict.fromkeys(ordered))
    return classes, {key: classes.index(text) for key, text in named.items()}


def _images(images: list[Any], name: str, findings: list[Finding]) -> dict[Any, CocoImage]:
    """By id, without those of which several have the same one."""
    found: dict[Any, CocoImage] = {}
    ambiguous: set[Any] = set()
    for each in images:
        key, file_name = _id(_get(each, "id")), _get(each, "file_name")
        if key is None or not isinstance(file_name, str) or not file_name.strip():
            findings.append(Finding("left out", f"{name}: image {_get(each, 'id')} without an id or a file_name"))
            continue
        image = CocoImage(file_name, _size(each), [])
        if key in found and found[key].file_name != file_name:
            ambiguous.add(key)
            findings.append(Finding("left out", f"{name}: {file_name} has the id {key} of {found[key].file_name}"))
        else:
            found.setdefault(key, image)
    for key in ambiguous:
        findings.append(Finding("left out", f"{name}: {found.pop(key).file_name}, whose id {key} others have too"))
    return found


def _place_objects(
    annotations: list[Any], images: Mapping[Any, CocoImage], labels: Mapping[Any, int], name: str,
    findings: list[Finding],
) -> None:  # fmt: skip
    """Put each annotation with its image; one that is there twice, word for word, once."""
    seen: set[str] = set()
    for each in annotations:
        called = f"{name}: annotation {_get(each, 'id')}"
        image, category = _id(_get(each, "image_id")), _id(_get(each, "category_id"))
        if image not in images or category not in labels:
            missing = (
                f"image {_get(each, 'image_id')}" if image not in images else f"category {_get(each, 'category_id')}"
            )
            findings.append(Finding("unknown", f"{called} is of {missing}, which is not listed"))
            continue
        if "id" in each:
            written = repr([each.get(key) for key in ("id", "image_id", "category_id", "bbox", "segmentation")])
            if written in seen:
                findings.append(Finding("unknown", f"{called} is there twice"))
                continue
            seen.add(written)
        crowd = _number(each.get("iscrowd") or 0) != 0
        images[image].objects.append(
            CocoObject(
                f"annotation {_get(each, 'id')}", labels[category], crowd, each.get("bbox"), each.get("segmentation")
            )
        )


def _get(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, dict) else None


def _id(value: Any) -> Any:
    """An id as it is compared: 7, 7.0 and "7" are the same one; None for what is none."""
    if isinstance(value, str):
        return int(value) if value.strip().isascii() and value.strip().isdigit() else value
    if isinstance(value, float) and math.isfinite(value):
        return int(value) if value.is_integer() else value
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _order(key: Any) -> tuple[bool, Any]:
    """Numbers before words."""
    return isinstance(key, str), key


def _number(value: Any) -> float:
    """NaN for what is none."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _size(image: Mapping[str, Any]) -> tuple[int, int] | None:
    width, height = _number(image.get("width")), _number(image.get("height"))
    return (int(width), int(height)) if 1 <= width < 1e9 and 1 <= height < 1e9 else None


# ---- boxes and outlines ----------------------------------------------------------------------------------------------


def _box(bbox: Any) -> Box:
    """Left, top, right, bottom from COCO's left, top, width, height; NaN for what is none."""
    if not isinstance(bbox, list | tuple) or len(bbox) != 4:
        return _NOWHERE
    with np.errstate(over="ignore", invalid="ignore"):  # beyond float32 it is infinite
        left, top, width, height = np.asarray([_number(side) for side in bbox], np.float32)
        return float(left), float(top), float(left + width), float(top + height)


def _usable(box: Box) -> bool:
    return all(map(math.isfinite, box)) and box[2] > box[0] and box[3] > box[1]


def coco_boxes(image: CocoImage, size: tuple[int, int], name: str) -> tuple[Boxes, list[Finding]]:
    """The boxes of a photo; one that is missing or no box is taken from its outline.

    Args:
        size: width and height in pixels that it was annotated at.
        name: of the photo, for the findings.
    """
    findings: list[Finding] = []
    boxes: list[Box] = []
    for each in image.objects:
        box = _box(each.bbox)
        if not _usable(box):
            shape = checked_shape(each.segmentation, size).shape
            outlined = shape.box(*size) if shape is not None else None
            if outlined is not None:
                box = outlined
                findings.append(Finding("outlined", f"{name}, {each.name}"))
        boxes.append(box)
    labels, crowds = [each.label for each in image.objects], [each.crowd for each in image.objects]
    return Boxes.of(boxes, labels, crowds), findings


def coco_mask(image: CocoImage, size: tuple[int, int], name: str) -> tuple[DrawnMask, list[Finding]]:
    """The mask of a photo: 1 + the class of each object, IGNORED for crowds and where an outline cannot be drawn.

    Args:
        size: width and height in pixels that it was annotated at.
        name: of the photo, for the findings.
    """
    findings: list[Finding] = []
    outlines = []
    for each in image.objects:
        checked = checked_shape(each.segmentation, size)
        box = _box(each.bbox)
        outline = outline_of(
            IGNORED if each.crowd else each.label + 1, checked, box if _usable(box) else None
        )  # fmt: skip
        if checked.problem:
            left = "" if checked.shape is not None else "; its box is not counted" if outline else ""
            findings.append(Finding("outline", f"{name}, {each.name}: {checked.problem}{left}"))
        if outline is not None:
            outlines.append(outline)
    return DrawnMask(size, tuple(outlines)), findings
