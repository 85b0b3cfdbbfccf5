"""The real color photos that the installed scikit-image and scikit-learn packages carry."""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from ssl_colorize.data.images import read_photo
from ssl_colorize.data.photos import Photos
from ssl_colorize.errors import UserError

# Left out on purpose: grays, drawings and a stained tissue, a night sky that is nearly all black, and the second view
# of the motorcycle, which would show what the first one holds out.
_FILES = {
    "skimage": ("data", "astronaut.png chelsea.png coffee.png motorcycle_left.png retina.jpg rocket.jpg"),
    "sklearn": ("datasets/images", "china.jpg flower.jpg"),
}

_TRAINING_WIDTH = 0.75  # share of each photo's width, from the left, that trains when a part is held out


class _Region(NamedTuple):
    path: str
    box: tuple[int, int, int, int] | None  # left, top, right, bottom in pixels; None is the whole photo


class SamplePhotos(Photos):
    """A few photos, or regions of them. As they are few, decoded photos stay in memory."""

    def __init__(self, regions: Iterable[_Region]) -> None:
        self._regions = list(regions)

    @classmethod
    def installed(cls) -> "SamplePhotos":
        """The photos that are present.

        Raises:
            UserError: there is none.
        """
        found = [_Region(str(path), None) for path in _installed_files() if path.is_file()]
        if not found:
            raise UserError(
                "No sample photos are installed. Run 'pip install scikit-image scikit-learn', or give a folder of "
                "photos with --data."
            )
        return cls(found)

    def __len__(self) -> int:
        return len(self._regions)

    def name(self, index: int) -> str:
        path, box = self._regions[index]
        return Path(path).name + ("" if box is None else "[{},{},{},{}]".format(*box))

    def read(self, index: int, *, short_side: int | None = None) -> Image.Image:
        path, box = self._regions[index]
        return _decoded(path).crop(box or (0, 0, *_decoded(path).size))

    def take(self, indices: Iterable[int]) -> "SamplePhotos":
        return SamplePhotos(self._regions[i] for i in indices)

    def holdout(self, fraction: float, *, most: int) -> tuple["SamplePhotos", "SamplePhotos"]:
        """Hold out the right quarter of each photo, cut in about square tiles; `fraction` has no say in it.

        The left three quarters train: whole, and as overlapping tiles of the held-out tiles' size and of twice that,
        so that what is held out is seen at a scale that was trained.
        """
        train: list[_Region] = []
        held: list[_Region] = []
        for index, region in enumerate(self._regions):
            left, top, right, bottom = region.box or (0, 0, *_decoded(region.path).size)
            edge = left + round(_TRAINING_WIDTH * (right - left))
            if not left < edge < right:
                raise UserError(f"{self.name(index)} is too narrow to hold a part of it out. Give more with --data.")
            train += [_Region(region.path, box) for box in _training_boxes((left, top, edge, bottom), right - edge)]
            held += [_Region(region.path, box) for box in _stacked_tiles((edge, top, right, bottom))]
        held_out = SamplePhotos(held)
        return SamplePhotos(train), held_out.take(sorted(held_out.by_hash(salt=b"holdout")[: max(1, most)]))


def _installed_files() -> Iterator[Path]:
    for package, (folder, names) in _FILES.items():
        spec = find_spec(package)  # finds the folder without running the package, which takes a second
        for place in (spec.submodule_search_locations or ()) if spec is not None else ():
            yield from (Path(place) / folder / name for name in names.split())


@lru_cache(maxsize=16)
def _decoded(path: str) -> Image.Image:
    return read_photo(path)


def _stacked_tiles(box: tuple[int, int, int, int]) -> list[tuple[int, int, int, int]]:
    """A tall box cut into tiles that are as wide as it and about as high as wide."""
    left, top, right, bottom = box
    count = max(1, round((bottom - top) / (right - left)))
    cuts = [top + round(i * (bottom - top) / count) for i in range(count + 1)]
    return [(left, upper, right, lower) for upper, lower in pairwise(cuts)]


def _training_boxes(box: tuple[int, int, int, int], side: int) -> list[tuple[int, int, int, int]]:
    """The box itself, and square tiles of `side` and of twice that, each overlapping the next by about half."""
    left, top, right, bottom = box
    boxes = [box]
    for tile in (side, 2 * side):
        if tile > min(right - left, bottom - top):
            continue
        boxes += [
            (x, y, x + tile, y + tile)
            for y in _overlapping(top, bottom - tile, tile // 2)
            for x in _overlapping(left, right - tile, tile // 2)
        ]
    return boxes


def _overlapping(first: int, last: int, step: int) -> list[int]:
    """Evenly spread whole numbers from first to last, no further apart than about `step`."""
    count = max(1, round((last - first) / max(1, step)))
    return sorted({first + round(i * (last - first) / count) for i in range(count + 1)})
