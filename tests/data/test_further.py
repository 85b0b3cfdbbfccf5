"""Further test sets: which part of a folder they are, and how their classes are those that are trained on."""

from pathlib import Path

import pytest
from annotated_sets import photo, voc_boxes

from ssl_colorize.data import LabeledDataset, open_dataset
from ssl_colorize.data.further import open_further
from ssl_colorize.errors import UserError


def folder(root: Path, *places: str, count: int = 3) -> Path:
    for place in places:
        for number in range(count):
            photo(root / place / f"{number}.png")
    return root


@pytest.fixture
def train(tmp_path: Path) -> LabeledDataset:
    folder(tmp_path / "pets", "cat", "dog", "owl", count=5)
    return open_dataset([str(tmp_path / "pets")])[0]


def names(found: LabeledDataset) -> list[str]:
    return [found.photos.name(index) for index in range(len(found))]


def test_all_of_a_folder_without_splits(train: LabeledDataset, tmp_path: Path) -> None:
    folder(tmp_path / "drawn", "owl", "cat", "bat")
    found = open_further("drawn", str(tmp_path / "drawn"), train)
    assert found.classes == ("cat", "dog", "owl") and found.labels.tolist() == [0, 0, 0, 2, 2, 2]
    assert names(found)[::3] == ["cat/0.png", "owl/0.png"]
    assert found.reading.findings == (
        "drawn: left out 1 that are no classes of the training photos: bat",
        "drawn: no photos of 1 of the 3 classes: dog",
    )


@pytest.mark.parametrize(
    ("places", "read"),
    [
        (("train/cat", "val/cat", "test/cat"), "test/"),
        (("train/cat", "val/cat"), "val/"),
        (("train/cat",), "train/"),
        (("pack/train/cat", "pack/validation/cat"), "pack/validation/"),
        (("cat",), ""),
    ],
)
def test_of_splits_the_one_that_tests_is_read_and_said(
    train: LabeledDataset, places: tuple[str, ...], read: str, tmp_path: Path
) -> None:
    found = open_further("more", str(folder(tmp_path / "more", *places)), train)
    assert len(found) == 3 and set(found.labels) == {0}
    (part,) = found.reading.sources[0].parts
    assert part.split == "more" and part.places == ((read,) if read else ())


def test_voc_is_over_the_classes_trained_on(tmp_path: Path) -> None:
    box = (1, 1, 9, 9)
    one = {"train": {"a": [("cat", *box)], "b": [("dog", *box)]}, "val": {"c": [("cat", *box)]}}
    other = {"train": {"x": [("dog", *box)]}, "val": {"y": [("dog", *box)], "z": [("person", *box)]}}
    train, _ = open_dataset([str(voc_boxes(tmp_path / "one", one))])
    found = open_further("other", str(voc_boxes(tmp_path / "other", other)), train)
    assert [name for name in found.classes if found.counts()[found.classes.index(name)]] == ["dog"]
    assert len(found) == 2 and any("cat" in line for line in found.reading.findings)
    with pytest.raises(UserError, match="several labels a photo, and this has one label"):
        open_further("pets", str(folder(tmp_path / "pets", "cat")), train)


def test_mistakes_are_one_line(train: LabeledDataset, tmp_path: Path) -> None:
    folder(tmp_path / "cars", "red", "blue")
    for item, said in (
        ("nowhere", "no such folder"),
        ("cars", "none of the classes that are trained on .*its folders are blue, red"),
        ("pets", "of its photos are trained on"),
    ):
        with pytest.raises(UserError, match=said) as caught:
            open_further("more", str(tmp_path / item), train)
        assert str(caught.value).startswith("--also more=") and "\n" not in str(caught.value)
