"""The linear probe by SGD: the frozen network runs once a batch, and every head of every layer learns from it."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional

from ssl_colorize.data import Batch, LabeledDataset, holdout_batches, training_batches
from ssl_colorize.device import choose_autocast
from ssl_colorize.encoder import Encoder, pool_map
from ssl_colorize.engine.distributed import Processes
from ssl_colorize.engine.log import RunLog, TrainingProgress
from ssl_colorize.engine.optimizer import Schedule, regular_drops
from ssl_colorize.engine.trainer import Session, fit
from ssl_colorize.evaluate.features import map_sides
from ssl_colorize.evaluate.metrics import Predictions, truth_ranks
from ssl_colorize.evaluate.settings import ProbeSettings

ReportUnreadable = Callable[[list[str], int], None]

IGNORED = -1


@dataclass(frozen=True)
class HeadSettings:
    """What one head is trained with."""

    learning_rate: float
    weight_decay: float


def grid(learning_rates: Sequence[float], weight_decays: Sequence[float]) -> tuple[HeadSettings, ...]:
    """Every learning rate with every weight decay."""
    return tuple(HeadSettings(rate, decay) for rate, decay in product(learning_rates, weight_decays))


class LinearHeads:
    """R heads that differ only in learning rate and weight decay, trained by SGD with momentum.

    They see the same features, so the scores of all of them are one product with an (R x C, D) matrix, and so are
    their gradients. The update is PyTorch's SGD with momentum, head by head: v <- m v + (g + decay w), w <- w - rate v.
    Biases do not decay. All start at zero: the problem is convex, and nothing needs to be drawn.

    Attributes:
        weight: (R, C, D).
        bias: (R, C).
    """

    def __init__(
        self,
        features: int,
        classes: int,
        *,
        settings: Sequence[HeadSettings],
        multilabel: bool = False,
        momentum: float = 0.9,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.settings, self.multilabel, self.momentum = tuple(settings), multilabel, momentum
        self.weight = torch.zeros(len(self.settings), classes, features, device=device, dtype=dtype)
        self.bias = self.weight.new_zeros(len(self.settings), classes)
        self._weight_velocity, self._bias_velocity = torch.zeros_like(self.weight), torch.zeros_like(self.bias)
        self._rates = self.weight.new_tensor([one.learning_rate for one in self.settings])

    @torch.no_grad()
    def scores(self, features: Tensor, *, head: int | None = None) -> Tensor:
        """(B, D) -> the scores (B, R, C) of all heads, or (B, 1, C) of one."""
        weight, bias = (self.weight, self.bias) if head is None else (self.weight[head, None], self.bias[head, None])
        flat: Tensor = functional.linear(features, weight.flatten(0, 1), bias.flatten())
        scores: Tensor = flat.unflatten(1, bias.shape)
        return scores

    @torch.no_grad()
    def train_on(self, features: Tensor, targets: Tensor, *, factor: float = 1.0) -> Tensor:
        """One step on a batch.

        Args:
            features: (B, D).
            targets: (B,) classes; or, multi-label, (B, C) of 1, 0, and -1 for what is not counted.
            factor: of the schedule, on every learning rate.

        Returns:
            The loss (R,) of each head before the step, averaged over the photos (multi-label: summed over classes).
        """
        loss, gradient = loss_and_gradient(self.scores(features), targets, multilabel=self.multilabel)
        # Head by head, which keeps a head's weights in the cache for all three operations. The momentum is part of the
        # product, so the gradient itself is never stored: it is as large as W.
        for number, one in enumerate(self.settings):
            weight, velocity = self.weight[number], self._weight_velocity[number]
            velocity.addmm_(gradient[:, number].T, features, beta=self.momentum)
            velocity.add_(weight, alpha=one.weight_decay)
            weight.add_(velocity, alpha=-factor * one.learning_rate)
        self._bias_velocity.mul_(self.momentum).add_(gradient.sum(0))
        self.bias.addcmul_(self._bias_velocity, self._rates.view(-1, 1), value=-factor)
        return loss

    def state_dict(self) -> dict[str, Tensor]:
        """What a stopped training needs to go on exactly."""
        return {
            "weight": self.weight, "bias": self.bias,
            "weight_velocity": self._weight_velocity, "bias_velocity": self._bias_velocity,
        }  # fmt: skip

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """The opposite of `state_dict`."""
        for name, value in self.state_dict().items():
            value.copy_(state[name])


class FeatureNorm(nn.Module):
    """BatchNorm without scale and shift, for maps (B, C, h, w), that works alike at any scale of the features.

    PyTorch's adds a fixed 1e-5 to each variance. An untrained network's deep features have variances around 1e-6: they
    would come out an order of magnitude too small, and its row would be an easy one to beat. Here the addition is 1e-5
    of the layer's mean variance. The statistics kept for testing are plain means over all batches seen, as the network
    under it does not change.
    """

    mean: Tensor
    variance: Tensor
    batches: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("variance", torch.ones(channels))
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return _normalized(x, self.mean, self.variance)
        variance, mean = torch.var_mean(x, dim=(0, 2, 3), correction=0)
        self.batches += 1
        self.mean.lerp_(mean, 1 / self.batches)
        count = x.numel() // x.shape[1]
        self.variance.lerp_(variance * (count / max(count - 1, 1)), 1 / self.batches)
        return _normalized(x, mean, variance)


def _normalized(x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    # Were all channels dead, they should become 0 and not NaN.
    scale = torch.rsqrt(variance + 1e-5 * variance.mean().clamp_min(1e-30))
    return (x - mean.view(-1, 1, 1)) * scale.view(-1, 1, 1)


def loss_and_gradient(scores: Tensor, targets: Tensor, *, multilabel: bool) -> tuple[Tensor, Tensor]:
    """Softmax or sigmoid cross-entropy of scores (B, R, C): the loss (R,) and its gradient (B, R, C).

    Both are averages over the photos; classes of a multi-label photo are summed, but for those not counted.
    """
    count = len(scores)
    if multilabel:
        counted = (targets != IGNORED).to(scores.dtype)[:, None]
        wanted = (targets == 1).to(scores.dtype)[:, None].expand_as(scores)
        each = functional.binary_cross_entropy_with_logits(scores, wanted, reduction="none")
        return (each * counted).sum((0, 2)) / count, (scores.sigmoid() - wanted) * counted / count
    logarithms = scores.log_softmax(-1)
    places = targets.view(-1, 1, 1).expand(-1, scores.shape[1], 1)
    loss = -logarithms.gather(-1, places).squeeze(-1).mean(0)
    gradient = logarithms.exp_()
    gradient.scatter_add_(-1, places, gradient.new_full((1, 1, 1), -1.0).expand(places.shape))
    return loss, gradient / count


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
        self.sides, self.pool = (
            map_sides(encoder, layers, crop, numbers=settings.numbers, sizes=settings.sizes),
            settings.pool,
        )
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
    found: list[dict[str, list[Tensor]]] = [{layer: [] for layer in probe.layers} for probe in probes]
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
