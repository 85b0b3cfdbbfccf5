"""The folder that every run writes, and files that are never half there."""

import json
import math
import os
import platform
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

from ssl_colorize.config import Settings
from ssl_colorize.errors import UserError

PACKAGES = (
    "ssl-colorize", "torch", "torchvision", "torchmetrics", "pycocotools", "timm", "numpy", "scikit-learn", "pillow",
)  # fmt: skip


def run_folder(out: str | Path | None, verb: str) -> Path:
    """Create and return the run's folder: `out`, or `runs/<verb>-<time>`.

    Raises:
        UserError: the folder cannot be made.
    """
    folder = Path(out) if out is not None else _fresh(Path("runs") / f"{verb}-{time.strftime('%Y%m%d-%H%M%S')}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"Cannot write the run folder {folder}: {error.strerror}. Choose another with --out.") from None
    return folder


def _fresh(folder: Path) -> Path:
    """Two runs started in the same second get two folders."""
    candidate, count = folder, 2
    while candidate.exists():
        candidate, count = folder.with_name(f"{folder.name}-{count}"), count + 1
    return candidate


def write_atomically(path: Path, content: bytes | str | Callable[[Path], None]) -> None:
    """Write a file so that a crash leaves the old one or the new one, never a part.

    `content` is the bytes, the text, or a function that writes to the path it is given. Names of files that are no
    UTF-8 are written with escapes.

    Raises:
        UserError: the disk is full or the folder cannot be written; the old file is untouched.
    """
    temporary: Path | None = None
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:50]}.", suffix=path.suffix)
        os.close(handle)
        temporary = Path(name)
        if callable(content):
            content(temporary)
        else:
            temporary.write_bytes(content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content)
        # Temporary files are private; a run folder is as readable as any other file of its owner.
        temporary.chmod(0o666 & ~_umask())
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"Cannot write {path}: {reason}. What was there before is untouched.") from None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_config(folder: Path, settings: Settings) -> None:
    """Write the resolved settings as `config.yaml`, which `--config` reads back."""
    write_atomically(folder / "config.yaml", yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False))


def write_metrics(
    folder: Path,
    *,
    command: str,
    metrics: Mapping[str, Any],
    config: Mapping[str, Any],
    seed: int | None,
    seconds: float,
    read: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write `metrics.json`: final figures, and what it takes to make them again. Returns its content.

    `read` is the record of the photos they are of (`data.reading`).
    """
    content = {
        "command": command,
        "metrics": _finite(metrics),
        **({} if read is None else {"read": dict(read)}),
        "config": dict(config),
        "seed": seed,
        "versions": versions(),
        "git": git_revision(),
        "seconds": round(seconds, 3),
    }
    write_atomically(folder / "metrics.json", json.dumps(content, indent=2) + "\n")
    return content


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that figures depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def git_revision() -> str | None:
    """The revision of the checkout that the package runs from, "-dirty" if changed; None outside a checkout."""
    here = Path(__file__).resolve().parent
    # An installed copy inside somebody else's repository must not report that repository's revision.
    if not (here.parent / "pyproject.toml").is_file():
        return None
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            cwd=here,
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def _finite(value: Any) -> Any:
    """JSON has no NaN; a figure that does not exist is null."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
