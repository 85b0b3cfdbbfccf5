"""Lines that survive a crash."""

from __future__ import annotations

from pathlib import Path

import pytest

from ssl_colorize.errors import UserError
from ssl_colorize.score.journal import Journal

NAMES = ["a", "b", "c"]


def test_half_a_line_does_not_count(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "photos.jsonl")
    assert journal.lines() == []
    journal.append([{"photo": "a", "auc": 0.1}, {"photo": "b", "auc": 1 / 3}])
    with journal.path.open("a") as file:
        file.write('{"photo": "c", "a')
    assert [line["photo"] for line in journal.lines()] == ["a", "b"]
    journal.keep(2, NAMES)
    journal.append([{"photo": "c"}])
    assert [line["photo"] for line in journal.lines()] == NAMES
    assert journal.lines()[1]["auc"] == 1 / 3
    journal.keep(1, NAMES)
    assert journal.path.read_text() == '{"photo": "a", "auc": 0.1}\n'


def test_other_photos_are_refused(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "photos.jsonl")
    journal.append([{"photo": "a"}, {"photo": "x"}])
    with pytest.raises(UserError, match="goes on with x where the photos now have b"):
        journal.keep(2, NAMES)
    journal.keep(1, NAMES)
    assert len(journal.lines()) == 1
