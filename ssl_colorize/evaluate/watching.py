"""How good features become while a network learns: kNN, ridge probe, effective rank, in a share of the run's time."""

import time
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ssl_colorize.config import Precision
from ssl_colorize.data import LabeledDataset, Photos, choosing_split, open_dataset
from ssl_colorize.device import choose_autocast, choose_device
from ssl_colorize.encoder import Encoder, load_encoder
from ssl_colorize.evaluate.closed_form import linear_probe
from ssl_colorize.evaluate.features import extract
from ssl_colorize.evaluate.knn import knn_predict
from ssl_colorize.evaluate.metrics import Predictions
from ssl_colorize.models import ColorizationModel
from ssl_colorize.models.source import Source
from ssl_colorize.models.trunks import ColorizationTrunk

NEIGHBORS = 20
# Layers that are watched where none are named: so far along the network.
_PLACES = (0.5, 0.75, 1.0)
# Features of less than this share of the highest effective rank that the run has had are told as collapsed.
COLLAPSED = 0.25


@dataclass
class _Set:
    """A part of a labeled set to learn from, and one to answer for."""

    name: str
    photos: LabeledDataset
    bank: NDArray[np.int64]
    held: NDArray[np.int64]


class Watching:
    """Watches the features of a network that learns, on labeled photos that nothing is reported on.

    Of every set only the part to train on is opened, and of that some photos are held out to answer for, as the probes
    choose their settings. Nothing is chosen by what is found.

    Attributes:
        state: what a checkpoint keeps: seconds spent, the untrained network's figures, the highest effective ranks.
    """

    def __init__(
        self,
        data: Sequence[str],
        *,
        size: int,
        layers: Sequence[str] = (),
        photos: int = 2000,
        share: float = 0.03,
        seed: int = 0,
        device: str = "auto",
        precision: Precision = "auto",
    ) -> None:
        """Open the sets.

        Args:
            data: as `open_dataset` takes them, each a set of its own.
            size: side in pixels of the photos' center crops.
            layers: to watch; by default three, at one half, three quarters and the end of the network.
            photos: of each set at most.
            share: of the run's time that may be spent.
            seed: of the split and of the untrained network.

        Raises:
            UserError: a set is missing or unusable.
        """
        self.size, self.layers, self.share, self.seed = size, tuple(layers), share, seed
        self.device = choose_device(device)
        self.autocast = choose_autocast(precision, self.device)
        self.state: dict[str, Any] = {"seconds": 0.0, "last": 0.0, "untrained": {}, "highest": {}, "told": []}
        self.sets: list[_Set] = []
        for source in data:
            train = open_dataset([source])[0]
            if photos < len(train):
                train = train.limit(max(photos, len(train.shown())), where=source)
            bank, held = choosing_split(train.labels, seed=seed)
            name = Path(source).resolve().name or source
            known = [one.name for one in self.sets]
            self.sets.append(_Set(f"{name}-{known.count(name) + 1}" if name in known else name, train, bank, held))

    def begin(self, model: ColorizationModel, trained_on: Photos, state: Mapping[str, Any] | None) -> list[str]:
        """Measure the untrained network, unless it was when the run began; returns what to tell the user.

        Args:
            model: the network that learns, which is left as it is.
            trained_on: the photos that it learns from.
            state: of the run's checkpoint, if it goes on.
        """
        if state is not None:
            self.state = dict(state)
        encoder = self._encoder(model)
        self.layers = encoder.choose(self.layers) if self.layers else _spread(encoder.layers)
        names = {f"watch_{one.name}_{layer}" for one in self.sets for layer in self.layers}
        if not names <= {name.rpartition("_")[0] for name in self.state["untrained"]}:
            twin = encoder.untrained or Source("random", model.name, width=model.width)
            untrained = load_encoder(twin, device=self.device, seed=self.seed)
            self.state["untrained"] = self._timed(untrained)
        stamps = {trained_on.stamp(index) for index in range(len(trained_on))}
        lines = []
        for one in self.sets:
            also = sum(one.photos.photos.stamp(index) in stamps for index in range(len(one.photos)))
            lines.append(
                f"Watching {', '.join(self.layers)} on {one.name}: {len(one.bank):,} photos of its training part to "
                f"learn from, {len(one.held):,} to answer for; {also:,} of them are also trained on, without labels."
            )
        return lines

    def __call__(self, model: ColorizationModel, *, seconds: float, always: bool) -> tuple[dict[str, float], list[str]]:
        """Figures of a network, if there is time for them.

        Args:
            model: left as it is.
            seconds: that the run has taken so far.
            always: measure whatever the time.

        Returns:
            Figures by name, "watch_SET_LAYER_" and "knn" (accuracy, or mAP, of 20 neighbors), "ridge" (likewise),
            "rank" (effective), with "_untrained" behind it those of the untrained network; and lines for the user.
            Nothing if there is no time.
        """
        if not always and self.state["seconds"] + self.state["last"] > self.share * seconds:
            return {}, []
        found = self._timed(self._encoder(model))
        untrained: dict[str, float] = self.state["untrained"]
        lines = [self._line(one, found, untrained) for one in self.sets]
        for name in [name for name in found if name.endswith("_rank")]:
            highest = max(self.state["highest"].get(name, 0.0), found[name])
            self.state["highest"][name] = highest
            if found[name] >= COLLAPSED * highest:
                self.state["told"] = [told for told in self.state["told"] if told != name]
            elif name not in self.state["told"]:
                self.state["told"].append(name)
                where = name.removeprefix("watch_").removesuffix("_rank").replace("_", " ")
                lines.append(
                    f"Collapse alarm: features of {where} have an effective rank of {found[name]:.1f}, which was "
                    f"{highest:.1f}. Lower the learning rate, or take an earlier checkpoint."
                )
        return found | {f"{name}_untrained": untrained[name] for name in found if name in untrained}, lines

    def _line(self, one: _Set, found: Mapping[str, float], untrained: Mapping[str, float]) -> str:
        parts = []
        for layer in self.layers:
            key = f"watch_{one.name}_{layer}"
            knn, ridge = (
                f"{kind} {100 * found[f'{key}_{kind}']:.1f} % (untrained {100 * untrained[f'{key}_{kind}']:.1f})"
                for kind in ("knn", "ridge")
            )
            parts.append(f"{layer} {knn}, {ridge}, rank {found[f'{key}_rank']:.1f}")
        return f"watched {one.name}: {'; '.join(parts)}"

    def _encoder(self, model: ColorizationModel) -> Encoder:
        # An encoder freezes its network.
        copied = deepcopy(model).to(self.device)
        return Encoder(ColorizationTrunk(copied, input_size=self.size), source=Source("random", model.name))

    def _timed(self, encoder: Encoder) -> dict[str, float]:
        began = time.monotonic()
        found: dict[str, float] = {}
        for one in self.sets:
            found |= self._measured(encoder, one)
        self.state["last"] = time.monotonic() - began
        self.state["seconds"] += self.state["last"]
        return found

    def _measured(self, encoder: Encoder, one: _Set) -> dict[str, float]:
        with self.autocast():
            extracted = extract(
                encoder, one.photos.photos, layers=self.layers, resize=self.size, crop=self.size, batch_size=100
            )
        bank, held = (np.flatnonzero(np.isin(extracted.kept, part)) for part in (one.bank, one.held))
        labels, classes = one.photos.labels[extracted.kept], len(one.photos.classes)
        found = {}
        for layer, features in extracted.features.items():
            key = f"watch_{one.name}_{layer}"
            known, asked, answers = features[bank], features[held], labels[held]
            votes = knn_predict(known, labels[bank], asked, k=min(NEIGHBORS, len(bank)), classes=classes)
            scores = linear_probe(known, labels[bank], asked, classes=classes, seed=self.seed).scores
            found[f"{key}_knn"] = Predictions.of(votes, answers).value
            found[f"{key}_ridge"] = Predictions.of(scores, answers).value
            found[f"{key}_rank"] = effective_rank(torch.from_numpy(features))
        return found


def effective_rank(features: torch.Tensor) -> float:
    """How many directions features (N, D) use: e to the entropy of the shares of their squared singular values.

    Columns are standardized before. Source: Roy and Vetterli, The effective rank, EUSIPCO 2007.

    >>> two = torch.randn(500, 2, generator=torch.Generator().manual_seed(0))
    >>> round(effective_rank(torch.cat((two, two), dim=1)), 1)
    2.0
    """
    points = features.float()
    power = torch.linalg.svdvals((points - points.mean(0)) / (points.std(0) + 1e-6)).square()
    return float(torch.exp(torch.special.entr(power / power.sum()).sum()))


def _spread(layers: Sequence[str]) -> tuple[str, ...]:
    """Layers at some places along the network, each once."""
    return tuple(dict.fromkeys(layers[max(0, round(place * len(layers)) - 1)] for place in _PLACES))
