"""The photos that `--train` and `--test` name, whatever they are called."""

from collections.abc import Sequence
from pathlib import Path

from ssl_colorize.data.annotations import Annotation
from ssl_colorize.data.class_folders import Parts, read_class_folders, unwrapped, with_held_out
from ssl_colorize.data.coco import read_coco_files, refuse_mask_values
from ssl_colorize.data.datasets import LabeledDataset, join
from ssl_colorize.data.lists import PhotoList, class_names, is_list_name, labeled, read_list
from ssl_colorize.data.voc import VOC_PHOTOS, read_voc, voc_of_list
from ssl_colorize.errors import UserError


def explicit_parts(
    train: Sequence[str], test: Sequence[str], annotation: Annotation, classes: Sequence[str] = (),
    mask_values: str | None = None,
) -> Parts:  # fmt: skip
    """What is named to train on and to test on.

    Each is, for labels, a folder of class folders or a list. For labels, boxes and masks it may be a list of a VOC
    folder (ImageSets/Main/train.txt), for boxes and masks a file of COCO's: one of each part. Without anything to test
    on, a fifth of each class of class folders and lists tests.

    Raises:
        UserError: one is none of these, or they do not go together.
    """
    files = [Path(item).expanduser().absolute() for item in (*train, *test)]
    for item, file in zip((*train, *test), files, strict=True):
        if not file.exists():
            raise UserError(f"No photos at {item}: there is no such folder or list.")
    of_voc = [voc_of_list(file) for file in files]
    if any(of_voc):
        _one_of_each(train, test, "a list of a VOC folder", all(of_voc) and len({*of_voc}) == 1)
        assert of_voc[0] is not None
        return read_voc(of_voc[0], annotation, (files[0], files[1]), mask_values)
    if annotation != "labels":
        _one_of_each(train, test, "a .json file of COCO's or a list of a VOC folder",
                     all(file.suffix.lower() == ".json" for file in files))  # fmt: skip
        refuse_mask_values(mask_values, train[0])
        return read_coco_files(files[0], files[1], annotation)
    lists = {file: read_list(file) for file in files if is_list_name(file.name) and file.is_file()}
    names = class_names(list(lists.values()), classes) if lists else ()
    parts = [_part(item, file, lists, names, classes, split) for item, file, split in zip(
        (*train, *test), files, ["train"] * len(train) + ["test"] * len(test), strict=True)]  # fmt: skip
    if test:
        return join(parts[: len(train)]), join(parts[len(train) :])
    held_out = [with_held_out(part) for part in parts]
    return join([each[0] for each in held_out]), join([each[1] for each in held_out])


def _one_of_each(train: Sequence[str], test: Sequence[str], kind: str, fit: bool) -> None:
    if not fit or len(train) != 1 or len(test) != 1:
        raise UserError(
            f"--train and --test {', '.join((*train, *test))}: give {kind} to each of them, once, of one set."
        )


def _part(
    item: str, file: Path, lists: dict[Path, PhotoList], names: Sequence[str], classes: Sequence[str], split: str
) -> LabeledDataset:
    if file in lists:
        return labeled(lists[file], names, item, split)
    if not file.is_dir():
        raise UserError(f"{item} is neither a folder of class folders nor a list (.txt, .csv).")
    if (file / VOC_PHOTOS).is_dir():
        raise UserError(
            f"{item} is a VOC folder: give lists of it, such as {file}/ImageSets/Main/train.txt, or --data."
        )
    return read_class_folders(unwrapped(file, "train" if split == "train" else "test"), item, classes, split=split)
