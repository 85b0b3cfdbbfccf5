"""Text files of any editor say the same, and what is wrong with one names its line."""

import os
from pathlib import Path
from typing import Any

import pytest

from ssl_colorize.config import MeasuringSource, TrainingSource, from_home
from ssl_colorize.errors import UserError
from ssl_colorize.pretrain.config import Recipe
from ssl_colorize.text import read_json, read_lines, read_table, read_text


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_marks_and_line_ends(tmp_path: Path, encoding: str, ends: str) -> None:
    # U+2028 is a letter of a name here, and no end of a line.
    (tmp_path / "a.txt").write_bytes(ends.join(["é.jpg", "", "  b\u2028c.jpg "]).encode(encoding))
    assert read_lines(tmp_path / "a.txt") == [(1, "é.jpg"), (3, "b\u2028c.jpg")]
    (tmp_path / "a.csv").write_bytes(ends.join(["path\tlabel", '"é\t1.jpg"\t2', ""]).encode(encoding))
    assert read_table(tmp_path / "a.csv") == [(1, ["path", "label"]), (2, ["é\t1.jpg", "2"])]
    (tmp_path / "a.json").write_bytes(ends.join(["{", '"é": 1}']).encode(encoding))
    assert read_json(tmp_path / "a.json") == {"é": 1}


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"a\nb\n\xe9\n", "line 3, is not UTF-8"), (b"a\n\0", "line 2, is not text"), (b"{\n]", "line 2, is not JSON")],
)
def test_what_is_no_text_names_the_line(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(UserError, match=said) as caught:
        read_json(tmp_path / "a.txt")
    assert "\n" not in str(caught.value) and str(tmp_path / "a.txt") in str(caught.value)
    with pytest.raises(UserError, match="Cannot read"):
        read_text(tmp_path / "gone.txt")


def test_paths_begin_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "list.txt").write_text("a")
    assert read_text("~/list.txt") == "a"
    assert from_home("full=~/run") == f"full={tmp_path}/run" and from_home(("~/a", 3)) == (f"{tmp_path}/a", 3)
    assert from_home("a~b") == "a~b" and from_home("x/y=~/b") == "x/y=~/b"
    assert from_home(Path("~/a")) == tmp_path / "a"
    (tmp_path / "recipe.yaml").write_bytes(b"\xef\xbb\xbfdata: ~/photos\r\nexclude: ~/list.txt\r\n")
    recipe = Recipe.resolve(file="~/recipe.yaml", assignments=["prior=~/prior.npy"])
    assert (recipe.data, recipe.exclude) == ((f"{tmp_path}/photos",), os.fspath(tmp_path / "list.txt"))
    assert recipe.prior == f"{tmp_path}/prior.npy"


def test_data_and_train_replace_each_other(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("data: [a]\n")
    assert Recipe.resolve(file=file, flags={"train": ("b",)}).sources == {"data": (), "train": ("b",)}
    assert Recipe.resolve(flags={"train": ("b",)}).sources == {"data": (), "train": ("b",)}
    file.write_text("train: [a]\ntest: [b]\n")
    asked: dict[str, Any] = {"data": ("c",)}
    assert MeasuringSource.resolve(file=file).sources == {"data": (), "train": ("a",), "test": ("b",), "classes": ()}
    assert MeasuringSource.resolve(file=file, flags=asked).sources == {**asked, "train": (), "test": (), "classes": ()}
    assert MeasuringSource.resolve(flags={"train": ("a b",), "classes": ("x",)}).flags == " --train 'a b' --classes x"
    for given, said in (
        ({"data": ("a",), "train": ("b",)}, "not both"),
        ({}, "give the photos with --data"),
        ({"test": ("b",)}, "those to train on with --train"),
    ):
        with pytest.raises(UserError, match=said):
            MeasuringSource.resolve(flags=given)
    with pytest.raises(UserError, match="not both"):
        TrainingSource.resolve(flags={"data": ("a",), "train": ("b",)})
