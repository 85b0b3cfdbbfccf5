"""Batches of training and held-out photos, the very same ones however the work is spread or interrupted."""

import random
import signal
from collections.abc import Callable, Generator, Iterator, Sized
from contextlib import closing
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ssl_colorize.data.images import UnreadablePhoto
from ssl_colorize.data.photos import Photos
from ssl_colorize.errors import UserError
from ssl_colorize.runs import write_atomically

# Unreadable photos in a row after which a sample is given up: one in two unreadable gets here once in 10^9 samples.
_MOST_TRIES = 30


class Batch(NamedTuple):
    """Photos, and what could not be read for them."""

    photos: Tensor  # (B, 3, crop, crop) uint8 RGB
    unreadable: list[str]  # one "file: reason" for each photo that could not be read
    indices: Tensor  # (B,) int64, which photos of the set these are


class _WithUnreadable(Protocol):
    @property
    def photos(self) -> Sized: ...

    @property
    def unreadable(self) -> list[str]: ...


T = TypeVar("T")
B = TypeVar("B", bound=_WithUnreadable)


def training_batches(
    photos: Photos,
    *,
    resize: tuple[int, int],
    crop: int,
    batch_size: int,
    seed: int,
    start: int,
    steps: int,
    workers: int,
    rank: int = 0,
    world_size: int = 1,
) -> Iterator[Batch]:
    """Batches for the steps start, ..., steps - 1.

    The sample at position p = step * batch_size + j of the whole run is photo number p % len(photos) of a permutation
    made from (seed, p // len(photos)), and its augmentation is drawn from (seed, p). So the photos do not depend on
    where a run was interrupted, nor on the numbers of workers and of processes. An unreadable photo is replaced by
    the next one of the permutation.

    Args:
        resize: the short side is resized to a random whole number of pixels in this range, ends included.
        crop: side in pixels of the random square cut from the resized photo, mirrored half of the time.
        batch_size: photos a step over all processes; this one gets a world_size-th of them.
        workers: processes that read ahead; 0 reads in this one.

    Raises:
        UserError: settings that do not fit together; while iterating, that no photo could be read.
    """
    if not crop <= resize[0] <= resize[1]:
        raise UserError(f"A crop of {crop} px needs resize from at least {crop} px up, not {resize[0]} to {resize[1]}.")
    share = share_of(batch_size, world_size)
    source = _TrainingSteps(photos, resize, crop, seed, batch_size, first=rank * share, count=share)
    return complete_batches(load_steps(source, range(start, steps), workers), share)


def share_of(batch_size: int, world_size: int) -> int:
    """The photos of a batch that each of the processes gets.

    Raises:
        UserError: they cannot be shared equally.
    """
    if batch_size % world_size:
        raise UserError(f"The batch size {batch_size} cannot be shared equally by {world_size} processes.")
    return batch_size // world_size


