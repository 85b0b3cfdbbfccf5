"""Who is measured: an encoder and, beside it, the same network untrained; for every seed, on the same photos."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch

from ssl_colorize.data import LabeledDataset, open_dataset
from ssl_colorize.device import choose_device
from ssl_colorize.encoder import Encoder, Pooling, load_encoder
from ssl_colorize.evaluate.features import extract, frozen
from ssl_colorize.evaluate.nearest import Features
from ssl_colorize.evaluate.settings import EvaluationSettings

Say = Callable[[str], None]
# Told on the way: what is being done, how much of it is done, and how much there is.
Watch = Callable[[str, int, int], None]

S = TypeVar("S", bound=EvaluationSettings)
R = TypeVar("R")


@dataclass(frozen=True)
class Task(Generic[S]):
    """What is the same for all encoders. The settings have `resize` and `crop` filled in."""

    settings: S
    train: LabeledDataset
    test: LabeledDataset
    layers: tuple[str, ...]
    device: torch.device
    say: Say
    watch: Watch

    def features(
        self, encoder: Encoder, photos: LabeledDataset, *, sizes: Mapping[str, int], pool: Pooling = "adaptive"
    ) -> tuple[LabeledDataset, Mapping[str, Features]]:
        """Those of the photos that can be read, and their features by layer."""
        done = 0

        def advance(count: int) -> None:
            nonlocal done
            done += count
            self.watch("Looking at photos", done, len(photos))

        one = self.settings
        found = extract(
            encoder, photos.photos, layers=self.layers, resize=one.resize, crop=one.crop, pool=pool, sizes=sizes,
            batch_size=one.batch_size, workers=one.workers, cache=one.cache_folder, say=self.say, advance=advance,
        )  # fmt: skip
        return photos.take(found.kept.tolist()), found.features


def measure_subjects(
    settings: S,
    measure: Callable[[Task[S], Encoder, Sequence[int]], Sequence[Mapping[str, R]]],
    summarize: Callable[[Task[S], Sequence[R]], dict[str, Any]],
    *,
    varies: bool,
    say: Say,
    watch: Watch,
) -> dict[str, Any]:
    """Measure the encoder and its untrained twin.

    Args:
        measure: what an encoder gives with each of the seeds, by layer.
        summarize: a layer's figures, from what it gave with each.
        varies: whether a seed decides about more than the weights of untrained networks; those are drawn from it.

    Returns:
        The figures by layer; "random", those of the untrained network by layer; and "trunk_unchanged": True, proven by
        comparing all bits.

    Raises:
        UserError: the encoder, a layer or the data is not there.
    """
    device = choose_device(settings.device)
    train, test = open_dataset(settings.data, limit=settings.limit)
    encoder = load_encoder(settings.encoder, device=device, seed=settings.seed)
    resize, crop = settings.sides(encoder)
    filled = settings.model_copy(update={"resize": resize, "crop": crop})
    task = Task(filled, train, test, encoder.choose(settings.layers), device, say, watch)
    seeds = range(settings.seed, settings.seed + settings.seeds)

    def figures(first: Encoder) -> tuple[dict[str, Any], dict[str, bool]]:
        drawn = first.source.untrained
        runs: list[Mapping[str, R]] = []
        for group in [[seed] for seed in seeds] if drawn else [list(seeds) if varies else [settings.seed]]:
            one = first if group[0] == settings.seed else load_encoder(first.source, device=device, seed=group[0])
            with frozen(one) as proof:
                runs += measure(task, one, group)
        return {layer: summarize(task, [run[layer] for run in runs]) for layer in task.layers}, proof

    metrics, proof = figures(encoder)
    twin = encoder.untrained if settings.random else None
    if twin is not None:
        say(f"The same with {twin}.")
        metrics["random"] = figures(load_encoder(twin, device=device, seed=settings.seed))[0]
    return metrics | proof
