"""Photos together with their boxes and masks: resized, cropped and mirrored alike.

Pixels are counted as distances: a box (0, 0, W, H) is the whole photo, and mirrored it is itself.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as transforms

from ssl_colorize.data.annotations import IGNORED, Boxes

PADDING = 119  # mid-gray, L = 50: what the networks see as zero, so that padding is to them as a convolution's own
LEAST_VISIBLE = 0.25  # share of a box's area that must be left in a crop for the object to count as on it
LEAST_SIDE = 1.0  # px

AnyTensor = TypeVar("AnyTensor", tv_tensors.Image, tv_tensors.Mask, tv_tensors.BoundingBoxes)


@dataclass(frozen=True)
class Augmentation:
    """How training photos are varied.

    Attributes:
        short_side: resized to a whole number of pixels drawn from this range, ends included.
        long_side: no longer than this; a photo so long is resized to a smaller short side.
        crop: side of a random square in pixels; a photo that is smaller is padded at its right and its bottom. None
            takes the whole photo.
        mirror: half of them, left to right.
    """

    short_side: tuple[int, int]
    long_side: int | None = None
    crop: int | None = None
    mirror: bool = True


class Plan(NamedTuple):
    """What is done to one photo, its boxes and its mask."""

    size: tuple[int, int]  # resized to this width and height
    crop: tuple[int, int, int] | None = None  # then left, top and side of a square, all in pixels
    mirrored: bool = False


class Sample(NamedTuple):
    """One photo as the network gets it, and what is on it."""

    number: int  # which of the set's photos it is
    photo: Tensor  # (3, H, W) uint8
    boxes: Tensor  # (K, 4) float32: left, top, right, bottom in pixels of this photo
    labels: Tensor  # (K,) int64
    difficult: Tensor  # (K,) bool
    mask: Tensor | None = None  # (H, W) uint8
    proposals: Tensor | None = None  # (P, 4) float32, as boxes


def resized(size: tuple[int, int], short_side: int, long_side: int | None = None) -> tuple[int, int]:
    """Width and height with this short side, or with this long side if it would be longer."""
    scale = short_side / min(size)
    if long_side is not None:
        scale = min(scale, long_side / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def draw_plan(augmentation: Augmentation, size: tuple[int, int], draw: Callable[[], float]) -> Plan:
    """A plan for a photo of this width and height.

    Args:
        draw: gives numbers in [0, 1). Always as many are taken.
    """
    low, high = augmentation.short_side
    short_side = low + int(draw() * (high - low + 1))
    across, down, mirrored = draw(), draw(), draw() < 0.5
    target = resized(size, short_side, augmentation.long_side)
    crop = None
    if augmentation.crop is not None:
        room = [max(0, side - augmentation.crop) for side in target]
        crop = int(across * (room[0] + 1)), int(down * (room[1] + 1)), augmentation.crop
    return Plan(target, crop, mirrored and augmentation.mirror)


def applied(
    plan: Plan,
    photo: Image.Image,
    size: tuple[int, int],
    *,
    number: int = 0,
    boxes: Boxes | None = None,
    mask: NDArray[np.uint8] | None = None,
    proposals: NDArray[np.float32] | None = None,
) -> Sample:
    """Do to a photo, its boxes and its mask what a plan says.

    Boxes of which less than LEAST_VISIBLE is left are dropped. Where a mask is padded it is IGNORED.

    Args:
        photo: RGB, decoded at any scale.
        number: which of the set's photos it is.
        size: width and height in pixels of the original photo, which boxes and mask belong to.
        proposals: (P, 4) boxes of regions to look at, which stay as many.
    """
    image = _placed(tv_tensors.Image(photo), plan, fill=PADDING)
    objects = boxes if boxes is not None else Boxes.of([], [])
    corners, kept = _placed_boxes(objects.corners, size, plan)
    placed_mask = None
    if mask is not None:
        placed_mask = _placed(tv_tensors.Mask(torch.from_numpy(mask)), plan, fill=IGNORED).as_subclass(Tensor)
    return Sample(
        number,
        image.as_subclass(Tensor),
        corners[kept],
        torch.from_numpy(objects.labels)[kept],
        torch.from_numpy(objects.difficult)[kept],
        placed_mask,
        None if proposals is None else _placed_boxes(proposals, size, plan)[0],
    )


def _placed(values: AnyTensor, plan: Plan, *, fill: int) -> AnyTensor:
    """Resized, padded to the crop, cropped and mirrored."""
    width, height = plan.size
    placed = values
    if tuple(transforms.get_size(values)) != (height, width):
        # Masks are always resized to the nearest pixel, and boxes exactly.
        placed = transforms.resize(values, [height, width], InterpolationMode.BICUBIC, antialias=True)
    if plan.crop is not None:
        left, top, side = plan.crop
        right, bottom = max(0, left + side - width), max(0, top + side - height)
        if right or bottom:
            placed = transforms.pad(placed, [0, 0, right, bottom], fill=fill)
        placed = transforms.crop(placed, top, left, side, side)
    return transforms.horizontal_flip(placed) if plan.mirrored else placed


def _placed_boxes(corners: NDArray[np.float32], size: tuple[int, int], plan: Plan) -> tuple[Tensor, Tensor]:
    """Boxes (K, 4) inside the new photo, and which of them (K,) are still to be seen."""
    made = torch.from_numpy(np.ascontiguousarray(corners, np.float32)).reshape(-1, 4)
    box = tv_tensors.BoundingBoxes(made, format=tv_tensors.BoundingBoxFormat.XYXY, canvas_size=size[::-1])
    placed = transforms.clamp_bounding_boxes(_placed(box, plan, fill=0))
    _, usable = transforms.sanitize_bounding_boxes(placed, min_size=LEAST_SIDE, min_area=LEAST_SIDE**2)
    scale = plan.size[0] / size[0] * plan.size[1] / size[1]
    found = placed.as_subclass(Tensor)
    return found, usable & (_area(found) >= LEAST_VISIBLE * scale * _area(made))


def _area(corners: Tensor) -> Tensor:
    return (corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1])
