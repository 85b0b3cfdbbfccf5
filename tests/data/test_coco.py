"""COCO's JSON gives the boxes and masks that it describes."""

import json
from pathlib import Path

import numpy as np
import pytest
from annotated_sets import coco
from pycocotools import mask as coco_tools

from ssl_colorize.data import open_dataset
from ssl_colorize.data.annotations import Annotation
from ssl_colorize.errors import UserError

CATEGORIES = {3: "zebra", 1: "ant"}
# The whole left half of a 20 x 10 photo, as a polygon.
LEFT = [[0, 0, 10, 0, 10, 10, 0, 10]]


def box(category: int, *sides: float, crowd: int = 0) -> dict[str, object]:
    return {"category_id": category, "bbox": sides, "iscrowd": crowd, "segmentation": LEFT}


def problem(folder: Path, annotation: Annotation = "boxes") -> str:
    with pytest.raises(UserError) as caught:
        open_dataset([str(folder)], annotation=annotation)
    return str(caught.value)


def test_boxes(tmp_path: Path) -> None:
    train = {"b.png": [box(3, 1, 2, 4, 5), box(1, 15, 0, 10, 10)], "a.png": [box(1, 0, 0, 5, 5, crowd=1)]}
    coco(tmp_path, "train2017", train, CATEGORIES)
    coco(tmp_path, "val2017", {"c.png": [box(3, 0, 0, 20, 10)]}, CATEGORIES)
    found, test = open_dataset([str(tmp_path)], annotation="boxes")
    assert found.classes == test.classes == ("ant", "zebra")
    assert [found.photos.name(i) for i in range(2)] == ["train2017/a.png", "train2017/b.png"]
    assert found.boxes[0].difficult.tolist() == [True]
    assert found.boxes[1].corners.tolist() == [[1, 2, 5, 7], [15, 0, 20, 10]]
    assert found.boxes[1].labels.tolist() == [1, 0]
    assert [each.kind for each in found.findings] == ["clipped"]
    assert "instances_train2017.json b.png: object 2, ant [15, 0, 25, 10]" in found.findings[0].text
    assert test.boxes[0].corners.tolist() == [[0, 0, 20, 10]]


def test_masks_of_polygons_and_run_lengths(tmp_path: Path) -> None:
    small = np.zeros((10, 20), np.uint8)
    small[2:4, 5:9] = 1
    packed = coco_tools.encode(np.asfortranarray(small))
    run_length = {"counts": packed["counts"].decode(), "size": [10, 20]}
    # Columns first: 150 px without, 50 px with it, which are the last five columns.
    crowd = {"counts": [150, 50], "size": [10, 20]}
    objects = [
        {"category_id": 1, "segmentation": run_length},
        {"category_id": 3, "segmentation": LEFT},
        {"category_id": 3, "segmentation": crowd, "iscrowd": 1},
    ]
    coco(tmp_path, "train", {"a.png": objects}, CATEGORIES)
    coco(tmp_path, "val", {"b.png": [], "c.png": objects}, CATEGORIES)
    train, test = open_dataset([str(tmp_path)], annotation="masks")
    assert train.classes == ("background", "ant", "zebra")
    expected = np.zeros((10, 20))
    expected[:, :10], expected[:, 15:] = 2, 255
    # The smaller object lies on the larger one, though it comes first in the file.
    expected[2:4, 5:9] = 1
    assert (train.masks[0].read() == expected).all()
    assert train.labels.tolist() == [[1, 1, 1]]
    assert [each.kind for each in test.findings] == ["empty"]


def test_a_folder_with_annotations_beside_its_photos(tmp_path: Path) -> None:
    for part in ("train", "valid"):
        coco(tmp_path, part, {"a.png": [box(1, 0, 0, 5, 5)]}, CATEGORIES)
        written = tmp_path / "annotations" / f"instances_{part}.json"
        written.rename(tmp_path / part / "_annotations.coco.json")
    train, test = open_dataset([str(tmp_path)], annotation="boxes")
    assert train.photos.name(0) == "train/a.png" and test.photos.name(0) == "valid/a.png"


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    coco(tmp_path, "train", {"a.png": [box(1, 0, 0, 5, 5)]}, CATEGORIES)
    assert "instances_val" in problem(tmp_path) or "instances_valid" in problem(tmp_path)
    coco(tmp_path, "val", {"b.png": [box(1, 0, 0, 5, 5)]}, {1: "ant"})
    assert "different categories" in problem(tmp_path)
    coco(tmp_path, "val", {"b.png": [box(1, 0, 0, 5, 5)]}, CATEGORIES)
    (tmp_path / "val" / "b.png").unlink()
    assert "names b.png, which is not in" in problem(tmp_path)
    file = tmp_path / "annotations" / "instances_val.json"
    for content, said in (
        (json.dumps({"images": []}), "it has no 'annotations'"),
        (json.dumps([{"images": []}]), "it holds a list"),
        (json.dumps({"images": {}, "annotations": [], "categories": []}), "its 'images' are an object"),
        (json.dumps({"images": [], "annotations": [], "categories": ["ant"]}), "none of its categories"),
        ("{", "instances_val.json, line 1, is not JSON"),
        ("[" * 100_000, "nested too deep"),
        ("", "is not JSON"),
    ):
        file.write_text(content)
        assert said in problem(tmp_path)
