"""What the trainer asks of a task, what tasks on boxes and masks share, and the tasks by name."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, ClassVar, NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from ssl_colorize.data import LabeledDataset, Photos, announce, choosing_split, open_dataset
from ssl_colorize.data.annotations import Annotation
from ssl_colorize.data.fingerprint import Fingerprint
from ssl_colorize.data.transforms import Augmentation, resized
from ssl_colorize.device import Autocast
from ssl_colorize.encoder import Encoder
from ssl_colorize.errors import UserError
from ssl_colorize.finetune.config import FinetuneSettings

Say = Callable[[str], None]
# Is told, after each batch, one "file: reason" for every photo that could not be read, and how many could.
ReportUnreadable = Callable[[list[str], int], None]

# Task -> where its class is.
_TASKS = {
    "classification": "ssl_colorize.finetune.classification:Classification",
    "detection": "ssl_colorize.finetune.detection:Detection",
    "segmentation": "ssl_colorize.finetune.segmentation:Segmentation",
}


class TrainingBatch(NamedTuple):
    """One process's part of a step's batch, on the CPU."""

    photos: Any  # a uint8 tensor (B, 3, H, W), or a list of (3, H, W)
    targets: Any  # the task's own
    unreadable: list[str] = []  # noqa: RUF012  (never changed) one "file: reason" for each photo that was replaced


@dataclass(frozen=True)
class Evaluated:
    """What a model is worth on some photos.

    Attributes:
        figures: for metrics.json: fractions 0..1, dicts of them by class, whole numbers; NaN for what does not exist.
        details: what `Task.pictures` needs of each photo; the task's own.
    """

    figures: dict[str, Any]
    details: Any = field(default=None, repr=False)


class Sheet(NamedTuple):
    """Pictures in rows, a title over each column, as `report.sheets.photo_sheet` writes them."""

    rows: Sequence[Sequence[Image.Image]]
    titles: Sequence[str]
    groups: int = 1  # rows beside each other on a line


@dataclass(frozen=True)
class Prediction:
    """What a model says about a photo: drawn, and as values that JSON takes."""

    picture: Image.Image
    result: dict[str, Any]


class Task(Protocol):
    """A task with its photos. The trainer knows tasks by this alone.

    Photos to train on are counted 0 to `train_count` - 1; those to test on are read once, after everything is chosen.
    Random choices follow from arguments (seed, position), or from torch's global generator, which the trainer seeds
    before `build` and before every step; so a run that stopped goes on exactly.

    Attributes:
        name: as in `ssl-colorize finetune NAME`.
        settings_type: the task's subclass of FinetuneSettings.
        settings: with whatever `trained` has to know; what follows from the photos alone is filled in.
        main: the figure that learning rate and length are chosen by, or that of the common classes (`choosing_figure`);
            higher is better.
        classes: their names, as a model's outputs are counted.
        photos: the photos to train on, without labels; preparation looks at a few.
        train_count: how many.
        test_count: how many there are to test on.
    """

    name: ClassVar[str]
    settings_type: ClassVar[type[FinetuneSettings]]
    main: str
    classes: tuple[str, ...]

    @property
    def settings(self) -> FinetuneSettings: ...

    @property
    def photos(self) -> Photos: ...

    @property
    def train_count(self) -> int: ...

    @property
    def test_count(self) -> int: ...

    @classmethod
    def open(cls, settings: Any, *, say: Say) -> Self:
        """The task with its photos; what was found wrong with them and mended goes to `say`, a line each.

        Raises:
            UserError: the photos or annotations cannot be used.
        """
        ...

    @classmethod
    def trained(cls, settings: Any, classes: Sequence[str]) -> Self:
        """The task without photos, for `build` and `predict` alone. Must not look at `settings.data`."""
        ...

    def split(self, *, fraction: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Training photos to fit on and, about `fraction` of them, to choose on: indices, sorted, not empty."""
        ...

    def part(self, indices: NDArray[np.int64] | None) -> LabeledDataset:
        """These training photos, or the test photos."""
        ...

    def keep_apart(self, before: Fingerprint) -> dict[str, LabeledDataset]:
        """Leave out what a stopped run tested on and would train on now, and the reverse.

        Returns:
            What is left out, by the part that it would be of.

        Raises:
            UserError: nothing is left to train or to test on.
        """
        ...

    def layers(self, encoder: Encoder) -> tuple[str, ...]:
        """The encoder's layers that the head reads, first to last: `settings.layers`, or the task's own choice.

        Raises:
            UserError: there is no such layer.
        """
        ...

    def build(self, backbone: Encoder) -> nn.Module:
        """The model: the backbone, as a submodule anywhere in it, and a new head around it, on the CPU.

        The head is every parameter that is not the backbone's. May reshape the backbone's trunk (alexnet's paddings).
        Called again for `predict`, followed by `load_state_dict`: everything must follow from the settings, the
        classes and the backbone.
        """
        ...

    def batches(
        self, indices: NDArray[np.int64], *, seed: int, start: int, steps: int, rank: int = 0, world_size: int = 1
    ) -> Iterator[TrainingBatch]:
        """Batches for the steps start, ..., steps - 1, drawn from these training photos, augmented.

        As `data.training_batches`: the sample at position p = step * batch_size + j of the run and its augmentation
        follow from (seed, p) alone, so any step can be the first, with any number of workers and processes.
        """
        ...

    def loss(self, model: nn.Module, batch: TrainingBatch) -> dict[str, Tensor]:
        """The scalar to lower as "loss", and what is logged beside it (detached scalars); the model is in train mode.

        Moves the batch to the model's device. Called under autocast. In one of several processes: the loss of its
        part, whose mean over the processes is the loss of the whole batch.
        """
        ...

    def evaluate(
        self,
        model: nn.Module,
        indices: NDArray[np.int64] | None,
        *,
        autocast: Autocast,
        unreadable: ReportUnreadable = lambda lines, read: None,
    ) -> Evaluated:
        """Judge a model, which it puts in eval mode, on these training photos (not augmented), or on the test photos.

        The forward pass belongs under `with autocast():`. `figures` hold `main`, and as "<main>_common" that of the
        classes with enough photos where there are also others; on the test photos (None) also what
        is costly (intervals) or many (per class), and `details`.
        """
        ...

    def pictures(self, evaluated: Evaluated) -> dict[str, Sheet]:
        """Sheets of evaluated test photos, by the names of their files: the most right ones and the most wrong ones.

        The trainer's caller writes them: `report`, which lies above this room, is not to be imported here.
        """
        ...

    def predict(self, model: nn.Module, photo: Image.Image) -> Prediction:
        """What a model in eval mode says about an upright RGB photo of any size."""
        ...


