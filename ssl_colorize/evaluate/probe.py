"""What a linear classifier reads from each layer of a frozen encoder.

The training photos are split in two: heads are fitted on one part, their settings are chosen on the other, and only
the chosen head of each layer sees the test photos, once. Untrained weights of the same architecture go through the
very same, on the same photos, since an untrained network's features are worth something already.
"""

import signal
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median_low
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssl_colorize.data import LabeledDataset, UnreadableLog, choosing_split
from ssl_colorize.device import choose_device
from ssl_colorize.encoder import Encoder
from ssl_colorize.engine.distributed import Processes, processes
from ssl_colorize.engine.signals import Interrupted, StopRequest, stop_signals
from ssl_colorize.errors import UserError, one_line
from ssl_colorize.evaluate.closed_form import linear_probe
from ssl_colorize.evaluate.features import map_sides
from ssl_colorize.evaluate.metrics import Predictions, best_of, summarize
from ssl_colorize.evaluate.runner import Runner, Say, Watch
from ssl_colorize.evaluate.settings import ProbeSettings
from ssl_colorize.evaluate.sgd_probe import HeadSettings, Probe, View, predict, step_count, train_probes
from ssl_colorize.runs import write_atomically

STATE_NAME = "probe.pt"


@dataclass(frozen=True)
class ProbeResult:
    """One layer of one encoder, with one seed.

    Attributes:
        chosen: "learning_rate" and "weight_decay", or "strength".
        choosing: accuracy (or mAP) on the photos held out from training, which it was chosen by.
        predictions: of the test photos.
    """

    chosen: dict[str, float]
    choosing: float
    predictions: Predictions


# By layer.
Results = Mapping[str, ProbeResult]


def run_linear_probe(
    settings: ProbeSettings,
    folder: Path,
    *,
    resume: bool = False,
    say: Say = lambda line: None,
    watch: Watch = lambda what, done, total: None,
) -> dict[str, Any]:
    """Measure an encoder; alone, or as one of the processes of torchrun.

    Args:
        folder: for the state that `resume` goes on from, and the list of unreadable photos.

    Returns:
        By layer: what `metrics.summarize` gives, "learning_rate" (None in closed form) and the other chosen settings,
        "choosing" (the figure they were chosen by). Beside the layers "random" and "trunk_unchanged" as in
        `Runner.run`. Empty but in the first process.

    Raises:
        UserError: the settings, the photos or the encoder cannot be used, or there is nothing to resume.
        Interrupted: after SIGINT or SIGTERM, with everything saved.
    """
    device = choose_device(settings.device)
    with ExitStack() as stack:
        group = stack.enter_context(processes(device.type))
        if device.type == "cuda":
            device = torch.device("cuda", group.local_rank)
        runner = Runner.open(settings, say=say, watch=watch, device=device)

        def summary(runs: Sequence[ProbeResult]) -> dict[str, Any]:
            return _summary(runs, runner.test.classes, seed=settings.seed)

        if settings.engine == "sgd":
            stop = stack.enter_context(stop_signals())
            metrics = runner.run(_SgdProbes(runner, folder, group, stop, resume=resume).measure, summary)
        elif group.world_size > 1:
            raise UserError(f"--engine {settings.engine} runs in one process: leave torchrun away.")
        else:
            # Nothing to resume: features are in the cache, and the rest is quick.
            metrics = runner.run(lambda encoders, seed: [_solved(runner, each, seed) for each in encoders], summary)
    if not group.first:
        return {}
    (folder / STATE_NAME).unlink(missing_ok=True)
    return metrics


def _summary(runs: Sequence[ProbeResult], classes: Sequence[str], *, seed: int) -> dict[str, Any]:
    """A layer's figures over the seeds; of their choices, the one in the middle."""
    found = summarize([run.predictions for run in runs], classes, seed=seed)
    chosen = {name: median_low(run.chosen[name] for run in runs) for name in runs[0].chosen}
    choosing = {"choosing": float(np.mean([run.choosing for run in runs]))}
    return found | {"learning_rate": None} | chosen | choosing


