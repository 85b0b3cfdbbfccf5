"""Ways to recolor a photo for the study: a trained network, a folder of colored photos, or what needs neither."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from PIL import Image

from ssl_colorize.color import into_gamut, rgb_to_lab, to_uint8_keeping_lightness
from ssl_colorize.colorize import Colorizer, gray
from ssl_colorize.data.images import find_photos, photo_size, read_photo
from ssl_colorize.errors import UserError
from ssl_colorize.models.released import is_release
from ssl_colorize.study.files import as_tensor, picture_path, square

# How far the aspects of a photo and its colored version may be apart, from rounding their sizes.
_ASPECT_TOLERANCE = 0.02

RANDOM = "random"
GRAY = "gray"


class Method(ABC):
    """Something that recolors photos, under a name of its own."""

    def __init__(self, name: str) -> None:
        self.name = name

    def accepts(self, photo: str, size: tuple[int, int]) -> bool:
        """Whether it can recolor the photo of that name, and of that width and height; asked before hours of work.

        Raises:
            UserError: it should, but something is wrong with what it has.
        """
        return True

    @abstractmethod
    def recolor(self, photo: str, truth: Image.Image) -> Image.Image:
        """The photo of that name, SIDE x SIDE pixels, in other colors and at the same size."""


class Network(Method):
    """A trained network."""

    def __init__(self, name: str, source: str, *, device: str, temperature: float | None) -> None:
        super().__init__(name)
        self._colorizer = Colorizer.load(source, device=device)
        self._temperature = temperature

    def recolor(self, photo: str, truth: Image.Image) -> Image.Image:
        return self._colorizer.colorize(truth, self._temperature)


class Folder(Method):
    """Photos that something else has colored, under the same names but for their endings."""

    def __init__(self, name: str, folder: Path) -> None:
        super().__init__(name)
        self._folder = folder
        self._paths: dict[str, Path] = {}
        for path in find_photos(folder):
            other = self._paths.setdefault(_stem(path.relative_to(folder).as_posix()), path)
            if other != path:
                raise UserError(f"{other} and {path} are both the colored version of one photo: keep one of them.")

    def accepts(self, photo: str, size: tuple[int, int]) -> bool:
        path = self._paths.get(_stem(photo))
        if path is None:
            return False
        width, height = photo_size(path)
        if abs(width / height / (size[0] / size[1]) - 1) > _ASPECT_TOLERANCE:
            raise UserError(
                f"{path} is {width} x {height} pixels and the photo {photo} {size[0]} x {size[1]}, another shape: a "
                "colored photo has to show the same part."
            )
        return True

    def recolor(self, photo: str, truth: Image.Image) -> Image.Image:
        return square(read_photo(self._paths[_stem(photo)]))


class Gray(Method):
    """No color at all."""

    def recolor(self, photo: str, truth: Image.Image) -> Image.Image:
        return gray(truth)


class Random(Method):
    """The ab of another photo of the study: the paper's Random, which it takes from the training photos."""

    def __init__(self, name: str, donors: Sequence[str], folder: Path) -> None:
        """`donors` are all the photos, each the donor of the one before it; `folder` holds them as `picture_path`."""
        super().__init__(name)
        self._donor = dict(zip(donors, [*donors[1:], donors[0]], strict=True))
        self._folder = folder

    def recolor(self, photo: str, truth: Image.Image) -> Image.Image:
        donor = read_photo(picture_path(self._folder, self._donor[photo]))
        lab = rgb_to_lab(as_tensor(truth))
        lab[1:] = rgb_to_lab(as_tensor(donor))[1:]
        return Image.fromarray(to_uint8_keeping_lightness(into_gamut(lab)).permute(1, 2, 0).numpy())


def open_methods(given: Sequence[str], *, device: str, temperature: float | None) -> list[Method]:
    """The methods that `--method` names: "full=RUN", "other=FOLDER", "gray", "random", or a RUN or FOLDER alone.

    "random" is not opened here, since it takes its colors from the other photos.

    Raises:
        UserError: none is named, two have one name, a name cannot be one, or a source is not there or not usable.
    """
    if not given:
        raise UserError("Say what recolors the photos: --method full=RUN, or --method name=FOLDER of colored photos.")
    methods: list[Method] = []
    for name, source in map(named_source, given):
        if source == RANDOM:
            continue
        if source == GRAY:
            methods.append(Gray(name))
        elif _holds_weights(Path(source)):
            methods.append(Network(name, source, device=device, temperature=temperature))
        else:
            methods.append(Folder(name, Path(source)))
    return methods


def method_names(given: Sequence[str]) -> list[str]:
    """The methods' names, each once.

    Raises:
        UserError: two are the same, or one cannot be a name.
    """
    names = [named_source(each)[0] for each in given]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"Two methods are called {name}: give each a name, as in --method first=RUN.")
        # It becomes a folder's name.
        if not name or name == "truth" or not all(sign.isalnum() or sign in "-_.+" for sign in name) or name[0] == ".":
            raise UserError(f"{name!r} cannot be the name of a method: use letters, digits, '-' and '_'; not 'truth'.")
    return names


def named_source(given: str) -> tuple[str, str]:
    """ "name=source", or a source alone, whose name is its last part."""
    name, equals, source = given.partition("=")
    # A path may hold the sign as well.
    if equals and not Path(given).exists():
        return name, source
    return (given if given in (RANDOM, GRAY) else Path(given).stem), given


def _holds_weights(path: Path) -> bool:
    if is_release(path):
        return True
    if not path.exists():
        raise UserError(f"No network or folder at {path}: give --method NAME=RUN or NAME=FOLDER, gray, or random.")
    return path.is_file() or (path / "model.safetensors").is_file()


def _stem(name: str) -> str:
    return str(PurePosixPath(name).with_suffix(""))
