"""Photos with labels, in a part to train on and a part to test on: class folders, VOC, torchvision sets."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ssl_colorize.data.images import walk_photos
from ssl_colorize.data.photos import PhotoFiles, Photos
from ssl_colorize.data.sources import default_root
from ssl_colorize.data.torchvision_sets import TORCHVISION_SETS, open_labeled_torchvision
from ssl_colorize.data.voc import find_voc, read_voc, voc_labels
from ssl_colorize.errors import UserError

TEST_FOLDERS = ("test", "val", "valid", "validation", "testing")
_HELD_OUT = 0.2  # share of each class that tests where there is no split


@dataclass(frozen=True)
class LabeledPhotos:
    """Photos and what is on them.

    Attributes:
        photos: N photos.
        labels: (N,) int64, indices into classes; multi-label (N, C) int8: 1 there, 0 not there, -1 not counted.
        classes: C names.
    """

    photos: Photos
    labels: NDArray[np.integer]
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.photos) != len(self.labels):
            raise ValueError(f"{len(self.photos)} photos and {len(self.labels)} labels")

    @property
    def multilabel(self) -> bool:
        return self.labels.ndim == 2

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Iterable[int]) -> "LabeledPhotos":
        """Those at the given indices, in this order."""
        chosen = np.asarray(list(indices), dtype=np.int64)
        return LabeledPhotos(self.photos.take(chosen.tolist()), self.labels[chosen], self.classes)

    def counts(self) -> NDArray[np.int64]:
        """(C,): the number of photos that show each class."""
        if self.multilabel:
            return np.asarray((self.labels == 1).sum(0), dtype=np.int64)
        return np.bincount(self.labels, minlength=len(self.classes)).astype(np.int64)


def open_labeled(
    data: Sequence[str], *, limit: int | None = None, root: Path | None = None
) -> tuple[LabeledPhotos, LabeledPhotos]:
    """The photos to train on and those to test on, with the same classes in the same order.

    Each item is
    - a folder DATA/train/CLASS/... with DATA/test/CLASS/... (or val/) beside it; without these, or with train/ alone, a
      fifth of each class is the test part, picked by a hash of the names, so that it is the same on every machine;
    - a VOC folder, multi-label: trains on the list trainval and tests on test where that exists, else train and val;
    - a torchvision name.

    Args:
        limit: at most so many photos to train on, and a quarter as many to test on, in the classes' proportions and
            with at least one of each class.
        root: where torchvision sets are stored; by default $SSL_COLORIZE_DATA, else ~/.cache/ssl-colorize.

    Raises:
        UserError: an item is missing, empty or without labels; there are fewer than 2 classes; a class of the test
            part has no photo to train on.
    """
    if not data:
        raise UserError("No photos given. Name a folder of class folders, VOC, or a torchvision set with --data.")
    opened = [_open_item(str(item), root) for item in data]
    train, test = (_joined([each[part] for each in opened]) for part in (0, 1))
    where = ", ".join(map(str, data))
    train, test = _with_equal_classes(train, test, where)
    if limit is None:
        return train, test
    return _limited(train, limit, where), _limited(test, max(limit // 4, _present(test)), where)


def choosing_split(
    labels: NDArray[np.integer], *, fraction: float = 0.2, seed: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split training photos into some to fit on and some to choose hyper-parameters on.

    Every class keeps a photo to fit on. Single labels are split class by class.

    Args:
        labels: (N,) or (N, C) as in `LabeledPhotos`.
        fraction: share to choose on.

    Returns:
        Indices to fit on and indices to choose on, both sorted and not empty.

    Raises:
        UserError: no photo can be spared.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"fraction lies between 0 and 1, not {fraction}")
    order = np.random.default_rng(seed).permutation(len(labels))
    chosen = _spared(labels[order] == 1, fraction) if labels.ndim == 2 else _stratum(labels[order], fraction)
    if not chosen.any():
        raise UserError("Choosing hyper-parameters takes at least 2 training photos of a class. Give more photos.")
    return np.sort(order[~chosen]), np.sort(order[chosen])


def _stratum(labels: NDArray[np.integer], fraction: float) -> NDArray[np.bool_]:
    """Mask of the first photos of each class, its `fraction` of them but at least one and never all."""
    counts = np.bincount(labels)
    quota = np.minimum(np.maximum(1, np.round(fraction * counts)), counts - 1)
    return np.asarray(_rank_in_class(labels) < quota[labels])


def _spared(present: NDArray[np.bool_], fraction: float) -> NDArray[np.bool_]:
    """Mask of about `fraction` of the rows (N, C), passing over those without which a class would be lost."""
    wanted = max(1, round(fraction * len(present)))
    left = present.sum(0)
    mask = np.zeros(len(present), np.bool_)
    for row, here in enumerate(present):
        if wanted and (left[here] > 1).all():
            mask[row] = True
            left -= here
            wanted -= 1
    return mask if len(present) > 1 else np.zeros_like(mask)


def _rank_in_class(labels: NDArray[np.integer]) -> NDArray[np.int64]:
    """How many of the same label come before each."""
    order = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[order], labels[order])
    rank = np.empty(len(labels), np.int64)
    rank[order] = np.arange(len(labels)) - starts
    return rank


def _open_item(item: str, root: Path | None) -> tuple[LabeledPhotos, LabeledPhotos]:
    if item in TORCHVISION_SETS:
        (photos, labels, classes), (test_photos, test_labels, _) = open_labeled_torchvision(
            item, root=root or default_root()
        )
        return LabeledPhotos(photos, labels, classes), LabeledPhotos(test_photos, test_labels, classes)
    path = Path(item).expanduser().absolute()
    if not path.is_dir():
        kinds = "a folder of class folders, a VOC folder, or one of"
        raise UserError(f"No labeled photos at {item}: give {kinds} {', '.join(sorted(TORCHVISION_SETS))}.")
    voc = find_voc(path)
    if voc is not None:
        (photos, objects), (test_photos, test_objects) = read_voc(voc)
        classes = tuple(sorted({name for each in (*objects, *test_objects) for name in each}))
        return (
            LabeledPhotos(photos, voc_labels(objects, classes), classes),
            LabeledPhotos(test_photos, voc_labels(test_objects, classes), classes),
        )
    return _open_class_folders(path)


def _open_class_folders(path: Path) -> tuple[LabeledPhotos, LabeledPhotos]:
    tests = [path / name for name in TEST_FOLDERS if (path / name).is_dir()]
    if not (path / "train").is_dir():
        if tests:
            raise UserError(f"{path} has {tests[0].name}/ but no train/: put the photos to train on there.")
        return _split(_read_class_folders(path))
    train = _read_class_folders(path / "train")
    if not tests:
        return _split(train)
    # Of two, test/ is the one to report on, unless it came without labels, as competitions' do.
    known = [each for each in tests if any((each / name).is_dir() for name in train.classes)]
    return train, _read_class_folders((known or tests)[0])


def _read_class_folders(folder: Path) -> LabeledPhotos:
    """FOLDER/CLASS/**; class folders without photos do not count."""
    names = sorted(each.name for each in folder.iterdir() if each.is_dir() and not each.name.startswith("."))
    found = {name: sorted(walk_photos(str(folder / name))) for name in names}
    found = {name: paths for name, paths in found.items() if paths}
    if not found:
        if walk_photos(str(folder)):
            raise UserError(f"{folder} has photos but no labels: put them in one folder a class, {folder.name}/CLASS/.")
        raise UserError(f"{folder} holds no photos. Give a folder with one folder of photos a class.")
    paths = [path for each in found.values() for path in each]
    photos = PhotoFiles(paths, [len(str(folder).rstrip(os.sep)) + 1] * len(paths))
    labels = np.repeat(np.arange(len(found)), [len(each) for each in found.values()])
    return LabeledPhotos(photos, labels, tuple(found))


def _split(whole: LabeledPhotos) -> tuple[LabeledPhotos, LabeledPhotos]:
    """Hold out a fifth of each class by a hash of the names; a class of one photo only trains."""
    held: list[int] = []
    for number in range(len(whole.classes)):
        mine = np.flatnonzero(whole.labels == number)
        if len(mine) > 1:
            count = max(1, round(_HELD_OUT * len(mine)))
            held += mine[whole.photos.take(mine.tolist()).by_hash(salt=b"holdout")[:count]].tolist()
    if not held:
        raise UserError("No class has a second photo to test on. Give more photos with --data.")
    kept = np.setdiff1d(np.arange(len(whole)), held)
    return whole.take(kept.tolist()), whole.take(sorted(held))


def _joined(sets: Sequence[LabeledPhotos]) -> LabeledPhotos:
    """Several items as one set, over all their classes."""
    if len(sets) == 1:
        return sets[0]
    files = [each.photos for each in sets if isinstance(each.photos, PhotoFiles)]
    if len(files) < len(sets) or len({each.multilabel for each in sets}) > 1:
        raise UserError("Several --data items must all be folders, of one kind: class folders or VOC.")
    photos = PhotoFiles.together(files)
    if len(photos) < sum(map(len, sets)):
        raise UserError("The same photo is in two of the --data items. Give each once.")
    classes = tuple(sorted({name for each in sets for name in each.classes}))
    return LabeledPhotos(photos, np.concatenate([_relabel(each, classes) for each in sets]), classes)


def _relabel(photos: LabeledPhotos, classes: tuple[str, ...]) -> NDArray[np.integer]:
    """Its labels as indices (or columns) of `classes`, which hold all of its own."""
    places = np.asarray([classes.index(name) for name in photos.classes], dtype=np.int64)
    if not photos.multilabel:
        return np.asarray(places[photos.labels])
    labels = np.zeros((len(photos), len(classes)), np.int8)
    labels[:, places] = photos.labels
    return labels


def _with_equal_classes(train: LabeledPhotos, test: LabeledPhotos, where: str) -> tuple[LabeledPhotos, LabeledPhotos]:
    for part, name in ((train, "train on"), (test, "test on")):
        if not len(part):
            raise UserError(f"{where} has no photos to {name}.")
    trained = {name for name, count in zip(train.classes, train.counts(), strict=True) if count}
    tested = [name for name, count in zip(test.classes, test.counts(), strict=True) if count]
    untrained = [name for name in tested if name not in trained]
    if untrained:
        more = f" and {len(untrained) - 3} more" if len(untrained) > 3 else ""
        raise UserError(
            f"{where}: photos to test on but none to train on of {', '.join(untrained[:3])}{more}. "
            "Both parts need the same class names."
        )
    if len(trained) < 2:
        raise UserError(f"{where} has {len(trained)} class ({', '.join(trained)}); classifying takes at least 2.")
    classes = tuple(name for name in train.classes if name in trained)
    return _restricted(train, classes), _restricted(test, classes)


def _restricted(part: LabeledPhotos, classes: tuple[str, ...]) -> LabeledPhotos:
    """The same photos labeled with `classes`; classes that no photo shows may go."""
    if part.classes == classes:
        return part
    if part.multilabel:
        columns = {name: part.labels[:, number] for number, name in enumerate(part.classes)}
        absent = np.zeros(len(part), np.int8)
        return LabeledPhotos(part.photos, np.stack([columns.get(name, absent) for name in classes], 1), classes)
    places = np.asarray([classes.index(name) if name in classes else -1 for name in part.classes], dtype=np.int64)
    return LabeledPhotos(part.photos, places[part.labels], classes)


def _present(part: LabeledPhotos) -> int:
    return int((part.counts() > 0).sum())


def _limited(part: LabeledPhotos, count: int, where: str) -> LabeledPhotos:
    return part.take(limited_indices(part, count, where).tolist())


def limited_indices(part: LabeledPhotos, count: int, where: str) -> NDArray[np.int64]:
    """Of at most `count` photos: first one of each class, then others so that the classes keep their proportions.

    Raises:
        UserError: there are more classes than that.
    """
    if count < _present(part):
        raise UserError(f"--limit {count} is fewer than the {_present(part)} classes of {where}.")
    if count >= len(part):
        return np.arange(len(part))
    order = np.asarray(part.photos.by_hash(salt=b"limit"))
    labels = part.labels[order]
    if part.multilabel:
        # In the order of the hash, which keeps proportions by chance.
        place = np.arange(len(part)) / len(part)
        first = np.unique((labels == 1).argmax(0)[(labels == 1).any(0)])
    else:
        rank = _rank_in_class(labels)
        place = (rank + 0.5) / part.counts()[labels]
        first = np.flatnonzero(rank == 0)
    place[first] = -1.0
    return np.sort(order[np.argsort(place, kind="stable")[:count]])
