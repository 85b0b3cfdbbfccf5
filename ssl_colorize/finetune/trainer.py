"""Fine-tuning, for any task: each learning rate on a part of the training photos, the best one again on all of them.

The test photos are read once, by the one model that was chosen without them.
"""

import math
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ssl_colorize.data import UnreadableLog
from ssl_colorize.device import choose_autocast, choose_device
from ssl_colorize.engine.checkpoint import CHECKPOINT_NAME, Checkpoint, load_checkpoint, save_checkpoint
from ssl_colorize.engine.distributed import Processes, processes, synchronized
from ssl_colorize.engine.log import RunLog
from ssl_colorize.engine.progress import TrainingProgress
from ssl_colorize.engine.signals import Interrupted, StopRequest, stop_signals
from ssl_colorize.engine.trainer import LOG_ROWS
from ssl_colorize.errors import UserError
from ssl_colorize.finetune.building import build_model
from ssl_colorize.finetune.config import FinetuneSettings
from ssl_colorize.finetune.saved import MODEL_NAME, save_finetuned
from ssl_colorize.finetune.schedule import Length, make_optimizer, rate_factor, seed_step
from ssl_colorize.finetune.state import Look, State, best_look, restored, stored
from ssl_colorize.finetune.tasks import Judged, Say, Task, TrainingBatch, choosing_figure, task_type


@dataclass(frozen=True)
class Finished:
    """A run at its end: the figures, and what they are of."""

    metrics: dict[str, Any]
    task: Task
    judged: Judged


def finetune(
    name: str, settings: FinetuneSettings, folder: Path, *, resume: bool = False, say: Say = lambda line: None
) -> Finished | None:
    """Fine-tune an encoder for a task, alone or as one of the processes of torchrun.

    Args:
        name: of the task.
        settings: of the task's own kind.
        folder: gets metrics.jsonl, TensorBoard events, checkpoint.pt while it runs, finetuned.safetensors at the end.
        resume: go on from the folder's checkpoint, on a CPU exactly as if the run had never stopped.
        say: is told, a line each, what is worth knowing on the way.

    Returns:
        The test photos' figures and the sizes and choices behind them; None but in the first process. Beside the task's
        figures "metrics" hold "learning_rate", "epochs" and "steps" as trained, "choosing" (the figure that they were
        chosen by), "trials" (its best by learning rate), "refit" and the numbers of photos.

    Raises:
        UserError: the settings, the photos, the encoder or the folder cannot be used, or every learning rate blew up.
        Interrupted: after SIGINT or SIGTERM, with everything saved.
    """
    device = choose_device(settings.device)
    with ExitStack() as stack:
        group = stack.enter_context(processes(device.type))
        stop = stack.enter_context(stop_signals())
        if device.type == "cuda":
            device = torch.device("cuda", group.local_rank)
        task = task_type(name).open(settings, say=say if group.first else _silent)
        run = Run(task, settings, folder, group, device, stop, say if group.first else _silent)
        run.begin(resume=resume)
        run.log = stack.enter_context(RunLog(folder, run.logged, quiet=not group.first))
        run.train()
        return run.finish() if group.first else None


def _silent(line: str) -> None:
    """Of several processes, the first one speaks."""


class Steps(nn.Module):
    """A model whose forward is a task's loss, as DistributedDataParallel wants it."""

    def __init__(self, task: Task, model: nn.Module) -> None:
        super().__init__()
        self.task, self.model = task, model

    def forward(self, batch: TrainingBatch) -> dict[str, Tensor]:
        return self.task.loss(self.model, batch)


