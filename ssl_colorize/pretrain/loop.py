"""Pretraining, top to bottom: photos -> light and targets of their colors -> network -> objective -> step."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor, nn
from torch.nn import functional

from ssl_colorize.data import Batch, Photos, UnreadableLog, announce, holdout_batches, training_batches
from ssl_colorize.data.fingerprint import resumed
from ssl_colorize.device import choose_autocast
from ssl_colorize.engine.checkpoint import Checkpoint, load_checkpoint, restore, save_checkpoint
from ssl_colorize.engine.distributed import Processes, distribute
from ssl_colorize.engine.log import RunLog, TrainingProgress
from ssl_colorize.engine.optimizer import make_optimizer
from ssl_colorize.engine.trainer import GradientStep, Session, fit, refuse_broken, training_session
from ssl_colorize.errors import UserError
from ssl_colorize.models import ColorizationModel, Pretrained, load_pretrained, save_pretrained
from ssl_colorize.models.objectives import TrainingStatistics
from ssl_colorize.models.pretrained import WEIGHTS_NAME
from ssl_colorize.pretrain.config import Recipe
from ssl_colorize.pretrain.holdout import evaluate, in_words
from ssl_colorize.pretrain.photos import KIND, recipe_photos
from ssl_colorize.pretrain.pretext import Pretext
from ssl_colorize.pretrain.stages import Stage, changed_lengths, plan, stage_after
from ssl_colorize.pretrain.start import begin, make_network
from ssl_colorize.runs import write_config, write_metrics

# With Muon, biases, BatchNorm, the first convolution and the logits stay with AdamW, at this share of the rate.
_ADAM_SHARE = 0.3


# Figures by the names of the log, and lines for the user.
Watched = tuple[Mapping[str, float | None], list[str]]


class Watch(Protocol):
    """What measures the features of a network while it learns; its state goes into checkpoints."""

    state: dict[str, Any]

    def begin(self, model: ColorizationModel, trained_on: Photos, state: Mapping[str, Any] | None) -> list[str]:
        """Before the first step of a sitting; returns lines for the user."""

    def __call__(self, model: ColorizationModel, *, seconds: float, always: bool) -> Watched:
        """Figures by the names of the log, and lines; none if they would take too much of the run's `seconds`."""


