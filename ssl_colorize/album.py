"""Color many photos into a folder: which photo goes where, and the photos one after the other.

No photo is ever written over: not one that is read, not one that was in the output folder before, and no two photos
share an output. Only pictures that this package made itself are replaced, when the same command runs again.

The settings are here, so torch is imported only where photos are read: `--help` does not wait for it.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image
from pydantic import Field

from ssl_colorize.config import DeviceName, Limit, Settings
from ssl_colorize.errors import UserError, printable
from ssl_colorize.pictures import LONGEST_JPEG, PictureFormat, encode, kept_exif, made_here
from ssl_colorize.runs import write_atomically

if TYPE_CHECKING:
    from ssl_colorize.colorize import Colorizer
    from ssl_colorize.data.reading import Reading


def usual_checkpoint(runs: Path = Path("runs")) -> str:
    """The run folder under `runs` whose weights were written last; where there is none, the network of the package."""
    from ssl_colorize.models.released import STARTER

    found = sorted(runs.glob("*/model.safetensors"), key=lambda file: file.stat().st_mtime)
    return str(found[-1].parent) if found else STARTER


class ColorizeSettings(Settings):
    """Settings of `ssl-colorize colorize`."""

    photos: tuple[str, ...] = Field((), description="files, and folders that are searched to any depth")
    checkpoint: str = Field(
        default_factory=usual_checkpoint,
        description="a run folder, a .safetensors file, the released .pth file, eccv16-release, which is fetched, or "
        "eccv16_starter, which is here; the newest run under runs/, or eccv16_starter, if not given",
    )
    temperature: float | None = Field(
        None, ge=0, description="1 gives pale colors, toward 0 vivid ones; the checkpoint's, usually 0.38, if not given"
    )
    size: int | None = Field(
        None, ge=8, description="short side in pixels of what the network sees; what it was trained at if not given"
    )
    flip: bool = Field(False, description="average over the photo and its mirror image; twice the time")
    compare: bool = Field(False, description="also write NAME-compare.png: gray | color | original")
    format: PictureFormat = Field(
        "png", description="PNG keeps every pixel's lightness exactly; JPEG is smaller and nearly does"
    )
    device: DeviceName = "auto"
    limit: Limit = Field(None, description="color only the first so many photos")


_LONGEST_STEM = 220  # bytes


@dataclass(frozen=True)
class Job:
    """One photo and the file that its colors go to."""

    source: Path
    target: Path

    @property
    def sheet(self) -> Path:
        """Where the comparison sheet goes."""
        return sheet_path(self.target)


@dataclass(frozen=True)
class Colored:
    """One photo done: the pictures, or why there are none."""

    job: Job
    original: Image.Image | None = None
    picture: Image.Image | None = None
    problem: str = ""


def sheet_path(target: Path) -> Path:
    """The comparison sheet beside a colored photo."""
    return target.with_name(f"{target.stem}-compare.png")


class Inputs(list[tuple[Path, Path]]):
    """Photos, each with its path below an output folder; and what was read to find them."""

    reading: Reading


def find_inputs(
    photos: Sequence[str | Path], *, out: Path | None = None, limit: int | None = None, verb: str = "colorize"
) -> Inputs:
    """Every photo once, with its path below an output folder: files by their name, folders with their structure.

    Args:
        photos: files, and folders that are searched to any depth.
        out: the output folder. Where it lies inside an input folder it holds results of an earlier run, which are no
            photos to read.
        limit: only the first so many.
        verb: that is to read them.

    Raises:
        UserError: nothing was named, a path does not exist, or a folder holds no photos.
    """
    from ssl_colorize.data.reading import Part, PassedOver, Reading, joined, pass_over
    from ssl_colorize.data.walk import find_photos

    if not photos:
        raise UserError(f"No photos given: name photos or folders, as in `ssl-colorize {verb} photo.jpg`.")
    found: dict[Path, tuple[Path, Path]] = {}
    readings = []
    for item in photos:
        path, passed, before = Path(item).expanduser(), PassedOver(), len(found)
        if not path.exists():
            raise UserError(f"No photo or folder at {path}: check the path.")
        if not path.is_dir():
            if not path.is_file():
                raise UserError(f"{path} is a pipe, socket or device: write the photo to a file first.")
            found.setdefault(path.resolve(), (path, Path(path.name)))
            readings.append(Reading.of("photos", str(item), Part("photos", len(found) - before)))
            continue
        results = out.resolve() if out is not None and path.resolve() in out.resolve().parents else None
        for source in find_photos(path, passed):
            if results is None or results not in source.resolve().parents:
                found.setdefault(source.resolve(), (source, source.relative_to(path)))
            else:
                pass_over(passed, "output", str(source))
        readings.append(Reading.of("photos", str(item), Part("photos", len(found) - before), passed=passed))
    if not found:
        raise UserError(f"There is nothing to read but what lies in the output folder {out}: choose another --out.")
    inputs = Inputs(list(found.values())[:limit])
    inputs.reading = joined(readings)
    return inputs


def plan(
    inputs: Sequence[tuple[Path, Path]], out: Path, *, kind: PictureFormat = "png", mark: str = "colorized"
) -> list[Job]:
    """Decide which file in `out` every photo of `find_inputs` goes to.

    Where the name is a photo that is read, or a file that was there before and is not our own work, the mark is added
    to it ("-colorized"); where two photos ask for the same name, the later one gets a number.
    """
    sources = {source.resolve() for source, _ in inputs}
    taken: set[str] = set()
    jobs = []
    for source, relative in inputs:
        target = _free(out / relative.with_suffix(f".{kind}"), sources=sources, taken=taken, mark=mark)
        taken |= {_same(target), _same(sheet_path(target))}
        jobs.append(Job(source, target))
    return jobs


def _same(path: Path) -> str:
    """The same for paths that some file systems do not tell apart: of other case, or accents spelled otherwise."""
    return unicodedata.normalize("NFC", str(path)).casefold()


def _free(target: Path, *, sources: set[Path], taken: set[str], mark: str) -> Path:
    # Room for what is added to names, of which file systems take 255 bytes.
    while len(os.fsencode(target.stem)) > _LONGEST_STEM:
        target = target.with_name(f"{target.stem[:-1]}{target.suffix}")

    def protected(path: Path) -> bool:
        return path.resolve() in sources or (path.exists() and not made_here(path))

    if protected(target) or protected(sheet_path(target)):
        target = target.with_name(f"{target.stem}-{mark}{target.suffix}")
    candidate, count = target, 2
    while any(protected(path) or _same(path) in taken for path in (candidate, sheet_path(candidate))):
        candidate = target.with_name(f"{target.stem}-{count}{target.suffix}")
        count += 1
    return candidate


def colorize_all(
    colorizer: Colorizer,
    jobs: Sequence[Job],
    *,
    temperature: float | None = None,
    size: int | None = None,
    flip: bool = False,
    kind: PictureFormat = "png",
) -> Iterator[Colored]:
    """Color and write every photo of a plan, giving each as it is done; unreadable ones carry the reason.

    Raises:
        UserError: a picture cannot be written, or a number is out of range.
    """
    from ssl_colorize.data import UnreadablePhoto, read_photo

    for job in jobs:
        try:
            original = read_photo(job.source)
        except UnreadablePhoto as problem:
            yield Colored(job, problem=str(problem))
            continue
        if kind == "jpg" and max(original.size) > LONGEST_JPEG:
            sides = " x ".join(map(str, original.size))
            yield Colored(
                job, problem=f"{printable(str(job.source))}: {sides} pixels are too long for JPEG; PNG is not"
            )
            continue
        picture = colorizer.colorize(original, temperature, size=size, flip=flip)
        job.target.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(job.target, encode(picture, kind, kept_exif(job.source)))
        yield Colored(job, original, picture)
