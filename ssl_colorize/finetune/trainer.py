"""Fine-tuning, for any task: each learning rate on a part of the training photos, the best one again on all of them.

The test photos are read once, by the one model that was chosen without them.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ssl_colorize.data import UnreadableLog
from ssl_colorize.data.fingerprint import Fingerprint, resumed
from ssl_colorize.device import choose_autocast
from ssl_colorize.encoder import Encoder
from ssl_colorize.engine.checkpoint import CHECKPOINT_NAME, Checkpoint, load_checkpoint, restore, save_checkpoint
from ssl_colorize.engine.distributed import distribute
from ssl_colorize.engine.log import RunLog, TrainingProgress
from ssl_colorize.engine.optimizer import Schedule, make_optimizer, regular_drops
from ssl_colorize.engine.trainer import Diverged, GradientStep, Session, fit, refuse_broken, training_session
from ssl_colorize.errors import UserError
from ssl_colorize.finetune.building import MODEL_NAME, build_model, save_finetuned
from ssl_colorize.finetune.config import FinetuneSettings
from ssl_colorize.finetune.tasks import Evaluated, Say, Task, TrainingBatch, choosing_figure, task_type
from ssl_colorize.finetune.trials import Evaluation, Length, Trials, best_evaluation, from_format_1

KIND = "finetune"


@dataclass(frozen=True)
class Finished:
    """A run at its end: the figures, and what they are of."""

    metrics: dict[str, Any]
    task: Task
    evaluated: Evaluated


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
    with training_session(settings.device, folder, command=f"finetune {name}") as session:
        tell = say if session.group.first else _silent
        task = task_type(name).open(settings, say=tell)
        run = Finetuning(task, settings, session, resume=resume)
        for line in run.notes:
            tell(line)
        with RunLog(folder, run.trials.logged + run.begun.step, quiet=not session.group.first) as log:
            for number in range(run.trials.trial, len(run.rates)):
                run.try_rate(number, log, tell)
            choice = run.choose(tell)
            if settings.refit or not run.rates:
                run.fit(choice.rate, run.every, choice.length, log, title="all training photos")
            else:
                assert run.trials.best is not None
                run.model.load_state_dict(run.trials.best)
        refuse_broken(run.model.parameters(), choice.length.stop, session)
        return run.finish(choice) if session.group.first else None


def _silent(line: str) -> None:
    """Of several processes, the first one speaks."""


class TaskLoss(nn.Module):
    """A model whose forward is a task's loss, as DistributedDataParallel wants it."""

    def __init__(self, task: Task, model: nn.Module) -> None:
        super().__init__()
        self.task, self.model = task, model

    def forward(self, batch: TrainingBatch) -> dict[str, Tensor]:
        return self.task.loss(self.model, batch)


@dataclass(frozen=True)
class Choice:
    """With what the final model is trained; `figure` is that it was chosen by, None where nothing was to choose."""

    rate: float
    length: Length
    figure: float | None


