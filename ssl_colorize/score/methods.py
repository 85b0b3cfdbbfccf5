"""Who colors: truth, gray, a random photo's colors, a trained network, or a folder of pictures from any other program.

Scoring and the perceptual study take their methods from here; another one is a subclass of `Method`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ssl_colorize.color import into_gamut, rgb_to_lab, to_uint8_keeping_lightness
from ssl_colorize.colorize import Colorizer, gray
from ssl_colorize.data import PHOTO_SUFFIXES, Photos, UnreadablePhoto, find_photos, read_photo
from ssl_colorize.data.images import photo_size
from ssl_colorize.errors import UserError
from ssl_colorize.models.released import is_release
from ssl_colorize.score.photos import center_crop

Watch = Callable[[str, int, int], None]

# Files that make a folder a run, whatever pictures lie beside them.
_WEIGHTS = frozenset((".safetensors", ".pth", ".pt"))
# How far the aspects of a photo and its colored picture may be apart, from rounding their sizes.
_ASPECT_TOLERANCE = 0.02
# How many names an error lists.
_LISTED = 3


@dataclass(frozen=True)
class Scene:
    """What is known of a photo.

    Attributes:
        name: within its set.
        rgb: (3, S, S) uint8, its center crop, on the CPU. A method that colors sees its lightness only.
        lab: (3, S, S) float32, its CIELAB.
        other: (3, S, S) uint8, another photo; None where no method takes its colors from one.
    """

    name: str
    rgb: Tensor
    lab: Tensor
    other: Tensor | None = None


class Method(ABC):
    """Something that colors photos.

    Attributes:
        name: what its figures are called.
        takes_other: whether it needs `Scene.other`.
        parameters: bytes of its parameters; None where there is nothing of that kind.
        features: bytes of all that it computes for a photo on the way; None likewise.
        prior: (313,) how common each color is in the photos that it was trained on; None where it is not known.
        source: where it was loaded from; empty for what needs nothing.
    """

    takes_other = False
    parameters: int | None = None
    features: int | None = None
    prior: Tensor | None = None
    source = ""

    def __init__(self, name: str) -> None:
        self.name = name

    @abstractmethod
    def ab(self, scene: Scene) -> Tensor:
        """The colors of a photo: (2, S, S) float32 in ab units, before sRGB limits them."""

    def picture(self, scene: Scene) -> Tensor:
        """The photo in those colors, for people to see: (3, S, S) uint8 sRGB on the CPU."""
        return recolored(scene.lab, self.ab(scene).to(scene.lab.device)).cpu()

    def check(self, photos: Photos, *, watch: Watch = lambda what, done, total: None) -> None:  # noqa: B027
        """Check that all of these photos can be colored, before hours of work begin.

        Raises:
            UserError: they cannot; one line says how many and the first names.
        """


class Truth(Method):
    """The photo's own colors."""

    def ab(self, scene: Scene) -> Tensor:
        return scene.lab[1:]


class Gray(Method):
    """No colors."""

    def ab(self, scene: Scene) -> Tensor:
        return torch.zeros_like(scene.lab[1:])

    def picture(self, scene: Scene) -> Tensor:
        # `recolored` keeps the lightness more exactly than a neutral gray can, by a tint of one level.
        return torch.from_numpy(np.array(gray(scene.rgb.permute(1, 2, 0).numpy()))).permute(2, 0, 1)


class Random(Method):
    """The colors of another photo, each where it is there."""

    takes_other = True

    def ab(self, scene: Scene) -> Tensor:
        assert scene.other is not None, "the method random needs another photo"
        return rgb_to_lab(scene.other)[1:]


