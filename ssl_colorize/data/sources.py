"""From what `--data` says to a set of photos: folders, files, torchvision names, samples."""

import difflib
import os
from collections.abc import Sequence
from pathlib import Path

from ssl_colorize.data.images import is_photo_name, walk_photos
from ssl_colorize.data.photos import PhotoFiles, Photos, together
from ssl_colorize.data.samples import SamplePhotos
from ssl_colorize.data.torchvision_sets import TORCHVISION_SETS, open_torchvision
from ssl_colorize.errors import UserError, one_line

# Folders that are for measuring, never for training.
_MEASURING = frozenset({"val", "valid", "validation", "test", "testing"})
__all__ = ["Photos", "leave_out", "open_photos"]

_VOC_PHOTOS = "JPEGImages"


def leave_out(photos: Photos, file: Path) -> Photos:
    """A set without the photos whose names a file lists, one a line.

    Raises:
        UserError: the file cannot be read, lists none of the photos, or lists all of them.
    """
    try:
        names = set(file.read_text("utf-8").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read as a list of photos to leave out: {one_line(error)}.") from None
    kept = [index for index in range(len(photos)) if photos.name(index) not in names]
    if names - {""} and len(kept) == len(photos):
        example = photos.name(0)
        raise UserError(f"{file} names none of the photos to train on: they are called like {example!r}.")
    if not kept:
        raise UserError(f"{file} leaves no photo to train on.")
    return photos.take(kept)


def open_photos(
    data: Sequence[str], *, split: str = "train", limit: int | None = None, root: Path | None = None
) -> Photos:
    """Open the photos that `--data` names; several items make one set.

    Each item is "samples", a torchvision name of TORCHVISION_SETS, a folder, or a file. A name wins over a folder of
    the same name: write `./cifar10` for the folder.

    Of a folder, split "train" reads `train/` where there is one, and never `val/` or `test/`; of a VOC folder, its
    training list. This holds at every depth, so a folder of data sets works. Split "all" reads every photo.

    Args:
        limit: at most so many photos, picked evenly by a hash of their names.
        root: where torchvision sets are stored; by default $SSL_COLORIZE_DATA, else ~/.cache/ssl-colorize.

    Raises:
        UserError: an item is unknown, missing or empty, or a set cannot be downloaded.
    """
    if split not in ("train", "all"):
        raise ValueError(f"split is 'train' or 'all', not {split!r}")
    if not data:
        raise UserError("No photos given. Say which with --data: a folder, a torchvision name, or samples.")
    if limit is not None and limit < 1:
        raise UserError(f"--limit is the number of photos to use, at least 1, not {limit}.")
    photos = together([_open_item(str(item), split=split, root=root) for item in data])
    return photos if limit is None else photos.limit(limit)


def _open_item(item: str, *, split: str, root: Path | None) -> Photos:
    if item == "samples":
        return SamplePhotos.installed()
    if item in TORCHVISION_SETS:
        return open_torchvision(item, split=split, root=root or default_root())
    path = Path(item).expanduser()
    if path.is_dir():
        return _open_folder(str(path), split=split)
    if path.is_file():
        if not is_photo_name(path.name):
            raise UserError(f"{item} is not a photo by its name. Give a photo, a folder of photos, or a set by name.")
        return PhotoFiles.below(str(path.absolute().parent), [str(path.absolute())])
    raise UserError(_unknown(item))


def default_root() -> Path:
    """Where torchvision sets are stored unless told otherwise."""
    return Path(os.environ.get("SSL_COLORIZE_DATA") or "~/.cache/ssl-colorize").expanduser()


def _unknown(item: str) -> str:
    names = ["samples", *sorted(TORCHVISION_SETS)]
    close = difflib.get_close_matches(item, names, n=1)
    hint = f" Did you mean {close[0]}?" if close else ""
    return f"No photos at {item}: no such folder or file, nor one of the sets {', '.join(names)}.{hint}"


def _open_folder(folder: str, *, split: str) -> PhotoFiles:
    # Absolute, so that the same file given in two ways is known as one.
    folder = str(Path(folder).absolute())
    paths, left_out = _list_folder(folder, training=split == "train")
    if paths:
        return PhotoFiles.below(folder, paths)
    if left_out:
        names = ", ".join(f"{name}/" for name in sorted(left_out))
        raise UserError(
            f"{folder} has no photos to train on: it holds only {names}, kept for measuring. Put the photos to train "
            "on in train/, or name the very folder to train on."
        )
    raise UserError(f"{folder} holds no photos. Give a folder with files like .jpg, .png or .webp in it.")


def _list_folder(folder: str, *, training: bool) -> tuple[list[str], set[str]]:
    """The photo files to read, and the names of folders that were left out because they are for measuring."""
    inside: list[str] = []
    left_out: set[str] = set()

    def choose(here: str, subfolders: list[str]) -> tuple[bool, list[str]]:
        if _VOC_PHOTOS in subfolders:
            # Only these: the masks beside them are pictures too.
            inside.extend(_list_voc(here, training=training))
            return False, []
        if not training:
            return True, subfolders
        measuring = _MEASURING.intersection(subfolders)
        if "train" in subfolders:
            # Not by this rule again: below train/ a class may have any name.
            inside.extend(walk_photos(f"{here}{os.sep}train"))
            return False, []
        left_out.update(measuring)
        return True, [name for name in subfolders if name not in measuring]

    return walk_photos(folder, choose) + inside, left_out


def _list_voc(folder: str, *, training: bool) -> list[str]:
    """Photos of a VOC folder; for training those of its list `train`, else `trainval`, else all."""
    paths = walk_photos(f"{folder}{os.sep}{_VOC_PHOTOS}")
    lists = [Path(folder, "ImageSets", "Main", name) for name in ("train.txt", "trainval.txt")]
    chosen = next((each for each in lists if each.is_file()), None)
    if not training or chosen is None:
        return paths
    names = {line.split()[0] for line in chosen.read_text().splitlines() if line.strip()}
    return [path for path in paths if Path(path).stem in names]
