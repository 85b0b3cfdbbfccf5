"""The linear probe by SGD: the frozen network runs once a batch, and every head of every layer learns from it."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from ssl_colorize.data import Batch, LabeledDataset, holdout_batches, training_batches
from ssl_colorize.device import choose_autocast
from ssl_colorize.encoder import Encoder, pool_map
from ssl_colorize.engine.distributed import Processes
from ssl_colorize.engine.log import RunLog, TrainingProgress
from ssl_colorize.engine.optimizer import Schedule, regular_drops
from ssl_colorize.engine.trainer import Session, fit
from ssl_colorize.evaluate.attentive import AttentiveHeads
from ssl_colorize.evaluate.features import map_sides
from ssl_colorize.evaluate.heads import HeadSettings, LinearHeads, grid
from ssl_colorize.evaluate.inputs import head_inputs
from ssl_colorize.evaluate.metrics import Predictions, truth_ranks
from ssl_colorize.evaluate.settings import ProbeSettings

ReportUnreadable = Callable[[list[str], int], None]


@dataclass(frozen=True)
class View:
    """How photos are shown: short side and crop in pixels, short sides in training."""

    resize: int
    crop: int
    training: tuple[int, int]

    @classmethod
    def of(cls, settings: ProbeSettings) -> "View":
        """From settings whose sides are filled in, as a `Runner`'s are."""
        resize, crop = settings.resize, settings.crop
        assert resize is not None and crop is not None
        # A seventh larger at most, as the 256 px of most protocols are to their 224: the test photos lie at one end.
        return cls(resize, crop, (resize, round(resize * 8 / 7)) if settings.scales else (resize, resize))


class Probe:
    """A frozen encoder with its heads: of each kind and layer every learning rate with every weight decay.

    What heads of one name see is normalized once for all of them (`HeadInput`).
    Several processes gather their pooled maps rather than their gradients, which are many times larger; so each of
    them takes the very steps that one process takes with the whole batch.

    Attributes:
        inputs: what the heads of each name see; "conv5" is a linear head on that layer.
        heads: by the same names.
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
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """`heads` are those of each name, all combinations of the settings if not given; `seed` is of the queries."""
        self.encoder, self.layers, self.multilabel, self.dtype = encoder, tuple(layers), multilabel, dtype
        self.device, self.pool = next(encoder.parameters()).device, settings.pool
        self.autocast = choose_autocast(settings.precision, self.device)
        sides = map_sides(encoder, layers, crop, numbers=settings.numbers, sizes=settings.sizes)
        self.inputs = {each.name: each for each in head_inputs(encoder, layers, settings, sides, crop=crop)}
        self.heads: dict[str, LinearHeads | AttentiveHeads] = {}
        every = grid(settings.learning_rates, settings.weight_decays)
        for name, seen in self.inputs.items():
            seen.to(self.device, dtype)
            options: dict[str, Any] = {
                "settings": heads[name] if heads else every, "multilabel": multilabel, "device": self.device,
                "dtype": dtype,
            }  # fmt: skip
            if seen.attentive:
                options |= {"queries": settings.queries, "seed": seed}
                self.heads[name] = AttentiveHeads(seen.channels, classes, **options)
            else:
                self.heads[name] = LinearHeads(seen.numbers, classes, **options)

    @torch.no_grad()
    def maps(self, photos: Tensor) -> dict[tuple[str, int], Tensor]:
        """Photos (B, 3, H, W) uint8 -> the pooled maps (B, C, side, side) of each layer and side that heads see."""
        with self.autocast():
            maps = self.encoder(photos.to(self.device, non_blocking=True), self.layers)
        wanted = dict.fromkeys(taken for seen in self.inputs.values() for taken in seen.taken.items())
        return {(layer, side): pool_map(maps[layer], side, self.pool).to(self.dtype) for layer, side in wanted}

    @torch.no_grad()
    def train_on(
        self, photos: Tensor, targets: Tensor, *, factor: float, group: Processes | None = None
    ) -> dict[str, Tensor]:
        """One step of all heads on this process's part of a batch; returns the losses (R,) by name."""
        targets = gathered(targets.to(self.device), group)
        maps = {key: gathered(x, group) for key, x in self.maps(photos).items()}
        return {
            name: self.heads[name].train_on(seen.train()(maps), targets, factor=factor)
            for name, seen in self.inputs.items()
        }

    @torch.no_grad()
    def scores(self, photos: Tensor, *, chosen: Mapping[str, int] | None = None) -> dict[str, Tensor]:
        """Scores (B, R, C) by name of all heads, or (B, 1, C) of the chosen one."""
        maps = self.maps(photos)
        return {
            name: self.heads[name].scores(seen.eval()(maps), head=chosen[name] if chosen else None)
            for name, seen in self.inputs.items()
        }

    def state_dict(self) -> dict[str, dict[str, Tensor]]:
        """Heads and normalization, by name; the encoder is not part of it."""
        return {name: self.heads[name].state_dict() | seen.state() for name, seen in self.inputs.items()}

    def load_state_dict(self, state: Mapping[str, Mapping[str, Tensor]]) -> None:
        """The opposite of `state_dict`."""
        for name, values in self.state_dict().items():
            for key, value in values.items():
                value.copy_(state[name][key])


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


