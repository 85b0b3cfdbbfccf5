"""The table of heads: what is chosen without test photos, which figure stands in which cell, and what is run for it."""

import json
from pathlib import Path
from typing import Any

from heads import drops, heads, of_heads, of_neighbors, of_pixels
from measures import Verb
from rendering import dense
from steps import Workspace, perform
from tables import TABLES


def figures(choosing: float, top1: float, **drops: float) -> dict[str, Any]:
    """Of one head, with an interval of ±10 points, and of each drop one of ±1."""
    worse = {
        kind: {"3": {"drop": 0.9}, "mean": {"drop": drop, "drop_low": drop - 0.01, "drop_high": drop + 0.01}}
        for kind, drop in drops.items()
    }
    return {"top1": top1, "low": top1 - 0.1, "high": top1 + 0.1, "choosing": choosing, "corrupt": worse}


PROBED = {
    "conv1": figures(0.3, 0.9, noise=0.5, hue=0.5),
    "conv2": figures(0.5, 0.4, noise=0.5, hue=0.5),
    "conv1/attentive": figures(0.6, 0.5, noise=0.2, hue=-0.0001),
    "conv2/attentive": figures(0.5, 0.8, noise=0.5, hue=0.5),
    "all-layers/attentive": figures(0.55, 0.3, noise=0.5, hue=0.5),
    "all-layers": figures(0.1, 0.7, noise=0.5, hue=0.5),
    "trunk_unchanged": True,
}
NEAR = {
    "conv1": {"k10_t0.07": {"top1": 0.9, "low": 0.8, "high": 1.0, "choosing": 0.2}},
    "conv2": {"k20_t0.07": {"top1": 0.4, "low": 0.3, "high": 0.5, "choosing": 0.3}},
    "trunk_unchanged": True,
}
SEGMENTED = {
    "conv1": {"miou": 0.9, "low": 0.8, "high": 1.0, "choosing": 0.1},
    "conv2": {"miou": 0.1, "low": 0.05, "high": 0.15, "miou_common": 0.3, "low_common": 0.2, "high_common": 0.4,
              "miou_present": 0.1, "choosing": 0.2, "pixel_accuracy": 0.7},
    "layer": "conv2",
    "protocol": {"photo_size": 96, "mask_size": "original", "test_photos": 12},
}  # fmt: skip
READ = {"train": 1200, "test": 300}


def write(folder: Path, **found: dict[str, Any]) -> None:
    folder.mkdir(parents=True)
    for name, content in found.items():
        (folder / f"{name.replace('_', '-')}.json").write_text(json.dumps(content))


def test_each_kind_of_head_is_chosen_without_the_test_photos() -> None:
    found = of_heads(PROBED)
    assert {kind: (one["name"], one["top1"]) for kind, one in found["heads"].items()} == {
        "linear": ("conv2", 0.4), "attentive": ("conv1/attentive", 0.5),
        "all-layers/attentive": ("all-layers/attentive", 0.3), "all-layers": ("all-layers", 0.7),
    }  # fmt: skip
    # Worse photos are shown to the best of all, and the mean over severities counts.
    assert found["chosen"] == "conv1/attentive" and found["drops"]["noise"]["drop"] == 0.2
    assert of_neighbors(NEAR)["heads"]["knn"]["name"] == "conv2, k20_t0.07"


