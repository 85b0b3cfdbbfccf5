"""Batches of photos, alone or with what is on them, the very same ones however the work is spread or interrupted.

What is at a position of a run is a sample: a photo and how it is varied, both a pure function of the seed and the
position. An ordinary data set gives the sample at a position, a batch sampler the positions of each step's batch.
"""

import random
import signal
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler

from ssl_colorize.data.annotations import Boxes
from ssl_colorize.data.datasets import LabeledDataset
from ssl_colorize.data.images import UnreadablePhoto
from ssl_colorize.data.photos import Photos
from ssl_colorize.data.reading import report
from ssl_colorize.data.transforms import (
    CENTERED,
    PADDING,
    Augmentation,
    DecodedPhotos,
    Draws,
    Sample,
    read_augmented,
    read_whole,
    read_window,
)
from ssl_colorize.errors import UserError
from ssl_colorize.runs import write_atomically

# Unreadable photos in a row after which a sample is given up: one in two unreadable gets here once in 10^9 samples.
_MOST_TRIES = 30

T = TypeVar("T")
B = TypeVar("B")

# Makes the sample of a photo of a set by its index.
Read = Callable[[int, Draws], Sample]


class Batch(NamedTuple):
    """Photos, what is on them, and what could not be read for them."""

    photos: Tensor  # (B, 3, H, W) uint8 RGB; of several sizes the smaller ones are padded at their right and bottom
    unreadable: list[str]  # one "file: reason" for each photo that could not be read
    indices: Tensor  # (B,) int64, which photos of the set these are
    sizes: list[tuple[int, int]] = []  # noqa: RUF012  (never changed) height and width of each photo without padding
    boxes: list[Boxes] = []  # noqa: RUF012  one entry a photo, or none at all
    masks: list[NDArray[np.uint8]] = []  # noqa: RUF012  likewise
    proposals: list[NDArray[np.float32]] = []  # noqa: RUF012  likewise

    def each_photo(self) -> list[Tensor]:
        """The photos (3, h, w) without padding."""
        return [photo[:, :height, :width] for photo, (height, width) in zip(self.photos, self.sizes, strict=True)]


# ---- batches to train on ---------------------------------------------------------------------------------------------


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
    before: int = 0,
    keep: float = 0,
) -> Iterator[Batch]:
    """Batches of random crops for the steps start, ..., steps - 1.

    The sample at position p = before + step * batch_size + j of the whole run is photo number p % len(photos) of a
    permutation made from (seed, p // len(photos)), and its augmentation is drawn from (seed, p). So the photos do not
    depend on where a run was interrupted, nor on the numbers of workers and of processes. An unreadable photo is
    replaced by the next one of the permutation.

    Args:
        resize: the short side is resized to a random whole number of pixels in this range, ends included.
        crop: side in pixels of the random square cut from the resized photo, mirrored half of the time.
        batch_size: photos a step over all processes; this one gets a world_size-th of them.
        workers: processes that read ahead; 0 reads in this one.
        before: photos that the run saw before the first of these steps, in batches of other sizes.
        keep: MiB of decoded photos that stay in memory, of all `workers` together; nothing else changes by it.

    Raises:
        UserError: settings that do not fit together; while iterating, that no photo could be read.

    >>> from ssl_colorize.data import open_photos
    >>> batches = training_batches(
    ...     open_photos(["samples"]), resize=(32, 48), crop=32, batch_size=4, seed=0, start=0, steps=1, workers=0
    ... )
    >>> next(batches).photos.shape
    torch.Size([4, 3, 32, 32])
    """
    if not crop <= resize[0] <= resize[1]:
        raise UserError(f"A crop of {crop} px needs resize from at least {crop} px up, not {resize[0]} to {resize[1]}.")
    sampler = StepSampler(start, steps, batch_size=batch_size, rank=rank, world_size=world_size, before=before)
    decoded = DecodedPhotos(photos, resize[1], keep / max(1, workers))
    samples = PhotoSamples(partial(read_window, decoded, resize, crop), len(photos), seed=seed)
    return _complete(load(samples, sampler, workers=workers, collate=collate), sampler.share)


