"""What all verbs run: an encoder and, beside it, the same network untrained; for every seed, on the same photos."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
import torch

from ssl_colorize.data import LabeledDataset, announce, open_dataset
from ssl_colorize.data.further import open_further
from ssl_colorize.data.reading import report
from ssl_colorize.device import choose_device
from ssl_colorize.encoder import Encoder, Pooling, Source, load_encoder
from ssl_colorize.evaluate.features import Features, extract, frozen
from ssl_colorize.evaluate.settings import EvaluationSettings, JudgingSettings

# Is told, a line each, what is worth knowing on the way.
Say = Callable[[str], None]
# Told on the way: what is being done, how much of it is done, and how much there is.
Watch = Callable[[str, int, int], None]

S = TypeVar("S", bound=EvaluationSettings)
R = TypeVar("R")
# A part of the photos, those that can be read, and their features (N, D) by layer.
Extracted = tuple[LabeledDataset, Mapping[str, Features]]


@dataclass
class Runner(Generic[S]):
    """What is the same for all encoders and seeds. The settings have `resize` and `crop` filled in.

    Attributes:
        further: more photos to test on, by name.
        untrained: the source of the same network before it learned anything; None where it is not asked for, or where
            there is none.
    """

    settings: S
    train: LabeledDataset
    test: LabeledDataset
    further: Mapping[str, LabeledDataset]
    encoder: Encoder
    untrained: Source | None
    layers: tuple[str, ...]
    device: torch.device
    say: Say
    watch: Watch
    _extracted: WeakKeyDictionary[Encoder, dict[int, Extracted]] = field(default_factory=WeakKeyDictionary)

    @classmethod
    def open(cls, settings: S, *, say: Say, watch: Watch, device: torch.device | None = None) -> Runner[S]:
        """Open the photos and load the encoder.

        Args:
            device: in place of the settings'.

        Raises:
            UserError: the encoder, a layer or the data is not there.
        """
        train, test = open_dataset(**settings.sources, annotation=settings.annotation, limit=settings.limit)
        further = _open_further(settings, train)
        announce(train=train, test=test, **further)
        return cls.around(settings, train, test, further, say=say, watch=watch, device=device)

    @classmethod
    def around(
        cls, settings: S, train: LabeledDataset, test: LabeledDataset,
        further: Mapping[str, LabeledDataset] | None = None, *, say: Say, watch: Watch,
        device: torch.device | None = None,
    ) -> Runner[S]:  # fmt: skip
        """Load the encoder for photos that are open.

        Raises:
            UserError: the encoder or a layer is not there.
        """
        device = device or choose_device(settings.device)
        encoder = load_encoder(settings.encoder, device=device, seed=settings.seed)
        resize, crop = settings.sides(encoder)
        filled = settings.model_copy(update={"resize": resize, "crop": crop})
        untrained = encoder.untrained if settings.random else None
        layers = encoder.choose(settings.layers)
        return cls(filled, train, test, further or {}, encoder, untrained, layers, device, say, watch)

    def run(
        self,
        measure: Callable[[Sequence[Encoder], int], Sequence[Mapping[str, R]]],
        summarize: Callable[[Sequence[R]], dict[str, Any]],
        *,
        seed_matters: bool = True,
    ) -> dict[str, Any]:
        """Measure the encoder and its untrained counterpart with every seed.

        Args:
            measure: from encoders and a seed, what each encoder gives by layer.
            summarize: a layer's figures, from what an encoder gave with each seed.
            seed_matters: whether a seed decides about more than the weights of untrained networks; those are drawn
                from it.

        Returns:
            The figures by layer; "random", those of the untrained network by layer; and "trunk_unchanged": True, proven
            by comparing all bits of every encoder.
        """
        if self.untrained is not None:
            self.say(f"Beside it its untrained counterpart, {self.untrained}.")
        elif self.settings.random:
            self.say(f"No untrained network beside {self.settings.encoder}: it is one, or there is none like it.")
        trained_runs: list[Mapping[str, R]] = []
        untrained_runs: list[Mapping[str, R]] = []
        for number in range(self.settings.seeds):
            seed = self.settings.seed + number
            if self.settings.seeds > 1:
                self.say(f"seed {seed}, {number + 1} of {self.settings.seeds}")
            encoders = [self._encoder_of(seed)] if not number or seed_matters or self.encoder.source.untrained else []
            measured = [trained_runs] * len(encoders)
            if self.untrained is not None:
                encoders.append(load_encoder(self.untrained, device=self.device, seed=seed))
                measured.append(untrained_runs)
            with ExitStack() as stack:
                for encoder in encoders:
                    stack.enter_context(frozen(encoder))
                for runs, found in zip(measured, measure(encoders, seed), strict=True):
                    runs.append(found)
        metrics = _summaries(trained_runs, summarize)
        if untrained_runs:
            metrics["random"] = _summaries(untrained_runs, summarize)
        return metrics | {"trunk_unchanged": True}

    def _encoder_of(self, seed: int) -> Encoder:
        """The encoder; one without training is another one with another seed."""
        if seed == self.settings.seed or not self.encoder.source.untrained:
            return self.encoder
        return load_encoder(self.encoder.source, device=self.device, seed=seed)

    def features(
        self, encoder: Encoder, part: LabeledDataset, *, sizes: Mapping[str, int], pool: Pooling = "adaptive"
    ) -> Extracted:
        """Those of the photos that can be read, and their features by layer: (N, D) arrays, perhaps memory-mapped.

        An encoder's are made once, and kept as long as the encoder where there are more seeds to come.
        """
        known = self._extracted.setdefault(encoder, {})
        if id(part) not in known:
            found = self._extract(encoder, part, sizes, pool)
            if self.settings.seeds == 1:
                return found
            known[id(part)] = found
        return known[id(part)]

    def _extract(self, encoder: Encoder, part: LabeledDataset, sizes: Mapping[str, int], pool: Pooling) -> Extracted:
        done = 0

        def advance(count: int) -> None:
            nonlocal done
            done += count
            self.watch("Extracting features", done, len(part))

        settings = self.settings
        found = extract(
            encoder, part.photos, layers=self.layers, resize=settings.resize, crop=settings.crop, pool=pool,
            sizes=sizes, batch_size=settings.batch_size, workers=settings.workers, cache=settings.cache_folder,
            say=self.say, advance=advance,
        )  # fmt: skip
        left = np.setdiff1d(np.arange(len(part)), found.kept).tolist()
        report("unreadable", [part.photos.name(index) for index in left])
        return part.take(found.kept.tolist()), found.features


def _summaries(runs: Sequence[Mapping[str, R]], summarize: Callable[[Sequence[R]], dict[str, Any]]) -> dict[str, Any]:
    """The figures of each layer, or whatever else runs have results of by name."""
    return {name: summarize([run[name] for run in runs]) for name in runs[0]}


def _open_further(settings: EvaluationSettings, train: LabeledDataset) -> dict[str, LabeledDataset]:
    """The further test sets that the settings ask for, over the classes of the training photos."""
    if not isinstance(settings, JudgingSettings):
        return {}
    found = {name: open_further(name, item, train) for name, item in settings.further.items()}
    if settings.limit is None:
        return found
    return {
        name: part.limit(max(settings.limit // 4, len(part.shown())), where=name) for name, part in found.items()
    }  # fmt: skip
