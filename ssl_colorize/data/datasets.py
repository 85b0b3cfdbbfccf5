"""Photos and what is on them: labels, boxes or masks, on one class."""

import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ssl_colorize.data.annotations import (
    Boxes,
    Finding,
    Mask,
    box_presence,
    checked_boxes,
    checked_header,
    doubts,
    frame_of_boxes,
    proposals_of,
    turned_boxes,
)
from ssl_colorize.data.images import Header
from ssl_colorize.data.masks import check_together, checked_mask
from ssl_colorize.data.orientation import prevailing
from ssl_colorize.data.photos import PhotoFiles, Photos
from ssl_colorize.data.reading import Reading, joined
from ssl_colorize.data.splits import rank_in_class
from ssl_colorize.errors import UserError


@dataclass(frozen=True)
class LabeledDataset:
    """Photos and what is on them.

    Attributes:
        photos: N photos.
        labels: (N,) int64, indices into classes; multi-label, as always with boxes and with masks, (N, C) int8: 1
            there, 0 not there, -1 not counted, as all objects of the class are difficult.
        classes: C names; with masks the first one is the background.
        sizes: (N, 2) int64, width and height in pixels of each photo, which its boxes and its mask belong to; (0, 2)
            where there are labels alone.
        boxes: one entry a photo, or none at all.
        masks: likewise.
        proposals: likewise; (P, 4) float32 regions of each photo to look at, in pixels as boxes.
        findings: what the checks on loading found.
        reading: what was read, also of the parts that are taken of it.
    """

    photos: Photos
    labels: NDArray[np.integer]
    classes: tuple[str, ...]
    sizes: NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 2), np.int64))
    boxes: tuple[Boxes, ...] = ()
    masks: tuple[Mask, ...] = ()
    proposals: tuple[NDArray[np.float32], ...] = ()
    findings: tuple[Finding, ...] = ()
    reading: Reading = field(default_factory=Reading)

    def __post_init__(self) -> None:
        if len(self.photos) != len(self.labels):
            raise ValueError(f"{len(self.photos)} photos and {len(self.labels)} labels")
        for name in ("sizes", "boxes", "masks", "proposals"):
            if len(getattr(self, name)) not in (0, len(self)):
                raise ValueError(f"{len(self)} photos and {len(getattr(self, name))} {name}")

    @property
    def multilabel(self) -> bool:
        return self.labels.ndim == 2

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Iterable[int]) -> "LabeledDataset":
        """Those at the given indices, in this order."""
        chosen = [int(index) for index in indices]
        parts: dict[str, Any] = {
            name: tuple(values[index] for index in chosen)
            for name, values in (("boxes", self.boxes), ("masks", self.masks), ("proposals", self.proposals))
            if values
        }
        rows = np.asarray(chosen, np.int64)
        sizes = self.sizes[rows] if len(self.sizes) else self.sizes
        return replace(self, photos=self.photos.take(chosen), labels=self.labels[rows], sizes=sizes, **parts)

    def counts(self) -> NDArray[np.int64]:
        """(C,): the number of photos that show each class."""
        if self.multilabel:
            return np.asarray((self.labels == 1).sum(0), dtype=np.int64)
        return np.bincount(self.labels, minlength=len(self.classes)).astype(np.int64)

    def shown(self) -> tuple[str, ...]:
        """Names of the classes that at least one photo shows."""
        return tuple(name for name, count in zip(self.classes, self.counts(), strict=True) if count)

    def restrict(self, classes: tuple[str, ...]) -> "LabeledDataset":
        """The same photos over these classes, in this order; boxes of other classes are dropped.

        Raises:
            ValueError: a photo's only label is of another class, or there are masks, whose values are as they are.
        """
        if classes == self.classes:
            return self
        if self.masks:
            raise ValueError("masks of other classes would have to be drawn anew")
        place = np.asarray([classes.index(name) if name in classes else -1 for name in self.classes], np.int64)
        if not self.multilabel:
            labels = place[self.labels]
            if (labels < 0).any():
                raise ValueError(f"some of the photos show none of {classes}")
            return replace(self, classes=classes, labels=labels)
        presence = np.zeros((len(self), len(classes)), self.labels.dtype)
        presence[:, place[place >= 0]] = self.labels[:, place >= 0]
        boxes = tuple(
            Boxes(each.corners, place[each.labels], each.difficult).take(place[each.labels] >= 0) for each in self.boxes
        )
        return replace(self, classes=classes, labels=presence, boxes=boxes)

    def limit(self, count: int, *, where: str) -> "LabeledDataset":
        """At most `count` photos: first one of each class, then others so that the classes keep their proportions.

        Args:
            where: what they are from, for the message.

        Raises:
            UserError: there are more classes than that.
        """
        if count < len(self.shown()):
            raise UserError(f"--limit {count} is fewer than the {len(self.shown())} classes of {where}.")
        if count >= len(self):
            return self
        order = np.asarray(self.photos.by_hash(salt=b"limit"))
        labels = self.labels[order]
        if self.multilabel:
            # In the order of the hash, which keeps proportions by chance.
            place = np.arange(len(self)) / len(self)
            first = np.unique((labels == 1).argmax(0)[(labels == 1).any(0)])
        else:
            rank = rank_in_class(labels)
            place = (rank + 0.5) / self.counts()[labels]
            first = np.flatnonzero(rank == 0)
        place[first] = -1.0
        return self.take(np.sort(order[np.argsort(place, kind="stable")[:count]]).tolist())

    def with_proposals(self, known: Mapping[str, NDArray[np.float32]], *, file: str | Path) -> "LabeledDataset":
        """With each photo's regions to look at, as `annotations.read_proposals` reads them from a file.

        Raises:
            UserError: there are no usable ones for a photo.
        """
        found = (
            proposals_of(self.photos.name(index), (width, height), known, file=file)
            for index, (width, height) in enumerate(self.sizes.tolist())
        )
        return replace(self, proposals=tuple(found))


