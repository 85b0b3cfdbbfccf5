"""Tables from nothing but photos: what is left to do, how a stopped one goes on, and that the committed follow."""

import json
import multiprocessing
import os
import signal
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import reproduce
import steps
from click.testing import CliRunner
from frozen import changes
from measures import Training
from networks import NETWORKS
from PIL import Image
from rendering import held_out
from steps import Step, Workspace, begin, perform, unfinished
from tables import PARTS, RECIPES, TABLES, Table

from ssl_colorize.errors import UserError
from ssl_colorize.pretrain.config import Recipe

# Writes its flags, and stops once with a checkpoint before it is done.
SCRIPT = """
import pathlib, sys
run = pathlib.Path(sys.argv[-1])
run.mkdir(parents=True, exist_ok=True)
(run / "calls").open("a").write(" ".join(sys.argv[1:-1]) + "\\n")
if not (run / "checkpoint.pt").exists():
    (run / "checkpoint.pt").touch()
    sys.exit(143)
(run / "metrics.json").write_text("{}")
"""


# ---- the committed tables --------------------------------------------------------------------------------------------


def test_the_committed_tables_follow_from_the_records() -> None:
    result = CliRunner().invoke(reproduce.main, ["--check"])
    assert result.exit_code == 0, result.output + "\nrun python benchmarks/reproduce.py --write"
    text = reproduce.ANSWERS.read_text("utf-8")
    assert all(f"<!-- {name} -->\n|" in text for name in PARTS)


def test_no_record_says_where_files_lay() -> None:
    for path in reproduce.RESULTS.rglob("*.json"):
        assert '"/' not in path.read_text("utf-8"), path


def test_only_what_stands_between_marks_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PARTS, "sum", lambda results: "3")
    text = "by hand <!-- end -->\n<!-- sum -->\nold\n<!-- end -->\nby hand\n<!-- sum -->\n<!-- end -->\n"
    wanted = "by hand <!-- end -->\n<!-- sum -->\n3\n<!-- end -->\nby hand\n<!-- sum -->\n3\n<!-- end -->\n"
    assert reproduce.filled(text) == wanted == reproduce.filled(wanted)
    with pytest.raises(UserError, match="no table 'sums'"):
        reproduce.filled("<!-- sums -->\n<!-- end -->")


def test_the_list_has_every_table_with_its_cost_and_a_figure() -> None:
    lines = CliRunner().invoke(reproduce.main, ["--list"]).output.splitlines()
    assert [line.split(" | ")[0].strip("| ") for line in lines[2:]] == list(TABLES)
    row = next(line for line in lines if line.startswith("| temperatures"))
    # lsuv alone: 1,374 seconds.
    assert row.endswith("| 0.4 | full@0.38, AuC rebal. %: 76.3 |")


