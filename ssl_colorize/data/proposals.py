"""Regions of photos to look at, from a file: what Selective Search and its like wrote."""

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ssl_colorize.data.annotations import AnnotatedPhotos
from ssl_colorize.errors import UserError, one_line


def read_proposals(path: str | Path, parts: tuple[AnnotatedPhotos, ...]) -> list[list[NDArray[np.float32]]]:
    """The regions of each photo of each part, in pixels: left, top, right, bottom, clipped to the photo.

    Args:
        path: .npz with an array (P, 4) for each photo, or .json with a list of lists; by the photo's name in its set
            ("JPEGImages/000001.jpg"), its file's name, or that without its suffix.

    Raises:
        UserError: the file cannot be read, or has no usable regions for a photo.
    """
    file = Path(path)
    known = _read(file)
    return [[_regions(known, part, index, file) for index in range(len(part))] for part in parts]


def _read(path: Path) -> dict[str, NDArray[np.float32]]:
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                return {name: np.asarray(arrays[name], np.float32) for name in arrays.files}
        if path.suffix == ".json":
            return {name: np.asarray(boxes, np.float32) for name, boxes in json.loads(path.read_text("utf-8")).items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"Cannot read the proposals {path}: {one_line(error)}.") from None
    raise UserError(f"Setting proposals: {path} is neither .npz nor .json.")


def _regions(
    known: dict[str, NDArray[np.float32]], part: AnnotatedPhotos, index: int, path: Path
) -> NDArray[np.float32]:
    name = part.photos.name(index)
    names = (name, Path(name).name, Path(name).stem)
    found = next((known[each] for each in names if each in known), None)
    if found is None:
        raise UserError(f"The proposals {path} have none for {name}.")
    if found.ndim != 2 or found.shape[1] != 4:
        raise UserError(f"The proposals {path} of {name} have the shape {found.shape}, not (P, 4).")
    width, height = part.sizes[index].tolist()
    clipped = found.clip(0, [width, height, width, height]).astype(np.float32)
    usable = clipped[(clipped[:, 2:] > clipped[:, :2]).all(1)]
    if not len(usable):
        raise UserError(f"The proposals {path} of {name} hold no region inside the photo.")
    return usable