class Finetuning:
    """A fine-tuning run in one process: everything that its trainings need."""

    def __init__(self, task: Task, settings: FinetuneSettings, session: Session, *, resume: bool) -> None:
        self.task, self.settings, self.session = task, settings, session
        session.share_of(settings.batch_size)

        # Photos: all to train on, and of these the part to fit on and the part to choose on. Rates, lowest first.
        self.begun = Checkpoint(KIND, 0)
        if resume:
            kept = ("trial", "logged", "evaluations")
            self.begun = load_checkpoint(session.folder, KIND, extra=kept, from_format_1=from_format_1)
        before = self.begun.extra.pop("photos", None)
        self._split(Fingerprint.restored(before))
        self.stored = self.fingerprint().stored()
        self.notes: list[str] = []
        if resume:
            self.notes = resumed(before, self.fingerprint(), allowed=settings.data_changed == "allow")
        self.rates: list[float] = sorted(set(settings.learning_rates)) if settings.chooses else []
        self.length = Length.whole(settings, len(self.fitting), evaluated=settings.chooses)
        total = task.train_count + task.test_count
        self.unreadable = UnreadableLog(session.folder, total, rank=session.group.rank, append=resume)

        # The model, from which every training begins.
        self.about, model = build_model(task, settings)
        self.model = model.to(session.device)
        self.encoder = next(module for module in model.modules() if isinstance(module, Encoder))
        self.initial = _copied(self.model)
        # Where statistics of BatchNorm are frozen, synchronizing them changes nothing.
        self.network = distribute(TaskLoss(task, self.model), session.group, session.device.type)
        self.autocast = choose_autocast(settings.precision, session.device)

        # Where a stopped run goes on: the training that is under way, and what was tried before.
        session.seconds_before = self.begun.seconds
        self.trials = Trials.restored(self.begun.extra)

    def _split(self, before: Fingerprint | None) -> None:
        """Split the training photos; what a run tested on and chose on before, it does not learn from."""
        task, settings = self.task, self.settings
        self.left_out = {} if before is None else task.keep_apart(before)
        self.every = np.arange(task.train_count)
        self.fitting, self.choosing = self.every, self.every[:0]
        if settings.chooses:
            self.fitting, self.choosing = task.split(fraction=settings.choosing, seed=settings.seed)
        if before is not None and settings.chooses:
            held = before.held_out_before(task.photos, self.choosing, learned="fit", kept="choose")
            self.fitting, self.choosing = np.setdiff1d(self.every, held), np.asarray(held, np.int64)
            if not (len(self.fitting) and len(self.choosing)):
                raise UserError("Of the photos that this run chose on none is left: put them back, or begin a new run.")

    def fingerprint(self) -> Fingerprint:
        """Of the photos, by what they are for."""
        part = self.task.part
        return Fingerprint.of(fit=part(self.fitting), choose=part(self.choosing), test=part(None), **self.left_out)

    def try_rate(self, number: int, log: RunLog, say: Say) -> None:
        """Train with one of the rates, on the photos to fit on; one that blows up is out of the choice."""
        rate, trials = self.rates[number], self.trials
        try:
            self.fit(rate, self.fitting, self.length, log, title=f"rate {rate:g}, {number + 1} of {len(self.rates)}")
            trials.next(self.length.stop)
        except Diverged as error:
            say(f"{error.what} after {error.step} steps at learning rate {rate:g}: it is out of the choice.")
            trials.evaluations.append(Evaluation(number, error.step, float("-inf")))
            trials.next(error.step)

    def fit(self, rate: float, indices: NDArray[np.int64], length: Length, log: RunLog, *, title: str) -> None:
        """Train at a learning rate on some of the training photos, from the beginning or from where the run stopped."""
        settings, session, group = self.settings, self.session, self.session.group
        begun, self.begun = self.begun, Checkpoint(KIND, 0)
        self.model.load_state_dict(self.initial)
        optimizer = task_optimizer(self.model, self.encoder, settings)
        restore(begun, session.folder, model=self.model, optimizer=optimizer)
        schedule = schedule_of(settings, length.steps)
        progress = TrainingProgress(begun.step, length.stop, settings.batch_size, title=title, quiet=not group.first)

        def learning_rate(step: int) -> float:
            return rate * schedule(step)

        def loss(batch: TrainingBatch) -> dict[str, Tensor]:
            with self.autocast():
                losses: dict[str, Tensor] = self.network(batch)
            return losses

        def epochs(step: int) -> float:
            return round(length.epochs(step, settings.batch_size), 4)

        def evaluate(step: int) -> dict[str, float | None]:
            name, figure, row = self.evaluate(step)
            progress.say(f"epoch {epochs(step):.4g}: {name} {100 * figure:.1f} % on the photos to choose on")
            return row

        fit(
            GradientStep(
                self.network, optimizer, loss, learning_rate=learning_rate, seed=settings.seed, rank=group.rank,
                clip=settings.clip,
            ),
            self.batches(indices, begun.step, length.stop),
            start=begun.step, steps=length.stop, learning_rate=learning_rate,
            session=session, log=log, progress=progress, logged_before=self.trials.logged,
            save=lambda step: self.save(step, optimizer), save_every=settings.checkpoint_every,
            evaluate=evaluate, evaluate_at=lambda step: step in length.evaluations,
            columns=lambda step: {"trial": self.trials.trial, "epoch": epochs(step)},
        )  # fmt: skip

    def batches(self, indices: NDArray[np.int64], start: int, stop: int) -> Iterator[TrainingBatch]:
        """This process's part of the batches of the steps from `start` to before `stop`."""
        group = self.session.group
        batches = self.task.batches(
            indices, seed=self.settings.seed, start=start, steps=stop, rank=group.rank, world_size=group.world_size
        )
        for batch in batches:
            self.unreadable.add(batch.unreadable, read=len(batch.photos))
            yield batch

    def evaluate(self, step: int) -> tuple[str, float, dict[str, float | None]]:
        """Evaluate the model on the photos to choose on, in the first process; its figure goes to all of them.

        Returns:
            The name and the value of the figure to choose by, and what the log has of all figures.
        """
        name, figure, group = self.task.main, 0.0, self.session.group
        row: dict[str, float | None] = {}
        if group.first:
            figures = self.figures(self.choosing).figures
            name, figure = choosing_figure(figures, self.task.main)
            numbers = {key: value for key, value in figures.items() if isinstance(value, int | float)}
            row = {f"holdout_{key}": value for key, value in numbers.items() if math.isfinite(value)}
        figure = float(group.mean(torch.tensor([figure], device=self.session.device))) * group.world_size
        evaluation = Evaluation(self.trials.trial, step, figure)
        self.trials.evaluations.append(evaluation)
        if not self.settings.refit and evaluation == best_evaluation(self.trials.evaluations):
            self.trials.best = _copied(self.model)
        return name, figure, row

    def figures(self, indices: NDArray[np.int64] | None) -> Evaluated:
        """What the model is worth on some of the training photos, or on the test photos."""
        with torch.no_grad():
            return self.task.evaluate(
                self.model, indices, autocast=self.autocast,
                unreadable=lambda lines, read: self.unreadable.add(lines, read=read),
            )  # fmt: skip

    def save(self, step: int, optimizer: torch.optim.Optimizer) -> None:
        """Write the checkpoint; in the first process.

        Raises:
            UserError: a weight is not finite, or it cannot be written; what was saved before is untouched.
        """
        refuse_broken(self.model.parameters(), step, self.session)
        if self.session.group.first:
            checkpoint = Checkpoint(
                KIND, step, self.model.state_dict(), optimizer.state_dict(),
                seconds=self.session.seconds, extra=self.trials.stored() | {"photos": self.stored},
            )  # fmt: skip
            save_checkpoint(checkpoint, self.session.folder)

    def choose(self, say: Say) -> Choice:
        """The learning rate of the best evaluation, and the length of a training on all photos that stops where it was.

        Raises:
            UserError: there is no figure.
        """
        settings, rates = self.settings, self.rates
        if not rates:
            return Choice(settings.learning_rates[0], self.length, None)
        best = best_evaluation(self.trials.evaluations)
        if not math.isfinite(best.figure):
            tried = ", ".join(f"{rate:g}" for rate in rates)
            raise UserError(
                f"No learning rate of {tried} gave a figure to choose by: set lower learning_rates, or clip."
            )
        rate = rates[best.trial]
        if len(rates) > 2 and rate in (rates[0], rates[-1]):
            say(f"The learning rate {rate:g}, at the end of those tried, was chosen: widen learning_rates.")
        if settings.refit:
            return Choice(rate, self.length.like(best.step, settings, len(self.every)), best.figure)
        return Choice(rate, Length(len(self.fitting), self.length.steps, best.step), best.figure)

    def finish(self, choice: Choice) -> Finished:
        """Evaluate the model on the test photos, and keep it."""
        settings, length = self.settings, choice.length
        evaluated = self.figures(None)
        metrics: dict[str, Any] = evaluated.figures | {
            "learning_rate": choice.rate,
            "epochs": round(length.epochs(length.stop, settings.batch_size), 3),
            "steps": length.stop,
            "choosing": choice.figure,
            "trials": [self._trial(number) for number in range(len(self.rates))],
            "refit": settings.refit or not settings.chooses,
            "photos": {"train": length.photos, "choosing": len(self.choosing), "test": self.task.test_count},
        }
        save_finetuned(self.model, self.task, {**self.about, "training": metrics}, self.session.folder / MODEL_NAME)
        (self.session.folder / CHECKPOINT_NAME).unlink(missing_ok=True)
        return Finished(metrics | {"seconds": self.session.seconds}, self.task, evaluated)

    def _trial(self, number: int) -> dict[str, Any]:
        """What one learning rate came to."""
        best = best_evaluation([one for one in self.trials.evaluations if one.trial == number])
        epochs = self.length.epochs(best.step, self.settings.batch_size)
        figure = best.figure if math.isfinite(best.figure) else None
        return {"learning_rate": self.rates[number], "choosing": figure, "epochs": round(epochs, 3)}


