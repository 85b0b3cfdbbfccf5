"""Boxes and masks are drawn where they are."""

import numpy as np
from PIL import Image

from ssl_colorize.finetune.overlays import RIGHT, Mark, class_color, draw_boxes, draw_mask

GRAY = (100, 100, 100)


def test_boxes_are_scaled_with_the_photo() -> None:
    drawn = draw_boxes(Image.new("RGB", (40, 20), GRAY), [Mark((10, 5, 30, 15), "a", RIGHT)], side=400)
    assert drawn.size == (400, 200)
    assert drawn.getpixel((100, 120)) == RIGHT and drawn.getpixel((299, 120)) == RIGHT
    assert drawn.getpixel((200, 149)) == RIGHT and drawn.getpixel((200, 120)) == GRAY
    assert drawn.getpixel((90, 120)) == GRAY and drawn.getpixel((302, 120)) == GRAY


def test_texts_stay_inside() -> None:
    photo = Image.new("RGB", (400, 200), GRAY)
    drawn = np.asarray(draw_boxes(photo, [Mark((395, 195, 400, 200), "long name", RIGHT)], side=400))
    colored = (drawn == RIGHT).all(2)
    # The whole text's background is there, left and above of the box.
    assert colored[185:200, 330:395].mean() > 0.4


def test_colors_are_vocs() -> None:
    assert [class_color(number) for number in (0, 1, 2, 15, 20)] == [
        (0, 0, 0), (128, 0, 0), (0, 128, 0), (192, 128, 128), (0, 64, 128),
    ]  # fmt: skip


def test_masks() -> None:
    mask = np.zeros((40, 60), np.uint8)
    mask[:, 30:40], mask[:, 50:] = 1, 255
    drawn = draw_mask(Image.new("RGB", (60, 40), GRAY), mask, ("background", "cat"), side=60)
    assert drawn.getpixel((45, 38)) == (65, 65, 65)
    assert drawn.getpixel((35, 38)) == (117, 40, 40)
    assert drawn.getpixel((55, 38)) == (193, 193, 193)
