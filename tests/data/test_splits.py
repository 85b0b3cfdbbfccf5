"""What trains, what chooses and what tests never overlap, and no class is lost on the way."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from annotated_sets import coco, listed, photo, voc_boxes, voc_masks

from ssl_colorize.data import LabeledDataset, choosing_split, open_dataset, open_photos
from ssl_colorize.data.annotations import Annotation
from ssl_colorize.data.splits import find_splits, measuring_names, split_of
from ssl_colorize.errors import UserError


def test_names_say_what_they_are_for() -> None:
    assert [split_of(name) for name in ("train", "val", "validation", "test", "testing")] == [
        "train", "val", "val", "test", "test",
    ]  # fmt: skip
    assert split_of("cat") is split_of("trains") is None
    assert find_splits(["validation", "cat", "val"]) == {"train": [], "val": ["val", "validation"], "test": []}
    assert measuring_names(["val", "train", "testing", "test"]) == ["test", "testing", "val"]


# --- pretraining never reads what a measuring verb tests on ----------------------------------------------------------

CAT, DOG = ("cat", 1, 1, 5, 5), ("dog", 1, 1, 5, 5)
LEARNED, MEASURED = {"a": [CAT], "b": [DOG]}, {"c": [CAT, DOG]}


def names(part: LabeledDataset) -> set[str]:
    return {Path(part.photos.name(index)).name for index in range(len(part))}


def pretrained_on(folder: Path) -> set[str]:
    photos = open_photos([str(folder)])
    return {Path(photos.name(index)).name for index in range(len(photos))}


@pytest.mark.parametrize("annotation", ["labels", "boxes"])
def test_voc_with_trainval_and_val(tmp_path: Path, annotation: Annotation) -> None:
    """Of a folder without a list train, trainval is pretrained on, without what val has for measuring."""
    voc_boxes(tmp_path, {"train": LEARNED, "val": MEASURED, "trainval": {**LEARNED, **MEASURED}})
    _, test = open_dataset([str(tmp_path)], annotation=annotation)
    assert names(test) == {"c.png"}
    (tmp_path / "ImageSets" / "Main" / "train.txt").unlink()
    assert pretrained_on(tmp_path) == {"a.png", "b.png"}


def test_voc_whose_lists_are_for_measuring_alone(tmp_path: Path) -> None:
    voc_boxes(tmp_path, {"val": MEASURED})
    photo(tmp_path / "JPEGImages" / "free.png")
    assert pretrained_on(tmp_path) == {"free.png"}


def test_voc_photos_that_another_task_measures_on(tmp_path: Path) -> None:
    voc_boxes(tmp_path, {"train": {**LEARNED, "s": [CAT]}, "val": MEASURED})
    voc_masks(tmp_path, {"train": {"a": [[0, 1] * 10] * 10}, "val": {"s": 1}})
    _, test = open_dataset([str(tmp_path)], annotation="masks")
    assert names(test) == {"s.png"}
    assert pretrained_on(tmp_path) == {"a.png", "b.png"}


@pytest.mark.parametrize("annotation", ["labels", "boxes"])
def test_voc_test_list_without_annotations_is_not_tested_on(tmp_path: Path, annotation: Annotation) -> None:
    voc_boxes(tmp_path, {"train": LEARNED, "val": MEASURED, "trainval": {**LEARNED, **MEASURED}})
    listed(tmp_path, "Main", "test", ["unknown"])
    train, test = open_dataset([str(tmp_path)], annotation=annotation)
    assert (names(train), names(test)) == ({"a.png", "b.png"}, {"c.png"})
    voc_boxes(tmp_path, {"test": {"d": [CAT]}})
    train, test = open_dataset([str(tmp_path)], annotation=annotation)
    assert (names(train), names(test)) == ({"a.png", "b.png", "c.png"}, {"d.png"})


@pytest.mark.parametrize("images", [False, True])
def test_coco(tmp_path: Path, images: bool) -> None:
    box: dict[str, Any] = {"category_id": 1, "bbox": [0, 0, 5, 5]}
    coco(tmp_path, "train2017", {"a.png": [box]}, {1: "cat"})
    coco(tmp_path, "val2017", {"c.png": [box]}, {1: "cat"})
    photo(tmp_path / "unlabeled2017" / "u.png")
    if images:
        (tmp_path / "images").mkdir()
        for part in ("train2017", "val2017", "unlabeled2017"):
            shutil.move(tmp_path / part, tmp_path / "images" / part)
    _, test = open_dataset([str(tmp_path)], annotation="boxes")
    assert names(test) == {"c.png"}
    assert pretrained_on(tmp_path) == {"a.png", "u.png"}


@pytest.mark.parametrize("measuring", ["val", "valid", "validation", "test", "testing"])
def test_class_folders(tmp_path: Path, measuring: str) -> None:
    for name in ("train/cat/a.png", "train/dog/b.png", f"{measuring}/cat/c.png", f"{measuring}/dog/d.png"):
        photo(tmp_path / name)
    _, test = open_dataset([str(tmp_path)])
    assert names(test) == {"c.png", "d.png"}
    assert pretrained_on(tmp_path) == {"a.png", "b.png"}


# --- the split to choose on ------------------------------------------------------------------------------------------


def test_choosing_split_takes_its_share_of_every_class() -> None:
    labels = np.repeat(np.arange(4), [50, 10, 2, 1])[np.random.default_rng(0).permutation(63)]
    fit, choose = choosing_split(labels, fraction=0.2, seed=3)
    assert sorted([*fit, *choose]) == list(range(63))
    assert np.bincount(labels[choose], minlength=4).tolist() == [10, 2, 1, 0]
    assert (np.diff(fit) > 0).all() and (np.diff(choose) > 0).all()
    assert choosing_split(labels, seed=3)[1].tolist() == choose.tolist()
    assert choosing_split(labels, seed=4)[1].tolist() != choose.tolist()


def test_choosing_split_never_takes_all_of_a_class() -> None:
    fit, _ = choosing_split(np.repeat(np.arange(3), 2), fraction=0.9)
    assert sorted(np.repeat(np.arange(3), 2)[fit]) == [0, 1, 2]


def test_choosing_split_of_many_labels_keeps_every_class_to_fit_on() -> None:
    labels = np.zeros((40, 3), np.int8)
    labels[:, 0] = 1
    labels[7, 1] = labels[8, 2] = labels[9, 2] = 1
    labels[10:, 1] = -1
    for seed in range(10):
        fit, choose = choosing_split(labels, seed=seed)
        assert len(choose) == 8
        assert ((labels[fit] == 1).sum(0) > 0).all()
        assert 7 not in choose


def test_choosing_split_needs_photos_to_spare() -> None:
    for labels in (np.arange(5), np.ones((1, 2), np.int8), np.eye(3, dtype=np.int8)):
        with pytest.raises(UserError, match="at least 2"):
            choosing_split(labels)


def test_photos_to_choose_on_show_more_than_the_background() -> None:
    labels = np.zeros((40, 3), np.int8)
    labels[:, 0] = 1
    labels[7:10, 1], labels[20:22, 2] = 1, 1
    for seed in range(20):
        fit, choose = choosing_split(labels, fraction=0.05, seed=seed)
        assert len(choose) == 2 and labels[choose, 1:].any()
        assert (labels[fit] == 1).any(0).all()
    # Where each object is on a single photo, none of them can be spared.
    labels[8:10], labels[21] = [1, 0, 0], [1, 0, 0]
    with pytest.raises(UserError, match="at least 2 training photos of a class"):
        choosing_split(labels, fraction=0.05)
