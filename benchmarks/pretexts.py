"""Is it the color? Other pretexts on the trunk, the photos and the budget of a colorization run.

    python benchmarks/pretexts.py rotation    --like RUN -o runs/rotation
    python benchmarks/pretexts.py autoencoder --like RUN -o runs/autoencoder
    python benchmarks/pretexts.py supervised  --like RUN -o runs/supervised
    python benchmarks/pretexts.py hypercolumn --like RUN -o runs/hypercolumn
    python benchmarks/pretexts.py rotation    --resume runs/rotation

RUN is a run of `ssl-colorize pretrain`. Its config.yaml says everything: photos, crops and their order, network,
initialization, optimizer, steps, seed; `--set key=value` changes any of it. All see lightness only, as
colorization does.

- rotation (Gidaris et al. 2018): by how many quarter turns was the crop turned? Each crop is turned once, at random,
  where Gidaris shows all four of each: photos seen and compute then are those of the colorization run.
- autoencoder: lightness from lightness, by the network that colors, with one output: the L of every pixel that
  colorization predicts ab for (eccv16: every fourth, down and across), by mean squared error. In numbers there is no
  bottleneck: eccv16's trunk ends in 512 x width channels at stride 8, and is asked for 4 numbers in each such cell. It
  tells what the network and the photos alone give.
- supervised: the names of the class folders, all of them over all `data`; folders of one name are one class. The
  ceiling for the same photos, not a pretext.
- hypercolumn: colors themselves, the question of RUN, but the answer reads the maps of all layers (as Larsson et al.
  2016 do, here each reduced to 128 channels and summed) in place of the decoder on the last. No other pretext, but
  another head: do features get better where early layers may answer too? Kept as an encoder like the others.

Rotation and supervised read a linear layer off the mean over the trunk's last map, in place of the decoder.

Each writes a run folder that every verb takes as `--encoder`. metrics.json has the figures of the held-out photos, each
beside that of the best constant answer: `accuracy` (rotation, every photo in all four turns), `top1` (supervised),
`error` (autoencoder, mean absolute, in units of L), and what a colorization run has (hypercolumn).
"""

import shlex
import sys
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Self

import click
import torch
from pydantic import model_validator
from records import run_command
from torch import Tensor, nn
from torch.nn import functional

from ssl_colorize.cli.flags import settings_options
from ssl_colorize.cli.pretrain import FREE_TO_CHANGE
from ssl_colorize.cli.run import Invocation, finish
from ssl_colorize.color import rgb_to_lightness
from ssl_colorize.data import Batch, Photos
from ssl_colorize.data.photos import PhotoFiles
from ssl_colorize.engine.checkpoint import CHECKPOINT_NAME
from ssl_colorize.engine.signals import Interrupted
from ssl_colorize.errors import UserError
from ssl_colorize.models import ColorizationModel, Pretrained, create_model
from ssl_colorize.models.backbone import FUSED, HypercolumnHead, parameters_behind
from ssl_colorize.models.objectives import BestConstant, Objective, TrainingStatistics
from ssl_colorize.models.pretrained import WEIGHTS_NAME
from ssl_colorize.models.registry import is_model, model_type
from ssl_colorize.pretrain.config import Recipe
from ssl_colorize.pretrain.loop import train
from ssl_colorize.pretrain.pretext import Pretext
from ssl_colorize.pretrain.start import CONSTANT_FLOOR
from ssl_colorize.report.plots import loss_curve
from ssl_colorize.report.tables import figures_table

TURNS = 4
# The autoencoder's targets are lightness over this, so that its outputs are of order one.
L_SCALE = 100.0


class PretextRecipe(Recipe):
    """A colorization run's recipe for another pretext. What it says of colors has an effect on `hypercolumn` only."""

    pretext: Literal["rotation", "autoencoder", "supervised", "hypercolumn"]

    @model_validator(mode="after")
    def _from_scratch(self) -> Self:
        if is_model(self.model) and "class" not in model_type(self.model).objectives:
            raise ValueError(f"{self.model} is a colorizer through and through: choose a run of another network")
        if self.direction == "ab-to-L":
            raise ValueError("a pretext sees lightness: choose a run of direction L-to-ab")
        if self.start is not None or self.trunk != "scratch":
            raise ValueError("a pretext says what it teaches from scratch only: set start=null and trunk=scratch")
        return self


