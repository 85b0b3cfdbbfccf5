"""What every set of photos can do, sets of files, and sets put together."""

import hashlib
import os
from abc import ABC, abstractmethod
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate, groupby
from operator import itemgetter
from typing import Self

from PIL import Image

from ssl_colorize.data.fingerprint import name_bytes
from ssl_colorize.data.images import photo_size, read_photo
from ssl_colorize.data.reading import Reading
from ssl_colorize.errors import UserError


class Photos(ABC):
    """A fixed, ordered set of photos. Small enough to pickle to worker processes: it holds names, not pixels.

    Attributes:
        reading: what was read, of a set that was opened; the sets that are taken of it know nothing of that.
    """

    reading: Reading = Reading()

    def with_reading(self, reading: Reading) -> Self:
        """The same set, which now carries this."""
        self.reading = reading
        return self

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def name(self, index: int) -> str:
        """The photo's name within its set; the same on every machine, wherever the set is stored."""

    @abstractmethod
    def read(self, index: int, *, short_side: int | None = None) -> Image.Image:
        """Decode one photo to mode RGB. `short_side` is a hint as in `read_photo`.

        Raises:
            UnreadablePhoto: the file cannot be used.
        """

    def size(self, index: int) -> tuple[int, int]:
        """Width and height in pixels of what `read` gives without a hint; of a file from its header alone.

        Raises:
            UnreadablePhoto: the file cannot be used.
        """
        return self.read(index).size

    @abstractmethod
    def take(self, indices: Iterable[int]) -> "Photos":
        """The set of the photos at these indices, in this order."""

    def __getitem__(self, index: int) -> Image.Image:
        return self.read(index)

    def holdout(self, fraction: float, *, most: int) -> tuple["Photos", "Photos"]:
        """Split into photos to train on and photos held out.

        Which ones depends on nothing but their names, so that runs with other seeds, on other machines, can be
        compared on the same held-out photos.

        Args:
            fraction: share held out, in (0, 1); at least one photo is.
            most: hold out no more than this many.

        Raises:
            UserError: there are fewer than 2 photos.
        """
        if len(self) < 2:
            raise UserError(f"Holding photos out takes at least 2, and there is {len(self)}. Give more with --data.")
        count = max(1, min(most, round(fraction * len(self)), len(self) - 1))
        held = set(self.by_hash(salt=b"holdout")[:count])
        return self.take(i for i in range(len(self)) if i not in held), self.take(sorted(held))

    def limit(self, count: int) -> "Photos":
        """At most `count` photos, picked evenly over the set by a hash of their names."""
        return self if count >= len(self) else self.take(sorted(self.by_hash(salt=b"limit")[:count]))

    def stamp(self, index: int) -> str:
        """What tells this photo from all others on this machine: of a file its path, size and time of change."""
        return f"{type(self).__name__} {self.name(index)}"

    def by_hash(self, *, salt: bytes) -> list[int]:
        """All indices in the order of a hash of the names; equal names go by index."""

        def key(index: int) -> tuple[bytes, int]:
            return hashlib.blake2b(name_bytes(self.name(index)), digest_size=8, salt=salt).digest(), index

        return sorted(range(len(self)), key=key)


class PhotoFiles(Photos):
    """Photos that are files."""

    def __init__(self, paths: Sequence[str], name_starts: Sequence[int]) -> None:
        """`name_starts[i]` is where in `paths[i]` the name begins: what comes before says where the set is stored."""
        self._paths = list(paths)
        self._name_starts = array("H", name_starts)

    @classmethod
    def below(cls, folder: str, paths: Iterable[str]) -> Self:
        """Files named by their path relative to `folder`, in the order given."""
        paths = list(paths)
        return cls(paths, [len(folder.rstrip(os.sep)) + 1] * len(paths))

    @classmethod
    def together(cls, sets: Sequence["PhotoFiles"]) -> "PhotoFiles":
        """One set of several; a file that is in two of them counts once, or it could be trained on and held out."""
        start_of: dict[str, int] = {}
        for one in sets:
            for path, start in zip(one._paths, one._name_starts, strict=True):
                start_of.setdefault(path, start)
        return cls(list(start_of), list(start_of.values()))

    @property
    def paths(self) -> list[str]:
        """Where each photo is."""
        return list(self._paths)

    def __len__(self) -> int:
        return len(self._paths)

    def name(self, index: int) -> str:
        return self._paths[index][self._name_starts[index] :].replace(os.sep, "/")

    def read(self, index: int, *, short_side: int | None = None) -> Image.Image:
        return read_photo(self._paths[index], short_side=short_side)

    def size(self, index: int) -> tuple[int, int]:
        return photo_size(self._paths[index])

    def stamp(self, index: int) -> str:
        try:
            status = os.stat(self._paths[index])  # noqa: PTH116 - a Path for each costs more than the call
        except OSError:
            return f"{self._paths[index]} missing"
        return f"{self._paths[index]} {status.st_size} {status.st_mtime_ns}"

    def take(self, indices: Iterable[int]) -> "PhotoFiles":
        chosen = list(indices)
        return PhotoFiles([self._paths[i] for i in chosen], [self._name_starts[i] for i in chosen])


class SeveralSets(Photos):
    """Sets one after the other. Each holds out its own share, in its own way."""

    def __init__(self, sets: Sequence[Photos]) -> None:
        self._sets = list(sets)
        self._ends = list(accumulate(map(len, self._sets)))

    def _locate(self, index: int) -> tuple[int, int]:
        """Which set, and which photo of it."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        part = bisect_right(self._ends, index)
        return part, index - (self._ends[part] - len(self._sets[part]))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def name(self, index: int) -> str:
        part, inner = self._locate(index)
        return self._sets[part].name(inner)

    def read(self, index: int, *, short_side: int | None = None) -> Image.Image:
        part, inner = self._locate(index)
        return self._sets[part].read(inner, short_side=short_side)

    def size(self, index: int) -> tuple[int, int]:
        part, inner = self._locate(index)
        return self._sets[part].size(inner)

    def stamp(self, index: int) -> str:
        part, inner = self._locate(index)
        return self._sets[part].stamp(inner)

    def take(self, indices: Iterable[int]) -> Photos:
        runs = groupby(map(self._locate, indices), key=itemgetter(0))
        parts = [self._sets[part].take([inner for _, inner in run]) for part, run in runs]
        return parts[0] if len(parts) == 1 else SeveralSets(parts)

    def holdout(self, fraction: float, *, most: int) -> tuple[Photos, Photos]:
        """Split each set; `most` is shared among them by their sizes."""
        train: list[Photos] = []
        held: list[Photos] = []
        for part in self._sets:
            try:
                kept, out = part.holdout(fraction, most=max(1, most * len(part) // len(self)))
            except UserError:  # A single file beside larger sets just trains.
                train.append(part)
                continue
            train.append(kept)
            held.append(out)
        if not held:
            raise UserError("Each --data item is too small to hold a part of it out. Give more photos.")
        return together(train), together(held)


def together(sets: Sequence[Photos]) -> Photos:
    """One set of several: the only one as it is, and files merged."""
    files = [one for one in sets if isinstance(one, PhotoFiles)]
    rest = [one for one in sets if not isinstance(one, PhotoFiles)]
    merged = [PhotoFiles.together(files)] if files else []
    parts: list[Photos] = [one for one in [*merged, *rest] if len(one)]
    return parts[0] if len(parts) == 1 else SeveralSets(parts)
