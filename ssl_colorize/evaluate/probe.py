"""What a linear classifier reads from each layer of a frozen encoder.

The training photos are split in two: heads are fitted on one part, their settings are chosen on the other, and only
the chosen head of each layer sees the test photos, once. Untrained weights of the same architecture go through the
very same, on the same photos, since an untrained network's features are worth something already.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median_low
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssl_colorize.data import LabeledDataset, UnreadableLog, choosing_split
from ssl_colorize.data.fingerprint import Fingerprint, resumed
from ssl_colorize.device import choose_device
from ssl_colorize.encoder import Encoder
from ssl_colorize.engine.checkpoint import CHECKPOINT_NAME, Checkpoint, load_checkpoint, save_checkpoint
from ssl_colorize.engine.distributed import processes
from ssl_colorize.engine.log import RunLog
from ssl_colorize.engine.trainer import Session, training_session
from ssl_colorize.errors import UserError
from ssl_colorize.evaluate.closed_form import FittedProbe, fit_linear_probe
from ssl_colorize.evaluate.features import Features, map_sides, vectors
from ssl_colorize.evaluate.heads import HeadSettings
from ssl_colorize.evaluate.inputs import ALL_LAYERS, as_map, concatenate_layers, refuse_single
from ssl_colorize.evaluate.metrics import Predictions, best_of, summarize
from ssl_colorize.evaluate.robustness import Further, judge_further, summarize_further
from ssl_colorize.evaluate.runner import Runner, Say, Watch
from ssl_colorize.evaluate.settings import ProbeSettings
from ssl_colorize.evaluate.sgd_probe import Probe, View, fit_probes, predict, step_count

# As checkpoints name the verb, and what its state was called before it was one.
KIND, OLD_STATE = "linear-probe", "probe.pt"


@dataclass(frozen=True)
class ProbeResult:
    """One layer of one encoder, with one seed.

    Attributes:
        chosen: "learning_rate" and "weight_decay", or "strength".
        choosing: accuracy (or mAP) on the photos held out from training, which it was chosen by.
        predictions: of the test photos.
        further: of more test sets, and of the test photos made worse.
    """

    chosen: dict[str, float]
    choosing: float
    predictions: Predictions
    further: Further


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
        folder: for metrics.jsonl, the checkpoint that `resume` goes on from, and the list of unreadable photos.

    Returns:
        By layer: what `metrics.summarize` gives, "learning_rate" (None in closed form) and the other chosen settings,
        "choosing" (the figure they were chosen by). Beside the layers "random" and "trunk_unchanged" as in
        `Runner.run`. Empty but in the first process.

    Raises:
        UserError: the settings, the photos or the encoder cannot be used, there is nothing to resume, or all heads
            have blown up.
        Interrupted: after SIGINT or SIGTERM, with everything saved.
    """
    if settings.engine != "sgd":
        return _in_closed_form(settings, say=say, watch=watch)
    with training_session(settings.device, folder, command=KIND) as session:
        runner = Runner.open(settings, say=say, watch=watch, device=session.device)
        with _SgdProbes(runner, session, resume=resume) as probes:
            metrics = runner.run(probes.measure, lambda runs: _summary(runs, runner.test.classes, seed=settings.seed))
    if not session.group.first:
        return {}
    for name in (CHECKPOINT_NAME, OLD_STATE):
        (folder / name).unlink(missing_ok=True)
    return metrics


def _in_closed_form(settings: ProbeSettings, *, say: Say, watch: Watch) -> dict[str, Any]:
    """There is nothing to resume: features are in the cache, and the rest is quick."""
    if "attentive" in settings.heads:
        raise UserError(f"--head attentive is trained by SGD: leave --engine {settings.engine} away.")
    with processes(choose_device(settings.device).type) as group:
        if group.world_size > 1:
            raise UserError(f"--engine {settings.engine} runs in one process: leave torchrun away.")
    runner = Runner.open(settings, say=say, watch=watch)
    return runner.run(
        lambda encoders, seed: [_solved(runner, encoder, seed) for encoder in encoders],
        lambda runs: _summary(runs, runner.test.classes, seed=settings.seed),
    )


def _summary(runs: Sequence[ProbeResult], classes: Sequence[str], *, seed: int) -> dict[str, Any]:
    """A layer's figures over the seeds; of their choices, the one in the middle."""
    found = summarize([run.predictions for run in runs], classes, seed=seed)
    chosen = {name: median_low(run.chosen[name] for run in runs) for name in runs[0].chosen}
    choosing = {"choosing": float(np.mean([run.choosing for run in runs]))}
    found |= summarize_further([run.predictions for run in runs], [run.further for run in runs], classes, seed=seed)
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
    names = [*(runner.layers if "linear" in settings.heads else ()), *_joined(settings, runner.layers)]
    fitted: dict[str, FittedProbe] = {}
    predictions: dict[str, Predictions] = {}
    for number, name in enumerate(names):
        runner.watch("Solving", number, len(names))
        # The test photos' labels come in once the strength is chosen.
        fitted[name] = found = fit_linear_probe(
            _seen(name, features, sizes, settings), train.labels, classes=len(train.classes),
            method="logistic" if settings.engine == "logistic" else "ridge",
            strengths=strengths, choosing=settings.choosing, refit=settings.refit, seed=seed,
        )  # fmt: skip
        predictions[name] = Predictions.of(found.classifier(_seen(name, queries, sizes, settings)), test.labels)
    runner.watch("Solving", len(names), len(names))

    def scores(photos: Tensor) -> dict[str, Any]:
        rows = vectors(encoder, photos, sizes, settings.pool)
        return {name: fitted[name].classifier(_seen(name, rows, sizes, settings)) for name in names}

    (further,) = judge_further(runner, [scores])
    return {
        name: ProbeResult({"strength": one.strength}, one.choosing, predictions[name], further.get(name, {}))
        for name, one in fitted.items()
    }


