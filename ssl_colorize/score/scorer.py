"""Lets every method color a batch of photos, measures what comes out, and keeps some photos as examples."""

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ssl_colorize.color import rgb_to_lab
from ssl_colorize.score.instruments import Instruments
from ssl_colorize.score.measures import closeness, colorfulness, pixel_weights, psnr, ssim
from ssl_colorize.score.methods import Method, Scene, recolored
from ssl_colorize.score.photos import Crop, Crops
from ssl_colorize.score.summary import Line


@dataclass(frozen=True)
class Example:
    """One photo as each method colors it, for people to see.

    Attributes:
        name: the photo's.
        photo: as it was cropped.
        pictures: by method.
        auc: by method, in 0..1.
    """

    name: str
    photo: Image.Image
    pictures: dict[str, Image.Image]
    auc: dict[str, float]


@dataclass(frozen=True)
class Scorer:
    """Figures of photos.

    Attributes:
        methods: who colors.
        weights: (313,) of the bins, for the rebalanced area; None leaves it away.
        instruments: what else is measured.
        device: where pictures are made and measured.
    """

    methods: Sequence[Method]
    weights: Tensor | None
    instruments: Instruments
    device: torch.device

    @torch.no_grad()
    def lines(self, crops: Sequence[Crop], classes: Sequence[int | None]) -> list[Line]:
        """One line for each photo, in order; of an unreadable one only what is wrong.

        Args:
            crops: the photos.
            classes: of all photos of the set, in the classifier's numbers.
        """
        scenes = [self._scene(crop) for crop in crops if crop.photo is not None]
        measured = iter(self._measured(scenes)) if scenes else iter(())
        return [
            {"photo": crop.name, "unreadable": crop.unreadable}
            if crop.photo is None
            else {"photo": crop.name, "class": classes[crop.index], "enlarged": crop.enlarged} | next(measured)
            for crop in crops
        ]

    def _scene(self, crop: Crop) -> Scene:
        assert crop.photo is not None
        return Scene(crop.name, crop.photo, rgb_to_lab(crop.photo.to(self.device)), crop.other)

    def _measured(self, scenes: Sequence[Scene]) -> list[Line]:
        photos = torch.stack([scene.rgb for scene in scenes]).to(self.device)
        weights = [None if self.weights is None else pixel_weights(each.lab[1:], self.weights) for each in scenes]
        says = self._top5(photos)
        lines: list[Line] = [
            {
                "weight": None if weight is None else float(weight.sum()),
                "says": None if says is None else says[place][0],
                "colorfulness": colorful,
                "methods": {},
            }
            for place, (weight, colorful) in enumerate(zip(weights, colorfulness(photos).tolist(), strict=True))
        ]
        if self.instruments.fid is not None:
            self.instruments.fid.update(photos, None)
        for method in self.methods:
            colored = [self._color(method, scene, weight) for scene, weight in zip(scenes, weights, strict=True)]
            pictures = torch.stack([picture for picture, _ in colored])
            rows = self._of_pictures(method.name, pictures, photos)
            for line, (_, of_ab), of_picture in zip(lines, colored, rows, strict=True):
                line["methods"][method.name] = of_ab | of_picture
        return lines

    def _color(self, method: Method, scene: Scene, weights: Tensor | None) -> tuple[Tensor, dict[str, Any]]:
        """A method's picture (3, H, W) uint8, and what its colors are worth before sRGB limits them."""
        began = perf_counter()
        ab = method.ab(scene)
        seconds = perf_counter() - began
        ab = ab.to(self.device)
        close = closeness(ab, scene.lab[1:])
        weighted = None if weights is None else float((weights * close).sum() / weights.sum())
        row = {"auc": float(close.mean()), "auc_weighted": weighted, "seconds": seconds}
        return recolored(scene.lab, ab), row

    def _of_pictures(self, name: str, pictures: Tensor, photos: Tensor) -> list[dict[str, Any]]:
        """What 8-bit pictures (B, 3, H, W) of a method are worth, by picture."""
        lpips, fid = self.instruments.lpips, self.instruments.fid
        if fid is not None:
            fid.update(pictures, name)
        nothing = [None] * len(pictures)
        columns = {
            "psnr": psnr(pictures, photos).tolist(),
            "ssim": ssim(pictures, photos).tolist(),
            "lpips": nothing if lpips is None else lpips(pictures, photos).tolist(),
            "colorfulness": colorfulness(pictures).tolist(),
            "says": self._top5(pictures) or nothing,
        }
        return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]

    def _top5(self, pictures: Tensor) -> list[list[int]] | None:
        classifier = self.instruments.classifier
        return None if classifier is None else classifier.top5(pictures)

    @torch.no_grad()
    def examples(self, crops: Crops, lines: Sequence[Line], *, count: int) -> list[Example]:
        """At most `count` of the photos that these lines are about, at even distances, as every method colors them."""
        readable = [index for index, line in enumerate(lines) if "methods" in line]
        count = min(count, len(readable))
        found = []
        for place in range(count):
            index = readable[(2 * place + 1) * len(readable) // (2 * count)]
            crop = crops[index]
            if crop.photo is None:  # It has gone since.
                continue
            scene = self._scene(crop)
            pictures = {method.name: _image(method.picture(scene)) for method in self.methods}
            auc = {name: row["auc"] for name, row in lines[index]["methods"].items()}
            found.append(Example(crop.name, _image(crop.photo), pictures, auc))
        return found


def _image(pixels: Tensor) -> Image.Image:
    return Image.fromarray(pixels.permute(1, 2, 0).numpy())