class Network(Method):
    """A trained network."""

    def __init__(
        self, name: str, colorizer: Colorizer, *, temperature: float | None = None, flip: bool = False
    ) -> None:
        super().__init__(name)
        pretrained = colorizer.pretrained
        self.colorizer, self.temperature, self.flip = colorizer, temperature, flip
        self.source, self.prior = pretrained.source, pretrained.prior
        self.parameters = sum(each.numel() * each.element_size() for each in pretrained.model.parameters())
        side = -(-pretrained.input_size // pretrained.model.multiple) * pretrained.model.multiple
        self.features = feature_bytes(pretrained.model, torch.full((1, 1, side, side), 50.0, device=colorizer.device))

    def ab(self, scene: Scene) -> Tensor:
        return self.colorizer.ab(scene.rgb.permute(1, 2, 0).numpy(), self.temperature, flip=self.flip)


class Folder(Method):
    """Pictures that any other program colored, under the photos' names, whatever their endings.

    A picture may have any size of the photo's proportions. It is resized and cropped as the photo is, and its ab taken.
    """

    def __init__(self, name: str, folder: Path) -> None:
        """List the folder.

        Raises:
            UserError: it holds no pictures.
        """
        super().__init__(name)
        self.source = str(folder)
        self._pictures: dict[str, list[Path]] = {}
        for path in find_photos(folder):
            self._pictures.setdefault(_stem(path.relative_to(folder).as_posix()), []).append(path)

    def check(self, photos: Photos, *, watch: Watch = lambda what, done, total: None) -> None:
        # Names first: they are known at once, and files have to be opened.
        self._refuse(self._wrong_names(photos), len(photos))
        problems: dict[str, list[str]] = {"unreadable": [], "of another shape": []}
        for index in range(len(photos)):
            watch(f"Checking {self.name}", index, len(photos))
            try:
                across, down = photos.size(index)
            except UnreadablePhoto:  # It needs no picture.
                continue
            path = self._pictures[_stem(photos.name(index))][0]
            try:
                width, height = photo_size(path)
                read_photo(path, short_side=1)
            except UnreadablePhoto as error:
                problems["unreadable"].append(str(error))
                continue
            if abs(width / height / (across / down) - 1) > _ASPECT_TOLERANCE:
                problems["of another shape"].append(f"{path.name} {width} x {height} for {across} x {down}")
        watch(f"Checking {self.name}", len(photos), len(photos))
        self._refuse(problems, len(photos))

    def _wrong_names(self, photos: Photos) -> dict[str, list[str]]:
        """Photos without a picture, and photos and pictures whose names do not say which belongs to which."""
        problems: dict[str, list[str]] = {"missing": [], "doubled": []}
        seen: dict[str, str] = {}
        for index in range(len(photos)):
            name, stem = photos.name(index), _stem(photos.name(index))
            paths = self._pictures.get(stem, [])
            if stem in seen:
                problems["doubled"].append(f"{seen[stem]} and {name}")
            elif len(paths) > 1:
                problems["doubled"].append(f"{paths[0].name} and {paths[1].name}")
            elif not paths and _is_readable(photos, index):
                problems["missing"].append(name)
            seen[stem] = name
        return problems

    def _refuse(self, problems: Mapping[str, Sequence[str]], count: int) -> None:
        found = [f"{len(names)} {kind} ({_some(names)})" for kind, names in problems.items() if names]
        if found:
            raise UserError(
                f"The pictures in {self.source} do not fit the {count} photos: {', '.join(found)}. A photo needs one "
                "picture of its name, whatever the ending, that shows all of it."
            )

    def ab(self, scene: Scene) -> Tensor:
        side = scene.rgb.shape[-1]
        (path,) = self._pictures[_stem(scene.name)]
        return rgb_to_lab(center_crop(read_photo(path, short_side=side), side))[1:]


def _stem(name: str) -> str:
    """A photo's name without the ending of its format."""
    path = PurePosixPath(name)
    return str(path.with_suffix("")) if path.suffix.lower() in PHOTO_SUFFIXES else name


def _is_readable(photos: Photos, index: int) -> bool:
    try:
        photos.size(index)
    except UnreadablePhoto:
        return False
    return True


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")


def recolored(lab: Tensor, ab: Tensor) -> Tensor:
    """A photo with other colors, as `Colorizer.colorize` joins them: 8-bit sRGB of the photo's own lightness.

    Args:
        lab: (3, H, W), the photo.
        ab: (2, H, W) in ab units; what sRGB cannot show at that lightness loses chroma.

    Returns:
        (3, H, W) uint8.

    >>> photo = torch.tensor([[[200]], [[40]], [[90]]], dtype=torch.uint8)
    >>> recolored(rgb_to_lab(photo), rgb_to_lab(photo)[1:]).flatten().tolist()
    [200, 40, 90]
    """
    return to_uint8_keeping_lightness(into_gamut(torch.cat((lab[:1], ab))))


# ---- by name ---------------------------------------------------------------------------------------------------------

BUILT_IN: dict[str, type[Truth] | type[Gray] | type[Random]] = {"truth": Truth, "gray": Gray, "random": Random}


def load_methods(
    given: Sequence[str], *, temperatures: Sequence[float] = (), flip: bool = False, device: str = "auto"
) -> list[Method]:
    """The methods that `--method` names, in their order.

    Args:
        given: each `truth`, `gray`, `random`, a run folder, a weights file, or a folder of colored pictures; with a
            name before it as in full=RUN.
        temperatures: networks that predict distributions are taken at each of them, as NAME@T where there are several;
            by default at their own.
        flip: average the networks' predictions over a photo and its mirror image.
        device: where networks compute.

    Raises:
        UserError: a source is neither, or two methods have one name.

    >>> [method.name for method in load_methods(["truth", "mine=gray"])]
    ['truth', 'mine']
    """
    methods: list[Method] = []
    for name, source in map(named_source, given):
        methods += _load(name, source, temperatures, flip, device)
    check_names([method.name for method in methods])
    return methods


def check_names(names: Sequence[str]) -> None:
    """Raise a UserError where two methods have one name."""
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"Two methods are called {name!r}: give each a name of its own, as in --method mine=RUN.")


