"""Plots: for runs of any length, and that what is drawn is what is so."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.color import rgb2lab

from ssl_colorize.color import ab_bins, rebalance_weights
from ssl_colorize.errors import UserError
from ssl_colorize.report import plots


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
    sides = plots.tile_sides(np.array([0.0, 1e-9, 1e-4, 1e-2, 0.2, 1.0]), 1e-7, 0.2)
    assert (np.diff(sides) >= 0).all() and sides[2] < sides[3] < sides[4]
    assert 0 < sides[0] == sides[1] and sides[-1] <= plots.BIN


def test_a_prior_plot_with_bins_that_never_occur(tmp_path: Path) -> None:
    prior = torch.zeros(313, dtype=torch.float64)
    prior[120] = 1.0
    weights = rebalance_weights(prior)
    plots.prior_plot(prior.numpy(), weights.numpy(), ab_bins().numpy(), tmp_path / "prior.png", about="one photo")
    with Image.open(tmp_path / "prior.png") as picture:
        assert picture.width > 1000
