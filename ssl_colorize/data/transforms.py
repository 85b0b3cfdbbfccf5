"""Photos, alone or with their boxes and masks, resized, cropped and mirrored.

Pixels are counted as distances: a box (0, 0, W, H) is the whole photo, and mirrored it is itself. All that is random
comes as four numbers, so that whoever draws them says what becomes of a photo.
"""

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
from ssl_colorize.data.datasets import LabeledDataset
from ssl_colorize.data.photos import Photos

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
    photo: NDArray[np.uint8]  # (3, H, W) RGB
    boxes: Boxes | None = None
    mask: NDArray[np.uint8] | None = None  # (H, W)
    proposals: NDArray[np.float32] | None = None  # (P, 4) as boxes


class Draws(NamedTuple):
    """Numbers in [0, 1) that say what is done to a photo."""

    scale: float
    across: float
    down: float
    mirror: float


CENTERED = Draws(0.0, 0.5, 0.5, 0.5)  # the center crop, not mirrored


# ---- photos alone ----------------------------------------------------------------------------------------------------


def resized_window(photo: Image.Image, *, short_side: int, crop: int, across: float, down: float) -> Image.Image:
    """What a crop x crop window shows of the photo resized (bicubic, antialiased) to a short side.

    Args:
        across: where the window is, from 0 (left edge) up to, not including, 1 (right edge).
        down: likewise from top to bottom.

    >>> resized_window(Image.new("RGB", (40, 30)), short_side=24, crop=16, across=0.5, down=0.5).size
    (16, 16)
    """
    scale = short_side / min(photo.size)
    width, height = (max(short_side, round(side * scale)) for side in photo.size)
    left, top = int(across * (width - crop + 1)), int(down * (height - crop + 1))
    # In one go, so that only the pixels of the window are computed: a panorama costs no more than a square.
    x, y = photo.width / width, photo.height / height
    box = (left * x, top * y, min((left + crop) * x, photo.width), min((top + crop) * y, photo.height))
    return photo.resize((crop, crop), Image.Resampling.BICUBIC, box=box)


class DecodedPhotos:
    """Photos decoded for a short side, of which the first ones that are read stay in memory.

    Each process keeps its own. What a photo looks like does not depend on whether it was kept.

    >>> from ssl_colorize.data import open_photos
    >>> decoded = DecodedPhotos(open_photos(["samples"]), short_side=64, megabytes=1)
    >>> decoded.read(0) is decoded.read(0), min(decoded.read(0).size) >= 64
    (True, True)
    """

    def __init__(self, photos: Photos, short_side: int, megabytes: float) -> None:
        """`short_side` is the largest in pixels that will be asked for, `megabytes` (2^20) the most memory to take."""
        self.photos, self.short_side, self.room = photos, short_side, int(megabytes * 2**20)
        self.kept: dict[int, Image.Image] = {}

    def read(self, index: int) -> Image.Image:
        """The photo, as `Photos.read` decodes it for the short side; it is not to be changed.

        Raises:
            UnreadablePhoto: the file cannot be used.
        """
        photo = self.kept.get(index)
        if photo is None:
            photo = self.photos.read(index, short_side=self.short_side)
            # Pillow takes four bytes for the three of a pixel.
            size = 4 * photo.width * photo.height
            if size <= self.room:
                self.kept[index] = photo
                self.room -= size
        return photo


def read_window(photos: DecodedPhotos, resize: tuple[int, int], crop: int, index: int, draws: Draws) -> Sample:
    """A square of a photo whose short side is resized to a whole number of pixels in a range, ends included.

    Raises:
        UnreadablePhoto: the file cannot be used.
    """
    short_side = _drawn_side(resize, draws)
    photo = photos.read(index)
    window = resized_window(photo, short_side=short_side, crop=crop, across=draws.across, down=draws.down)
    pixels = np.asarray(window).transpose(2, 0, 1)
    return Sample(index, pixels[:, :, ::-1] if _mirrored(draws) else pixels)


def _drawn_side(sides: tuple[int, int], draws: Draws) -> int:
    return sides[0] + int(draws.scale * (sides[1] - sides[0] + 1))


def _mirrored(draws: Draws) -> bool:
    return draws.mirror < 0.5


# ---- photos with boxes and masks -------------------------------------------------------------------------------------


def resized(
    size: tuple[int, int], short_side: int, long_side: int | None = None, *, multiple: int = 1
) -> tuple[int, int]:
    """Width and height with this short side, or with this long side if it would be longer.

    Args:
        multiple: both are rounded to the nearest multiple of this.

    >>> resized((40, 20), 10), resized((40, 20), 10, 15), resized((40, 25), 10, multiple=8)
    ((20, 10), (15, 8), (16, 8))
    """
    scale = short_side / min(size)
    if long_side is not None:
        scale = min(scale, long_side / max(size))
    width, height = (multiple * max(1, round(side * scale / multiple)) for side in size)
    return width, height