def _solved(runner: Runner[ProbeSettings], encoder: Encoder, seed: int) -> Results:
    """Each layer's classifier in closed form."""
    settings = runner.settings
    strengths = settings.logistic_strengths if settings.engine == "logistic" else settings.ridge_strengths
    crop = settings.crop or encoder.input_size
    sizes = map_sides(encoder, runner.layers, crop, numbers=settings.numbers, sizes=settings.sizes)
    (train, features), (test, queries) = (
        runner.features(encoder, part, sizes=sizes, pool=settings.pool) for part in (runner.train, runner.test)
    )
    results = {}
    for number, layer in enumerate(runner.layers):
        runner.watch("Solving", number, len(runner.layers))
        # The test photos' labels come in once the strength is chosen.
        found = linear_probe(
            features[layer], train.labels, queries[layer], classes=len(train.classes),
            method="logistic" if settings.engine == "logistic" else "ridge",
            strengths=strengths, choosing=settings.choosing, refit=settings.refit, seed=seed,
        )  # fmt: skip
        predictions = Predictions.of(found.scores, test.labels)
        results[layer] = ProbeResult({"strength": found.strength}, found.choosing, predictions)
    runner.watch("Solving", len(runner.layers), len(runner.layers))
    return results


# ---- SGD -------------------------------------------------------------------------------------------------------------


class _SgdProbes:
    """The heads of all layers, trained by SGD: of every encoder at once, on the same batches."""

    def __init__(
        self, runner: Runner[ProbeSettings], folder: Path, group: Processes, stop: StopRequest, *, resume: bool
    ) -> None:
        self.runner, self.settings, self.folder = runner, runner.settings, folder
        self.group, self.stop = group, stop
        self.view = View.of(runner.settings)
        self.log = UnreadableLog(folder, len(runner.train) + len(runner.test), rank=group.rank)
        state: dict[str, Any] = load_state(folder) if resume else {"done": [], "step": 0, "probes": []}
        self.done = [unpacked(results) for results in state["done"]]
        self.step, self.saved = state["step"], state["probes"]

    def measure(self, encoders: Sequence[Encoder], seed: int) -> Sequence[Results]:
        number = seed - self.settings.seed
        if number < len(self.done):
            return self.done[number]
        probes = self._trained(encoders, seed)
        kept, choosing, chosen = self._choose(probes, seed)
        if self.settings.refit:
            probes, chosen = self._refitted(encoders, kept, seed), [dict.fromkeys(self.runner.layers, 0)] * len(kept)
        predictions = predict(
            probes, self.runner.test, self.settings, view=self.view, chosen=chosen, unreadable=self._unreadable
        )
        results: list[Results] = [
            {
                layer: ProbeResult(
                    {"learning_rate": heads[layer].learning_rate, "weight_decay": heads[layer].weight_decay},
                    value[layer], found[layer][0],
                )
                for layer in self.runner.layers
            }
            for heads, value, found in zip(kept, choosing, predictions, strict=True)
        ]  # fmt: skip
        self.done.append(results)
        self.step, self.saved = 0, []
        self._save(0, [])
        return results

    def _split(self, seed: int) -> tuple[LabeledDataset, LabeledDataset]:
        train = self.runner.train
        fit, held = choosing_split(train.labels, fraction=self.settings.choosing, seed=seed)
        return train.take(fit), train.take(held)

    def _trained(self, encoders: Sequence[Encoder], seed: int) -> list[Probe]:
        """All heads, from the saved state if there is one."""
        settings = self.settings
        fit, _ = self._split(seed)
        probes = [self._probe(encoder) for encoder in encoders]
        for probe, saved in zip(probes, self.saved, strict=False):
            probe.load_state_dict(saved)
        steps = step_count(settings, len(fit))

        def after_step(step: int, loss: Tensor) -> None:
            self.runner.watch("Training the heads", step * settings.batch_size, steps * settings.batch_size)
            stopped = self.group.any(self.stop.number is not None)
            if step % settings.checkpoint_every == 0 or stopped:
                self._save(step, probes)
            if stopped:
                raise Interrupted(self.folder, self.stop.number or signal.SIGTERM, verb="linear-probe")

        train_probes(
            probes, fit, settings, view=self.view, seed=seed, start=self.step, group=self.group,
            after_step=after_step, unreadable=self._unreadable,
        )  # fmt: skip
        return probes

    def _choose(
        self, probes: Sequence[Probe], seed: int
    ) -> tuple[list[dict[str, HeadSettings]], list[dict[str, float]], list[dict[str, int]]]:
        """Of each probe and layer the best head's settings, how good it is, and its number."""
        _, held = self._split(seed)
        found = predict(probes, held, self.settings, view=self.view, unreadable=self._unreadable)
        chosen = [{layer: best_of(heads) for layer, heads in one.items()} for one in found]
        kept = [
            {layer: probe.heads[layer].settings[number] for layer, number in one.items()}
            for probe, one in zip(probes, chosen, strict=True)
        ]
        choosing = [
            {layer: heads[one[layer]].value for layer, heads in predictions.items()}
            for predictions, one in zip(found, chosen, strict=True)
        ]
        self._warn_of_edges(kept[0])
        return kept, choosing, chosen

    def _probe(self, encoder: Encoder, heads: Mapping[str, HeadSettings] | None = None) -> Probe:
        train = self.runner.train
        return Probe(
            encoder, self.runner.layers, self.settings, classes=len(train.classes), multilabel=train.multilabel,
            crop=self.view.crop, heads={layer: [one] for layer, one in heads.items()} if heads else None,
        )  # fmt: skip

    def _refitted(
        self, encoders: Sequence[Encoder], kept: Sequence[Mapping[str, HeadSettings]], seed: int
    ) -> list[Probe]:
        """The chosen heads trained again, on all training photos."""
        train, batch_size = self.runner.train, self.settings.batch_size
        probes = [self._probe(encoder, heads) for encoder, heads in zip(encoders, kept, strict=True)]
        total = step_count(self.settings, len(train)) * batch_size
        train_probes(
            probes, train, self.settings, view=self.view, seed=seed, group=self.group,
            after_step=lambda step, _: self.runner.watch("Training again", step * batch_size, total),
            unreadable=self._unreadable,
        )  # fmt: skip
        return probes

    def _warn_of_edges(self, kept: Mapping[str, HeadSettings]) -> None:
        rates = self.settings.learning_rates
        at_edge = [layer for layer, one in kept.items() if one.learning_rate in (min(rates), max(rates))]
        if len(rates) > 2 and at_edge:
            self.runner.say(
                f"{', '.join(at_edge)}: chosen at the end of the learning rates; widen learning_rates with --set."
            )

    def _unreadable(self, lines: list[str], read: int) -> None:
        self.log.add(lines, read=read)

    def _save(self, step: int, probes: Sequence[Probe]) -> None:
        if not self.group.first:
            return
        done = [packed(one) for one in self.done]
        state = {"done": done, "step": step, "probes": [one.state_dict() for one in probes]}
        write_atomically(self.folder / STATE_NAME, lambda path: torch.save(state, path))


