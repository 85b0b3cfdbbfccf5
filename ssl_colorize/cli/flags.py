"""Flags made from the fields of a settings class, so that their types, choices, help and defaults are said once, there.

A flag that was not given is None (or an empty tuple), so that `Settings.resolve` can tell it from one that was: flags
win over ``--set``, which wins over ``--config``, which wins over the defaults.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import click
from pydantic.fields import FieldInfo

from ssl_colorize.cli.run import Invocation
from ssl_colorize.config import Settings, from_home

AnySettings = TypeVar("AnySettings", bound=Settings)
Command = Callable[..., Any]
Option = Callable[[Command], Command]

# Flags that are not named after their field.
NAMES = {
    "layers": "--layer", "heads": "--head", "learning_rates": "--learning-rate", "costs": "--cost",
    "methods": "--method", "color": "--color/--gray", "rgb": "--rgb/--light", "no_cache": "--no-cache",
}  # fmt: skip
# What help calls a value; else N for a whole number, X for another, and TEXT.
METAVARS = {
    "encoder": "RUN", "checkpoint": "RUN", "cache": "DIR", "data": "PHOTOS", "watch": "LABELED", "prior_data": "PHOTOS",
    "train": "DIR", "test": "DIR", "classes": "NAMES",
    "random_data": "PHOTOS", "layers": "NAME", "also": "NAME=FOLDER",
    "neighbors_of": "PHOTO", "train_from": "LAYER", "model": "NAME", "classifier": "NAME",
    "fid_features": "NAME", "labels": "FILE.csv", "prior": "FILE.npy", "method": "[NAME=]METHOD",
    "methods": "[NAME=]METHOD", "host": "ADDRESS", "k": "K", "temperature": "T", "costs": "C", "memory": "GIB",
    "learning_rate": "RATE", "learning_rates": "RATE", "width": "FACTOR", "mix": "SHARE", "vigilance": "SHARE",
    "bank": "PATCHES", "mask_values": "V,V,...", "unlabeled": "PHOTOS", "recipe": "FILE.yaml", "start": "RUN",
    "imagenet": "NAME",
}  # fmt: skip

OUT = click.option(
    "-o",
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder to write. [default: runs/VERB-TIME]",
)
CONFIG = click.option(
    "--config", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE.yaml", help="Read settings from a file."
)
SET = click.option(
    "--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Change any setting; may be given again."
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print metrics.json on standard output.")
# The value of a bare --resume: the folder comes from --out.
FROM_OUT = "from --out"
DRY_RUN = click.option("--dry-run", is_flag=True, help="Say what would be read, and stop; --json prints all of it.")
RESUME = click.option(
    "--resume",
    is_flag=False,
    flag_value=FROM_OUT,
    metavar="[RUN]",
    help="Go on with a stopped run, by its own settings; without RUN, the one that --out names.",
)


def settings_options(
    kind: type[AnySettings], *fields: str, resume: bool = False
) -> Callable[[Callable[..., None]], Command]:
    """Give a verb a flag for each of the fields named, and `--out`, `--config`, `--set` and `--json`; and
    `--dry-run` where it reads photos, which a field `data` or `photos` names.

    The verb is called with its `Invocation`; parameters of its own that are no fields come behind, by name.

    Args:
        kind: the verb's settings. Its descriptions are the flags' help.
        fields: in the order of the help.
        resume: whether a stopped run can go on; gives the verb `--resume`.
    """

    def decorate(verb: Callable[..., None]) -> Command:
        @wraps(verb)
        def command(
            *, out: Path | None, config: Path | None, assignments: tuple[str, ...], as_json: bool, **given: Any
        ) -> None:
            given = {name: from_home(value) for name, value in given.items()}
            out, config, going_on = from_home(out), from_home(config), given.pop("resume", None)
            dry_run = given.pop("dry_run", False)
            flags = {name: value for name, value in given.items() if name in kind.model_fields}
            own = {name: value for name, value in given.items() if name not in flags}
            invocation = Invocation(
                kind, flags, out=out, config=config, assignments=assignments, as_json=as_json,
                resume=_folder_to_resume(going_on, out), dry_run=dry_run,
            )  # fmt: skip
            verb(invocation, **own)

        made = [_option(name, kind.model_fields[name]) for name in _with_sources(kind, fields)]
        decorated: Command = command
        reads = [DRY_RUN] if {"data", "photos"} & set(kind.model_fields) else []
        for option in reversed([*made, OUT, *([RESUME] if resume else []), CONFIG, SET, *reads, JSON]):
            decorated = option(decorated)
        return decorated

    return decorate


def _with_sources(kind: type[Settings], fields: tuple[str, ...]) -> list[str]:
    """The fields, behind data those that say in its place which photos are for what."""
    beside = [name for name in ("train", "test", "classes") if name in kind.model_fields and name not in fields]
    return [name for field in fields for name in ([field, *beside] if field == "data" else [field])]


def _folder_to_resume(resume: str | None, out: Path | None) -> Path | None:
    if resume == FROM_OUT:
        if out is None:
            raise click.UsageError("--resume needs to know which run: --resume RUN.")
        return out
    if resume is not None and out is not None and out.resolve() != Path(resume).resolve():
        raise click.UsageError(f"--resume {resume} goes on in that folder; leave --out {out} away.")
    return None if resume is None else Path(resume)


def _option(name: str, field: FieldInfo) -> Option:
    """The flag of a field."""
    base, bounds, several = _value(field)
    flag = NAMES.get(name, f"--{name.replace('_', '-')}")
    if base is bool:
        names = flag if "/" in flag or flag.startswith("--no-") else f"{flag}/--no-{flag.removeprefix('--')}"
        return click.option(names, name, is_flag=True, default=None, help=_help(field, names, several=False))
    metavar = None if get_origin(base) is Literal else METAVARS.get(name, {int: "N", float: "X"}.get(base, "TEXT"))
    text = _help(field, flag, several=several)
    return click.option(flag, name, type=_type(base, bounds), multiple=several, metavar=metavar, help=text)


def _value(field: FieldInfo) -> tuple[Any, dict[str, Any], bool]:
    """What a field holds: of which type, within which bounds (ge, gt, le, lt), and whether several of it."""
    base: Any = field.annotation
    metadata, several = list(field.metadata), False
    while (origin := get_origin(base)) in (Annotated, Union, UnionType, tuple):
        arguments = [each for each in get_args(base) if each is not NoneType]
        if origin is tuple:
            several, base = True, arguments[0]
        elif origin is Annotated:
            base = arguments[0]
            metadata += arguments[1:]
        elif len(arguments) == 1:
            base = arguments[0]
        else:  # choices, in several lists
            base = Literal[tuple(choice for each in arguments for choice in get_args(each))]
    metadata += [inner for each in metadata if isinstance(each, FieldInfo) for inner in each.metadata]
    bounds = {key: getattr(each, key) for each in metadata for key in ("ge", "gt", "le", "lt") if hasattr(each, key)}
    return base, bounds, several


def _type(base: Any, bounds: dict[str, Any]) -> Any:
    """What click converts a value with."""
    if get_origin(base) is Literal:
        return click.Choice(get_args(base))
    low, high = bounds.get("ge", bounds.get("gt")), bounds.get("le", bounds.get("lt"))
    above, below = "gt" in bounds, "lt" in bounds
    if base is int and bounds:
        return click.IntRange(None if low is None else low + above, None if high is None else high - below)
    if base is float and bounds:
        return click.FloatRange(low, high, min_open=above, max_open=below)
    if base not in (int, float, str):
        raise TypeError(f"no flag can be made for values of {base}")
    return base


def _help(field: FieldInfo, flag: str, *, several: bool) -> str:
    """The field's description as a sentence, and its default."""
    words = field.description or ""
    # Names, as in "eccv16, alexnet or timm:NAME", stay as they are.
    sentence = words[:1].upper() + words[1:] if words.partition(" ")[0].isalpha() else words
    again = "; may be given again" if several else ""
    default = _default(field.default, flag)
    return f"{sentence}{again}." + (f" [default: {default}]" if default else "")


def _default(value: Any, flag: str) -> str:
    """A default as help shows it; nothing where it depends, which the description then says."""
    if isinstance(value, bool):
        on, _, off = flag.partition("/")
        return on if value else off
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, tuple):
        return ", ".join(_default(each, flag) for each in value)
    return str(value) if isinstance(value, int | str) else ""
