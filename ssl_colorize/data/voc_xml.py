"""VOC's annotation files: one XML file a photo, with its size and the objects on it."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np

from ssl_colorize.data.annotations import Boxes, Finding
from ssl_colorize.errors import UserError, one_line

_SIDES = ("xmin", "ymin", "xmax", "ymax")


class VocObject(NamedTuple):
    """One object of an annotation file."""

    name: str
    difficult: bool
    box: tuple[float, float, float, float]  # xmin, ymin, xmax, ymax as written, from 1 on; NaN for what is no number


class VocAnnotation(NamedTuple):
    size: tuple[int, int] | None  # width and height in pixels, where the file says them
    objects: list[VocObject]
    nameless: int = 0  # how many objects there are besides, of which it does not say what they are


def read_annotation(path: Path) -> VocAnnotation:
    """All that an annotation file says about the photo's objects.

    Raises:
        UserError: the file is missing or is no annotation.
    """
    try:
        text = path.read_bytes()
        # Entities of entities fill the memory, and no annotation needs one.
        if b"<!ENTITY" in text.replace(b"\0", b""):
            raise ValueError("it defines entities, which annotations have no need of")
        root = ElementTree.fromstring(text)
    except (OSError, ElementTree.ParseError, ValueError, LookupError) as error:
        raise UserError(
            f"Cannot read the annotation {path}: {getattr(error, 'strerror', None) or one_line(error)}."
        ) from None
    found = [_object(each) for each in root.iter("object")]
    objects = [each for each in found if each.name]
    return VocAnnotation(_size(root), objects, len(found) - len(objects))


def read_annotations(files: Mapping[str, Path]) -> tuple[dict[str, VocAnnotation], list[Finding]]:
    """The annotations of photos, by the same names, without those that cannot be read; and what was found."""
    read: dict[str, VocAnnotation] = {}
    findings: list[Finding] = []
    for stem, file in files.items():
        name = f"{file.parent.name}/{file.name}"
        try:
            read[stem] = read_annotation(file)
        except UserError as error:
            why = str(error).removeprefix(f"Cannot read the annotation {file}: ").rstrip(".")
            findings.append(Finding("left out", f"{name}: {why}"))
            continue
        if read[stem].nameless:
            findings.append(Finding("unknown", f"{name}: {read[stem].nameless} without a name"))
    return read, findings


def voc_boxes(annotation: VocAnnotation, classes: Sequence[str]) -> Boxes:
    """The boxes, as distances from the photo's corner: VOC counts pixels from 1 and includes the last one."""
    labels = [classes.index(each.name) for each in annotation.objects]
    with np.errstate(over="ignore"):  # beyond float32 it is infinite
        corners = np.asarray([each.box for each in annotation.objects], np.float32).reshape(-1, 4)
    return Boxes.of(corners - [1, 1, 0, 0], labels, [each.difficult for each in annotation.objects])


def class_names(annotations: Iterable[VocAnnotation]) -> tuple[str, ...]:
    """Names of all classes, in alphabetical order."""
    return tuple(sorted({each.name for one in annotations for each in one.objects}))


def _size(root: ElementTree.Element) -> tuple[int, int] | None:
    width, height = (_number(root.findtext(f"size/{side}")) for side in ("width", "height"))
    usable = all(1 <= side < 1e9 for side in (width, height))
    return (int(width), int(height)) if usable else None


def _object(element: ElementTree.Element) -> VocObject:
    name = " ".join((element.findtext("name") or "").split())
    difficult = _number(element.findtext("difficult")) == 1
    left, top, right, bottom = (_number(element.findtext(f"bndbox/{side}")) for side in _SIDES)
    return VocObject(name, difficult, (left, top, right, bottom))


def _number(text: str | None) -> float:
    """NaN for what is none."""
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan
