"""What `--encoder` and `load_encoder` are given ("random:eccv16@0.5"), read once."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from ssl_colorize.errors import UserError
from ssl_colorize.models.registry import MOST_WIDTH, is_model, list_models, model_type
from ssl_colorize.models.released import NAMES, is_release

LITE0 = "efficientnet_lite0"
# Two untrained networks that a timm model's name may mean: ours around its body, and timm's own.
LIGHTNESS_PREFIX, RGB_PREFIX = "random:timm-lightness:", "random:timm-rgb:"
# What these were called before, and runs and models of that time have on record.
_FORMER_PREFIXES = {"random:timm:": LIGHTNESS_PREFIX, "timm-random:": RGB_PREFIX}
_FAMILY = "timm:"
SPLIT = "split:"

Kind = Literal["file", "random", "kmeans", "timm", "timm-untrained", "lite0", "split"]


@dataclass(frozen=True)
class Source:
    """A network to load.

    >>> Source.parse("random:eccv16@0.5")
    Source(kind='random', name='eccv16', width=0.5, lightness_only=False)
    >>> str(Source.parse("random:timm-lightness:resnet18")), Source.parse("timm:resnet50@L").untrained
    ('random:timm-lightness:resnet18', False)

    Attributes:
        kind: "file" is a trained colorization network (a run folder, a weights file, a release), "random" one with
            PyTorch's random weights, "kmeans" one that was initialized on the sample photos; "timm" and
            "timm-untrained" are timm's networks on RGB, with and without their published weights; "lite0" is
            EfficientNet-Lite0, trained on ImageNet's labels; "split" is two colorization networks side by side, of
            which one sees L and one ab.
        name: the path or release of a "file"; what `create_model` takes; timm's name of its network; or two
            sources with a + between them.
        width: factor on every hidden width of "random" and "kmeans".
        lightness_only: whether a network on RGB sees the gray photo.
    """

    kind: Kind
    name: str
    width: float = 1.0
    lightness_only: bool = False

    @classmethod
    def parse(cls, source: "str | Path | Source") -> "Source":
        """Read a source; of a file it is checked that it exists, of a colorization network that it is known.

        Raises:
            UserError: it is none, with what it could be.
        """
        if isinstance(source, Source):
            return source
        text = str(source)
        if current_name(text) != text:
            raise UserError(
                f"Encoder {text!r} is called {current_name(text)!r} now, in config.yaml too: "
                f"{LIGHTNESS_PREFIX}NAME is the network on lightness that `pretrain --model timm:NAME` begins with, "
                f"{RGB_PREFIX}NAME timm's own on RGB."
            )
        if text.startswith(SPLIT):
            return cls("split", "+".join(map(str, _halves(text))))
        if text.startswith(RGB_PREFIX):
            return cls._on_rgb("timm-untrained", text, text.removeprefix(RGB_PREFIX))
        if text.startswith(LIGHTNESS_PREFIX):
            return cls._colorization("random", text, _FAMILY + text.removeprefix(LIGHTNESS_PREFIX))
        kind, colon, rest = text.partition(":")
        if colon and kind in ("random", "kmeans"):
            return cls._colorization("random" if kind == "random" else "kmeans", text, rest)
        if text.startswith(_FAMILY):
            return cls._on_rgb("timm", text, rest)
        if text.partition("@")[0] == LITE0:
            return cls._on_rgb("lite0", text, text)
        if text and (is_release(text) or Path(text).exists()):
            return cls("file", text)
        raise UserError(
            f"No encoder {text!r}: give a run folder, a .safetensors file, the released .pth, {', '.join(NAMES)}, "
            f"random:NAME or kmeans:NAME (NAME of {', '.join(list_models())}; a width after @), timm:NAME, "
            f"timm:NAME@L, {LIGHTNESS_PREFIX}NAME, {RGB_PREFIX}NAME, {SPLIT}RUN_L+RUN_ab, or {LITE0}."
        )

    @classmethod
    def _colorization(cls, kind: Kind, text: str, rest: str) -> Self:
        name, at, width = rest.partition("@")
        if not is_model(name):
            raise UserError(f"Encoder {text!r}: no network {name!r}, choose from {', '.join(list_models())}.")
        network = model_type(name)
        if kind == "kmeans" and network.own_init:
            other = cls("random", name)
            raise UserError(f"Encoder {text!r}: timm's networks begin as timm has it; use {other}.")
        try:
            factor = float(width) if at else 1.0
        except ValueError:
            raise UserError(f"Encoder {text!r}: {width!r} is no width; write it like {kind}:eccv16@0.5.") from None
        if factor != 1 and not network.scalable:
            raise UserError(f"Encoder {text!r}: this network comes in one width; leave @{width} away.")
        if not 0 < factor <= MOST_WIDTH:
            raise UserError(f"Encoder {text!r}: a width lies above 0 and up to {MOST_WIDTH}.")
        return cls(kind, name, width=factor)

    @classmethod
    def _on_rgb(cls, kind: Kind, text: str, rest: str) -> Self:
        name, at, space = rest.partition("@")
        if not name:
            raise UserError(f"Encoder {text!r} names no network: write it like timm:resnet50.")
        if at and space != "L":
            raise UserError(f"Encoder {text!r}: after @ comes L (lightness instead of color) or nothing.")
        return cls(kind, name, lightness_only=bool(at))

    @property
    def halves(self) -> tuple["Source", ...]:
        """The two sources of a "split", none of others."""
        return _halves(str(self)) if self.kind == "split" else ()

    @property
    def untrained(self) -> bool:
        """Whether its weights, or some of them, were never trained, and are drawn from the seed."""
        return self.kind in ("random", "kmeans", "timm-untrained") or any(half.untrained for half in self.halves)

    @property
    def has_statistics(self) -> bool:
        """Whether its BatchNorm has statistics of photos."""
        return self.kind not in ("random", "timm-untrained") and all(half.has_statistics for half in self.halves)

    def __str__(self) -> str:
        """What `parse` reads it from."""
        if self.kind in ("random", "kmeans"):
            width = "" if self.width == 1 else f"@{self.width:g}"
            if self.kind == "random" and self.name.startswith(_FAMILY):
                return f"{LIGHTNESS_PREFIX}{self.name.removeprefix(_FAMILY)}{width}"
            return f"{self.kind}:{self.name}{width}"
        prefix = {"timm": _FAMILY, "timm-untrained": RGB_PREFIX, "split": SPLIT}.get(self.kind, "")
        return f"{prefix}{self.name}{'@L' if self.lightness_only else ''}"


def _halves(text: str) -> tuple[Source, Source]:
    """The sources of "split:ONE+OTHER"; paths may have a + of their own where only one division leads to networks."""
    rest = text.removeprefix(SPLIT)
    places = [place for place, sign in enumerate(rest) if sign == "+"]
    if not places:
        raise UserError(f"Encoder {text!r}: write two networks with a + between them, as {SPLIT}RUN_L+RUN_ab.")
    found, wrong = [], None
    for place in places:
        try:
            found.append((Source.parse(rest[:place]), Source.parse(rest[place + 1 :])))
        except UserError as error:
            wrong = error
    if not found and wrong is not None:
        raise UserError(f"Encoder {text!r}: {wrong}")
    if len(found) > 1:
        raise UserError(f"Encoder {text!r} can be divided at more than one +: rename a folder.")
    return found[0]


def current_name(text: str) -> str:
    """A source's text by today's names, whenever it was written.

    >>> current_name("timm-random:resnet18@L")
    'random:timm-rgb:resnet18@L'
    """
    for former, prefix in _FORMER_PREFIXES.items():
        if text.startswith(former):
            return prefix + text.removeprefix(former)
    return text
