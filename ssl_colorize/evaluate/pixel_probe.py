"""A linear classifier of every pixel on frozen maps: one pass of the network for all layers and learning rates.

As in DINOv2's linear segmentation (Oquab et al. 2023, section 7.4) a BatchNorm and a 1x1 convolution read the frozen
map, and the loss is the cross-entropy of every pixel, the map enlarged bilinearly to the photo. A 1x1 convolution and
bilinear enlarging can change places, so the loss is computed at some pixels of each photo, drawn anew in every step:
the same in expectation, at a fraction of the cost, since pixels beside each other say nearly the same.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ssl_colorize.data import Batch, LabeledDataset
from ssl_colorize.data.annotations import IGNORED
from ssl_colorize.data.loading import annotated_training_batches
from ssl_colorize.data.transforms import Augmentation
from ssl_colorize.device import choose_autocast
from ssl_colorize.encoder import Encoder
from ssl_colorize.engine.log import RunLog
from ssl_colorize.engine.optimizer import Schedule, step_seed
from ssl_colorize.engine.trainer import Session, fit
from ssl_colorize.evaluate.heads import FeatureNorm, LinearHeads, grid
from ssl_colorize.evaluate.settings import SegmentSettings
from ssl_colorize.evaluate.sgd_probe import ReportUnreadable, WatchedProgress


class PixelProbe:
    """A frozen encoder with linear classifiers of pixels: for each layer every learning rate with every weight decay.

    A layer's map is normalized by a `FeatureNorm`, which all heads of the layer share; scale and shift of a BatchNorm
    would only be multiplied into the convolution after it.
    """

    def __init__(
        self, encoder: Encoder, layers: Sequence[str], settings: SegmentSettings, *, classes: int,
        dtype: torch.dtype = torch.float32,
    ) -> None:  # fmt: skip
        self.encoder, self.layers, self.dtype = encoder, tuple(layers), dtype
        self.device = next(encoder.parameters()).device
        self.autocast = choose_autocast(settings.precision, self.device)
        channels = {info["module"]: info["num_chs"] for info in encoder.feature_info}
        every = grid(settings.learning_rates, settings.weight_decays)
        self.norms = {layer: FeatureNorm(channels[layer]).to(self.device, dtype) for layer in self.layers}
        self.heads = {
            layer: LinearHeads(channels[layer], classes, settings=every, device=self.device, dtype=dtype)
            for layer in self.layers
        }

    @torch.no_grad()
    def maps(self, photos: Tensor) -> dict[str, Tensor]:
        """Photos (B, 3, H, W) uint8 -> each layer's map (B, C, h, w), not normalized."""
        with self.autocast():
            found = self.encoder(photos.to(self.device, non_blocking=True), self.layers)
        return {layer: x.to(self.dtype) for layer, x in found.items()}

    @torch.no_grad()
    def train_on(self, photos: Tensor, masks: Tensor, points: Tensor, *, factor: float) -> dict[str, Tensor]:
        """One step of all heads.

        Args:
            photos: (B, 3, H, W) uint8.
            masks: (B, H, W) classes, or IGNORED.
            points: (B, P) pixels of each photo to learn from, as places in H * W.
            factor: of the schedule, on every learning rate.

        Returns:
            The losses (R,) by layer, means over the points that count; empty if none of them does.
        """
        targets = masks.flatten(1).gather(1, points).flatten().long()
        counted = (targets != IGNORED).to(self.device)
        if not counted.any():
            return {}
        targets = targets.to(self.device)[counted]
        losses = {}
        for layer, x in self.maps(photos).items():
            values = at_pixels(self.norms[layer].train()(x), points.to(self.device), masks.shape[-2:])
            losses[layer] = self.heads[layer].train_on(values.flatten(0, 1)[counted], targets, factor=factor)
        return losses

    @torch.no_grad()
    def scores(self, x: Tensor, layer: str, *, head: int | None = None) -> Tensor:
        """A layer's map of one photo (1, C, h, w) -> the scores (R, classes, h, w) of all heads, or of one (R = 1)."""
        height, width = x.shape[-2:]
        cells = self.norms[layer].eval()(x.to(self.dtype))[0].flatten(1).T
        found = self.heads[layer].scores(cells, head=head).permute(1, 2, 0)
        return found.reshape(*found.shape[:2], height, width)

    def state_dict(self) -> dict[str, dict[str, Tensor]]:
        """Heads and normalization, by layer; the encoder is not part of it."""
        return {layer: self.heads[layer].state_dict() | self.norms[layer].state_dict() for layer in self.layers}

    def load_state_dict(self, state: Mapping[str, Mapping[str, Tensor]]) -> None:
        """The opposite of `state_dict`."""
        for layer in self.layers:
            norm = self.norms[layer].state_dict()
            self.norms[layer].load_state_dict({name: state[layer][name] for name in norm})
            self.heads[layer].load_state_dict({k: v for k, v in state[layer].items() if k not in norm})


