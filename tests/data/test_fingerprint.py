"""The fingerprint of a data set: what it depends on, what it says is different, and what stays held out."""

import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ssl_colorize.data import LabeledDataset, open_dataset, open_photos
from ssl_colorize.data.fingerprint import Fingerprint, resumed
from ssl_colorize.errors import UserError


def make(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(path, format="PNG")
    return folder


def of(folder: Path) -> Fingerprint:
    return Fingerprint.of(train=open_photos([str(folder)]))


def test_it_is_the_same_wherever_and_in_whatever_order_photos_are(tmp_path: Path) -> None:
    first = make(tmp_path / "one", "b.png", "a.png", "deep/c.png")
    shutil.copytree(first, tmp_path / "far" / "two")
    photos = open_photos([str(first)])
    assert str(of(first)) == str(of(tmp_path / "far" / "two")) == str(Fingerprint.of(train=photos.take([2, 0, 1])))
    assert str(of(first)).startswith("3-")
    make(first, "d.png")
    assert str(of(first)) != str(of(tmp_path / "far" / "two"))


def test_names_are_compared_as_macos_and_linux_both_spell_them(tmp_path: Path) -> None:
    name = "Caf\u00e9.png"
    composed, decomposed = (make(tmp_path / form, unicodedata.normalize(form, name)) for form in ("NFC", "NFD"))
    assert not of(composed).changes(of(decomposed)) and str(of(composed)) == str(of(decomposed))


def test_what_is_different_is_counted(tmp_path: Path) -> None:
    before = of(make(tmp_path, *(f"{number}.png" for number in range(10))))
    assert before.changes(of(tmp_path)) == ""
    (tmp_path / "3.png").unlink()
    (tmp_path / "4.png").rename(tmp_path / "four.png")
    make(tmp_path, "10.png")
    assert before.changes(of(tmp_path)) == "2 added, 2 removed"


def test_names_that_occur_twice_count_twice(tmp_path: Path) -> None:
    make(tmp_path, "one/a.png", "two/a.png")
    one, both = (
        Fingerprint.of(train=open_photos(items))
        for items in ([str(tmp_path / "one")], [str(tmp_path / "one"), str(tmp_path / "two")])
    )
    assert one.changes(both) == "1 added" and both.changes(one) == "1 removed"


@pytest.mark.parametrize("multilabel", [False, True])
def test_labels_and_classes_count(multilabel: bool) -> None:
    photos = open_photos(["samples"], limit=3)

    def labeled(values: list[int], classes: tuple[str, ...]) -> Fingerprint:
        labels = np.asarray(values)
        return Fingerprint.of(
            train=LabeledDataset(photos, np.eye(2, dtype=np.int8)[labels] if multilabel else labels, classes)
        )

    before = labeled([0, 1, 1], ("cat", "dog"))
    assert before.changes(labeled([1, 0, 0], ("dog", "cat"))) == ""  # the order of the classes says nothing
    assert before.changes(labeled([0, 0, 1], ("cat", "dog"))) == "1 with other labels"
    assert before.changes(labeled([0, 1, 1], ("cat", "wolf"))) == "2 with other labels"


def test_moves_between_parts_are_told_and_equal_names_in_both_are_none(tmp_path: Path) -> None:
    make(tmp_path, *(f"{part}/{kind}/{number}.png" for part in ("train", "test") for kind in "ab" for number in "12"))
    train, test = open_dataset([str(tmp_path)])
    before = Fingerprint.of(fit=train, test=test)
    assert before.changes(before) == ""  # both parts have a photo a/1.png
    make(tmp_path, "train/a/3.png")
    train, test = open_dataset([str(tmp_path)])
    begun = Fingerprint.of(fit=train, test=test)
    (tmp_path / "train/a/3.png").rename(tmp_path / "test/a/3.png")
    train, test = open_dataset([str(tmp_path)])
    assert begun.changes(Fingerprint.of(fit=train, test=test)) == "1 of another part (training, held out, test)"
    assert [test.photos.name(index) for index in begun.apart(test.photos, "test")] == [
        "a/1.png",
        "a/2.png",
        "b/1.png",
        "b/2.png",
    ]
    assert begun.apart(train.photos, "fit") == [0, 1, 2, 3]


def test_what_was_held_out_stays_so_and_what_was_learned_from_is_never_held_out(tmp_path: Path) -> None:
    photos = open_photos([str(make(tmp_path, "a.png", "b.png", "c.png", "d.png"))])
    before = Fingerprint.of(train=photos.take([0, 1]), held_out=photos.take([2]))
    # The rule would now hold out b, which it learned from, and d, which is new.
    assert before.held_out_before(photos, [1, 3], learned="train", kept="held_out") == [2, 3]


def test_resuming() -> None:
    photos = open_photos(["samples"])
    now, fewer = Fingerprint.of(train=photos), Fingerprint.of(train=photos.take(range(6)))
    assert resumed(now.stored(), now, allowed=False) == []
    assert "cannot be told" in resumed(None, now, allowed=False)[0]
    with pytest.raises(UserError, match=r"2 added\. .*--set data_changed=allow"):
        resumed(fewer.stored(), now, allowed=False)
    assert "(2 removed)" in resumed(now.stored(), fewer, allowed=True)[0]
