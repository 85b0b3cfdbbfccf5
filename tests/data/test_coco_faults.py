"""What is wrong in COCO's files is a finding for the object or the photo, and the rest is read as it stands."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from annotated_sets import coco
from PIL import Image, ImageOps

from ssl_colorize.data import LabeledDataset, open_dataset
from ssl_colorize.data.annotations import Annotation, summary
from ssl_colorize.errors import UserError

CATEGORIES = {1: "ant", 3: "zebra"}
GOOD = {"category_id": 1, "bbox": [1, 2, 4, 5], "segmentation": [[1, 2, 5, 2, 5, 7, 1, 7]]}
ZEBRA = GOOD | {"category_id": 3}
OTHER = [[10, 1, 18, 1, 18, 9, 10, 9]]


def written(
    root: Path, *objects: dict[str, Any], change: Callable[[dict[str, Any]], None] = lambda content: None
) -> Path:
    """A set whose training photo a.png has a good object and these, after `change` of the file's content."""
    coco(root, "train", {"a.png": [GOOD, *objects], "b.png": [ZEBRA]}, CATEGORIES)
    coco(root, "val", {"c.png": [GOOD, ZEBRA]}, CATEGORIES)
    file = root / "annotations" / "instances_train.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))
    return root


def opened(root: Path, annotation: Annotation = "boxes") -> LabeledDataset:
    return open_dataset([str(root)], annotation=annotation)[0]


def kinds(part: LabeledDataset) -> list[str]:
    return [each.kind for each in part.findings if each.kind != "unseen"]


def problem(root: Path, annotation: Annotation = "boxes") -> str:
    with pytest.raises(UserError) as caught:
        opened(root, annotation)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- boxes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bbox",
    [
        None, [], [1, 2, 3], "1,2,3,4", [math.nan, 1, 2, 3], [1, 1, math.inf, 3], [1, 1, None, 3], [1, 1, "wide", 3],
        [3, 3, 0, 4], [3, 3, -2, 4], {"x": 1}, 7, [1, 1, 10**400, 3],
    ],
)  # fmt: skip
def test_a_box_that_is_none_is_taken_from_its_outline_or_dropped(tmp_path: Path, bbox: Any) -> None:
    bad = {"category_id": 3, "bbox": bbox}
    train = opened(written(tmp_path / "1", bad | {"segmentation": OTHER}))
    assert train.boxes[0].corners.tolist() == [[1, 2, 5, 7], [10, 1, 18, 9]]
    assert train.boxes[0].labels.tolist() == [0, 1] and kinds(train) == ["outlined"]
    train = opened(written(tmp_path / "2", bad))
    assert train.boxes[0].corners.tolist() == [[1, 2, 5, 7]] and kinds(train) == ["dropped"]
    assert "instances_train.json a.png: object 2, zebra" in train.findings[0].text


def test_boxes_from_outlines(tmp_path: Path) -> None:
    runs = {"counts": [23, 4, 6, 4, 163], "size": [10, 20]}
    train = opened(written(tmp_path, {"category_id": 3, "segmentation": runs}))
    # Rows 3 to 6 of columns 2 and 3.
    assert train.boxes[0].corners[1].tolist() == [2, 3, 4, 7]
    train = opened(written(tmp_path, {"category_id": 3, "segmentation": [[12.5, 1, 15, 1, 15, 4.25], [9, 9, 9, 9]]}))
    assert train.boxes[0].corners[1].tolist() == [12.5, 1, 15, 4.25]


@pytest.mark.parametrize(
    ("bbox", "corners", "kind"),
    [
        (["1", "2", "3.5", "4"], [1, 2, 4.5, 6], None),
        ([-3, -2, 8, 7], [0, 0, 5, 5], "clipped"),
        ([15, 5, 1e2, 1e2], [15, 5, 20, 10], "clipped"),
        ([15, 5, 1e30, 1e30], None, "dropped"),
        ([-1e30, 5, 1e30, 3], None, "dropped"),
        ([500, 500, 5, 5], None, "dropped"),
        ([20, 0, 5, 5], None, "dropped"),
    ],
)
def test_boxes_outside(tmp_path: Path, bbox: list[Any], corners: list[float] | None, kind: str | None) -> None:
    train = opened(written(tmp_path, {"category_id": 3, "bbox": bbox}))
    assert train.boxes[0].corners.tolist()[1:] == ([] if corners is None else [corners])
    assert kinds(train) == ([] if kind is None else [kind])


def test_boxes_in_another_format_are_doubted(tmp_path: Path) -> None:
    corners = [{"category_id": 1, "bbox": [8, 3, 15, 9]}, {"category_id": 3, "bbox": [12, 5, 19, 10]}]
    train = opened(written(tmp_path, *corners, {"category_id": 1, "bbox": [9, 2, 20, 9]}))
    assert "3 of 5 boxes do not lie in their photos (COCO has left, top, width, height" in train.findings[-1].text
    assert summary(train.findings)[0].startswith("1 doubt about the format of boxes: instances_train.json a.png")

    def as_shares(content: dict[str, Any]) -> None:
        for each in content["annotations"]:
            each["bbox"] = [0.1, 0.2, 0.3, 0.4]

    assert "within 1 px, as shares of a photo would" in opened(written(tmp_path, change=as_shares)).findings[-1].text


