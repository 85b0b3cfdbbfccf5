"""Batches of photos with boxes and masks are the same in every run, and whole where photos are judged."""

from pathlib import Path

import pytest
from annotated_sets import photo, voc_boxes, voc_masks

from ssl_colorize.data import open_dataset
from ssl_colorize.data.joint import Augmentation
from ssl_colorize.data.joint_batches import judging_samples, training_samples

OBJECTS = {f"p{i}": [("cat", i + 1, 1, 10 + i, 10)] for i in range(5)}


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    return voc_boxes(tmp_path, {"train": OBJECTS, "val": {"q": [("cat", 1, 1, 20, 10)], "r": []}})


def batches(folder: Path, **options: int) -> list[list[tuple[int, list[float], int]]]:
    train, _ = open_dataset([str(folder)], annotation="boxes")
    settings = {"batch_size": 2, "seed": 3, "start": 0, "steps": 6, "workers": 0} | options
    made = training_samples(train, Augmentation((10, 14), crop=10), **settings)
    return [
        [(each.number, each.boxes.flatten().tolist(), int(each.photo.sum())) for each in batch.photos] for batch in made
    ]


def test_batches_follow_from_their_positions_alone(voc: Path) -> None:
    whole = batches(voc)
    assert batches(voc, start=4) == whole[4:]
    assert batches(voc, workers=1) == whole
    halves = [batches(voc, rank=rank, world_size=2) for rank in (0, 1)]
    assert [a + b for a, b in zip(*halves, strict=True)] == whole
    flat = [index for batch in whole for index, _, _ in batch]
    assert sorted(flat[:5]) == sorted(flat[5:10]) == [0, 1, 2, 3, 4]
    assert batches(voc, seed=4) != whole


def test_an_unreadable_photo_is_replaced_and_reported(voc: Path) -> None:
    train, _ = open_dataset([str(voc)], annotation="boxes")
    (voc / "JPEGImages" / "p2.png").write_bytes(b"gone bad")
    made = list(training_samples(train, Augmentation((10, 10)), batch_size=5, seed=0, start=0, steps=2, workers=0))
    assert [len(batch.photos) for batch in made] == [5, 5]
    assert all(each.number != 2 for batch in made for each in batch.photos)
    assert "p2.png" in made[0].unreadable[0]


def test_judging_gives_whole_photos_in_order_with_their_own_truth(voc: Path) -> None:
    photo(voc / "JPEGImages" / "q.png")
    _, test = open_dataset([str(voc)], annotation="boxes")
    (batch,) = judging_samples(test, short_side=20, batch_size=3, workers=0)
    assert [each.number for each in batch.photos] == [0, 1]
    assert batch.photos[0].photo.shape == (3, 20, 40)
    assert batch.photos[0].boxes.tolist() == [[0, 0, 20, 10]]
    (voc / "JPEGImages" / "q.png").write_bytes(b"gone bad")
    first, second = judging_samples(test, short_side=None, batch_size=1, workers=0)
    assert not first.photos and "q.png" in first.unreadable[0]
    assert second.photos[0].photo.shape == (3, 10, 20)


def test_masks_are_judged_at_their_own_size(tmp_path: Path) -> None:
    folder = voc_masks(tmp_path, {"train": {"a": 3}, "val": {"b": 4}})
    _, test = open_dataset([str(folder)], annotation="masks")
    (batch,) = judging_samples(test, short_side=5, batch_size=1, workers=1)
    assert batch.photos[0].photo.shape == (3, 5, 10)
    assert batch.photos[0].mask is not None and batch.photos[0].mask.shape == (10, 20)
    assert (batch.photos[0].mask == 4).all()
