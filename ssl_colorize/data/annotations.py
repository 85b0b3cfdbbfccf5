"""What is drawn on photos, boxes and masks, and the checks that it goes through before anything learns from it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from ssl_colorize.data.images import MAX_PIXELS, UnreadablePhoto, photo_size
from ssl_colorize.data.labeled import LabeledPhotos
from ssl_colorize.data.photos import Photos
from ssl_colorize.errors import UserError, one_line

IGNORED = 255  # mask value of pixels that do not count: borders of objects, crowds

FindingKind = Literal["empty", "clipped", "dropped", "left out"]

_SAID: dict[FindingKind, tuple[str, str]] = {
    "empty": ("photo without objects, kept", "photos without objects, kept"),
    "clipped": ("box reaches out of its photo, clipped", "boxes reach out of their photos, clipped"),
    "dropped": ("unusable box dropped", "unusable boxes dropped"),
    "left out": ("photo left out", "photos left out"),
}
_NAMED = 3  # findings of a kind that a summary names


class Finding(NamedTuple):
    """Something about one annotation that its owner should know."""

    kind: FindingKind
    text: str  # one line: the file, and what is wrong with it

    def __str__(self) -> str:
        return f"{_SAID[self.kind][0]}: {self.text}"


def summary(findings: Sequence[Finding]) -> list[str]:
    """A line for each kind of finding: how many there are, and the first few by name."""
    lines = []
    for kind, (one, more) in _SAID.items():
        found = [each.text for each in findings if each.kind == kind]
        if found:
            rest = f"; and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
            lines.append(f"{len(found)} {one if len(found) == 1 else more}: {'; '.join(found[:_NAMED])}{rest}")
    return lines


class Boxes(NamedTuple):
    """The objects of one photo, K of them."""

    corners: NDArray[np.float32]  # (K, 4) left, top, right, bottom: distances in pixels from the photo's corner
    labels: NDArray[np.int64]  # (K,) indices into the classes
    difficult: NDArray[np.bool_]  # (K,) neither asked for nor counted: VOC's "difficult", COCO's "iscrowd"

    @classmethod
    def of(cls, corners: ArrayLike, labels: ArrayLike, difficult: ArrayLike | None = None) -> "Boxes":
        """From plain lists; none is difficult unless told."""
        names = np.asarray(labels, np.int64).reshape(-1)
        hard = np.zeros(len(names), np.bool_) if difficult is None else np.asarray(difficult, np.bool_).reshape(-1)
        return cls(np.asarray(corners, np.float32).reshape(-1, 4), names, hard)

    def take(self, rows: NDArray[np.generic]) -> "Boxes":
        """Those at the given indices, or where a mask is true."""
        return Boxes(self.corners[rows], self.labels[rows], self.difficult[rows])


class Mask(Protocol):
    """Where the classes of one photo are; it holds what to read, not the pixels."""

    def read(self) -> NDArray[np.uint8]:
        """(H, W) uint8: 0 background, other indices into the classes, or IGNORED.

        Raises:
            UserError: the file cannot be used.
        """


@dataclass(frozen=True)
class AnnotatedPhotos:
    """Photos with boxes or with masks.

    Attributes:
        photos: N photos.
        sizes: (N, 2) int64, width and height in pixels of each photo, which its boxes and its mask belong to.
        classes: C names; with masks the first one is the background.
        presence: (N, C) int8: 1 where a class is there, -1 where all its objects are difficult, 0 elsewhere.
        boxes: one entry a photo; empty for masks.
        masks: one entry a photo; empty for boxes.
        findings: what the checks on loading found.
    """

    photos: Photos
    sizes: NDArray[np.int64]
    classes: tuple[str, ...]
    presence: NDArray[np.int8]
    boxes: tuple[Boxes, ...] = ()
    masks: tuple[Mask, ...] = ()
    findings: tuple[Finding, ...] = ()

    def __post_init__(self) -> None:
        counts = {len(self.photos), len(self.sizes), len(self.presence), len(self.boxes or self.masks)}
        if len(counts) > 1:
            raise ValueError(f"photos, sizes, presence and boxes or masks of different lengths: {sorted(counts)}")

    def __len__(self) -> int:
        return len(self.sizes)

    def take(self, indices: Iterable[int]) -> "AnnotatedPhotos":
        """Those at the given indices, in this order."""
        chosen = [int(index) for index in indices]
        return replace(
            self,
            photos=self.photos.take(chosen),
            sizes=self.sizes[chosen],
            presence=self.presence[chosen],
            boxes=tuple(self.boxes[i] for i in chosen) if self.boxes else (),
            masks=tuple(self.masks[i] for i in chosen) if self.masks else (),
        )

    def labeled(self) -> LabeledPhotos:
        """The same photos as a multi-label set, which is what splits are balanced by."""
        return LabeledPhotos(self.photos, self.presence, self.classes)


def box_presence(boxes: Sequence[Boxes], classes: int) -> NDArray[np.int8]:
    """(N, classes) as `AnnotatedPhotos.presence`."""
    found = np.zeros((len(boxes), classes), np.int8)
    for row, each in zip(found, boxes, strict=True):
        row[each.labels[each.difficult]] = -1
        row[each.labels[~each.difficult]] = 1
    return found


def checked_boxes(
    boxes: Boxes, size: tuple[int, int], name: str, classes: Sequence[str]
) -> tuple[Boxes, list[Finding]]:
    """Boxes brought inside their photo; those without an area there are dropped, with a finding each.

    Args:
        size: width and height of the photo in pixels.
        name: of the annotation, for the findings.
    """
    corners = boxes.corners
    limits = np.asarray([*size, *size], np.float32)
    clipped = corners.clip(0, limits)
    # NaN, for a side that is missing, compares as false.
    valid = np.asarray(np.isfinite(corners).all(1) & (corners[:, 2:] > corners[:, :2]).all(1))
    inside = np.asarray(valid & (clipped[:, 2:] > clipped[:, :2]).all(1))
    findings = []
    for row in np.flatnonzero(~inside | (clipped != corners).any(1)):
        sides = ", ".join(f"{side:g}" for side in corners[row])
        what = f"{name}: object {row + 1}, {classes[boxes.labels[row]]} [{sides}]"
        if not valid[row]:
            findings.append(Finding("dropped", f"{what} has no area"))
        elif not inside[row]:
            findings.append(Finding("dropped", f"{what} is outside its photo of {size[0]} x {size[1]} px"))
        else:
            findings.append(Finding("clipped", f"{what} in a photo of {size[0]} x {size[1]} px"))
    return Boxes(clipped, boxes.labels, boxes.difficult).take(inside), findings


def checked_size(
    path: str, name: str, declared: tuple[int, int] | None
) -> tuple[tuple[int, int] | None, list[Finding]]:
    """The photo's size from its header; None, with a finding, if it cannot be used with its annotation."""
    try:
        size = photo_size(path)
    except UnreadablePhoto as error:
        return None, [Finding("left out", f"{name}: {str(error).removeprefix(f'{path}: ')}")]
    if declared is not None and size != declared:
        said = f"{declared[0]} x {declared[1]} px by its annotation, {size[0]} x {size[1]} px by itself"
        return None, [Finding("left out", f"{name}: {said}")]
    return size, []