def train(
    recipe: Recipe,
    folder: Path,
    *,
    resume: bool = False,
    pretext: type[Pretext] = Pretext,
    watch: Watch | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Pretrain by a recipe into a run folder, on the CPU, a GPU, or several processes under torchrun.

    Args:
        recipe: what to do.
        folder: gets config.yaml, metrics.jsonl, TensorBoard events, checkpoint.pt, model.safetensors, metrics.json.
        resume: go on from the folder's checkpoint, on a CPU exactly as if the run had never stopped.
        pretext: what the network learns, if not colors (benchmarks/pretexts.py).
        watch: measures its features as it learns (`ssl_colorize.evaluate.watching`, which this room does not know).

    Returns:
        The content of metrics.json, whose "metrics" are those of the held-out photos; empty but in the first process.

    Raises:
        UserError: the recipe, the photos or the folder cannot be used, or training blew up.
        Interrupted: after SIGINT or SIGTERM, with everything saved.
    """
    with training_session(recipe.device, folder, command=KIND) as session:
        run = Pretraining(recipe, session, pretext, resume=resume, watch=watch)
        with RunLog(folder, run.start, quiet=not session.group.first) as log:
            for stage in run.stages:
                if stage.ends > run.start or stage is run.stages[-1]:
                    train_stage(run, stage, log)
        return run.finish() if session.group.first else {}


def train_stage(run: "Pretraining", stage: Stage, log: RunLog) -> None:
    """Train from where the run is to the end of a stage."""
    recipe, session, start = stage.recipe, run.session, max(run.start, stage.begins)
    part = f"stage {stage.number} (of 0 to {len(run.stages) - 1})" if len(run.stages) > 1 else ""
    progress = TrainingProgress(start, stage.ends, recipe.batch_size, part=part, quiet=not session.group.first)
    while run.notes:
        progress.say(run.notes.pop(0))

    def evaluate_held_out(step: int) -> dict[str, float | None]:
        figures = run.evaluate(step)
        if figures:
            progress.say(f"held out at step {step}: {in_words(figures)}")
        watched, lines = run.watched(step)
        for line in lines:
            progress.say(line)
        return {f"holdout_{name}": value for name, value in figures.items()} | dict(watched)

    fit(
        GradientStep(
            run.network, run.optimizer, run.loss, learning_rate=stage.learning_rate, seed=recipe.seed,
            rank=session.group.rank, clip=recipe.clip, ema=run.ema,
        ),
        run.batches(start, stage.ends, session.group),
        start=start, steps=stage.ends, learning_rate=stage.learning_rate,
        session=session, log=log, progress=progress,
        save=run.save, save_every=recipe.checkpoint_every,
        evaluate=evaluate_held_out,
        evaluate_at=lambda step: step % recipe.evaluate_every == 0 or step == stage.ends,
        columns=lambda step: {"stage": stage.number} if part else {},
    )  # fmt: skip


class Pretraining:
    """A pretraining run in one process: everything that its loop needs."""

    def __init__(
        self,
        recipe: Recipe,
        session: Session,
        pretext: type[Pretext],
        *,
        resume: bool,
        watch: Watch | None = None,
    ) -> None:
        self.recipe, self.session = recipe, session
        self.watch = watch if session.group.first else None
        device, group = session.device, session.group

        # Photos. Which of them are held out does not depend on the seed, and stays so when a run goes on.
        saved = self._saved() if resume else None
        known = None if saved is None else saved.extra.get("photos")
        self.photos, self.held_out = recipe_photos(recipe, known)
        self.fingerprint = announce(train=self.photos, held_out=self.held_out).fingerprint
        self.notes: list[str] = []
        if saved is not None:
            self.notes += resumed(known, self.fingerprint, allowed=recipe.data_changed == "allow")
        self.unreadable = UnreadableLog(session.folder, len(self.photos), rank=group.rank, append=resume)
        self.stages = plan(recipe, len(self.photos))
        if saved is not None and saved.step >= self.stages[-1].ends and "photos" in saved.extra and self.notes:
            raise UserError(
                f"{session.folder} is finished, and learned from other photos than there are now: train on these in a "
                f"run of their own, which may begin with its weights (--set start={session.folder})."
            )
        for stage in self.stages:
            session.share_of(stage.recipe.batch_size)

        # The network, initialized on the first photos unless it was saved, and what it is trained for.
        self.pretext = pretext(recipe, self.photos, self.held_out)
        self.model: ColorizationModel = make_network(self.pretext).to(device).to(memory_format=torch.channels_last)
        state = saved or self._begun()
        self.start = state.step
        self.notes += [note for note in (state.extra.get("note"),) if note is not None]
        self._note_changes(state)
        self.figures: dict[str, float | None] = state.extra["figures"]
        session.seconds_before = state.seconds
        self.statistics = TrainingStatistics(**state.extra["statistics"]).to(device)
        self.objective = self.pretext.make_objective(self.statistics, stride=self.model.target_stride)

        # What works on the network: its average, the other processes, the optimizer.
        self.ema = ModelEmaV3(self.model, decay=recipe.ema, use_warmup=True) if recipe.ema else None
        self.network = distribute(self.model, group, device.type)
        if recipe.compile:
            self.network = torch.compile(self.network)  # type: ignore[assignment]
        self.optimizer = recipe_optimizer(recipe, self.model)
        average = self.ema.module if self.ema is not None else None
        restore(state, session.folder, model=self.model, optimizer=self.optimizer, ema=average)
        self.autocast = choose_autocast(recipe.precision, device)
        if self.watch is not None:
            self.notes += self.watch.begin(self.evaluated, self.photos, state.extra.get("watched"))

    def _begun(self) -> Checkpoint:
        """The state before the first step."""
        # Every process counts the same photos, so that all have the same prior and the same initial network.
        batch_size = self.stages[0].recipe.batch_size
        first = self.batches(0, math.ceil(self.recipe.prior_photos / batch_size), Processes())
        statistics, note = begin(self.pretext, self.model, first, device=self.session.device)
        if self.session.group.first:
            self.recipe = self.recipe.model_copy(update={"history": ()})
            write_config(self.session.folder, self.recipe)
        kept = {"statistics": vars(statistics), "figures": {}, "stages": self.lengths, "note": note}
        return Checkpoint(KIND, 0, extra=kept)

    @property
    def lengths(self) -> list[int]:
        """The steps of each stage."""
        return [stage.steps for stage in self.stages]

    def _saved(self) -> Checkpoint:
        """The state that the folder's checkpoint has."""
        kept = ("statistics", "figures")
        return load_checkpoint(self.session.folder, KIND, extra=kept, from_format_1=from_format_1)

    def _note_changes(self, state: Checkpoint) -> None:
        """Record how the lengths of stages are no longer those that the run had, in its history and in words."""
        folder = self.session.folder
        before = state.extra.get("stages")
        if before is None:
            # Checkpoints of earlier versions do not say, but the weights beside them do.
            before = [load_pretrained(folder).training["steps"]]
        change = changed_lengths(before, self.stages, state.step)
        if change is not None:
            self.notes.append(f"Changed {change}; config.yaml says so under history.")
            self.recipe = self.recipe.model_copy(update={"history": (*self.recipe.history, change)})
            if self.session.group.first:
                write_config(folder, self.recipe)

    def batches(self, start: int, stop: int, group: Processes) -> Iterator[Batch]:
        """A process's photos, (B, 3, crop, crop) uint8 each time, of the steps from `start` to before `stop`.

        All are as in the stage of the first of them.
        """
        stage = stage_after(self.stages, start + 1)
        recipe = stage.recipe
        batches = training_batches(
            self.photos, resize=recipe.resize, crop=recipe.crop, batch_size=recipe.batch_size, seed=recipe.seed,
            start=start - stage.begins, steps=stop - stage.begins, workers=recipe.workers, before=stage.seen,
            keep=recipe.photo_memory,
            rank=group.rank, world_size=group.world_size,
        )  # fmt: skip
        for batch in batches:
            self.unreadable.add(batch.unreadable, read=len(batch.photos))
            yield batch

    def examples(self, batch: Batch, *, training: bool) -> Any:
        """What a batch of photos asks the network, on the device."""
        photos = batch.photos.to(self.session.device, non_blocking=True)
        return self.pretext.examples(self.objective, batch._replace(photos=photos), training=training)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """The trained objective as "loss", and what is logged beside it."""
        examples = self.examples(batch, training=True)
        light, *more = examples.inputs
        light = augment(light, jitter=self.recipe.jitter, blur=self.recipe.blur)
        with self.autocast():
            output = self.network(light.to(memory_format=torch.channels_last), *more)
        return self.objective.losses(output, examples)

    @property
    def evaluated(self) -> ColorizationModel:
        """The network that is evaluated and shipped: the average of the weights where there is one."""
        model: ColorizationModel = self.ema.module if self.ema is not None else self.model
        return model

    def evaluate(self, step: int) -> dict[str, float | None]:
        """Figures on the held-out photos after a step, in the first process; the others wait in their next step.

        They are of photos at the size of the stage; of several stages, those at the recipe's own size follow as
        "common_...": they compare over the stages.
        """
        if not self.session.group.first:
            return {}
        own = stage_after(self.stages, step).recipe
        self.figures = self._figures(own)
        if len(self.stages) > 1:
            same = (own.evaluation_size, own.crop) == (self.recipe.evaluation_size, self.recipe.crop)
            common = self.figures if same else self._figures(self.recipe)
            self.figures = self.figures | {f"common_{name}": value for name, value in common.items()}
        return self.figures

    def watched(self, step: int) -> Watched:
        """Figures of the features after a step, if they are watched and there is time, and lines for the user."""
        if self.watch is None:
            return {}, []
        return self.watch(self.evaluated, seconds=self.session.seconds, always=step == self.stages[-1].ends)

    def _figures(self, recipe: Recipe) -> dict[str, float | None]:
        """Figures on the held-out photos at the size of a recipe."""
        batches = holdout_batches(
            self.held_out, resize=recipe.evaluation_size, crop=recipe.crop, batch_size=recipe.batch_size,
            workers=recipe.workers,
        )  # fmt: skip
        examples = (self.examples(batch, training=False) for batch in batches)
        return evaluate(self.evaluated, examples, self.objective, autocast=self.autocast)

    def save(self, step: int) -> None:
        """Write checkpoint.pt, to go on from, and model.safetensors, to use; in the first process.

        Raises:
            UserError: a weight is not finite, or the files cannot be written; what was saved before is untouched.
        """
        refuse_broken(self.model.parameters(), step, self.session)
        if not self.session.group.first:
            return
        statistics = vars(self.statistics.to(torch.device("cpu")))
        checkpoint = Checkpoint(
            KIND, step, self.model.state_dict(), self.optimizer.state_dict(),
            self.ema.module.state_dict() if self.ema is not None else None, self.session.seconds,
            {
                "statistics": statistics, "figures": self.figures, "stages": self.lengths,
                "photos": self.fingerprint.stored(), "watched": None if self.watch is None else self.watch.state,
            },
        )  # fmt: skip
        save_checkpoint(checkpoint, self.session.folder)
        save_pretrained(self.pretext.shipped(self.pretrained(step)), self.session.folder / WEIGHTS_NAME)

    def pretrained(self, step: int) -> Pretrained:
        """The network after a step, with the record of its training."""
        recipe, stage = self.recipe, stage_after(self.stages, step)
        return Pretrained(
            model=self.evaluated,
            prior=self.statistics.prior,
            mix=recipe.mix if recipe.rebalance else None,
            temperature=recipe.temperature,
            input_size=stage.recipe.input_size or stage.recipe.evaluation_size,
            objective=recipe.objective,
            training={
                "step": step,
                "steps": self.stages[-1].ends,
                "photos_seen": stage.photos_seen(step),
                "seconds": round(self.session.seconds, 1),
                "holdout": self.figures,
                "recipe": recipe.model_dump(mode="json"),
            },
        )

    def finish(self) -> dict[str, Any]:
        """Write metrics.json."""
        recipe, seconds, last = self.recipe, self.session.seconds, self.stages[-1]
        seen = last.photos_seen(last.ends)
        metrics = self.figures | {"photos_per_second": round(seen / seconds, 2), "photos_seen": seen}
        return write_metrics(
            self.session.folder, command=self.pretext.command, metrics=metrics, config=recipe.model_dump(mode="json"),
            seed=recipe.seed, seconds=seconds,
        )  # fmt: skip


def recipe_optimizer(recipe: Recipe, model: nn.Module) -> torch.optim.Optimizer:
    """The recipe's, over the weights that are not frozen.

    For Muon the logits are a group apart, whose rows are bins and no directions to keep.
    """
    trained = {name: weights for name, weights in model.named_parameters() if weights.requires_grad}
    groups: list[dict[str, Any]] = [{"params": list(trained.values())}]
    if recipe.optimizer == "muon":
        logits = [weights for name, weights in trained.items() if name.startswith("logits")]
        body = [weights for name, weights in trained.items() if not name.startswith("logits")]
        groups = [{"params": body}, {"params": logits, "use_fallback": True}]
    return make_optimizer(
        recipe.optimizer, groups, learning_rate=recipe.learning_rate, weight_decay=recipe.weight_decay,
        betas=recipe.betas, momentum=recipe.momentum, fallback_share=_ADAM_SHARE,
    )  # fmt: skip


def from_format_1(content: dict[str, Any]) -> dict[str, Any]:
    """What was in a checkpoint before it had a format number, as keywords of `Checkpoint`."""
    same = {name: content[name] for name in ("step", "model", "optimizer", "ema", "seconds")}
    # It must be these statistics, or the run would fail later.
    statistics = vars(TrainingStatistics(**content["statistics"]))
    return {**same, "extra": {"statistics": statistics, "figures": content["figures"]}}


_BLUR = (0.3, 1.5)  # of a blurred photo's Gaussian, in pixels
_TRUNCATE = 4  # a Gaussian reaches so many sigma, as SciPy's does


def augment(light: Tensor, *, jitter: float, blur: float) -> Tensor:
    """Lightness as of another exposure, and of a worse lens. What is random comes from torch's global generator.

    Args:
        light: (B, 1, H, W) in 0..100.
        jitter: share by which contrast changes at most, and half of 100 by which brightness does; a draw a photo.
        blur: share of the photos that are blurred.

    Returns:
        (B, 1, H, W) in 0..100.
    """
    if jitter:
        contrast, brightness = (2 * torch.rand(2, len(light), 1, 1, 1, device=light.device) - 1) * jitter
        light = (50 + 50 * brightness + (1 + contrast) * (light - 50)).clamp(0, 100)
    if blur:
        low, high = _BLUR
        sigmas = low + (high - low) * torch.rand(len(light), device=light.device)
        chosen = torch.rand(len(light), device=light.device) < blur
        light = torch.where(chosen.view(-1, 1, 1, 1), gaussian_blur(light, sigmas), light)
    return light


def gaussian_blur(light: Tensor, sigmas: Tensor) -> Tensor:
    """Each photo blurred by its own Gaussian: (B, 1, H, W) and sigmas (B,) in pixels, at most 1.5; edges repeat."""
    reach = round(_TRUNCATE * _BLUR[1])
    cells = torch.arange(-reach, reach + 1, device=light.device)
    kernels = (-0.5 * (cells / sigmas[:, None]) ** 2).exp()
    kernels = kernels / kernels.sum(1, keepdim=True)
    # A photo a group, first down, then across.
    rows = functional.pad(light.transpose(0, 1), (reach,) * 4, mode="replicate")
    rows = functional.conv2d(rows, kernels.view(-1, 1, 2 * reach + 1, 1), groups=len(light))
    return functional.conv2d(rows, kernels.view(-1, 1, 1, 2 * reach + 1), groups=len(light)).transpose(0, 1)
