"""Settings of a verb: a YAML file, then `--set key=value`, then flags; anything unknown is an error."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from ssl_colorize.errors import UserError


class Settings(BaseModel):
    """Base of every verb's settings: immutable, typed, no unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

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
        values = _read(file) if file is not None else {}
        values |= dict(_assignment(text) for text in assignments)
        values |= {key: value for key, value in (flags or {}).items() if value is not None}
        return cls.checked(values, where=f"in {file}" if file is not None else "")

    @classmethod
    def checked(cls, values: Mapping[str, Any], *, where: str = "") -> Self:
        """The same from plain values, with pydantic's complaints turned into one line.

        Raises:
            UserError: a key is unknown or a value does not fit.
        """
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
            reason = first["msg"].removeprefix("Value error, ")
            given = f", not {first['input']!r}" if first["loc"] else ""
            raise UserError(f"Setting {key}{' ' + where if where else ''}: {reason}{given}.") from None


def _read(file: str | Path) -> dict[str, Any]:
    path = _find(Path(file))
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror}.") from None
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
