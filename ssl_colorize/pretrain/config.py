"""The recipe of a pretraining run. Its defaults are the quickstart; `configs/` holds others."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from ssl_colorize.config import Settings

Positive = PositiveFloat

# Models that are trained by an objective of their own, of the same name, and the number of their outputs.
OWN_OBJECTIVES = {"dahl": 2, "larsson": 64}
# What names of timm's models begin with.
TIMM = "timm:"


class Recipe(Settings):
    """Everything that decides a pretraining run. Lengths are in pixels, times in optimizer steps."""

    # Photos
    data: tuple[str, ...] = Field(("samples",), min_length=1, description="folders, torchvision names, or samples")
    limit: PositiveInt | None = Field(None, description="use only so many photos")
    exclude: str | None = Field(None, description="a file of names of photos to leave out, one a line")
    resize: tuple[PositiveInt, PositiveInt] = Field((96, 192), description="short side: random between these")
    crop: PositiveInt = Field(64, description="side of the random crop that the network sees")
    input_size: PositiveInt | None = Field(
        None, description="short side at which the trained network is shown photos; the middle of resize if not given"
    )
    jitter: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="share by which the lightness that the network sees changes in contrast and brightness"
    )
    blur: Annotated[float, Field(ge=0, le=1)] = Field(0.0, description="share of photos that the network sees blurred")
    holdout: Annotated[float, Field(gt=0, lt=1)] = Field(0.05, description="share of the photos held out")
    holdout_photos: PositiveInt = Field(512, description="held-out photos at most")

    # Network
    model: str = "eccv16"
    width: Positive = Field(0.25, description="factor on every hidden width")
    init: Literal["kmeans", "lsuv", "plain"] = "kmeans"
    start: str | None = Field(None, description="a run or weights file to start from, in place of init")
    trunk: Literal["scratch", "imagenet"] = Field(
        "scratch",
        description="imagenet begins from published weights: timm's, or torchvision's VGG-16, which dahl freezes",
    )
    init_photos: PositiveInt = Field(64, description="photos that the initialization looks at")

    # Objective
    objective: Literal["class", "l2", "dahl", "larsson"] = Field(
        "class", description="dahl and larsson belong to the models of that name, and are theirs without being asked"
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
    batch_size: PositiveInt = Field(32, description="of all processes together")
    steps: PositiveInt | None = 250
    epochs: Positive | None = Field(None, description="in place of steps")
    learning_rate: Positive = 1e-3
    schedule: Literal["cosine", "steps"] = "cosine"
    milestones: tuple[tuple[PositiveInt, Positive], ...] = Field(
        (), description="of schedule steps: [step, learning rate from there on]"
    )
    warmup: Annotated[int, Field(ge=0)] = Field(50, description="steps of linear warm-up")
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.99)
    momentum: Annotated[float, Field(ge=0, lt=1)] = Field(0.9, description="of sgd")
    weight_decay: Annotated[float, Field(ge=0)] = Field(5.2e-7, description="coupled L2, but decoupled with muon")
    clip: Positive | None = Field(1.0, description="largest norm of the gradient")
    ema: Annotated[float, Field(gt=0, lt=1)] | None = Field(None, description="decay of an average of the weights")

    # The run
    seed: Annotated[int, Field(ge=0)] = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    compile: bool = False
    workers: Annotated[int, Field(ge=0)] = 2
    evaluate_every: PositiveInt = 50
    checkpoint_every: PositiveInt = 50

    @model_validator(mode="before")
    @classmethod
    def _own_settings(cls, values: Any) -> Any:
        """What follows from the model, unless told otherwise.

        One with an objective of its own brings it along, without class weights; timm's come in one width.
        """
        model = values.get("model") if isinstance(values, dict) else None
        if model in OWN_OBJECTIVES:
            return {"objective": model, "rebalance": False} | values
        if isinstance(model, str) and model.startswith(TIMM):
            return {"width": 1.0} | values
        return values

    @field_validator("data", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @field_validator("resize", mode="before")
    @classmethod
    def _fixed_or_range(cls, value: object) -> object:
        return (value, value) if isinstance(value, int) else value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.resize[0] > self.resize[1] or self.resize[0] < self.crop:
            raise ValueError(f"resize must be [low, high] with crop ({self.crop}) <= low <= high, not {self.resize}")
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give steps or epochs, not both (set the other to null)")
        if (self.schedule == "steps") != bool(self.milestones):
            raise ValueError("milestones belong to schedule: steps, which needs them")
        if [step for step, _ in self.milestones] != sorted({step for step, _ in self.milestones}):
            raise ValueError("milestones must ascend")
        own = self.model if self.model in OWN_OBJECTIVES else None
        if own != (self.objective if self.objective in OWN_OBJECTIVES else None):
            raise ValueError(f"model {self.model} cannot be trained with objective {self.objective}")
        if own is not None and (self.jitter or self.blur):
            raise ValueError(f"jitter and blur are not for {own}, whose colors depend on what it sees")
        if self.objective != "class" and self.rebalance:
            raise ValueError(f"rebalance belongs to the class objective: set rebalance to false for {self.objective}")
        if self.trunk == "imagenet" and (own is None or self.width != 1) and not self.model.startswith(TIMM):
            raise ValueError("trunk imagenet is for timm's models, and a VGG-16 for dahl and larsson at width 1")
        return self

    @property
    def outputs(self) -> int:
        return 313 if self.objective == "class" else OWN_OBJECTIVES.get(self.objective, 2)

    @property
    def evaluation_size(self) -> int:
        """Short side of held-out photos, of which the center is cropped: the middle of the training range."""
        return round(sum(self.resize) / 2)
