"""The photos of a run are the same however it is spread, and are resized, cut and mirrored as said."""

import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from annotated_sets import annotation, photo, voc_boxes, voc_masks
from PIL import Image

from ssl_colorize.data import open_dataset
from ssl_colorize.data.images import UnreadablePhoto
from ssl_colorize.data.loading import (
    Batch,
    UnreadableLog,
    annotated_holdout_batches,
    annotated_training_batches,
    holdout_batches,
    training_batches,
)
from ssl_colorize.data.photos import Photos
from ssl_colorize.data.sources import open_photos
from ssl_colorize.data.transforms import PADDING, Augmentation, DecodedPhotos, resized_window
from ssl_colorize.errors import UserError


class MadePhotos(Photos):
    """Photo i is of one color, whose red is i; those in `broken` cannot be read."""

    def __init__(self, count: int, broken: Iterable[int] = (), size: tuple[int, int] = (10, 8)) -> None:
        self.count, self.broken, self.size = count, set(broken), size

    def __len__(self) -> int:
        return self.count

    def name(self, index: int) -> str:
        return f"photo {index}"

    def read(self, index: int, *, short_side: int | None = None) -> Image.Image:
        if index in self.broken:
            raise UnreadablePhoto(f"photo {index}: broken")
        return Image.new("RGB", self.size, (index, 0, 0))

    def take(self, indices: Iterable[int]) -> Photos:
        raise AssertionError("batches take photos one by one, never a part of the set")


class SlopePhotos(MadePhotos):
    """Red is the column and green the row, so that a crop tells where it is from."""

    def read(self, index: int, *, short_side: int | None = None) -> Image.Image:
        width, height = self.size
        columns, rows = np.meshgrid(np.arange(width), np.arange(height))
        return Image.fromarray(np.stack([columns, rows, np.zeros_like(rows)], -1).astype(np.uint8))


def batches(photos: Photos, *, start: int = 0, steps: int = 6, workers: int = 0, **changes: object) -> list[Batch]:
    settings = {"resize": (8, 12), "crop": 8, "batch_size": 4, "seed": 3} | changes
    return list(training_batches(photos, start=start, steps=steps, workers=workers, **settings))


def stacked(parts: Iterable[Batch]) -> torch.Tensor:
    return torch.cat([part.photos for part in parts])


def chosen(parts: Iterable[Batch]) -> list[int]:
    """Which of MadePhotos are at each position."""
    return stacked(parts)[:, 0, 0, 0].tolist()


@pytest.fixture(scope="module")
def real() -> Photos:
    """Real photos, of many sizes."""
    return open_photos(["samples"]).holdout(0.1, most=10)[0]


# --- the same photos whatever the circumstances ----------------------------------------------------------------------


def test_batches_are_uint8_rgb(real: Photos) -> None:
    first = batches(real, steps=1, resize=(32, 40), crop=24)[0]
    assert first.photos.dtype == torch.uint8
    assert first.photos.shape == (4, 3, 24, 24)
    assert first.unreadable == []


def test_workers_change_nothing(real: Photos) -> None:
    alone = batches(real, steps=7, resize=(32, 40), crop=24)
    helped = batches(real, steps=7, resize=(32, 40), crop=24, workers=2)
    assert torch.equal(stacked(alone), stacked(helped))


def test_starting_later_continues_exactly(real: Photos) -> None:
    whole = batches(real, steps=70, resize=(16, 20), crop=16)  # 280 positions: past the end of the first epoch
    assert len(real) < 280
    for start in (1, 58, 69):
        assert torch.equal(
            stacked(batches(real, start=start, steps=70, resize=(16, 20), crop=16)), stacked(whole[start:])
        )
    assert batches(real, start=70, steps=70) == []