# ---- the questions ---------------------------------------------------------------------------------------------------


class Question(NamedTuple):
    """A batch on the training device.

    Attributes:
        light: (B, 1, H, W) float32 in 0..100.
        answers: (B,) int64 classes, or (B, 1, h, w) float32 lightness over `L_SCALE`.
    """

    light: Tensor
    answers: Tensor

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        return (self.light,)


class Classes(Objective):
    """Cross-entropy over a few answers, (B, C) logits; `statistics.constant` is how common each is, (C,)."""

    figure: ClassVar[str]

    @property
    def output_bias(self) -> Tensor:
        return self.statistics.constant.log()

    def losses(self, output: Tensor, examples: Question) -> dict[str, Tensor]:
        return {"loss": functional.cross_entropy(output.float(), examples.answers)}

    def sums(self, output: Tensor, examples: Question) -> dict[str, Tensor | int]:
        answers, constant = examples.answers, self.output_bias.expand_as(output)
        return {
            "count": len(answers),
            "loss": functional.cross_entropy(output.float(), answers, reduction="sum"),
            "loss_constant": functional.cross_entropy(constant, answers, reduction="sum"),
            self.figure: (output.argmax(1) == answers).sum(),
            f"{self.figure}_constant": (constant.argmax(1) == answers).sum(),
        }


class Rotation(Classes):
    """Quarter turns, counted against the clock."""

    figure = "accuracy"

    def examples(self, photos: Tensor, *, training: bool) -> Question:
        light = rgb_to_lightness(photos)
        if training:
            turns = torch.randint(TURNS, (len(light),)).to(light.device)
        else:
            # Nothing random: every photo in every turn.
            turns = torch.arange(TURNS, device=light.device).repeat(len(light))
            light = light.repeat_interleave(TURNS, dim=0)
        return Question(turned(light, turns), turns)


def turned(maps: Tensor, turns: Tensor) -> Tensor:
    """Square maps (B, C, S, S), each turned by its number (B,) of quarters against the clock."""
    result = torch.empty_like(maps)
    for number in range(TURNS):
        these = turns == number
        result[these] = maps[these].rot90(number, (2, 3))
    return result


class Labels(Classes):
    """Classes that follow from the photos' names, not from their pixels: the run fills the answers in."""

    figure = "top1"

    def examples(self, photos: Tensor, *, training: bool) -> Question:
        return Question(rgb_to_lightness(photos), torch.empty(0, dtype=torch.int64))


class Copy(Objective):
    """Lightness itself, (B, 1, h, w) at the network's stride, as colorization predicts ab."""

    @property
    def output_bias(self) -> Tensor:
        return self.statistics.constant

    def examples(self, photos: Tensor, *, training: bool) -> Question:
        light = rgb_to_lightness(photos)
        return Question(light, light[..., :: self.stride, :: self.stride] / L_SCALE)

    def losses(self, output: Tensor, examples: Question) -> dict[str, Tensor]:
        return {"loss": functional.mse_loss(output.float(), examples.answers)}

    def sums(self, output: Tensor, examples: Question) -> dict[str, Tensor | int]:
        sums: dict[str, Tensor | int] = {"count": examples.answers.numel()}
        flat = self.output_bias.view(1, 1, 1, 1)
        for suffix, off in (("", output.float() - examples.answers), ("_constant", flat - examples.answers)):
            sums |= {f"loss{suffix}": off.square().sum(), f"error{suffix}": L_SCALE * off.abs().sum()}
        return sums


class Known:
    """A best constant that no photo needs to be looked at for."""

    def __init__(self, constant: Tensor) -> None:
        self._constant = constant

    def update(self, photos: Tensor) -> None:
        pass

    def result(self) -> Tensor:
        return self._constant


class MeanLightness:
    """The mean L of the photos over `L_SCALE`, (1,) float32."""

    def __init__(self) -> None:
        self._sum, self._count = 0.0, 0

    def update(self, photos: Tensor) -> None:
        light = rgb_to_lightness(photos)
        self._sum += float(light.double().sum())
        self._count += light.numel()

    def result(self) -> Tensor:
        return torch.tensor([self._sum / self._count / L_SCALE])


