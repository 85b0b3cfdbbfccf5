"""Segmentation with frozen features: a linear classifier of pixels, or the nearest patches; scored by mean IoU.

The training photos are split in two: classifiers or banks are made of one part, their settings are chosen on the other,
and only the chosen one of each layer sees the test photos, once. At which size masks are scored is part of the
protocol, since it moves the figure by points: by default at their own, which nothing is lost at.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median_low
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ssl_colorize.data import LabeledDataset, UnreadableLog, choosing_split
from ssl_colorize.data.loading import annotated_holdout_batches
from ssl_colorize.data.transforms import resized
from ssl_colorize.encoder import Encoder
from ssl_colorize.engine.checkpoint import CHECKPOINT_NAME, Checkpoint, load_checkpoint, save_checkpoint
from ssl_colorize.engine.log import RunLog
from ssl_colorize.engine.trainer import Session, training_session
from ssl_colorize.errors import UserError
from ssl_colorize.evaluate.iou import choosing_value, class_pixels, classes_there, summarize_ious
from ssl_colorize.evaluate.patches import NeighborMethod, PatchBank, as_patches, check_k, patch_labels, sample_patches
from ssl_colorize.evaluate.pixel_probe import LinearMethod, PixelProbe, fit_pixel_probes, step_count
from ssl_colorize.evaluate.runner import Runner, Say, Watch
from ssl_colorize.evaluate.settings import SegmentSettings

KIND = "segment"
# Of a photo's long side against its short one: a panorama must not take all the memory.
LONGEST = 3

# What one setting of a method is by name: {"learning_rate": 0.1, "weight_decay": 0.0}, {"k": 30, "temperature": 0.02}.
Setting = Mapping[str, float]


class Method(Protocol):
    """A way to tell the class of every pixel from one layer's map of a photo."""

    @property
    def settings(self) -> Sequence[Setting]:
        """Those to choose from."""

    def scores(self, x: Tensor, *, only: int | None = None) -> Iterator[Tensor]:
        """From the map (1, C, h, w) of one photo scores (classes, h, w) by each setting, or by one of them."""


@dataclass(frozen=True)
class Segmented:
    """One layer of one encoder, with one seed.

    Attributes:
        chosen: the setting.
        choosing: mean IoU on the photos held out from training, which it was chosen by (see `iou.choosing_value`).
        pixels: (N, 3, C) as `iou.class_pixels` counts them, of each test photo.
        said: the classes (H, W) uint8 of the pixels of the photos on the picture, by their place among the test photos.
    """

    chosen: dict[str, float]
    choosing: float
    pixels: NDArray[np.int64]
    said: dict[int, NDArray[np.uint8]] = field(repr=False)


# By layer.
Results = Mapping[str, Segmented]


@dataclass(frozen=True)
class SegmentedExamples:
    """Test photos at even distances, whatever they look like, in the layer that was chosen.

    Attributes:
        photos: with their masks.
        said: the classes (H, W) of their pixels.
        untrained: likewise by the untrained network; empty without one.
    """

    layer: str
    photos: LabeledDataset
    said: list[NDArray[np.uint8]]
    untrained: list[NDArray[np.uint8]]


@dataclass(frozen=True)
class SegmentResult:
    """Figures by layer, and what the picture shows."""

    metrics: dict[str, Any]
    examples: SegmentedExamples | None


def run_segment(
    settings: SegmentSettings,
    folder: Path,
    *,
    resume: bool = False,
    say: Say = lambda line: None,
    watch: Watch = lambda what, done, total: None,
) -> SegmentResult:
    """Segment the test photos by frozen features of every layer asked for.

    Seeds decide about the weights of an untrained network, the split that settings are chosen on, the order of the
    photos and the pixels that are learned from, or the patches in the bank.

    Args:
        folder: for metrics.jsonl, the checkpoint that `resume` goes on from, and the list of unreadable photos.

    Returns:
        metrics: by layer what `iou.summarize_ious` gives, the chosen setting, and "choosing", the figure it was chosen
        by. Beside the layers "layer", the one with the best "choosing"; "protocol": the size that photos are shown at
        and that masks are scored at, and which classes the test photos show; "random" and "trunk_unchanged" as in
        `Runner.run`.

    Raises:
        UserError: the settings, the photos or the encoder cannot be used, or there is nothing to resume.
        Interrupted: after SIGINT or SIGTERM, with everything saved.
    """
    with training_session(settings.device, folder, command=KIND) as session:
        if session.group.world_size > 1:
            raise UserError("segment runs in one process: leave torchrun away.")
        runner = Runner.open(settings, say=say, watch=watch, device=session.device)
        with _Segmenting(runner, session, resume=resume) as segmenting:
            metrics = runner.run(segmenting.measure, lambda runs: _figures(runs, runner))
    (folder / CHECKPOINT_NAME).unlink(missing_ok=True)
    first = segmenting.done[0]
    layer = max(runner.layers, key=lambda name: metrics[name]["choosing"])
    protocol = {
        "photo_size": runner.settings.resize,
        "mask_size": settings.mask_size or "original",
        "test_photos": len(first[0][layer].pixels),
        **classes_there(first[0][layer].pixels, runner.test.classes),
    }
    return SegmentResult(metrics | {"layer": layer, "protocol": protocol}, _examples(runner, first, layer))


