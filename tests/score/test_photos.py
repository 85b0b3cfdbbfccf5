"""Which photos are scored, how they are cut, and which other photo each gets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_colorize.errors import UserError
from ssl_colorize.score.photos import batches, center_crop, open_donors, open_scored


def write(path: Path, level: int, size: tuple[int, int] = (48, 40)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (level, 255 - level, 9)).save(path)


def test_of_a_set_with_splits_the_part_to_measure_on(tmp_path: Path) -> None:
    for part in ("train", "val"):
        for name in ("n01440764", "n02102040"):
            write(tmp_path / part / name / f"{part}.png", 3)
    scored = open_scored([str(tmp_path)])
    assert [scored.photos.name(index) for index in range(2)] == ["n01440764/val.png", "n02102040/val.png"]
    assert scored.labels == [("n01440764",), ("n02102040",)] and scored.about.endswith("val")


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


def test_every_photo_once_with_another_one(photo_folder: Path) -> None:
    scored = open_scored([str(photo_folder)])
    others = open_donors(scored, [], seed=3)

    def gathered(workers: int, batch_size: int) -> tuple[list[int], torch.Tensor, torch.Tensor]:
        found = list(batches(scored, size=32, batch_size=batch_size, first=0, workers=workers, donors=others))
        indices = [index for batch in found for index in batch.indices]
        return indices, torch.cat([batch.photos for batch in found]), torch.cat([batch.others for batch in found])

    indices, photos, other = gathered(0, 4)
    assert indices == list(range(14))
    for place in range(14):
        same = [index for index in range(14) if torch.equal(other[place], photos[index])]
        assert len(same) == 1 and same[0] != place, "the other photo is one of the set, and not the photo itself"
    again = gathered(1, 5)
    assert torch.equal(again[1], photos) and torch.equal(again[2], other)


def test_going_on_gives_the_rest(photo_folder: Path) -> None:
    scored = open_scored([str(photo_folder)])
    rest = list(batches(scored, size=32, batch_size=4, first=8, workers=0, donors=None))
    assert [batch.indices for batch in rest] == [[8, 9, 10, 11], [12, 13]]
    assert not len(rest[0].others)


def test_unreadable_photos_are_named_and_never_the_other_photo(photo_folder: Path) -> None:
    for number in (0, 5, 13):
        (photo_folder / f"photo{number:02}.png").write_bytes(b"no photo")
    scored = open_scored([str(photo_folder)])
    found = list(batches(scored, size=32, batch_size=4, first=0, workers=0, donors=open_donors(scored, [], seed=0)))
    assert [index for batch in found for index in batch.unreadable] == [0, 5, 13]
    assert sum(len(batch.others) for batch in found) == 11
    assert "photo05.png" in found[1].unreadable[5]


def test_small_photos_are_known(tmp_path: Path) -> None:
    write(tmp_path / "a.png", 3, (48, 40))
    write(tmp_path / "b.png", 3, (31, 90))
    (batch,) = batches(open_scored([str(tmp_path)]), size=32, batch_size=4, first=0, workers=0, donors=None)
    assert batch.enlarged == [False, True]


def test_other_photos_of_another_set_are_never_the_photo_itself(tmp_path: Path) -> None:
    write(tmp_path / "scored" / "a.png", 10)
    scored = open_scored([str(tmp_path / "scored")])
    with pytest.raises(UserError, match="--random-data"):
        open_donors(scored, [], seed=0)
    write(tmp_path / "more.png", 200)
    both = [str(tmp_path / "scored"), str(tmp_path / "more.png")]
    for seed in range(6):
        (batch,) = batches(
            scored, size=32, batch_size=1, first=0, workers=0, donors=open_donors(scored, both, seed=seed)
        )
        assert int(batch.others[0, 0, 0, 0]) == 200


def test_without_any_other_photo_it_is_not_scored(tmp_path: Path) -> None:
    write(tmp_path / "a.png", 10)
    scored = open_scored([str(tmp_path)])
    others = open_donors(scored, [str(tmp_path)], seed=0)
    (batch,) = batches(scored, size=32, batch_size=1, first=0, workers=0, donors=others)
    assert batch.indices == [] and "no other photo" in batch.unreadable[0]