class Record(NamedTuple):
    """A photo's file and what its annotation says is on it, as read, before any check."""

    path: str
    name: str  # of the annotation, for what is found on checking it
    size: tuple[int, int] | None = None  # width and height in pixels that the annotation declares
    boxes: Boxes | None = None
    mask: Mask | None = None


def checked_dataset(
    folder: Path, records: Iterable[Record], classes: tuple[str, ...], findings: Iterable[Finding] = ()
) -> LabeledDataset:
    """Photos below a folder with boxes, or with masks, that fit them.

    Photos that do not fit their annotation are left out, boxes are turned with their photo, clipped or dropped, each
    with a finding.

    Args:
        findings: of reading the records.

    Raises:
        UserError: a mask is unreadable or does not fit its photo, or nothing is left.
    """
    kept: list[Record] = []
    headers: list[Header] = []
    found = list(findings)
    for record in records:
        header, noted = checked_header(record.path, record.name, record.size)
        found += noted
        if header is not None:
            kept.append(record)
            headers.append(header)
    if found and not kept:
        raise UserError(f"{folder}: none of the photos can be used, the first one for this: {found[0]}.")
    masks: tuple[Mask, ...] = ()
    boxes, noted = _checked_boxes(kept, headers, classes)
    labels = box_presence(boxes, len(classes))
    if any(record.mask is not None for record in kept):
        masks, labels, noted = _checked_masks(folder, kept, headers, classes)
    photos = PhotoFiles.below(str(folder), [record.path for record in kept])
    sizes = np.asarray([header.size for header in headers], np.int64).reshape(-1, 2)
    return LabeledDataset(photos, labels, classes, sizes, tuple(boxes), masks, findings=(*found, *noted))


def _checked_boxes(
    records: Sequence[Record], headers: Sequence[Header], classes: tuple[str, ...]
) -> tuple[list[Boxes], list[Finding]]:
    """The boxes of each photo, none at all without any, and what was found."""
    boxes: list[Boxes] = []
    findings: list[Finding] = []
    read = []
    each = [(record, record.boxes, header) for record, header in zip(records, headers, strict=True) if record.boxes]
    frames = [frame_of_boxes(drawn, header, record.size) for record, drawn, header in each]
    untold = prevailing(zip(frames, [header for _, _, header in each], strict=True))
    for (record, drawn, header), frame in zip(each, frames, strict=True):
        turned, noted = turned_boxes(drawn, header, frame, untold, record.name)
        findings += noted
        usable, noted = checked_boxes(turned, header.size, record.name, classes, drawn.corners)
        findings += noted
        read.append(turned.corners)
        boxes.append(usable)
        if not len(drawn.labels):
            findings.append(Finding("empty", record.name))
    dropped = [finding for finding in findings if finding.kind == "dropped"]
    if dropped and not any(len(usable.labels) for usable in boxes):
        raise UserError(f"None of the {len(dropped)} boxes can be used, the first one for this: {dropped[0].text}.")
    return boxes, [*findings, *doubts(read, findings, records[0].name if records else "")]