@dataclass(frozen=True)
class LinearMethod:
    """A layer's heads, as `segment.Method`."""

    probe: PixelProbe
    layer: str

    @property
    def settings(self) -> list[dict[str, float]]:
        return [dict(vars(one)) for one in self.probe.heads[self.layer].settings]

    def scores(self, x: Tensor, *, only: int | None = None) -> Iterator[Tensor]:
        yield from self.probe.scores(x, self.layer, head=only)


def at_pixels(x: Tensor, points: Tensor, size: Sequence[int]) -> Tensor:
    """What maps (B, C, h, w), enlarged bilinearly to a height and width, are at some pixels.

    Args:
        points: (B, P) places in height * width.
        size: height and width.

    Returns:
        (B, P, C): as of `interpolate(x, size, mode="bilinear", align_corners=False)`, which is never made.

    >>> at_pixels(torch.tensor([[[[0.0, 1.0]]]]), torch.tensor([[0, 1, 2, 3]]), (1, 4)).flatten().tolist()
    [0.0, 0.25, 0.75, 1.0]
    """
    height, width = size
    # The centers of the pixels, the map reaching from -1 to 1.
    down = (2 * points.div(width, rounding_mode="floor") + 1).to(x.dtype) / height - 1
    across = (2 * (points % width) + 1).to(x.dtype) / width - 1
    where = torch.stack([across, down], dim=-1)[:, None]
    found = functional.grid_sample(x, where, mode="bilinear", padding_mode="border", align_corners=False)
    return found[:, :, 0].transpose(1, 2)


def draw_points(pixels: int, *, photos: int, size: Sequence[int], seed: int, step: int) -> Tensor:
    """(photos, pixels) places in height * width, drawn with replacement from (seed, step) alone."""
    generator = torch.Generator().manual_seed(step_seed(seed, step, 0))
    return torch.randint(size[0] * size[1], (photos, pixels), generator=generator)


def step_count(settings: SegmentSettings, photos: int) -> int:
    """Optimizer steps of a training on so many photos."""
    return settings.steps or max(1, math.ceil((settings.epochs or 0) * photos / settings.batch_size))


def fit_pixel_probes(
    probes: Sequence[PixelProbe],
    data: LabeledDataset,
    settings: SegmentSettings,
    *,
    sides: tuple[int, int],
    seed: int,
    session: Session,
    log: RunLog,
    start: int = 0,
    logged_before: int = 0,
    save: Callable[[int], None] = lambda step: None,
    watch: Callable[[int, int], None] = lambda done, total: None,
    unreadable: ReportUnreadable = lambda lines, read: None,
) -> None:
    """Train the heads of all probes on the same squares of the same photos, from step `start` to the last one.

    All that is random depends on the seed and the step alone, so a training that goes on from a saved state gives what
    one without a stop gives.

    Args:
        sides: short side of photos, which `scales` varies, and side of the square, in pixels.
        log: gets the lowest loss of all heads of the first probe, and the highest learning rate.
        logged_before: steps of other trainings that are in the log.
        save: is called after a step to keep what takes to go on from there.
        watch: is told how many photos were seen, of how many.
    """
    steps = step_count(settings, len(data))
    factor = Schedule(steps)
    resize, crop = sides
    low, high = (round(resize * scale) for scale in settings.scales)
    shape = Augmentation((max(low, 1), max(high, 1)), crop=crop)

    def batches() -> Iterator[Batch]:
        for batch in annotated_training_batches(
            data, shape, batch_size=settings.batch_size, seed=seed, start=start, steps=steps, workers=settings.workers,
        ):  # fmt: skip
            unreadable(batch.unreadable, len(batch.photos))
            yield batch

    def take_step(batch: Batch, step: int) -> dict[str, Tensor]:
        masks = torch.from_numpy(np.stack(batch.masks))
        points = draw_points(settings.pixels, photos=len(masks), size=masks.shape[-2:], seed=seed, step=step)
        first, *_ = [probe.train_on(batch.photos, masks, points, factor=factor(step)) for probe in probes]
        # A head whose rate is too high for it may blow up; it will not be chosen. Of squares in which nothing counts
        # nothing is learned.
        every = list(chain(*(losses.nan_to_num(torch.inf).tolist() for losses in first.values())))
        return {"loss": torch.tensor(min(every, default=0.0))}

    fit(
        take_step, batches(), start=start, steps=steps, session=session, log=log,
        learning_rate=lambda step: max(settings.learning_rates) * factor(step),
        progress=WatchedProgress(start, steps, settings.batch_size, watch),
        save=save, save_every=settings.checkpoint_every, logged_before=logged_before,
    )  # fmt: skip
