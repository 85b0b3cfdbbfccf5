"""What every verb does around its work: the folder, the bar, interruptions, and what is left behind."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from pydantic import Field

from ssl_colorize.cli.flags import settings_options
from ssl_colorize.cli.run import Invocation, Run, finish, note
from ssl_colorize.config import Seed, Settings
from ssl_colorize.engine.signals import Interrupted
from ssl_colorize.errors import UserError
from ssl_colorize.report.tables import figures_table


class Example(Settings):
    steps: int = Field(3, description="steps")
    workers: int = Field(2, description="processes")
    seed: Seed = 0


def verb(work: Callable[[Run], object]) -> click.Command:
    """A verb that does what it is given, and reports one figure."""

    @click.command()
    @settings_options(Example, "steps", "workers", "seed", resume=True)
    def command(invocation: Invocation[Example]) -> None:
        settings = invocation.settings(free=frozenset({"workers"}))
        with invocation.running("example", settings, taken=("checkpoint.pt",)) as run:
            work(run)
        if run.first:
            content = run.write({"figure": 0.5})
            finish(content, figures_table(content["metrics"]), next_step="rest", as_json=invocation.as_json)

    return command


def call(work: Callable[[Run], object], *arguments: str) -> Result:
    return CliRunner().invoke(verb(work), arguments)


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    return tmp_path


def test_a_run_writes_its_settings_and_figures(place: Path) -> None:
    result = call(lambda run: None, "--steps", "5", "--seed", "7", "-o", "out", "--json")
    content = json.loads(result.stdout)
    assert content == json.loads((place / "out" / "metrics.json").read_text())
    assert content["config"] == {"steps": 5, "workers": 2, "seed": 7} and content["seed"] == 7
    assert content["metrics"] == {"figure": 0.5} and content["seconds"] >= 0
    assert "steps: 5" in (place / "out" / "config.yaml").read_text()
    assert result.stderr == "Next: rest\n"


def test_without_a_folder_one_is_named_after_the_verb(place: Path) -> None:
    assert "Next: rest" in call(lambda run: None).stdout
    (folder,) = (place / "runs").iterdir()
    assert folder.name.startswith("example-")


@pytest.mark.parametrize("before", [lambda run: None, lambda run: run.watch("Reading", 1, 4)], ids=["early", "late"])
def test_a_mistake_leaves_no_folder_and_no_empty_line(place: Path, before: Callable[[Run], object]) -> None:
    def fail(run: Run) -> None:
        before(run)
        raise UserError("No photos.")

    result = call(fail, "-o", "out")
    assert isinstance(result.exception, UserError)
    assert "" not in result.stderr.splitlines()
    assert not (place / "out").exists()


def test_what_was_written_is_kept(place: Path) -> None:
    def fail(run: Run) -> None:
        (run.folder / "checkpoint.pt").touch()
        raise UserError("The disk is gone.")

    call(fail, "-o", "out")
    assert sorted(path.name for path in (place / "out").iterdir()) == ["checkpoint.pt", "config.yaml"]


def test_an_empty_folder_of_the_users_own_is_kept(place: Path) -> None:
    def fail(run: Run) -> None:
        raise UserError("No photos.")

    (place / "out").mkdir()
    call(fail, "-o", "out")
    assert (place / "out").is_dir()


def test_the_bar_is_said_once_where_nobody_watches() -> None:
    def work(run: Run) -> None:
        run.say("A line.")
        for done in range(1, 4):
            run.watch("Reading", done, 3)

    result = call(work, "-o", "out")
    first, bar = result.stderr.splitlines()
    assert first == "A line." and "Reading" in bar and "3/3" in bar
    assert result.stderr.endswith("\n")


def test_an_interruption_says_how_to_go_on(place: Path) -> None:
    def stop(run: Run) -> None:
        raise Interrupted(run.folder, signal.SIGTERM, verb="example")

    result = call(stop, "-o", "out")
    assert result.exit_code == 128 + signal.SIGTERM and "--resume out" in result.stderr
    assert (place / "out" / "config.yaml").exists()


def test_resuming_keeps_to_the_runs_settings(place: Path) -> None:
    call(lambda run: (run.folder / "checkpoint.pt").touch(), "--steps", "5", "-o", "out")
    again = call(lambda run: note(f"{run.settings!r}"), "--resume", "out", "--workers", "0", "--json")
    assert "steps=5, workers=0" in again.stderr
    for arguments, said in (
        (("--resume", "out", "--steps", "6"), "goes on with steps 5"),
        (("--resume", "nowhere"), "Nothing to resume: nowhere"),
        (("--resume", "out", "--config", "out/config.yaml"), "leave --config away"),
        (("-o", "out"), "already holds a run"),
    ):
        result = call(lambda run: None, *arguments)
        assert isinstance(result.exception, UserError) and said in str(result.exception)


def test_only_the_first_of_several_processes_speaks_and_writes(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")

    def work(run: Run) -> None:
        note("A line.")
        run.say("Another.")
        run.watch("Reading", 1, 1)

    result = call(work, "-o", "out")
    assert (result.exit_code, result.output) == (0, "")
    assert not list((place / "out").iterdir())
    assert "--out" in str(call(work).exception)
