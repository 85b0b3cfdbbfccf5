"""Photos with boxes or masks are read as they were drawn, and what is wrong with them is named."""

import os
from pathlib import Path

import numpy as np
import pytest
import torchvision
from annotated_sets import annotation, listed, mask, photo, voc_boxes, voc_masks

from ssl_colorize.data import choosing_split, open_dataset
from ssl_colorize.data.annotations import Annotation, summary
from ssl_colorize.errors import UserError

TRAIN = {
    "p1": [("dog", 1, 1, 20, 10), ("cat?", 3, 2, 8, 9)],
    "p2": [("cat", 5.5, 1, 10, 4)],
    "p3": [("dog", 2, 2, 3, 3), ("dog?", 4, 4, 6, 6)],
}
VAL = {"p4": [("cat", 1, 1, 5, 5)], "p5": []}


def problem(*data: object, annotation: Annotation = "boxes", limit: int | None = None) -> str:
    with pytest.raises(UserError) as caught:
        open_dataset([str(item) for item in data], annotation=annotation, limit=limit)
    message = str(caught.value)
    assert "\n" not in message
    return message


# --- boxes -----------------------------------------------------------------------------------------------------------


def test_boxes_are_distances_from_the_photos_corner(tmp_path: Path) -> None:
    train, test = open_dataset([str(voc_boxes(tmp_path, {"train": TRAIN, "val": VAL}))], annotation="boxes")
    assert train.classes == test.classes == ("cat", "dog")
    assert [train.photos.name(i) for i in range(3)] == [f"JPEGImages/p{i}.png" for i in (1, 2, 3)]
    assert train.sizes.tolist() == [[20, 10]] * 3
    # VOC's pixels 1 to 20 are the whole 20 px of the photo.
    assert train.boxes[0].corners.tolist() == [[0, 0, 20, 10], [2, 1, 8, 9]]
    assert train.boxes[0].corners.dtype == np.float32
    assert train.boxes[0].labels.tolist() == [1, 0]
    assert train.boxes[0].difficult.tolist() == [False, True]
    assert train.boxes[1].corners.tolist() == [[4.5, 0, 10, 4]]
    # A class counts as there if one of its objects is not difficult.
    assert train.labels.tolist() == [[-1, 1], [1, 0], [0, 1]]
    assert not train.findings
    assert test.boxes[1].corners.shape == (0, 4)
    assert summary(test.findings) == ["1 photo without objects, kept: Annotations/p5.xml"]


def test_boxes_that_do_not_fit_are_clipped_or_dropped_and_named(tmp_path: Path) -> None:
    bad = {
        "p6": [("cat", -4, 1, 5, 5), ("dog", 6, 6, 25, 30)],
        "p7": [("cat", 21, 1, 30, 5), ("dog", 9, 5, 8, 9), ("dog", 1, 1, float("nan"), 5), ("dog", 2, 2, 9, 9)],
    }
    train, _ = open_dataset([str(voc_boxes(tmp_path, {"train": {**TRAIN, **bad}, "val": VAL}))], annotation="boxes")
    assert train.boxes[3].corners.tolist() == [[0, 0, 5, 5], [5, 5, 20, 10]]
    assert train.boxes[4].corners.tolist() == [[1, 1, 9, 9]]
    assert [each.kind for each in train.findings] == ["clipped", "clipped", "dropped", "dropped", "dropped"]
    said = [each.text for each in train.findings]
    assert said[0] == "Annotations/p6.xml: object 1, cat [-5, 0, 5, 5] in a photo of 20 x 10 px"
    assert said[2] == "Annotations/p7.xml: object 1, cat [20, 0, 30, 5] is outside its photo of 20 x 10 px"
    assert said[3] == "Annotations/p7.xml: object 2, dog [8, 4, 8, 9] has no area"
    assert said[4] == "Annotations/p7.xml: object 3, dog [0, 0, nan, 5] has a side that is no number"
    lines = summary(train.findings)
    assert lines[0].startswith("3 unusable boxes dropped: ")
    assert lines[1].startswith("2 boxes reach out of their photos, clipped: Annotations/p6.xml")
    many = summary([*train.findings, *train.findings])
    assert many[0].startswith("6 unusable") and many[0].endswith("; and 3 more")