class Run:
    """A fine-tuning run in one process."""

    def __init__(
        self, task: Task, settings: FinetuneSettings, folder: Path, group: Processes, device: torch.device,
        stop: StopRequest, say: Say,
    ) -> None:  # fmt: skip
        self.task, self.settings, self.folder, self.group, self.device = task, settings, folder, group, device
        self.stop, self.say = stop, say
        if settings.batch_size % group.world_size:
            raise UserError(f"batch_size {settings.batch_size} does not divide by the {group.world_size} processes.")
        self.rates = tuple(sorted(set(settings.learning_rates))) if settings.chooses else settings.learning_rates[:1]
        self.trials = len(self.rates) if settings.chooses else 0
        self.every = np.arange(task.train_count)
        self.fit, self.choose = self.every, self.every[:0]
        if settings.chooses:
            self.fit, self.choose = task.split(fraction=settings.choosing, seed=settings.seed)
        self.length = Length.whole(settings, len(self.fit), looking=settings.chooses)
        self.autocast = choose_autocast(settings.precision, device)
        self.began = time.monotonic()
        self.log: RunLog

    # ---- beginning ---------------------------------------------------------------------------------------------------

    def begin(self, *, resume: bool) -> None:
        """Build the model, and take up where the folder's checkpoint is if the run goes on."""
        saved = load_checkpoint(self.folder, "finetune") if resume else None
        total = self.task.train_count + self.task.test_count
        self.unreadable = UnreadableLog(self.folder, total, rank=self.group.rank, append=resume)
        self._build()
        self.state = State()
        if saved is not None:
            self.state = restored(saved.extra)
            if saved.model:
                self.model.load_state_dict(saved.model)
                self.optimizer.load_state_dict(saved.optimizer)
        self.seconds_before = self.state.seconds

    def _build(self) -> None:
        self.about, model = build_model(self.task, self.settings)
        self.model = model.to(self.device)
        self.initial = {name: value.detach().cpu().clone() for name, value in self.model.state_dict().items()}
        if self.group.world_size > 1:
            # Where statistics are frozen, this changes nothing.
            self.model = synchronized(self.model, self.device.type)
        self.network: nn.Module = Steps(self.task, self.model)
        if self.group.world_size > 1:
            self.network = nn.parallel.DistributedDataParallel(self.network)
        self.optimizer = make_optimizer(self.model, self.settings)

    @property
    def logged(self) -> int:
        """Steps of all trials together, as the log counts them."""
        return self.state.logged + self.state.step

    # ---- training ----------------------------------------------------------------------------------------------------

    def train(self) -> None:
        """The trials that are still to do, then the final training."""
        state = self.state
        for number in range(state.trial, self.trials):
            title = f"rate {self.rates[number]:g}, {number + 1} of {self.trials}"
            self._stage(self.rates[number], self.fit, self.length, title)
            self._next_stage()
        self.rate, self.final = self._chosen()
        if self.settings.refit or not self.trials:
            self._stage(self.rate, self.every, self.final, "all training photos")
        else:
            assert state.best is not None
            self.model.load_state_dict(state.best)

    def _stage(self, rate: float, indices: NDArray[np.int64], length: Length, title: str) -> None:
        """Train at a learning rate, from the state's step on."""
        settings, state, group = self.settings, self.state, self.group
        every = 1 if length.steps < LOG_ROWS else length.steps // LOG_ROWS
        batches = self.task.batches(
            indices, seed=settings.seed, start=state.step, steps=length.stop, rank=group.rank,
            world_size=group.world_size,
        )  # fmt: skip
        quiet = not group.first
        with TrainingProgress(state.step, length.stop, settings.batch_size, title=title, quiet=quiet) as progress:
            for batch in batches:
                self.unreadable.add(batch.unreadable, read=len(batch.photos))
                now = rate * rate_factor(settings, state.step, length.steps)
                losses = self._step(batch, now)
                stopped = group.any(self.stop.number is not None)
                last = state.step == length.stop
                looks = state.step in length.looks
                keeps = not last and (stopped or state.step % settings.checkpoint_every == 0)
                if state.step % every == 0 or state.step == 1 or last or looks or keeps:
                    row = self._means(losses)
                    if not math.isfinite(row["loss"]):
                        return self._blown_up(rate, row["loss"], progress.say)
                    row |= {"learning_rate": now, "photos_per_second": progress.advance(state.step, row["loss"])}
                    row |= {"trial": state.trial, "epoch": round(length.epochs(state.step, settings.batch_size), 4)}
                    if looks:
                        row |= self._look(progress.say, row["epoch"])
                        progress.rest()
                    self.log.write(self.logged, row)
                if keeps:
                    self._save(self.model.state_dict(), self.optimizer.state_dict())
                if stopped:
                    if last:
                        # Nothing of this stage is left: the next one begins when the run goes on.
                        return None
                    self._interrupt()
        return None

    def _step(self, batch: TrainingBatch, rate: float) -> dict[str, Tensor]:
        """One step of the optimizer; returns what the task logs, on the device."""
        settings = self.settings
        seed_step(settings.seed, self.state.step, self.group.rank)
        for options in self.optimizer.param_groups:
            options["lr"] = rate * options["factor"]
        self.model.train()
        with self.autocast():
            losses: dict[str, Tensor] = self.network(batch)
        self.optimizer.zero_grad(set_to_none=True)
        losses["loss"].backward()
        if settings.clip is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), settings.clip)
        self.optimizer.step()
        self.state.step += 1
        return losses

    def _means(self, losses: Mapping[str, Tensor]) -> dict[str, float]:
        values = self.group.mean(torch.stack([loss.detach().float() for loss in losses.values()])).tolist()
        return dict(zip(losses, values, strict=True))

    def _look(self, say: Say, epoch: float) -> dict[str, float]:
        """Judge the model on the photos to choose on, in the first process; the figure goes to all of them."""
        row: dict[str, float] = {}
        figure = 0.0
        if self.group.first:
            figures = self._judge(self.choose).figures
            name, figure = choosing_figure(figures, self.task.main)
            numbers = {name: value for name, value in figures.items() if isinstance(value, int | float)}
            row = {f"holdout_{name}": value for name, value in numbers.items() if math.isfinite(value)}
            say(f"epoch {epoch:.4g}: {name} {100 * figure:.1f} % on the photos to choose on")
        figure = float(self.group.mean(torch.tensor([figure], device=self.device))) * self.group.world_size
        look = Look(self.state.trial, self.state.step, figure)
        self.state.looks.append(look)
        if not self.settings.refit and look == best_look(self.state.looks):
            self.state.best = {name: value.detach().cpu().clone() for name, value in self.model.state_dict().items()}
        return row

    def _judge(self, indices: NDArray[np.int64] | None) -> Judged:
        with torch.no_grad():
            return self.task.evaluate(
                self.model, indices, autocast=self.autocast,
                unreadable=lambda lines, read: self.unreadable.add(lines, read=read),
            )  # fmt: skip

    def _blown_up(self, rate: float, loss: float, say: Callable[[str], None]) -> None:
        """A trial that diverges is out; the final training must not.

        Raises:
            UserError: it was the final one.
        """
        what = f"The loss became {loss} after {self.state.step} steps at learning rate {rate:g}"
        if self.state.trial == self.trials:
            raise UserError(f"{what}, training on all photos: give lower learning_rates, or set clip.")
        say(f"{what}: it is out of the choice.")
        self.state.looks.append(Look(self.state.trial, self.state.step, float("-inf")))

    def _next_stage(self) -> None:
        """Forget the trained weights and begin anew."""
        state = self.state
        state.logged, state.step, state.trial = self.logged, 0, state.trial + 1
        self.model.load_state_dict(self.initial)
        self.optimizer = make_optimizer(self.model, self.settings)
        self._save(None, None)
        if self.group.any(self.stop.number is not None):
            self._interrupt()

    def _chosen(self) -> tuple[float, Length]:
        """The learning rate of the best look, and the length of a training on all photos that stops where it was.

        Raises:
            UserError: there is no figure.
        """
        if not self.settings.chooses:
            return self.rates[0], self.length
        self.best = best_look(self.state.looks)
        if not math.isfinite(self.best.figure):
            raise UserError(
                f"No learning rate of {', '.join(f'{rate:g}' for rate in self.rates)} gave a figure to choose by: "
                "set lower learning_rates, or clip."
            )
        rate = self.rates[self.best.trial]
        if len(self.rates) > 2 and rate in (self.rates[0], self.rates[-1]):
            self.say(f"The learning rate {rate:g}, at the end of those tried, was chosen: widen learning_rates.")
        if not self.settings.refit:
            return rate, Length(len(self.fit), self.length.steps, self.best.step)
        return rate, self.length.like(self.best.step, self.settings, len(self.every))

    # ---- keeping -----------------------------------------------------------------------------------------------------

    def _save(self, model: dict[str, Tensor] | None, optimizer: dict[str, Any] | None) -> None:
        """Write the checkpoint; in the first process."""
        if not self.group.first:
            return
        self.state.seconds = self._seconds()
        checkpoint = Checkpoint("finetune", self.state.step, model or {}, optimizer or {}, extra=stored(self.state))
        save_checkpoint(checkpoint, self.folder)

    def _seconds(self) -> float:
        return self.seconds_before + time.monotonic() - self.began

    def _interrupt(self) -> None:
        verb = f"finetune {self.task.name}"
        raise Interrupted(self.folder, self.stop.number or signal.SIGTERM, verb=verb, step=self.logged)

    def finish(self) -> Finished:
        """Keep the model, and judge it on the test photos.

        Raises:
            UserError: a weight is not finite.
        """
        # A single infinite gradient can break the weights after a loss that was fine.
        if not all(bool(parameter.isfinite().all()) for parameter in self.model.parameters()):
            raise UserError("The weights are no longer finite: give lower learning_rates, or set clip.")
        settings = self.settings
        steps = self.final.stop
        metrics: dict[str, Any] = {
            "learning_rate": self.rate,
            "epochs": round(self.final.epochs(steps, settings.batch_size), 3),
            "steps": steps,
            "choosing": self.best.figure if self.trials else None,
            "trials": [self._trial(number) for number in range(self.trials)],
            "refit": settings.refit or not settings.chooses,
            "photos": {"train": self.final.photos, "choosing": len(self.choose), "test": self.task.test_count},
        }
        judged = self._judge(None)
        metrics = judged.figures | metrics
        about = {**self.about, "training": metrics}
        save_finetuned(self.model, self.task, about, self.folder / MODEL_NAME)
        (self.folder / CHECKPOINT_NAME).unlink(missing_ok=True)
        return Finished(metrics | {"seconds": self._seconds()}, self.task, judged)

    def _trial(self, number: int) -> dict[str, Any]:
        """What one learning rate came to."""
        best = best_look([look for look in self.state.looks if look.trial == number])
        epochs = self.length.epochs(best.step, self.settings.batch_size)
        figure = best.figure if math.isfinite(best.figure) else None
        return {"learning_rate": self.rates[number], "choosing": figure, "epochs": round(epochs, 3)}
