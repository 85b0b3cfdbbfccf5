"""Frozen classifiers of recolored photos (a wheel's, timm's, torchvision's, or one of your own), and true classes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from ssl_colorize.errors import UserError, one_line
from ssl_colorize.finetune.building import load_finetuned
from ssl_colorize.models.released import checkpoints_folder
from ssl_colorize.models.source import LITE0
from ssl_colorize.models.timm_factory import local_copy, where_to_put
from ssl_colorize.models.trunks import Lite0Trunk
from ssl_colorize.score.photos import ScoredPhotos
from ssl_colorize.text import read_table

# What timm and others crop to in testing, where a model does not say it.
_CROP_SHARE = 0.875


@dataclass(frozen=True)
class Classifier:
    """Says what is on a picture.

    Attributes:
        name: as it was given.
        about: what it does to a picture first, in words.
        top5: the likeliest classes of each picture, the first five or all there are: (B, 3, H, W) uint8 -> B lists.
        index_of: the class that a label means; None if none.
    """

    name: str
    about: str
    top5: Callable[[Tensor], list[list[int]]]
    index_of: Callable[[str], int | None]


def load_classifier(source: str, *, device: torch.device) -> Classifier:
    """A classifier from what `--classifier` says: efficientnet_lite0, timm:NAME, torchvision:NAME, or a run.

    Raises:
        UserError: it is unknown, or its weights or its package are not there.
    """
    kind, _, name = source.partition(":")
    if source == LITE0:
        trunk = Lite0Trunk().to(device)
        size = trunk.input_size

        def lite0(pictures: Tensor) -> Tensor:
            return trunk.prepare(_center(pictures, round(size / _CROP_SHARE), size) / 255.0)

        return imagenet_classifier(source, trunk.network, lite0, about=_cut(round(size / _CROP_SHARE), size))
    if kind == "timm" and name:
        return _timm(source, name, device)
    if kind == "torchvision" and name:
        return _torchvision(source, name, device)
    if Path(source).exists():
        return _finetuned(source, device)
    raise UserError(
        f"No classifier {source!r}: give {LITE0}, timm:NAME, torchvision:NAME, or the run of a finetune classification."
    )


def imagenet_classifier(
    name: str, network: nn.Module, prepare: Callable[[Tensor], Tensor], *, about: str
) -> Classifier:
    """A network with ImageNet's 1,000 classes in their usual order, that of the sorted synsets.

    A label is a synset (n01440764), a number (0 to 999), or an English name that only one class has.
    """
    network = network.eval().requires_grad_(False)

    @torch.no_grad()
    def top5(pictures: Tensor) -> list[list[int]]:
        found: list[list[int]] = network(prepare(pictures)).topk(5, dim=1).indices.tolist()
        return found

    return Classifier(name, about, top5, _imagenet_index)


def _finetuned(source: str, device: torch.device) -> Classifier:
    """A model of `ssl-colorize finetune classification`, which has classes of its own."""
    finetuned = load_finetuned(source, device=device)
    task = finetuned.task
    if task.name != "classification" or getattr(task.settings, "multilabel", None):
        raise UserError(f"{source} is not a model of one label a photo: give a run of finetune classification.")
    numbers = {name: number for number, name in enumerate(task.classes)}

    def top5(pictures: Tensor) -> list[list[int]]:
        photos = [Image.fromarray(each.permute(1, 2, 0).cpu().numpy()) for each in pictures]
        scores = [task.predict(finetuned.model, photo).result["scores"] for photo in photos]
        return [[numbers[name] for name in list(each)[:5]] for each in scores]

    return Classifier(source, "photos prepared as in its own training", top5, numbers.get)


def _timm(source: str, name: str, device: torch.device) -> Classifier:
    import timm
    from timm.data.config import resolve_model_data_config

    if not timm.is_model(name.split(".")[0]):
        raise UserError(f"timm has no model {name!r}: see timm.list_models().")
    try:
        network: Any = timm.create_model(name, pretrained=True, **local_copy(name))
    except Exception as error:
        # The hub, the network and timm itself fail in many ways; all of them mean that it cannot be had here.
        raise UserError(f"timm cannot load {name!r}: {one_line(error)}{where_to_put(name)}") from None
    config: dict[str, Any] = resolve_model_data_config(network)  # type: ignore[no-untyped-call]
    _check_classes(source, network.num_classes)
    size = int(config["input_size"][-1])
    whole = round(size / config["crop_pct"])
    mean, std = (torch.tensor(config[key], device=device).view(1, 3, 1, 1) for key in ("mean", "std"))

    def prepare(pictures: Tensor) -> Tensor:
        return (_center(pictures, whole, size) / 255.0 - mean) / std

    return imagenet_classifier(source, network.to(device), prepare, about=_cut(whole, size))


def _torchvision(source: str, name: str, device: torch.device) -> Classifier:
    from torchvision import models

    if name not in models.list_models(module=models):
        raise UserError(f"torchvision has no classifier {name!r}: see torchvision.models.list_models().")
    weights: Any = models.get_model_weights(name).DEFAULT
    try:
        network = models.get_model(name, weights=weights)
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(
            f"torchvision cannot load {name!r}: {one_line(error)}. Put {weights.url} into {checkpoints_folder()}."
        ) from None
    _check_classes(source, len(weights.meta["categories"]))
    prepare = weights.transforms()
    about = f"torchvision's {type(prepare).__name__}, resized to {prepare.resize_size[0]}, crop {prepare.crop_size[0]}"
    return imagenet_classifier(source, network.to(device), prepare, about=about)


def _check_classes(source: str, count: int) -> None:
    if count != len(_synsets()):
        raise UserError(f"Classifier {source!r} has {count} classes, not ImageNet's {len(_synsets())}.")


def _center(pictures: Tensor, whole: int, crop: int) -> Tensor:
    """Square pictures (B, 3, H, H) uint8 resized to `whole` px and cut to their center, as floats in 0..255."""
    values = pictures.float()
    if values.shape[-1] != whole:
        values = functional.interpolate(values, (whole, whole), mode="bicubic", antialias=True).clamp(0.0, 255.0)
    start = (whole - crop) // 2
    return values[..., start : start + crop, start : start + crop]


def _cut(whole: int, crop: int) -> str:
    return f"pictures at {whole} px (bicubic), center crop {crop}"


def _imagenet_index(label: str) -> int | None:
    if label.isascii() and label.isdigit() and int(label) < len(_synsets()):
        return int(label)
    return _synsets().get(label, _names().get(label.lower().replace("_", " ")))


@lru_cache
def _info() -> Any:
    from timm.data.imagenet_info import ImageNetInfo

    return ImageNetInfo()


@lru_cache
def _synsets() -> dict[str, int]:
    return {synset: index for index, synset in enumerate(_info().label_names())}


@lru_cache
def _names() -> dict[str, int]:
    """The English names that one class alone has."""
    found: dict[str, set[int]] = {}
    for index in range(len(_synsets())):
        for name in _info().index_to_description(index).split(","):
            found.setdefault(name.strip().lower(), set()).add(index)
    return {name: indices.pop() for name, indices in found.items() if len(indices) == 1}


# ---- true classes ----------------------------------------------------------------------------------------------------


def true_classes(scored: ScoredPhotos, classifier: Classifier, *, file: str | None = None) -> list[int | None]:
    """Each photo's class in the classifier's numbers, from folder names or a list; None where it is not known.

    Args:
        scored: the photos, whose labels are tried, innermost folder first.
        classifier: knows which label means which of its classes.
        file: a CSV of photo and class in its first two columns, which then decides alone.

    Raises:
        UserError: the file cannot be read, or names none of the photos.
    """
    if file is None:
        known = ((classifier.index_of(label) for label in labels) for labels in scored.labels)
        return [next((found for found in each if found is not None), None) for each in known]
    listed = _read_labels(file)
    names = [scored.photos.name(index) for index in range(len(scored))]
    labels = [listed.get(name, listed.get(PurePosixPath(name).name)) for name in names]
    classes = [None if label is None else classifier.index_of(label) for label in labels]
    if all(each is None for each in classes):
        raise UserError(
            f"{file} names a class of {classifier.name} for none of the photos: its first column is the photo, "
            "its second the class, by number, synset or name."
        )
    return classes


def _read_labels(file: str) -> Mapping[str, str]:
    return {row[0]: row[1] for _, row in read_table(file) if len(row) > 1}
