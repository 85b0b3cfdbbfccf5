"""Which photos are scored, how they are cut, and which other photo each gets."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_colorize.data import open_dataset, open_photos
from ssl_colorize.errors import UserError
from ssl_colorize.score.photos import Crop, Crops, Donors, ScoredPhotos, center_crop, open_donors, open_scored


def write(path: Path, level: int, size: tuple[int, int] = (48, 40)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (level, 255 - level, 9)).save(path)


def test_of_a_set_with_splits_the_part_to_measure_on(tmp_path: Path) -> None:
    for part in ("train", "val"):
        for name in ("n01440764", "n02102040"):
            write(tmp_path / part / name / f"{part}.png", 3)
    scored = open_scored([str(tmp_path)])
    assert [scored.photos.name(index) for index in range(2)] == ["n01440764/val.png", "n02102040/val.png"]
    assert scored.labels == [("n01440764",), ("n02102040",)] and scored.about.endswith(" (val/)")


def test_the_part_that_measuring_verbs_test_on(tmp_path: Path) -> None:
    """test/ without labels gives way to val/; of class folders without splits a fifth is that part."""
    for name in ("a", "b"):
        for number in range(5):
            write(tmp_path / "set" / "train" / name / f"{number}.png", 3)
        write(tmp_path / "set" / "valid" / name / "val.png", 4)
    write(tmp_path / "set" / "test" / "1.png", 5)
    whole, alone = str(tmp_path / "set"), str(tmp_path / "set" / "train")
    for data, test in (([whole], open_dataset([whole])[1]), ([alone], open_dataset([alone])[1])):
        scored = open_scored(data)
        names = [[photos.name(index) for index in range(len(photos))] for photos in (scored.photos, test.photos)]
        assert names[0] == names[1] and len(scored) == 2
        pretrained = open_photos(data)
        assert not {pretrained.stamp(i) for i in range(len(pretrained))} & {scored.photos.stamp(i) for i in (0, 1)}
    assert f"--test {alone} reads all" in scored.photos.reading.line()
    assert len(open_scored(test=[alone])) == 10
    (tmp_path / "set" / "valid").rename(tmp_path / "set" / "val")
    assert len(open_scored([whole])) == 2


def test_of_a_list_and_of_coco_the_part_to_measure_on(tmp_path: Path) -> None:
    for number in range(4):
        write(tmp_path / "images" / f"{number}.png", number)
    (tmp_path / "labels.csv").write_text("file,label,split\n0.png,x,train\n1.png,y,train\n2.png,x,test\n3.png,y,val\n")
    assert open_scored([str(tmp_path / "labels.csv")]).photos.name(0) == "2.png"
    for part, names in (("train2017", (0, 1)), ("val2017", (2, 3))):
        images = [{"id": number, "file_name": f"{number}.png"} for number in names]
        boxes = [{"id": number, "image_id": number, "category_id": 1} for number in names]
        (tmp_path / "annotations").mkdir(exist_ok=True)
        (tmp_path / "annotations" / f"instances_{part}.json").write_text(
            json.dumps({"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "cat"}]})
        )
    scored = open_scored([str(tmp_path)])
    assert [scored.photos.name(index) for index in range(len(scored))] == ["images/2.png", "images/3.png"]


def test_labels_are_folders_innermost_first(tmp_path: Path) -> None:
    write(tmp_path / "cat" / "black" / "a.png", 3)
    write(tmp_path / "b.png", 3)
    assert dict(zip(("b", "a"), open_scored([str(tmp_path)]).labels, strict=True)) == {"b": (), "a": ("black", "cat")}


def test_limit_keeps_labels_with_their_photos(photo_folder: Path) -> None:
    whole = open_scored([str(photo_folder)])
    for place in range(14):
        whole.labels[place] = (whole.photos.name(place),)
    some = whole.limit(5)
    assert [some.photos.name(index) for index in range(5)] == [label for (label,) in some.labels]
    assert some.about.startswith("5 of the 14 of ")


def test_cut_is_the_center_at_that_short_side() -> None:
    pixels = np.zeros((40, 80, 3), np.uint8)
    pixels[:, 20:60] = 200
    photo = center_crop(Image.fromarray(pixels), 40)
    assert photo.shape == (3, 40, 40) and bool((photo == 200).all())
    assert center_crop(Image.fromarray(pixels), 32).shape == (3, 32, 32)


def all_crops(scored: ScoredPhotos, donors: Donors | None, *, workers: int = 0, batch_size: int = 4) -> list[Crop]:
    batches = Crops(scored.photos, size=32, donors=donors).batches(batch_size, workers=workers)
    return [crop for batch in batches for crop in batch]


def test_every_photo_once_with_another_one(photo_folder: Path) -> None:
    scored = open_scored([str(photo_folder)])
    donors = open_donors(scored, [], seed=3)
    crops = all_crops(scored, donors)
    assert [crop.index for crop in crops] == list(range(14)) and crops[5].name == "photo05.png"
    for crop in crops:
        assert crop.photo is not None and crop.other is not None and crop.photo.shape == (3, 32, 32)
        same = [each.index for each in crops if each.photo is not None and torch.equal(crop.other, each.photo)]
        assert len(same) == 1 and same[0] != crop.index, "the other photo is one of the set, and not the photo itself"
    for one, again in zip(crops, all_crops(scored, donors, workers=1, batch_size=5), strict=True):
        assert one.photo is not None and again.photo is not None and one.other is not None and again.other is not None
        assert torch.equal(one.photo, again.photo) and torch.equal(one.other, again.other)


def test_going_on_gives_the_rest(photo_folder: Path) -> None:
    rest = list(Crops(open_scored([str(photo_folder)]).photos, size=32).batches(4, first=8))
    assert [[crop.index for crop in batch] for batch in rest] == [[8, 9, 10, 11], [12, 13]]
    assert rest[0][0].other is None


def test_unreadable_photos_are_named_and_never_the_other_photo(photo_folder: Path) -> None:
    for number in (0, 5, 13):
        (photo_folder / f"photo{number:02}.png").write_bytes(b"no photo")
    scored = open_scored([str(photo_folder)])
    crops = all_crops(scored, open_donors(scored, [], seed=0))
    assert [crop.index for crop in crops if crop.unreadable] == [0, 5, 13]
    assert sum(crop.other is not None for crop in crops) == 11 and crops[5].photo is None
    assert "photo05.png" in crops[5].unreadable


def test_small_photos_are_known(tmp_path: Path) -> None:
    write(tmp_path / "a.png", 3, (48, 40))
    write(tmp_path / "b.png", 3, (31, 90))
    assert [crop.enlarged for crop in all_crops(open_scored([str(tmp_path)]), None)] == [False, True]


def test_other_photos_of_another_set_are_never_the_photo_itself(tmp_path: Path) -> None:
    write(tmp_path / "scored" / "a.png", 10)
    scored = open_scored([str(tmp_path / "scored")])
    with pytest.raises(UserError, match="--random-data"):
        open_donors(scored, [], seed=0)
    write(tmp_path / "more.png", 200)
    both = [str(tmp_path / "scored"), str(tmp_path / "more.png")]
    for seed in range(6):
        (crop,) = all_crops(scored, open_donors(scored, both, seed=seed))
        assert crop.other is not None and int(crop.other[0, 0, 0]) == 200


def test_without_any_other_photo_it_is_not_scored(tmp_path: Path) -> None:
    write(tmp_path / "a.png", 10)
    scored = open_scored([str(tmp_path)])
    (crop,) = all_crops(scored, open_donors(scored, [str(tmp_path)], seed=0))
    assert crop.photo is None and "no other photo" in crop.unreadable