def annotated_training_batches(
    dataset: LabeledDataset,
    augmentation: Augmentation,
    *,
    batch_size: int,
    seed: int,
    start: int,
    steps: int,
    workers: int,
    rank: int = 0,
    world_size: int = 1,
) -> Iterator[Batch]:
    """Batches for the steps start, ..., steps - 1: as `training_batches`, with boxes and masks.

    Raises:
        UserError: a batch that cannot be shared equally; while iterating, that no photo could be read.
    """
    sampler = StepSampler(start, steps, batch_size=batch_size, rank=rank, world_size=world_size)
    samples = PhotoSamples(partial(read_augmented, dataset, augmentation), len(dataset), seed=seed)
    return _complete(load(samples, sampler, workers=workers, collate=collate), sampler.share)


# ---- batches to measure on -------------------------------------------------------------------------------------------


def holdout_batches(photos: Photos, *, resize: int, crop: int, batch_size: int, workers: int) -> Iterator[Batch]:
    """All photos once, in order: short side resized to `resize` px, the center crop of `crop` px, never mirrored.

    The last batch is smaller, and so is one with unreadable photos, which are left out; no batch is empty.

    Raises:
        UserError: a crop larger than the resized photo; while iterating, that no photo could be read.

    >>> from ssl_colorize.data import open_photos
    >>> batches = holdout_batches(open_photos(["samples"], limit=3), resize=40, crop=32, batch_size=2, workers=0)
    >>> [batch.indices.tolist() for batch in batches]
    [[0, 1], [2]]
    """
    if crop > resize:
        raise UserError(f"A crop of {crop} px does not fit in photos resized to {resize} px.")
    decoded = DecodedPhotos(photos, resize, 0)
    return _in_order(partial(read_window, decoded, (resize, resize), crop), len(photos), batch_size, workers)


def annotated_holdout_batches(
    dataset: LabeledDataset, *, short_side: int | None, long_side: int | None = None, multiple: int = 1,
    batch_size: int, workers: int,
) -> Iterator[Batch]:  # fmt: skip
    """All photos once, in order, whole and not mirrored; as `holdout_batches` leaves out what cannot be read.

    Boxes and masks are those of the original photo, not resized with it: they are what is judged by.

    Args:
        short_side: in pixels; None leaves photos at their own size.
        multiple: both sides are rounded to multiples of this, so that no network has to pad them.

    Raises:
        UserError: while iterating, that no photo could be read.
    """
    return _in_order(partial(read_whole, dataset, short_side, long_side, multiple), len(dataset), batch_size, workers)


def _in_order(read: Read, count: int, batch_size: int, workers: int) -> Iterator[Batch]:
    sampler = BatchSampler(range(count), batch_size, drop_last=False)
    return _without_empty(load(PhotoSamples(read, count, seed=None), sampler, workers=workers, collate=collate))


# ---- samples by position ---------------------------------------------------------------------------------------------


class Loaded(NamedTuple):
    """A sample, and what could not be read before it."""

    sample: Sample | None  # None where no photo could be read
    unreadable: list[str]


class PhotoSamples(Dataset[Loaded]):
    """The sample at each position: of a run without an end, or of each photo once."""

    def __init__(self, read: Read, count: int, *, seed: int | None) -> None:
        """`read` makes the sample of one of `count` photos; None as `seed` takes them in order and not varied."""
        self.read, self.count, self.seed = read, count, seed

    def __getitem__(self, position: int) -> Loaded:
        indices, draws = ([position], CENTERED) if self.seed is None else self._drawn(position, self.seed)
        unreadable: list[str] = []
        for index in indices:
            try:
                return Loaded(self.read(index, draws), unreadable)
            except UnreadablePhoto as error:
                unreadable.append(str(error))
        return Loaded(None, unreadable)

    def _drawn(self, position: int, seed: int) -> tuple[Iterable[int], Draws]:
        """The photo at a position of a run, those that take its place where it cannot be read, and what is drawn."""
        # Only random() is used: Python promises its numbers for a seed across versions.
        draw = random.Random(f"{seed} {position}").random
        epoch, number = divmod(position, self.count)
        order = _permutation(self.count, seed, epoch)
        tries = range(number, number + min(_MOST_TRIES, self.count))
        return (int(order[place % self.count]) for place in tries), Draws(draw(), draw(), draw(), draw())


