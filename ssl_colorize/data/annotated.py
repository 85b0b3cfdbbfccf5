"""From what `--data` says to photos with boxes or masks: VOC folders, COCO folders, torchvision's VOC."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from ssl_colorize.data.annotations import AnnotatedPhotos, Boxes, box_presence
from ssl_colorize.data.coco import coco_boxes, coco_masks, find_coco, read_coco
from ssl_colorize.data.labeled import limited_indices
from ssl_colorize.data.photos import PhotoFiles, Photos
from ssl_colorize.data.sources import default_root
from ssl_colorize.data.torchvision_sets import fetch_torchvision
from ssl_colorize.data.voc import find_voc
from ssl_colorize.data.voc_annotated import read_voc_boxes, read_voc_masks
from ssl_colorize.errors import UserError

Task = Literal["detection", "segmentation"]
Parts = tuple[AnnotatedPhotos, AnnotatedPhotos]

_TORCHVISION = ("voc2007", "voc2012")


def open_annotated(data: Sequence[str], *, task: Task, limit: int | None = None, root: Path | None = None) -> Parts:
    """The photos to train on and those to test on, with boxes or with masks, of the same classes in the same order.

    Each item is a VOC folder (trains on trainval and tests on test where that is annotated, else train and val), a
    COCO folder (annotations/instances_train*.json and instances_val*.json), or "voc2007" or "voc2012". Several are
    one set. Boxes that reach out of their photo are clipped, unusable ones dropped, photos that do not fit their
    annotation left out; each is named in the `findings` of its part.

    Args:
        task: "detection" reads boxes, "segmentation" masks.
        limit: at most so many photos to train on, and a quarter as many to test on, with at least one of each class.
        root: where torchvision sets are stored; by default $SSL_COLORIZE_DATA, else ~/.cache/ssl-colorize.

    Raises:
        UserError: an item is missing or unusable; a mask does not fit its photo; a class of the test part has no
            photo to train on.
    """
    if not data:
        raise UserError("No photos given. Name a VOC folder, a COCO folder, voc2007 or voc2012 with --data.")
    opened = [_open_item(str(item), task, root or default_root()) for item in data]
    where = ", ".join(map(str, data))
    train, test = (_joined([each[part] for each in opened]) for part in (0, 1))
    for part, name in ((train, "train on"), (test, "test on")):
        if not len(part):
            raise UserError(f"{where} has no photos to {name}.")
    if task == "detection":
        train, test = _with_equal_classes(train, test, where)
    if limit is None:
        return train, test
    least = int((test.presence == 1).any(0).sum())
    return _limited(train, limit, where), _limited(test, max(limit // 4, least), where)


def _open_item(item: str, task: Task, root: Path) -> Parts:
    if item in _TORCHVISION:
        folder = fetch_torchvision(item, root=root)
    else:
        folder = Path(item).expanduser().absolute()
        if not folder.is_dir():
            raise UserError(f"No annotated photos at {item}: give a VOC folder, a COCO folder, voc2007 or voc2012.")
    voc = find_voc(folder)
    if voc is not None:
        return read_voc_boxes(voc) if task == "detection" else read_voc_masks(voc)
    coco = find_coco(folder)
    if coco is None:
        raise UserError(
            f"{item} holds no annotated photos: neither a VOC folder (with JPEGImages) nor a COCO folder "
            "(with annotations/instances_train*.json)."
        )
    read = coco_boxes if task == "detection" else coco_masks
    train, test = (read_coco(path) for path in coco)
    if train.classes != test.classes:
        raise UserError(f"{coco[0]} and {coco[1]} have different categories.")
    return read(folder, train), read(folder, test)


def _joined(parts: Sequence[AnnotatedPhotos]) -> AnnotatedPhotos:
    """Several items as one part, over all their classes."""
    if len(parts) == 1:
        return parts[0]
    files = [part.photos for part in parts if isinstance(part.photos, PhotoFiles)]
    photos: Photos = PhotoFiles.together(files)
    if len(photos) < sum(map(len, parts)):
        raise UserError("The same photo is in two of the --data items. Give each once.")
    sizes = np.concatenate([part.sizes for part in parts])
    findings = tuple(each for part in parts for each in part.findings)
    classes = parts[0].classes
    if any(part.masks for part in parts):
        if any(part.classes != classes for part in parts):
            raise UserError("The --data items have masks of different classes. Give sets of the same classes.")
        presence = np.concatenate([part.presence for part in parts])
        masks = tuple(each for part in parts for each in part.masks)
        return AnnotatedPhotos(photos, sizes, classes, presence, masks=masks, findings=findings)
    classes = tuple(sorted({name for part in parts for name in part.classes}))
    boxes = tuple(each for part in parts for each in _renamed(part, classes))
    presence = box_presence(boxes, len(classes))
    return AnnotatedPhotos(photos, sizes, classes, presence, boxes=boxes, findings=findings)


def _renamed(part: AnnotatedPhotos, classes: tuple[str, ...]) -> list[Boxes]:
    """Its boxes with labels that count `classes`; boxes of other classes are dropped."""
    place = np.asarray([classes.index(name) if name in classes else -1 for name in part.classes], np.int64)
    return [
        Boxes(each.corners, place[each.labels], each.difficult).take(place[each.labels] >= 0) for each in part.boxes
    ]


def _with_equal_classes(train: AnnotatedPhotos, test: AnnotatedPhotos, where: str) -> Parts:
    """Both parts over the classes that there is something to train on of."""
    classes = tuple(name for name, there in zip(train.classes, (train.presence == 1).any(0), strict=True) if there)
    tested = [name for name, there in zip(test.classes, (test.presence == 1).any(0), strict=True) if there]
    untrained = [name for name in tested if name not in classes]
    if untrained:
        more = f" and {len(untrained) - 3} more" if len(untrained) > 3 else ""
        raise UserError(f"{where}: objects to test on but none to train on of {', '.join(untrained[:3])}{more}.")
    if not tested:
        raise UserError(f"{where} has no objects to test on.")
    first, second = (
        replace(part, classes=classes, boxes=tuple(boxes), presence=box_presence(boxes, len(classes)))
        for part, boxes in ((each, _renamed(each, classes)) for each in (train, test))
    )
    return first, second


def _limited(part: AnnotatedPhotos, count: int, where: str) -> AnnotatedPhotos:
    return part.take(limited_indices(part.labeled(), count, where).tolist())
