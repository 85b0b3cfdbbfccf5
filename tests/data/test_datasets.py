"""Labels stay with their photos, test photos are the same every time, and what is missing is told in one line."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchvision.datasets
from PIL import Image

from ssl_colorize.data import LabeledDataset, open_dataset
from ssl_colorize.data.photos import PhotoFiles
from ssl_colorize.errors import UserError


def make(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(path, format="PNG")
    return root


def class_folder(root: Path, **counts: int) -> Path:
    return make(root, *(f"{name}/{number:03}.png" for name, count in counts.items() for number in range(count)))


def told(part: LabeledDataset) -> list[tuple[str, str]]:
    """(name, class) of every photo."""
    return [(part.photos.name(i), part.classes[label]) for i, label in enumerate(part.labels)]


# --- class folders ---------------------------------------------------------------------------------------------------


def test_folders_name_the_classes_at_any_depth(tmp_path: Path) -> None:
    # "a b" sorts before "a/" as a path and after "a" as a name.
    make(tmp_path / "train", "a/deep/er/1.png", "a/2.png", "a b/3.png", "c/4.png")
    make(tmp_path / "val", "c/9.png", "a/8.png")
    train, test = open_dataset([str(tmp_path)])
    assert train.classes == test.classes == ("a", "a b", "c")
    assert told(train) == [("a/2.png", "a"), ("a/deep/er/1.png", "a"), ("a b/3.png", "a b"), ("c/4.png", "c")]
    assert told(test) == [("a/8.png", "a"), ("c/9.png", "c")]
    assert train.labels.dtype == np.int64
    assert not train.multilabel


def test_taking_keeps_labels_with_their_photos(tmp_path: Path) -> None:
    train, _ = open_dataset([str(class_folder(tmp_path, a=5, b=5))])
    for name, label in told(train.take([6, 0, 3, 0])):
        assert name.split("/")[0] == label


def test_a_fifth_of_each_class_tests_where_there_is_no_split(tmp_path: Path) -> None:
    whole = class_folder(tmp_path / "here", a=10, b=25, single=1, pair=2)
    train, test = open_dataset([str(whole)])
    assert dict(zip(test.classes, test.counts(), strict=True)) == {"a": 2, "b": 5, "pair": 1, "single": 0}
    assert dict(zip(train.classes, train.counts(), strict=True)) == {"a": 8, "b": 20, "pair": 1, "single": 1}
    assert len({*told(train), *told(test)}) == 38
    # Wherever it is stored, and when all of it is in train/.
    class_folder(tmp_path / "there" / "train", a=10, b=25, single=1, pair=2)
    again_train, again_test = open_dataset([str(tmp_path / "there")])
    assert told(again_train) == told(train)
    assert told(again_test) == told(test)


@pytest.mark.parametrize("labeled", ["test", "val"])
def test_of_val_and_test_the_labeled_one_is_read(tmp_path: Path, labeled: str) -> None:
    class_folder(tmp_path / "train", a=2, b=2)
    class_folder(tmp_path / "val", a=3, b=3)
    class_folder(tmp_path / "test", **({"a": 1, "b": 1} if labeled == "test" else {"images": 9}))
    _, test = open_dataset([str(tmp_path)])
    assert len(test) == (2 if labeled == "test" else 6)


def test_several_folders_are_one_set_over_all_classes(tmp_path: Path) -> None:
    first = class_folder(tmp_path / "1", b=5, d=5)
    second = class_folder(tmp_path / "2", a=5, d=10)
    train, test = open_dataset([str(first), str(second)])
    assert train.classes == ("a", "b", "d")
    assert train.counts().tolist() == [4, 4, 12]
    assert all(name.split("/")[0] == label for name, label in told(train) + told(test))


def problem(*data: object, limit: int | None = None) -> str:
    with pytest.raises(UserError) as caught:
        open_dataset([str(item) for item in data], limit=limit)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_what_is_missing_is_told_in_one_line(tmp_path: Path) -> None:
    assert "no labels" in problem(make(tmp_path / "flat", "1.png", "2.png"))
    assert "1 class (only)" in problem(class_folder(tmp_path / "one", only=9))
    (tmp_path / "empty").mkdir()
    assert "no photos" in problem(tmp_path / "empty")
    assert "cifar10" in problem(tmp_path / "absent")
    assert "no train/" in problem(class_folder(tmp_path / "half" / "val", a=2, b=2).parent)
    assert "second photo" in problem(class_folder(tmp_path / "thin", a=1, b=1))
    assert "--data" in problem()
    twice = class_folder(tmp_path / "twice", a=5, b=5)
    assert "two of the --data items" in problem(twice, twice)


def test_a_class_of_the_test_part_alone_is_named(tmp_path: Path) -> None:
    class_folder(tmp_path / "train", cat=2, dog=2, unseen=2)
    class_folder(tmp_path / "val", cat=2, emu=2, yak=1)
    assert "none to train on of emu, yak." in problem(tmp_path)
    (tmp_path / "train" / "emu").mkdir()
    assert "emu" in problem(tmp_path)


# --- limit -----------------------------------------------------------------------------------------------------------


def test_limit_keeps_proportions_and_every_class(tmp_path: Path) -> None:
    class_folder(tmp_path / "train", big=60, small=20, tiny=1)
    class_folder(tmp_path / "val", big=20, small=20, tiny=20)
    train, test = open_dataset([str(tmp_path)], limit=20)
    assert train.counts().tolist() == [14, 5, 1]
    assert len(test) == 5
    assert (test.counts() >= 1).all()
    assert told(open_dataset([str(tmp_path)], limit=20)[0]) == told(train)
    assert {*told(train)} <= {*told(open_dataset([str(tmp_path)], limit=40)[0])}
    assert len(open_dataset([str(tmp_path)], limit=1000)[0]) == 81
    # Less than one a class cannot be.
    assert open_dataset([str(tmp_path)], limit=3)[1].counts().tolist() == [1, 1, 1]
    assert "--limit 2 is fewer than the 3 classes" in problem(tmp_path, limit=2)


# --- VOC -------------------------------------------------------------------------------------------------------------


def voc(root: Path, lists: dict[str, dict[str, Sequence[str]]]) -> Path:
    """`lists`: list -> photo -> objects; a "?" after an object marks it difficult."""
    for name, photos in lists.items():
        main = root / "ImageSets" / "Main"
        main.mkdir(parents=True, exist_ok=True)
        (main / f"{name}.txt").write_text("".join(f"{photo}\n" for photo in photos))
        for photo, objects in photos.items():
            make(root, f"JPEGImages/{photo}.jpg")
            described = "".join(
                f"<object><name>{each.rstrip('?')}</name><difficult>{int('?' in each)}</difficult></object>"
                for each in objects
            )
            (root / "Annotations").mkdir(exist_ok=True)
            (root / "Annotations" / f"{photo}.xml").write_text(f"<annotation>{described}</annotation>")
    return root


TRAIN = {"p2": ["cat", "cat?"], "p1": ["dog?", "person"], "p3": ["dog", "cat?"]}
VAL = {"p4": ["dog", "person?", "person?"], "p5": []}


def test_voc_is_multi_label_and_difficult_objects_alone_do_not_count(tmp_path: Path) -> None:
    train, test = open_dataset([str(voc(tmp_path, {"train": TRAIN, "val": VAL}))])
    assert train.multilabel
    assert train.classes == test.classes == ("cat", "dog", "person")
    assert [train.photos.name(i) for i in range(3)] == [f"JPEGImages/p{i}.jpg" for i in (1, 2, 3)]
    assert train.labels.tolist() == [[0, -1, 1], [1, 0, 0], [-1, 1, 0]]
    assert test.labels.tolist() == [[0, 1, -1], [0, 0, 0]]
    assert train.labels.dtype == np.int8
    assert train.counts().tolist() == [1, 1, 1]


def test_voc_with_a_test_list_trains_on_trainval(tmp_path: Path) -> None:
    later = {"p8": ["cat"], "p9": ["dog"]}
    voc(tmp_path / "VOC2007", {"train": TRAIN, "val": VAL, "trainval": {**TRAIN, **VAL}, "test": later})
    train, test = open_dataset([str(tmp_path)])  # the folder above it
    assert (len(train), len(test)) == (5, 2)


def test_voc_that_is_damaged_is_read_without_the_photo(tmp_path: Path) -> None:
    folder = voc(tmp_path, {"train": {**TRAIN, "p6": ["dog"], "p7": []}, "val": VAL})
    (folder / "Annotations" / "p3.xml").write_text("<annotation><object>")
    (folder / "Annotations" / "p7.xml").unlink()
    train, test = open_dataset([str(folder)])
    assert train.labels.tolist() == [[0, -1, 1], [1, 0, 0], [0, 1, 0]] and len(test) == 2
    assert [each.kind for each in train.findings] == ["left out", "left out"]
    assert train.findings[1].text == "Annotations/p7.xml: No such file or directory"
    assert train.reading.findings[0].startswith("Photos to train on: 2 photos left out: Annotations/p3.xml")


def test_voc_that_is_damaged_names_the_file(tmp_path: Path) -> None:
    folder = voc(tmp_path, {"train": TRAIN, "val": VAL})
    (folder / "JPEGImages" / "p4.jpg").unlink()
    voc(folder, {"train": TRAIN})
    assert "p4" in problem(folder)
    (folder / "ImageSets" / "Main" / "val.txt").unlink()
    assert "val.txt" in problem(folder)


def test_voc_class_of_the_test_part_alone_is_named(tmp_path: Path) -> None:
    folder = voc(tmp_path, {"train": {**TRAIN, "p6": ["emu?"]}, "val": {**VAL, "p7": ["emu"]}})
    assert "none to train on of emu." in problem(folder)


def test_voc_limit_keeps_a_photo_of_every_class(tmp_path: Path) -> None:
    many = {f"t{i:02}": ["person"] for i in range(30)} | {"t30": ["cat"], "t31": ["dog", "cat"]}
    train, test = open_dataset([str(voc(tmp_path, {"train": many, "val": {"v0": ["cat"], "v1": ["dog"]}}))], limit=4)
    assert len(train) == 4
    assert (train.counts() >= 1).all()
    assert len(test) == 2


# --- torchvision -----------------------------------------------------------------------------------------------------


class Items:
    """Takes the place of a torchvision class whose photos come decoded."""

    def __init__(self, root: str, *, download: bool, train: bool = True, split: str = "") -> None:
        assert split in ("", "train", "test")
        count = 6 if train and split != "test" else 4
        labels = [i % 3 for i in range(count)]
        self.__dict__["labels" if split else "targets"] = np.array(labels) if split else labels
        self.classes = ["zebra", "ant", "bee"]
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.new("RGB", (4, 4), (index, 0, 0)), index % 3


@pytest.mark.parametrize(("name", "made"), [("cifar10", "CIFAR10"), ("stl10", "STL10")])
def test_torchvision_items_keep_their_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, made: str
) -> None:
    monkeypatch.setattr(torchvision.datasets, made, Items)
    train, test = open_dataset([name], root=tmp_path)
    assert train.classes == ("zebra", "ant", "bee")
    assert train.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert test.labels.tolist() == [0, 1, 2, 0]
    assert train.photos[4].getpixel((0, 0)) == (4, 0, 0)
    assert not {train.photos.stamp(i) for i in range(6)} & {test.photos.stamp(i) for i in range(4)}


def test_torchvision_files_keep_their_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Listed:
        def __init__(self, root: str, *, download: bool, split: str, **options: Any) -> None:
            files = [tmp_path / split / name for name in ("z/1.png", "a/2.png", "m/3.png")]
            self.classes = [("tench", "Tinca tinca"), "ant"]
            self._image_files, self._labels = files, [1, 0, 1]
            self._samples = [(str(path), label) for path, label in zip(files, self._labels, strict=True)]

    for made in ("Food101", "Imagenette"):
        monkeypatch.setattr(torchvision.datasets, made, Listed)
    for name, test_name in (("food101", "test"), ("imagenette", "val")):
        train, test = open_dataset([name], root=tmp_path)
        for part, split in ((train, "train"), (test, test_name)):
            make(tmp_path, *(f"{split}/{each}" for each in ("z/1.png", "a/2.png", "m/3.png")))
            assert told(part) == [
                (f"{split}/z/1.png", "ant"),
                (f"{split}/a/2.png", "tench"),
                (f"{split}/m/3.png", "ant"),
            ]


def test_torchvisions_voc_is_read_as_the_folder_it_unpacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = voc(tmp_path, {"train": TRAIN, "val": VAL})

    class Detection:
        def __init__(self, root: str, *, download: bool, year: str, image_set: str) -> None:
            stems = ["p4", "p5"] if image_set == "val" else ["p3", "p1", "p2"]
            self.images = [str(folder / "JPEGImages" / f"{stem}.jpg") for stem in stems]
            self.annotations = [str(folder / "Annotations" / f"{stem}.xml") for stem in stems]

    monkeypatch.setattr(torchvision.datasets, "VOCDetection", Detection)
    train, test = open_dataset(["voc2012"], root=tmp_path)
    assert train.classes == test.classes == ("cat", "dog", "person")
    assert train.labels.tolist() == [[0, -1, 1], [1, 0, 0], [-1, 1, 0]]
    assert train.photos.name(0) == "JPEGImages/p1.jpg"


# --- real photos -----------------------------------------------------------------------------------------------------


def test_real_sets() -> None:
    root = Path(os.environ.get("SSL_COLORIZE_PHOTOS", ""))
    if not (root / "tiny-imagenet").is_dir() or not (root / "VOCdevkit").is_dir():
        pytest.skip("SSL_COLORIZE_PHOTOS names no folder with tiny-imagenet and VOCdevkit")
    train, test = open_dataset([str(root / "tiny-imagenet")])
    assert (len(train), len(test), len(train.classes)) == (76_000, 4_000, 200)
    assert (train.counts() == 380).all() and (test.counts() == 20).all()
    train, test = open_dataset([str(root / "VOCdevkit")])
    assert (len(train), len(test)) == (960, 240)
    assert isinstance(train.photos, PhotoFiles)
    assert {"dog", "cat", "person"} <= {*train.classes}