def schedule(settings: ProbeSettings, steps: int) -> Schedule:
    """The factor on every learning rate: half a cosine to zero, or a tenth after every `drop_every` steps."""
    drops = None if settings.drop_every is None else regular_drops(settings.drop_every, 0.1, steps)
    return Schedule(steps, drops=drops)


class WatchedProgress(TrainingProgress):
    """Progress of a training that a verb's own bar shows."""

    def __init__(self, start: int, steps: int, batch_size: int, watch: Callable[[int, int], None]) -> None:
        super().__init__(start, steps, batch_size, quiet=True)
        self.watch = watch

    def advance(self, step: int, loss: float) -> float:
        self.watch(step * self.batch_size, self.steps * self.batch_size)
        return super().advance(step, loss)


def fit_probes(
    probes: Sequence[Probe],
    data: LabeledDataset,
    settings: ProbeSettings,
    *,
    view: View,
    seed: int,
    session: Session,
    log: RunLog,
    start: int = 0,
    logged_before: int = 0,
    save: Callable[[int], None] = lambda step: None,
    watch: Callable[[int, int], None] = lambda done, total: None,
    unreadable: ReportUnreadable = lambda lines, read: None,
) -> None:
    """Train the heads of all probes on the same photos, from step `start` to the last one.

    The photos and their augmentation depend on the seed and the step alone, so a training that goes on from a saved
    state gives what one without a stop gives.

    Args:
        log: gets the lowest loss of all heads of the first probe, and the highest learning rate.
        logged_before: steps of other trainings that are in the log.
        save: is called after a step to keep what takes to go on from there.
        watch: is told how many photos were seen, of how many.
    """
    group = session.group
    session.share_of(settings.batch_size)
    steps = step_count(settings, len(data))
    factor = schedule(settings, steps)
    labels = torch.from_numpy(np.asarray(data.labels)).long()

    def batches() -> Iterator[Batch]:
        for batch in training_batches(
            data.photos, resize=view.training, crop=view.crop, batch_size=settings.batch_size, seed=seed, start=start,
            steps=steps, workers=settings.workers, rank=group.rank, world_size=group.world_size,
        ):  # fmt: skip
            unreadable(batch.unreadable, len(batch.photos))
            yield batch

    def take_step(batch: Batch, step: int) -> dict[str, Tensor]:
        targets = labels[batch.indices]
        first, *_ = [probe.train_on(batch.photos, targets, factor=factor(step), group=group) for probe in probes]
        # A head whose rate is too high for it may blow up; it will not be chosen.
        every = torch.cat([losses.nan_to_num(torch.inf) for losses in first.values()])
        return {"loss": every.min()}

    fit(
        take_step, batches(), start=start, steps=steps, session=session, log=log,
        learning_rate=lambda step: max(settings.learning_rates) * factor(step),
        progress=WatchedProgress(start, steps, settings.batch_size, watch),
        save=save, save_every=settings.checkpoint_every, logged_before=logged_before,
    )  # fmt: skip


def predict(
    probes: Sequence[Probe],
    data: LabeledDataset,
    settings: ProbeSettings,
    *,
    view: View,
    chosen: Sequence[Mapping[str, int]] | None = None,
    unreadable: ReportUnreadable = lambda lines, read: None,
) -> list[dict[str, list[Predictions]]]:
    """What the heads predict for all photos: for each probe and layer those of every head, or of the chosen one."""
    labels = torch.from_numpy(np.asarray(data.labels)).long()
    kept: list[Tensor] = []
    found: list[dict[str, list[Tensor]]] = [{name: [] for name in probe.heads} for probe in probes]
    batches = holdout_batches(
        data.photos, resize=view.resize, crop=view.crop, batch_size=settings.batch_size, workers=settings.workers
    )
    for batch in batches:
        unreadable(batch.unreadable, len(batch.photos))
        kept.append(batch.indices)
        for number, probe in enumerate(probes):
            for layer, scores in probe.scores(batch.photos, chosen=chosen[number] if chosen else None).items():
                targets = labels[batch.indices].to(scores.device)
                found[number][layer].append((scores if probe.multilabel else truth_ranks(scores, targets)).cpu())
    truth = np.asarray(data.labels)[torch.cat(kept).numpy()]

    def predictions(values: Tensor) -> list[Predictions]:
        """One for each head: of ranks (N, R), or of scores (N, R, C)."""
        if values.ndim == 2:
            return [Predictions(truth, ranks=each.numpy()) for each in values.unbind(1)]
        return [Predictions(truth, scores=each.numpy().astype(np.float32)) for each in values.unbind(1)]

    return [{layer: predictions(torch.cat(parts)) for layer, parts in one.items()} for one in found]
