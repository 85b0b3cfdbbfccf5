"""The command line as a whole: quick help, exit codes, one line for a user's mistake."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from ssl_colorize.cli import VERBS, main
from ssl_colorize.errors import UserError

HEAVY = ("torch", "numpy", "timm", "rich", "matplotlib")
HELP = [(), *[(verb,) for verb in VERBS], ("finetune", "classification"), ("study", "serve")]


@pytest.mark.parametrize("arguments", HELP, ids=" ".join)
def test_help_is_instant(arguments: tuple[str, ...]) -> None:
    code = f"""
import sys, time
from ssl_colorize.cli import main
try:
    main([*{arguments!r}, "--help"], prog_name="ssl-colorize")
except SystemExit as done:
    assert done.code == 0, done.code
loaded = [name for name in {HEAVY!r} if name in sys.modules]
verbs = [name for name in {list(VERBS)!r} if "ssl_colorize.cli." + name.replace("-", "_") in sys.modules]
assert not loaded, loaded
assert verbs == [*{arguments!r}][:1], verbs
# Of the whole process; what others do on the machine does not count.
assert time.process_time() < 0.5, time.process_time()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Usage: ssl-colorize" in done.stdout


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_is_there_and_has_help(verb: str) -> None:
    result = CliRunner().invoke(main, [verb, "--help"])
    assert result.exit_code == 0
    command = main.get_command(click.Context(main), verb)
    assert command is not None and command.name == verb
    # A verb of several tasks has its flags with them.
    tasks = [[verb, task] for task in command.commands] if isinstance(command, click.Group) else [[verb]]
    for words in tasks:
        assert "--json" in CliRunner().invoke(main, [*words, "--help"]).output, words


def test_the_group_lists_the_verbs() -> None:
    output = CliRunner().invoke(main, ["--help"]).output
    assert all(f"{verb} " in output and line in output for verb, line in VERBS.items())
    assert CliRunner().invoke(main, ["colorize"]).exit_code == 2


def test_version_is_the_packages() -> None:
    import ssl_colorize

    assert ssl_colorize.__version__ in CliRunner().invoke(main, ["--version"]).output


def raising(error: BaseException) -> click.Command:
    @click.command()
    def verb() -> None:
        raise error

    return verb


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (UserError("No photos at x: check the path."), 2, "Error: No photos at x: check the path.\n"),
        (KeyboardInterrupt(), 130, "\nInterrupted.\n"),
    ],
)
def test_mistakes_and_interruptions_are_one_line(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, said: str
) -> None:
    monkeypatch.setattr(type(main), "get_command", lambda *_: raising(error))
    result = CliRunner().invoke(main, ["info"])
    assert result.exit_code == code
    assert result.stderr == said
    assert result.stdout == ""


def test_bugs_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(main), "get_command", lambda *_: raising(ZeroDivisionError()))
    result = CliRunner().invoke(main, ["info"])
    assert isinstance(result.exception, ZeroDivisionError)


def test_what_became_a_script_says_so() -> None:
    for arguments in (["bench"], ["bench", "--what", "knn"], ["bench", "--help"]):
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 2 and result.stdout == ""
        assert result.stderr.count("\n") == 1 and "python benchmarks/speed.py" in result.stderr
