"""What a linear classifier reads from each layer of a frozen encoder.

The training photos are split in two: heads are fitted on one part, their settings are chosen on the other, and only
the chosen head of each layer sees the test photos, once. Untrained weights of the same architecture go through the
very same, on the same photos, since an untrained network's features are worth something already.
"""

import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssl_colorize.data import LabeledDataset, choosing_split, open_dataset
from ssl_colorize.data.loading import UnreadableLog
from ssl_colorize.device import choose_device
from ssl_colorize.encoder import Encoder, Source, load_encoder
from ssl_colorize.engine.distributed import Processes, processes
from ssl_colorize.engine.signals import Interrupted, StopRequest, stop_signals
from ssl_colorize.errors import UserError
from ssl_colorize.evaluate.closed_form import solve
from ssl_colorize.evaluate.features import Extracted, extract, frozen
from ssl_colorize.evaluate.heads import HeadSettings
from ssl_colorize.evaluate.metrics import best_of
from ssl_colorize.evaluate.one_pass import Probe, choose_view, judge, map_sides, step_count, train_probes
from ssl_colorize.evaluate.outcome import Outcome, Outcomes, packed, summarize, unpacked
from ssl_colorize.evaluate.settings import ProbeSettings
from ssl_colorize.runs import write_atomically

STATE_NAME = "probe.pt"

Say = Callable[[str], None]
# Is told what a run does, and how much of how much is done (photos, or layers).
Watch = Callable[[str, int, int], None]


