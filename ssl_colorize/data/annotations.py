"""What is drawn on photos, boxes and masks, and the checks that it goes through before anything learns from it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ssl_colorize.data.images import Header, UnreadablePhoto, read_header
from ssl_colorize.data.orientation import Frame, frame_of, stored_size, turn_corners
from ssl_colorize.errors import UserError, one_line
from ssl_colorize.text import read_json

FAR_OUTSIDE = 10  # times the longer side of a photo: coordinates beyond that are an error, and no object at its edge
IGNORED = 255  # mask value of pixels that do not count: borders of objects, crowds

Annotation = Literal["labels", "boxes", "masks"]

FindingKind = Literal[
    "empty", "clipped", "dropped", "outlined", "outline", "unknown", "left out", "turned", "orientation", "uncounted",
    "unseen", "format",
]  # fmt: skip

_SAID: dict[FindingKind, tuple[str, str]] = {
    "format": ("doubt about the format of boxes", "doubts about the format of boxes"),
    "left out": ("photo left out", "photos left out"),
    "dropped": ("unusable box dropped", "unusable boxes dropped"),
    "outline": ("outline that cannot be drawn, dropped", "outlines that cannot be drawn, dropped"),
    "unknown": ("annotation of something unknown passed over", "annotations of something unknown passed over"),
    "clipped": ("box reaches out of its photo, clipped", "boxes reach out of their photos, clipped"),
    "outlined": ("box that is none taken from its outline", "boxes that are none taken from their outlines"),
    "turned": (
        "annotation was made on a photo before EXIF turned it, turned with it",
        "annotations were made on photos before EXIF turned them, turned with them",
    ),
    "orientation": (
        "photo is turned by EXIF and its annotation may be from before or after that, taken like the set's others",
        "photos are turned by EXIF and their annotations may be from before or after that, taken like the set's others",
    ),
    "uncounted": (
        f"mask shows no object and has pixels that are not counted ({IGNORED})",
        f"masks show no object and have pixels that are not counted ({IGNORED})",
    ),
    "unseen": ("listed class is in no training mask", "listed classes are in no training mask"),
    "empty": ("photo without objects, kept", "photos without objects, kept"),
}  # fmt: skip
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
    boxes: Boxes,
    size: tuple[int, int],
    name: str,
    classes: Sequence[str],
    written: NDArray[np.float32] | None = None,
) -> tuple[Boxes, list[Finding]]:
    """Boxes brought inside their photo; those without an area there are dropped, with a finding each.

    Args:
        size: width and height of the photo in pixels.
        name: of the annotation, for the findings.
        written: (K, 4) as it has them, where they were turned since.
    """
    corners = boxes.corners
    limits = np.asarray([*size, *size], np.float32)
    clipped = corners.clip(0, limits)
    # NaN, for a side that is missing, compares as false.
    finite = np.asarray(np.isfinite(corners).all(1))
    valid = np.asarray(finite & (corners[:, 2:] > corners[:, :2]).all(1))
    near = np.asarray(np.abs(corners) <= FAR_OUTSIDE * max(size)).all(1)
    inside = np.asarray(valid & near & (clipped[:, 2:] > clipped[:, :2]).all(1))
    findings = []
    for row in np.flatnonzero(~inside | (clipped != corners).any(1)):
        sides = ", ".join(f"{side:g}" for side in (corners if valid[row] or written is None else written)[row])
        what = f"{name}: object {row + 1}, {classes[boxes.labels[row]]} [{sides}]"
        if not valid[row]:
            findings.append(
                Finding("dropped", f"{what} has {'no area' if finite[row] else 'a side that is no number'}")
            )
        elif not inside[row]:
            findings.append(Finding("dropped", f"{what} is outside its photo of {size[0]} x {size[1]} px"))
        else:
            findings.append(Finding("clipped", f"{what} in a photo of {size[0]} x {size[1]} px"))
    return Boxes(clipped, boxes.labels, boxes.difficult).take(inside), findings


def frame_of_boxes(boxes: Boxes, header: Header, declared: tuple[int, int] | None) -> Frame:
    """On which form of a photo its boxes were made.

    The declared size tells, or, where there is none, that the boxes fit into the one and not into the other.

    Args:
        declared: width and height in pixels that the annotation was made at.
    """
    frame = frame_of(declared, header)
    if frame == "either" and declared is None:
        reach = boxes.corners[np.isfinite(boxes.corners).all(1), 2:]
        fits, fits_stored = ((reach <= np.asarray(size) + 1).all() for size in (header.size, stored_size(header)))
        return "stored" if fits_stored and not fits else frame
    return frame


def turned_boxes(boxes: Boxes, header: Header, frame: Frame, untold: Frame, name: str) -> tuple[Boxes, list[Finding]]:
    """Boxes of a photo as EXIF turns it: turned with it if they were made on it as it is stored.

    Args:
        frame: that they were made on.
        untold: what to take it for where that is not known.
        name: of the annotation, for the findings.
    """
    findings = [Finding("turned", name)] if frame == "stored" else []
    if frame == "either" and len(boxes.labels):
        findings = [Finding("orientation", name)]
    if "stored" not in (frame, untold if frame == "either" else frame):
        return boxes, findings
    return Boxes(turn_corners(boxes.corners, header), boxes.labels, boxes.difficult), findings


def doubts(read: Sequence[NDArray[np.float32]], findings: Sequence[Finding], first: str) -> list[Finding]:
    """What all boxes of a set together say against their format.

    Args:
        read: (K, 4) corners of each photo, as read and not yet clipped.
        findings: those on single boxes.
        first: name of the first annotation.
    """
    count = sum(map(len, read))
    amiss = sum(each.kind in ("clipped", "dropped") for each in findings)
    if count < 2:
        return []
    if 2 * amiss > count:
        order = "COCO has left, top, width, height, and VOC xmin, ymin, xmax, ymax, all in pixels"
        return [Finding("format", f"{first}: {amiss} of {count} boxes do not lie in their photos ({order})")]
    corners = np.concatenate(read)
    corners = corners[np.isfinite(corners).all(1)]
    if len(corners) and corners.max() <= 1:
        return [Finding("format", f"{first}: all {count} boxes lie within 1 px, as shares of a photo would")]
    return []


def checked_header(path: str, name: str, declared: tuple[int, int] | None) -> tuple[Header | None, list[Finding]]:
    """The photo's size from its header; None, with a finding, if it cannot be used with its annotation."""
    try:
        header = read_header(path)
    except UnreadablePhoto as error:
        return None, [Finding("left out", f"{name}: {str(error).removeprefix(f'{path}: ')}")]
    if declared is not None and frame_of(declared, header) == "neither":
        size = header.size
        said = f"{declared[0]} x {declared[1]} px by its annotation, {size[0]} x {size[1]} px by itself"
        return None, [Finding("left out", f"{name}: {said}")]
    return header, []


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
            return {name: np.asarray(boxes, np.float32) for name, boxes in read_json(file).items()}
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
