"""Run folders, and files that are never half there."""

import errno
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from ssl_colorize import runs
from ssl_colorize.config import Settings
from ssl_colorize.errors import UserError
from ssl_colorize.runs import git_revision, run_folder, versions, write_atomically, write_config, write_metrics

resource = pytest.importorskip("resource", reason="file size limits are POSIX")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def small_files_only() -> Iterator[None]:
    """No file may grow beyond 50 kB: to the writer it looks like a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_run_folder_is_made_and_named_by_verb_and_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first, second = run_folder(None, "pretrain"), run_folder(None, "pretrain")
    assert first != second and first.is_dir() and second.is_dir()
    assert first.parent == Path("runs") and first.name.startswith("pretrain-2")
    assert run_folder("deep/er", "x") == Path("deep/er") == run_folder("deep/er", "x")


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError, match=r"Cannot write the run folder .*--out"):
            run_folder(out, "pretrain")


def test_bytes_text_and_writers(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_atomically(path, "grüße")
    assert path.read_bytes() == "grüße".encode()
    write_atomically(path, b"\x00\xff")
    assert path.read_bytes() == b"\x00\xff"
    write_atomically(path, lambda target: target.write_text("by itself") and None)
    assert path.read_text() == "by itself"
    assert names(tmp_path) == ["a.txt"]


def test_files_get_the_usual_permissions(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_atomically(tmp_path / "a", "x")
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, small_files_only: None) -> None:
    path = tmp_path / "a"
    write_atomically(path, b"old")
    with pytest.raises(UserError, match=r"Cannot write .*: File too large\. What was there before is untouched"):
        write_atomically(path, bytes(60_000))
    assert path.read_bytes() == b"old" and names(tmp_path) == ["a"]


@pytest.mark.parametrize("step", ["replace", "fsync"])
def test_a_disk_that_fills_up_at_the_end_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "a"
    write_atomically(path, b"old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(runs.os, step, full)
    with pytest.raises(UserError, match="No space left on device"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old" and names(tmp_path) == ["a"]


def test_a_writer_that_fails_leaves_the_old_file_and_its_own_error(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_atomically(path, b"old")

    def half(target: Path) -> None:
        target.write_bytes(b"ne")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, half)
    assert path.read_bytes() == b"old" and names(tmp_path) == ["a"]


def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file or directory"):
        write_atomically(tmp_path / "none" / "a", b"")


class Example(Settings):
    data: tuple[str, ...] = ("x", "y")
    rate: float = 1e-5
    limit: int | None = None


def test_the_written_configuration_reads_back(tmp_path: Path) -> None:
    settings = Example(rate=3e-7)
    write_config(tmp_path, settings)
    assert Example.resolve(file=tmp_path / "config.yaml") == settings
    assert list(yaml.safe_load((tmp_path / "config.yaml").read_text())) == ["data", "rate", "limit"]


def test_metrics_have_the_agreed_shape_and_are_json(tmp_path: Path) -> None:
    metrics = {"loss": 1.5, "kl": float("nan"), "per_layer": {"conv1": float("inf"), "conv2": [0.5]}}
    content = write_metrics(tmp_path, command="c", metrics=metrics, config={"a": 1}, seed=3, seconds=1.23456)

    def no_constants(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    assert content == json.loads((tmp_path / "metrics.json").read_text(), parse_constant=no_constants)
    assert list(content) == ["command", "metrics", "config", "seed", "versions", "git", "seconds"]
    assert content["metrics"] == {"loss": 1.5, "kl": None, "per_layer": {"conv1": None, "conv2": [0.5]}}
    assert (content["seed"], content["seconds"]) == (3, 1.235)
    assert {"python", "torch", "ssl-colorize"} <= set(content["versions"]) == set(versions())


def test_the_revision_is_the_checkouts_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # An installed copy inside somebody's repository: no pyproject.toml beside the package.
    package = tmp_path / "site-packages" / "ssl_colorize"
    package.mkdir(parents=True)
    run = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*run, "init", "-q", str(tmp_path)], check=True)
    subprocess.run([*run, "-C", str(tmp_path), "commit", "-q", "--allow-empty", "-m", "theirs"], check=True)
    monkeypatch.setattr(runs, "__file__", str(package / "runs.py"))
    assert git_revision() is None

    (package.parent / "pyproject.toml").touch()
    revision = git_revision()
    assert revision is not None and len(revision.removesuffix("-dirty")) == 12
    # A tag is not a revision.
    subprocess.run([*run, "-C", str(tmp_path), "tag", "-a", "v1", "-m", "x"], check=True)
    assert git_revision() == revision


def test_without_git_there_is_no_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert git_revision() is None
