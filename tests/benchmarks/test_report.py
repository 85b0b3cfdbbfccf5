"""RESULTS.md against what the studies recorded."""

from pathlib import Path

import pytest
import report

from ssl_colorize.errors import UserError


def test_the_tables_of_the_results_are_what_was_recorded() -> None:
    text = report.FILE.read_text("utf-8")
    assert report.filled(text) == text, "run python benchmarks/report.py"
    assert text.count("<!-- end -->") >= 5


def test_no_record_says_where_files_lay() -> None:
    for path in (Path(report.__file__).parent / "results").rglob("*.json"):
        assert '"/' not in path.read_text("utf-8"), path


def test_only_what_stands_between_marks_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(report.TABLES, "sum", lambda a, b: str(int(a) + int(b)))
    text = "by hand <!-- end -->\n<!-- sum 1 2 -->\nold\n<!-- end -->\nby hand\n<!-- sum 3 4 -->\n<!-- end -->\n"
    wanted = "by hand <!-- end -->\n<!-- sum 1 2 -->\n3\n<!-- end -->\nby hand\n<!-- sum 3 4 -->\n7\n<!-- end -->\n"
    assert report.filled(text) == wanted == report.filled(wanted)


def test_a_mark_that_names_no_table_is_refused() -> None:
    with pytest.raises(UserError, match="no table 'sums'"):
        report.filled("<!-- sums 1 -->\n<!-- end -->")
