"""Batches of photos with their boxes and masks, the very same ones however the work is spread or interrupted."""

import random
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from ssl_colorize.data.annotations import Boxes
from ssl_colorize.data.datasets import LabeledDataset
from ssl_colorize.data.images import UnreadablePhoto
from ssl_colorize.data.joint import Augmentation, Plan, Sample, applied, draw_plan, resized
from ssl_colorize.data.loading import complete_batches, first_readable, load_steps, share_of


class Samples(NamedTuple):
    """A batch, before it is padded or stacked."""

    photos: list[Sample]
    unreadable: list[str]  # one "file: reason" for each photo that could not be read


class _Parcel(NamedTuple):
    """A batch on its way from a worker, with one tensor in it.

    Each tensor that a process hands to another keeps a file open, and of boxes and labels there would be thousands.
    """

    pixels: Tensor  # all photos and masks, one after the other
    shapes: list[tuple[torch.Size, torch.Size | None]]  # of each photo and its mask
    rest: list[tuple[int, list[NDArray[Any] | None]]]  # number; boxes, labels, difficult, proposals
    unreadable: list[str]


def training_samples(
    photos: LabeledDataset,
    augmentation: Augmentation,
    *,
    batch_size: int,
    seed: int,
    start: int,
    steps: int,
    workers: int,
    rank: int = 0,
    world_size: int = 1,
) -> Iterator[Samples]:
    """Batches for the steps start, ..., steps - 1: as `training_batches`, with boxes and masks.

    Raises:
        UserError: a batch that cannot be shared equally; while iterating, that no photo could be read.
    """
    share = share_of(batch_size, world_size)
    source = _TrainingSteps(photos, augmentation, seed, batch_size, first=rank * share, count=share)
    return complete_batches(_unpacked(load_steps(source, range(start, steps), workers)), share)


def judging_samples(
    photos: LabeledDataset,
    *,
    short_side: int | None,
    long_side: int | None = None,
    batch_size: int,
    workers: int,
) -> Iterator[Samples]:
    """All photos once, in order, whole and not mirrored; unreadable ones are left out, so that a batch can be empty.

    Boxes and masks are those of the original photo, not resized with it: they are what is judged by.

    Args:
        short_side: in pixels; None leaves photos at their own size.
    """
    source = _JudgingSteps(photos, short_side, long_side, batch_size)
    return _unpacked(load_steps(source, range(-(-len(photos) // batch_size)), workers))


class _TrainingSteps(Dataset[_Parcel]):
    """One process's part of any step's batch."""

    def __init__(
        self,
        photos: LabeledDataset,
        augmentation: Augmentation,
        seed: int,
        batch_size: int,
        *,
        first: int,
        count: int,
    ) -> None:
        self.photos, self.augmentation, self.seed = photos, augmentation, seed
        self.batch_size, self.first, self.count = batch_size, first, count

    def __getitem__(self, step: int) -> _Parcel:
        unreadable: list[str] = []
        made: list[Sample] = []
        for row in range(self.count):
            position = step * self.batch_size + self.first + row
            draw = random.Random(f"{self.seed} {position}").random
            make = self._maker([draw() for _ in range(4)])
            found = first_readable(make, position, len(self.photos), seed=self.seed, unreadable=unreadable)
            if found is None:
                break
            made.append(found[1])
        return _packed(made, unreadable)

    def _maker(self, drawn: Sequence[float]) -> Callable[[int], Sample]:
        """Makes a photo's sample from the position's numbers, whichever photo it comes to be."""

        def make(index: int) -> Sample:
            size = _size(self.photos, index)
            plan = draw_plan(self.augmentation, size, iter(drawn).__next__)
            photo = self.photos.photos.read(index, short_side=min(plan.size))
            boxes, mask, proposals = _annotations(self.photos, index)
            return applied(plan, photo, size, number=index, boxes=boxes, mask=mask, proposals=proposals)

        return make


class _JudgingSteps(Dataset[_Parcel]):
    def __init__(
        self,
        photos: LabeledDataset,
        short_side: int | None,
        long_side: int | None,
        batch_size: int,
    ) -> None:
        self.photos, self.short_side, self.long_side = photos, short_side, long_side
        self.batch_size = batch_size

    def __getitem__(self, step: int) -> _Parcel:
        unreadable: list[str] = []
        made: list[Sample] = []
        for index in range(step * self.batch_size, min((step + 1) * self.batch_size, len(self.photos))):
            size = _size(self.photos, index)
            target = resized(size, self.short_side or min(size), self.long_side)
            try:
                photo = self.photos.photos.read(index, short_side=min(target))
            except UnreadablePhoto as error:
                unreadable.append(str(error))
                continue
            boxes, mask, proposals = _annotations(self.photos, index)
            sample = applied(Plan(target), photo, size, number=index, proposals=proposals)
            made.append(_with_truth(sample, boxes, mask))
        return _packed(made, unreadable)


def _with_truth(sample: Sample, boxes: Boxes | None, mask: NDArray[np.uint8] | None) -> Sample:
    if boxes is not None:
        corners, labels, difficult = (torch.from_numpy(each) for each in boxes)
        sample = sample._replace(boxes=corners, labels=labels, difficult=difficult)
    return sample if mask is None else sample._replace(mask=torch.from_numpy(mask))


def _size(photos: LabeledDataset, index: int) -> tuple[int, int]:
    width, height = photos.sizes[index].tolist()
    return width, height


def _annotations(photos: LabeledDataset, index: int) -> tuple[Boxes | None, NDArray[np.uint8] | None, Any]:
    return (
        photos.boxes[index] if photos.boxes else None,
        photos.masks[index].read() if photos.masks else None,
        photos.proposals[index] if photos.proposals else None,
    )


def _packed(samples: Sequence[Sample], unreadable: list[str]) -> _Parcel:
    pixels = [each.flatten() for sample in samples for each in (sample.photo, sample.mask) if each is not None]
    shapes = [(sample.photo.shape, None if sample.mask is None else sample.mask.shape) for sample in samples]
    rest = [
        (sample.number, [None if each is None else each.numpy() for each in (*sample[2:5], sample.proposals)])
        for sample in samples
    ]
    return _Parcel(torch.cat(pixels) if pixels else torch.empty(0, dtype=torch.uint8), shapes, rest, unreadable)


def _unpacked(parcels: Generator[_Parcel, None, None]) -> Generator[Samples, None, None]:
    with closing(parcels):
        for pixels, shapes, rest, unreadable in parcels:
            lengths = [each.numel() for pair in shapes for each in pair if each is not None]
            parts = iter(pixels.split(lengths))
            made = []
            for (photo, mask), (number, small) in zip(shapes, rest, strict=True):
                image = next(parts).view(photo)
                layer = None if mask is None else next(parts).view(mask)
                boxes, labels, difficult, proposals = (None if x is None else torch.from_numpy(x) for x in small)
                assert boxes is not None and labels is not None and difficult is not None
                made.append(Sample(number, image, boxes, labels, difficult, layer, proposals))
            yield Samples(made, unreadable)
