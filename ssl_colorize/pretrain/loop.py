"""The training loop, top to bottom: photos -> light and targets of their colors -> network -> objective -> step."""

import math
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor, nn

from ssl_colorize.data.loading import Batch, UnreadableLog, holdout_batches, training_batches
from ssl_colorize.data.sources import leave_out, open_photos
from ssl_colorize.device import choose_autocast, choose_device
from ssl_colorize.engine.checkpoint import Checkpoint, load_checkpoint, rewind_log, save_checkpoint
from ssl_colorize.engine.distributed import Processes, processes, synchronized
from ssl_colorize.engine.optimizer import make_optimizer
from ssl_colorize.engine.progress import RunLog, TrainingProgress
from ssl_colorize.engine.signals import Interrupted, stop_signals
from ssl_colorize.errors import UserError
from ssl_colorize.models import ColorizationModel, Pretrained, create_model, load_pretrained, save_pretrained
from ssl_colorize.models.init import initialize
from ssl_colorize.models.objectives import BestConstant, Objective, TrainingStatistics
from ssl_colorize.models.pretrained import WEIGHTS_NAME
from ssl_colorize.pretrain.augment import augment
from ssl_colorize.pretrain.config import Recipe
from ssl_colorize.pretrain.holdout import evaluate
from ssl_colorize.pretrain.start import start_from
from ssl_colorize.pretrain.statistics import count_statistics
from ssl_colorize.runs import write_config, write_metrics

# Shorter runs log every step, longer ones about this many rows.
LOG_ROWS = 1000


def train(recipe: Recipe, folder: Path, *, resume: bool = False, kind: "type[Run] | None" = None) -> dict[str, Any]:
    """Pretrain by a recipe into a run folder, on the CPU, a GPU, or several processes under torchrun.

    Args:
        recipe: what to do.
        folder: gets config.yaml, metrics.jsonl, TensorBoard events, checkpoint.pt, model.safetensors, metrics.json.
        resume: go on from the folder's checkpoint, exactly as if the run had never stopped.
        kind: of run, if the network is to learn something else than colors (benchmarks/pretexts.py).

    Returns:
        The content of metrics.json, whose "metrics" are those of the held-out photos; empty but in the first process.

    Raises:
        UserError: the recipe, the photos or the folder cannot be used.
        Interrupted: after SIGINT or SIGTERM, with everything saved.
    """
    device = choose_device(recipe.device)
    with ExitStack() as stack:
        group = stack.enter_context(processes(device.type))
        stop = stack.enter_context(stop_signals())
        device = torch.device("cuda", group.local_rank) if device.type == "cuda" else device
        run = (kind or Run)(recipe, folder, group, device)
        run.resume() if resume else run.begin()
        log = stack.enter_context(RunLog(folder, run.step, quiet=not group.first))
        progress = stack.enter_context(TrainingProgress(run.step, run.steps, recipe.batch_size, quiet=not group.first))
        for words in run.notes:
            progress.say(words)

        for batch in run.batches(run.step, run.steps):
            rate = learning_rate(recipe, run.step, run.steps)
            losses = run.train_on(batch, rate)
            stopped = group.any(stop.number is not None)
            last = run.step == run.steps
            looks = run.step % recipe.evaluate_every == 0 or last
            keeps = run.step % recipe.checkpoint_every == 0 or last or stopped
            row: dict[str, Any] = {}
            # A broken network must not replace the last sound checkpoint, so what is kept is checked as well.
            if run.step % run.log_every == 0 or run.step == 1 or looks or keeps:
                row = run.finite(losses) | {"learning_rate": rate}
                row["photos_per_second"] = progress.advance(run.step, row["loss"])
            if looks:
                run.look()
                row |= {f"holdout_{name}": value for name, value in run.figures.items()}
                progress.look(run.step, run.figures)
            if row:
                log.write(run.step, row)
            if keeps:
                run.save()
            if stopped and not last:
                raise Interrupted(folder, stop.number or signal.SIGTERM, verb="pretrain", step=run.step)
        return run.finish()


