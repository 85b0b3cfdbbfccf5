"""The photo files below a folder, by their names; what is passed over is noted, with the reason."""

import os
import stat
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from ssl_colorize.data.reading import PassedOver, pass_over
from ssl_colorize.errors import UserError

HEIF_SUFFIXES = frozenset((".heic", ".heif", ".hif"))
PHOTO_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".jp2", ".j2k", ".png", ".webp", ".avif", ".gif", ".bmp", ".dib")
).union((".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm"), HEIF_SUFFIXES if find_spec("pillow_heif") else ())
RAW_SUFFIXES = frozenset(
    (".arw", ".cr2", ".cr3", ".crw", ".dng", ".erf", ".iiq", ".kdc", ".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf")
).union((".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f"))
# Folders that systems and their programs make beside people's photos; so are those that begin with a dot.
_HIDDEN_FOLDERS = frozenset(
    ("__macosx", "@eadir", "#recycle", "$recycle.bin", "lost+found", "system volume information", "__pycache__")
)
# Files that systems leave in folders of photos by themselves: nobody misses them.
_SYSTEM = frozenset(("thumbs.db", "ehthumbs.db", "desktop.ini"))

# A folder and the names of its subfolders -> whether to take its photos, and which subfolders to read.
Choose = Callable[[str, list[str]], tuple[bool, list[str]]]


def find_photos(folder: Path, passed: PassedOver | None = None) -> list[Path]:
    """List the photo files below a folder, at any depth, sorted by path. Hidden files and folders are skipped.

    Raises:
        UserError: the folder does not exist, cannot be read, or holds no photo.
    """
    found = sorted(walk_photos(str(folder), passed=passed))
    if not found:
        raise UserError(f"{folder} holds no photos. Give a folder with files like .jpg, .png or .webp in it.")
    return [Path(path) for path in found]


def walk_photos(folder: str, choose: Choose | None = None, passed: PassedOver | None = None) -> list[str]:
    """Paths of all photo files below a folder, in no order; every folder is read once, so that links cannot loop.

    `choose(folder, names of its subfolders)` answers whether to take the photos right inside the folder, and which of
    its subfolders to read; all by default. A file that is there under two names, by links, is taken once.

    Args:
        passed: gets the paths of what is passed over, by reason.

    Raises:
        UserError: the folder does not exist or cannot be read; folders below it that cannot be read are passed over.
    """
    found: dict[str, tuple[int, int]] = {}
    waiting = [folder]
    seen: set[tuple[int, int]] = set()
    while waiting:
        here = waiting.pop()
        try:
            photos, subfolders, left = _list_folder(here, seen)
        except OSError as error:
            if here == folder:
                raise UserError(f"Cannot read the folder {folder}: {error.strerror}. Check the path.") from None
            pass_over(passed, "closed", here)
            continue
        take, subfolders = choose(here, subfolders) if choose is not None else (True, subfolders)
        if take:
            found.update(photos)
            for path, reason in left:
                pass_over(passed, reason, path)
        waiting += [f"{here.rstrip(os.sep)}{os.sep}{name}" for name in subfolders]
    return _without_doubles(found, passed)


def _list_folder(
    folder: str, seen: set[tuple[int, int]]
) -> tuple[list[tuple[str, tuple[int, int]]], list[str], list[tuple[str, str]]]:
    """What is right inside a folder; nothing if it was `seen`.

    Returns:
        Paths of photos with device and inode; names of subfolders, sorted; paths of what is passed over, with reasons.
    """
    photos: list[tuple[str, tuple[int, int]]] = []
    subfolders, left = [], []
    status = os.stat(folder)  # noqa: PTH116 - strings all the way: a Path a file costs more than the listing
    if (status.st_dev, status.st_ino) in seen:
        return [], [], []
    seen.add((status.st_dev, status.st_ino))
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                if entry.is_dir():
                    if not is_hidden_folder(entry.name):
                        subfolders.append(entry.name)
                    continue
                reason = _reason_by_name(entry.name)
                if not reason:
                    status = entry.stat()
                    if stat.S_ISREG(status.st_mode):
                        photos.append((entry.path, (status.st_dev, status.st_ino)))
                        continue
                    reason = "no file"
            except OSError as error:
                reason = "closed" if isinstance(error, PermissionError) else "broken link"
            if reason != "system":
                left.append((entry.path, reason))
    return photos, sorted(subfolders), left


def _reason_by_name(name: str) -> str:
    """Why a file is not taken, of REASONS; "" for a photo's name, "system" for what is not worth a word."""
    if name.startswith("."):
        return "hidden" if is_photo_name(name) else "system"
    if is_photo_name(name):
        return ""
    suffix = Path(name).suffix.lower()
    if suffix in HEIF_SUFFIXES:
        return "heic"
    if suffix in RAW_SUFFIXES:
        return "raw"
    return "system" if name.lower() in _SYSTEM else "other" if suffix else "no suffix"


def _without_doubles(found: dict[str, tuple[int, int]], passed: PassedOver | None) -> list[str]:
    """Of paths to the same file the first one, by name. Names are what splits go by: two would be in both."""
    first: dict[tuple[int, int], str] = {}
    paths = []
    for path in sorted(found):
        # Windows tells no inode without opening each file.
        if found[path][1] and first.setdefault(found[path], path) != path:
            pass_over(passed, "double", path)
        else:
            paths.append(path)
    return paths


def subfolders(folder: str | Path) -> list[str]:
    """Names of the folders right inside a folder, sorted, without those that people do not see.

    Raises:
        UserError: the folder does not exist or cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            return sorted(each.name for each in entries if each.is_dir() and not is_hidden_folder(each.name))
    except OSError as error:
        raise UserError(f"Cannot read the folder {folder}: {error.strerror}. Check the path.") from None


def is_hidden_folder(name: str) -> bool:
    """Whether a folder is one that people do not see, or did not make: never a class, never read.

    >>> [is_hidden_folder(name) for name in (".thumbnails", "__MACOSX", "@eaDir", "cat")]
    [True, True, True, False]
    """
    return name.startswith(".") or name.lower() in _HIDDEN_FOLDERS


def is_photo_name(name: str) -> bool:
    """Whether a file name ends like a photo's, in upper or lower case."""
    _, dot, suffix = name.rpartition(".")
    return dot + suffix.lower() in PHOTO_SUFFIXES