def test_photos_that_do_not_fit_their_annotation_are_left_out_and_named(tmp_path: Path) -> None:
    voc_boxes(tmp_path, {"train": {**TRAIN, "p8": [("cat", 1, 1, 5, 5)], "p9": []}, "val": VAL})
    annotation(tmp_path, "p8", [("cat", 1, 1, 5, 5)], size=(10, 20))
    (tmp_path / "JPEGImages" / "p9.png").write_bytes(b"not a photo")
    train, _ = open_dataset([str(tmp_path)], annotation="boxes")
    assert len(train) == 3
    said = [str(each) for each in train.findings]
    assert said[0] == "photo left out: Annotations/p8.xml: 10 x 20 px by its annotation, 20 x 10 px by itself"
    assert said[1].startswith("photo left out: Annotations/p9.xml: not a photo")


def test_annotated_test_list_is_tested_on_and_one_without_annotations_is_not(tmp_path: Path) -> None:
    voc_boxes(tmp_path, {"train": TRAIN, "val": VAL, "trainval": {**TRAIN, **VAL}, "test": {"p9": TRAIN["p1"]}})
    train, test = open_dataset([str(tmp_path)], annotation="boxes")
    assert (len(train), len(test)) == (5, 1)
    (tmp_path / "Annotations" / "p9.xml").unlink()
    train, test = open_dataset([str(tmp_path)], annotation="boxes")
    assert (len(train), len(test)) == (3, 2)


def test_several_folders_share_their_classes(tmp_path: Path) -> None:
    one = voc_boxes(tmp_path / "1", {"train": TRAIN, "val": VAL})
    other = voc_boxes(tmp_path / "2", {"train": {"q1": [("ant", 1, 1, 3, 3), ("dog", 2, 2, 4, 4)]}, "val": {"q2": []}})
    train, test = open_dataset([str(one), str(other)], annotation="boxes")
    assert train.classes == ("ant", "cat", "dog")
    assert train.boxes[0].labels.tolist() == [2, 1]
    assert train.boxes[3].labels.tolist() == [0, 2]
    assert len(test) == 3
    assert "two of the --data items" in problem(one, one)


def test_classes_are_those_that_there_is_something_to_train_on_of(tmp_path: Path) -> None:
    odd = {**TRAIN, "p6": [("yak?", 1, 1, 2, 2)]}
    train, _ = open_dataset([str(voc_boxes(tmp_path / "1", {"train": odd, "val": VAL}))], annotation="boxes")
    assert train.classes == ("cat", "dog")
    assert len(train.boxes[3].labels) == 0
    unknown = {**VAL, "p7": [("yak", 1, 1, 2, 2)]}
    assert "none to train on of yak." in problem(voc_boxes(tmp_path / "2", {"train": odd, "val": unknown}))


def test_limit_and_split_keep_every_class(tmp_path: Path) -> None:
    many = {f"t{i:02}": [("dog", 1, 1, 5, 5)] for i in range(30)} | {f"t{i}": [("cat", 1, 1, 5, 5)] for i in (30, 31)}
    folder = voc_boxes(tmp_path, {"train": many, "val": {**VAL, "v1": [("dog", 1, 1, 2, 2)]}})
    train, test = open_dataset([str(folder)], annotation="boxes", limit=6)
    assert len(train) == len(train.boxes) == 6
    assert (train.labels == 1).any(0).all()
    assert len(test) == 2
    whole, _ = open_dataset([str(folder)], annotation="boxes")
    fit, choose = choosing_split(whole.labels, seed=0)
    assert len(fit) + len(choose) == 32
    assert (whole.take(fit).labels == 1).any(0).all()
    assert "--limit 1" in problem(folder, limit=1)


