"""Settings of a verb: a YAML file, then `--set key=value`, then flags; anything unknown is an error.

The command line makes its flags, their help and the defaults that it shows from the fields of these classes. Settings
live in modules that do not import torch, so that help is instant.
"""

from collections.abc import Collection, Mapping, Sequence
from os.path import expanduser
from pathlib import Path
from shlex import quote
from typing import Annotated, Any, ClassVar, Literal, NotRequired, Self, TypedDict, TypeVar, get_args

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)  # fmt: skip

from ssl_colorize.errors import UserError
from ssl_colorize.text import read_text

Item = TypeVar("Item")
Number = TypeVar("Number", int, float)


def _one_or_many(value: object) -> object:
    return (value,) if isinstance(value, str | int | float) else value


def _fixed_or_range(value: object) -> object:
    return (value, value) if isinstance(value, int | float) else value


def _ascending(value: tuple[Number, Number]) -> tuple[Number, Number]:
    if value[0] > value[1]:
        raise ValueError("must be [low, high] with low <= high")
    return value


# Several values, or one without the brackets; a flag of it may be given again.
OneOrMany = Annotated[tuple[Item, ...], BeforeValidator(_one_or_many)]
# [low, high], or one number for both.
Range = Annotated[tuple[Number, Number], BeforeValidator(_fixed_or_range), AfterValidator(_ascending)]
# More than none and less than all.
Share = Annotated[float, Field(gt=0, lt=1)]

# What settings of many verbs have in common. Each class gives its own default.
DeviceName = Annotated[
    Literal["auto", "cpu", "cuda"], Field(description="where to compute; auto takes a GPU where there is one")
]
Precision = Annotated[
    Literal["auto", "bf16", "fp32"], Field(description="of the forward pass; auto takes bf16 where there is hardware")
]
Seed = Annotated[int, Field(ge=0, description="seed of everything random")]
Workers = Annotated[int, Field(ge=0, description="processes that decode photos")]
BatchSize = Annotated[int, Field(ge=1, description="photos at a time")]
EncoderSource = Annotated[
    str,
    Field(
        description="a run folder, a weights file, eccv16_starter, eccv16-release, random:eccv16, kmeans:eccv16, "
        "random:timm-lightness:NAME, random:timm-rgb:NAME, timm:NAME, timm:NAME@L or efficientnet_lite0"
    ),
]
# Of one sitting alone: neither kept in config.yaml nor compared with it.
DataChanged = Annotated[
    Literal["refuse", "allow"],
    Field(exclude=True, description="whether a resumed run goes on with other photos than it began with"),
]
Limit = Annotated[int | None, Field(ge=1, description="use only so many photos, for a quick look")]


def from_home(value: Any) -> Any:
    """A path, or several, with ~ at the beginning replaced by the user's home; anything else as it is."""
    if isinstance(value, list | tuple):
        return type(value)(map(from_home, value))
    if isinstance(value, Path):
        return value.expanduser()
    if not isinstance(value, str) or "~" not in value:
        return value
    name, equals, path = value.rpartition("=")
    home = expanduser(path)  # noqa: PTH111 - as strings are: a Path would change what is no path
    return value if home == path or "/" in name else f"{name}{equals}{home}"


