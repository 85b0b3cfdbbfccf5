"""Photos, boxes and masks stay together when they are resized, cropped and mirrored."""

import random

import numpy as np
from PIL import Image

from ssl_colorize.data.annotations import Boxes
from ssl_colorize.data.transforms import (
    PADDING,
    Augmentation,
    Draws,
    Plan,
    apply,
    make_plan,
    resized,
)

SIZE = (8, 6)
RAMP = np.arange(48, dtype=np.uint8).reshape(6, 8)


def ramp() -> Image.Image:
    """Each pixel its own number, the same in all channels."""
    return Image.fromarray(np.stack([RAMP] * 3, axis=2))


def done(plan: Plan, *boxes: tuple[float, float, float, float]) -> tuple[np.ndarray, np.ndarray, list[list[float]]]:
    """Photo, mask and boxes after a plan; the mask starts as a copy of the photo."""
    labels = range(len(boxes))
    sample = apply(plan, ramp(), SIZE, boxes=Boxes.of(boxes, labels), mask=RAMP.copy())
    assert sample.mask is not None and sample.photo.dtype == sample.mask.dtype == np.uint8
    assert type(sample.photo) is type(sample.mask) is np.ndarray
    assert sample.boxes is not None
    assert len(sample.boxes.corners) == len(sample.boxes.labels) == len(sample.boxes.difficult)
    return sample.photo[0], sample.mask, sample.boxes.corners.tolist()


def test_mirror() -> None:
    pixels, mask, boxes = done(Plan(SIZE, mirrored=True), (0, 0, 8, 6), (0, 1, 3, 4), (7, 5, 8, 6))
    assert (pixels == RAMP[:, ::-1]).all() and (mask == RAMP[:, ::-1]).all()
    # Left and right change places: [l, r] -> [W - r, W - l].
    assert boxes == [[0, 0, 8, 6], [5, 1, 8, 4], [0, 5, 1, 6]]


def test_crop_at_the_borders() -> None:
    corner = (4, 2, 4)  # the lower right
    pixels, mask, boxes = done(
        Plan(SIZE, corner),
        (5, 3, 7, 5),  # inside: moves
        (0, 0, 8, 6),  # the whole photo: 16 of 48 px, the whole crop
        (4, 2, 8, 6),  # the crop itself
        (2, 2, 6, 6),  # cut in half
        (0, 0, 4, 6),  # touches the border from outside: vanishes
        (1, 2, 5, 6),  # a quarter is left: just stays
        (0, 2, 5, 6),  # a fifth is left: goes
    )
    assert (pixels == RAMP[2:, 4:]).all() and (mask == RAMP[2:, 4:]).all()
    assert boxes == [[1, 1, 3, 3], [0, 0, 4, 4], [0, 0, 4, 4], [0, 0, 2, 4], [0, 0, 1, 4]]


def test_crop_and_mirror_agree_with_doing_so_to_the_pixels() -> None:
    pixels, mask, boxes = done(Plan(SIZE, (1, 0, 5), mirrored=True), (2, 1, 4, 3))
    expected = RAMP[:5, 1:6][:, ::-1]
    assert (pixels == expected).all() and (mask == expected).all()
    (box,) = np.asarray(boxes, int)
    assert sorted(pixels[box[1] : box[3], box[0] : box[2]].ravel()) == sorted(RAMP[1:3, 2:4].ravel())


def test_a_crop_larger_than_the_photo_is_padded_at_right_and_bottom() -> None:
    pixels, mask, boxes = done(Plan(SIZE, (0, 0, 10)), (1, 1, 8, 6))
    assert pixels.shape == mask.shape == (10, 10)
    assert (pixels[:6, :8] == RAMP).all() and (mask[:6, :8] == RAMP).all()
    assert (pixels[6:] == PADDING).all() and (pixels[:, 8:] == PADDING).all()
    assert (mask[6:] == 255).all() and (mask[:, 8:] == 255).all()
    assert boxes == [[1, 1, 8, 6]]
    # Mirrored, the padding is at the left.
    pixels, mask, boxes = done(Plan(SIZE, (0, 0, 10), mirrored=True), (1, 1, 8, 6))
    assert (mask[:6, 2:] == RAMP[:, ::-1]).all() and (mask[:, :2] == 255).all()
    assert boxes == [[2, 1, 9, 6]]


def test_resizing() -> None:
    _, mask, boxes = done(Plan((16, 18)), (1, 1, 3, 4), (0, 0, 8, 6))
    assert boxes == [[2, 3, 6, 12], [0, 0, 16, 18]]
    # Masks keep their values: between two classes there is no third.
    assert (mask == np.repeat(np.repeat(RAMP, 3, axis=0), 2, axis=1)).all()
    _, mask, boxes = done(Plan((4, 3)), (0, 0, 2, 4), (4, 4, 5, 6))
    assert set(mask.ravel()) <= set(RAMP.ravel()) and mask.shape == (3, 4)
    # The second one is narrower than a pixel now.
    assert boxes == [[0, 0, 1, 2]]


def test_a_photo_decoded_smaller_is_placed_by_its_own_size() -> None:
    sample = apply(Plan((4, 3)), ramp().resize((4, 3)), SIZE, boxes=Boxes.of([[0, 0, 4, 6]], [0]))
    assert sample.boxes is not None and sample.boxes.corners.tolist() == [[0, 0, 2, 3]]
    assert sample.photo.shape == (3, 3, 4)


def test_proposals_move_with_the_photo_and_stay_as_many() -> None:
    regions = np.asarray([[0, 0, 2, 2], [4, 2, 8, 6]], np.float32)
    sample = apply(Plan(SIZE, (4, 2, 4), mirrored=True), ramp(), SIZE, proposals=regions)
    assert sample.proposals is not None
    assert sample.proposals[1].tolist() == [0, 0, 4, 4]
    assert len(sample.proposals) == 2


def test_sizes() -> None:
    assert resized((40, 20), 10) == (20, 10)
    assert resized((20, 41), 10) == (10, 20)
    assert resized((40, 20), 10, 15) == (15, 8)
    assert resized((1000, 1), 1, 100) == (100, 1)


def test_plans_reach_all_of_the_range_and_all_of_the_photo() -> None:
    augmentation = Augmentation((10, 12), crop=10)
    chances = [random.Random(i).random for i in range(300)]
    draws = [Draws(draw(), draw(), draw(), draw()) for draw in chances]
    plans = [make_plan(augmentation, (20, 10), each) for each in draws]
    assert {min(plan.size) for plan in plans} == {10, 11, 12}
    lefts = {plan.size: [each.crop[0] for each in plans if each.size == plan.size and each.crop] for plan in plans}
    assert all(min(values) == 0 and max(values) == size[0] - 10 for size, values in lefts.items())
    assert {plan.mirrored for plan in plans} == {True, False}
    assert not any(make_plan(Augmentation((9, 9), mirror=False), (9, 9), each).mirrored for each in draws)