def test_crowds_alone(tmp_path: Path) -> None:
    def all_crowds(content: dict[str, Any]) -> None:
        for each in content["annotations"]:
            each["iscrowd"] = 1

    assert "none to train on of ant, zebra" in problem(written(tmp_path / "1", change=all_crowds))
    train = opened(written(tmp_path / "2", ZEBRA | {"iscrowd": "1"}, GOOD | {"iscrowd": "0"}))
    assert train.boxes[0].difficult.tolist() == [False, True, False]


def test_nothing_usable_is_one_line(tmp_path: Path) -> None:
    def all_broken(content: dict[str, Any]) -> None:
        for each in content["annotations"]:
            each |= {"bbox": [math.nan] * 4, "segmentation": None}

    assert "None of the 2 boxes can be used, the first one for this" in problem(written(tmp_path, change=all_broken))


# --- what belongs to what --------------------------------------------------------------------------------------------


def test_ids(tmp_path: Path) -> None:
    def strange(content: dict[str, Any]) -> None:
        first, second = content["images"]
        objects = content["annotations"]
        # Words for numbers, unknown ones, an object twice, and one more image of the same file.
        first["id"], objects[0]["image_id"] = "71", 71.0
        objects[1] |= {"category_id": "3"}
        content["images"] += [second | {"id": 99}]
        content["annotations"] += [
            dict(objects[0]),
            {"id": 50, "image_id": 12345, "category_id": 1, "bbox": [1, 1, 2, 2]},
            {"id": 51, "image_id": 71, "category_id": 77, "bbox": [1, 1, 2, 2]},
            {"id": 52, "image_id": 71, "category_id": None, "bbox": [1, 1, 2, 2]},
            {"id": 53, "image_id": [1], "category_id": 1, "bbox": [1, 1, 2, 2]},
            {"id": 54, "image_id": 99, "category_id": 1, "bbox": [5, 5, 5, 5]},
            "nonsense",
        ]

    train = opened(written(tmp_path, change=strange))
    assert train.boxes[0].corners.tolist() == [[1, 2, 5, 7]]
    assert train.boxes[1].corners.tolist() == [[1, 2, 5, 7], [5, 5, 10, 10]]
    assert kinds(train) == ["unknown"] * 7
    assert any("annotation 51 is of category 77, which is not listed" in each.text for each in train.findings)
    assert any("annotation 50 is of image 12345, which is not listed" in each.text for each in train.findings)


def test_two_photos_of_one_id_are_left_out(tmp_path: Path) -> None:
    def doubled(content: dict[str, Any]) -> None:
        content["images"] += [{"id": 500, "file_name": "b.png"}, {"id": 501, "file_name": "a.png"}]
        content["images"] += [{"id": 500, "file_name": "a.png"}, {"file_name": "x.png"}, {"id": 9}]

    train = opened(written(tmp_path, change=doubled))
    assert len(train) == 2 and kinds(train).count("left out") == 4


def test_categories(tmp_path: Path) -> None:
    def renamed(content: dict[str, Any]) -> None:
        content["categories"] = [{"id": 40, "name": "zebra"}, {"id": 7, "name": "ant"}, {"id": 2, "name": "zebra"}]
        content["annotations"][0]["category_id"] = 40
        content["annotations"][1]["category_id"] = 7

    train, test = open_dataset([str(written(tmp_path, change=renamed))], annotation="boxes")
    # In the order of their ids, 2 of them for zebra; the other part, whose order is another, follows.
    assert train.classes == test.classes == ("zebra", "ant")
    assert [each.labels.tolist() for each in (*train.boxes, *test.boxes)] == [[0], [1], [1, 0]]


@pytest.mark.parametrize(
    "name",
    ["train/a.png", "C:\\data\\train\\a.png", "/elsewhere/set/train/a.png", "../train/a.png", "./a.png", "x/../a.png"],
)
def test_photos_by_other_names(tmp_path: Path, name: str) -> None:
    def moved(content: dict[str, Any]) -> None:
        content["images"][0]["file_name"] = name

    train = opened(written(tmp_path / "set", change=moved))
    names = {train.photos.name(index): each.corners.tolist() for index, each in enumerate(train.boxes)}
    assert names == {"train/a.png": [[1, 2, 5, 7]], "train/b.png": [[1, 2, 5, 7]]}


def test_photos_that_are_not_there_are_left_out(tmp_path: Path) -> None:
    def more(content: dict[str, Any]) -> None:
        content["images"] += [{"id": 70, "file_name": "gone.png"}, {"id": 71, "file_name": "../../etc/passwd"}]

    train = opened(written(tmp_path, change=more))
    assert len(train) == 2 and kinds(train) == ["left out", "left out"]
    assert "2 photos left out: instances_train.json:" in train.reading.findings[0]


# --- masks -----------------------------------------------------------------------------------------------------------