def _joined(settings: ProbeSettings, layers: Sequence[str]) -> list[str]:
    """The name of the figures of all layers at once, if they are asked for."""
    if "all-layers" not in settings.heads:
        return []
    refuse_single(layers)
    return [ALL_LAYERS]


def _seen(
    name: str, features: Mapping[str, Features], sizes: Mapping[str, int], settings: ProbeSettings
) -> Features:  # fmt: skip
    """What a linear head on a layer, or on all layers at once, sees, from the rows of each layer."""
    if name in features:
        return features[name]
    maps = {layer: as_map(rows, sizes[layer]) for layer, rows in features.items()}
    return concatenate_layers(maps, numbers=settings.numbers)


# ---- SGD -------------------------------------------------------------------------------------------------------------


class _SgdProbes:
    """The heads of all layers, trained by SGD: of every encoder at once, on the same batches."""

    def __init__(self, runner: Runner[ProbeSettings], session: Session, *, resume: bool) -> None:
        self.runner, self.settings, self.session = runner, runner.settings, session
        self.view = View.of(runner.settings)
        photos, rank = len(runner.train) + len(runner.test), session.group.rank
        self.unreadable = UnreadableLog(session.folder, photos, rank=rank, append=resume)
        # Of the seed that was being trained: its step and heads; of those before it: results, and steps in the log.
        state = begun = Checkpoint(KIND, 0, extra={"done": [], "logged": 0})
        self.fingerprint = Fingerprint.of(train=runner.train, test=runner.test)
        if resume:
            state = _saved(session.folder)
            before, allowed = state.extra.get("photos"), self.settings.data_changed == "allow"
            told = resumed(before, self.fingerprint, allowed=allowed, how="the heads are trained anew")
            for line in told:
                runner.say(line)
            state = begun if told and before is not None else state
        session.seconds_before = state.seconds
        self.step, self.heads = state.step, state.model
        self.done, self.logged = [unpacked(each) for each in state.extra["done"]], int(state.extra["logged"])
        self.log = RunLog(session.folder, self.logged + self.step, quiet=not session.group.first)

    def __enter__(self) -> "_SgdProbes":
        self.log.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.log.__exit__(*error)

    def measure(self, encoders: Sequence[Encoder], seed: int) -> Sequence[Results]:
        """What each encoder gives by layer, with a seed; seeds come one after the other."""
        number = seed - self.settings.seed
        if number < len(self.done):
            return self.done[number]
        train = self.runner.train
        fitted_on, held = choosing_split(train.labels, fraction=self.settings.choosing, seed=seed)
        probes = self._trained(encoders, train.take(fitted_on), seed)
        found = self._predict(probes, train.take(held))
        best = [{layer: best_of(heads) for layer, heads in one.items()} for one in found]
        kept = [
            {layer: probe.heads[layer].settings[head] for layer, head in one.items()}
            for probe, one in zip(probes, best, strict=True)
        ]
        self._warn_of_edges(kept[0])
        chosen = best
        if self.settings.refit:
            probes, chosen = self._refitted(encoders, kept, seed), [dict.fromkeys(one, 0) for one in kept]
        predictions = self._predict(probes, self.runner.test, chosen)
        scorers = [partial(_chosen_scores, probe, one) for probe, one in zip(probes, chosen, strict=True)]
        further = judge_further(self.runner, scorers)
        results: list[Results] = [
            {
                name: ProbeResult(
                    dict(vars(kept[n][name])), found[n][name][head].value, predictions[n][name][0],
                    further[n].get(name, {}),
                )
                for name, head in best[n].items()
            }
            for n in range(len(probes))
        ]  # fmt: skip
        self.done.append(results)
        self.step, self.heads = 0, {}
        self._save(0, probes=[])
        return results

    def _trained(self, encoders: Sequence[Encoder], photos: LabeledDataset, seed: int) -> list[Probe]:
        """All heads, from the saved state if there is one."""
        probes = [self._probe(encoder, seed) for encoder in encoders]
        for name, state in self.heads.items():
            probes[int(name)].load_state_dict(state)
        steps = step_count(self.settings, len(photos))
        if self.step < steps:
            save = partial(self._save, probes=probes)
            self._fit(probes, photos, seed, what="Training the heads", start=self.step, save=save)
        self.logged += steps
        return probes

    def _fit(self, probes: Sequence[Probe], photos: LabeledDataset, seed: int, *, what: str, **more: Any) -> None:
        fit_probes(
            probes, photos, self.settings, view=self.view, seed=seed, session=self.session, log=self.log,
            logged_before=self.logged, watch=lambda done, total: self.runner.watch(what, done, total),
            unreadable=self._report, **more,
        )  # fmt: skip

    def _predict(
        self, probes: Sequence[Probe], photos: LabeledDataset, chosen: Sequence[Mapping[str, int]] | None = None
    ) -> list[dict[str, list[Predictions]]]:
        return predict(probes, photos, self.settings, view=self.view, chosen=chosen, unreadable=self._report)

    def _probe(self, encoder: Encoder, seed: int, heads: Mapping[str, HeadSettings] | None = None) -> Probe:
        train = self.runner.train
        return Probe(
            encoder, self.runner.layers, self.settings, classes=len(train.classes), multilabel=train.multilabel,
            crop=self.view.crop, heads={name: [one] for name, one in heads.items()} if heads else None, seed=seed,
        )  # fmt: skip

    def _refitted(
        self, encoders: Sequence[Encoder], kept: Sequence[Mapping[str, HeadSettings]], seed: int
    ) -> list[Probe]:
        """The chosen heads trained again, on all training photos; a run that is stopped here begins this again."""
        probes = [self._probe(encoder, seed, heads) for encoder, heads in zip(encoders, kept, strict=True)]
        self._fit(probes, self.runner.train, seed, what="Training again")
        self.logged += step_count(self.settings, len(self.runner.train))
        return probes

    def _warn_of_edges(self, kept: Mapping[str, HeadSettings]) -> None:
        rates = self.settings.learning_rates
        at_edge = [layer for layer, one in kept.items() if one.learning_rate in (min(rates), max(rates))]
        if len(rates) > 2 and at_edge:
            self.runner.say(
                f"{', '.join(at_edge)}: chosen at the end of the learning rates; widen learning_rates with --set."
            )

    def _report(self, lines: list[str], read: int) -> None:
        self.unreadable.add(lines, read=read)

    def _save(self, step: int, probes: Sequence[Probe]) -> None:
        if not self.session.group.first:
            return
        heads = {str(number): probe.state_dict() for number, probe in enumerate(probes)}
        extra = {"done": [packed(each) for each in self.done], "logged": self.logged}
        extra["photos"] = self.fingerprint.stored()
        save_checkpoint(Checkpoint(KIND, step, heads, seconds=self.session.seconds, extra=extra), self.session.folder)