def make_plan(augmentation: Augmentation, size: tuple[int, int], draws: Draws) -> Plan:
    """What is done to a photo of this width and height.

    >>> make_plan(Augmentation((10, 12), crop=8), (40, 20), CENTERED)
    Plan(size=(20, 10), crop=(6, 1, 8), mirrored=False)
    """
    target = resized(size, _drawn_side(augmentation.short_side, draws), augmentation.long_side)
    crop = None
    if augmentation.crop is not None:
        room = [max(0, side - augmentation.crop) for side in target]
        crop = int(draws.across * (room[0] + 1)), int(draws.down * (room[1] + 1)), augmentation.crop
    return Plan(target, crop, augmentation.mirror and _mirrored(draws))


def read_augmented(dataset: LabeledDataset, augmentation: Augmentation, index: int, draws: Draws) -> Sample:
    """A photo of a set, its boxes and its mask, varied alike.

    Raises:
        UnreadablePhoto: the photo cannot be used.
        UserError: its mask cannot.
    """
    size = _size(dataset, index)
    plan = make_plan(augmentation, size, draws)
    photo = dataset.photos.read(index, short_side=min(plan.size))
    boxes, mask, proposals = _annotations(dataset, index)
    return apply(plan, photo, size, number=index, boxes=boxes, mask=mask, proposals=proposals)


def read_whole(
    dataset: LabeledDataset, short_side: int | None, long_side: int | None, multiple: int, index: int, _draws: Draws
) -> Sample:
    """A photo of a set, resized alone: its boxes and its mask are those of the original, which results are judged by.

    Args:
        short_side: in pixels; None leaves the photo at its own size.
        multiple: what both sides are a multiple of.

    Raises:
        UnreadablePhoto: the photo cannot be used.
        UserError: its mask cannot.
    """
    size = _size(dataset, index)
    target = resized(size, short_side or min(size), long_side, multiple=multiple)
    photo = dataset.photos.read(index, short_side=min(target))
    boxes, mask, proposals = _annotations(dataset, index)
    return apply(Plan(target), photo, size, number=index, proposals=proposals)._replace(boxes=boxes, mask=mask)


def _size(dataset: LabeledDataset, index: int) -> tuple[int, int]:
    width, height = dataset.sizes[index].tolist()
    return width, height


def _annotations(
    dataset: LabeledDataset, index: int
) -> tuple[Boxes | None, NDArray[np.uint8] | None, NDArray[np.float32] | None]:
    return (
        dataset.boxes[index] if dataset.boxes else None,
        dataset.masks[index].read() if dataset.masks else None,
        dataset.proposals[index] if dataset.proposals else None,
    )


def apply(
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

    >>> photo = Image.new("RGB", (8, 6))
    >>> sample = apply(Plan((8, 6), mirrored=True), photo, photo.size, boxes=Boxes.of([[0, 1, 3, 4]], [0]))
    >>> sample.boxes.corners.tolist()
    [[5.0, 1.0, 8.0, 4.0]]
    """
    image = _placed(tv_tensors.Image(photo), plan, fill=PADDING)
    placed_boxes = placed_mask = placed_proposals = None
    if boxes is not None:
        corners, kept = _placed_boxes(boxes.corners, size, plan)
        placed_boxes = Boxes(corners, boxes.labels, boxes.difficult).take(kept)
    if mask is not None:
        placed_mask = _placed(tv_tensors.Mask(torch.from_numpy(mask)), plan, fill=IGNORED).numpy()
    if proposals is not None:
        placed_proposals, _ = _placed_boxes(proposals, size, plan)
    return Sample(number, image.numpy(), placed_boxes, placed_mask, placed_proposals)


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


def _placed_boxes(
    corners: NDArray[np.float32], size: tuple[int, int], plan: Plan
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Boxes (K, 4) inside the new photo, and which of them (K,) are still to be seen."""
    made = torch.from_numpy(np.ascontiguousarray(corners, np.float32)).reshape(-1, 4)
    box = tv_tensors.BoundingBoxes(made, format=tv_tensors.BoundingBoxFormat.XYXY, canvas_size=size[::-1])
    placed = transforms.clamp_bounding_boxes(_placed(box, plan, fill=0))
    _, usable = transforms.sanitize_bounding_boxes(placed, min_size=LEAST_SIDE, min_area=LEAST_SIDE**2)
    scale = plan.size[0] / size[0] * plan.size[1] / size[1]
    found = placed.as_subclass(Tensor)
    visible = usable & (_area(found) >= LEAST_VISIBLE * scale * _area(made))
    return found.numpy(), visible.numpy()


def _area(corners: Tensor) -> Tensor:
    return (corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1])
