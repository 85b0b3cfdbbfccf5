"""Which figure stands in which cell, and the share of the gap beside it."""

import json
from pathlib import Path

import pytest
import records
import rendering

from ssl_colorize.errors import UserError


def draws(*layers: str, top1: float) -> list[dict]:
    return [{"layers": {name: {"probe": {"top1": top1, "choosing": top1}} for name in layers}}]


FOUND = {
    "full": draws("conv1", "conv2", top1=0.5),
    "labels": draws("head", top1=0.9),
    "random": draws("conv1", "conv2", top1=0.1),
    "resnet": draws("layer1", top1=0.7),
    "random resnet": draws("layer1", top1=0.3),
}


def write(folder: Path, found: dict[str, dict]) -> None:
    folder.mkdir(parents=True)
    for name, content in found.items():
        (folder / f"{name}.json").write_text(json.dumps(content))


def test_each_body_has_a_table_with_its_own_untrained_network_and_the_ceiling() -> None:
    assert [list(each) for each in rendering.bodies(FOUND, "probe")] == [
        ["random", "full", "labels"], ["random resnet", "resnet", "labels"]
    ]  # fmt: skip


def test_a_body_that_was_not_measured_so_has_no_table() -> None:
    few = {name: [{"layers": {"conv1": {"knn": {}}}}] for name in ("random", "full", "labels")}
    found = few | {name: FOUND[name] for name in ("random resnet", "resnet")}
    assert [list(each) for each in rendering.bodies(found, "knn")] == [["random", "full", "labels"]]


def test_the_gap_is_closed_from_the_body_s_own_untrained_network() -> None:
    *_, ours = rendering.layer_columns(rendering.bodies(FOUND, "probe")[0], "probe")
    *_, resnet = rendering.layer_columns(rendering.bodies(FOUND, "probe")[1], "probe")
    # (0.5 - 0.1) / (0.9 - 0.1) and (0.7 - 0.3) / (0.9 - 0.3).
    assert (ours.cells, resnet.cells) == ({"full": "50%"}, {"resnet": "67%"})


def draw(choosing: float, figure: float) -> dict:
    return {"probe": {"top1": figure, "choosing": choosing}}


def test_a_cell_has_the_figure_of_the_chosen_layer_and_the_gap_from_its_own_untrained_body(tmp_path: Path) -> None:
    networks = {
        # conv2 has the better test figure, and is not the one chosen.
        "full-0": {"conv1": draw(0.6, 0.5), "conv2": draw(0.5, 0.7)},
        "random-0": {"conv1": draw(0.2, 0.1), "conv2": draw(0.1, 0.1)},
        "random-1": {"conv1": draw(0.2, 0.3), "conv2": draw(0.1, 0.1)},
        "random resnet-0": {"layer1": draw(0.2, 0.4)},
        "resnet-0": {"layer1": draw(0.2, 0.6)},
        "supervised-0": {"conv1": draw(0.1, 0.1), "conv2": draw(0.5, 0.8)},
        "labels-0": {"head": draw(0.9, 0.9)},
    }
    write(tmp_path / "frozen" / "imagenette", {name: {"layers": layers} for name, layers in networks.items()})
    (column,) = rendering.frozen_figures(tmp_path, {"imagenette": ("probe",)})
    cells = {name: column.cell(name) for name in column.figures}
    # (50 - 20) / (80 - 20), (50 - 20) / (90 - 20); no such network was taught labels: (60 - 40) / (90 - 40).
    assert cells["full"] == "50.0 (50%, 43%)" and cells["resnet"] == "60.0 (-, 40%)"
    assert cells["supervised"] == "80.0 (-, 86%)"
    # Two draws, 10 and 30, are sqrt(2) * 10 apart from their mean.
    assert cells["random"] == "20.0 ± 14.1" and cells["random resnet"] == "40.0" and cells["labels"] == "90.0"
    assert rendering.evidence([column], ceilings=("supervised",)).splitlines()[-2:] == [
        "| labels | 90.0 |", "| the paper's share | (46%) |"
    ]  # fmt: skip


def test_a_figure_that_few_photos_do_not_give_stays_empty(tmp_path: Path) -> None:
    tuned = {"miou": 0.2, "low": 0.1, "high": 0.3, "choosing": None, "learning_rate": 1e-3}
    write(tmp_path / "transfer" / "segmentation", {
        "random-0": tuned | {"miou_common": None},
        "full-0": tuned | {"miou": 0.3, "miou_common": 0.4},
        "labels-0": tuned | {"miou": 0.6, "miou_common": 0.6},
    })  # fmt: skip
    assert rendering.tuned("segmentation", tmp_path).splitlines()[-2:] == [
        "| full | 30.0 (10.0 to 30.0) | 25% | 40.0 |  |  | 0.001 |",
        "| labels | 60.0 (10.0 to 30.0) |  | 60.0 |  |  | 0.001 |",
    ]


def recipe(top1: float, **changed: object) -> dict:
    """One data set, four layers, of which the third and fourth are deep."""
    layers = {
        f"conv{number}": {"probe": {"top1": top1 + number / 100}, "knn": {"top1": top1}} for number in range(1, 5)
    }
    return {"changed": changed, "photos_seen": 640, "kl": 2.0, "data": {"photos": {"layers": layers}}}


def test_the_best_recipe_comes_after_the_base_and_says_what_differs(tmp_path: Path) -> None:
    found = {"base-0": recipe(0.2), "worse-0": recipe(0.1, mix=0.8), "better-0": recipe(0.3, steps=20)}
    write(tmp_path / "recipes", found)
    _, _, *rows = rendering.recipes(tmp_path).splitlines()
    assert [row.split(" | ")[0] for row in rows] == ["| base", "| better", "| worse"]
    # Best layer 30 + 4, the deep ones' mean 30 + 3.5, kNN 30, and the mean of the three.
    assert rows[1] == "| better | steps 20 | 640 | 2.000 | 34.0 | 33.5 | 30.0 | 32.5 |"


def test_a_table_without_its_base_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "recipes", {"better-0": recipe(0.3)})
    with pytest.raises(UserError, match="lacks the run base"):
        rendering.recipes(tmp_path)


def test_initializations_say_from_when_on_the_constant_stays_beaten(tmp_path: Path) -> None:
    curve = [{"step": step, "holdout_loss": loss, "holdout_loss_constant": 2.0}
             for step, loss in ((10, 1.9), (20, 2.1), (30, 1.8), (40, 1.7))]  # fmt: skip
    metrics = {"loss": 1.7, "loss_constant": 2.0, "spread": 3.0, "spread_true": 6.0}
    runs = {"init-lsuv-0": {"metrics": metrics, "curve": curve},
            "init-lsuv-1": {"metrics": metrics | {"loss": 1.9}, "curve": curve[:2]}}  # fmt: skip
    write(tmp_path / "training", runs)
    assert rendering.starts(tmp_path).splitlines()[-1] == (
        "| init-lsuv | 1.800 (0.200) | 2.000 (0.000) | 30, never | 0.500 (0.000) |"
    )


def test_cells_are_found_by_row_and_column() -> None:
    text = f"**title**\n\n{records.markdown([('', 'a', 'b'), ('x', '1', '2'), ('y', '3', '')])}\n\n| other |\n"
    assert records.cell_of(text, "x", "b") == "2" and records.cell_of(text, "y", "a") == "3"
