"""Who colors: truth, gray, a random photo's colors, and any trained network, all behind one small protocol.

Another method is a class with these four names; nothing else needs to know of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ssl_colorize.color import rgb_to_lab
from ssl_colorize.colorize import Colorizer
from ssl_colorize.errors import UserError
from ssl_colorize.models.released import is_release

# What a metrics.json holds beside the methods.
RESERVED = frozenset({"protocol", "photos", "not_measured", "best_temperature", "rebalancing"})


@dataclass(frozen=True)
class Scene:
    """What is known of a photo.

    Attributes:
        rgb: (3, H, W) uint8, on the CPU. A method that colors looks at its lightness only.
        lab: (3, H, W) float32, its CIELAB.
        other: (3, H, W) uint8, a random other photo; None where no method asks for one.
    """

    rgb: Tensor
    lab: Tensor
    other: Tensor | None = None


class Method(Protocol):
    """Something that colors photos.

    Attributes:
        name: what its figures are called.
        parameters: bytes of its parameters; None where there is nothing of that kind.
        features: bytes of all that it computes for a photo on the way; None likewise.
    """

    name: str
    parameters: int | None
    features: int | None

    def ab(self, scene: Scene) -> Tensor:
        """The colors of a photo: (2, H, W) float32 in ab units, at the photo's size, before sRGB limits them."""
        ...


@dataclass
class Truth:
    """The photo's own colors."""

    name: str = "truth"
    parameters: int | None = None
    features: int | None = None

    def ab(self, scene: Scene) -> Tensor:
        return scene.lab[1:]


@dataclass
class Gray:
    """No colors."""

    name: str = "gray"
    parameters: int | None = None
    features: int | None = None

    def ab(self, scene: Scene) -> Tensor:
        return torch.zeros_like(scene.lab[1:])


@dataclass
class Random:
    """The colors of a random other photo, each where it is there."""

    name: str = "random"
    parameters: int | None = None
    features: int | None = None

    def ab(self, scene: Scene) -> Tensor:
        assert scene.other is not None, "the method random needs another photo"
        return rgb_to_lab(scene.other)[1:]


class Trained:
    """A trained network."""

    def __init__(self, name: str, colorizer: Colorizer, *, temperature: float | None = None) -> None:
        model = colorizer.pretrained.model
        self.name = name
        self.colorizer = colorizer
        self.temperature = temperature
        self.parameters: int | None = sum(each.numel() * each.element_size() for each in model.parameters())
        side = -(-colorizer.pretrained.input_size // model.multiple) * model.multiple
        self.features: int | None = feature_bytes(model, torch.full((1, 1, side, side), 50.0, device=colorizer.device))

    def ab(self, scene: Scene) -> Tensor:
        return self.colorizer.ab(scene.rgb.permute(1, 2, 0).numpy(), self.temperature)


BUILT_IN: dict[str, type[Truth] | type[Gray] | type[Random]] = {"truth": Truth, "gray": Gray, "random": Random}


def load_methods(asked: Sequence[str], *, temperatures: Sequence[float] = (), device: str = "auto") -> list[Method]:
    """The methods that `--method` names, in their order.

    Args:
        asked: each `truth`, `gray`, `random`, or a run folder or weights file; with a name before it as in full=RUN.
        temperatures: networks that predict distributions are taken at each of them, as NAME@T where there are several;
            by default at their own.
        device: where networks compute.

    Raises:
        UserError: a source is no network, two methods have one name, or a name cannot be used.
    """
    methods: list[Method] = []
    for text in asked:
        name, source = _name_and_source(text)
        methods += _load(name, source, temperatures, device)
    names = [method.name for method in methods]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"Two methods are called {name!r}: give each a name of its own, as in --method mine=RUN.")
        if name in RESERVED:
            raise UserError(f"A method cannot be called {name!r}: choose another name.")
    return methods


def _name_and_source(text: str) -> tuple[str, str]:
    name, equals, source = text.partition("=")
    # A path may hold the sign as well.
    if equals and name and source and not Path(text).exists():
        return name, source
    if text in BUILT_IN:
        return text, text
    path = Path(text)
    return (path.stem if path.is_file() else path.resolve().name), text


def _load(name: str, source: str, temperatures: Sequence[float], device: str) -> list[Method]:
    if source in BUILT_IN:
        return [BUILT_IN[source](name)]
    try:
        colorizer = Colorizer.load(source, device=device)
    except UserError as error:
        if not Path(source).exists() and not is_release(source):
            raise UserError(
                f"No method {source!r}: --method takes truth, gray, random, or NAME=RUN with a run folder or a file."
            ) from None
        raise error
    if colorizer.pretrained.objective != "class" or not temperatures:
        return [Trained(name, colorizer)]
    if len(temperatures) == 1:
        return [Trained(name, colorizer, temperature=temperatures[0])]
    return [Trained(f"{name}@{each:g}", colorizer, temperature=each) for each in temperatures]


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