def test_what_cannot_be_drawn_does_not_count(tmp_path: Path) -> None:
    bad = {"category_id": 3, "bbox": [10, 1, 8, 8], "segmentation": [[1e30, 1, 2, 2, 3, 1e30]]}
    train = opened(written(tmp_path, bad, {"category_id": 1, "segmentation": [[0, 0, 1, 1]]}), "masks")
    expected = np.zeros((10, 20))
    expected[2:7, 1:5], expected[1:9, 10:18] = 1, 255
    assert (train.masks[0].read() == expected).all()
    assert kinds(train) == ["outline", "outline"]
    assert "annotation 1: a polygon that reaches far out of its photo; its box is not counted" in train.findings[0].text


def test_more_categories_than_masks_can_hold(tmp_path: Path) -> None:
    def many(content: dict[str, Any]) -> None:
        content["categories"] = [{"id": number, "name": f"c{number}"} for number in range(300)]

    root = written(tmp_path, change=many)
    (root / "annotations" / "instances_val.json").write_text(
        (root / "annotations" / "instances_train.json").read_text()
    )
    assert "300 categories: masks take 254 at most" in problem(root, "masks")


def test_values_are_not_for_outlines(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has outlines: leave it away"):
        open_dataset([str(written(tmp_path))], annotation="masks", mask_values="0,255")


# --- EXIF ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("annotation", ["boxes", "masks"])
def test_annotations_turn_with_their_photos(tmp_path: Path, orientation: int, annotation: Annotation) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    for part in ("train", "val"):
        coco(tmp_path, part, {"a.png": [GOOD, {**ZEBRA, "bbox": [10, 1, 8, 8], "segmentation": OTHER}]}, CATEGORIES)
        stored = np.zeros((10, 20), np.uint8)
        stored[2:7, 1:5], stored[1:9, 10:18] = 1, 2
        Image.fromarray(stored).save(tmp_path / part / "a.png", exif=exif)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / "train" / "a.png")))
    train = opened(tmp_path, annotation)
    told = orientation in (1, 5, 6, 7, 8)
    assert train.sizes.tolist() == [list(upright.shape[::-1])]
    expected = upright if told else stored
    if annotation == "masks":
        assert (train.masks[0].read() == expected).all()
    else:
        places = [np.nonzero(expected == value) for value in (1, 2)]
        boxes = [[x.min(), y.min(), x.max() + 1, y.max() + 1] for y, x in places]
        assert train.boxes[0].corners.tolist() == boxes
    assert kinds(train) == ([] if orientation == 1 else ["turned"] if told else ["orientation"])


def test_without_a_size_boxes_tell_by_where_they_fit(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6

    def sizeless(content: dict[str, Any]) -> None:
        content["images"][0] |= {"width": 0, "height": None}
        del content["images"][1]["width"]

    root = written(tmp_path, {"category_id": 1, "bbox": [12, 3, 7, 4]}, change=sizeless)
    for stem in ("a", "b"):
        Image.new("RGB", (20, 10)).save(root / "train" / f"{stem}.png", exif=exif)
    train = opened(root)
    # Of a.png the second box only fits the 20 x 10 px that are stored; of b.png nothing tells, and it is taken alike.
    assert train.boxes[0].corners.tolist() == [[3, 1, 8, 5], [3, 12, 7, 19]]
    assert train.boxes[1].corners.tolist() == [[3, 1, 8, 5]]
    assert kinds(train) == ["turned", "orientation"]
    train = opened(written(tmp_path / "2", change=sizeless))
    assert train.boxes[1].corners.tolist() == [[1, 2, 5, 7]] and not kinds(train)


@pytest.mark.parametrize("annotation", ["boxes", "masks"])
@pytest.mark.parametrize("told", ["stored", "upright"])
def test_what_does_not_tell_is_taken_like_the_others(tmp_path: Path, annotation: Annotation, told: str) -> None:
    def of_upright(content: dict[str, Any]) -> None:
        if told == "upright":
            content["images"][0] |= {"width": 10, "height": 20}

    root = written(tmp_path, change=of_upright)
    for stem, orientation in (("a", 6), ("b", 3)):
        exif = Image.Exif()
        exif[274] = orientation
        Image.new("RGB", (20, 10)).save(root / "train" / f"{stem}.png", exif=exif)
    train = opened(root, annotation)
    assert kinds(train) == (["turned", "orientation"] if told == "stored" else ["orientation"])
    left, top, right, bottom = [15, 3, 19, 8] if told == "stored" else [1, 2, 5, 7]
    if annotation == "boxes":
        assert train.boxes[1].corners.tolist() == [[left, top, right, bottom]]
    else:
        expected = np.zeros((10, 20))
        expected[top:bottom, left:right] = 2
        assert (train.masks[1].read() == expected).all()


def test_numbers_are_told_as_they_stand_in_the_file(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    root = written(tmp_path, {"category_id": 3, "bbox": [9, 3, math.nan, 2]})
    Image.new("RGB", (20, 10)).save(root / "train" / "a.png", exif=exif)
    (dropped,) = (each.text for each in opened(root).findings if each.kind == "dropped")
    assert "[9, 3, nan, 5]" in dropped
