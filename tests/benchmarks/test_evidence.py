"""The one table of everything: which figure stands in a cell, and the share of the gap beside it."""

import json
from pathlib import Path

import evidence


def draw(choosing: float, figure: float, measure: str = "probe") -> dict:
    return {measure: {"top1": figure, "choosing": choosing}}


def test_a_cell_has_the_figure_of_the_chosen_layer_and_the_gap_from_its_own_untrained_body(tmp_path: Path):
    folder = tmp_path / "frozen" / "imagenette"
    folder.mkdir(parents=True)
    for name, layers in {
        # conv2 has the better test figure, and is not the one chosen.
        "full-0": {"conv1": draw(0.6, 0.5), "conv2": draw(0.5, 0.7)},
        "random-0": {"conv1": draw(0.2, 0.1), "conv2": draw(0.1, 0.1)},
        "random-1": {"conv1": draw(0.2, 0.3), "conv2": draw(0.1, 0.1)},
        "random resnet-0": {"layer1": draw(0.2, 0.4)},
        "resnet-0": {"layer1": draw(0.2, 0.6)},
        "supervised-0": {"conv1": draw(0.1, 0.1), "conv2": draw(0.5, 0.8)},
        "labels-0": {"head": draw(0.9, 0.9)},
    }.items():
        (folder / f"{name}.json").write_text(json.dumps({"layers": layers}))
    (column,) = evidence.frozen_columns(tmp_path, {"imagenette": ("probe",)})
    cells = {name: evidence.cell(column, name) for name in column.figures}
    # (50 - 20) / (80 - 20), (50 - 20) / (90 - 20); no such network was taught labels: (60 - 40) / (90 - 40).
    assert cells["full"] == "50.0 (50%, 43%)" and cells["resnet"] == "60.0 (-, 40%)"
    assert cells["supervised"] == "80.0 (-, 86%)"
    # Two draws, 10 and 30, are sqrt(2) * 10 apart from their mean.
    assert cells["random"] == "20.0 ± 14.1" and cells["random resnet"] == "40.0" and cells["labels"] == "90.0"


def test_untrained_networks_come_first_and_ceilings_last():
    names = ["labels", "full", "supervised", "kmeans", "random", "random resnet"]
    assert sorted(names, key=evidence.place) == ["random", "random resnet", "kmeans", "full", "supervised", "labels"]
