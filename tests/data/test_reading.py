"""The record of what was read: the first line, the JSON, and how records of several items come together."""

from pathlib import Path

import pytest
from PIL import Image

from ssl_colorize.data import announce, open_dataset, open_photos, walk
from ssl_colorize.data.reading import Part, PassedOver, Reading, joined, listening, report
from ssl_colorize.data.sources import leave_out
from ssl_colorize.errors import printable


def make(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(path, format="PNG")
    return folder


def test_the_line_counts_photos_classes_splits_and_what_was_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walk, "PHOTO_SUFFIXES", walk.PHOTO_SUFFIXES - walk.HEIF_SUFFIXES)
    make(tmp_path, *(f"train/{name}/{number}.png" for name in ("cat", "dog") for number in range(3)))
    make(tmp_path, "val/cat/a.png", "val/dog/b.png")
    for name in ("train/cat/x.HEIC", "train/dog/y.heif", "train/dog/z.CR2", "val/cat/notes.txt", "val/dog/bare"):
        (tmp_path / name).write_bytes(b"x")
    train, test = open_dataset([str(tmp_path)])
    reading = announce(train=train, test=test)
    assert reading.line() == (
        f"Read: 8 photos of 2 classes from {tmp_path} (class folders, train/ and val/): 6 train, 2 test; "
        "passed over 5 (2 HEIC: install ssl-colorize[heif]; 1 RAW: develop them to .jpg or .png; "
        "1 without a suffix: name them .jpg, .png, ...; 1 not a photo by its name)"
    )
    record = reading.record()
    assert record["splits"] == {"train": 6, "test": 2} and record["photos"] == 8 and record["classes"] == 2
    source = record["sources"][0]
    assert source["splits"] == {
        "train": {"photos": 6, "from": ["train/"]},
        "test": {"photos": 2, "from": ["val/"]},
    }
    assert source["classes"] == ["cat", "dog"]
    assert source["passed_over"]["raw"] == {"count": 1, "examples": [str(tmp_path / "train/dog/z.CR2")]}


def test_a_held_out_fifth_and_limits_are_said(tmp_path: Path) -> None:
    make(tmp_path, *(f"{name}/{number}.png" for name in ("cat", "dog") for number in range(5)))
    train, test = open_dataset([str(tmp_path)], limit=4)
    line = announce(train=train, test=test).line()
    assert "6 of 10 photos of 2 classes" in line and "a fifth held out to test" in line
    assert line.endswith(": 4 train, 2 test")


def test_items_are_joined_and_nothing_counts_twice(tmp_path: Path) -> None:
    make(tmp_path, "one/a.png", "two/b.png", "two/c.png", "two/val/d.png")
    photos = open_photos([str(tmp_path / "one"), str(tmp_path / "two")])
    reading = announce(photos=photos)
    assert reading.record()["passed_over"] == {"measuring": 1}
    assert [source.path for source in reading.sources] == [str(tmp_path / "one"), str(tmp_path / "two")]
    assert joined([reading, reading, photos.reading]).record()["passed_over"] == {"measuring": 1}
    assert "3 photos from" in reading.line()


def test_excluded_photos_are_counted_where_they_were(tmp_path: Path) -> None:
    make(tmp_path / "set", "a.png", "b.png", "c.png")
    (tmp_path / "out.txt").write_text("a.png\nc.png\n")
    left = leave_out(open_photos([str(tmp_path / "set")]), tmp_path / "out.txt")
    assert announce(photos=left).line() == (
        f"Read: 1 of 3 photos from {tmp_path / 'set'} (photos); passed over 2 (2 in the exclude list); findings follow"
    )


def test_samples_are_counted_as_photos_and_as_regions() -> None:
    photos = open_photos(["samples"])
    train, held = photos.holdout(0.1, most=50)
    line = announce(train=train.with_reading(photos.reading), held_out=held).line()
    assert line == f"Read: {len(photos)} photos from samples, in regions: {len(train)} train, {len(held)} held out"


def test_findings_are_not_told_twice() -> None:
    train = Reading.of("VOC", "V", Part("train", 2))
    both = joined([Reading(train.sources, ("one box clipped",))] * 2)
    assert both.findings == ("one box clipped",) and both.line().endswith("findings follow")


def test_names_of_any_bytes_are_one_printable_line() -> None:
    assert printable("a\nb\t\x1b[31m\udcffé.jpg") == "a\\nb\\t\\x1b[31m\\xffé.jpg"
    reading = Reading.of("photos", "\n\udcfe", Part("photos", 1), passed={"hidden": {"\x00"}})
    assert reading.line().encode() and "\n" not in reading.line()
    assert reading.record()["sources"][0]["passed_over"]["hidden"]["examples"] == ["\\x00"]


def test_a_listener_hears_what_is_read_and_what_turns_out_unreadable() -> None:
    class Heard:
        def __init__(self) -> None:
            self.lines: list[str] = []
            self.passed = PassedOver()

        def hear(self, reading: Reading) -> None:
            self.lines.append(reading.line())

        def pass_over(self, reason: str, names: object) -> None:
            assert isinstance(names, list)
            self.passed.setdefault(reason, set()).update(names)

    heard = Heard()
    photos = open_photos(["samples"])
    with listening(heard):
        announce(photos=photos)
        report("unreadable", ["a"])
    announce(photos=photos)
    assert heard.lines == [f"Read: {len(photos)} photos from samples"] and heard.passed == {"unreadable": {"a"}}
