"""The trainer: one loop for pretraining, fine-tuning and the linear probe.

It knows nothing of photos and networks. Its caller makes in view what the loop needs: batches from a step on, what a
step does to the weights, and what is to be saved and evaluated. A line y = a x + b, fitted to y = 3 x - 1:

>>> from ssl_colorize.engine.optimizer import make_optimizer
>>> line, x = nn.Linear(1, 1), torch.linspace(0, 1, 20)[:, None]
>>> optimizer = make_optimizer("adam", [{"params": list(line.parameters())}])
>>> step = GradientStep(
...     line, optimizer, lambda x: {"loss": (line(x) - (3 * x - 1)).square().mean()},
...     learning_rate=lambda step: 0.1, seed=0,
... )
>>> with training_session("cpu", Path("run"), command="pretrain") as session:
...     fit(
...         step, [x] * 300, start=0, steps=300, learning_rate=step.learning_rate, session=session,
...         log=RunLog(session.folder, quiet=True), progress=TrainingProgress(0, 300, 20, quiet=True),
...         save=lambda step: None, save_every=100,
...     )
>>> [round(value.item(), 1) for value in line.parameters()]
[3.0, -1.0]
"""

import math
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

import torch
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor, nn

from ssl_colorize.device import choose_device
from ssl_colorize.engine.distributed import Processes, processes
from ssl_colorize.engine.log import RunLog, TrainingProgress
from ssl_colorize.engine.optimizer import set_learning_rate, step_seed
from ssl_colorize.engine.signals import Interrupted, StopRequest, stop_signals
from ssl_colorize.errors import UserError

B = TypeVar("B")

# The losses of a step, scalars on the device; the one that is watched is "loss".
Losses = Mapping[str, Tensor]
# The learning rate of the step that follows after so many steps.
LearningRate = Callable[[int], float]

# Shorter trainings log every step, longer ones about this many rows.
LOG_ROWS = 1000


class Diverged(UserError):
    """Training has blown up: a loss or a weight is not finite.

    Attributes:
        what: is not, in words.
        step: after which it was found.
    """

    def __init__(self, what: str, step: int, folder: Path) -> None:
        super().__init__(
            f"{what} at step {step}: lower the learning rate, or set clip. The last checkpoint in {folder} is "
            "untouched."
        )
        self.what, self.step = what, step


@dataclass
class Session:
    """The surroundings of a training run.

    Attributes:
        command: of the run, as `ssl-colorize COMMAND --resume FOLDER` goes on with it.
        folder: of the run.
        device: of this process.
        group: the processes that train as one.
        stop: tells of a signal that asked to stop.
        seconds_before: spent on the run before it was resumed.
    """

    command: str
    folder: Path
    device: torch.device
    group: Processes
    stop: StopRequest
    seconds_before: float = 0.0
    began: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Spent on the run so far, earlier sittings included."""
        return self.seconds_before + time.monotonic() - self.began

    def share_of(self, batch_size: int) -> int:
        """The part of a batch that each process gets.

        Raises:
            UserError: it cannot be shared equally.
        """
        if batch_size % self.group.world_size:
            raise UserError(f"batch_size {batch_size} does not divide by the {self.group.world_size} processes.")
        return batch_size // self.group.world_size

    def stop_requested(self) -> bool:
        """Whether a process was asked to stop; every process has to call it, and all get the same answer."""
        return self.group.any(self.stop.number is not None)

    def interrupted(self, step: int) -> Interrupted:
        """To be raised once everything is saved."""
        return Interrupted(self.folder, self.stop.number or signal.SIGTERM, verb=self.command, step=step)


@contextmanager
def training_session(device: str, folder: Path, *, command: str) -> Iterator[Session]:
    """Choose the device, join the processes of torchrun if there are any, and note signals instead of dying of them.

    Raises:
        UserError: the device is not there, or there are fewer GPUs than processes.
    """
    chosen = choose_device(device)
    with processes(chosen.type) as group, stop_signals() as stop:
        if chosen.type == "cuda":
            chosen = torch.device("cuda", group.local_rank)
        yield Session(command, folder, chosen, group, stop)


class GradientStep(Generic[B]):
    """A step on a batch by gradient descent.

    What is random in it is seeded by its number, so that any step can be the first.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        loss: Callable[[B], Losses],
        *,
        learning_rate: LearningRate,
        seed: int,
        rank: int = 0,
        clip: float | None = None,
        ema: ModelEmaV3 | None = None,
    ) -> None:
        """Put a step together.

        Args:
            network: what learns, as `distribute` made it.
            optimizer: over its weights.
            loss: of a batch: the scalar to lower as "loss", and what is logged beside it.
            learning_rate: by step.
            seed: of the run.
            rank: of this process, whose random numbers are its own.
            clip: largest norm of the gradient.
            ema: an average of the weights to keep up.
        """
        self.network, self.optimizer, self.loss = network, optimizer, loss
        self.learning_rate, self.seed, self.rank, self.clip, self.ema = learning_rate, seed, rank, clip, ema

    def __call__(self, batch: B, step: int) -> Losses:
        """Take the step that follows after `step` steps; returns its losses."""
        set_learning_rate(self.optimizer, self.learning_rate(step))
        torch.manual_seed(step_seed(self.seed, step, self.rank))
        self.network.train()
        losses = self.loss(batch)
        self.optimizer.zero_grad(set_to_none=True)
        losses["loss"].backward()
        if self.clip is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.clip)
        self.optimizer.step()
        if self.ema is not None:
            self.ema.update(self.network, step=step)
        return losses