def holdout_batches(photos: Photos, *, resize: int, crop: int, batch_size: int, workers: int) -> Iterator[Batch]:
    """All photos once, in order: short side resized to `resize` px, the center crop of `crop` px, never mirrored.

    The last batch is smaller, and so is one with unreadable photos, which are left out; no batch is empty.

    Raises:
        UserError: a crop larger than the resized photo; while iterating, that no photo could be read.
    """
    if crop > resize:
        raise UserError(f"A crop of {crop} px does not fit in photos resized to {resize} px.")
    source = _HoldoutSteps(photos, resize, crop, batch_size)
    return _without_empty(load_steps(source, range(-(-len(photos) // batch_size)), workers))


class _TrainingSteps(Dataset[Batch]):
    """One process's part of any step's batch."""

    def __init__(
        self, photos: Photos, resize: tuple[int, int], crop: int, seed: int, batch_size: int, *, first: int, count: int
    ) -> None:
        self.photos, self.resize, self.crop, self.seed = photos, resize, crop, seed
        self.batch_size, self.first, self.count = batch_size, first, count

    def __getitem__(self, step: int) -> Batch:
        pixels = np.empty((self.count, 3, self.crop, self.crop), np.uint8)
        unreadable: list[str] = []
        indices: list[int] = []
        for row in range(self.count):
            index = self._sample(step * self.batch_size + self.first + row, pixels[row], unreadable)
            if index is None:
                break
            indices.append(index)
        return Batch(torch.from_numpy(pixels[: len(indices)]), unreadable, torch.tensor(indices, dtype=torch.int64))

    def _sample(self, position: int, out: NDArray[np.uint8], unreadable: list[str]) -> int | None:
        """Put the sample at a position of the run in `out` (3, crop, crop).

        Returns:
            The index of its photo; None if no photo could be read.
        """
        # Only random() is used: Python promises its numbers for a seed across versions.
        draw = random.Random(f"{self.seed} {position}").random
        low, high = self.resize
        short_side = low + int(draw() * (high - low + 1))
        across, down, mirrored = draw(), draw(), draw() < 0.5
        found = first_readable(
            lambda index: self.photos.read(index, short_side=short_side),
            position, len(self.photos), seed=self.seed, unreadable=unreadable,
        )  # fmt: skip
        if found is None:
            return None
        index, photo = found
        window = resized_window(photo, short_side=short_side, crop=self.crop, across=across, down=down)
        pixels = np.asarray(window).transpose(2, 0, 1)
        out[...] = pixels[:, :, ::-1] if mirrored else pixels
        return index


def first_readable(
    read: Callable[[int], T], position: int, count: int, *, seed: int, unreadable: list[str]
) -> tuple[int, T] | None:
    """The photo at a position of a run over `count` photos, or the next one in the epoch's order that can be read.

    Returns:
        Its index and what `read` made of it; None if no photo could be read. Those that could not are added to
        `unreadable`.
    """
    epoch, number = divmod(position, count)
    order = _permutation(count, seed, epoch)
    for attempt in range(min(_MOST_TRIES, count)):
        index = int(order[(number + attempt) % count])
        try:
            return index, read(index)
        except UnreadablePhoto as error:
            unreadable.append(str(error))
    return None


class _HoldoutSteps(Dataset[Batch]):
    def __init__(self, photos: Photos, resize: int, crop: int, batch_size: int) -> None:
        self.photos, self.resize, self.crop, self.batch_size = photos, resize, crop, batch_size

    def __getitem__(self, step: int) -> Batch:
        unreadable: list[str] = []
        pixels, indices = [], []
        for index in range(step * self.batch_size, min((step + 1) * self.batch_size, len(self.photos))):
            try:
                photo = self.photos.read(index, short_side=self.resize)
            except UnreadablePhoto as error:
                unreadable.append(str(error))
                continue
            window = resized_window(photo, short_side=self.resize, crop=self.crop, across=0.5, down=0.5)
            pixels.append(np.asarray(window).transpose(2, 0, 1))
            indices.append(index)
        stacked = np.stack(pixels) if pixels else np.empty((0, 3, self.crop, self.crop), np.uint8)
        return Batch(torch.from_numpy(stacked), unreadable, torch.tensor(indices, dtype=torch.int64))


def resized_window(photo: Image.Image, *, short_side: int, crop: int, across: float, down: float) -> Image.Image:
    """What a crop x crop window shows of the photo resized (bicubic, antialiased) to a short side.

    Args:
        across: where the window is, from 0 (left edge) up to, not including, 1 (right edge).
        down: likewise from top to bottom.
    """
    scale = short_side / min(photo.size)
    width, height = (max(short_side, round(side * scale)) for side in photo.size)
    left, top = int(across * (width - crop + 1)), int(down * (height - crop + 1))
    # In one go, so that only the pixels of the window are computed: a panorama costs no more than a square.
    x, y = photo.width / width, photo.height / height
    box = (left * x, top * y, min((left + crop) * x, photo.width), min((top + crop) * y, photo.height))
    return photo.resize((crop, crop), Image.Resampling.BICUBIC, box=box)


@lru_cache(maxsize=2)
def _permutation(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The order of an epoch. Two are kept, as batches lie across the border of epochs."""
    return np.random.default_rng((seed, epoch)).permutation(count)


def load_steps(source: Dataset[T], steps: range, workers: int) -> Generator[T, None, None]:
    """The batches of `steps`, in order; a worker makes a whole batch, so nothing stalls where an epoch ends."""
    loader = DataLoader(
        source,
        batch_size=None,
        sampler=steps,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        collate_fn=_as_made,
        worker_init_fn=_leave_signals_to_the_run,
        pin_memory=torch.cuda.is_available(),
        # Its own, as the loader draws a number from it, and the run's random numbers must not depend on that.
        generator=torch.Generator(),
    )
    yield from loader


def _as_made(batch: T) -> T:
    """By itself the loader makes a tensor of each array, and each keeps a file open on its way from a worker."""
    return batch


def _leave_signals_to_the_run(_worker: int) -> None:
    """Ctrl-C in a terminal, and a scheduler's SIGTERM to all processes of a job, are for the run alone.

    It needs its workers until it has saved. They still end with it, however it ends: torch sees to that.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def complete_batches(batches: Generator[B, None, None], size: int) -> Iterator[B]:
    """Stop at a batch that could not be filled. Workers cannot raise this: it would come with their traceback."""
    with closing(batches):  # ends the workers at once, also when the caller stops early
        for batch in batches:
            if len(batch.photos) < size:
                raise _nothing_readable(batch)
            yield batch


def _without_empty(batches: Generator[Batch, None, None]) -> Iterator[Batch]:
    """Hand what is unreadable in empty batches on to their neighbors."""
    with closing(batches):
        last = next(batches)
        for batch in batches:
            if len(batch.photos) and len(last.photos):
                yield last
                last = batch
            else:
                filled = batch if len(batch.photos) else last
                last = Batch(filled.photos, last.unreadable + batch.unreadable, filled.indices)
    if not len(last.photos):
        raise _nothing_readable(last)
    yield last


def _nothing_readable(batch: _WithUnreadable) -> UserError:
    return UserError(
        f"{len(batch.unreadable)} photos could not be read, the last one {batch.unreadable[-1]}. "
        "Check what --data points to."
    )


class UnreadableLog:
    """Lists unreadable photos in the run folder's `unreadable.txt`, and stops a run where most of them are."""

    def __init__(self, folder: Path, total: int, *, rank: int = 0, append: bool = False) -> None:
        """`total` is the number of photos of the run; each rank keeps a list of its own; `append` goes on with it."""
        self._path = folder / (f"unreadable-rank{rank}.txt" if rank else "unreadable.txt")
        self._total = total
        self._read = 0
        known = self._path.read_text("utf-8").splitlines() if append and self._path.is_file() else []
        self._lines: dict[str, None] = dict.fromkeys(known)

    def __len__(self) -> int:
        return len(self._lines)

    def add(self, unreadable: list[str], *, read: int) -> None:
        """Note what a batch could not read (`Batch.unreadable`) and how many photos it could.

        Raises:
            UserError: of the photos tried so far, at least 20 or all there are, more than half are unreadable.
        """
        self._read += read
        known = len(self._lines)
        # A file name need not be valid UTF-8, and still has to be told.
        self._lines.update((line.encode("utf-8", "backslashreplace").decode(), None) for line in unreadable)
        if len(self._lines) > known:
            write_atomically(self._path, "".join(f"{line}\n" for line in self._lines))
        # Photos come again in later epochs, and count once.
        tried = len(self._lines) + min(self._read, max(0, self._total - len(self._lines)))
        if tried >= min(20, self._total) and 2 * len(self._lines) > tried:
            raise UserError(
                f"{len(self._lines)} of the first {tried} photos could not be read; they are listed in {self._path}. "
                "Check what --data points to."
            )