class OnPhotos:
    """What all tasks say of their photos: a part to train on and a part to test on, or, once trained, neither."""

    annotation: ClassVar[Annotation] = "labels"  # what is read of the photos

    def __init__(
        self, settings: Any, classes: Sequence[str], parts: tuple[LabeledDataset, LabeledDataset] | None = None
    ) -> None:
        self.settings = settings
        self.classes = tuple(classes)
        self._parts = parts

    @classmethod
    def open(cls, settings: Any, *, say: Say) -> Self:
        """The task with its photos; what was read is announced."""
        parts = open_dataset(**settings.sources, annotation=cls.annotation, limit=settings.limit)
        announce(train=parts[0], test=parts[1])
        return cls(settings, parts[0].classes, parts)

    @classmethod
    def trained(cls, settings: Any, classes: Sequence[str]) -> Self:
        return cls(settings, classes)

    @property
    def train(self) -> LabeledDataset:
        assert self._parts is not None, "a task made by `trained` has no photos"
        return self._parts[0]

    @property
    def test(self) -> LabeledDataset:
        assert self._parts is not None, "a task made by `trained` has no photos"
        return self._parts[1]

    def split(self, *, fraction: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Training photos to fit on and to choose on; every class keeps some to fit on."""
        return choosing_split(self.train.labels, fraction=fraction, seed=seed)

    def keep_apart(self, before: Fingerprint) -> dict[str, LabeledDataset]:
        """Leave out what a stopped run tested on and would train on now, and the reverse.

        Returns:
            What is left out, by the part that it would be of.

        Raises:
            UserError: nothing is left to train or to test on.
        """
        left_out = {}
        parts = []
        for name, part, of in (("train", self.train, ("fit", "choose")), ("test", self.test, ("test",))):
            kept = before.apart(part.photos, *of)
            left_out[f"left_out_{name}"] = part.take(np.setdiff1d(np.arange(len(part)), kept))
            parts.append(part.take(kept))
        if not all(map(len, parts)):
            raise UserError("All photos are of another part than when this run began: begin a new run.")
        self._parts = parts[0], parts[1]
        return left_out

    def part(self, indices: NDArray[np.int64] | None) -> LabeledDataset:
        """These training photos, or the test photos."""
        return self.test if indices is None else self.train.take(indices)

    @property
    def photos(self) -> Photos:
        return self.train.photos

    @property
    def train_count(self) -> int:
        return len(self.train)

    @property
    def test_count(self) -> int:
        return len(self.test)


def task_type(name: str) -> type[Task]:
    """The class of a task.

    Raises:
        UserError: there is no such task.
    """
    if name not in _TASKS:
        raise UserError(f"No task {name!r}: choose from {', '.join(_TASKS)}.")
    module, _, attribute = _TASKS[name].partition(":")
    found: type[Task] = getattr(import_module(module), attribute)
    return found


def to_model(model: nn.Module, photos: Tensor) -> Tensor:
    """A batch of photos on the model's device."""
    return photos.to(next(model.parameters()).device, non_blocking=True)


def choosing_figure(figures: Mapping[str, Any], main: str) -> tuple[str, float]:
    """The figure to choose by: its name, and its value or minus infinity where that does not exist.

    It is that of the common classes where a task tells it: a class of a few photos has a figure that is mostly chance.
    """
    name = f"{main}_common" if f"{main}_common" in figures else main
    value = figures[name]
    return name, float(value) if value is not None and value == value else float("-inf")


LONGEST = 1000 / 600  # long side against short side at most, as in Fast R-CNN

# A map coarser than this loses small objects; a pyramid then adds finer ones.
_COARSEST, _FINEST = 16, 8


class AnnotatedTask(OnPhotos):
    """A task on photos with boxes or masks; see `tasks.Task`."""

    _input_size: int | None = None

    @property
    def size(self) -> int:
        """Short side in pixels of photos; known once there is an encoder."""
        size: int | None = self.settings.size or self._input_size
        assert size is not None, "layers() or build() comes first"
        return size

    def note_size(self, network: Encoder) -> None:
        """Take the size from the network, unless the settings give one."""
        self._input_size = network.input_size

    def augmentation(self, crop: int | None) -> Augmentation:
        """Of training photos, by the settings."""
        low, high = (max(1, round(self.size * scale)) for scale in self.settings.scales)
        # A crop shows its share of a long photo anyway.
        return Augmentation((low, high), self.longest(high) if crop is None else None, crop)

    def longest(self, short_side: int) -> int:
        """The long side in pixels that photos of this short side may have."""
        return round(LONGEST * short_side)

    def target(self, size: tuple[int, int]) -> tuple[int, int]:
        """Width and height that a photo to judge is brought to."""
        return resized(size, self.size, self.longest(self.size))


def map_layers(encoder: Encoder, settings: FinetuneSettings, *, pyramid: bool | None) -> tuple[str, ...]:
    """The layers that a head on maps reads, first to last.

    Those of `settings.layers`, or else the deepest layer that is not fully connected; with a pyramid the deepest layer
    of each stride from 8 pixels up (from 4 up if it is asked for).

    Args:
        pyramid: None has one where the deepest layer's stride is above 16 pixels.

    Raises:
        UserError: there is no such layer.
    """
    if settings.layers:
        return encoder.choose(settings.layers)
    known = [info for info in encoder.feature_info if info["module"] not in encoder.trunk.fully_connected]
    deepest = known[-1]
    if pyramid is False or (pyramid is None and deepest["reduction"] <= _COARSEST):
        return (deepest["module"],)
    finest = _FINEST if pyramid is None else _FINEST // 2
    by_stride = {info["reduction"]: info["module"] for info in known if info["reduction"] >= finest}
    return tuple(by_stride[stride] for stride in sorted(by_stride))