def _chosen_scores(probe: Probe, chosen: Mapping[str, int], photos: Tensor) -> dict[str, Tensor]:
    """The scores (B, C) of the chosen head of each name."""
    return {name: scores[:, 0].cpu() for name, scores in probe.scores(photos, chosen=chosen).items()}


def _saved(folder: Path) -> Checkpoint:
    """What a stopped run saved, also one of an earlier version.

    Raises:
        UserError: there is nothing, or it is damaged.
    """
    old = not (folder / CHECKPOINT_NAME).is_file() and (folder / OLD_STATE).is_file()
    return load_checkpoint(folder, KIND, name=OLD_STATE if old else CHECKPOINT_NAME, from_format_1=_from_format_1)


def _from_format_1(content: dict[str, Any]) -> dict[str, Any]:
    """What was in probe.pt, as keywords of `Checkpoint`; such runs kept no log."""
    heads = {str(number): state for number, state in enumerate(content["probes"])}
    return {"step": content["step"], "model": heads, "extra": {"done": content["done"], "logged": 0}}


def packed(results: Sequence[Results]) -> list[dict[str, Any]]:
    """As tensors and plain values, which a file may hold without being able to run code."""

    def tensors(predictions: Predictions) -> dict[str, Tensor | None]:
        return {name: None if one is None else torch.from_numpy(one) for name, one in vars(predictions).items()}

    return [
        {
            name: {
                "chosen": one.chosen, "choosing": one.choosing, **tensors(one.predictions),
                "further": {key: tensors(more) for key, more in one.further.items()},
            }
            for name, one in each.items()
        }
        for each in results
    ]  # fmt: skip


def unpacked(results: Sequence[Mapping[str, Any]]) -> list[Results]:
    """The opposite of `packed`."""

    def predictions(state: Mapping[str, Any]) -> Predictions:
        ranks, scores = (None if state[name] is None else state[name].numpy() for name in ("ranks", "scores"))
        return Predictions(state["truth"].numpy(), ranks=ranks, scores=scores)

    def further(state: Mapping[str, Any]) -> Further:
        return {key: predictions(one) for key, one in state.get("further", {}).items()}

    return [
        {
            name: ProbeResult(one["chosen"], one["choosing"], predictions(one), further(one))
            for name, one in each.items()
        }
        for each in results
    ]
