"""The record of what was read: for every source its splits, its classes, and what was passed over and why.

Whoever opens photos makes a `Reading` and lets its photos carry it. A verb calls `announce` once it has its photos:
that gives the first line of the output, and what metrics.json holds under `read`.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

from ssl_colorize.data.fingerprint import Fingerprint
from ssl_colorize.errors import printable

Kind = Literal["class folders", "photos", "VOC", "COCO", "list", "CSV", "torchvision", "samples"]

# Why something is passed over -> how one and how several of them are counted, and what its owner can do about it.
REASONS: dict[str, tuple[str, str, str]] = {
    "heic": ("HEIC", "HEIC", "install ssl-colorize[heif]"),
    "raw": ("RAW", "RAW", "develop them to .jpg or .png"),
    "no suffix": ("without a suffix", "without a suffix", "name them .jpg, .png, ..."),
    "other": ("not a photo by its name", "not photos by their names", ""),
    "hidden": ("hidden", "hidden", ""),
    "broken link": ("broken link", "broken links", ""),
    "no file": ("pipe, socket or device", "pipes, sockets or devices", ""),
    "closed": ("without permission", "without permission", "chmod them"),
    "double": ("the same file again", "the same file again", ""),
    "output": ("in the output folder", "in the output folder", ""),
    "excluded": ("in the exclude list", "in the exclude list", ""),
    "measuring": ("kept for measuring", "kept for measuring", ""),
    "unlabeled": ("without a label", "without a label", ""),
    "unreadable": ("unreadable", "unreadable", ""),
    "gray": ("nearly gray", "nearly gray", ""),
}
_NAMED = 3  # of what was passed over, and of findings

# Names by reason; what is read adds to it with `pass_over`.
PassedOver = dict[str, set[str]]


def pass_over(passed: PassedOver | None, reason: str, name: str) -> None:
    """Note that a file or folder was not taken, for one of REASONS; None as `passed` keeps no record.

    >>> passed: PassedOver = {}
    >>> pass_over(passed, "heic", "a.heic")
    >>> passed
    {'heic': {'a.heic'}}
    """
    if reason not in REASONS:
        raise ValueError(f"{reason!r} is none of the reasons {', '.join(REASONS)}")
    if passed is not None:
        passed.setdefault(reason, set()).add(name)


@dataclass(frozen=True)
class Part:
    """What a source gives to one split.

    Attributes:
        split: "train", "val" or "test".
        photos: how many.
        places: the folders ("train/") or lists ("ImageSets/Main/val.txt") they come from, relative to the source, or in
            words ("a fifth of each class"); empty where that is all of it.
    """

    split: str
    photos: int
    places: tuple[str, ...] = ()


@dataclass(frozen=True)
class Source:
    """One item of `--data`.

    Attributes:
        kind: of source.
        path: as it was given.
        parts: of splits.
        classes: names of the classes; empty where there are none.
        passed: names of what was passed over, by reason.
    """

    kind: Kind
    path: str
    parts: tuple[Part, ...] = ()
    classes: tuple[str, ...] = ()
    passed: Mapping[str, Collection[str]] = field(default_factory=dict)

    @property
    def places(self) -> list[str]:
        """Where its photos come from, each place once."""
        return list(dict.fromkeys(place for part in self.parts for place in part.places))

    def _merged(self, other: Source) -> Source:
        passed: PassedOver = {}
        for one in (self, other):
            for reason, names in one.passed.items():
                passed.setdefault(reason, set()).update(names)
        parts = tuple(dict.fromkeys((*self.parts, *other.parts)))
        classes = tuple(dict.fromkeys((*self.classes, *other.classes)))
        return replace(self, parts=parts, classes=classes, passed=passed)

    def record(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "kind": self.kind,
            "path": printable(self.path),
            "splits": {
                part.split: {"photos": part.photos, "from": [printable(place) for place in part.places]}
                for part in self.parts
            },
            "classes": [printable(name) for name in self.classes],
            "passed_over": {
                reason: {"count": len(names), "examples": [printable(name) for name in sorted(names)[:_NAMED]]}
                for reason, names in self.passed.items()
            },
        }


@dataclass(frozen=True)
class Reading:
    """What was read from all sources.

    Attributes:
        sources: one an item of `--data`.
        findings: lines on annotations and lists, which a verb says after its first line.
        counts: photos by split that are used, after limits.
        classes: how many there are, over all sources; 0 without labels.
        fingerprint: of the photos used; of files that are no set, of nothing.
    """

    sources: tuple[Source, ...] = ()
    findings: tuple[str, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    classes: int = 0
    fingerprint: Fingerprint = field(default_factory=Fingerprint)

    @classmethod
    def of(cls, kind: Kind, path: str | os.PathLike[str], *parts: Part, **more: Any) -> Reading:
        """The reading of one source; `more` are other fields of `Source`.

        >>> Reading.of("photos", "holiday", Part("train", 3)).sources[0].record()["splits"]
        {'train': {'photos': 3, 'from': []}}
        """
        return cls((Source(kind, os.fspath(path), parts, **more),))

    def passing(self, reason: str, names: Iterable[str]) -> Reading:
        """With names that were passed over, noted at the first source."""
        noted = frozenset(names)
        if not noted or not self.sources:
            return self
        first, *rest = self.sources
        return replace(self, sources=(first._merged(replace(first, passed={reason: noted})), *rest))

    def line(self) -> str:
        """The one line that a verb begins with.

        >>> source = Source("class folders", "pets", (Part("train", 8, ("train/",)), Part("test", 2, ("val/",))),
        ...     ("cat", "dog"), {"heic": {"a.heic"}})
        >>> Reading((source,), counts={"train": 8, "test": 2}, classes=2).line()
        'Read: 10 photos of 2 classes from pets (class folders, train/ and val/): 8 train, 2 test; passed over 1 (1 HEIC: install ssl-colorize[heif])'
        """  # noqa: E501
        total = sum(self.counts.values())
        found = sum(part.photos for source in self.sources for part in source.parts)
        few = f" of {found:,}" if found > total else ""
        classes = f" of {self.classes:,} class{'es' if self.classes > 1 else ''}" if self.classes else ""
        # Of samples, which are few, regions train and are held out.
        shown = min(total, found) if found else total
        text = f"Read: {shown:,}{few} photo{'s' if shown != 1 or few else ''}{classes} from "
        text += ", ".join(_described(source) for source in self.sources)
        if len(self.counts) > 1:
            text += ", in regions: " if total > shown else ": "
            text += ", ".join(f"{count:,} {split.replace('_', ' ')}" for split, count in self.counts.items())
        passed = self._passed()
        if passed:
            reasons = "; ".join(_counted(reason, count) for reason, count in passed.items())
            text += f"; passed over {sum(passed.values()):,} ({reasons})"
        if self.findings:
            text += "; findings follow"
        return printable(text)

    def record(self) -> dict[str, Any]:
        """As JSON, for metrics.json."""
        return {
            "photos": sum(self.counts.values()),
            "classes": self.classes,
            "splits": dict(self.counts),
            "passed_over": self._passed(),
            "findings": [printable(line) for line in self.findings],
            "fingerprint": str(self.fingerprint) if self.fingerprint.parts else None,
            "sources": [source.record() for source in self.sources],
        }

    def _passed(self) -> dict[str, int]:
        """Counts by reason over all sources, in the order of REASONS."""
        counts = {
            reason: sum(len(source.passed.get(reason, ())) for source in self.sources) for reason in REASONS
        }  # fmt: skip
        return {reason: count for reason, count in counts.items() if count}


def joined(readings: Iterable[Reading]) -> Reading:
    """Readings as one: sources of the same kind and path are merged, and nothing counts twice.

    >>> train, test = (Reading.of("VOC", "V", Part(split, 2)) for split in ("train", "test"))
    >>> [part.split for part in joined([train, test, train]).sources[0].parts]
    ['train', 'test']
    """
    sources: dict[tuple[str, str], Source] = {}
    findings: dict[str, None] = {}
    for reading in readings:
        for source in reading.sources:
            key = source.kind, source.path
            sources[key] = sources[key]._merged(source) if key in sources else source
        findings.update(dict.fromkeys(reading.findings))
    return Reading(tuple(sources.values()), tuple(findings))


def _described(source: Source) -> str:
    places = source.places
    if source.kind == "samples":
        return source.kind
    listed = " and ".join(filter(None, [", ".join(places[:-1]), *places[-1:]]))
    return f"{source.path} ({source.kind}{', ' if listed else ''}{listed})"


def _counted(reason: str, count: int) -> str:
    one, more, advice = REASONS[reason]
    return f"{count:,} {one if count == 1 else more}{': ' if advice else ''}{advice}"


# ---- from what was opened to a verb's first line ---------------------------------------------------------------------


class Opened(Protocol):
    """Photos, or photos with labels, that carry a reading."""

    @property
    def reading(self) -> Reading: ...

    def __len__(self) -> int: ...


class OnlyRead(Exception):
    """Ends a verb that was asked only for what it reads (`--dry-run`)."""


class Listener(Protocol):
    """Who is told what a verb reads."""

    def hear(self, reading: Reading) -> None:
        """Gets what `announce` made."""

    def pass_over(self, reason: str, names: Iterable[str]) -> None:
        """Gets what `report` was told."""


_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Inside, the listener gets what `announce` and `report` are told."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def report(reason: str, names: Iterable[str]) -> None:
    """Tell what is passed over and known only now that photos are read ("unreadable", "gray"), by its names."""
    listener = _listener.get()
    if listener is not None:
        listener.pass_over(reason, names)


def announce(**parts: Opened) -> Reading:
    """Tell what was read, once a verb has its photos and before it computes anything.

    Args:
        parts: photos by split: `announce(train=train, test=test)`, or by any other word that says what they are for.

    Raises:
        OnlyRead: that was all that is wanted.

    >>> from ssl_colorize.data import open_photos
    >>> announce(train=open_photos(["samples"])).line()
    'Read: 8 photos from samples'
    """
    counts = {name: len(part) for name, part in parts.items()}
    classes = max((len(getattr(part, "classes", ())) for part in parts.values()), default=0)
    named = all(hasattr(getattr(part, "photos", part), "name") for part in parts.values())
    reading = replace(
        joined(part.reading for part in parts.values()), counts=counts, classes=classes,
        fingerprint=Fingerprint.of(**parts) if named else Fingerprint(),
    )  # fmt: skip
    listener = _listener.get()
    if listener is not None:
        listener.hear(reading)
    return reading