def fit(
    take_step: Callable[[B, int], Losses],
    batches: Iterable[B],
    *,
    start: int,
    steps: int,
    learning_rate: LearningRate,
    session: Session,
    log: RunLog,
    progress: TrainingProgress,
    save: Callable[[int], None],
    save_every: int,
    evaluate: Callable[[int], Mapping[str, float | None]] = lambda step: {},
    evaluate_at: Callable[[int], bool] = lambda step: False,
    columns: Callable[[int], Mapping[str, float]] = lambda step: {},
    logged_before: int = 0,
) -> None:
    """Train from step `start` to step `steps`, which is saved; so is the step at which a signal asks to stop.

    Args:
        take_step: moves the weights by a batch, given the number of steps before it, and returns the losses.
        batches: this process's parts, from step `start` on.
        start: steps done.
        steps: after which training ends.
        learning_rate: by step, for the log.
        session: the surroundings.
        log: gets a row for every logged step: the losses (means over the processes), "learning_rate",
            "photos_per_second", the `columns` and what `evaluate` gives.
        progress: shows the same.
        save: is called after a step to keep what takes to go on from there, in every process.
        save_every: steps.
        evaluate: is called after a step for figures, in every process; "holdout_..." by the names of the log.
        evaluate_at: after which steps.
        columns: what else to log of a step.
        logged_before: steps of trainings before this one, from which the log counts on.

    Raises:
        Diverged: the loss is no longer finite; what was saved last is sound.
        Interrupted: after a signal, unless it came in the last step.
    """
    log_every = max(1, steps // LOG_ROWS)
    step = start
    with progress:
        for batch in batches:
            losses, rate = take_step(batch, step), learning_rate(step)
            step += 1
            last, stopped = step == steps, session.stop_requested()
            evaluates = evaluate_at(step)
            saves = last or stopped or step % save_every == 0
            # A broken network must not replace the last sound checkpoint, so what is saved is checked as well.
            if step == 1 or step % log_every == 0 or evaluates or saves:
                means = finite(losses, step, session)
                speed = progress.advance(step, means["loss"])
                row: dict[str, float | None] = {**means, "learning_rate": rate, "photos_per_second": speed}
                row |= columns(step)
                if evaluates:
                    row |= evaluate(step)
                    progress.rest()
                log.write(logged_before + step, row)
            if saves:
                save(step)
            if stopped and not last:
                raise session.interrupted(logged_before + step)


def finite(losses: Losses, step: int, session: Session) -> dict[str, float]:
    """The losses as numbers, averaged over the processes.

    Raises:
        Diverged: "loss" is not finite.
    """
    means = session.group.mean(torch.stack([loss.detach().float() for loss in losses.values()])).tolist()
    values = dict(zip(losses, means, strict=True))
    if not math.isfinite(values["loss"]):
        raise Diverged(f"The loss became {values['loss']}", step, session.folder)
    return values


def refuse_broken(parameters: Iterable[Tensor], step: int, session: Session) -> None:
    """Check the weights: a single infinite gradient can break them after a loss that was fine.

    Raises:
        Diverged: one is not finite.
    """
    if not all(bool(values.isfinite().all()) for values in parameters):
        raise Diverged("The weights are no longer finite", step, session.folder)
