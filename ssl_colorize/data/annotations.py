"""What is drawn on photos, boxes and masks, and the checks that it goes through before anything learns from it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from ssl_colorize.data.images import MAX_PIXELS, UnreadablePhoto, photo_size
from ssl_colorize.errors import UserError, one_line

IGNORED = 255  # mask value of pixels that do not count: borders of objects, crowds

Annotation = Literal["labels", "boxes", "masks"]

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


def box_presence(boxes: Sequence[Boxes], classes: int) -> NDArray[np.int8]:
    """(N, classes) int8, the labels of photos with these boxes, as in `LabeledDataset`.

    >>> box_presence([Boxes.of([[0, 0, 5, 5]], [1]), Boxes.of([[0, 0, 5, 5]], [0], [True])], 2).tolist()
    [[0, 1], [-1, 0]]
    """
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


# ---- regions to look at, from a file: what Selective Search and its like wrote -------------------------------------


def read_proposals(path: str | Path) -> dict[str, NDArray[np.float32]]:
    """The regions of each photo, in pixels: left, top, right, bottom.

    Args:
        path: .npz with an array (P, 4) for each photo, or .json with a list of lists.

    Raises:
        UserError: the file cannot be read.
    """
    file = Path(path)
    try:
        if file.suffix == ".npz":
            with np.load(file, allow_pickle=False) as arrays:
                return {name: np.asarray(arrays[name], np.float32) for name in arrays.files}
        if file.suffix == ".json":
            return {name: np.asarray(boxes, np.float32) for name, boxes in json.loads(file.read_text("utf-8")).items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"Cannot read the proposals {file}: {one_line(error)}.") from None
    raise UserError(f"Setting proposals: {file} is neither .npz nor .json.")


def proposals_of(
    name: str, size: tuple[int, int], known: Mapping[str, NDArray[np.float32]], *, file: str | Path
) -> NDArray[np.float32]:
    """A photo's regions (P, 4), clipped to it; those without an area there are left out.

    Args:
        name: the photo's in its set ("JPEGImages/000001.jpg"); the file may also call it by its file's name, or by
            that without its suffix.
        size: width and height of the photo in pixels.
        file: where they are from, for the message.

    Raises:
        UserError: there are no usable ones.
    """
    found = next((known[each] for each in (name, Path(name).name, Path(name).stem) if each in known), None)
    if found is None:
        raise UserError(f"The proposals {file} have none for {name}.")
    if found.ndim != 2 or found.shape[1] != 4:
        raise UserError(f"The proposals {file} of {name} have the shape {found.shape}, not (P, 4).")
    clipped = found.clip(0, [*size, *size]).astype(np.float32)
    usable = clipped[(clipped[:, 2:] > clipped[:, :2]).all(1)]
    if not len(usable):
        raise UserError(f"The proposals {file} of {name} hold no region inside the photo.")
    return usable