# ---- the plan --------------------------------------------------------------------------------------------------------


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """The sets that networks train on, a few photos each."""
    chance = np.random.default_rng(0)
    folder = tmp_path / "photos"
    for part in ("tiny-imagenet/train", "tiny-imagenet/val", "imagenette128/train"):
        for name in ("a", "b"):
            (folder / part / name).mkdir(parents=True)
            for index in range(10):
                pixels = chance.integers(0, 256, (66, 66, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / part / name / f"{index}.png")
    return folder


def recipe_of(workspace: Workspace, name: str, seed: int = 0) -> Recipe:
    """What `ssl-colorize pretrain` is told for a network."""
    *_, step = workspace.training(NETWORKS[name], seed)
    assert step.command[:2] == ("ssl-colorize", "pretrain")
    values: dict[str, list[str]] = {}
    for flag, value in zip(step.command[2::2], step.command[3::2], strict=True):
        values.setdefault(flag, []).append(value)
    photos = {name: values[f"--{name}"] for name in ("data", "train") if f"--{name}" in values}
    flags = {**photos, "seed": int(values["--seed"][0])}
    return Recipe.resolve(file=values["--config"][0], assignments=values.get("--set", ()), flags=flags)


def test_networks_are_trained_as_the_records_say(photos: Path, tmp_path: Path) -> None:
    workspace = Workspace(reproduce.folders((str(photos),)), tmp_path / "out")
    base = recipe_of(workspace, "pilot-base").model_dump(mode="json")
    compared = 0
    for name, (network, seed) in RECIPES.rows.items():
        found = json.loads((reproduce.RESULTS / "recipes" / f"{name}-0.json").read_text("utf-8"))
        if not network.pretext:
            recipe = recipe_of(workspace, network.name, seed)
            changed = changes(recipe.model_dump(mode="json"), base)
            assert changed.keys() == found["changed"].keys()
            assert all(changed[key] == value for key, value in found["changed"].items() if key != "start")
            first = 0 if not network.start else recipe_of(workspace, network.start).steps * recipe_of(
                workspace, network.start).batch_size  # fmt: skip
            assert first + recipe.steps * recipe.batch_size == found["photos_seen"]
            compared += 1
    assert compared == len(RECIPES.rows) - 1


def test_every_network_of_a_table_has_a_recipe_that_sees_what_was_recorded(photos: Path, tmp_path: Path) -> None:
    workspace = Workspace(reproduce.folders((str(photos),)), tmp_path / "out")
    for network in NETWORKS.values():
        path = reproduce.RESULTS / "frozen" / "imagenette" / f"{network.key(0)}.json"
        if path.is_file() and not (network.source or network.pretext or network.start):
            recipe = recipe_of(workspace, network.name)
            assert recipe.steps * recipe.batch_size == json.loads(path.read_text())["photos_seen"]
        elif not (network.source or network.pretext):
            assert recipe_of(workspace, network.name).steps


def test_a_plan_has_each_step_once_and_what_it_needs_before_it(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["rank", "--data", str(photos), "-o", str(out), "--set", "width=0.06", "--limit", "9", "--plan"]
    lines = CliRunner().invoke(reproduce.main, arguments, catch_exceptions=False).output.splitlines()
    said = [line.split(" --")[0] for line in lines]
    assert said[1:] == [
        "python benchmarks/frozen.py rank", "python benchmarks/duplicates.py find", "ssl-colorize pretrain",
        "python benchmarks/frozen.py rank", "ssl-colorize pretrain", "ssl-colorize pretrain",
        "python benchmarks/frozen.py rank",
    ] or "split" in lines[1]  # fmt: skip
    starter = next(line for line in lines if f"start={out}/runs/small-0" in line)
    assert starter.endswith(f"--set width=0.06 --limit 9 --seed 0 --workers 1 -o {out}/runs/starter-0")
    assert any("--encoder kmeans:eccv16@0.06" in line for line in lines) and not out.exists()


def test_missing_photos_are_named(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"No VOC2012 in --data: give the folder that holds VOCdevkit/VOC2012"):
        CliRunner().invoke(reproduce.main, ["segmentation", "--data", str(photos), "--plan"], catch_exceptions=False)
    with pytest.raises(UserError, match="no such folder"):
        reproduce.folders((str(tmp_path / "nowhere"),))
    named = reproduce.folders((f"VOC2012={photos}", str(photos)))
    assert named["VOC2012"] == photos and named["tiny-imagenet"] == photos / "tiny-imagenet"


def test_more_seeds_are_more_networks_with_what_they_are_like(photos: Path, tmp_path: Path) -> None:
    workspace = Workspace(reproduce.folders((str(photos),)), tmp_path / "out", draws=2)
    assert [len(workspace.seeds(NETWORKS[name])) for name in ("random", "class", "labels")] == [2, 2, 1]
    runs = [step.run.name for step in workspace.training(NETWORKS["rotation"], 1) if step.run]
    assert runs == ["full-1", "rotation-1"]


def test_figures_of_two_budgets_never_mix(tmp_path: Path) -> None:
    begin(Workspace({}, tmp_path, settings=("steps=2",)))
    begin(Workspace({}, tmp_path, settings=("steps=2",)))
    with pytest.raises(UserError, match="give another --out"):
        begin(Workspace({}, tmp_path))


# ---- doing it --------------------------------------------------------------------------------------------------------


def test_a_stopped_run_goes_on_and_a_finished_one_is_only_recorded(tmp_path: Path) -> None:
    script, run, made = tmp_path / "script.py", tmp_path / "run", tmp_path / "made.json"
    script.write_text(SCRIPT)
    verb = ("python", str(script))
    late = tmp_path / "late"
    step = Step(made, (*verb, "new"), late=lambda: (late.read_text(), str(run)), run=run, resume=(*verb, "old"),
                finish=lambda: made.write_text("done"))  # fmt: skip
    late.write_text("chosen")
    with pytest.raises(SystemExit) as stopped:
        perform([step])
    assert stopped.value.code == 143 and not made.exists()
    perform([step, step])
    assert (run / "calls").read_text() == "new chosen\nold --resume\n"
    assert made.read_text() == "done" and not list(unfinished([step]))
    made.unlink()
    perform([step])
    assert made.read_text() == "done" and len((run / "calls").read_text().splitlines()) == 2


def test_two_that_work_in_one_folder_do_each_step_once(tmp_path: Path) -> None:
    script, made = tmp_path / "script.py", tmp_path / "made"
    script.write_text(f"""
import pathlib, time
pathlib.Path({str(tmp_path / "calls")!r}).open("a").write("called\\n")
time.sleep(0.3)
pathlib.Path({str(made)!r}).touch()
""")
    step = Step(made, ("python", str(script)))
    others = [multiprocessing.get_context("fork").Process(target=perform, args=([step],)) for _ in range(2)]
    for other in others:
        other.start()
    for other in others:
        other.join()
    assert (tmp_path / "calls").read_text() == "called\n" and [other.exitcode for other in others] == [0, 0]


@pytest.mark.slow
def test_a_table_is_made_killed_in_the_middle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = Table("Does it learn?", "", (Training(("init-kmeans",)),), (partial(held_out, ("init-kmeans",)),))
    monkeypatch.setitem(TABLES, "made", table)
    out, calls = tmp_path / "out", []
    monkeypatch.setattr(steps, "shown", lambda command: str(calls.append(command)))
    arguments = ["made", "-o", str(out), "--draws", "1", "--limit", "6", "--workers", "0"]
    for text in ("width=0.06", "steps=40", "batch_size=2", "checkpoint_every=2", "evaluate_every=20", "init_photos=4",
                 "prior_photos=8", "warmup=1", "device=cpu"):  # fmt: skip
        arguments += ["--set", text]
    checkpoint, done = out / "runs/init-kmeans-0/checkpoint.pt", out / "runs/init-kmeans-0/metrics.json"

    def kill() -> None:
        while not checkpoint.exists():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=kill, daemon=True).start()
    stopped = CliRunner().invoke(reproduce.main, arguments)
    assert stopped.exit_code == 143 and checkpoint.exists() and not done.exists(), stopped.output
    made = CliRunner().invoke(reproduce.main, arguments, catch_exceptions=False)
    assert [command[:3] for command in calls] == [
        ("ssl-colorize", "pretrain", "--config"), ("ssl-colorize", "pretrain", "--resume")
    ]  # fmt: skip
    assert [line.split(" | ")[1] for line in made.stdout.splitlines() if line.startswith("| init")] == ["20", "40"]
    assert json.loads((out / "results/training/init-kmeans-0.json").read_text())["metrics"]["photos_seen"] == 80
    # All is there: nothing runs again.
    assert CliRunner().invoke(reproduce.main, arguments).stdout == made.stdout and len(calls) == 2
