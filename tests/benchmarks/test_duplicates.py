"""Copies that a person would call the same photo are found, and photos that are only alike are not."""

from pathlib import Path

import pytest

pytest.importorskip("imagehash")

import duplicates
from click.testing import CliRunner
from PIL import Image, ImageOps

from ssl_colorize.data import open_photos


@pytest.fixture
def sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Training photos of which some are copies of those to test on: smaller, compressed, mirrored, lighter."""
    monkeypatch.chdir(tmp_path)
    photos = open_photos(["samples"], split="all")
    found = {photos.name(index).split(".")[0]: photos[index] for index in range(len(photos))}
    one, two, three, *others = (found[name] for name in sorted(found))
    for folder in ("train", "test"):
        (tmp_path / folder).mkdir()
    for index, photo in enumerate((one, two, three)):
        photo.save(tmp_path / "test" / f"{index}.png")
    one.resize((64, 64)).save(tmp_path / "train" / "small.jpg", quality=60)
    ImageOps.mirror(two).save(tmp_path / "train" / "mirrored.png")
    three.point(lambda value: min(255, value + 20)).save(tmp_path / "train" / "lighter.png")
    for index, photo in enumerate(others):
        photo.save(tmp_path / "train" / f"other{index}.png")
    # As plain as each other, and no copies.
    for folder, upside in (("train", False), ("test", True)):
        sky = Image.linear_gradient("L").convert("RGB")
        (ImageOps.flip(sky) if upside else sky).save(tmp_path / folder / "sky.png")
    return tmp_path


def test_copies_are_found_and_nothing_else(sets: Path) -> None:
    arguments = ["find", "--train", "train", "--against", "test", "-o", "found.txt", "--tested", "tested.txt"]
    result = CliRunner().invoke(duplicates.main, arguments)
    assert result.exit_code == 0, result.output
    assert sorted((sets / "tested.txt").read_text().split()) == ["0.png", "1.png", "2.png"]
    assert sorted((sets / "found.txt").read_text().split()) == ["lighter.png", "mirrored.png", "small.jpg"]
    assert (sets / "found.png").is_file() and "3 of" in result.output


def test_nothing_found_is_an_empty_list(sets: Path) -> None:
    arguments = ["find", "--train", "train", "--against", "test/sky.png", "--correlation", "0.99", "-o", "found.txt"]
    assert CliRunner().invoke(duplicates.main, arguments).exit_code == 0
    assert (sets / "found.txt").read_text() == "" and not (sets / "found.png").exists()
