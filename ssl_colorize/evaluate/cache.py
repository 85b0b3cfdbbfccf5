"""Features on disk: one .npy file a layer, there in full or not at all."""

import errno
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple, Self

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from ssl_colorize.data import Photos
from ssl_colorize.errors import UserError

_TEMPORARY = ".part"
# What a killed run left unfinished is in the way of nobody, and goes when nobody can be writing it any more.
_ABANDONED_AFTER = 24 * 3600.0


class Entry(NamedTuple):
    """Where one layer's features belong."""

    layer: str
    numbers: int  # a photo
    key: str

    def file(self, folder: Path) -> Path:
        return folder / f"{self.key}.npy"

    def kept_file(self, folder: Path) -> Path:
        return folder / f"{self.key}.kept.npy"


def key_of(*parts: Any) -> str:
    """A hash of plain values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def photos_key(photos: Photos) -> str:
    """A hash of what the photos are, and of when their files were changed."""
    digest = hashlib.sha256()
    for index in range(len(photos)):
        digest.update(f"{photos.stamp(index)}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def read(folder: Path, entry: Entry) -> tuple[NDArray[np.float32], NDArray[np.int64]] | None:
    """Memory-mapped features (N, numbers) and which photos they are of (N,); None if they are not there in full."""
    try:
        features = np.load(entry.file(folder), mmap_mode="r", allow_pickle=False)
        kept = np.load(entry.kept_file(folder), allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    fits = features.shape == (len(kept), entry.numbers) and features.dtype == np.float32
    return (features, kept) if fits else None


class Writer:
    """Writes the features of several layers, batch by batch. Without `finish` nothing is left.

    Raises:
        UserError: the folder cannot be written, or the disk cannot hold what is to come.
    """

    def __init__(self, folder: Path, entries: Sequence[Entry], *, photos: int) -> None:
        self._folder = folder
        self._entries = {entry.layer: entry for entry in entries}
        self._files: dict[str, IO[bytes]] = {}
        self._rows = dict.fromkeys(self._entries, 0)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _remove_abandoned(folder)
            free = shutil.disk_usage(folder).free
        except OSError as error:
            raise self._failed(error) from None
        need = sum(each.numbers for each in entries) * photos * 4
        self.size = f"{photos:,} photos x {need // (4 * photos):,} numbers x 4 bytes = {in_bytes(need)}"
        if need > free:
            raise UserError(
                f"The features take {self.size}, and {folder} has {in_bytes(free)} free. Name fewer layers, set --limit"
                " lower, give a --cache folder on a larger disk, or do without: --no-cache."
            )

    def __enter__(self) -> Self:
        try:
            for entry in self._entries.values():
                # No reader looks for this name.
                file = tempfile.NamedTemporaryFile(
                    dir=self._folder, prefix=f".{entry.key[:16]}.", suffix=_TEMPORARY, delete=False
                )
                self._files[entry.layer] = file
                _write_header(file, 0, entry.numbers)
        except OSError as error:
            self._remove()
            raise self._failed(error) from None
        return self

    def write(self, layer: str, rows: NDArray[np.float32]) -> None:
        """Append (B, numbers)."""
        try:
            self._files[layer].write(np.ascontiguousarray(rows, dtype="<f4").data)
        except OSError as error:
            raise self._failed(error) from None
        self._rows[layer] += len(rows)

    def finish(self, kept: NDArray[np.int64]) -> None:
        """Put the files in their places."""
        try:
            for layer, entry in self._entries.items():
                file = self._files[layer]
                if self._rows[layer] != len(kept):
                    raise ValueError(f"{layer}: {self._rows[layer]} rows were written for {len(kept)} photos")
                file.seek(0)
                _write_header(file, len(kept), entry.numbers)
                file.flush()
                os.fsync(file.fileno())
                self._put_kept(entry, kept)
                # Last: the features count as there once this name is.
                Path(file.name).replace(entry.file(self._folder))
        except OSError as error:
            raise self._failed(error) from None

    def _put_kept(self, entry: Entry, kept: NDArray[np.int64]) -> None:
        with tempfile.NamedTemporaryFile(dir=self._folder, suffix=_TEMPORARY, delete=False) as file:
            try:
                np.save(file, kept)
                file.flush()
                os.fsync(file.fileno())
                Path(file.name).replace(entry.kept_file(self._folder))
            finally:
                Path(file.name).unlink(missing_ok=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    def _remove(self) -> None:
        for file in self._files.values():
            with suppress(OSError):  # What is still buffered may not fit, and is not wanted either.
                file.close()
            Path(file.name).unlink(missing_ok=True)

    def _failed(self, error: OSError) -> UserError:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        what = "the disk is full" if full else error.strerror or str(error)
        return UserError(
            f"Cannot keep features in {self._folder}: {what}. Give another folder with --cache, or --no-cache."
        )


def _write_header(file: IO[bytes], rows: int, numbers: int) -> None:
    """NumPy leaves room for any number of rows, so that the header can be written again in the same place."""
    npy.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (rows, numbers)})


def _remove_abandoned(folder: Path) -> None:
    for path in folder.glob(f".*{_TEMPORARY}"):
        try:
            if time.time() - path.stat().st_mtime > _ABANDONED_AFTER:
                path.unlink()
        except OSError:  # Another run was faster, or it is not ours.
            continue


def in_bytes(count: int) -> str:
    """12.3 MB, and so on."""
    value, unit = float(count), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:,.0f} {unit}" if unit == "bytes" else f"{value:,.1f} {unit}"