class Run:
    """A run in one process: its photos, its network, and one step of it.

    Other pretexts differ in `make_model`, `best_constant`, `make_objective`, `examples` and `pretrained` only.

    Attributes:
        command: what metrics.json says that its figures were made by.
    """

    command = "pretrain"

    def __init__(self, recipe: Recipe, folder: Path, group: Processes, device: torch.device) -> None:
        self.recipe, self.folder, self.group, self.device = recipe, folder, group, device
        if recipe.batch_size % group.world_size:
            raise UserError(f"batch_size {recipe.batch_size} does not divide by the {group.world_size} processes.")
        # Which photos are held out does not depend on the seed.
        photos = open_photos(recipe.data, limit=recipe.limit)
        if recipe.exclude is not None:
            photos = leave_out(photos, Path(recipe.exclude))
        self.photos, self.held_out = photos.holdout(recipe.holdout, most=recipe.holdout_photos)
        self.step = 0
        self.steps = recipe.steps or math.ceil((recipe.epochs or 0) * len(self.photos) / recipe.batch_size)
        self.log_every = 1 if self.steps < LOG_ROWS else max(1, self.steps // LOG_ROWS)
        self.autocast = choose_autocast(recipe.precision, device)
        torch.manual_seed(recipe.seed)
        self.model = self.make_model()
        if recipe.crop % self.model.multiple:
            raise UserError(f"crop must be a multiple of {self.model.multiple} for {recipe.model}, not {recipe.crop}.")
        if recipe.trunk == "imagenet":
            self.model.freeze_trunk()
        self.model.to(device).to(memory_format=torch.channels_last)
        self.notes: list[str] = []
        self.figures: dict[str, Any] = {}
        self.seconds_before, self.began = 0.0, time.monotonic()

    def make_model(self) -> ColorizationModel:
        """The network to train."""
        return create_model(self.recipe.model, width=self.recipe.width, outputs=self.recipe.outputs)

    def best_constant(self) -> BestConstant | None:
        """What finds the best constant in the first training photos."""
        return self.recipe.objective_type.best_constant()

    def make_objective(self) -> Objective:
        """What the network is asked, which depends on how common colors are."""
        recipe = self.recipe
        return recipe.objective_type(
            self.statistics, stride=self.model.target_stride,
            neighbors=recipe.neighbors, sigma=recipe.sigma, temperature=recipe.temperature,
        )  # fmt: skip

    def examples(self, batch: Batch, *, training: bool) -> Any:
        """What a batch of photos asks the network, on the device."""
        return self.objective.examples(batch.photos.to(self.device, non_blocking=True), training=training)

    def begin(self) -> None:
        """Start at step 0: count the colors of the first training crops, initialize the network on a few of them."""
        recipe = self.recipe
        # First, since they may not be to be had.
        ready = self.model.load_imagenet() if recipe.trunk == "imagenet" and recipe.start is None else ()
        self.unreadable = UnreadableLog(self.folder, len(self.photos), rank=self.group.rank)
        # Every process looks at the same photos, so that all have the same prior and the same initial network.
        first = self._read(0, math.ceil(recipe.prior_photos / recipe.batch_size), Processes())
        kept = list(islice(first, math.ceil(recipe.init_photos / recipe.batch_size)))
        # The rest is counted as it comes: all of it may be gigabytes.
        looked_at = (batch.photos for batch in chain(kept, first))
        best = self.best_constant()
        self._ask(count_statistics(looked_at, recipe, stride=self.model.target_stride, best=best))
        photos = torch.cat([batch.photos for batch in kept])[: recipe.init_photos].to(self.device)
        inputs = self.objective.examples(photos, training=True).inputs
        if recipe.start is None:
            initialize(
                self.model, *inputs,
                method=recipe.init, output_bias=self.objective.output_bias, keep=ready, seed=recipe.seed,
            )  # fmt: skip
        else:
            trained = load_pretrained(recipe.start, device=self.device)
            self.notes.append(start_from(self.model, trained, *inputs, output_bias=self.objective.output_bias))
        self._equip()
        if self.group.first:
            write_config(self.folder, recipe)
            rewind_log(self.folder, 0)

    def resume(self) -> None:
        """Take everything up where the folder's checkpoint has it."""
        checkpoint = load_checkpoint(self.folder)
        self.unreadable = UnreadableLog(self.folder, len(self.photos), rank=self.group.rank, append=True)
        self._ask(checkpoint.statistics)
        self.model.load_state_dict(checkpoint.model)
        self._equip()
        self.optimizer.load_state_dict(checkpoint.optimizer)
        if self.ema is not None and checkpoint.ema is not None:
            self.ema.module.load_state_dict(checkpoint.ema)
        torch.set_rng_state(checkpoint.random_state)
        self.step, self.seconds_before, self.figures = checkpoint.step, checkpoint.seconds, checkpoint.figures
        if self.group.first:
            rewind_log(self.folder, self.step)

    def _ask(self, statistics: TrainingStatistics) -> None:
        self.statistics = statistics.to(self.device)
        self.objective = self.make_objective()

    def _equip(self) -> None:
        """What works on the initialized network: its average, the other processes, the optimizer."""
        recipe = self.recipe
        self.ema = ModelEmaV3(self.model, decay=recipe.ema, use_warmup=True) if recipe.ema else None
        self.network: nn.Module = self.model
        if self.group.world_size > 1:
            devices = [self.device.index] if self.device.type == "cuda" else None
            self.network = nn.parallel.DistributedDataParallel(
                synchronized(self.model, self.device.type), device_ids=devices
            )
        if recipe.compile:
            self.network = torch.compile(self.network)  # type: ignore[assignment]
        self.optimizer = make_optimizer(self.model, recipe)

    def batches(self, start: int, stop: int) -> Iterator[Batch]:
        """This process's photos, (B, 3, crop, crop) uint8 each time, of the steps from `start` to before `stop`."""
        return self._read(start, stop, self.group)

    def _read(self, start: int, stop: int, group: Processes) -> Iterator[Batch]:
        recipe = self.recipe
        batches = training_batches(
            self.photos, resize=recipe.resize, crop=recipe.crop, batch_size=recipe.batch_size, seed=recipe.seed,
            start=start, steps=stop, workers=recipe.workers, rank=group.rank, world_size=group.world_size,
        )  # fmt: skip
        for batch in batches:
            self.unreadable.add(batch.unreadable, read=len(batch.photos))
            yield batch

    def train_on(self, batch: Batch, rate: float) -> dict[str, Tensor]:
        """One step of the optimizer at a learning rate; returns the losses, on the device."""
        for parameters in self.optimizer.param_groups:
            parameters["lr"] = rate
        torch.manual_seed(step_seed(self.recipe.seed, self.step, self.group.rank))
        examples = self.examples(batch, training=True)
        light, *more = examples.inputs
        light = augment(light, jitter=self.recipe.jitter, blur=self.recipe.blur)
        self.network.train()
        with self.autocast():
            output = self.network(light.to(memory_format=torch.channels_last), *more)
        losses = self.objective.losses(output, examples)
        self.optimizer.zero_grad(set_to_none=True)
        losses["loss"].backward()
        if self.recipe.clip is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip)
        self.optimizer.step()
        if self.ema is not None:
            self.ema.update(self.model, step=self.step)
        self.step += 1
        return losses

    def finite(self, losses: dict[str, Tensor]) -> dict[str, float]:
        """The losses as numbers, averaged over the processes.

        Raises:
            UserError: training has blown up.
        """
        values = self.group.mean(torch.stack([loss.detach() for loss in losses.values()])).tolist()
        if not math.isfinite(values[0]):
            raise UserError(self._blown_up(f"The loss became {values[0]}"))
        return dict(zip(losses, values, strict=True))

    def _blown_up(self, what: str) -> str:
        return (
            f"{what} at step {self.step}: lower learning_rate (now at most {self.recipe.learning_rate:g}) or set clip. "
            f"The last checkpoint in {self.folder} is untouched."
        )

    @property
    def judged(self) -> ColorizationModel:
        """The network that is evaluated and shipped: the average of the weights where there is one."""
        model: ColorizationModel = self.ema.module if self.ema is not None else self.model
        return model

    def look(self) -> None:
        """Take the figures on the held-out photos, in the first process; the others wait in their next step."""
        if not self.group.first:
            return
        recipe = self.recipe
        batches = holdout_batches(
            self.held_out, resize=recipe.evaluation_size, crop=recipe.crop, batch_size=recipe.batch_size,
            workers=recipe.workers,
        )  # fmt: skip
        examples = (self.examples(batch, training=False) for batch in batches)
        self.figures = evaluate(self.judged, examples, self.objective, autocast=self.autocast)

    def seconds(self) -> float:
        """Time spent on the run so far, earlier sittings included."""
        return self.seconds_before + time.monotonic() - self.began

    def save(self) -> None:
        """Write checkpoint.pt, to go on from, and model.safetensors, to use; in the first process.

        Raises:
            UserError: a weight is not finite, or the files cannot be written; what was saved before is untouched.
        """
        if not self.group.first:
            return
        # A single infinite gradient can break the weights after a loss that was fine.
        if not all(bool(parameter.isfinite().all()) for parameter in self.model.parameters()):
            raise UserError(self._blown_up("The weights are no longer finite"))
        checkpoint = Checkpoint(
            self.step, self.model.state_dict(), self.optimizer.state_dict(),
            self.ema.module.state_dict() if self.ema is not None else None,
            self.statistics.to(torch.device("cpu")), torch.get_rng_state(), self.seconds(),
            self.figures,
        )  # fmt: skip
        save_checkpoint(checkpoint, self.folder)
        save_pretrained(self.pretrained(), self.folder / WEIGHTS_NAME)

    def pretrained(self) -> Pretrained:
        """The network as it is shipped, with the record of its training."""
        recipe = self.recipe
        return Pretrained(
            model=self.judged,
            prior=self.statistics.prior,
            mix=recipe.mix if recipe.rebalance else None,
            temperature=recipe.temperature,
            input_size=recipe.input_size or recipe.evaluation_size,
            objective=recipe.objective,
            training={
                "step": self.step,
                "steps": self.steps,
                "photos_seen": self.step * recipe.batch_size,
                "seconds": round(self.seconds(), 1),
                "holdout": self.figures,
                "recipe": recipe.model_dump(mode="json"),
            },
        )

    def finish(self) -> dict[str, Any]:
        """Write metrics.json; in the first process."""
        if not self.group.first:
            return {}
        seen = self.step * self.recipe.batch_size
        metrics = self.figures | {"photos_per_second": round(seen / self.seconds(), 2), "photos_seen": seen}
        return write_metrics(
            self.folder, command=self.command, metrics=metrics, config=self.recipe.model_dump(mode="json"),
            seed=self.recipe.seed, seconds=self.seconds(),
        )  # fmt: skip


def step_seed(seed: int, step: int, rank: int) -> int:
    """Of what is random within a step (dropout, which pixels are looked at): the same however the run came there."""
    return int(np.random.SeedSequence((seed, step, rank)).generate_state(1, np.uint64)[0] >> np.uint64(1))


def learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    """Of the step after `step`: linear warm-up, then half a cosine to zero or the recipe's milestones."""
    rate = recipe.learning_rate
    if recipe.schedule == "cosine":
        done = max(0, step - recipe.warmup) / max(1, steps - recipe.warmup)
        rate *= 0.5 * (1 + math.cos(math.pi * done))
    for milestone, lower in recipe.milestones:
        rate = lower if step >= milestone else rate
    return rate * min(1.0, (step + 1) / (recipe.warmup + 1))