def load_state(folder: Path) -> dict[str, Any]:
    """What a stopped run saved.

    Raises:
        UserError: there is nothing, or it is damaged.
    """
    path = folder / STATE_NAME
    if not path.is_file():
        raise UserError(f"Nothing to resume: {folder} holds no {STATE_NAME}.")
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # torch.load's errors are of many kinds, and none of them names the file.
        raise UserError(f"{path} is damaged and cannot be resumed: {one_line(error)}") from None
    if not {"done", "step", "probes"} <= state.keys():
        raise UserError(f"{path} is damaged and cannot be resumed: it is no state of linear-probe.")
    return state


def packed(results: Sequence[Results]) -> list[dict[str, Any]]:
    """As tensors and plain values, which a file may hold without being able to run code."""

    def tensor(values: Any) -> Tensor | None:
        return None if values is None else torch.from_numpy(np.asarray(values))

    return [
        {
            layer: {
                "chosen": one.chosen, "choosing": one.choosing, "truth": tensor(one.predictions.truth),
                "ranks": tensor(one.predictions.ranks), "scores": tensor(one.predictions.scores),
            }
            for layer, one in each.items()
        }
        for each in results
    ]  # fmt: skip


def unpacked(results: list[dict[str, Any]]) -> list[Results]:
    """The opposite of `packed`."""

    def array(values: Tensor | None) -> Any:
        return None if values is None else values.numpy()

    return [
        {
            layer: ProbeResult(
                one["chosen"], one["choosing"],
                Predictions(array(one["truth"]), ranks=array(one["ranks"]), scores=array(one["scores"])),
            )
            for layer, one in each.items()
        }
        for each in results
    ]  # fmt: skip
