"""Weights that have a name: those that come with this package, and published ones.

Published ones are taken from PyTorch's cache, or fetched once where there is internet, and always verified.
"""

import hashlib
import sys
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

import torch

from ssl_colorize.errors import UserError, one_line


@dataclass(frozen=True)
class Release:
    """A published file.

    Attributes:
        url: its address; its name ends, as PyTorch's do, in a dash and the first digits of its SHA-256.
        home: where it is explained, and under which terms it may be used.
    """

    url: str
    home: str

    @property
    def name(self) -> str:
        return self.url.rpartition("/")[2]

    @property
    def digest(self) -> str:
        """The first digits of its SHA-256."""
        return Path(self.name).stem.rpartition("-")[2]


# What colors photos where nothing else was trained or named.
STARTER = "eccv16_starter"
# Files of this package, each beside the card that explains it.
SHIPPED = {STARTER: Path(__file__).parents[1] / "weights" / "eccv16_starter.safetensors"}
RELEASES = {
    "eccv16-release": Release(
        url="https://colorizers.s3.us-east-2.amazonaws.com/colorization_release_v2-9b330a0b.pth",
        home="https://github.com/richzhang/colorization",
    )
}
NAMES = (*SHIPPED, *RELEASES)


def is_release(source: str | Path) -> bool:
    """Whether a source is one of `NAMES`. A file or folder of that name goes first.

    >>> is_release("eccv16_starter"), is_release("eccv17")
    (True, False)
    """
    return str(source) in NAMES and not Path(source).exists()


def checkpoints_folder() -> Path:
    """Where PyTorch keeps weights, whoever fetched them."""
    return Path(torch.hub.get_dir()) / "checkpoints"


def released_file(name: str) -> Path:
    """The file of one of `NAMES`: in this package, or where PyTorch keeps its weights ($TORCH_HOME); maybe fetched.

    Raises:
        UserError: it is not there and cannot be fetched, or it is not the published file.
    """
    if name in SHIPPED:
        return SHIPPED[name]
    release = RELEASES[name]
    path = checkpoints_folder() / release.name
    if not path.is_file():
        _fetch(name, release, path)
    elif not _digest(path).startswith(release.digest):
        raise UserError(
            f"{path} is not the published file of {name} (its SHA-256 does not begin with {release.digest}): delete "
            "it, and it will be fetched anew."
        )
    return path


def _fetch(name: str, release: Release, path: Path) -> None:
    print(f"Fetching {release.url}", file=sys.stderr)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Writes to a file beside it, compares the hash, and only then gives it the name.
        torch.hub.download_url_to_file(release.url, str(path), release.digest, progress=sys.stderr.isatty())
    except (OSError, HTTPException, RuntimeError) as error:
        # RuntimeError is a hash that differs.
        raise UserError(
            f"{name} is not in {path.parent} and could not be fetched ({one_line(error)}): put {release.url} there, or "
            "give the path of a copy."
        ) from None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
