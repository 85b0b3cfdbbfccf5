"""Hand-made VOC and COCO folders. Photos are 20 px wide and 10 px high unless told."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

# name, xmin, ymin, xmax, ymax as VOC writes them; "?" after a name marks it difficult.
Drawn = tuple[str, float, float, float, float]


def photo(path: Path, size: tuple[int, int] = (20, 10)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (len(path.stem) * 9, 80, 160)).save(path)
    return path


def voc_boxes(root: Path, lists: Mapping[str, Mapping[str, Sequence[Drawn]]], task: str = "Main") -> Path:
    """`lists`: list -> photo -> its objects."""
    for name, photos in lists.items():
        listed(root, task, name, photos)
        for stem, objects in photos.items():
            photo(root / "JPEGImages" / f"{stem}.png")
            annotation(root, stem, objects)
    return root


def listed(root: Path, task: str, name: str, stems: Sequence[str] | Mapping[str, Any]) -> None:
    file = root / "ImageSets" / task / f"{name}.txt"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{stem}\n" for stem in stems))


def annotation(root: Path, stem: str, objects: Sequence[Drawn], size: tuple[int, int] = (20, 10)) -> None:
    sides = ("xmin", "ymin", "xmax", "ymax")
    described = "".join(
        f"<object><name>{name.rstrip('?')}</name><difficult>{int('?' in name)}</difficult><bndbox>"
        + "".join(f"<{side}>{value}</{side}>" for side, value in zip(sides, box, strict=True) if value == value)
        + "</bndbox></object>"
        for name, *box in objects
    )
    file = root / "Annotations" / f"{stem}.xml"
    file.parent.mkdir(parents=True, exist_ok=True)
    shape = f"<size><width>{size[0]}</width><height>{size[1]}</height></size>"
    file.write_text(f"<annotation>{shape}{described}</annotation>")


def voc_masks(root: Path, lists: Mapping[str, Mapping[str, Any]]) -> Path:
    """`lists`: list -> photo -> its mask, an array (10, 20) or a number that fills it."""
    for name, photos in lists.items():
        listed(root, "Segmentation", name, photos)
        for stem, values in photos.items():
            photo(root / "JPEGImages" / f"{stem}.png")
            mask(root / "SegmentationClass" / f"{stem}.png", values)
    return root


def mask(path: Path, values: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    filled = np.full((10, 20), values, np.uint8) if np.isscalar(values) else np.asarray(values, np.uint8)
    picture = Image.fromarray(filled)
    picture.putpalette([value for number in range(256) for value in (number, 255 - number, 7)])
    picture.save(path)


def coco(
    root: Path, part: str, images: Mapping[str, Sequence[Mapping[str, Any]]], categories: Mapping[int, str]
) -> Path:
    """`images`: file name -> its annotations, with at least a category_id."""
    listed_images, annotations = [], []
    for number, (name, objects) in enumerate(images.items(), start=7):
        photo(root / part / name)
        listed_images.append({"id": number, "file_name": name, "width": 20, "height": 10})
        annotations += [{"id": len(annotations) + i, "image_id": number, **each} for i, each in enumerate(objects)]
    file = root / "annotations" / f"instances_{part}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    named = [{"id": number, "name": name} for number, name in categories.items()]
    file.write_text(json.dumps({"images": listed_images, "annotations": annotations, "categories": named}))
    return root


def scenes(root: Path, *, train: int = 4, test: int = 2) -> Path:
    """A VOC folder with boxes and masks: gray photos of 48 x 32 px, each with a bright or a dark rectangle.

    A bright one is a "cat" (class 8 of masks), a dark one a "dog" (class 12).
    """
    chance = np.random.default_rng(0)
    for part, count in (("train", train), ("val", test)):
        stems = [f"{part}{number}" for number in range(count)]
        for task in ("Main", "Segmentation"):
            listed(root, task, part, stems)
        for number, stem in enumerate(stems):
            left, top = (int(each) for each in chance.integers(2, (20, 8)))
            width, height = (int(each) for each in chance.integers((16, 12), (24, 20)))
            pixels = chance.normal(120, 4, (32, 48, 3))
            inside = np.s_[top : top + height, left : left + width]
            pixels[inside] += -90 if number % 2 else 90
            values = np.zeros((32, 48), np.uint8)
            values[inside] = 12 if number % 2 else 8
            picture = root / "JPEGImages" / f"{stem}.png"
            picture.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(picture)
            mask(root / "SegmentationClass" / f"{stem}.png", values)
            name = "dog" if number % 2 else "cat"
            annotation(root, stem, [(name, left + 1, top + 1, left + width, top + height)], size=(48, 32))
    return root
