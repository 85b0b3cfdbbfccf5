"""Lets every method color a piece of photos, and measures what comes out."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from ssl_colorize.color import into_gamut, rgb_to_lab, to_uint8_keeping_lightness
from ssl_colorize.score.classifiers import Classifier
from ssl_colorize.score.journal import Line
from ssl_colorize.score.measures import closeness, colorfulness, pixel_weights, psnr, ssim
from ssl_colorize.score.methods import Method, Scene
from ssl_colorize.score.perception import FrechetDistances, Lpips
from ssl_colorize.score.stream import Piece


@dataclass
class Instruments:
    """Networks that measure, and why those are missing that are: by the measure's name, in a line."""

    classifier: Classifier | None = None
    lpips: Lpips | None = None
    fid: FrechetDistances | None = None
    missing: dict[str, str] = field(default_factory=dict)


def recolored(lab: Tensor, ab: Tensor) -> Tensor:
    """A photo with other colors, as `Colorizer.colorize` joins them: 8-bit sRGB of the photo's own lightness.

    Args:
        lab: (3, H, W), the photo.
        ab: (2, H, W) in ab units; what sRGB cannot show at that lightness loses chroma.

    Returns:
        (3, H, W) uint8.
    """
    return to_uint8_keeping_lightness(into_gamut(torch.cat((lab[:1], ab))))


def scenes(piece: Piece, device: torch.device) -> list[Scene]:
    """The photos of a piece, as methods take them."""
    labs = [rgb_to_lab(photo.to(device)) for photo in piece.photos]
    others = list(piece.others) if len(piece.others) else [None] * len(labs)
    return [Scene(rgb, lab, other) for rgb, lab, other in zip(piece.photos, labs, others, strict=True)]


class Scorer:
    """Figures of photos.

    Args:
        methods: who colors.
        weights: (313,) of the bins, for the rebalanced area; None leaves it away.
        instruments: what else is measured.
        device: where pictures are made and measured.
    """

    def __init__(
        self, methods: Sequence[Method], weights: Tensor | None, instruments: Instruments, *, device: torch.device
    ) -> None:
        self.methods, self.weights, self.instruments, self.device = methods, weights, instruments, device

    @torch.no_grad()
    def lines(self, piece: Piece, names: Sequence[str], classes: Sequence[int | None]) -> list[Line]:
        """One line for each photo that the piece covers, in order; of an unreadable one only what is wrong.

        Args:
            piece: the photos.
            names: of all photos of the set.
            classes: of all photos of the set, in the classifier's numbers.
        """
        found: dict[int, Line] = {
            index: {"photo": names[index], "unreadable": reason} for index, reason in piece.unreadable.items()
        }
        if piece.indices:
            lines = self._measured(piece)
            for index, line in zip(piece.indices, lines, strict=True):
                found[index] = {"photo": names[index], "class": classes[index]} | line
        return [found[index] for index in sorted(found)]

    def _measured(self, piece: Piece) -> list[Line]:
        photos = piece.photos.to(self.device)
        shown = scenes(piece, self.device)
        weights = [None if self.weights is None else pixel_weights(each.lab[1:], self.weights) for each in shown]
        says = self._says(photos)
        lines: list[Line] = [
            {
                "enlarged": piece.enlarged[place],
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
            colored = [self._color(method, scene, weight) for scene, weight in zip(shown, weights, strict=True)]
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
            "says": self._says(pictures) or nothing,
        }
        return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]

    def _says(self, pictures: Tensor) -> list[list[int]] | None:
        classifier = self.instruments.classifier
        return None if classifier is None else classifier.top5(pictures)
