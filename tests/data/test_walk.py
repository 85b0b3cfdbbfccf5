"""Which files below a folder are photos: links, pipes, hidden files and odd names."""

import os
import socket
from pathlib import Path

import pytest

from ssl_colorize.data import walk
from ssl_colorize.data.reading import PassedOver
from ssl_colorize.data.walk import find_photos, is_photo_name, walk_photos
from ssl_colorize.errors import UserError


def walked(folder: Path) -> tuple[list[str], dict[str, set[str]]]:
    """Photos, and what was passed over by reason, relative to the folder."""
    passed: PassedOver = {}
    found = walk_photos(str(folder), passed=passed)
    return (
        sorted(os.path.relpath(path, folder) for path in found),
        {reason: {os.path.relpath(path, folder) for path in paths} for reason, paths in passed.items()},
    )


@pytest.mark.parametrize(
    "name", ["a.JPG", "a.jpeg", "a.JPE", "a.jfif", "-a.png", "a'b\".png", "a\nb.png", "..a.webp.bmp"]
)
def test_names_of_photos(name: str, tmp_path: Path) -> None:
    assert is_photo_name(name)


def test_odd_names_are_found(tmp_path: Path) -> None:
    names = ["-a.JPG", "a'b\".png", "a\nb.png", "e\u0301.png", "\u00e9.png", "x" * 251 + ".jpg"]
    for name in names:
        (tmp_path / name).touch()
    (Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png"))).touch()
    found, passed = walked(tmp_path)
    assert found == sorted([*names, "\udcff.png"]) and not passed


def test_what_is_no_file_is_passed_over_and_nothing_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.jpg").touch()
    os.mkfifo(tmp_path / "pipe.jpg")
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket.jpg")
    (tmp_path / "device.jpg").symlink_to("/dev/zero")
    found, passed = walked(tmp_path)
    assert found == ["a.jpg"] and passed == {"no file": {"pipe.jpg", "socket.jpg", "device.jpg"}}


def test_links(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    (inside / "sub").mkdir(parents=True)
    outside.mkdir()
    for path in (inside / "b.jpg", inside / "sub" / "c.jpg", outside / "d.jpg"):
        path.write_bytes(path.name.encode())
    (inside / "a.jpg").symlink_to("b.jpg")
    (inside / "hard.jpg").hardlink_to(inside / "sub" / "c.jpg")
    (inside / "far.jpg").symlink_to(outside / "d.jpg")
    (inside / "gone.jpg").symlink_to("nowhere.jpg")
    (inside / "loop.jpg").symlink_to("loop.jpg")
    (inside / "sub" / "up").symlink_to("..")
    found, passed = walked(inside)
    # Of two names of a file the first one.
    assert found == ["a.jpg", "far.jpg", "hard.jpg"]
    assert passed == {"double": {"b.jpg", "sub/c.jpg"}, "broken link": {"gone.jpg", "loop.jpg"}}


@pytest.mark.parametrize("heif", [False, True])
def test_what_systems_and_other_programs_leave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, heif: bool) -> None:
    known = walk.PHOTO_SUFFIXES - walk.HEIF_SUFFIXES
    monkeypatch.setattr(walk, "PHOTO_SUFFIXES", known | walk.HEIF_SUFFIXES if heif else known)
    for name in ("a.jpg", "._a.jpg", ".DS_Store", "Thumbs.db", "desktop.ini", "b.heic", "c.NEF", "d", "e.mp4", "f."):
        (tmp_path / name).touch()
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "g.jpg").touch()
    found, passed = walked(tmp_path)
    heic = {} if heif else {"heic": {"b.heic"}}
    assert found == (["a.jpg", "b.heic"] if heif else ["a.jpg"])
    assert passed == {"hidden": {"._a.jpg"}, "raw": {"c.NEF"}, "no suffix": {"d", "f."}, "other": {"e.mp4"}, **heic}


def test_a_folder_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.jpg", "closed/b.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    scan = os.scandir

    def refusing(path: str) -> object:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", refusing)  # root may read anything
    found, passed = walked(tmp_path)
    assert found == ["a.jpg"] and passed == {"closed": {"closed"}}
    with pytest.raises(UserError, match=r"closed: Permission denied"):
        find_photos(tmp_path / "closed")
