"""Networks that measure: a classifier, LPIPS and FID by torchmetrics. Where weights are missing, one line says why."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ssl_colorize.encoder import load_encoder
from ssl_colorize.errors import UserError, one_line
from ssl_colorize.models.source import LITE0
from ssl_colorize.runs import write_atomically
from ssl_colorize.score.classifiers import Classifier, load_classifier
from ssl_colorize.score.config import OFF, LpipsNet, ScoreSettings

T = TypeVar("T")

INCEPTION = "inception"

# What downloads and broken files of weights raise.
_MISSING = (OSError, RuntimeError, ImportError)


class Lpips:
    """Learned perceptual distance of two pictures (Zhang et al. 2018), 0 for equal ones.

    Attributes:
        about: which network, in words.
    """

    def __init__(self, net: LpipsNet, *, device: torch.device) -> None:
        """Load the network: alex, vgg or squeeze.

        Raises:
            UserError: its weights cannot be had.
        """
        from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

        self.about = f"LPIPS 0.1 with {net}, pictures in -1..1"
        try:
            self._net: Any = LearnedPerceptualImagePatchSimilarity(net).net.to(device)
        except _MISSING as error:
            raise UserError(f"the weights of LPIPS ({net}) cannot be had: {one_line(error)}") from None

    @torch.no_grad()
    def __call__(self, pictures: Tensor, photos: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 twice -> (B,) float32."""
        one, other = (each.float() / 127.5 - 1.0 for each in (pictures, photos))
        distance: Tensor = self._net(one, other)
        return distance.reshape(len(pictures))


@dataclass(frozen=True)
class Extractor:
    """Features for FID.

    Attributes:
        about: which network and layer, in words.
        width: numbers in a vector.
        features: (B, 3, H, W) uint8 -> (B, width).
    """

    about: str
    width: int
    features: Callable[[Tensor], Tensor]


def load_extractor(source: str, *, device: torch.device) -> Extractor:
    """Features for FID: "inception", those of the published figures, or the last layer of any encoder, averaged.

    Args:
        source: "inception", or what `load_encoder` takes.

    Raises:
        UserError: the network or its weights cannot be had.
    """
    if source == INCEPTION:
        return _inception(device)
    encoder = load_encoder(source, device=device)
    layer, size = encoder.layers[-1], encoder.input_size

    def features(pictures: Tensor) -> Tensor:
        values = pictures.float() / 255.0
        if values.shape[-1] != size:
            values = functional.interpolate(values, (size, size), mode="bicubic", antialias=True).clamp(0.0, 1.0)
        return encoder.vectors(values, (layer,))[layer]

    width = encoder.feature_info[-1]["num_chs"]
    return Extractor(f"{source}, mean of layer {layer}, pictures at {size} px", width, features)


def _inception(device: torch.device) -> Extractor:
    from torchmetrics.image.fid import FrechetInceptionDistance

    try:
        network: Any = FrechetInceptionDistance(feature=2048).inception.to(device)
    except ModuleNotFoundError:
        reason = "Inception's features need torch-fidelity: pip install 'ssl-colorize[score]'"
        raise UserError(f"{reason}; or choose others with --fid-features efficientnet_lite0") from None
    except _MISSING as error:
        reason = f"the weights of Inception cannot be had: {one_line(error)}"
        raise UserError(f"{reason}; choose others with --fid-features efficientnet_lite0") from None
    return Extractor("Inception v3, 2048 features (torch-fidelity)", 2048, lambda pictures: network(pictures))


