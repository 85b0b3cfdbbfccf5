"""Sheets, plots and tables: that they show what they are given."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from skimage.color import rgb2lab

from ssl_colorize.color import ab_bins, rebalance_weights
from ssl_colorize.errors import UserError
from ssl_colorize.models import Pretrained, create_model, list_models
from ssl_colorize.report import plots
from ssl_colorize.report.checkpoint import describe, entropy
from ssl_colorize.report.sheets import photo_sheet
from ssl_colorize.report.tables import duration, figures_table, number, rows_table

RED, GREEN, BLUE = (Image.new("RGB", (50, 30), color) for color in ((255, 0, 0), (0, 255, 0), (0, 0, 255)))


def columns_of(sheet: Image.Image, color: tuple[int, int, int]) -> tuple[int, int, int, int] | None:
    """The box that holds every pixel of exactly this color: left, top, right, bottom."""
    mask = Image.fromarray((np.asarray(sheet) == color).all(axis=2))
    return mask.getbbox()


# ---- sheets ---------------------------------------------------------------------------------------------------------


def test_photos_stand_under_their_titles_in_order(tmp_path: Path) -> None:
    photo_sheet([(RED, GREEN, BLUE)], ("one", "two", "three"), tmp_path / "sheet.png", cell=100)
    sheet = Image.open(tmp_path / "sheet.png")
    boxes = [columns_of(sheet, color) for color in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
    assert all(box is not None and (box[2] - box[0], box[3] - box[1]) == (100, 60) for box in boxes), boxes
    first, second, third = (box for box in boxes if box)
    assert first[2] < second[0] < second[2] < third[0]
    assert first[1] == second[1] == third[1]
    # There is a title over each, in ink.
    for box in (first, second, third):
        header = np.asarray(sheet.convert("L"))[: box[1], box[0] : box[2]]
        assert header.min() < 100


def test_groups_stand_beside_each_other_and_the_last_may_be_missing(tmp_path: Path) -> None:
    rows = [(RED, RED), (GREEN, GREEN), (BLUE, BLUE)]
    photo_sheet(rows, ("a", "b"), tmp_path / "sheet.png", cell=64, groups=2)
    sheet = Image.open(tmp_path / "sheet.png")
    red, green, blue = (columns_of(sheet, color) for color in ((255, 0, 0), (0, 255, 0), (0, 0, 255)))
    assert red and green and blue
    assert red[1] == green[1] and red[2] < green[0]
    assert blue[1] > red[3] and blue[0] == red[0]


def test_long_titles_shrink_into_their_cells(tmp_path: Path) -> None:
    photo_sheet([(RED, GREEN)], ("a title that is far too long", "b"), tmp_path / "sheet.png", cell=64)
    sheet = Image.open(tmp_path / "sheet.png")
    red, green = columns_of(sheet, (255, 0, 0)), columns_of(sheet, (0, 255, 0))
    assert red and green
    between = np.asarray(sheet.convert("L"))[: red[1], red[2] : green[0]]
    assert between.min() == 255, "the title runs into its neighbor"


def test_ragged_rows_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="2 photos"):
        photo_sheet([(RED, GREEN), (RED,)], ("a", "b"), tmp_path / "sheet.png")
    with pytest.raises(ValueError, match="photos"):
        photo_sheet([], ("a",), tmp_path / "sheet.png")


# ---- plots ----------------------------------------------------------------------------------------------------------


def write_log(folder: Path, steps: int, *, kl: bool = True) -> None:
    rows = []
    for step in range(1, steps + 1):
        row = {"step": step, "loss": 3 / step, "learning_rate": 1e-3}
        row |= {"kl": 2 / step} if kl else {}
        if step % 10 == 0:
            row |= {"holdout_loss": 3.1 / step, "holdout_loss_constant": 2.0, "holdout_kl": None}
        rows.append(json.dumps(row))
    (folder / "metrics.jsonl").write_text("\n".join([*rows, '{"step": 99, "lo']))


@pytest.mark.parametrize(("steps", "kl"), [(1, True), (30, True), (200, True), (200, False)])
def test_a_loss_curve_for_runs_of_any_length(tmp_path: Path, steps: int, kl: bool) -> None:
    write_log(tmp_path, steps, kl=kl)
    path = plots.loss_curve(tmp_path)
    assert path == tmp_path / "loss.png"
    with Image.open(path) as picture:
        # One panel for the objective, and one for the KL where there is one.
        assert (picture.height > 700) == kl


def test_no_log_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"metrics\.jsonl"):
        plots.loss_curve(tmp_path)


def test_smoothing_is_centered() -> None:
    values = np.random.default_rng(0).normal(size=50)
    smoothed = plots.smooth(values, 4)
    for place in range(4, 46):
        assert smoothed[place] == pytest.approx(values[place - 4 : place + 5].mean())
    assert smoothed[2] == pytest.approx(values[0:5].mean())
    assert np.isnan(smoothed[[0, 1, -2, -1]]).all()
    # A straight line stays where it is: a mean that lags would lie beside it.
    line = np.arange(50.0)
    kept = np.isfinite(plots.smooth(line, 4))
    assert plots.smooth(line, 4)[kept] == pytest.approx(line[kept])
    assert plots.smooth(values, 0) == pytest.approx(values)


def test_bins_are_drawn_in_their_own_color() -> None:
    bins = np.array([[0.0, 0.0], [40.0, 30.0], [-30.0, 30.0], [10.0, -40.0]])
    lab = rgb2lab(plots.bin_colors(bins, light=60.0))
    assert np.abs(lab[:, 0] - 60).max() < 0.1
    assert np.abs(lab[:, 1:] - bins).max() < 0.1


def test_larger_values_get_larger_tiles_within_their_bin() -> None:
    sides = plots._side(np.array([0.0, 1e-9, 1e-4, 1e-2, 0.2, 1.0]), 1e-7, 0.2)
    assert (np.diff(sides) >= 0).all() and sides[2] < sides[3] < sides[4]
    assert 0 < sides[0] == sides[1] and sides[-1] <= plots.BIN


def test_a_prior_plot_with_bins_that_never_occur(tmp_path: Path) -> None:
    prior = torch.zeros(313, dtype=torch.float64)
    prior[120] = 1.0
    weights = rebalance_weights(prior)
    plots.prior_plot(prior.numpy(), weights.numpy(), ab_bins().numpy(), tmp_path / "prior.png", about="one photo")
    with Image.open(tmp_path / "prior.png") as picture:
        assert picture.width > 1000


# ---- checkpoints and tables -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list_models())
def test_layers_are_described_as_they_are(name: str) -> None:
    model = create_model(name, width=0.125).eval()
    about = describe(Pretrained(model=model, input_size=64, prior=torch.full((313,), 1 / 313)))
    layers = {layer.pop("layer"): layer for layer in about["layers"]}
    with torch.inference_mode():
        maps = model.forward_features(torch.zeros(1, 1, 64, 64), model.layers)
        maps["logits"] = model(torch.zeros(1, 1, 64, 64))
    assert list(layers) == [*model.layers, "logits"]
    for layer, features in maps.items():
        assert (layers[layer]["channels"], layers[layer]["height"], layers[layer]["width"]) == features.shape[1:]
    assert about["parameters"] == sum(parameter.numel() for parameter in model.parameters())
    assert about["prior_entropy"] == pytest.approx(np.log(313), rel=1e-5)
    json.dumps(about)
    assert next(model.parameters()).device.type == "cpu", "the model itself must stay where it was"


def test_entropy_of_a_coin() -> None:
    assert entropy(torch.tensor([0.5, 0.5, 0.0])) == pytest.approx(np.log(2))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (True, "yes"),
        (1234567, "1,234,567"),
        (0.123456, "0.1235"),
        (12345.6, "12,346"),
        (6.1e-9, "6.10e-09"),
        (0.0, "0"),
        (float("nan"), "nan"),
        ("eccv16", "eccv16"),
    ],
)
def test_numbers_read_well(value: object, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(3.14, "3.1 s"), (59.4, "59 s"), (200, "3 min 20 s"), (18720, "5 h 12 min")]
)
def test_durations_read_well(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_tables_show_nested_figures_and_every_row() -> None:
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    console.print(figures_table({"loss": 2.5, "holdout": {"kl": 1.25}}, title="Figures"))
    console.print(rows_table(("layer", "channels"), [("conv1", 64), ("conv2", 128)]))
    text = console.export_text()
    for word in ("Figures", "loss", "2.5", "holdout kl", "1.25", "conv1", "64", "conv2", "128"):
        assert word in text


def test_a_table_on_a_narrow_terminal_breaks_lines_and_cuts_nothing() -> None:
    console = Console(width=56, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    columns = ("layer", "mean average precision", "95 % interval", "of common classes")
    console.print(rows_table(columns, [("conv4", "20.1", "15.8 to 25.0", "32.9")]))
    text = console.export_text()
    assert "…" not in text
    assert set(" ".join(columns).split()) | {"conv4", "20.1", "15.8", "25.0", "32.9"} <= set(text.split())