def _figures(runs: Sequence[Segmented], runner: Runner[SegmentSettings]) -> dict[str, Any]:
    """A layer's figures over the seeds; of their choices, the one in the middle."""
    found = summarize_ious([run.pixels for run in runs], runner.test.classes, seed=runner.settings.seed)
    chosen = {name: median_low(run.chosen[name] for run in runs) for name in runs[0].chosen}
    return found | chosen | {"choosing": float(np.mean([run.choosing for run in runs]))}


def _examples(runner: Runner[SegmentSettings], found: Sequence[Results], layer: str) -> SegmentedExamples | None:
    said = found[0][layer].said
    places = sorted(said)
    if not places:
        return None
    untrained = [found[1][layer].said[place] for place in places] if len(found) > 1 else []
    return SegmentedExamples(layer, runner.test.take(places), [said[place] for place in places], untrained)


class _Segmenting:
    """All layers of every encoder, on the same photos, seed after seed."""

    def __init__(self, runner: Runner[SegmentSettings], session: Session, *, resume: bool) -> None:
        self.runner, self.settings, self.session = runner, runner.settings, session
        encoder, resize, crop = runner.encoder, runner.settings.resize, runner.settings.crop
        assert resize is not None and crop is not None
        # Whole cells, so that no network pads a photo, and its map covers the photo evenly.
        self.multiple = encoder.trunk.multiple
        self.resize, self.crop = resize, max(self.multiple, crop // self.multiple * self.multiple)
        self.classes = len(runner.train.classes)
        self.unreadable = UnreadableLog(session.folder, len(runner.train) + len(runner.test), append=resume)
        state = load_checkpoint(session.folder, KIND) if resume else Checkpoint(KIND, 0, extra={"done": []})
        session.seconds_before = state.seconds
        self.step, self.heads = state.step, state.model
        self.done = [_unpacked(each) for each in state.extra["done"]]
        self.log: RunLog | None = None

    def __enter__(self) -> "_Segmenting":
        if self.settings.method == "linear":
            self.log = RunLog(self.session.folder, self.logged + self.step).__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        if self.log is not None:
            self.log.__exit__(*error)

    @property
    def logged(self) -> int:
        """Steps of the seeds that are done."""
        fitted_on, _ = choosing_split(self.runner.train.labels, fraction=self.settings.choosing)
        return len(self.done) * step_count(self.settings, len(fitted_on))

    def measure(self, encoders: Sequence[Encoder], seed: int) -> Sequence[Results]:
        """What each encoder gives by layer, with a seed; seeds come one after the other."""
        number = seed - self.settings.seed
        if number < len(self.done):
            return self.done[number]
        train = self.runner.train
        fitted_on, held = choosing_split(train.labels, fraction=self.settings.choosing, seed=seed)
        fit, choose = train.take(fitted_on), train.take(held)
        if self.settings.method == "linear":
            results = self._linear(encoders, fit, choose, seed)
        else:
            results = [self._neighbors(encoder, fit, choose, seed) for encoder in encoders]
        self.done.append(results)
        self.step, self.heads = 0, {}
        self._save(0, [])
        return results

    # ---- a linear classifier of pixels -------------------------------------------------------------------------------

    def _linear(
        self, encoders: Sequence[Encoder], fit: LabeledDataset, choose: LabeledDataset, seed: int
    ) -> list[Results]:
        layers = self.runner.layers
        probes = [PixelProbe(encoder, layers, self.settings, classes=self.classes) for encoder in encoders]
        for name, state in self.heads.items():
            probes[int(name)].load_state_dict(state)
        if self.step < step_count(self.settings, len(fit)):
            assert self.log is not None
            fit_pixel_probes(
                probes, fit, self.settings, sides=(self.resize, self.crop), seed=seed, session=self.session,
                log=self.log, start=self.step, logged_before=self.logged, save=lambda step: self._save(step, probes),
                watch=lambda done, total: self.runner.watch("Training the heads", done, total),
                unreadable=self._report,
            )  # fmt: skip
        results = []
        for probe in probes:
            methods = {layer: LinearMethod(probe, layer) for layer in layers}
            chosen = self._choose(probe.encoder, methods, choose)
            results.append(self._tested(probe.encoder, methods, chosen))
        self._warn_of_edges(results[0])
        return results

    def _warn_of_edges(self, found: Results) -> None:
        rates = self.settings.learning_rates
        edges = [layer for layer, one in found.items() if one.chosen["learning_rate"] in (min(rates), max(rates))]
        if len(rates) > 2 and edges:
            self.runner.say(
                f"{', '.join(edges)}: chosen at the end of the learning rates; widen learning_rates with --set."
            )

    # ---- the nearest patches -----------------------------------------------------------------------------------------

    def _neighbors(self, encoder: Encoder, fit: LabeledDataset, choose: LabeledDataset, seed: int) -> Results:
        banks = self._banks(encoder, fit, seed)
        methods = {layer: NeighborMethod(bank, self.settings, self.runner.device) for layer, bank in banks.items()}
        chosen = self._choose(encoder, methods, choose)
        del banks, methods  # before those of all training photos are made, which the test photos are looked up in
        banks = self._banks(encoder, self.runner.train, seed)
        methods = {layer: NeighborMethod(bank, self.settings, self.runner.device) for layer, bank in banks.items()}
        return self._tested(encoder, methods, chosen)

    def _banks(self, encoder: Encoder, photos: LabeledDataset, seed: int) -> dict[str, PatchBank]:
        """A bank of each layer, of as many patches of each photo, drawn from the seed and the photo's place alone."""
        most = self.settings.bank
        if most < len(photos):
            # As many photos as there is room for, at even distances.
            photos = photos.take(np.linspace(0, len(photos) - 1, most).round().astype(int).tolist())
        each = most // len(photos)
        channels = {info["module"]: info["num_chs"] for info in encoder.feature_info}
        banks = {layer: PatchBank(each * len(photos), channels[layer], self.classes) for layer in self.runner.layers}
        for index, mask, maps in self._read(encoder, photos, "Filling the bank"):
            for layer, bank in banks.items():
                x = as_patches(maps[layer], stride_of(encoder, layer), self.settings.patch)
                labels = patch_labels(mask, (x.shape[2], x.shape[3]), self.classes)
                rows = sample_patches(labels, each, np.random.default_rng((seed, index)))
                bank.add(x[0].flatten(1).T[torch.from_numpy(rows).to(x.device)].cpu().numpy(), labels[rows])
        check_k(self.settings.k, min(map(len, banks.values())))
        return banks

    # ---- choosing and testing ----------------------------------------------------------------------------------------

    def _choose(
        self, encoder: Encoder, methods: Mapping[str, Method], photos: LabeledDataset
    ) -> dict[str, tuple[int, float]]:
        """Of each layer the setting with the best figure on photos held out from training, and that figure."""
        counts: dict[str, list[list[NDArray[np.int64]]]] = {layer: [] for layer in methods}
        for _, mask, maps in self._read(encoder, photos, "Choosing"):
            for layer, method in methods.items():
                x, size = self._prepared(maps[layer], encoder, layer), mask.shape
                said = (enlarged(scores, size) for scores in method.scores(x))
                counts[layer].append([class_pixels(each, mask, self.classes) for each in said])
        found = {}
        for layer, photo_counts in counts.items():
            values = [choosing_value(np.stack(one)) for one in zip(*photo_counts, strict=True)]
            best = int(np.nanargmax(values))
            found[layer] = best, values[best]
        return found

    def _tested(
        self, encoder: Encoder, methods: Mapping[str, Method], chosen: Mapping[str, tuple[int, float]]
    ) -> Results:
        """The test photos by the chosen setting of each layer."""
        photos, shown = self.runner.test, self._shown()
        counts: dict[str, list[NDArray[np.int64]]] = {layer: [] for layer in methods}
        said: dict[str, dict[int, NDArray[np.uint8]]] = {layer: {} for layer in methods}
        for index, mask, maps in self._read(encoder, photos, "Testing"):
            for layer, method in methods.items():
                x = self._prepared(maps[layer], encoder, layer)
                (scores,) = method.scores(x, only=chosen[layer][0])
                found = enlarged(scores, mask.shape)
                counts[layer].append(class_pixels(found, mask, self.classes))
                if index in shown:
                    height, width = photos.sizes[index].tolist()[::-1]
                    said[layer][index] = enlarged(scores, (height, width)).numpy().astype(np.uint8)
        return {
            layer: Segmented(dict(methods[layer].settings[best]), value, np.stack(counts[layer]), said[layer])
            for layer, (best, value) in chosen.items()
        }

    def _shown(self) -> set[int]:
        count, total = min(self.settings.examples, len(self.runner.test)), len(self.runner.test)
        return {(2 * number + 1) * total // (2 * count) for number in range(count)}

    def _prepared(self, x: Tensor, encoder: Encoder, layer: str) -> Tensor:
        """A map as the method takes it."""
        return x if self.settings.method == "linear" else as_patches(x, stride_of(encoder, layer), self.settings.patch)

    @torch.no_grad()
    def _read(
        self, encoder: Encoder, photos: LabeledDataset, what: str
    ) -> Iterator[tuple[int, NDArray[np.uint8], dict[str, Tensor]]]:
        """Of each photo its place, its mask as it is scored, and the maps (1, C, h, w) of all layers.

        One photo after the other: they differ in shape, and what surrounds a photo would change its map.
        """
        done = 0
        for batch in annotated_holdout_batches(
            photos, short_side=self.resize, long_side=LONGEST * self.resize, multiple=self.multiple,
            batch_size=self.settings.batch_size, workers=self.settings.workers,
        ):  # fmt: skip
            self._report(batch.unreadable, len(batch.photos))
            for index, photo, mask in zip(batch.indices.tolist(), batch.each_photo(), batch.masks, strict=True):
                maps = encoder(photo[None].to(self.runner.device), self.runner.layers)
                yield index, scored_mask(mask, self.settings.mask_size), maps
                if self.session.stop_requested():
                    if self.settings.method == "neighbors":  # of heads there is a checkpoint
                        self._save(0, [])
                    raise self.session.interrupted(self.logged + self.step)
            done += len(batch.photos) + len(batch.unreadable)
            self.runner.watch(what, done, len(photos))

    def _report(self, lines: list[str], read: int) -> None:
        self.unreadable.add(lines, read=read)

    def _save(self, step: int, probes: Sequence[PixelProbe]) -> None:
        self.step = step
        heads = {str(number): probe.state_dict() for number, probe in enumerate(probes)}
        extra = {"done": [_packed(each) for each in self.done]}
        save_checkpoint(Checkpoint(KIND, step, heads, seconds=self.session.seconds, extra=extra), self.session.folder)


def stride_of(encoder: Encoder, layer: str) -> int:
    """Pixels a side that a cell of a layer's map stands for."""
    return next(info["reduction"] for info in encoder.feature_info if info["module"] == layer)


def enlarged(scores: Tensor, size: Sequence[int]) -> Tensor:
    """The class of every pixel: scores (C, h, w) brought bilinearly to a height and width, the highest; on the CPU."""
    found = functional.interpolate(scores[None], tuple(size), mode="bilinear", align_corners=False)
    return found[0].argmax(0).cpu()


def scored_mask(mask: NDArray[np.uint8], short_side: int | None) -> NDArray[np.uint8]:
    """A mask (H, W) at the size that it is scored at: its own, or with this short side, by the nearest pixels.

    >>> scored_mask(np.array([[1, 1, 2, 2], [1, 1, 2, 2]], np.uint8), 1).tolist()
    [[1, 2]]
    """
    if short_side is None:
        return mask
    width, height = resized((mask.shape[1], mask.shape[0]), short_side)
    found = functional.interpolate(torch.from_numpy(mask)[None, None].float(), (height, width), mode="nearest-exact")
    return found[0, 0].to(torch.uint8).numpy()


# ---- what a stopped run keeps ----------------------------------------------------------------------------------------


def _packed(results: Sequence[Results]) -> list[dict[str, Any]]:
    """As tensors and plain values, which a file may hold without being able to run code."""
    return [
        {
            layer: {
                "chosen": one.chosen, "choosing": one.choosing, "pixels": torch.from_numpy(one.pixels),
                "said": {place: torch.from_numpy(values) for place, values in one.said.items()},
            }
            for layer, one in each.items()
        }
        for each in results
    ]  # fmt: skip


def _unpacked(results: Sequence[Mapping[str, Any]]) -> list[Results]:
    """The opposite of `_packed`."""
    return [
        {
            layer: Segmented(
                one["chosen"], one["choosing"], one["pixels"].numpy(),
                {place: values.numpy() for place, values in one["said"].items()},
            )
            for layer, one in each.items()
        }
        for each in results
    ]  # fmt: skip