def test_what_is_missing_is_told_in_one_line(tmp_path: Path) -> None:
    assert "--data" in problem()
    assert "no annotated photos" in problem(photo(tmp_path / "plain" / "1.png").parent)
    assert "nowhere" in problem(tmp_path / "nowhere")
    folder = voc_boxes(tmp_path / "voc", {"train": TRAIN, "val": VAL})
    assert "SegmentationClass" in problem(folder, annotation="masks")
    for file in (folder / "Annotations").iterdir():
        file.unlink()
    assert "p1.xml: No such file" in problem(folder)
    assert "no objects to test on" in problem(voc_boxes(tmp_path / "none", {"train": TRAIN, "val": {"p5": []}}))


def test_torchvisions_voc_is_read_as_the_folder_it_unpacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = voc_boxes(tmp_path / "VOCdevkit" / "VOC2012", {"train": TRAIN, "val": VAL})

    class Detection:
        def __init__(self, root: str, *, download: bool, year: str, image_set: str) -> None:
            self.images = [str(folder / "JPEGImages" / "p1.png")]

    monkeypatch.setattr(torchvision.datasets, "VOCDetection", Detection)
    train, test = open_dataset(["voc2012"], annotation="boxes", root=tmp_path)
    assert (len(train), len(test)) == (3, 2)


# --- masks -----------------------------------------------------------------------------------------------------------


def test_masks_are_class_numbers(tmp_path: Path) -> None:
    half = np.zeros((10, 20))
    half[:, 10:], half[0] = 15, 255
    folder = voc_masks(tmp_path, {"train": {"p1": half, "p2": 0}, "val": {"p3": 15}})
    train, test = open_dataset([str(folder)], annotation="masks")
    assert train.classes[:2] == ("background", "aeroplane") and len(train.classes) == 21
    assert train.masks[0].read().dtype == np.uint8
    assert (train.masks[0].read() == half).all()
    assert np.flatnonzero(train.labels[0]).tolist() == [0, 15]
    assert np.flatnonzero(test.labels[0]).tolist() == [15]
    unseen, empty = summary(train.findings)
    assert unseen.startswith("19 listed classes are in no training mask: aeroplane; bicycle; bird; and 16 more")
    assert empty == "1 photo without objects, kept: SegmentationClass/p2.png"
    (folder / "classes.txt").write_text("ground\n" + "".join(f"kind{i}\n" for i in range(1, 16)))
    assert open_dataset([str(folder)], annotation="masks")[0].classes[15] == "kind15"


def test_masks_that_do_not_fit_are_named(tmp_path: Path) -> None:
    folder = voc_masks(tmp_path, {"train": {"p1": 0, "p2": 3}, "val": {"p3": 1}})
    mask(folder / "SegmentationClass" / "p2.png", np.zeros((20, 10)))
    assert "p2.png is 10 x 20 px and its photo 20 x 10 px" in problem(folder, annotation="masks")
    mask(folder / "SegmentationClass" / "p2.png", 21)
    assert "p2.png has the value 21" in problem(folder, annotation="masks")
    photo(folder / "SegmentationClass" / "p2.png")
    assert "p2.png: it is a picture in colors, and (18, 80, 160) is none of VOC's" in problem(
        folder, annotation="masks"
    )
    (folder / "SegmentationClass" / "p2.png").unlink()
    assert "p2.png" in problem(folder, annotation="masks")
    listed(folder, "Segmentation", "train", ["p1", "gone"])
    assert "gone" in problem(folder, annotation="masks")


def test_real_voc() -> None:
    root = Path(os.environ.get("SSL_COLORIZE_PHOTOS", ""))
    if not (root / "VOCdevkit").is_dir():
        pytest.skip("SSL_COLORIZE_PHOTOS names no folder with VOCdevkit")
    train, test = open_dataset([str(root / "VOCdevkit")], annotation="boxes")
    assert (len(train), len(test)) == (960, 240)
    assert not train.findings
    sides = np.concatenate([each.corners / [*size, *size] for each, size in zip(train.boxes, train.sizes, strict=True)])
    assert sides.min() == 0 and sides.max() == 1