def linear_probe(
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
        say: is told, a line each, what is worth knowing on the way.

    Returns:
        By layer: what `scoring.figures` gives, "learning_rate" (None in closed form) and the other chosen settings,
        "choosing" (the figure they were chosen by). Beside the layers "random", the same of the untrained network by
        layer, and "trunk_unchanged": True, proven by comparing all bits. Empty but in the first process.

    Raises:
        UserError: the settings, the photos or the encoder cannot be used.
        Interrupted: after SIGINT or SIGTERM, with everything saved.
    """
    device = choose_device(settings.device)
    train, test = open_dataset(settings.data, limit=settings.limit)
    with ExitStack() as stack:
        group = stack.enter_context(processes(device.type))
        if device.type == "cuda":
            device = torch.device("cuda", group.local_rank)
        encoder = load_encoder(settings.encoder, device=device, seed=settings.seed)
        layers = encoder.choose(settings.layers)
        twin = encoder.untrained if settings.random else None
        proof = stack.enter_context(frozen(encoder))
        run = _Run(settings, folder, encoder, layers, twin, train, test, group, say, watch)
        run.stop = stack.enter_context(stop_signals())
        outcomes = run.all_seeds(resume=resume)
    if not group.first:
        return {}
    (folder / STATE_NAME).unlink(missing_ok=True)
    return summarize(outcomes, layers, test.classes, seed=settings.seed) | proof


@dataclass
class _Run:
    """The run in one process."""

    settings: ProbeSettings
    folder: Path
    encoder: Encoder
    layers: tuple[str, ...]
    twin: Source | None
    train: LabeledDataset
    test: LabeledDataset
    group: Processes
    say: Say
    watch: Watch
    stop: StopRequest | None = None

    def __post_init__(self) -> None:
        self.view = choose_view(self.settings, self.encoder)
        self.log = UnreadableLog(self.folder, len(self.train) + len(self.test), rank=self.group.rank)
        if self.settings.engine != "sgd" and self.group.world_size > 1:
            raise UserError(f"--engine {self.settings.engine} runs in one process: leave torchrun away.")
        if self.settings.random and self.twin is None:
            self.say(f"No untrained network beside {self.settings.encoder}: it is one, or there is none like it.")

    def all_seeds(self, *, resume: bool) -> list[Outcomes]:
        state = self._load() if resume else {"done": [], "step": 0, "probes": None}
        done = [unpacked(outcomes) for outcomes in state["done"]]
        for number in range(len(done), self.settings.seeds):
            seed = self.settings.seed + number
            if number or self.settings.seeds > 1:
                self.say(f"seed {seed}, {number + 1} of {self.settings.seeds}")
            encoders = [self.encoder if seed == self.settings.seed else self._redrawn(seed)]
            if self.twin is not None:
                encoders.append(load_encoder(self.twin, device=next(self.encoder.parameters()).device, seed=seed))
            fit, choose = (self.train.take(part) for part in choosing_split(
                self.train.labels, fraction=self.settings.choosing, seed=seed
            ))  # fmt: skip
            if self.settings.engine == "sgd":
                outcomes = self._sgd(encoders, fit, choose, seed, done, state)
            else:
                outcomes = self._closed_form(encoders, seed)
            done.append(outcomes)
            state = {"step": 0, "probes": None}
            self._save(done, 0, [])
        return done

    def _redrawn(self, seed: int) -> Encoder:
        """The encoder; one without training is another one with another seed."""
        if not self.encoder.source.untrained:
            return self.encoder
        return load_encoder(self.encoder.source, device=next(self.encoder.parameters()).device, seed=seed)

    # ---- SGD ---------------------------------------------------------------------------------------------------------

    def _sgd(
        self, encoders: Sequence[Encoder], fit: LabeledDataset, choose: LabeledDataset, seed: int,
        done: Sequence[Outcomes], state: Mapping[str, Any],
    ) -> Outcomes:  # fmt: skip
        settings = self.settings
        probes = [self._probe(encoder) for encoder in encoders]
        start = state["step"]
        for probe, saved in zip(probes, state["probes"] or [], strict=False):
            probe.load_state_dict(saved)
        steps = step_count(settings, len(fit))

        def after_step(step: int, loss: Tensor) -> None:
            self.watch("Training the heads", step * settings.batch_size, steps * settings.batch_size)
            stopped = self.group.any(self.stop is not None and self.stop.number is not None)
            if step % settings.checkpoint_every == 0 or stopped:
                self._save(done, step, probes)
            if stopped:
                signum = (self.stop and self.stop.number) or signal.SIGTERM
                raise Interrupted(self.folder, signum, verb="linear-probe")

        train_probes(
            probes, fit, settings, view=self.view, seed=seed, start=start, group=self.group, after_step=after_step,
            unreadable=self._unreadable,
        )  # fmt: skip
        judged = judge(probes, choose, settings, view=self.view, unreadable=self._unreadable)
        best = [{layer: best_of(answers) for layer, answers in one.items()} for one in judged]
        kept = [{layer: probe.heads[layer].settings[one[layer]] for layer in self.layers}
                for probe, one in zip(probes, best, strict=True)]  # fmt: skip
        self._tell_edges(kept[0])
        if settings.refit:
            probes, best_of_one = self._refitted(encoders, kept, seed), [dict.fromkeys(self.layers, 0)] * len(best)
        else:
            best_of_one = best
        answers = judge(
            probes, self.test, settings, view=self.view, chosen=best_of_one, unreadable=self._unreadable
        ) if self.group.first else judged  # fmt: skip
        return [
            {
                layer: Outcome(
                    {"learning_rate": kept[n][layer].learning_rate, "weight_decay": kept[n][layer].weight_decay},
                    judged[n][layer][best[n][layer]].value, answers[n][layer][0],
                )
                for layer in self.layers
            }
            for n in range(len(probes))
        ]  # fmt: skip

    def _probe(self, encoder: Encoder, heads: Mapping[str, HeadSettings] | None = None) -> Probe:
        return Probe(
            encoder, self.layers, self.settings, classes=len(self.train.classes), multilabel=self.train.multilabel,
            crop=self.view.crop, heads={layer: [one] for layer, one in heads.items()} if heads else None,
        )  # fmt: skip

    def _refitted(
        self, encoders: Sequence[Encoder], kept: Sequence[Mapping[str, HeadSettings]], seed: int
    ) -> list[Probe]:
        """The chosen heads trained again, on all training photos."""
        probes = [self._probe(encoder, heads) for encoder, heads in zip(encoders, kept, strict=True)]
        total = step_count(self.settings, len(self.train)) * self.settings.batch_size
        train_probes(
            probes, self.train, self.settings, view=self.view, seed=seed, group=self.group,
            after_step=lambda step, _: self.watch("Training again", step * self.settings.batch_size, total),
            unreadable=self._unreadable,
        )  # fmt: skip
        return probes

    def _tell_edges(self, kept: Mapping[str, HeadSettings]) -> None:
        rates = self.settings.learning_rates
        at_edge = [layer for layer, one in kept.items() if one.learning_rate in (min(rates), max(rates))]
        if len(rates) > 2 and at_edge:
            self.say(f"{', '.join(at_edge)}: chosen at the end of the learning rates; widen learning_rates with --set.")

    # ---- closed form -------------------------------------------------------------------------------------------------

    def _closed_form(self, encoders: Sequence[Encoder], seed: int) -> Outcomes:
        outcomes = []
        for encoder in encoders:
            parts = [self._extracted(encoder, part) for part in (self.train, self.test)]
            train, test = (
                (found.features, np.asarray(part.labels)[found.kept])
                for found, part in zip(parts, (self.train, self.test), strict=True)
            )
            found = {}
            for number, layer in enumerate(self.layers):
                self.watch("Solving", number, len(self.layers))
                # Features of the test photos are needed anyway; their labels come in once the strength is chosen.
                found[layer] = solve(
                    train[0][layer], train[1], test[0][layer], test[1], classes=len(self.train.classes),
                    settings=self.settings, seed=seed,
                )  # fmt: skip
            self.watch("Solving", len(self.layers), len(self.layers))
            outcomes.append(found)
        return outcomes

    def _extracted(self, encoder: Encoder, part: LabeledDataset) -> Extracted:
        settings, view = self.settings, self.view
        done = 0

        def advance(photos: int) -> None:
            nonlocal done
            done += photos
            self.watch("Extracting features", done, len(part))

        return extract(
            encoder, part.photos, layers=self.layers, resize=view.resize, crop=view.crop, pool=settings.pool,
            sizes=map_sides(encoder, self.layers, settings, view.crop), batch_size=settings.batch_size,
            workers=settings.workers, cache=settings.cache_folder, say=self.say, advance=advance,
        )  # fmt: skip

    # ---- state -------------------------------------------------------------------------------------------------------

    def _unreadable(self, lines: list[str], read: int) -> None:
        self.log.add(lines, read=read)

    def _save(self, done: Sequence[Outcomes], step: int, probes: Sequence[Probe]) -> None:
        if not self.group.first:
            return
        state = {"done": [packed(one) for one in done], "step": step, "probes": [one.state_dict() for one in probes]}
        write_atomically(self.folder / STATE_NAME, lambda path: torch.save(state, path))

    def _load(self) -> dict[str, Any]:
        path = self.folder / STATE_NAME
        if not path.is_file():
            return {"done": [], "step": 0, "probes": None}
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        return state
