"""The linear probe by SGD: the frozen network runs once a batch, and every head of every layer learns from it."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from ssl_colorize.data import LabeledDataset, Photos, holdout_batches, training_batches
from ssl_colorize.device import choose_autocast
from ssl_colorize.encoder import Encoder, pool_map
from ssl_colorize.engine.distributed import Processes
from ssl_colorize.evaluate.heads import FeatureNorm, HeadSettings, LinearHeads, grid
from ssl_colorize.evaluate.metrics import Predictions, truth_ranks
from ssl_colorize.evaluate.settings import ProbeSettings

# Told after each step: how many are done, and the lowest loss of the heads of the deepest layer.
Step = Callable[[int, Tensor], None]
ReportUnreadable = Callable[[list[str], int], None]


@dataclass(frozen=True)
class View:
    """How photos are shown: short side and crop in pixels, short sides in training."""

    resize: int
    crop: int
    training: tuple[int, int]


def choose_view(settings: ProbeSettings, encoder: Encoder) -> View:
    """How this encoder is shown the photos.

    Raises:
        UserError: the crop is larger than the resized photo.
    """
    resize, crop = settings.sides(encoder)
    # A seventh larger at most, as the 256 px of most protocols are to their 224: the test photos lie at one end.
    return View(resize, crop, (resize, round(resize * 8 / 7)) if settings.scales else (resize, resize))


class Pooled(Protocol):
    """Settings that say how far maps are pooled."""

    @property
    def numbers(self) -> int: ...
    @property
    def sizes(self) -> Mapping[str, int]: ...


def map_sides(encoder: Encoder, layers: Sequence[str], settings: Pooled, crop: int) -> dict[str, int]:
    """The side of each layer's pooled map: as the settings say, or as large as `numbers` and the map itself allow."""
    device = next(encoder.parameters()).device
    maps = encoder(torch.zeros(1, 3, crop, crop, dtype=torch.uint8, device=device), layers)
    return {
        name: settings.sizes.get(name)
        or max(1, min(math.isqrt(settings.numbers // x.shape[1]), x.shape[2], x.shape[3]))
        for name, x in maps.items()
    }


class Probe:
    """A frozen encoder with its heads: for each layer every learning rate with every weight decay.

    A layer's pooled map is normalized by a `FeatureNorm`, which all heads of the layer share.
    Several processes gather their pooled maps rather than their gradients, which are many times larger; so each of
    them takes the very steps that one process takes with the whole batch.
    """

    def __init__(
        self,
        encoder: Encoder,
        layers: Sequence[str],
        settings: ProbeSettings,
        *,
        classes: int,
        multilabel: bool = False,
        crop: int,
        heads: Mapping[str, Sequence[HeadSettings]] | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """`heads` are those of each layer; all combinations of the settings if not given."""
        self.encoder, self.layers, self.multilabel, self.dtype = encoder, tuple(layers), multilabel, dtype
        self.device = next(encoder.parameters()).device
        self.sides, self.pool = map_sides(encoder, layers, settings, crop), settings.pool
        self.autocast = choose_autocast(settings.precision, self.device)
        channels = {info["module"]: info["num_chs"] for info in encoder.feature_info}
        every = grid(settings.learning_rates, settings.weight_decays)
        self.norms, self.heads = {}, {}
        for layer in layers:
            self.norms[layer] = FeatureNorm(channels[layer]).to(self.device, dtype)
            self.heads[layer] = LinearHeads(
                channels[layer] * self.sides[layer] ** 2, classes, settings=heads[layer] if heads else every,
                multilabel=multilabel, device=self.device, dtype=dtype,
            )  # fmt: skip

    @torch.no_grad()
    def maps(self, photos: Tensor) -> dict[str, Tensor]:
        """Photos (B, 3, H, W) uint8 -> each layer's pooled map (B, C, side, side), not normalized."""
        with self.autocast():
            maps = self.encoder(photos.to(self.device, non_blocking=True), self.layers)
        return {name: pool_map(x, self.sides[name], self.pool).to(self.dtype) for name, x in maps.items()}

    @torch.no_grad()
    def train_on(
        self, photos: Tensor, targets: Tensor, *, factor: float, group: Processes | None = None
    ) -> dict[str, Tensor]:
        """One step of all heads on this process's part of a batch; returns the losses (R,) by layer."""
        targets = gathered(targets.to(self.device), group)
        losses = {}
        for layer, x in self.maps(photos).items():
            features = self.norms[layer].train()(gathered(x, group)).flatten(1)
            losses[layer] = self.heads[layer].train_on(features, targets, factor=factor)
        return losses

    @torch.no_grad()
    def scores(self, photos: Tensor, *, chosen: Mapping[str, int] | None = None) -> dict[str, Tensor]:
        """Scores (B, R, C) by layer of all heads, or (B, 1, C) of the chosen one."""
        return {
            layer: self.heads[layer].scores(
                self.norms[layer].eval()(x).flatten(1), head=chosen[layer] if chosen else None
            )
            for layer, x in self.maps(photos).items()
        }

    def state_dict(self) -> dict[str, dict[str, Tensor]]:
        """Heads and normalization, by layer; the encoder is not part of it."""
        return {layer: self.heads[layer].state_dict() | self.norms[layer].state_dict() for layer in self.layers}

    def load_state_dict(self, state: Mapping[str, Mapping[str, Tensor]]) -> None:
        """The opposite of `state_dict`."""
        for layer in self.layers:
            norm = self.norms[layer].state_dict()
            self.norms[layer].load_state_dict({name: state[layer][name] for name in norm})
            self.heads[layer].load_state_dict({k: v for k, v in state[layer].items() if k not in norm})


def gathered(values: Tensor, group: Processes | None) -> Tensor:
    """The parts of all processes, in order."""
    if group is None or group.world_size == 1:
        return values
    parts = [torch.empty_like(values, memory_format=torch.contiguous_format) for _ in range(group.world_size)]
    dist.all_gather(parts, values.contiguous())
    return torch.cat(parts)


def step_count(settings: ProbeSettings, photos: int) -> int:
    """Optimizer steps of a training on so many photos."""
    return settings.steps or max(1, math.ceil((settings.epochs or 0) * photos / settings.batch_size))


def schedule(settings: ProbeSettings, step: int, steps: int) -> float:
    """The factor on every learning rate: half a cosine to zero, or a tenth after every `drop_every` steps."""
    if settings.drop_every is not None:
        return float(0.1 ** (step // settings.drop_every))
    return 0.5 * (1 + math.cos(math.pi * step / steps))


def train_probes(
    probes: Sequence[Probe],
    data: LabeledDataset,
    settings: ProbeSettings,
    *,
    view: View,
    seed: int,
    start: int = 0,
    group: Processes | None = None,
    after_step: Step = lambda step, loss: None,
    unreadable: ReportUnreadable = lambda lines, read: None,
) -> None:
    """Train the heads of all probes on the same photos, from step `start` to the last one.

    The photos and their augmentation depend on the seed and the step alone, so a training that goes on from a saved
    state gives what one without a stop gives.
    """
    group = group or Processes()
    steps = step_count(settings, len(data))
    labels = torch.from_numpy(np.asarray(data.labels)).long()
    batches = training_batches(
        data.photos, resize=view.training, crop=view.crop, batch_size=settings.batch_size, seed=seed, start=start,
        steps=steps, workers=settings.workers, rank=group.rank, world_size=group.world_size,
    )  # fmt: skip
    for step, batch in enumerate(batches, start):
        unreadable(batch.unreadable, len(batch.photos))
        targets, factor = labels[batch.indices], schedule(settings, step, steps)
        losses = [probe.train_on(batch.photos, targets, factor=factor, group=group) for probe in probes]
        after_step(step + 1, losses[0][probes[0].layers[-1]].min())


def judge(
    probes: Sequence[Probe],
    data: LabeledDataset,
    settings: ProbeSettings,
    *,
    view: View,
    chosen: Sequence[Mapping[str, int]] | None = None,
    unreadable: ReportUnreadable = lambda lines, read: None,
) -> list[dict[str, list[Predictions]]]:
    """What the heads say to all photos: for each probe and layer the answers of every head, or of the chosen one."""
    labels = np.asarray(data.labels)
    kept: list[Tensor] = []
    said: list[dict[str, list[Tensor]]] = [{layer: [] for layer in probe.layers} for probe in probes]
    for batch in _center_crops(data.photos, settings, view):
        unreadable(batch.unreadable, len(batch.photos))
        kept.append(batch.indices)
        targets = torch.from_numpy(labels[batch.indices.numpy()]).long()
        for number, probe in enumerate(probes):
            for layer, scores in probe.scores(batch.photos, chosen=chosen[number] if chosen else None).items():
                ranked = scores if probe.multilabel else truth_ranks(scores, targets.to(scores.device))
                said[number][layer].append(ranked.cpu())
    truth = labels[torch.cat(kept).numpy()]
    return [{layer: _answers(torch.cat(parts), truth) for layer, parts in one.items()} for one in said]


def _center_crops(photos: Photos, settings: ProbeSettings, view: View) -> Any:
    return holdout_batches(
        photos, resize=view.resize, crop=view.crop, batch_size=settings.batch_size, workers=settings.workers
    )


def _answers(said: Tensor, truth: NDArray[Any]) -> list[Predictions]:
    """One for each head: of ranks (N, R), or of scores (N, R, C)."""
    values = said.numpy()
    if values.ndim == 2:
        return [Predictions(truth, ranks=values[:, head]) for head in range(values.shape[1])]
    return [Predictions(truth, scores=values[:, head].astype(np.float32)) for head in range(values.shape[1])]