def checked_mask(mask: Mask, size: tuple[int, int], name: str, classes: Sequence[str]) -> NDArray[np.int8]:
    """Read a mask and check it.

    Args:
        size: width and height of its photo in pixels.
        name: of the mask, for the message.

    Returns:
        (C,) int8: 1 for each class that it shows.

    Raises:
        UserError: the mask is unreadable, of another size than its photo, or has a value that is no class.
    """
    values = mask.read()
    if values.shape != size[::-1]:
        raise UserError(
            f"The mask {name} is {values.shape[1]} x {values.shape[0]} px and its photo {size[0]} x {size[1]} px. "
            "Mend it, or take it off the list."
        )
    counts = np.bincount(values.ravel(), minlength=256)
    unknown = [int(value) for value in np.flatnonzero(counts[:IGNORED]) if value >= len(classes)]
    if unknown:
        raise UserError(
            f"The mask {name} has the value {unknown[0]}, which is none of the {len(classes)} classes "
            f"(0 is the background, {IGNORED} is not counted). Mend it, or take it off the list."
        )
    return (counts[: len(classes)] > 0).astype(np.int8)


@dataclass(frozen=True)
class MaskFile:
    """A picture with a palette or of grays, whose pixels are class numbers."""

    path: str

    def read(self) -> NDArray[np.uint8]:
        try:
            with Image.open(self.path) as picture:
                if picture.width * picture.height > MAX_PIXELS:
                    raise ValueError(f"{picture.width} x {picture.height} pixels are too many")
                if picture.mode not in ("P", "L"):
                    raise ValueError(f"its pixels are {picture.mode}, not class numbers (a palette or grays)")
                return np.array(picture)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise UserError(f"Cannot use the mask {self.path}: {one_line(error)}.") from None
