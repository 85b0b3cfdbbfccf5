"""Photos of the torchvision data sets, by name, downloaded on first use."""

import errno
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from ssl_colorize.data.datasets import LabeledDataset
from ssl_colorize.data.images import UnreadablePhoto
from ssl_colorize.data.photos import PhotoFiles, Photos, together
from ssl_colorize.errors import UserError


class _Set(NamedTuple):
    class_name: str
    train: dict[str, Any]  # what torchvision's class takes for the training photos
    rest: tuple[dict[str, Any], ...]  # and for each part that is left
    home: str
    files: str = ""  # attribute that lists the photo files; "" where the photos are inside larger files


_VOC = "http://host.robots.ox.ac.uk/pascal/VOC/"
_PET = {"split": "trainval"}

TORCHVISION_SETS = {
    "cifar10": _Set("CIFAR10", {"train": True}, ({"train": False},), "https://www.cs.toronto.edu/~kriz/cifar.html"),
    "cifar100": _Set("CIFAR100", {"train": True}, ({"train": False},), "https://www.cs.toronto.edu/~kriz/cifar.html"),
    "stl10": _Set(
        "STL10", {"split": "train+unlabeled"}, ({"split": "test"},), "https://cs.stanford.edu/~acoates/stl10/"
    ),
    "imagenette": _Set(
        "Imagenette",
        {"split": "train", "size": "320px"},
        ({"split": "val", "size": "320px"},),
        "https://github.com/fastai/imagenette",
        "_samples",
    ),
    # VOC 2007 has its own test photos; of 2012 none are public, so that val is what results are reported on.
    "voc2007": _Set(
        "VOCDetection",
        {"year": "2007", "image_set": "trainval"},
        ({"year": "2007", "image_set": "test"},),
        _VOC,
        "images",
    ),
    "voc2012": _Set(
        "VOCDetection", {"year": "2012", "image_set": "train"}, ({"year": "2012", "image_set": "val"},), _VOC, "images"
    ),
    "food101": _Set(
        "Food101",
        {"split": "train"},
        ({"split": "test"},),
        "https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101/",
        "_image_files",
    ),
    "flowers102": _Set(
        "Flowers102",
        {"split": "train"},
        ({"split": "val"}, {"split": "test"}),
        "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/",
        "_image_files",
    ),
    "oxford_pet": _Set(
        "OxfordIIITPet", _PET, ({"split": "test"},), "https://www.robots.ox.ac.uk/~vgg/data/pets/", "_images"
    ),
    "dtd": _Set(
        "DTD",
        {"split": "train"},
        ({"split": "val"}, {"split": "test"}),
        "https://www.robots.ox.ac.uk/~vgg/data/dtd/",
        "_image_files",
    ),
    "country211": _Set(
        "Country211",
        {"split": "train"},
        ({"split": "valid"}, {"split": "test"}),
        "https://github.com/openai/CLIP/blob/main/data/country211.md",
        "samples",
    ),
}


class ItemPhotos(Photos):
    """Photos of a torchvision data set that come decoded, as the first of each item."""

    def __init__(self, dataset: Any, label: str, indices: Iterable[int] | None = None) -> None:
        self._dataset = dataset
        self._label = label
        self._indices = list(range(len(dataset)) if indices is None else indices)

    def __len__(self) -> int:
        return len(self._indices)

    def name(self, index: int) -> str:
        return f"{self._label}/{self._indices[index]:06d}"

    def read(self, index: int, *, short_side: int | None = None) -> Image.Image:
        try:
            image: Image.Image = self._dataset[self._indices[index]][0]
            return image.convert("RGB")
        except OSError as error:
            raise UnreadablePhoto(f"{self.name(index)}: {error}") from None

    def take(self, indices: Iterable[int]) -> "ItemPhotos":
        return ItemPhotos(self._dataset, self._label, [self._indices[i] for i in indices])


