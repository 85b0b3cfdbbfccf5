"""Flags from settings: what a field says is what the flag takes, and what help shows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import click
import pytest
from click.testing import CliRunner, Result
from pydantic import Field, PositiveFloat, PositiveInt

from ssl_colorize.cli import VERBS, main
from ssl_colorize.cli.flags import settings_options
from ssl_colorize.cli.run import Invocation
from ssl_colorize.config import OneOrMany, Settings
from ssl_colorize.errors import UserError


class Example(Settings):
    data: OneOrMany[str] = Field(min_length=1, description="photos to use")
    count: PositiveInt | None = Field(None, description="how many; all if not given")
    share: Annotated[float, Field(ge=0, lt=1)] = Field(0.25, description="of the photos")
    rates: OneOrMany[PositiveFloat] = Field((1e-3, 0.5), min_length=1, description="eccv16, or what")
    kind: Literal["a", "b"] | Literal["none"] | None = Field(None, description="which")
    fast: bool = Field(True, description="do it fast")
    layers: tuple[str, ...] = Field((), description="which layers")
    no_cache: bool = Field(False, description="keep nothing")


@click.command()
@click.argument("other", required=False)
@settings_options(
    Example, "data", "count", "share", "rates", "kind", "fast", "layers", "no_cache", resume=True
)  # fmt: skip
def verb(invocation: Invocation[Example], other: str | None) -> None:
    """A verb."""
    click.echo(f"{other} {invocation.settings()!r}")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(verb, arguments, catch_exceptions=False)


def options(command: click.Command) -> dict[str, click.Option]:
    return {each.name: each for each in command.params if isinstance(each, click.Option) and each.name}


def test_values_reach_their_fields() -> None:
    result = run("x", "--data", "p", "--data", "q", "--count", "3", "--share", "0.5", "--rates", "2", "--kind", "none",
                 "--no-fast", "--layer", "conv1", "--no-cache")  # fmt: skip
    expected = Example(data=("p", "q"), count=3, share=0.5, rates=(2.0,), kind="none", fast=False, layers=("conv1",),
                       no_cache=True)  # fmt: skip
    assert result.output == f"x {expected!r}\n"
    assert run("--data", "p").output == f"None {Example(data=('p',))!r}\n"


def test_a_flag_wins_over_set_which_wins_over_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("data: p\ncount: 1\nshare: 0.1\nfast: false\n")
    result = run("--config", str(tmp_path / "a.yaml"), "--set", "count=2", "--set", "share=0.2", "--share", "0.3")
    assert result.output == f"None {Example(data=('p',), count=2, share=0.3, fast=False)!r}\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--count", "0"), "x>=1"),
        (("--share", "1"), "0<=x<1"),
        (("--share", "much"), "'much'"),
        (("--kind", "c"), "'a', 'b', 'none'"),
        (("--rates", "0"), "x>0"),
        (("--resume",), "--resume RUN"),
        (("--resume", "a", "--out", "b"), "leave --out b away"),
    ],
)
def test_what_does_not_fit_is_said_with_its_bounds(arguments: tuple[str, ...], said: str) -> None:
    result = run("--data", "p", *arguments)
    assert result.exit_code == 2 and said in result.stderr


def test_help_is_the_fields_own(tmp_path: Path) -> None:
    made = options(verb)
    shown = {name: (option.help, option.metavar) for name, option in made.items()}
    assert shown["data"] == ("Photos to use; may be given again.", "PHOTOS")
    assert shown["count"] == ("How many; all if not given.", "N")
    assert shown["share"] == ("Of the photos. [default: 0.25]", "X")
    assert shown["rates"] == ("eccv16, or what; may be given again. [default: 0.001, 0.5]", "X")
    assert shown["fast"] == ("Do it fast. [default: --fast]", None)
    assert made["layers"].opts == ["--layer"] and made["no_cache"].opts == ["--no-cache"]
    assert made["no_cache"].secondary_opts == []


def test_what_is_missing_is_said() -> None:
    with pytest.raises(UserError, match="Give the photos with --data"):
        run("--count", "3")


def commands(command: click.Command, name: str = "") -> dict[str, click.Command]:
    if not isinstance(command, click.Group):
        return {name: command}
    context = click.Context(command)
    inner = [command.get_command(context, each) for each in command.list_commands(context)]
    return {key: value for each in inner if each for key, value in commands(each, f"{name} {each.name}").items()}


@pytest.mark.parametrize("verb", VERBS)
def test_every_flag_of_every_verb_says_what_it_is(verb: str) -> None:
    command: Any = main.get_command(click.Context(main), verb)
    for name, each in commands(command, verb).items():
        for option in options(each).values():
            assert option.help and len(option.help.split(".")[0]) > 3, f"{name} {option.opts}"
            assert option.help.count("[default") <= 1, f"{name} {option.opts}"
