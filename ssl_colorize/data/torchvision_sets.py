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


class TorchvisionSet(NamedTuple):
    class_name: str
    parts: tuple[str | bool, ...]  # what trains, then each part that is left; results are reported on the last one
    home: str
    files: str = ""  # attribute that lists the photo files; "" where the photos are inside larger files
    argument: str = "split"  # of torchvision's class: the part
    more: dict[str, str] = {}  # noqa: RUF012  (never changed) its other arguments

    def options(self, part: str | bool) -> dict[str, Any]:
        """What torchvision's class takes for a part."""
        return {self.argument: part, **self.more}


_KRIZ = "https://www.cs.toronto.edu/~kriz/cifar.html"
_VOC = "http://host.robots.ox.ac.uk/pascal/VOC/"
_OXFORD = "https://www.robots.ox.ac.uk/~vgg/data/"
_FOOD = "https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101/"
_COUNTRY = "https://github.com/openai/CLIP/blob/main/data/country211.md"
_NETTE = "https://github.com/fastai/imagenette"

TORCHVISION_SETS = {
    "cifar10": TorchvisionSet("CIFAR10", (True, False), _KRIZ, argument="train"),
    "cifar100": TorchvisionSet("CIFAR100", (True, False), _KRIZ, argument="train"),
    "stl10": TorchvisionSet("STL10", ("train+unlabeled", "test"), "https://cs.stanford.edu/~acoates/stl10/"),
    "imagenette": TorchvisionSet("Imagenette", ("train", "val"), _NETTE, "_samples", more={"size": "320px"}),
    # VOC 2007 has its own test photos; of 2012 none are public, so that val is what results are reported on.
    "voc2007": TorchvisionSet("VOCDetection", ("trainval", "test"), _VOC, "images", "image_set", {"year": "2007"}),
    "voc2012": TorchvisionSet("VOCDetection", ("train", "val"), _VOC, "images", "image_set", {"year": "2012"}),
    "food101": TorchvisionSet("Food101", ("train", "test"), _FOOD, "_image_files"),
    "flowers102": TorchvisionSet("Flowers102", ("train", "val", "test"), f"{_OXFORD}flowers/102/", "_image_files"),
    "oxford_pet": TorchvisionSet("OxfordIIITPet", ("trainval", "test"), f"{_OXFORD}pets/", "_images"),
    "dtd": TorchvisionSet("DTD", ("train", "val", "test"), f"{_OXFORD}dtd/", "_image_files"),
    "country211": TorchvisionSet("Country211", ("train", "valid", "test"), _COUNTRY, "samples"),
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

    def stamp(self, index: int) -> str:
        # Sets of the same name, of another root or another size, hold other photos.
        return f"{super().stamp(index)} of {len(self._dataset)} in {getattr(self._dataset, 'root', '')}"

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
    datasets = [_load(name, part, root) for part in (known.parts if split == "all" else known.parts[:1])]
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
    parts = {"train": "train" if name == "stl10" else known.parts[0], "test": known.parts[-1]}
    train, test = (_labeled(name, label, _load(name, part, root), root) for label, part in parts.items())
    return train, test


def fetch_voc(name: str, *, root: Path) -> Path:
    """The VOC folder of "voc2007" or "voc2012", downloaded if it is not there.

    Raises:
        UserError: it is neither there nor to be had from the network.
    """
    root = root.expanduser().absolute()
    images = [_load(name, part, root).images for part in TORCHVISION_SETS[name].parts]
    return Path(images[0][0]).parent.parent


def _labeled(name: str, label: str, dataset: Any, root: Path) -> LabeledDataset:
    files = TORCHVISION_SETS[name].files
    if not files:
        values = dataset.targets if hasattr(dataset, "targets") else dataset.labels
        photos: Photos = ItemPhotos(dataset, f"{name}-{label}")
    else:
        entries = list(getattr(dataset, files))
        paired = bool(entries) and isinstance(entries[0], tuple)
        values = [entry[1] for entry in entries] if paired else dataset._labels
        # In the set's own order, which is that of its labels.
        photos = PhotoFiles.below(str(root), [str(entry[0] if paired else entry) for entry in entries])
    # Imagenette's names are tuples of synonyms.
    classes = tuple(each if isinstance(each, str) else each[0] for each in dataset.classes)
    return LabeledDataset(photos, np.asarray(values, dtype=np.int64), classes)


def _load(name: str, part: str | bool, root: Path) -> Any:
    """A data set as torchvision makes it: from the disk if it is there, else downloaded."""
    import torchvision.datasets  # takes a second, which runs on folders need not wait for

    make = getattr(torchvision.datasets, TORCHVISION_SETS[name].class_name)
    options = TORCHVISION_SETS[name].options(part)
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
