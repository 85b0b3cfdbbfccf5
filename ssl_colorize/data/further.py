"""Further test sets of classes that are known: nothing is trained on them, so all of a folder may be read."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ssl_colorize.data.class_folders import folders_in, listed, read_class_folders, unwrapped
from ssl_colorize.data.datasets import LabeledDataset
from ssl_colorize.data.photos import PhotoFiles
from ssl_colorize.data.reading import Part, Reading
from ssl_colorize.data.splits import find_splits, measuring_names
from ssl_colorize.data.training_photos import identities
from ssl_colorize.data.voc import find_voc, read_voc
from ssl_colorize.errors import UserError


def open_further(name: str, item: str, train: LabeledDataset) -> LabeledDataset:
    """A further test set over the classes that are trained on, in their order.

    Args:
        name: what the user calls it.
        item: a folder of class folders, of which all is read; where it has splits, only what tests (test/, else val/;
            train/ where there is nothing else). Trained with several labels a photo: a VOC folder, of which the list is
            read that tests. What is read, what is left out and what is missing is in its reading.
        train: the photos that are trained on.

    Raises:
        UserError: there is no such folder, it has none of the classes, or its photos are trained on.
    """
    folder = Path(item).expanduser().absolute()
    if not folder.is_dir():
        raise UserError(f"--also {name}={item}: there is no such folder. Give one with a folder of photos a class.")
    voc = find_voc(folder)
    if (voc is not None) != train.multilabel:
        kinds = ("several labels", "one label") if train.multilabel else ("one label", "several labels")
        raise UserError(f"--also {name}={item}: trained on {kinds[0]} a photo, and this has {kinds[1]}.")
    found = _class_folders(name, item, folder, train.classes) if voc is None else _voc(name, item, voc, train.classes)
    _refuse_trained(name, item, found, train)
    return found


def _class_folders(name: str, item: str, folder: Path, classes: Sequence[str]) -> LabeledDataset:
    here = unwrapped(folder, "test")
    inside = folders_in(here)
    if not set(inside).intersection(classes):
        splits = measuring_names(inside) or find_splits(inside)["train"]
        if splits:
            here = unwrapped(here / splits[0], "test")
            inside = folders_in(here)
    known = [each for each in classes if each in inside]
    if not known:
        raise UserError(
            f"--also {name}={item}: it has none of the classes that are trained on ({listed(classes)}); its folders "
            f"are {listed(inside) or 'none with photos'}."
        )
    place = "" if here == folder else f"{here.relative_to(folder)}/"
    found = read_class_folders(here, item, known, place=place, split=name)
    others = [each for each in inside if each not in classes]
    return _over(found, classes, name, others)


def _voc(name: str, item: str, folder: Path, classes: Sequence[str]) -> LabeledDataset:
    _, found = read_voc(folder, "labels")
    known = [each for each in classes if each in found.classes]
    if not known:
        raise UserError(
            f"--also {name}={item}: it has none of the classes that are trained on ({listed(classes)}); its own are "
            f"{listed(found.classes)}."
        )
    others = [each for each in found.shown() if each not in classes]
    found = found.restrict(tuple(classes))
    # Nothing is known of classes that its annotations do not have.
    labels = found.labels.copy()
    labels[:, [number for number, each in enumerate(classes) if each not in known]] = -1
    reading = Reading.of("VOC", item, Part(name, len(found)), classes=tuple(known))
    return _over(replace(found, labels=labels, reading=reading), classes, name, others)


def _over(found: LabeledDataset, classes: Sequence[str], name: str, others: Sequence[str]) -> LabeledDataset:
    """The set over all classes, with what is left out and missing in its reading."""
    over = found if found.multilabel else found.restrict(tuple(classes))
    missing = [each for each, count in zip(classes, over.counts(), strict=True) if not count]
    lines = []
    if others:
        lines.append(f"{name}: left out {len(others)} that are no classes of the training photos: {listed(others)}")
    if missing:
        lines.append(f"{name}: no photos of {len(missing)} of the {len(classes)} classes: {listed(missing)}")
    return replace(over, reading=replace(found.reading, findings=(*found.reading.findings, *lines)))


def _refuse_trained(name: str, item: str, found: LabeledDataset, train: LabeledDataset) -> None:
    if not (isinstance(found.photos, PhotoFiles) and isinstance(train.photos, PhotoFiles)):
        return
    known = set(identities(train.photos.paths))
    count = int(np.sum([each in known for each in identities(found.photos.paths)]))
    if count:
        raise UserError(f"--also {name}={item}: {count:,} of its photos are trained on. Give photos that are not.")