def test_cells_have_the_layer_the_figure_and_its_interval(tmp_path: Path) -> None:
    one = of_heads(PROBED) | READ
    two = of_heads(PROBED | {"conv2": figures(0.5, 0.6)}) | READ
    write(tmp_path / "heads" / "imagenette", full_0=one, random_0=one, random_1=two)
    write(tmp_path / "knn" / "imagenette", full_0=of_neighbors(NEAR), random_0=of_neighbors(NEAR))
    title, _, head, _, random, full = heads("imagenette", tmp_path).splitlines()
    assert title == "**imagenette**, top-1, % (95 %), 1,200 training and 300 test photos"
    assert [cell.strip() for cell in head.strip("|").split("|")][1:4] == [
        "linear, best layer", "attentive, best layer", "attention over layers"
    ]  # fmt: skip
    assert full == (
        "| full | conv2: 40.0 (30.0 to 50.0) | conv1: 50.0 (40.0 to 60.0) | 30.0 (20.0 to 40.0) | 70.0 (60.0 to 80.0) "
        "| conv2, k20_t0.07: 40.0 (30.0 to 50.0) |"
    )
    # Two draws, 40 and 60, are sqrt(2) * 10 apart from their mean; the interval is the mean of theirs.
    assert random.startswith("| random | conv2: 50.0 ± 14.1 (40.0 to 60.0) |")


def test_what_worse_photos_cost_begins_with_colors(tmp_path: Path) -> None:
    gray = {"gray": {"drop": 0.25, "drop_low": 0.2, "drop_high": 0.3}}
    found = of_heads(PROBED)
    write(tmp_path / "heads" / "imagenette", random_0=found | {"drops": found["drops"] | gray})
    _, _, head, _, row = drops("imagenette", tmp_path).splitlines()
    assert head == "|  | chosen head | hue | gray | noise |"
    # No minus before a zero.
    assert row == "| random | conv1/attentive | 0.0 (-1.0 to 1.0) | 25.0 (20.0 to 30.0) | 20.0 (19.0 to 21.0) |"


def test_common_classes_have_an_interval_of_their_own(tmp_path: Path) -> None:
    write(tmp_path / "dense" / "linear", random_0=of_pixels(SEGMENTED))
    row = dense("linear", tmp_path).splitlines()[-1]
    assert row == "| random | 10.0 (5.0 to 15.0) |  | 30.0 (20.0 to 40.0) |  | 20.0 | conv2 | 96 |"


def test_a_finished_verb_is_recorded_and_one_that_was_stopped_goes_on(tmp_path: Path) -> None:
    workspace = Workspace({"VOC2012": tmp_path}, tmp_path / "out", limit=9, draws=1)
    measure = Verb("dense/linear", "segment --method linear", "VOC2012", ("random",), of_pixels)
    (step,) = measure.steps(workspace)
    assert step.run is not None and step.command[:2] == ("ssl-colorize", "segment")
    step.run.mkdir(parents=True)
    (step.run / "checkpoint.pt").touch()
    assert step.pending() == ("ssl-colorize", "segment", "--resume", str(step.run))
    content = {"seed": 0, "git": "abc", "seconds": 3.0, "read": {"splits": READ}, "metrics": SEGMENTED}
    (step.run / "metrics.json").write_text(json.dumps(content))
    perform([step])
    found = json.loads((tmp_path / "out/results/dense/linear/random-0.json").read_text())
    assert (found["encoder"], found["seconds"], found["train"]) == ("random:eccv16@0.5", 3.0, 1200)
    assert found["layer"] == "conv2" and found["miou_common"] == 0.3


def test_all_networks_are_measured_on_all_sets_the_ceiling_at_its_own_size(tmp_path: Path) -> None:
    sets = ("tiny-imagenet", "imagenette128", "VOC2012")
    workspace = Workspace({name: tmp_path / name for name in sets}, tmp_path / "out", draws=1)
    folders = ("heads/tiny-imagenet", "knn/tiny-imagenet", "heads/imagenette", "knn/imagenette", "dense/linear",
               "dense/neighbors")  # fmt: skip
    rows = ("random", "kmeans", "full", "starter", "supervised", "labels")
    steps = [step for measure in TABLES["heads"].measures for step in measure.steps(workspace)]
    measured = {f"{step.made.relative_to(workspace.results)}": step.command for step in steps
                if step.made.is_relative_to(workspace.results)}  # fmt: skip
    assert measured.keys() == {f"{folder}/{row}-0.json" for folder in folders for row in rows}
    assert all(("--resize" in command) != ("labels" in path) for path, command in measured.items())