@lru_cache(maxsize=2)
def _permutation(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The order of an epoch. Two are kept, as batches lie across the border of epochs."""
    return np.random.default_rng((seed, epoch)).permutation(count)


class StepSampler(Sampler[list[int]]):
    """The positions of one process's part of the batches of the steps start, ..., stop - 1.

    >>> list(StepSampler(1, 3, batch_size=4, rank=1, world_size=2))
    [[6, 7], [10, 11]]
    """

    def __init__(
        self, start: int, stop: int, *, batch_size: int, rank: int = 0, world_size: int = 1, before: int = 0
    ) -> None:
        """Of the `batch_size` positions of a step, process number `rank` of `world_size` gets its `share`.

        The positions of step 0 begin at `before`.

        Raises:
            UserError: they cannot be shared equally.
        """
        if batch_size % world_size:
            raise UserError(f"The batch size {batch_size} cannot be shared equally by {world_size} processes.")
        self.share = batch_size // world_size
        own = before + rank * self.share
        self.firsts = range(own + start * batch_size, own + stop * batch_size, batch_size)

    def __len__(self) -> int:
        return len(self.firsts)

    def __iter__(self) -> Iterator[list[int]]:
        for first in self.firsts:
            yield list(range(first, first + self.share))


# ---- from samples to batches -----------------------------------------------------------------------------------------


def collate(loaded: Sequence[Loaded]) -> Batch:
    """Samples as a batch, without those that could not be read.

    Only the pixels become a tensor: each tensor that a process hands to another keeps a file open, and of boxes and
    labels there would be thousands. Arrays are copied.
    """
    samples = [each.sample for each in loaded if each.sample is not None]
    unreadable = dict.fromkeys(line for each in loaded for line in each.unreadable)
    sizes = [(sample.photo.shape[1], sample.photo.shape[2]) for sample in samples]
    height, width = (max(sides) for sides in zip(*sizes, strict=True)) if samples else (0, 0)
    pixels = np.empty((len(samples), 3, height, width), np.uint8)
    for row, sample, (lower, right) in zip(pixels, samples, sizes, strict=True):
        row[:, :lower, :right] = sample.photo
        if (lower, right) != (height, width):
            row[:, lower:], row[:, :, right:] = PADDING, PADDING
    return Batch(
        torch.from_numpy(pixels),
        list(unreadable),
        torch.tensor([sample.number for sample in samples], dtype=torch.int64),
        sizes,
        [sample.boxes for sample in samples if sample.boxes is not None],
        [sample.mask for sample in samples if sample.mask is not None],
        [sample.proposals for sample in samples if sample.proposals is not None],
    )


def load(
    dataset: Dataset[T], batches: Iterable[list[int]], *, workers: int, collate: Callable[[list[T]], B]
) -> Generator[B, None, None]:
    """Batches of a data set's items, in order; a worker makes a whole batch, so nothing stalls where an epoch ends.

    Args:
        batches: the positions of each batch's items.
        workers: processes that read ahead; 0 reads in this one.
    """
    loader: DataLoader[T] = DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        collate_fn=collate,
        worker_init_fn=_leave_signals_to_the_run,
        pin_memory=torch.cuda.is_available(),
        # Its own, as the loader draws a number from it, and the run's random numbers must not depend on that.
        generator=torch.Generator(),
    )
    yield from loader


def _leave_signals_to_the_run(_worker: int) -> None:
    """Ctrl-C in a terminal, and a scheduler's SIGTERM to all processes of a job, are for the run alone.

    It needs its workers until it has saved. They still end with it, however it ends: torch sees to that.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _complete(batches: Generator[Batch, None, None], size: int) -> Iterator[Batch]:
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
                last = filled._replace(unreadable=last.unreadable + batch.unreadable)
    if not len(last.photos):
        raise _nothing_readable(last)
    yield last


def _nothing_readable(batch: Batch) -> UserError:
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
        if not append:
            self._path.unlink(missing_ok=True)  # of an earlier run into the same folder
        known = self._path.read_text("utf-8").splitlines() if append and self._path.is_file() else []
        self._lines: dict[str, None] = dict.fromkeys(known)
        report("unreadable", known)

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
        report("unreadable", unreadable)
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