def named_source(given: str) -> tuple[str, str]:
    """The name and the source of a method: NAME=SOURCE, or a source alone, whose name is its last part.

    >>> named_source("full=runs/x"), named_source("gray"), named_source("weights/class.safetensors")
    (('full', 'runs/x'), ('gray', 'gray'), ('class', 'weights/class.safetensors'))
    """
    name, equals, source = given.partition("=")
    # A path may hold the sign as well.
    if equals and not Path(given).exists():
        if not name or not source:
            raise UserError(f"--method {given}: write it as NAME=SOURCE.")
        return name, source
    path = Path(given)
    return (path.stem if path.suffix in _WEIGHTS else path.resolve().name), given


def _load(name: str, source: str, temperatures: Sequence[float], flip: bool, device: str) -> list[Method]:
    if source in BUILT_IN:
        return [BUILT_IN[source](name)]
    path = Path(source)
    if not path.exists() and not is_release(source):
        raise UserError(
            f"No method {source!r}: --method takes truth, gray, random, or NAME=SOURCE with a run folder, a weights "
            "file, or a folder of colored pictures."
        )
    if path.is_dir() and not any(file.suffix in _WEIGHTS for file in path.glob("*")):
        return [Folder(name, path)]
    colorizer = Colorizer.load(source, device=device)
    if colorizer.pretrained.objective != "class" or not temperatures:
        return [Network(name, colorizer, flip=flip)]
    if len(temperatures) == 1:
        return [Network(name, colorizer, temperature=temperatures[0], flip=flip)]
    return [Network(f"{name}@{each:g}", colorizer, temperature=each, flip=flip) for each in temperatures]


# ---- costs -----------------------------------------------------------------------------------------------------------


@torch.no_grad()
def feature_bytes(model: torch.nn.Module, lightness: Tensor) -> int:
    """Bytes of all that a network computes on the way from an input (1, 1, H, W) to its output.

    Every result counts that has memory of its own; what is computed in place, and views, cost nothing.
    """
    counter = _Counter()
    with counter:
        model(lightness)
    return counter.bytes


class _Counter(TorchDispatchMode):
    """Adds up the memory of every result."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given = {each.untyped_storage().data_ptr() for each in _tensors(args)}
        for each in _tensors(result if isinstance(result, tuple | list) else [result]):
            if each.numel() and each.untyped_storage().data_ptr() not in given:
                self.bytes += each.numel() * each.element_size()
        return result


def _tensors(values: Any) -> list[Tensor]:
    flat = [each for value in values for each in (value if isinstance(value, tuple | list) else [value])]
    return [each for each in flat if isinstance(each, Tensor)]
