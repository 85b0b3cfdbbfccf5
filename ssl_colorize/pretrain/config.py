"""The recipe of a pretraining run. Its defaults are the quickstart; `configs/` holds others."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import (
    Field,
    PositiveFloat,
    PositiveInt,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)  # fmt: skip

from ssl_colorize.config import (
    BatchSize,
    DataChanged,
    DeviceName,
    Limit,
    OneOrMany,
    Precision,
    Range,
    Seed,
    Share,
    StepsOrEpochs,
    TrainingSource,
    Workers,
)  # fmt: skip
from ssl_colorize.errors import UserError

if TYPE_CHECKING:
    from ssl_colorize.models import ColorizationModel, Objective

Positive = PositiveFloat


ScheduleName = Literal["cosine", "steps", "wsd"]
Milestones = tuple[tuple[PositiveInt, Positive], ...]


class StageSettings(StepsOrEpochs):
    """What one stage of a run does otherwise than the rest of the recipe says; None is as there."""

    resize: Range[PositiveInt] | None = None
    crop: PositiveInt | None = None
    input_size: PositiveInt | None = None
    batch_size: BatchSize | None = None
    learning_rate: Positive | None = None
    schedule: ScheduleName | None = None
    milestones: Milestones | None = None
    decay: Share | None = None
    warmup: Annotated[int, Field(ge=0)] | None = None
    workers: Workers | None = None
    evaluate_every: PositiveInt | None = None
    checkpoint_every: PositiveInt | None = None

    @model_serializer(mode="wrap")
    def _own(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in dump(self).items() if value is not None}


class Recipe(StepsOrEpochs, TrainingSource):
    """Everything that decides a pretraining run. Lengths are in pixels, times in optimizer steps.

    A run goes through its `stages` one after the other, each of which changes the rest of the recipe by settings of its
    own: the network, the optimizer's state and the average of the weights go along. Without stages it is one itself.
    With stages, `resize` and `crop` are the size at which figures on held-out photos compare over all of them.
    """

    # Photos
    data: OneOrMany[str] = Field(
        ("samples",),
        description="a folder of photos, a list, a torchvision data set (cifar10, stl10, imagenette, ...) or samples",
    )
    limit: Limit = None
    exclude: str | None = Field(None, description="a file of names of photos to leave out, one a line")
    resize: Range[PositiveInt] = Field((96, 192), description="short side: random between these")
    crop: PositiveInt = Field(64, description="side of the random crop that the network sees")
    input_size: PositiveInt | None = Field(
        None, description="short side at which the trained network is shown photos; the middle of resize if not given"
    )
    jitter: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="share by which the lightness that the network sees changes in contrast and brightness"
    )
    blur: Annotated[float, Field(ge=0, le=1)] = Field(0.0, description="share of photos that the network sees blurred")
    holdout: Share = Field(0.05, description="share of the photos held out")
    holdout_photos: PositiveInt = Field(512, description="held-out photos at most")

    # Network
    model: str = Field("eccv16", description="eccv16, alexnet, dahl, larsson or timm:NAME")
    direction: Literal["L-to-ab", "ab-to-L"] = Field(
        "L-to-ab", description="from what to what; ab-to-L predicts 100 bins of lightness, and colors no photos"
    )
    width: Positive = Field(0.25, description="factor on the width of every layer")
    init: Literal["kmeans", "lsuv", "plain"] = "kmeans"
    start: str | None = Field(None, description="a run or weights file to start from, in place of init")
    trunk: Literal["scratch", "imagenet"] = Field(
        "scratch",
        description="imagenet begins from published weights, which stay frozen where the network's authors had them so",
    )
    init_photos: PositiveInt = Field(64, description="photos that the initialization looks at")

    # Objective
    objective: str = Field(
        "class", description="class or l2; networks with an objective of their own bring it without being told"
    )
    rebalance: bool = True
    mix: Annotated[float, Field(ge=0, le=1)] = Field(0.5, description="share of the uniform distribution, lambda")
    neighbors: Annotated[int, Field(ge=1, le=313)] = 5
    sigma: Positive = Field(5.0, description="of the soft code, in ab units")
    smoothing: Annotated[float, Field(ge=0)] = Field(5.0, description="sigma of the prior's smoothing, in ab units")
    prior: str | None = Field(None, description="a prior.npy of `ssl-colorize prior`; counted by the run if not given")
    prior_photos: PositiveInt = Field(4096, description="training crops that the run counts its prior on")
    temperature: Annotated[float, Field(ge=0)] = Field(0.38, description="of the annealed mean, for decoding")

    # Optimization
    optimizer: Literal["adam", "muon", "sgd"] = Field("adam", description="muon: orthogonal steps, for small budgets")
    batch_size: BatchSize = Field(32, description="photos at a time, of all processes together")
    steps: PositiveInt | None = Field(250, description="optimizer steps")
    learning_rate: Positive = Field(1e-3, description="the highest one of the schedule")
    schedule: ScheduleName = Field("cosine", description="wsd: warm-up, stable, decay")
    milestones: Milestones = Field((), description="of schedule steps: [step, learning rate from there on]")
    decay: Share = Field(0.2, description="of schedule wsd: share of the steps, the last ones, in which the rate falls")
    warmup: Annotated[int, Field(ge=0)] = Field(50, description="steps of linear warm-up")
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.99)
    momentum: Annotated[float, Field(ge=0, lt=1)] = Field(0.9, description="of sgd")
    weight_decay: Annotated[float, Field(ge=0)] = Field(5.2e-7, description="coupled L2, but decoupled with muon")
    clip: Positive | None = Field(1.0, description="largest norm of the gradient")
    ema: Annotated[float, Field(gt=0, lt=1)] | None = Field(None, description="decay of an average of the weights")

    # The run
    seed: Seed = 0
    device: DeviceName = "auto"
    precision: Precision = "auto"
    compile: bool = False
    workers: Workers = 2
    photo_memory: Annotated[float, Field(ge=0)] = Field(
        512, description="MiB of decoded photos that stay in memory, of all workers together"
    )
    evaluate_every: PositiveInt = 50
    checkpoint_every: PositiveInt = 50
    watch: OneOrMany[str] = Field(
        (), description="labeled photos that features are watched on, of which only the part to train on is read"
    )
    watch_layers: tuple[str, ...] = Field((), description="layers to watch; three if none is named")
    watch_photos: PositiveInt = Field(2000, description="watched photos of each set at most")
    watch_share: Share = Field(0.03, description="share of the run's time that watching may take")
    stages: tuple[StageSettings, ...] = Field((), description="parts of the run, each with settings of its own")
    history: tuple[str, ...] = Field((), description="how the lengths of stages were changed; written by the run")
    data_changed: DataChanged = "refuse"

    @model_validator(mode="before")
    @classmethod
    def _own_settings(cls, values: Any) -> Any:
        """What follows from the model, unless told otherwise.

        A network with an objective of its own brings it along; some come in one width.
        """
        network = _network(values.get("model"), values.get("direction")) if isinstance(values, dict) else None
        if network is None:
            return values
        own: dict[str, Any] = {} if network.scalable else {"width": 1.0}
        objective = next(iter(network.objectives))
        if not network.objectives[objective].rebalances:
            own |= {"objective": objective, "rebalance": False}
        return own | values

    @model_validator(mode="before")
    @classmethod
    def _stages_have_the_steps(cls, values: Any) -> Any:
        return {"steps": None} | values if isinstance(values, dict) and values.get("stages") else values

    def lengths_are_inside(self) -> bool:
        return bool(self.stages)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.resize[0] < self.crop:
            raise ValueError(f"resize must be at least crop ({self.crop}), not {self.resize}")
        if (self.schedule == "steps") != bool(self.milestones):
            raise ValueError("milestones belong to schedule: steps, which needs them")
        if [step for step, _ in self.milestones] != sorted({step for step, _ in self.milestones}):
            raise ValueError("milestones must ascend")
        network = _network(self.model, self.direction)
        if network is not None:
            self._fits(network)
        elif _network(self.model) is not None:
            raise ValueError(f"model {self.model} has no direction {self.direction}: ab-to-L is for eccv16 and alexnet")
        if self.stages and (self.steps or self.epochs):
            raise ValueError("steps and epochs are each stage's own: stages.0.steps, and so on")
        for number, values in enumerate(self._stage_values()):
            try:
                type(self)(**values)
            except ValidationError as error:
                reason = error.errors()[0]["msg"].removeprefix("Value error, ")
                raise ValueError(f"stages.{number}: {reason}") from None
        return self

    def refuse_unused(self, asked: Collection[str]) -> None:
        # The recipe's own size is that of what compares over the stages.
        for key in set(asked) & set(StageSettings.model_fields) - {"resize", "crop", "input_size"}:
            if self.stages and all(getattr(stage, key) is not None for stage in self.stages):
                raise UserError(f"Setting {key} would have no effect: every stage has its own; set stages.0.{key}.")

    def _stage_values(self) -> list[dict[str, Any]]:
        rest = self.model_dump(exclude={"stages", "history", "steps", "epochs"})
        return [rest | stage.model_dump() for stage in self.stages]

    def in_stages(self) -> list[Self]:
        """The recipe of each stage, in turn: itself, if it has none."""
        return [type(self)(**values) for values in self._stage_values()] or [self]

    def _fits(self, network: type[ColorizationModel]) -> None:
        """Refuse what the network cannot be trained with."""
        from ssl_colorize.models.registry import models_with_imagenet

        if self.objective not in network.objectives:
            raise ValueError(
                f"model {self.model} cannot be trained with objective {self.objective}: "
                f"choose {' or '.join(network.objectives)}"
            )
        objective = network.objectives[self.objective]
        if network.direction == "ab-to-L" and (self.jitter or self.blur or self.rebalance):
            raise ValueError(
                "direction ab-to-L takes no jitter, blur or rebalance: set jitter=0, blur=0, rebalance=false"
            )
        if objective.decodes_light and (self.jitter or self.blur):
            raise ValueError(f"jitter and blur are not for {self.model}, whose colors depend on what it sees")
        if self.rebalance and not objective.rebalances:
            raise ValueError(f"rebalance belongs to the class objective: set rebalance to false for {self.objective}")
        if self.trunk == "imagenet" and not (network.has_imagenet and self.width == 1):
            raise ValueError(f"trunk imagenet is for {', '.join(models_with_imagenet())} at width 1")

    @property
    def objective_type(self) -> type[Objective]:
        """The objective itself.

        Raises:
            UserError: the model is unknown.
        """
        from ssl_colorize.models.registry import model_type

        return model_type(self.network).objectives[self.objective]

    @property
    def network(self) -> str:
        """What `create_model` calls the model in its direction."""
        from ssl_colorize.models.registry import directed

        return directed(self.model, self.direction) or self.model

    @property
    def outputs(self) -> int:
        """Output channels of the network."""
        return self.objective_type.outputs

    @property
    def evaluation_size(self) -> int:
        """Short side of held-out photos, of which the center is cropped: the middle of the training range."""
        return round(sum(self.resize) / 2)


def _network(name: Any, direction: Any = None) -> type[ColorizationModel] | None:
    """The network of a name, in a direction; None if there is none, which whoever makes it says better."""
    # torch takes a second to import, and defaults need none of it.
    from ssl_colorize.models.registry import directed, is_model, model_type

    if direction is not None:
        name = directed(name or Recipe.model_fields["model"].default, direction)
    return model_type(name) if isinstance(name, str) and is_model(name) else None