def schedule_of(settings: FinetuneSettings, steps: int) -> Schedule:
    """The settings', for a training of so many steps, in which the warm-up comes to its end."""
    drops = None
    if settings.drop_every is not None:
        drops = regular_drops(settings.drop_every, settings.drop_factor, steps)
    return Schedule(steps, min(settings.warmup, steps - 1), drops)


def task_optimizer(model: nn.Module, encoder: nn.Module, settings: FinetuneSettings) -> torch.optim.Optimizer:
    """Over all that learns, in groups that differ in weight decay and in "factor" on the learning rate.

    Biases, scales and shifts do not decay; the head, which is all but the encoder, has a factor of its own.
    """
    inside = {id(parameter) for parameter in encoder.parameters()}
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        if parameter.requires_grad:
            groups.setdefault((id(parameter) in inside, parameter.ndim > 1), []).append(parameter)
    options: list[dict[str, Any]] = [
        {
            "params": parameters,
            "weight_decay": settings.weight_decay if decays else 0.0,
            "factor": 1.0 if body else settings.head_factor,
            # The last layer of a head has a row a class, which is no direction to keep; and a head is small.
            "use_fallback": not (body and decays),
        }
        for (body, decays), parameters in groups.items()
    ]
    return make_optimizer(
        settings.optimizer, options, weight_decay=settings.weight_decay, momentum=settings.momentum
    )  # fmt: skip


def _copied(model: nn.Module) -> dict[str, Tensor]:
    """The model's weights as they are now, on the CPU."""
    return {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