def open_torchvision(name: str, *, split: str, root: Path) -> Photos:
    """The photos of a set in TORCHVISION_SETS, stored below `root`.

    Args:
        split: "train", or "all" for its other parts as well.

    Raises:
        UserError: the set is neither there nor to be had from the network.
    """
    known = TORCHVISION_SETS[name]
    root = root.expanduser().absolute()
    parts = [known.train, *(known.rest if split == "all" else ())]
    datasets = [_load(name, options, root) for options in parts]
    if not known.files:
        return together([ItemPhotos(each, f"{name}-{number}") for number, each in enumerate(datasets)])
    entries = [entry for each in datasets for entry in getattr(each, known.files)]
    # Some of the lists pair each file with its class.
    paths = [str(entry[0] if isinstance(entry, tuple) else entry) for entry in entries]
    return PhotoFiles.below(str(root), sorted(paths))


def open_labeled_torchvision(name: str, *, root: Path) -> tuple[LabeledDataset, LabeledDataset]:
    """The photos of a set in TORCHVISION_SETS, other than VOC's, to train on and to test on, with labels.

    Raises:
        UserError: the set is neither there nor to be had from the network.
    """
    known = TORCHVISION_SETS[name]
    root = root.expanduser().absolute()
    # Of STL-10 only a part has labels.
    train = {"split": "train"} if name == "stl10" else known.train
    parts = {"train": train, "test": known.rest[-1]}
    first, second = (_labeled(name, part, _load(name, options, root), root) for part, options in parts.items())
    return first, second


def fetch_voc(name: str, *, root: Path) -> Path:
    """The VOC folder of "voc2007" or "voc2012", downloaded if it is not there.

    Raises:
        UserError: it is neither there nor to be had from the network.
    """
    known = TORCHVISION_SETS[name]
    root = root.expanduser().absolute()
    images = [_load(name, options, root).images for options in (known.train, *known.rest)]
    return Path(images[0][0]).parent.parent


def _labeled(name: str, part: str, dataset: Any, root: Path) -> LabeledDataset:
    files = TORCHVISION_SETS[name].files
    if not files:
        values = dataset.targets if hasattr(dataset, "targets") else dataset.labels
        photos: Photos = ItemPhotos(dataset, f"{name}-{part}")
    else:
        entries = list(getattr(dataset, files))
        paired = bool(entries) and isinstance(entries[0], tuple)
        values = [entry[1] for entry in entries] if paired else dataset._labels
        # In the set's own order, which is that of its labels.
        photos = PhotoFiles.below(str(root), [str(entry[0] if paired else entry) for entry in entries])
    # Imagenette's names are tuples of synonyms.
    classes = tuple(each if isinstance(each, str) else each[0] for each in dataset.classes)
    return LabeledDataset(photos, np.asarray(values, dtype=np.int64), classes)


def _load(name: str, options: dict[str, Any], root: Path) -> Any:
    """A data set as torchvision makes it: from the disk if it is there, else downloaded."""
    import torchvision.datasets  # takes a second, which runs on folders need not wait for

    make = getattr(torchvision.datasets, TORCHVISION_SETS[name].class_name)
    try:
        root.mkdir(parents=True, exist_ok=True)
        with _one_at_a_time(root / f".{name}.lock"):
            try:
                return make(str(root), download=False, **options)
            except (RuntimeError, OSError):
                # Asked for only now: some of the classes unpack gigabytes anew whenever a download is allowed.
                return make(str(root), download=True, **options)
    except (OSError, RuntimeError, HTTPException, EOFError) as error:
        raise UserError(_missing(name, root, error)) from None


def _missing(name: str, root: Path, error: Exception) -> str:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"No space left for {name} in {root}. Free some, or set SSL_COLORIZE_DATA to a larger disk."
    reason = " ".join(str(error).split()) or type(error).__name__
    return (
        f"The photos of {name} are not in {root} and could not be downloaded ({reason}). Connect to the internet, or "
        f"get them from {TORCHVISION_SETS[name].home} and unpack them there, or give a folder of photos with --data."
    )


@contextmanager
def _one_at_a_time(path: Path) -> Iterator[None]:
    """Let the processes of one machine download in turn: the first one loads, the others find it there."""
    try:
        import fcntl
    except ImportError:  # Windows, where distributed runs are rare
        yield
        return
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