def _checked_masks(
    folder: Path, records: Sequence[Record], headers: Sequence[Header], classes: tuple[str, ...]
) -> tuple[tuple[Mask, ...], NDArray[np.int8], list[Finding]]:
    """The mask of each photo, (N, C) which classes it shows, and what was found."""
    masks = [record.mask for record in records if record.mask is not None]
    names = [record.name for record in records]
    # Decoding leaves the interpreter to other threads.
    with ThreadPoolExecutor(4) as threads:
        checked = list(threads.map(partial(checked_mask, classes=classes), masks, headers, names))
    check_together(checked, classes, folder)
    if prevailing((each.frame, header) for each, header in zip(checked, headers, strict=True)) == "stored":
        checked = [each.turned(header) for each, header in zip(checked, headers, strict=True)]
    findings = [finding for each in checked for finding in each.findings]
    return tuple(each.mask for each in checked), np.stack([each.shown for each in checked]), findings


def join(sets: Sequence[LabeledDataset]) -> LabeledDataset:
    """Several sets as one, over all their classes.

    Raises:
        UserError: they do not go together, or share a photo.
    """
    if len(sets) == 1:
        return sets[0]
    files = [each.photos for each in sets if isinstance(each.photos, PhotoFiles)]
    if len(files) < len(sets) or len({each.multilabel for each in sets}) > 1:
        raise UserError("Several --data items must all be folders, of one kind: class folders or VOC.")
    photos = PhotoFiles.together(files)
    if len(photos) < sum(map(len, sets)):
        raise UserError("The same photo is in two of the --data items. Give each once.")
    classes = sets[0].classes
    if not any(each.masks for each in sets):
        classes = tuple(sorted({name for each in sets for name in each.classes}))
    elif any(each.classes != classes for each in sets):
        raise UserError("The --data items have masks of different classes. Give sets of the same classes.")
    parts = [each.restrict(classes) for each in sets]

    def chained(of: Callable[[LabeledDataset], tuple[Any, ...]]) -> tuple[Any, ...]:
        return tuple(each for part in parts for each in of(part))

    return LabeledDataset(
        photos,
        np.concatenate([part.labels for part in parts]),
        classes,
        np.concatenate([part.sizes for part in parts]),
        boxes=chained(lambda part: part.boxes),
        masks=chained(lambda part: part.masks),
        findings=chained(lambda part: part.findings),
        reading=joined(part.reading for part in parts),
    )


def check_trained_masks(train: LabeledDataset, test: LabeledDataset, *, where: str) -> LabeledDataset:
    """The part to train on, with a finding for each listed class that it does not show.

    Args:
        where: what they are from, for the message.

    Raises:
        UserError: it shows a single class, or the test part one that it does not.
    """
    shown = train.shown()
    _refuse_untrained(shown, test.shown(), where)
    if len(shown) < 2:
        raise UserError(f"{where}: the masks to train on show nothing but {', '.join(shown)}. Give masks of 2 classes.")
    unseen = [Finding("unseen", name) for name in train.classes if name not in shown]
    return replace(train, findings=(*train.findings, *unseen))


def _refuse_untrained(classes: Sequence[str], tested: Sequence[str], where: str) -> None:
    untrained = [name for name in tested if name not in classes]
    if untrained:
        alike = {_folded(name): name for name in classes}
        other = next((name for name in untrained if _folded(name) in alike), None)
        if other is not None:
            raise UserError(
                f"{where}: the class is {alike[_folded(other)]} to train on, {other} to test on. Write them alike, in "
                "upper or lower case and in their accents."
            )
        more = f" and {len(untrained) - 3} more" if len(untrained) > 3 else ""
        raise UserError(
            f"{where}: photos to test on but none to train on of {', '.join(untrained[:3])}{more}. "
            "Both parts need the same class names."
        )


def with_trained_classes(
    train: LabeledDataset, test: LabeledDataset, *, where: str
) -> tuple[LabeledDataset, LabeledDataset]:
    """Both parts over the classes that there is something to train on of.

    Args:
        where: what they are from, for the message.

    Raises:
        UserError: the test part has other classes, or nothing to find; single labels are of fewer than 2 classes.
    """
    classes, tested = train.shown(), test.shown()
    _refuse_untrained(classes, tested, where)
    if train.boxes and not tested:
        raise UserError(f"{where} has no objects to test on.")
    if not train.boxes and len(classes) < 2:
        raise UserError(f"{where} has {len(classes)} class ({', '.join(classes)}); classifying takes at least 2.")
    return train.restrict(classes), test.restrict(classes)


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
