"""The training loop, top to bottom: photos -> lightness and soft-encoded colours -> network -> objective -> step."""

import json
import math
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from ssl_colorize.color import rgb_to_lightness
from ssl_colorize.data.loading import Batch, UnreadableLog, holdout_batches, training_batches
from ssl_colorize.data.sources import Photos, open_photos
from ssl_colorize.device import choose_autocast, choose_device
from ssl_colorize.errors import UserError
from ssl_colorize.models import ColorizationModel, Pretrained, create_model, save_pretrained
from ssl_colorize.models.init import initialize
from ssl_colorize.models.pretrained import AB_SCALE, WEIGHTS_NAME
from ssl_colorize.pretrain.checkpoint import METRICS_LOG, Checkpoint, load_checkpoint, rewind_log, save_checkpoint
from ssl_colorize.pretrain.config import Recipe
from ssl_colorize.pretrain.distributed import processes, synchronized
from ssl_colorize.pretrain.holdout import evaluate, sepia_warning
from ssl_colorize.pretrain.loss import entropy, soft_cross_entropy, squared_error
from ssl_colorize.pretrain.progress import TrainingProgress
from ssl_colorize.pretrain.statistics import TrainingStatistics, count_statistics
from ssl_colorize.pretrain.targets import Targets, make_targets
from ssl_colorize.runs import write_config, write_metrics

# Shorter runs log every step, longer ones about this many rows.
LOG_ROWS = 1000


class Interrupted(Exception):
    """The run was asked to stop, and saved first."""

    def __init__(self, folder: Path, step: int, signum: int) -> None:
        super().__init__(
            f"Stopped after step {step}; saved. Go on with: ssl-colorize pretrain --resume {folder}"
        )
        self.signum = signum


