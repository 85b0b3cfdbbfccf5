"""Which photos a run is of, kept in its checkpoint: a resumed run must not be tested on what it learned from."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from ssl_colorize.errors import UserError

Hashes = NDArray[np.int64]


class Named(Protocol):
    """Photos with names."""

    def __len__(self) -> int: ...

    def name(self, index: int) -> str: ...


def name_bytes(name: str) -> bytes:
    """A photo's name as it is hashed: macOS may spell the same name in another way, which must not matter."""
    return os.fsencode(name if name.isascii() else unicodedata.normalize("NFC", name))


def hashed(photos: Named) -> Hashes:
    """(N,): a hash of each photo's name."""
    digests = (blake2b(name_bytes(photos.name(index)), digest_size=8).digest() for index in range(len(photos)))
    return np.frombuffer(b"".join(digests), "<i8").astype(np.int64)


def _hashed_labels(part: Any) -> Hashes:
    """(N,): a hash of the names of the classes on each photo; zeros without labels."""
    labels = getattr(part, "labels", None)
    if labels is None:
        return np.zeros(len(part), np.int64)
    classes = np.asarray([blake2b(name_bytes(name), digest_size=8).digest() for name in part.classes], "S8")
    weights = np.frombuffer(classes.tobytes(), "<i8").astype(np.int64)
    # Sums wrap around, and do not depend on the order of the classes.
    return weights[labels] if labels.ndim == 1 else np.asarray(labels.astype(np.int64) @ weights, np.int64)


@dataclass(frozen=True)
class Fingerprint:
    """What the photos of a run are, whatever their order and wherever they are stored.

    Attributes:
        parts: what each photo is for ("train", "held_out", "choose", "test", ...) -> (N, 2) int64: a hash of each
            name, and one of the classes on it.
    """

    parts: Mapping[str, Hashes] = field(default_factory=dict)

    @classmethod
    def of(cls, **parts: Any) -> Fingerprint:
        """Of photos, or of photos with labels, by what they are for."""
        return cls({
            name: np.stack([hashed(getattr(part, "photos", part)), _hashed_labels(part)], 1)
            for name, part in parts.items()
        })  # fmt: skip

    def __str__(self) -> str:
        """The number of photos and a hash of all.

        >>> from ssl_colorize.data import open_photos
        >>> str(Fingerprint.of(train=open_photos(["samples"], limit=2))).split("-")[0]
        '2'
        """
        digest = blake2b(digest_size=8)
        for name, part in sorted(self.parts.items()):
            digest.update(name.encode() + part[np.lexsort(part.T)].astype("<i8").tobytes())
        return f"{sum(map(len, self.parts.values()))}-{digest.hexdigest()}"

    def stored(self) -> dict[str, torch.Tensor]:
        """As a checkpoint keeps it."""
        return {name: torch.from_numpy(part.copy()) for name, part in self.parts.items()}

    @classmethod
    def restored(cls, content: Mapping[str, torch.Tensor] | None) -> Fingerprint | None:
        """The opposite of `stored`; None of a run that kept none."""
        return None if content is None else cls({name: part.numpy() for name, part in content.items()})

    def names(self, *parts: str) -> Hashes:
        """Hashes of the names in some of the parts; none of a part that is not there."""
        return np.concatenate(
            [np.zeros(0, np.int64), *(self.parts[name][:, 0] for name in parts if name in self.parts)]
        )

    def changes(self, now: Fingerprint) -> str:
        """What is different now, in words; "" where nothing is."""
        before, after = self.names(*self.parts), now.names(*now.parts)
        counts = {"added": _surplus(after, before), "removed": _surplus(before, after)}
        if not any(counts.values()):
            pairs = (_as_one(np.concatenate([*each.parts.values()])) for each in (self, now))
            counts["with other labels"] = _surplus(*pairs)
        found = [f"{count:,} {word}" for word, count in counts.items() if count]
        moved = sum(
            int(np.isin(now.names(part), np.setdiff1d(self.names(other), self.names(part))).sum())
            for part in now.parts for other in self.parts if part != other
        )  # fmt: skip
        found += [f"{moved:,} of another part (training, held out, test)"] if moved else []
        return ", ".join(found)

    def held_out_before(self, photos: Named, held: Iterable[int], *, learned: str, kept: str) -> list[int]:
        """Indices of photos to hold out now: those held out before, and those of `held` that nothing learned from.

        Args:
            photos: all of which some are held out.
            held: that would be now, if nothing had been before.
            learned: the part that was trained on.
            kept: the part that was held out.
        """
        names = hashed(photos)
        out = np.isin(names, self.names(kept))
        new = np.asarray(sorted(held), np.int64)
        out[new[~np.isin(names[new], self.names(learned))]] = True
        return np.flatnonzero(out).tolist()

    def apart(self, photos: Named, *of: str) -> list[int]:
        """Indices of the photos that were in no other part before than these."""
        others = [name for name in self.parts if name not in of]
        # What is in train/ and in test/ may be called alike.
        foreign = np.setdiff1d(self.names(*others), self.names(*of))
        return np.flatnonzero(~np.isin(hashed(photos), foreign)).tolist()


def resumed(
    before: Mapping[str, torch.Tensor] | None,
    now: Fingerprint,
    *,
    allowed: bool,
    how: str = "what was held out stays held out",
) -> list[str]:
    """Check that a resumed run goes on with the photos it began with.

    Args:
        before: as `stored` by the checkpoint; None where it keeps none.
        now: of the photos that there are.
        allowed: go on with others.
        how: a run goes on with others.

    Returns:
        Lines to say: one or none.

    Raises:
        UserError: the photos are others, and that is not allowed.
    """
    known = Fingerprint.restored(before)
    if known is None:
        return ["This run's version did not note its photos: whether they are still the same cannot be told."]
    found = known.changes(now)
    if not found:
        return []
    if not allowed:
        raise UserError(
            f"The photos are not those that this run began with: {found}. Put them back, or go on with what is there "
            f"now: --set data_changed=allow ({how})."
        )
    return [f"The photos have changed ({found}), and the run goes on: {how}."]


def _surplus(some: Hashes, others: Hashes) -> int:
    """How many of some are not among the others, each as often as it is there."""
    values, counts = np.unique(some, return_counts=True)
    known, known_counts = np.unique(others, return_counts=True)
    if not len(known):
        return len(some)
    place = np.searchsorted(known, values).clip(max=len(known) - 1)
    there = np.where(known[place] == values, known_counts[place], 0)
    return int((counts - there).clip(min=0).sum())


def _as_one(pairs: Hashes) -> Hashes:
    """(N, 2) -> (N,): a hash of each pair."""
    return np.asarray(pairs[:, 0] * np.int64(31) + pairs[:, 1], np.int64)