class Settings(BaseModel):
    """Base of every verb's settings: immutable, typed, no unknown keys.

    Attributes:
        renamed: old name -> new name of keys that files of earlier versions hold.
    """

    # Built on first use: help validates nothing.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)
    renamed: ClassVar[Mapping[str, str]] = {}

    @model_validator(mode="before")
    @classmethod
    def _from_home(cls, values: Any) -> Any:
        """Values with ~ at the beginning of a path replaced by the user's home; also behind a name: full=~/run."""
        return {key: from_home(value) for key, value in values.items()} if isinstance(values, Mapping) else values

    @classmethod
    def resolve(
        cls,
        *,
        file: str | Path | None = None,
        assignments: Sequence[str] = (),
        flags: Mapping[str, Any] | None = None,
    ) -> Self:
        """Settings from a file, overridden by `key=value` assignments, overridden by flags that are not None.

        Raises:
            UserError: the file is missing or is not YAML, a key is unknown, or a value does not fit.
        """
        values = cls.with_new_names(_read(file)) if file is not None else {}
        assigned = dict(_assignment(text) for text in assignments)
        inner = {key: assigned.pop(key) for key in list(assigned) if "." in key}
        asked = assigned | {key: value for key, value in (flags or {}).items() if value is not None}
        values |= cls.implied(asked)
        for key, value in inner.items():
            values = cls._with_inner(values, key, value)
        settings = cls.checked(values, where=f"in {file}" if file is not None else "")
        settings.refuse_unused(asked)
        return settings

    @classmethod
    def _with_inner(cls, values: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
        """Values with a setting inside of another one changed: "stages.0.steps", "knn.bank".

        Raises:
            UserError: there is no such setting.
        """
        name, _, rest = key.partition(".")
        kind, inside = cls._kind_of(name), values.get(name)
        if kind is None:
            raise UserError(f"Unknown setting {key!r}: {name} has no settings of its own.")
        if not isinstance(inside, list | tuple):
            return {**values, name: kind._with_one(inside or {}, rest, value)}
        number, _, rest = rest.partition(".")
        if not (number.isdecimal() and int(number) < len(inside) and rest):
            raise UserError(f"Unknown setting {key!r}: {name} are 0 to {len(inside) - 1}, as in {name}.0.KEY.")
        changed = list(inside)
        changed[int(number)] = kind._with_one(changed[int(number)], rest, value)
        return {**values, name: changed}

    @classmethod
    def _with_one(cls, values: Any, key: str, value: Any) -> dict[str, Any]:
        values = values if isinstance(values, dict) else {}
        return cls._with_inner(values, key, value) if "." in key else {**values, **cls.implied({key: value})}

    @classmethod
    def _kind_of(cls, name: str) -> "type[Settings] | None":
        """The class of the settings that a field holds, alone or several of them; None if it holds others."""
        field = cls.model_fields.get(name)
        held = (field.annotation, *get_args(field.annotation)) if field is not None else ()
        return next((kind for kind in held if isinstance(kind, type) and issubclass(kind, Settings)), None)

    def refuse_unused(self, asked: Collection[str]) -> None:
        """Raise a UserError if a key that was asked for has no effect beside the others."""

    def leaves(self) -> dict[str, Any]:
        """Every setting that is kept, by its key, those inside of others as "stages.0.steps"."""
        found: dict[str, Any] = {}
        for name, about in type(self).model_fields.items():
            if about.exclude:
                continue
            value = getattr(self, name)
            several = {f"{name}.{number}": one for number, one in enumerate(value)} if isinstance(value, tuple) else {}
            inner = several or {name: value}
            if all(isinstance(one, Settings) for one in inner.values()):
                found |= {f"{key}.{rest}": leaf for key, one in inner.items() for rest, leaf in one.leaves().items()}
            else:
                found[name] = value
        return found

    @classmethod
    def implied(cls, asked: Mapping[str, Any]) -> dict[str, Any]:
        """What was asked for, with what follows from it for keys that it does not name."""
        return dict(asked)

    @classmethod
    def with_new_names(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Values from a file of an earlier version, under the names of this one."""
        return {cls.renamed.get(key, key): value for key, value in values.items()}

    @classmethod
    def checked(cls, values: Mapping[str, Any], *, where: str = "") -> Self:
        """Settings from plain values, such as a saved model's, with pydantic's complaints turned into one line.

        Raises:
            UserError: a key is unknown or a value does not fit.
        """
        values = cls.with_new_names(values)
        unknown = sorted(set(values) - set(cls.model_fields))
        if unknown:
            raise UserError(
                f"Unknown setting {', '.join(map(repr, unknown))}{' ' + where if where else ''}: "
                f"choose from {', '.join(sorted(cls.model_fields))}."
            )
        try:
            return cls(**values)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, first["loc"])) or "settings"
            kind = cls._kind_of(str(first["loc"][0])) if first["type"] == "extra_forbidden" else None
            if kind is not None:
                raise UserError(
                    f"Unknown setting {key!r}{' ' + where if where else ''}: choose from "
                    f"{', '.join(sorted(kind.model_fields))}."
                ) from None
            reason = first["msg"].removeprefix("Value error, ")
            given = f", not {first['input']!r}" if first["loc"] and first["type"] != "missing" else ""
            raise UserError(f"Setting {key}{' ' + where if where else ''}: {reason}{given}.") from None


class StepsOrEpochs(Settings):
    """Settings of what trains for a number of steps or of epochs: one is given, the other is None.

    >>> class Training(StepsOrEpochs):
    ...     steps: int | None = 100
    >>> Training(epochs=2)
    Training(steps=None, epochs=2.0)
    """

    steps: PositiveInt | None = Field(None, description="optimizer steps, in place of epochs")
    epochs: PositiveFloat | None = Field(None, description="passes over the photos, in place of steps")

    def lengths_are_inside(self) -> bool:
        """Whether there are settings inside of these that give steps or epochs in their place."""
        return False

    @classmethod
    def implied(cls, asked: Mapping[str, Any]) -> dict[str, Any]:
        """What was asked for; of steps and epochs, the one that is named alone replaces the other."""
        asked = super().implied(asked)
        for name, other in (("steps", "epochs"), ("epochs", "steps")):
            if asked.get(name) is not None and other not in asked:
                asked[other] = None
        return asked

    @model_validator(mode="before")
    @classmethod
    def _one_replaces_the_other(cls, values: Any) -> Any:
        return cls.implied(values) if isinstance(values, Mapping) else values

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if not self.lengths_are_inside() and (self.steps is None) == (self.epochs is None):
            raise ValueError("give steps or epochs, not both (set the other to null)")
        return self


class TrainingSources(TypedDict):
    """Which photos train, as `data.open_photos` takes it."""

    data: tuple[str, ...]
    train: tuple[str, ...]


class MeasuringSources(TrainingSources):
    """Which photos train and test, and of which classes, as `data.open_dataset` takes it."""

    test: tuple[str, ...]
    classes: tuple[str, ...]
    mask_values: NotRequired[str | None]


class _Photos(Settings):
    """Settings that say which photos by a rule (`data`), or in so many words (`train`): one replaces the other."""

    data: OneOrMany[str] = Field((), description="photos")
    train: OneOrMany[str] = Field((), description="photos to train on, whatever they are called, in place of --data")
    # What a subclass has beside these two, and goes with `train`.
    with_train: ClassVar[tuple[str, ...]] = ()

    @property
    def named(self) -> str:
        """What was named, for titles."""
        return ", ".join((*self.data, *self.train))

    @property
    def flags(self) -> str:
        """The flags that name the same photos, for a command to run next; each with a space before it."""
        given = [(name, item) for name in ("data", "train", *self.with_train, "classes")
                 for item in getattr(self, name, ())]  # fmt: skip
        return "".join(f" --{name} {quote(item)}" for name, item in given)

    @classmethod
    def implied(cls, asked: Mapping[str, Any]) -> dict[str, Any]:
        """What was asked for; of data and train, the one that is named alone replaces the other."""
        asked = super().implied(asked)
        explicit = ("train", *cls.with_train)
        if asked.get("data") and not any(asked.get(name) for name in explicit):
            asked |= dict.fromkeys(explicit, ())
        if asked.get("train") and not asked.get("data"):
            asked["data"] = ()
        return asked

    @model_validator(mode="before")
    @classmethod
    def _data_or_train(cls, values: Any) -> Any:
        return cls.implied(values) if isinstance(values, Mapping) else values

    @model_validator(mode="after")
    def _said_once(self) -> Self:
        explicit = [f"--{name}" for name in ("train", *self.with_train) if getattr(self, name)]
        if self.data and explicit:
            raise ValueError(f"give --data, which splits by a rule, or {' and '.join(explicit)}, not both")
        if not (self.data or self.train):
            raise ValueError(
                "give the photos with --data" + (", or those to train on with --train" if explicit else "")
            )
        return self


class TrainingSource(_Photos):
    """Settings of what learns without labels: which photos."""

    @property
    def sources(self) -> TrainingSources:
        """The arguments of `data.open_photos` that say which photos."""
        return {"data": self.data, "train": self.train}


class MeasuringSource(_Photos):
    """Settings of what measures on labeled photos: which of them train, which test, and of which classes."""

    with_train: ClassVar[tuple[str, ...]] = ("test",)

    test: OneOrMany[str] = Field((), description="likewise those to test on; without it a fifth of each class")
    classes: OneOrMany[str] = Field(
        (), description="only these, in this order: names with commas between them, or a file with one a line"
    )

    @property
    def sources(self) -> MeasuringSources:
        """The arguments of `data.open_dataset` that say which photos."""
        return {"data": self.data, "train": self.train, "test": self.test, "classes": self.classes}


class MaskSource(MeasuringSource):
    """Settings of what measures on masks: also what stands for which class in them."""

    mask_values: str | None = Field(
        None, description="what stands for class 0, 1, ... in masks: 0,255, or 1-150,ignore=0; 0,1,... if not given"
    )

    @property
    def flags(self) -> str:
        """As `MeasuringSource.flags`, and how masks are read."""
        return super().flags + ("" if self.mask_values is None else f" --mask-values {quote(self.mask_values)}")

    @property
    def sources(self) -> MeasuringSources:
        """The arguments of `data.open_dataset` that say which photos, and how their masks are read."""
        return {**super().sources, "mask_values": self.mask_values}


def _read(file: str | Path) -> dict[str, Any]:
    path = _find(Path(file).expanduser())
    try:
        values = yaml.safe_load(read_text(path))
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise UserError(f"{path} must hold `key: value` lines.")
    return values


def _find(path: Path) -> Path:
    """A file, or the name of a recipe that the package carries ("eccv16_imagenet")."""
    if path.is_file():
        return path
    recipes = {recipe.stem: recipe for recipe in sorted(recipe_folder().glob("*.yaml"))}
    name = str(path).removesuffix(".yaml")
    if name in recipes:
        return recipes[name]
    raise UserError(f"No configuration file {path}. Give a YAML file or one of: {', '.join(recipes)}.")


def recipe_folder() -> Path:
    """Where the recipes are: inside an installed package, beside it in a checkout."""
    inside = Path(__file__).parent / "configs"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "configs"


def _assignment(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise UserError(f"--set {text}: write it as key=value.")
    try:
        return key.strip(), yaml.safe_load(_as_number(value))
    except yaml.YAMLError:
        raise UserError(f"--set {text}: {value!r} is not a YAML value.") from None


def _as_number(value: str) -> str:
    """YAML reads 3e-5 as a string (it wants 3.0e-5); people write 3e-5."""
    try:
        return str(int(value))
    except ValueError:
        pass
    try:
        return repr(float(value)) if "e" in value.lower() else value
    except ValueError:
        return value