@pytest.mark.parametrize("world_size", [2, 4])
def test_ranks_share_the_batch_of_one_process(real: Photos, world_size: int) -> None:
    whole = batches(real)
    ranks = [batches(real, rank=rank, world_size=world_size) for rank in range(world_size)]
    for step, batch in enumerate(whole):
        assert torch.equal(batch.photos, torch.cat([rank[step].photos for rank in ranks]))


def test_each_epoch_is_every_photo_once_in_its_own_order() -> None:
    order = chosen(batches(MadePhotos(12), steps=9))
    epochs = [order[i : i + 12] for i in (0, 12, 24)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(12))
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert chosen(batches(MadePhotos(12), steps=9, seed=4)) != order


def test_batch_larger_than_the_set() -> None:
    (batch,) = batches(MadePhotos(3), steps=1, batch_size=8)
    order = batch.photos[:, 0, 0, 0].tolist()
    assert sorted(order[:3]) == sorted(order[3:6]) == [0, 1, 2]


def test_global_random_numbers_are_left_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    batches(MadePhotos(5), workers=2, steps=2)
    assert torch.equal(torch.rand(3), expected)


# --- resizing, cropping, mirroring -----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(100, 60), (60, 100), (31, 33), (300, 20)])
@pytest.mark.parametrize("short_side", [24, 37, 64])
def test_window_is_a_crop_of_the_resized_photo(size: tuple[int, int], short_side: int) -> None:
    # Far from 0 and 255: Pillow clips between its two passes, whose order may differ for a part.
    noise = np.random.default_rng(0).integers(80, 176, (size[1], size[0], 3), np.uint8)
    photo = Image.fromarray(noise)
    width, height = (round(side * short_side / min(size)) for side in size)
    whole = np.asarray(photo.resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    for across, down in [(0.0, 0.0), (0.5, 0.5), (0.999, 0.999), (0.2, 0.7)]:
        left, top = int(across * (width - 23)), int(down * (height - 23))
        window = resized_window(photo, short_side=short_side, crop=24, across=across, down=down)
        # Equal up to the rounding of filter weights.
        assert np.abs(np.asarray(window) - whole[top : top + 24, left : left + 24]).max() <= 1


@pytest.mark.parametrize("size", [(4000, 3), (2, 900), (1, 1), (5, 5)])
def test_extreme_shapes_give_a_full_crop(size: tuple[int, int]) -> None:
    assert batches(MadePhotos(2, size=size), steps=1)[0].photos.shape == (4, 3, 8, 8)
    (held,) = holdout_batches(MadePhotos(2, size=size), resize=9, crop=8, batch_size=4, workers=0)
    assert held.photos[:, 0].float().mean(dim=(1, 2)).tolist() == [0, 1]


def test_crops_and_mirroring_vary_over_all_places() -> None:
    """Not resized: the corner of each crop says exactly where it is from."""
    crops = stacked(batches(SlopePhotos(1, size=(20, 17)), steps=150, resize=(17, 17), crop=16)).int()
    assert crops.shape[0] == 600
    steps_right = crops[:, 0, 0, 1] - crops[:, 0, 0, 0]
    mirrored = steps_right == -1
    assert (mirrored | (steps_right == 1)).all()
    assert 240 < mirrored.sum() < 360  # half of 600, five deviations
    left = torch.where(mirrored, crops[:, 0, 0, -1], crops[:, 0, 0, 0])
    # 5 places across and 2 down, each as likely: 120 and 300, five deviations.
    assert all(abs((left == place).sum() - 120) < 50 for place in range(5))
    assert all(abs((crops[:, 1, 0, 0] == place).sum() - 300) < 62 for place in range(2))


def test_short_side_takes_every_size_of_the_range(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def noting(photo: Image.Image, *, short_side: int, **options: Any) -> Image.Image:
        sizes.append(short_side)
        return resized_window(photo, short_side=short_side, **options)

    monkeypatch.setattr("ssl_colorize.data.transforms.resized_window", noting)
    batches(MadePhotos(5), steps=75, resize=(10, 12))
    assert set(sizes) == {10, 11, 12}
    assert all(60 < sizes.count(size) < 140 for size in (10, 11, 12))


@pytest.mark.parametrize("workers", [0, 2])
def test_photos_kept_in_memory_change_nothing(real: Photos, workers: int) -> None:
    plain = stacked(batches(real, steps=9))
    # All of them, and only some.
    for megabytes in (100, 1):
        assert torch.equal(stacked(batches(real, steps=9, workers=workers, keep=megabytes)), plain)


def test_photos_are_kept_up_to_the_memory() -> None:
    read: list[tuple[int, int | None]] = []

    class Noting(MadePhotos):
        def read(self, index: int, *, short_side: int | None = None) -> Image.Image:
            read.append((index, short_side))
            return super().read(index)

    photos = Noting(4, size=(64, 64))
    # Two photos of 64 x 64 pixels of four bytes, and not three.
    decoded = DecodedPhotos(photos, 20, 2.5 * 64 * 64 * 4 / 2**20)
    for _ in range(3):
        for index in range(4):
            decoded.read(index)
    assert [index for index, _ in read] == [0, 1, 2, 3, 2, 3, 2, 3] and {side for _, side in read} == {20}


def test_small_photos_are_enlarged() -> None:
    (held,) = holdout_batches(SlopePhotos(1, size=(4, 4)), resize=16, crop=16, batch_size=1, workers=0)
    assert held.photos[0, 0, 0, 0] == 0
    assert held.photos[0, 0, 0, -1] == 3


def test_holdout_is_centered_in_order_and_unmirrored() -> None:
    parts = list(holdout_batches(SlopePhotos(5, size=(20, 16)), resize=16, crop=8, batch_size=2, workers=0))
    assert [len(part.photos) for part in parts] == [2, 2, 1]
    assert parts[0].photos[0, 0, 0].tolist() == list(range(6, 14))
    assert parts[0].photos[0, 1, :, 0].tolist() == list(range(4, 12))
    ordered = list(holdout_batches(MadePhotos(5), resize=8, crop=8, batch_size=2, workers=2))
    assert chosen(ordered) == [0, 1, 2, 3, 4]


# --- boxes and masks -------------------------------------------------------------------------------------------------

OBJECTS = {f"p{i}": [("cat", i + 1, 1, 10 + i, 10)] for i in range(5)}


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    return voc_boxes(tmp_path, {"train": OBJECTS, "val": {"q": [("cat", 1, 1, 20, 10)], "r": []}})


def annotated(folder: Path, **options: int) -> list[list[tuple[int, list[float], int]]]:
    train, _ = open_dataset([str(folder)], annotation="boxes")
    settings = {"batch_size": 2, "seed": 3, "start": 0, "steps": 6, "workers": 0} | options
    made = annotated_training_batches(train, Augmentation((10, 14), crop=10), **settings)
    return [
        [
            (index, boxes.corners.flatten().tolist(), int(photo.sum()))
            for index, boxes, photo in zip(batch.indices.tolist(), batch.boxes, batch.photos, strict=True)
        ]
        for batch in made
    ]


def test_annotated_batches_follow_from_their_positions_alone(voc: Path) -> None:
    whole = annotated(voc)
    assert annotated(voc, start=4) == whole[4:]
    assert annotated(voc, workers=1) == whole
    halves = [annotated(voc, rank=rank, world_size=2) for rank in (0, 1)]
    assert [a + b for a, b in zip(*halves, strict=True)] == whole
    flat = [index for batch in whole for index, _, _ in batch]
    assert sorted(flat[:5]) == sorted(flat[5:10]) == [0, 1, 2, 3, 4]
    assert annotated(voc, seed=4) != whole


def test_an_unreadable_annotated_photo_is_replaced_and_reported(voc: Path) -> None:
    train, _ = open_dataset([str(voc)], annotation="boxes")
    (voc / "JPEGImages" / "p2.png").write_bytes(b"gone bad")
    made = list(
        annotated_training_batches(train, Augmentation((10, 10)), batch_size=5, seed=0, start=0, steps=2, workers=0)
    )
    assert [len(batch.photos) for batch in made] == [5, 5]
    assert all(2 not in batch.indices.tolist() for batch in made)
    assert "p2.png" in made[0].unreadable[0]


def test_holdout_gives_whole_photos_in_order_with_their_own_truth(voc: Path) -> None:
    photo(voc / "JPEGImages" / "q.png")
    _, test = open_dataset([str(voc)], annotation="boxes")
    (batch,) = annotated_holdout_batches(test, short_side=20, batch_size=3, workers=0)
    assert batch.indices.tolist() == [0, 1]
    assert batch.each_photo()[0].shape == (3, 20, 40)
    assert batch.boxes[0].corners.tolist() == [[0, 0, 20, 10]]
    (voc / "JPEGImages" / "q.png").write_bytes(b"gone bad")
    (batch,) = annotated_holdout_batches(test, short_side=None, batch_size=1, workers=0)
    assert batch.indices.tolist() == [1] and "q.png" in batch.unreadable[0]
    assert batch.photos.shape == (1, 3, 10, 20)


def test_photos_of_several_sizes_are_padded_with_gray(tmp_path: Path) -> None:
    folder = voc_boxes(tmp_path, {"train": OBJECTS, "val": {"q": [("cat", 1, 1, 20, 10)], "r": []}})
    photo(folder / "JPEGImages" / "r.png", size=(10, 30))
    annotation(folder, "r", [], size=(10, 30))
    _, test = open_dataset([str(folder)], annotation="boxes")
    (batch,) = annotated_holdout_batches(test, short_side=10, batch_size=2, workers=1)
    assert batch.photos.shape == (2, 3, 30, 20) and batch.sizes == [(10, 20), (30, 10)]
    assert (batch.photos[0, :, 10:] == PADDING).all() and (batch.photos[1, :, :, 10:] == PADDING).all()
    single = annotated_holdout_batches(test, short_side=10, batch_size=1, workers=0)
    for alone, own in zip(single, batch.each_photo(), strict=True):
        assert torch.equal(alone.photos[0], own)


def test_held_out_masks_keep_their_own_size(tmp_path: Path) -> None:
    folder = voc_masks(tmp_path, {"train": {"a": [[3, 4] * 10] * 10}, "val": {"b": 4}})
    _, test = open_dataset([str(folder)], annotation="masks")
    (batch,) = annotated_holdout_batches(test, short_side=5, batch_size=1, workers=1)
    assert batch.photos.shape == (1, 3, 5, 10)
    assert batch.masks[0].shape == (10, 20)
    assert (batch.masks[0] == 4).all()


# --- unreadable photos -----------------------------------------------------------------------------------------------


def test_batches_say_which_photos_they_hold() -> None:
    photos = MadePhotos(7, broken=[2, 5])
    for part in batches(photos, steps=8):
        assert part.indices.tolist() == part.photos[:, 0, 0, 0].tolist()
    held = list(holdout_batches(photos, resize=8, crop=8, batch_size=2, workers=0))
    assert [index for part in held for index in part.indices.tolist()] == [0, 1, 3, 4, 6]
    assert stacked(held)[:, 0, 0, 0].tolist() == [0, 1, 3, 4, 6]


def test_unreadable_photos_are_replaced_and_reported() -> None:
    good, bad = batches(MadePhotos(12), steps=3), batches(MadePhotos(12, broken=[5]), steps=3)
    order = chosen(good)
    place = order.index(5)
    expected = [*order]
    expected[place] = order[(place + 1) % 12]
    assert chosen(bad) == expected
    assert [part.unreadable for part in bad] == [["photo 5: broken"] if place // 4 == step else [] for step in range(3)]
    again = batches(MadePhotos(12, broken=[5]), steps=3, workers=2)
    assert chosen(again) == expected


@pytest.mark.parametrize("workers", [0, 1])
def test_nothing_readable_is_one_line(workers: int) -> None:
    photos = MadePhotos(6, broken=range(6))
    with pytest.raises(UserError, match="6 photos could not be read") as caught:
        batches(photos, workers=workers)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="photo 5: broken"):
        list(holdout_batches(photos, resize=8, crop=8, batch_size=2, workers=workers))


def test_holdout_leaves_unreadable_photos_out_and_no_batch_empty() -> None:
    parts = list(holdout_batches(MadePhotos(9, broken=[0, 1, 4, 6, 7, 8]), resize=8, crop=8, batch_size=2, workers=0))
    assert chosen(parts) == [2, 3, 5]
    assert all(len(part.photos) for part in parts)
    assert [line[6] for part in parts for line in part.unreadable] == ["0", "1", "4", "6", "7", "8"]


def test_log_lists_each_file_once(tmp_path: Path) -> None:
    log = UnreadableLog(tmp_path, 1000)
    log.add([], read=32)
    assert not (tmp_path / "unreadable.txt").exists()
    log.add(["a.jpg: truncated", "caf\udce9.jpg: broken"], read=30)
    log.add(["a.jpg: truncated"], read=31)
    assert (tmp_path / "unreadable.txt").read_text() == "a.jpg: truncated\ncaf\\udce9.jpg: broken\n"
    assert len(log) == 2


def test_log_stops_a_run_of_mostly_unreadable_photos(tmp_path: Path) -> None:
    log = UnreadableLog(tmp_path, 1000)
    log.add([f"{i}: broken" for i in range(10)], read=9)  # 10 of 19 are too few to tell
    log.add([], read=1)  # 10 of 20 are not more than half
    with pytest.raises(UserError, match=r"11 of the first 21 .*unreadable\.txt"):
        log.add(["10: broken"], read=0)
    assert len((tmp_path / "unreadable.txt").read_text().splitlines()) == 11


def test_log_counts_photos_not_epochs(tmp_path: Path) -> None:
    """Of 6 photos, 4 are unreadable: that the other two are read over and over does not make it better."""
    log = UnreadableLog(tmp_path, 6)
    log.add(["a: broken", "b: broken", "c: broken"], read=100)
    with pytest.raises(UserError, match="4 of the first 6"):
        log.add(["d: broken"], read=100)


# --- settings and workers --------------------------------------------------------------------------------------------


def test_settings_that_do_not_fit_are_refused_at_once() -> None:
    common = {"seed": 0, "start": 0, "steps": 1, "workers": 0}
    with pytest.raises(UserError, match="crop of 16"):
        training_batches(MadePhotos(2), resize=(8, 20), crop=16, batch_size=2, **common)
    with pytest.raises(UserError, match="shared equally"):
        training_batches(MadePhotos(2), resize=(8, 8), crop=8, batch_size=3, world_size=2, **common)
    with pytest.raises(UserError, match="crop of 16"):
        holdout_batches(MadePhotos(2), resize=8, crop=16, batch_size=2, workers=0)


class TellingPhotos(MadePhotos):
    """Photos whose color tells how the process that reads them is set up."""

    def read(self, index: int, *, short_side: int | None = None) -> Image.Image:
        ignored = [signal.getsignal(number) == signal.SIG_IGN for number in (signal.SIGINT, signal.SIGTERM)]
        return Image.new("RGB", (8, 8), (*map(int, ignored), torch.get_num_threads()))


def test_workers_outlive_interrupts_and_use_one_thread() -> None:
    # Whoever starts the tests may have them ignore signals (a shell does, of what runs in its background).
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, signal.default_int_handler) for number in numbers]
    try:
        (batch,) = batches(TellingPhotos(2), steps=1, workers=1)
        after = [signal.getsignal(number) for number in numbers]
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
    assert batch.photos[0, :, 0, 0].tolist() == [1, 1, 1]
    assert after == [signal.default_int_handler] * 2
