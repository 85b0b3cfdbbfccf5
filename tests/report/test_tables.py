"""Tables: numbers that read well, and the table of scores whole, in halves, and as Markdown."""

from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from ssl_colorize.report.tables import (
    best_table,
    duration,
    figures_table,
    markdown,
    number,
    robustness_tables,
    rows_table,
    score_cells,
    score_tables,
)


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


# ---- scores ----------------------------------------------------------------------------------------------------


def figures(auc: float, **more: Any) -> dict[str, Any]:
    keys = ("auc_rebalanced", "classifier_top1", "classifier_top5", "classifier_agreement", "psnr", "ssim", "lpips",
            "fid", "colorfulness", "parameters_mb", "features_mb", "seconds_per_photo")  # fmt: skip
    return dict.fromkeys(keys) | {"auc": auc, "intervals": {"auc": [auc - 0.01, auc + 0.01]}} | more


METRICS = {
    "gray": figures(0.891, psnr=23.456),
    "full": figures(0.8, psnr=20.0, seconds_per_photo=0.0221, parameters_mb=128.94),
    "photos": 3,
}


def test_columns_without_figures_are_left_out() -> None:
    titles, rows = score_cells(METRICS, ["gray", "full"])
    assert titles == ["method", "AuC %", "95 %", "PSNR", "params MB", "ms/photo"]
    assert rows == [
        ["gray", "89.1", "88.1..90.1", "23.46", "-", "-"],
        ["full", "80.0", "79.0..81.0", "20.00", "128.9", "22"],
    ]


def test_one_table_where_it_fits() -> None:
    assert len(score_tables(METRICS, ["gray", "full"], title="t", width=200)) == 1
    halves = score_tables(METRICS, ["gray", "full"], title="t", width=40)
    assert [[column.header for column in half.columns] for half in halves] == [
        ["method", "AuC %", "95 %"],
        ["method", "PSNR", "params MB", "ms/photo"],
    ]


def test_markdown_is_whole() -> None:
    lines = markdown(METRICS, ["gray", "full"]).splitlines()
    assert len(lines) == 4 and all(line.startswith("|") and line.endswith("|") for line in lines)
    assert [cell.strip() for cell in lines[3].strip("|").split("|")][:3] == ["full", "80.0", "79.0..81.0"]


def test_best_temperatures() -> None:
    assert best_table({"full": {"auc": 1.0, "fid": 0.38}}).row_count == 2


def test_robustness_reads_the_same_without_an_untrained_network() -> None:
    worse = {"top1": 0.4, "drop": 0.1, "drop_low": 0.05, "drop_high": 0.15}
    found = {"top1": 0.5, "low": 0.4, "high": 0.6, "corrupt": {"noise": {"1": worse, "mean": worse}}}
    found["also"] = {"sketches": {"top1": 0.3, "low": 0.2, "high": 0.4, "photos": 60}}
    alone, beside = (robustness_tables(found, other, name="conv4") for other in ({}, found))
    for one, two, more in zip(alone, beside, ("untrained top-1 %", "untrained, drop"), strict=True):
        assert [column.header for column in two.columns] == [*(column.header for column in one.columns), more]
        assert [list(column.cells) for column in two.columns][:-1] == [list(column.cells) for column in one.columns]
