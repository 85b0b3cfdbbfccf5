"""The table of scores, whole, in halves, and as Markdown."""

from __future__ import annotations

from typing import Any

from ssl_colorize.report.scores import best_table, markdown, score_cells, score_tables


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
