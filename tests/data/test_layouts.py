"""Layouts as people have them: which photos train, which test, and that pretraining never reads what is tested on."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from ssl_colorize.data import LabeledDataset, open_dataset, open_photos
from ssl_colorize.data.annotations import Annotation
from ssl_colorize.data.photos import PhotoFiles, Photos, SeveralSets
from ssl_colorize.errors import UserError

CLASSES = ("cat", "dog")


def make(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(path, format="PNG")
    return root


def classes(root: Path, place: str, count: int = 2, names: Sequence[str] = CLASSES) -> list[str]:
    """Photos of each class below a place; their names relative to the root."""
    photos = [f"{place}/{name}/{number}.png".removeprefix("./") for name in names for number in range(count)]
    make(root, *photos)
    return photos


def paths(photos: Photos) -> set[str]:
    """Where all photos really are."""
    if isinstance(photos, SeveralSets):
        return {path for index in range(len(photos)) for path in paths(photos.take([index]))}
    return {os.path.realpath(path) for path in photos.paths} if isinstance(photos, PhotoFiles) else set()


def told(part: LabeledDataset, root: Path) -> dict[str, str]:
    """Path relative to the root -> class."""
    assert isinstance(part.photos, PhotoFiles)
    where = [os.path.relpath(path, root) for path in part.photos.paths]
    assert len(set(where)) == len(where)
    return {path: part.classes[label] for path, label in zip(where, part.labels.tolist(), strict=True)}


def pretrained_on(*items: object) -> set[str]:
    photos = open_photos([str(item) for item in items])
    return paths(photos)


def apart(*items: Path, annotation: Annotation = "labels") -> tuple[set[str], set[str]]:
    """What pretraining reads and what is tested on, proven to be apart."""
    pretrained = pretrained_on(*items)
    train, test = open_dataset([str(item) for item in items], annotation=annotation)
    assert pretrained and not pretrained & paths(test.photos)
    assert not paths(train.photos) & paths(test.photos)
    return pretrained, paths(test.photos)


def problem(*items: object, **more: Sequence[str]) -> str:
    with pytest.raises(UserError) as caught:
        open_dataset([str(item) for item in items], **more)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- class folders ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train", "test"), ("TRAIN", "TEST"), ("Training", "Testing"), ("trainset", "testset"),
        ("train2017", "val2017"),
        ("training_set", "test_set"), ("train_images", "valid_images"), ("images_train", "images_val"),
        ("seg_train/seg_train", "seg_test/seg_test"), ("dogs_train", "dogs_test"), ("01_train", "02_test-A"),
        ("data/Train", "data/dev"), ("archive/dataset/train", "archive/dataset/valid"), ("TrainData", "EvalData"),
        ("train", "holdout"), ("cifar10-train", "cifar10-validation"), ("data_256", "val_256"),
    ],
)  # fmt: skip
def test_names_of_splits(tmp_path: Path, train: str, test: str) -> None:
    learned, measured = classes(tmp_path, train), classes(tmp_path, test)
    make(tmp_path, "seg_pred/seg_pred/9.png", ".ipynb_checkpoints/cat/1.png", f"{train}/@eaDir/1.png")
    make(tmp_path, f"{train}/.thumbnails/cat.png", "__MACOSX/train/1.png")
    if "/" in train.replace("seg_train/seg_train", ""):
        (tmp_path / "seg_pred").rename(tmp_path.parent / f"{tmp_path.name}-pred")
    read, tested = open_dataset([str(tmp_path)])
    assert read.classes == tested.classes == CLASSES
    assert told(read, tmp_path) == {name: name.split("/")[-2] for name in learned}
    assert told(tested, tmp_path) == {name: name.split("/")[-2] for name in measured}
    pretrained, _ = apart(tmp_path)
    assert pretrained == {str(tmp_path / name) for name in learned}


@pytest.mark.parametrize(
    "name", ["trains", "contest", "valley", "devil", "training_shoes", "bullet_train", "test_tube"]
)
def test_classes_that_contain_such_letters_are_classes(tmp_path: Path, name: str) -> None:
    classes(tmp_path, ".", 5, (*CLASSES, name))
    train, test = open_dataset([str(tmp_path)])
    assert train.classes == tuple(sorted((*CLASSES, name)))
    assert train.counts().tolist() == [4, 4, 4] and test.counts().tolist() == [1, 1, 1]
    pretrained, tested = apart(tmp_path)
    assert len(pretrained) == 12 and len(tested) == 3


def test_a_class_called_train_is_not_guessed(tmp_path: Path) -> None:
    classes(tmp_path, ".", 5, ("car", "plane", "train"))
    said = problem(tmp_path)
    assert "train/ beside car/, plane/" in said and "--classes" in said and f"--train {tmp_path}/train" in said
    with pytest.raises(UserError, match="--train"):
        open_photos([str(tmp_path)])
    train, test = open_dataset([str(tmp_path)], classes=["train,car", "plane"])
    assert train.classes == test.classes == ("train", "car", "plane")
    assert train.counts().tolist() == [4, 4, 4] and test.counts().tolist() == [1, 1, 1]
    assert len(open_photos(train=[str(tmp_path)])) == 15
    # Where it lies among others below, nothing is tested on there, and nothing is lost.
    (tmp_path / "a" / "b").mkdir(parents=True)
    for name in ("car", "plane", "train"):
        (tmp_path / name).rename(tmp_path / "a" / name)
    classes(tmp_path, "c", 5, ("x", "y"))
    pretrained, tested = apart(tmp_path)
    assert len(pretrained) + len(tested) == 25 and len(tested) == 5


def test_train_beside_what_is_no_class_is_a_split(tmp_path: Path) -> None:
    learned = classes(tmp_path, "train", 5)
    make(tmp_path, "seg_pred/1.png", "extra/2.png", "masks/3.png", "unlabeled/4.png")
    pretrained, tested = apart(tmp_path)
    assert pretrained | tested == {str(tmp_path / name) for name in [*learned, "unlabeled/4.png"]}
    assert len(tested) == 2


@pytest.mark.parametrize(("split", "doubles"), [("train", ("train", "Training")), ("train", ("Train", "train")),
                                                ("val", ("val", "valid")), ("test", ("test1", "test2"))])  # fmt: skip
def test_two_folders_for_one_split(tmp_path: Path, split: str, doubles: tuple[str, str]) -> None:
    for place in {"train", "val", *doubles} - ({"val"} if split == "test" else set()):
        classes(tmp_path, place)
    said = problem(tmp_path)
    assert f"2 parts that are {split} by their names, {' and '.join(sorted(doubles))}" in said and "--train DIR" in said
    train, test = open_dataset(train=[f"{tmp_path}/train"], test=[f"{tmp_path}/{doubles[1]}"][: split != "train"])
    assert len(train) + len(test) == (4 if split == "train" else 8)


def test_all_classes_called_like_splits(tmp_path: Path) -> None:
    classes(tmp_path, ".", 5, ("dev", "test"))
    said = problem(tmp_path)
    assert "no train/" in said and "--classes dev,test" in said
    train, test = open_dataset([str(tmp_path)], classes=["test", "dev"])
    assert train.classes == ("test", "dev") and train.counts().tolist() == [4, 4] and len(test) == 2
    classes(tmp_path, "below/train", 5, ("train", "val"))
    said = problem(tmp_path / "below")
    assert "--classes train,val" in said
    assert open_dataset([str(tmp_path / "below")], classes=["train,val"])[0].counts().tolist() == [4, 4]


def test_splits_inside_of_class_folders(tmp_path: Path) -> None:
    for name in CLASSES:
        make(tmp_path, f"{name}/train/1.png", f"{name}/train/2.png", f"{name}/test/3.png")
    train, test = open_dataset([str(tmp_path)])
    assert told(train, tmp_path) == {f"{name}/train/{number}.png": name for name in CLASSES for number in (1, 2)}
    assert told(test, tmp_path) == {f"{name}/test/3.png": name for name in CLASSES}
    assert len(apart(tmp_path)[0]) == 4
    make(tmp_path, "emu/1.png")
    assert "with splits of their own" in problem(tmp_path)


def test_unlabeled_test_folder(tmp_path: Path) -> None:
    """As competitions have it: a fifth of each class tests, and pretraining leaves out that and test/."""
    classes(tmp_path, "train", 5)
    make(tmp_path, "test/test/1.png", "test/test/2.png")
    train, test = open_dataset([str(tmp_path)])
    assert (len(train), len(test)) == (8, 2)
    assert "test/ has no labels" in " ".join(train.reading.findings)
    pretrained, _ = apart(tmp_path)
    assert len(pretrained) == 8
    classes(tmp_path, "valid", 3)
    assert len(open_dataset([str(tmp_path)])[1]) == 6
    assert len(apart(tmp_path)[0]) == 10


def test_classes_that_differ_between_the_parts(tmp_path: Path) -> None:
    classes(tmp_path, "train", 2, ("Cat", "dog"))
    classes(tmp_path, "test", 2, ("cat", "dog"))
    assert "the class is Cat to train on, cat to test on" in problem(tmp_path)
    (tmp_path / "test" / "cat").rename(tmp_path / "test" / "Cat")
    classes(tmp_path, "train", 1, ("emu",))
    (tmp_path / "train" / "yak").mkdir()
    train, test = open_dataset([str(tmp_path)])
    assert train.classes == test.classes == ("Cat", "dog", "emu")
    found = " ".join((*train.reading.findings, *test.reading.findings))
    assert "no photo to test on of emu" in found and "no photos in train/yak/" in found
    classes(tmp_path, "test", 1, ("fox",))
    assert "none to train on of fox." in problem(tmp_path)


def test_a_class_of_one_photo_trains_and_is_told(tmp_path: Path) -> None:
    classes(tmp_path, ".", 5)
    make(tmp_path, "emu/1.png")
    train, test = open_dataset([str(tmp_path)])
    assert train.counts().tolist() == [4, 4, 1] and test.counts().tolist() == [1, 1, 0]
    assert "of emu there is 1 photo, which trains" in train.reading.findings


def test_given_classes(tmp_path: Path) -> None:
    classes(tmp_path, "train", 2, ("cat", "dog", "emu"))
    classes(tmp_path, "test", 2, ("cat", "dog", "emu"))
    (tmp_path / "names.txt").write_bytes("\ufeffemu\r\ncat\r\n".encode())
    for given in (["emu,cat"], ["emu", "cat"], [str(tmp_path / "names.txt")]):
        train, test = open_dataset([str(tmp_path)], classes=given)
        assert train.classes == test.classes == ("emu", "cat")
        assert told(test, tmp_path) == {
            f"test/{name}/{number}.png": name for name in ("cat", "emu") for number in (0, 1)
        }
    assert "--classes names fox, which is no class" in problem(tmp_path, classes=["cat,fox"])
    assert "twice" in problem(tmp_path, classes=["cat,cat"])


def test_explicit_folders(tmp_path: Path) -> None:
    one, two, three = classes(tmp_path, "one"), classes(tmp_path, "two"), classes(tmp_path, "val")
    train, test = open_dataset(train=[f"{tmp_path}/one", f"{tmp_path}/two"], test=[f"{tmp_path}/val"])
    assert set(told(train, tmp_path)) == {*one, *two} and set(told(test, tmp_path)) == {*three}
    with pytest.raises(UserError, match="not both"):
        open_dataset([str(tmp_path)], train=[f"{tmp_path}/one"])
    with pytest.raises(UserError, match="--train"):
        open_dataset(test=[f"{tmp_path}/one"])
    with pytest.raises(UserError, match="no such folder"):
        open_dataset(train=[f"{tmp_path}/absent"])
    assert len(open_photos(train=[f"{tmp_path}/one", f"{tmp_path}/val"])) == 8


# --- files that are there twice --------------------------------------------------------------------------------------


def test_links_between_the_parts(tmp_path: Path) -> None:
    classes(tmp_path, "train", 3)
    classes(tmp_path, "test", 2)
    (tmp_path / "train/cat/linked.png").symlink_to(tmp_path / "test/cat/0.png")
    os.link(tmp_path / "test/dog/1.png", tmp_path / "train/dog/hard.png")
    pretrained, tested = apart(tmp_path)
    assert len(pretrained) == 6 and len(tested) == 4
    (tmp_path / "same").mkdir()
    for name in ("train", "test"):
        (tmp_path / "same" / name).symlink_to(tmp_path / "test")
    assert "are the same files" in problem(tmp_path / "same")


def test_linked_class_folders(tmp_path: Path) -> None:
    classes(tmp_path, "pool", 4, ("c1", "c2", "d1", "d2"))
    for split, number in (("train", 1), ("val", 2)):
        (tmp_path / "set" / split).mkdir(parents=True)
        for name in CLASSES:
            (tmp_path / "set" / split / name).symlink_to(tmp_path / "pool" / f"{name[0]}{number}")
    (tmp_path / "set" / "a-view-of-all").symlink_to(tmp_path / "set" / "train")
    pretrained, tested = apart(tmp_path / "set")
    assert len(pretrained) == len(tested) == 8


def test_links_that_lead_back_are_followed_once(tmp_path: Path) -> None:
    make(tmp_path, "a/1.png", "a/2.png", "b/3.png", "b/4.heix")
    (tmp_path / "a" / "back").symlink_to(tmp_path)
    photos = open_photos([str(tmp_path)])
    assert photos.reading.sources[0].passed.keys() == {"other", "measuring"}
    assert len(photos.reading.sources[0].passed["other"]) == 1


def test_several_items_never_read_what_another_tests_on(tmp_path: Path) -> None:
    learned = classes(tmp_path, "one/train") + classes(tmp_path, "two/train")
    classes(tmp_path, "one/val")
    classes(tmp_path, "two/test")
    apart(tmp_path / "one", tmp_path / "two")
    for items in ([tmp_path], [tmp_path / "one", tmp_path / "two"], [tmp_path, tmp_path / "one" / "val"]):
        assert pretrained_on(*items) == {str(tmp_path / name) for name in learned}
    # By its own name alone it is a wish: of class folders without a split all but a fifth are read.
    assert len(pretrained_on(tmp_path / "one" / "val")) == 2
    assert len(open_photos(train=[str(tmp_path / "one" / "val")])) == 4


def test_nested_sets_are_each_read_by_the_rule(tmp_path: Path) -> None:
    classes(tmp_path, "flat", 5)
    classes(tmp_path, "split/train", 5)
    classes(tmp_path, "split/val", 5)
    make(tmp_path, "loose/1.png", "2.png")
    pretrained = pretrained_on(tmp_path)
    assert len(pretrained) == 8 + 10 + 2
    for name in ("flat", "split"):
        _, test = open_dataset([str(tmp_path / name)])
        assert not pretrained & paths(test.photos)


# --- COCO and VOC ----------------------------------------------------------------------------------------------------


def coco(root: Path, file: str, names: Sequence[str], *, objects: bool = True) -> None:
    images = [{"id": number, "file_name": name, "width": 4, "height": 4} for number, name in enumerate(names)]
    boxes = [{"id": i, "image_id": i, "category_id": 1, "bbox": [0, 0, 2, 2]} for i in range(len(names) * objects)]
    (root / file).parent.mkdir(parents=True, exist_ok=True)
    content = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "cat"}]}
    (root / file).write_bytes(b"\xef\xbb\xbf" + json.dumps(content).encode())


@pytest.mark.parametrize("photos", ["{}/", "images/{}/", "images/", ""])
@pytest.mark.parametrize("test", ["val2017", "test2017", "Val", "val_cleaned"])
def test_coco_layouts(tmp_path: Path, photos: str, test: str) -> None:
    coco(tmp_path, "annotations/instances_train2017.json", ["a.png", "b.png"])
    coco(tmp_path, f"annotations/instances_{test}.json", ["c.png"])
    make(tmp_path, *(f"{photos.format('train2017')}{name}" for name in ("a.png", "b.png")))
    make(tmp_path, f"{photos.format(test)}c.png", "unlabeled2017/u.png")
    pretrained, tested = apart(tmp_path, annotation="boxes")
    assert {Path(path).name for path in pretrained} == {"a.png", "b.png", "u.png"}
    assert {Path(path).name for path in tested} == {"c.png"}


def test_coco_beside_the_photos_of_each_part(tmp_path: Path) -> None:
    for part, name in (("train", "a.png"), ("valid", "b.png"), ("test", "c.png")):
        coco(tmp_path, f"{part}/_annotations.coco.json", [name])
        make(tmp_path, f"{part}/{name}")
    pretrained, tested = apart(tmp_path, annotation="boxes")
    assert ([Path(path).name for path in pretrained], [Path(path).name for path in tested]) == (["a.png"], ["c.png"])


def test_coco_test_file_without_objects_is_not_tested_on(tmp_path: Path) -> None:
    coco(tmp_path, "annotations/instances_train.json", ["a.png"])
    coco(tmp_path, "annotations/instances_val.json", ["b.png"])
    coco(tmp_path, "annotations/instances_test.json", ["c.png"], objects=False)
    make(tmp_path, "images/a.png", "images/b.png", "images/c.png")
    pretrained, tested = apart(tmp_path, annotation="boxes")
    assert ([Path(path).name for path in pretrained], [Path(path).name for path in tested]) == (["a.png"], ["b.png"])
    train, test = open_dataset(
        train=[f"{tmp_path}/annotations/instances_val.json"], test=[f"{tmp_path}/annotations/instances_train.json"],
        annotation="boxes",
    )  # fmt: skip
    assert (train.photos.name(0), test.photos.name(0)) == ("images/b.png", "images/a.png")


def voc(root: Path, lists: dict[str, Sequence[str]], task: str = "Main") -> Path:
    for name, stems in lists.items():
        (root / "ImageSets" / task).mkdir(parents=True, exist_ok=True)
        (root / "ImageSets" / task / f"{name}.txt").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(stems).encode())
        for number, stem in enumerate(stems):
            make(root, f"JPEGImages/{stem}.png")
            (root / "Annotations").mkdir(exist_ok=True)
            box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>3</xmax><ymax>3</ymax></bndbox>"
            name_of = CLASSES[number % 2]
            (root / "Annotations" / f"{stem}.xml").write_text(
                f"<annotation><object><name>{name_of}</name>{box}</object></annotation>"
            )
    return root


@pytest.mark.parametrize(
    ("lists", "learned", "measured"),
    [
        ({"train2012": "ab", "val2012": "cd"}, "ab", "cd"),
        ({"trainval2007": "ab", "test2007": "cd"}, "ab", "cd"),
        ({"trainval": "abcd", "train": "ab", "val": "cd", "2007_test": "ef"}, "ab", "ef"),
        ({"Train": "ab", "Test": "cd"}, "ab", "cd"),
        ({"train": "ab", "val": "cd", "cat_train": "a", "cat_val": "c"}, "ab", "cd"),
    ],
)
def test_voc_lists_of_any_year(tmp_path: Path, lists: dict[str, str], learned: str, measured: str) -> None:
    voc(tmp_path, lists)  # type: ignore[arg-type]
    for annotation in ("labels", "boxes"):
        pretrained, tested = apart(tmp_path, annotation=annotation)  # type: ignore[arg-type]
        assert {Path(path).stem for path in pretrained} == {*learned}
        assert {Path(path).stem for path in tested} == {*measured}


def test_voc_lists_by_name_and_without_tasks(tmp_path: Path) -> None:
    voc(tmp_path, {"train": "ab", "val": "cd", "val2": "ef"}, task="")
    assert "val and val2" in problem(tmp_path)
    place = tmp_path / "ImageSets"
    train, test = open_dataset(train=[f"{place}/val2.txt"], test=[f"{place}/train.txt"])
    assert train.multilabel and [train.photos.name(i) for i in range(2)] == ["JPEGImages/e.png", "JPEGImages/f.png"]
    assert [test.photos.name(i) for i in range(2)] == ["JPEGImages/a.png", "JPEGImages/b.png"]
    assert {Path(path).stem for path in pretrained_on(tmp_path)} == {"a", "b"}


# --- lists -----------------------------------------------------------------------------------------------------------


def test_places(tmp_path: Path) -> None:
    """data_256 by folders of letters, val_256 and test_256 without any, and the lists that tell them."""
    make(
        tmp_path, "data_256/a/airfield/00000001.png", "data_256/a/airfield/00000002.png", "data_256/b/bar/00000003.png"
    )
    make(tmp_path, "val_256/Places365_val_00000001.png", "val_256/Places365_val_00000002.png", "test_256/T_01.png")
    (tmp_path / "places365_train_standard.txt").write_text(
        "/a/airfield/00000001.png 0\n/a/airfield/00000002.png 0\n/b/bar/00000003.png 1\n"
    )
    (tmp_path / "places365_val.txt").write_text("Places365_val_00000001.png 1\nPlaces365_val_00000002.png 0\n")
    (tmp_path / "places365_test.txt").write_text("T_01.png\n")
    (tmp_path / "categories_places365.txt").write_text("/a/airfield 0\n/b/bar 1\n")
    train, test = open_dataset([str(tmp_path)])
    assert told(train, tmp_path)["data_256/b/bar/00000003.png"] == "1" and train.labels.tolist() == [0, 0, 1]
    assert told(test, tmp_path) == {f"val_256/Places365_val_0000000{n}.png": str(2 - n) for n in (1, 2)}
    pretrained, _ = apart(tmp_path)
    assert {Path(path).stem for path in pretrained} == {"00000001", "00000002", "00000003"}
    named, _ = open_dataset([str(tmp_path)], classes=["airfield", "bar"])
    assert named.classes == ("airfield", "bar") and named.labels.tolist() == [0, 0, 1]
    for name in ("train_standard", "val", "test"):
        (tmp_path / f"places365_{name}.txt").unlink()
    # Letters are no classes: without the lists val_256 has no labels, and nothing is guessed.
    assert len(pretrained_on(tmp_path)) == 3 - 1  # airfield and bar lie in a/ and b/, of a/ one tests


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("list.txt", "cat (1).png 3\nsub/b c.png 4\n\n# the rest\nsub/d.png\t3\n"),
        ("list.txt", "\ufeff\"cat (1).png\" 3\r\n'sub/b c.png' 4\r\nsub/d.png 3\r\n"),
        ("list.csv", "Image,Label\n\"cat (1).png\",3\nsub/b c.png,4\nsub/d.png,3\n"),
        ("list.csv", "\ufefflabel;file;author\r\n3;cat (1).png;\"Doe; J.\"\r\n4;sub\\b c.png;x\r\n3;./sub/d.png;\r\n"),
        ("list.csv", "cat (1).png,3\nsub/b c.png,4\nsub/d.png,3\n"),
        ("list.tsv", "path\tclass\ncat (1).png\t3\nsub/b c.png\t4\nsub/d.png\t3\n"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_list_says_what_photos_show(tmp_path: Path, file: str, content: str, encoding: str) -> None:
    make(tmp_path, "cat (1).png", "sub/b c.png", "sub/d.png", "sub/not listed.png")
    (tmp_path / file).write_bytes(content.removeprefix("\ufeff" * (encoding == "utf-16")).encode(encoding))
    train, test = open_dataset([str(tmp_path / file)])
    assert told(train, tmp_path) | told(test, tmp_path) == {"cat (1).png": "3", "sub/b c.png": "4", "sub/d.png": "3"}
    assert train.classes == ("3", "4")
    pretrained, _ = apart(tmp_path / file)
    assert len(pretrained) == 2
    assert len(open_photos(train=[str(tmp_path / file)])) == 3


def test_classes_that_are_numbers_are_in_their_order(tmp_path: Path) -> None:
    make(tmp_path, *(f"{number}-{copy}.png" for number in (2, 10, 1) for copy in "ab"))
    (tmp_path / "l.csv").write_text("file,label\n" + "".join(f"{n}-{c}.png,{n}\n" for n in (2, 10, 1) for c in "ab"))
    assert open_dataset([str(tmp_path / "l.csv")])[0].classes == ("1", "2", "10")


@pytest.mark.parametrize(
    "rows",
    [
        "file,label,split\na.png,x,Train\nb.png,y,train\nc.png,x,valid\nd.png,y,validation\n",
        "file,label,is_valid\na.png,x,False\nb.png,y,False\nc.png,x,True\nd.png,y,True\n",
    ],
)
def test_a_column_of_splits(tmp_path: Path, rows: str) -> None:
    make(tmp_path, "images/a.png", "images/b.png", "images/c.png", "images/d.png")
    (tmp_path / "labels.csv").write_text(rows)
    train, test = open_dataset([str(tmp_path / "labels.csv")])
    assert told(train, tmp_path / "images") == {"a.png": "x", "b.png": "y"}
    assert told(test, tmp_path / "images") == {"c.png": "x", "d.png": "y"}
    pretrained, _ = apart(tmp_path / "labels.csv")
    assert {Path(path).name for path in pretrained} == {"a.png", "b.png"}
    assert pretrained_on(tmp_path / "labels.csv", tmp_path / "images") == pretrained
    (tmp_path / "labels.csv").write_text(rows.replace(",valid\n", ",banana\n").replace("True", "banana"))
    assert "line 4: 'banana' is" in problem(tmp_path / "labels.csv")


@pytest.mark.parametrize("place", ["", "meta/"])
def test_lists_of_splits_in_a_folder(tmp_path: Path, place: str) -> None:
    """As Food-101 has them: photos by class folders, names without a suffix."""
    classes(tmp_path, "images", 3)
    (tmp_path / place).mkdir(exist_ok=True)
    (tmp_path / place / "train.txt").write_text("cat/0\ncat/1\ndog/0\ndog/1\n")
    (tmp_path / place / "test.txt").write_text("cat/2\ndog/2\n")
    (tmp_path / place / "classes.txt").write_text("cat\ndog\n")
    train, test = open_dataset([str(tmp_path)])
    assert told(test, tmp_path / "images") == {"cat/2.png": "cat", "dog/2.png": "dog"}
    assert len(train) == 4
    assert len(apart(tmp_path)[0]) == 4
    train, test = open_dataset(train=[f"{tmp_path}/{place}test.txt"], test=[f"{tmp_path}/{place}train.txt"])
    assert (len(train), len(test)) == (2, 4)


def test_labels_of_flat_folders_by_csv(tmp_path: Path) -> None:
    """As Kaggle has them: train/ and test/ without class folders, names without a suffix, labels of train/ alone."""
    make(tmp_path, *(f"train/{number}.png" for number in range(10)), "test/a.png", "test/b.png")
    (tmp_path / "train_labels.csv").write_text("id,breed\n" + "".join(f"{n},{CLASSES[n % 2]}\n" for n in range(10)))
    (tmp_path / "sample_submission.csv").write_text("id,breed\na,cat\nb,dog\n")
    train, test = open_dataset([str(tmp_path)])
    assert (len(train), len(test)) == (8, 2)
    assert all(label == CLASSES[int(Path(name).stem) % 2] for name, label in told(train, tmp_path).items())
    assert len(apart(tmp_path)[0]) == 8


def test_what_is_wrong_with_a_list_is_told(tmp_path: Path) -> None:
    make(tmp_path, "a.png", "b.png", "sub/c.png")
    file = tmp_path / "list.txt"
    cases = {
        "a.png x\nb.png y\ngone.png x\nlost.png y\n": "list.txt, line 3, names gone.png and 1 more photos",
        "gone.png x\n": "names gone.png, of which there is no photo",
        "a.png x\nb.png\n": "list.txt, line 2, does not say what b.png shows",
        "a.png x\na.png y\n": "has a.png twice, in lines 1 and 2",
        "": "lists no photos",
        "a.png x\nb.png x\n": "1 class",
    }
    for content, said in cases.items():
        file.write_text(content)
        assert said in problem(file)
    file.write_bytes("a.png x\nb.png y\nä.png z\n".encode("latin-1"))
    assert "list.txt, line 3, is not UTF-8" in problem(file)
    table = tmp_path / "list.csv"
    cases = {
        "author,licence\nx,y\n": "no column of photos: its first line names author, licence",
        "file,label\na.png,x\nb.png\n": "list.csv, line 3, has 1 values",
    }
    for content, said in cases.items():
        table.write_text(content)
        assert said in problem(table)
    make(tmp_path, "flat/1.png")
    (tmp_path / "flat" / "labels.csv").write_text("file,label\n")
    assert f"give the list that says what they show: --data {tmp_path}/flat/labels.csv" in problem(tmp_path / "flat")


# --- what was read ---------------------------------------------------------------------------------------------------


def test_the_fifth_that_pretraining_leaves_out_is_told(tmp_path: Path) -> None:
    classes(tmp_path, ".", 5)
    reading = open_photos([str(tmp_path)]).reading
    assert len(reading.sources[0].passed["measuring"]) == 2
    assert f"the fifth of each class that measuring verbs test on; --train {tmp_path} reads all" in reading.line()
    assert "fifth of each" not in open_photos(train=[str(tmp_path)]).reading.line()


def test_places_and_kinds_are_recorded(tmp_path: Path) -> None:
    classes(tmp_path, "Training")
    classes(tmp_path, "seg_test")
    train, test = open_dataset([str(tmp_path)])
    assert [part.reading.sources[0].places for part in (train, test)] == [["Training/"], ["seg_test/"]]
    (tmp_path / "l.csv").write_text("file,label\nTraining/cat/0.png,x\nTraining/dog/0.png,y\nseg_test/cat/0.png,x\n")
    train, _ = open_dataset([str(tmp_path / "l.csv")])
    assert train.reading.sources[0].kind == "CSV" and train.reading.sources[0].classes == ("x", "y")