# ---- the network -----------------------------------------------------------------------------------------------------


class OtherHead(ColorizationModel):
    """L (B, 1, H, W) in 0..100 -> logits by a head that stands in for a network's decoder.

    Attributes:
        network: whose trunk it is. Its decoder stands idle, without gradients.
    """

    def __init__(self, network: ColorizationModel, *, outputs: int) -> None:
        super().__init__(width=network.width, outputs=outputs)
        self.name, self.target_stride, self.multiple = network.name, network.target_stride, network.multiple
        self.network = network
        self.make_head()
        # Several processes would wait for the gradients of what the logits do not depend on.
        used = {id(parameter) for parameter in parameters_behind(self._answer_to_nothing(), set())}
        for parameter in self.parameters():
            parameter.requires_grad_(id(parameter) in used)

    @abstractmethod
    def make_head(self) -> None:
        """Say in `feature_info` which layers are read, and make what reads them, `logits` last."""

    @abstractmethod
    def answer(self, maps: dict[str, Tensor], size: tuple[int, int]) -> Tensor:
        """Logits from the maps of the layers that are read, of photos of some height and width."""

    def _answer_to_nothing(self) -> Tensor:
        answer: Tensor = self.eval()(torch.zeros(1, 1, self.multiple, self.multiple))
        self.train()
        return answer

    @property
    def own_init(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("network",) if self.network.own_init else ()

    def stages(self, lightness: Tensor) -> Iterator[tuple[str, Tensor]]:
        maps = self.network.forward_features(lightness, self.layers)
        yield from maps.items()
        height, width = lightness.shape[2:]
        yield "logits", self.answer(maps, (height, width))


class PooledTrunk(OtherHead):
    """Logits (B, outputs), a linear layer on the mean over the trunk's last map."""

    def make_head(self) -> None:
        self.feature_info = self.network.feature_info[-1:]
        self.logits = nn.Conv2d(self.feature_info[0]["num_chs"], self.outputs, 1)

    def answer(self, maps: dict[str, Tensor], size: tuple[int, int]) -> Tensor:
        (features,) = maps.values()
        logits: Tensor = self.logits(features.float().mean((2, 3), keepdim=True)).flatten(1)
        return logits


class Hypercolumns(OtherHead):
    """Logits (B, outputs, H/stride, W/stride), a hypercolumn of all layers; for networks whose layers are maps."""

    def make_head(self) -> None:
        self.feature_info = self.network.feature_info
        self.head = HypercolumnHead([info["num_chs"] for info in self.feature_info])
        self.logits = nn.Conv2d(FUSED, self.outputs, 1)

    def answer(self, maps: dict[str, Tensor], size: tuple[int, int]) -> Tensor:
        height, width = (side // self.target_stride for side in size)
        logits: Tensor = self.logits(self.head([maps[layer] for layer in self.layers], (height, width)))
        return logits


# ---- the pretexts ----------------------------------------------------------------------------------------------------


class FeaturePretext(Pretext):
    """A pretext whose network learns something else than colors, and is kept as an encoder."""

    command = shlex.join(["python", *sys.argv])
    objective_type: ClassVar[type[Objective]]

    def plain_model(self) -> ColorizationModel:
        """The colorization network whose trunk learns, with one output."""
        return create_model(self.recipe.model, width=self.recipe.width, outputs=1)

    def make_objective(self, statistics: TrainingStatistics, *, stride: int) -> Objective:
        return self.objective_type(statistics, stride=stride)

    def shipped(self, trained: Pretrained) -> Pretrained:
        model = trained.model.network if isinstance(trained.model, OtherHead) else trained.model
        return replace(trained, model=model, prior=None, mix=None, objective="features")


class AutoencoderPretext(FeaturePretext):
    objective_type = Copy

    def make_model(self) -> ColorizationModel:
        return self.plain_model()

    def best_constant(self) -> BestConstant:
        return MeanLightness()


class RotationPretext(FeaturePretext):
    objective_type = Rotation

    def make_model(self) -> ColorizationModel:
        return PooledTrunk(self.plain_model(), outputs=TURNS)

    def best_constant(self) -> BestConstant:
        return Known(torch.full((TURNS,), 1 / TURNS))


class SupervisedPretext(FeaturePretext):
    objective_type = Labels

    def __init__(self, recipe: Recipe, photos: Photos, held_out: Photos) -> None:
        super().__init__(recipe, photos, held_out)
        names = [class_folders(part) for part in (photos, held_out)]
        self.classes = sorted({name for each in names for name in each})
        if len(self.classes) < 2:
            raise UserError(f"All photos are of the class {self.classes[0]}: classifying takes at least 2.")
        numbers = {name: number for number, name in enumerate(self.classes)}
        self.labels, self.held_out_labels = (torch.tensor([numbers[name] for name in each]) for each in names)

    def make_model(self) -> ColorizationModel:
        return PooledTrunk(self.plain_model(), outputs=len(self.classes))

    def best_constant(self) -> BestConstant:
        shares = torch.bincount(self.labels, minlength=len(self.classes)) / len(self.labels)
        # A class that is held out only must not cost the constant infinitely much.
        return Known((1 - CONSTANT_FLOOR) * shares + CONSTANT_FLOOR / len(shares))

    def examples(self, objective: Objective, batch: Batch, *, training: bool) -> Question:
        question: Question = super().examples(objective, batch, training=training)
        labels = self.labels if training else self.held_out_labels
        return question._replace(answers=labels[batch.indices].to(question.light.device))


class HypercolumnPretext(FeaturePretext):
    """Colors, by another head."""

    def make_model(self) -> ColorizationModel:
        return Hypercolumns(self.plain_model(), outputs=self.recipe.outputs)

    def make_objective(self, statistics: TrainingStatistics, *, stride: int) -> Objective:
        return Pretext.make_objective(self, statistics, stride=stride)


def class_folders(photos: Photos) -> list[str]:
    """The class of each photo: the first folder of its name, or the first below `train/`.

    Raises:
        UserError: a photo lies in no class folder.
    """
    return [_class_folder(photos.name(index), photos) for index in range(len(photos))]


def _class_folder(name: str, photos: Photos) -> str:
    *folders, _ = name.split("/")
    if "train" in folders:
        folders = folders[folders.index("train") + 1 :]
    if not folders or not isinstance(photos, PhotoFiles):
        raise UserError(f"The photo {name} is in no class folder: supervised takes folders with one folder a class.")
    return folders[0]


PRETEXTS: dict[str, type[FeaturePretext]] = {
    "rotation": RotationPretext,
    "autoencoder": AutoencoderPretext,
    "supervised": SupervisedPretext,
    "hypercolumn": HypercolumnPretext,
}


@click.command()
@click.argument("pretext", type=click.Choice(list(PRETEXTS)))
@click.option("--like", type=click.Path(path_type=Path, file_okay=False), metavar="RUN", help="The run to be like.")
@settings_options(PretextRecipe, resume=True)
def main(invocation: Invocation[PretextRecipe], like: Path | None) -> None:
    """Train the network of a colorization run on another pretext. Ctrl-C saves before it stops."""
    if (like is None) == (invocation.resume is None) or invocation.config is not None:
        raise click.UsageError("Give --like RUN to begin, with --out; or --resume RUN alone to go on.")
    if like is not None:
        invocation = replace(invocation, config=like / "config.yaml")
    recipe = invocation.settings(free=FREE_TO_CHANGE)
    with invocation.running(recipe.pretext, recipe, taken=(CHECKPOINT_NAME, WEIGHTS_NAME)) as run:
        try:
            content = train(recipe, run.folder, resume=invocation.resume is not None, pretext=PRETEXTS[recipe.pretext])
        except Interrupted as stopped:
            again = f"python benchmarks/pretexts.py {recipe.pretext} --resume {run.folder}"
            click.echo(f"Stopped; saved. Go on with: {again}", err=True)
            sys.exit(128 + stopped.signum)
    if content:
        report(content, run.folder, as_json=invocation.as_json)


def report(content: dict[str, Any], folder: Path, *, as_json: bool) -> None:
    """Draw the curve, print the figures, and say what comes next."""
    loss_curve(folder)
    finish(
        content,
        figures_table(content["metrics"], title=f"On held-out photos, {folder}"),
        next_step=f"ssl-colorize linear-probe --encoder {folder} --data FOLDER",
        as_json=as_json,
    )


if __name__ == "__main__":
    run_command(main)
