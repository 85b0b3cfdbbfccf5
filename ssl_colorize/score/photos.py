"""The photos to score, cropped as the protocol says, in batches that workers prepare, with random other photos."""

import random
from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import BatchSampler, Dataset

from ssl_colorize.data import Photos, UnreadablePhoto, open_dataset, open_photos
from ssl_colorize.data.loading import load
from ssl_colorize.data.photos import together
from ssl_colorize.data.reading import joined
from ssl_colorize.data.torchvision_sets import TORCHVISION_SETS
from ssl_colorize.data.transforms import resized_window
from ssl_colorize.data.voc import find_voc
from ssl_colorize.errors import UserError

# Other photos that are tried before a photo is given up.
_MOST_TRIES = 30


@dataclass(frozen=True)
class ScoredPhotos:
    """The photos to score.

    Attributes:
        photos: N photos.
        labels: for each, names that may say its class: the likeliest first.
        about: which part of what was given they are.
    """

    photos: Photos
    labels: list[tuple[str, ...]]
    about: str

    def __len__(self) -> int:
        return len(self.photos)

    def limit(self, count: int | None) -> "ScoredPhotos":
        """At most `count` of them, picked evenly over the set by a hash of their names."""
        if count is None or count >= len(self):
            return self
        chosen = sorted(self.photos.by_hash(salt=b"limit")[:count])
        about = f"{count} of the {len(self)} of {self.about}"
        photos = self.photos.take(chosen).with_reading(self.photos.reading)
        return ScoredPhotos(photos, [self.labels[index] for index in chosen], about)


def open_scored(data: Sequence[str] = (), *, test: Sequence[str] = (), limit: int | None = None) -> ScoredPhotos:
    """The photos that `--data` names; of a set with a part to measure on, that part.

    Of a folder that is what measuring verbs test on (`open_photos` with split "test"), of a VOC folder its test or val
    list, of a torchvision set its test part; of what `test` names all. Labels are the names of the folders that a photo
    lies in, innermost first, or a torchvision set's.

    Raises:
        UserError: an item is unknown, missing or empty.
    """
    opened = [_open_item(str(item)) for item in data] + [_open_all(str(item)) for item in test]
    if len(opened) == 1:
        return opened[0].limit(limit)
    photos = together([each.photos for each in opened])
    photos = photos.with_reading(joined(each.photos.reading for each in opened))
    whole = ScoredPhotos(photos, _folder_labels(photos), ", ".join(each.about for each in opened))
    return whole.limit(limit)


def _open_item(item: str) -> ScoredPhotos:
    path = Path(item).expanduser()
    if item in TORCHVISION_SETS or (path.is_dir() and find_voc(path) is not None):
        test = open_dataset([item])[1]
        photos = test.photos.with_reading(test.reading)
        if test.multilabel:
            return ScoredPhotos(photos, [()] * len(test), f"{item} (its test part)")
        labels: list[tuple[str, ...]] = [(test.classes[number],) for number in test.labels.tolist()]
        return ScoredPhotos(photos, labels, f"{item} (its test part)")
    photos = open_photos([item], split="test")
    places = photos.reading.sources[0].places
    about = f"{item} ({places[0]})" if places else item
    return ScoredPhotos(photos, _folder_labels(photos), about)


def _open_all(item: str) -> ScoredPhotos:
    photos = open_photos(train=[item])
    return ScoredPhotos(photos, _folder_labels(photos), item)


def _folder_labels(photos: Photos) -> list[tuple[str, ...]]:
    return [tuple(reversed(PurePosixPath(photos.name(index)).parts[:-1])) for index in range(len(photos))]


def center_crop(photo: Image.Image, size: int) -> Tensor:
    """The center of a photo, its short side resized to `size` px (bicubic, antialiased): (3, size, size) uint8.

    >>> center_crop(Image.new("RGB", (80, 40)), 32).shape
    torch.Size([3, 32, 32])
    """
    window = resized_window(photo, short_side=size, crop=size, across=0.5, down=0.5)
    return torch.from_numpy(np.asarray(window).transpose(2, 0, 1).copy())


# ---- another photo for each, whose colors the method random takes ----------------------------------------------------


@dataclass(frozen=True)
class Donors:
    """Draws another photo for each photo, always the same one for the same name and seed."""

    photos: Photos
    same_set: bool
    seed: int

    def read(self, index: int, scored: Photos, size: int) -> Image.Image:
        """Another photo than the one at an index of the scored ones.

        Raises:
            UnreadablePhoto: none could be read.
        """
        name, stamp = scored.name(index), scored.stamp(index)
        draw = random.Random(f"{self.seed} {name}").random()
        count = len(self.photos)
        # In the set itself the photo's own place is left out.
        start = index + 1 + int(draw * (count - 1)) if self.same_set else int(draw * count)
        for attempt in range(min(_MOST_TRIES, count)):
            place = (start + attempt) % count
            if (self.same_set and place == index) or self.photos.stamp(place) == stamp:
                continue
            with suppress(UnreadablePhoto):
                return self.photos.read(place, short_side=size)
        raise UnreadablePhoto(f"{name}: no other photo can be read for the method random")


def open_donors(scored: ScoredPhotos, data: Sequence[str], *, seed: int) -> Donors:
    """Where the method random takes its colors from: the photos of `data` to train on, or the scored ones.

    Raises:
        UserError: there is no other photo.
    """
    if data:
        return Donors(open_photos(data), same_set=False, seed=seed)
    if len(scored) < 2:
        raise UserError("The method random needs other photos: name some with --random-data, or score 2 or more.")
    return Donors(scored.photos, same_set=True, seed=seed)


# ---- crops -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Crop:
    """A photo as it is scored.

    Attributes:
        index: which photo of the set it is.
        name: the photo's.
        photo: (3, S, S) uint8 RGB, its center; None if it cannot be read.
        other: (3, S, S) uint8, another photo; None where no method needs one.
        enlarged: whether the photo is smaller than S.
        unreadable: why it cannot be read; empty where it can.
    """

    index: int
    name: str
    photo: Tensor | None = None
    other: Tensor | None = None
    enlarged: bool = False
    unreadable: str = ""


class Crops(Dataset[Crop]):
    """The crops of photos, by index."""

    def __init__(self, photos: Photos, *, size: int, donors: Donors | None = None) -> None:
        """`size` is the crops' side in pixels; `donors` give each photo another one."""
        self.photos, self.size, self.donors = photos, size, donors

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, index: int) -> Crop:
        name, other = self.photos.name(index), None
        try:
            photo = self.photos.read(index, short_side=self.size)
            if self.donors is not None:
                other = center_crop(self.donors.read(index, self.photos, self.size), self.size)
        except UnreadablePhoto as error:
            return Crop(index, name, unreadable=str(error))
        return Crop(index, name, center_crop(photo, self.size), other, min(photo.size) < self.size)

    def batches(self, batch_size: int, *, first: int = 0, workers: int = 0) -> Generator[list[Crop], None, None]:
        """All from number `first` on, in order, prepared by so many worker processes."""
        sampler = BatchSampler(range(first, len(self)), batch_size, drop_last=False)
        return load(self, sampler, workers=workers, collate=list)