def train(recipe: Recipe, folder: Path, *, resume: bool = False) -> dict[str, Any]:
    """Pretrain by a recipe into a run folder, on the CPU, a GPU, or several processes under torchrun.

    Args:
        recipe: what to do.
        folder: gets config.yaml, metrics.jsonl, TensorBoard events, checkpoint.pt, model.safetensors, metrics.json.
        resume: go on from the folder's checkpoint.

    Returns:
        The content of metrics.json; its "metrics" are those of the held-out photos.

    Raises:
        UserError: the recipe, the photos or the folder cannot be used.
        Interrupted: after SIGINT or SIGTERM, with everything saved.
    """
    device = choose_device(recipe.device)
    with ExitStack() as stack:
        group = stack.enter_context(processes(device.type))
        stop = stack.enter_context(_stop_signals())
        if device.type == "cuda":
            device = torch.device("cuda", group.local_rank)
        autocast = choose_autocast(recipe.precision, device)
        if recipe.batch_size % group.world_size:
            raise UserError(f"batch_size {recipe.batch_size} does not divide by the {group.world_size} processes.")

        # Photos: the held-out ones are the same whatever the seed.
        train_set, held_out = open_photos(recipe.data, limit=recipe.limit).holdout(
            recipe.holdout, most=recipe.holdout_photos
        )
        steps = recipe.steps or math.ceil((recipe.epochs or 0) * len(train_set) / recipe.batch_size)
        unreadable = UnreadableLog(folder, len(train_set), rank=group.rank, append=resume)
        batches = partial(
            training_batches, train_set, resize=recipe.resize, crop=recipe.crop, batch_size=recipe.batch_size,
            seed=recipe.seed, workers=recipe.workers,
        )  # fmt: skip

        # Network: from photos, or from the checkpoint.
        torch.manual_seed(recipe.seed)
        model = create_model(recipe.model, width=recipe.width, outputs=recipe.outputs)
        if recipe.crop % model.multiple:
            raise UserError(f"crop must be a multiple of {model.multiple} for {recipe.model}, not {recipe.crop}.")
        model.to(device=device, memory_format=torch.channels_last)
        checkpoint = load_checkpoint(folder) if resume else None
        if checkpoint is None:
            first = batches(start=0, steps=math.ceil(recipe.prior_photos / recipe.batch_size))
            statistics = prepare(model, noting(unreadable, first), recipe).to(device)
        else:
            statistics = checkpoint.statistics.to(device)
            model.load_state_dict(checkpoint.model)
        ema = ModelEmaV3(model, decay=recipe.ema, use_warmup=True) if recipe.ema else None
        network: nn.Module = model
        if group.world_size > 1:
            network = nn.parallel.DistributedDataParallel(
                synchronized(model, device.type), device_ids=[device.index] if device.type == "cuda" else None
            )
        if recipe.compile:
            network = torch.compile(network)

        optimizer = torch.optim.Adam(
            model.parameters(), lr=recipe.learning_rate, betas=recipe.betas, weight_decay=recipe.weight_decay
        )
        start, seconds_before = 0, 0.0
        if checkpoint is not None:
            start, seconds_before = checkpoint.step, checkpoint.seconds
            optimizer.load_state_dict(checkpoint.optimizer)
            torch.set_rng_state(checkpoint.random_state)
            if ema is not None and checkpoint.ema is not None:
                ema.module.load_state_dict(checkpoint.ema)

        if group.first:
            write_config(folder, recipe)
            rewind_log(folder, start)
        log = stack.enter_context(_Log(folder, start)) if group.first else None
        progress = stack.enter_context(TrainingProgress(start, steps, recipe.batch_size, quiet=not group.first))
        began = time.monotonic()
        step = start

        def seconds() -> float:
            return seconds_before + time.monotonic() - began

        def save(figures: dict[str, Any]) -> None:
            if group.first:
                state = Checkpoint(
                    step, model.state_dict(), optimizer.state_dict(), ema.module.state_dict() if ema else None,
                    statistics.to(torch.device("cpu")), torch.get_rng_state(), seconds(),
                )  # fmt: skip
                save_checkpoint(state, folder)
                trained = {"step": step, "steps": steps, "photos_seen": step * recipe.batch_size, "seconds": seconds()}
                training = trained | {"holdout": figures, "recipe": recipe.model_dump(mode="json")}
                export(ema.module if ema else model, recipe, statistics, training, folder)

        def look() -> dict[str, Any]:
            """Figures on the held-out photos, from the first process; the others go on and wait at the next step."""
            if not group.first:
                return {}
            judged = ema.module if ema else model
            figures = evaluate(
                judged, held_out_photos(held_out, recipe), recipe, statistics,
                stride=model.target_stride, autocast=autocast,
            )  # fmt: skip
            if warning := sepia_warning(figures):
                progress.say(warning)
            return figures

        figures: dict[str, Any] = {}
        every = 1 if steps < LOG_ROWS else max(1, steps // LOG_ROWS)
        loader = batches(start=start, steps=steps, rank=group.rank, world_size=group.world_size)
        for photos in noting(unreadable, loader):
            rate = learning_rate(recipe, step, steps)
            for parameters in optimizer.param_groups:
                parameters["lr"] = rate
            targets = make_targets(
                photos.to(device, non_blocking=True), statistics.class_weights,
                stride=model.target_stride, neighbors=recipe.neighbors, sigma=recipe.sigma,
            )  # fmt: skip

            network.train()
            with autocast():
                output = network(targets.lightness.to(memory_format=torch.channels_last))
            loss, parts = objective(output, targets, recipe)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            if recipe.clip is not None:
                nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
            optimizer.step()
            if ema is not None:
                ema.update(model, step=step)
            step += 1

            stopped = group.any(stop[0] is not None)
            keep = step % recipe.checkpoint_every == 0 or step == steps or stopped
            row: dict[str, Any] = {}
            # What is kept is looked at first: a broken network must not replace the last sound checkpoint.
            if step % every == 0 or step == 1 or keep:
                values = group.mean(torch.stack([loss.detach(), *parts.values()])).tolist()
                if not math.isfinite(values[0]):
                    raise UserError(
                        f"The loss became {values[0]} at step {step}: lower learning_rate (now {rate:g}), or set clip. "
                        f"The last checkpoint in {folder} is untouched."
                    )
                row = dict(zip(("loss", *parts), values, strict=True)) | {"learning_rate": rate}
                row["photos_per_second"] = progress.advance(step, values[0])
            if step % recipe.evaluate_every == 0 or step == steps:
                figures = look()
                row |= {f"holdout_{name}": value for name, value in figures.items()}
                progress.look(step, figures)
            if log is not None and "loss" in row:
                log.write(step, row)
            if keep:
                save(figures)
            if stopped and step < steps:
                raise Interrupted(folder, step, stop[0] or signal.SIGTERM)

        if not group.first:
            return {}
        if not figures:
            figures = look()
        speed = {"photos_per_second": round(step * recipe.batch_size / max(seconds(), 1e-9), 2)}
        final = figures | speed | {"photos_seen": step * recipe.batch_size}
        return write_metrics(
            folder, command="pretrain", metrics=final, config=recipe.model_dump(mode="json"),
            seed=recipe.seed, seconds=seconds(),
        )  # fmt: skip


def noting(unreadable: UnreadableLog, batches: Iterable[Batch]) -> Iterator[Tensor]:
    """The photos of the batches (B, 3, crop, crop) uint8, with the unreadable ones listed in the run folder."""
    for batch in batches:
        unreadable.add(batch.unreadable, read=len(batch.photos))
        yield batch.photos


def prepare(model: ColorizationModel, first: Iterable[Tensor], recipe: Recipe) -> TrainingStatistics:
    """Count the colours of the first training crops, and initialise the network on a few of them."""
    device = next(model.parameters()).device
    kept: list[Tensor] = []

    def keeping() -> Iterator[Tensor]:
        # Only these few stay in memory; a large recipe counts gigabytes of crops.
        for batch in first:
            if len(kept) * recipe.batch_size < recipe.init_photos:
                kept.append(batch)
            yield batch

    statistics = count_statistics(keeping(), recipe, stride=model.target_stride)
    photos = torch.cat(kept)[: recipe.init_photos]
    bias = statistics.constant.log() if recipe.objective == "class" else statistics.mean_ab / AB_SCALE
    initialize(
        model, rgb_to_lightness(photos.to(device)), method=recipe.init, output_bias=bias.to(device), seed=recipe.seed
    )
    return statistics


def objective(output: Tensor, targets: Targets, recipe: Recipe) -> tuple[Tensor, dict[str, Tensor]]:
    """The trained objective, and what is logged beside it."""
    if recipe.objective == "l2":
        return squared_error(output, targets.ab / AB_SCALE, targets.pixel_weights), {}
    loss, cross_entropy = soft_cross_entropy(output, targets.indices, targets.weights, targets.pixel_weights)
    unweighted = cross_entropy.mean()
    return loss, {"cross_entropy": unweighted, "kl": unweighted - entropy(targets.weights).mean()}


def learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    """Of the step after `step`: linear warm-up, then half a cosine to zero or the recipe's milestones."""
    rate = recipe.learning_rate
    if recipe.schedule == "cosine":
        done = max(0, step - recipe.warmup) / max(1, steps - recipe.warmup)
        rate *= 0.5 * (1 + math.cos(math.pi * done))
    for milestone, lower in recipe.milestones:
        rate = lower if step >= milestone else rate
    return rate * min(1.0, (step + 1) / (recipe.warmup + 1))


def held_out_photos(held_out: Photos, recipe: Recipe) -> Iterator[Tensor]:
    """Centre crops of the held-out photos, in batches (B, 3, crop, crop) uint8."""
    batches = holdout_batches(
        held_out, resize=recipe.evaluation_size, crop=recipe.crop, batch_size=recipe.batch_size, workers=recipe.workers
    )
    return (batch.photos for batch in batches)


def export(
    model: ColorizationModel, recipe: Recipe, statistics: TrainingStatistics, training: dict[str, Any], folder: Path
) -> None:
    """Write the network with its colours as model.safetensors."""
    pretrained = Pretrained(
        model=model,
        prior=statistics.prior,
        mix=recipe.mix if recipe.rebalance else None,
        temperature=recipe.temperature,
        input_size=recipe.evaluation_size,
        objective=recipe.objective,
        training=training,
    )
    save_pretrained(pretrained, folder / WEIGHTS_NAME)


@contextmanager
def _stop_signals() -> Iterator[list[int | None]]:
    """Notes the first SIGINT or SIGTERM; a second one acts at once."""
    noted: list[int | None] = [None]
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, _: Any) -> None:
        noted[0] = number
        for name, handler in before.items():
            signal.signal(name, handler)

    for number in before:
        signal.signal(number, note)
    try:
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Log:
    """metrics.jsonl and TensorBoard."""

    def __init__(self, folder: Path, start: int) -> None:
        self.file = (folder / METRICS_LOG).open("a", encoding="utf-8")
        self.board = SummaryWriter(folder, purge_step=start + 1 if start else None)

    def __enter__(self) -> "_Log":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        self.board.close()

    def write(self, step: int, row: dict[str, Any]) -> None:
        try:
            self.file.write(json.dumps({"step": step} | row) + "\n")
            self.file.flush()
        except OSError as error:
            raise UserError(f"Cannot write {self.file.name}: {error.strerror}. Make room, then --resume.") from None
        for name, value in row.items():
            if value is not None:
                self.board.add_scalar(name.replace("holdout_", "holdout/", 1), value, step)