class _AsTheyAre(nn.Module):
    """Hands features through that are computed already, so that all methods share one network."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_features = width

    def forward(self, features: Tensor) -> Tensor:
        return features


# The sums that torchmetrics keeps, by the part of their names that says of which pictures they are.
_SUMS = ("features_sum", "features_cov_sum", "features_num_samples")


class FrechetDistances:
    """FID of several methods against the same photos, by sums that do not grow with the photos."""

    def __init__(self, extractor: Extractor, names: Sequence[str]) -> None:
        from torchmetrics.image.fid import FrechetInceptionDistance

        self.extractor = extractor
        self._metrics: dict[str, Any] = {
            name: FrechetInceptionDistance(feature=_AsTheyAre(extractor.width)) for name in names
        }
        # The photos' sums are kept once, as those of the first method.
        self._first = next(iter(self._metrics.values()))

    @torch.no_grad()
    def update(self, pictures: Tensor, name: str | None) -> None:
        """Count pictures (B, 3, H, W) uint8 of a method; None for the true photos."""
        metric = self._first if name is None else self._metrics[name]
        metric.update(self.extractor.features(pictures).cpu(), real=name is None)

    def distances(self) -> dict[str, float]:
        """Each method's distance; 0 is the best."""
        found = {}
        for name, metric in self._metrics.items():
            for each in _SUMS:
                setattr(metric, f"real_{each}", getattr(self._first, f"real_{each}"))
            found[name] = max(0.0, float(metric.compute()))
        return found

    def save(self, path: Path, *, counted: int) -> None:
        """Write the sums over the first `counted` photos of the set."""
        sums = {f"real_{each}": getattr(self._first, f"real_{each}") for each in _SUMS}
        for name, metric in self._metrics.items():
            sums |= {f"fake_{each} {name}": getattr(metric, f"fake_{each}") for each in _SUMS}
        write_atomically(path, lambda target: torch.save({"counted": counted, "sums": sums}, target))

    def load(self, path: Path) -> int:
        """Go on from sums that were saved; returns how many photos of the set they cover, 0 without a file.

        Raises:
            UserError: the file is damaged.
        """
        if not path.is_file():
            return 0
        try:
            content = torch.load(path, weights_only=True)
        except Exception as error:
            # torch.load's errors are of many kinds, and none of them names the file.
            raise UserError(f"{path} is damaged and cannot be resumed: {one_line(error)}") from None
        for metric in self._metrics.values():
            # A metric gives no figure before its first update, though its sums are there; they are replaced now.
            metric.update(torch.zeros(1, self.extractor.width), real=False)
        for key, value in content["sums"].items():
            what, _, name = key.partition(" ")
            setattr(self._metrics[name] if name else self._first, what, value)
        return int(content["counted"])


# ---- all of a run ----------------------------------------------------------------------------------------------------


@dataclass
class Instruments:
    """Networks that measure, and why those are missing that are: by the measure's name, in a line."""

    classifier: Classifier | None = None
    lpips: Lpips | None = None
    fid: FrechetDistances | None = None
    missing: dict[str, str] = field(default_factory=dict)


def load_instruments(
    settings: ScoreSettings, names: Sequence[str], *, device: torch.device, missing: Mapping[str, str] | None = None
) -> Instruments:
    """What the settings name. What they leave open may be missing.

    Args:
        settings: of the run.
        names: of the methods.
        device: where the networks compute.
        missing: what a run that goes on began without; it can leave nothing else away.

    Raises:
        UserError: something that was named, or that the run began with, cannot be had.
    """
    found = Instruments(missing=dict(missing or {}))

    def get(name: str, wanted: str | None, usual: str, load: Callable[[str], T]) -> T | None:
        if name in found.missing:
            return None
        if wanted == OFF:
            found.missing[name] = "switched off"
            return None
        try:
            return load(wanted or usual)
        except UserError as error:
            if wanted is not None or missing is not None:
                raise
            found.missing[name] = str(error)
            return None

    found.classifier = get("classifier", settings.classifier, LITE0, lambda name: load_classifier(name, device=device))
    found.lpips = get("lpips", settings.lpips, "alex", lambda net: Lpips(cast(LpipsNet, net), device=device))
    found.fid = get(
        "fid", settings.fid_features, INCEPTION,
        lambda source: FrechetDistances(load_extractor(source, device=device), names),
    )  # fmt: skip
    return found
