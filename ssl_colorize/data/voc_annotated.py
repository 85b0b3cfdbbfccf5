"""VOC folders with boxes or with masks."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from ssl_colorize.data.annotations import (
    AnnotatedPhotos,
    Boxes,
    Finding,
    MaskFile,
    box_presence,
    checked_boxes,
    checked_mask,
    checked_size,
)
from ssl_colorize.data.voc import (
    VOC_CLASSES,
    VocAnnotation,
    annotation_file,
    listed_photos,
    read_annotation,
    voc_files,
)
from ssl_colorize.errors import UserError

_CLASSES = "classes.txt"


def read_voc_boxes(folder: Path) -> tuple[AnnotatedPhotos, AnnotatedPhotos]:
    """Photos with boxes to train on and to test on; classes in alphabetical order.

    Of ImageSets/Main the lists trainval and test, where test's annotations are there, else train and val. VOC counts
    pixels from 1 and includes the last: its box (1, 1, W, H) is the whole photo, here (0, 0, W, H).

    Raises:
        UserError: a list, a photo on it or an annotation is missing or unreadable.
    """
    parts = _parts(folder, "Main", lambda stem: annotation_file(folder, stem))
    read = [{stem: read_annotation(annotation_file(folder, stem)) for stem in part} for part in parts]
    classes = tuple(sorted({each.name for part in read for one in part.values() for each in one.objects}))
    train, test = (_with_boxes(folder, paths, found, classes) for paths, found in zip(parts, read, strict=True))
    return train, test


def _with_boxes(
    folder: Path, paths: Mapping[str, str], read: Mapping[str, VocAnnotation], classes: tuple[str, ...]
) -> AnnotatedPhotos:
    kept, sizes, boxes = [], [], []
    findings: list[Finding] = []
    for stem, path in paths.items():
        name = f"Annotations/{stem}.xml"
        size, found = checked_size(path, name, read[stem].size)
        findings += found
        if size is None:
            continue
        usable, found = checked_boxes(_boxes(read[stem], classes), size, name, classes)
        findings += found
        if not read[stem].objects:
            findings.append(Finding("empty", name))
        kept.append(path)
        sizes.append(size)
        boxes.append(usable)
    return AnnotatedPhotos(
        voc_files(folder, kept),
        np.asarray(sizes, np.int64).reshape(-1, 2),
        classes,
        box_presence(boxes, len(classes)),
        boxes=tuple(boxes),
        findings=tuple(findings),
    )


def _boxes(annotation: VocAnnotation, classes: Sequence[str]) -> Boxes:
    nowhere = (np.nan,) * 4
    corners = np.asarray([each.box or nowhere for each in annotation.objects], np.float32).reshape(-1, 4)
    labels = [classes.index(each.name) for each in annotation.objects]
    return Boxes.of(corners - [1, 1, 0, 0], labels, [each.difficult for each in annotation.objects])


def read_voc_masks(folder: Path) -> tuple[AnnotatedPhotos, AnnotatedPhotos]:
    """Photos with masks to train on and to test on.

    Of ImageSets/Segmentation the lists trainval and test, where test's masks are there, else train and val. Masks are
    SegmentationClass/NAME.png. The classes are VOC's, or those of a file classes.txt, one a line, the background first.

    Raises:
        UserError: a list, a photo on it or its mask is missing, unreadable, or does not fit.
    """
    masks = folder / "SegmentationClass"
    if not masks.is_dir():
        raise UserError(f"{folder} has no masks: they are expected in {masks.name}/NAME.png.")
    classes = _mask_classes(folder)
    parts = _parts(folder, "Segmentation", lambda stem: masks / f"{stem}.png")
    train, test = (_with_masks(folder, paths, masks, classes) for paths in parts)
    return train, test


def _with_masks(folder: Path, paths: Mapping[str, str], masks: Path, classes: tuple[str, ...]) -> AnnotatedPhotos:
    kept, sizes, stems = [], [], []
    findings: list[Finding] = []
    for stem, path in paths.items():
        size, found = checked_size(path, f"JPEGImages/{Path(path).name}", None)
        findings += found
        if size is not None:
            kept.append(path)
            sizes.append(size)
            stems.append(stem)
    files = [MaskFile(str(masks / f"{stem}.png")) for stem in stems]

    def check(row: int) -> np.ndarray:
        return checked_mask(files[row], sizes[row], f"{masks.name}/{stems[row]}.png", classes)

    # Decoding leaves the interpreter to other threads.
    with ThreadPoolExecutor(4) as threads:
        presence = np.asarray(list(threads.map(check, range(len(files)))), np.int8).reshape(-1, len(classes))
    names = (f"{masks.name}/{stem}.png" for stem in stems)
    findings += [Finding("empty", name) for name, row in zip(names, presence, strict=True) if not row[1:].any()]
    return AnnotatedPhotos(
        voc_files(folder, kept),
        np.asarray(sizes, np.int64).reshape(-1, 2),
        classes,
        presence,
        masks=tuple(files),
        findings=tuple(findings),
    )


def _mask_classes(folder: Path) -> tuple[str, ...]:
    file = folder / _CLASSES
    if not file.is_file():
        return ("background", *VOC_CLASSES)
    names = tuple(line.strip() for line in file.read_text("utf-8").splitlines() if line.strip())
    if len(names) < 2 or len(set(names)) < len(names):
        raise UserError(f"{file} must name each class once, one a line, the background first.")
    return names


def _parts(folder: Path, task: str, annotation: Callable[[str], Path]) -> tuple[dict[str, str], dict[str, str]]:
    """Stem -> path of the photo, of the part to train on and of the part to test on."""
    lists = folder / "ImageSets" / task
    # VOC gives out the names of 2012's test photos, but not what is on most of them. A single file that is missing is
    # told as missing.
    if (lists / "test.txt").is_file() and (lists / "trainval.txt").is_file():
        train, test = listed_photos(folder, [lists / "trainval.txt", lists / "test.txt"])
        if 2 * sum(annotation(stem).is_file() for stem in test) > len(test):
            return train, test
    train, test = listed_photos(folder, [lists / "train.txt", lists / "val.txt"])
    return train, test
