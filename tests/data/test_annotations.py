"""Regions from a file belong to the photos that it names."""

import json
from pathlib import Path

import numpy as np
import pytest
from annotated_sets import voc_boxes

from ssl_colorize.data import LabeledDataset, open_dataset
from ssl_colorize.data.annotations import read_proposals
from ssl_colorize.errors import UserError

BOX = [("cat", 1, 1, 5, 5)]


def given(parts: tuple[LabeledDataset, ...], file: Path) -> list[tuple[np.ndarray, ...]]:
    known = read_proposals(file)
    return [part.with_proposals(known, file=file).proposals for part in parts]


def test_regions_by_name_are_clipped(tmp_path: Path) -> None:
    parts = open_dataset(
        [str(voc_boxes(tmp_path, {"train": {"a": BOX, "b": BOX}, "val": {"c": BOX}}))], annotation="boxes"
    )
    regions = {"a": [[0, 0, 30, 5], [20, 0, 30, 5], [1, 2, 3, 4]], "b.png": [[0, 0, 1, 1]]}
    named = {**regions, "JPEGImages/c.png": [[2, 2, 4, 4]]}
    (tmp_path / "p.json").write_text(json.dumps(named))
    train, test = given(parts, tmp_path / "p.json")
    # The second one is wholly outside the photo of 20 x 10 px.
    assert train[0].tolist() == [[0, 0, 20, 5], [1, 2, 3, 4]]
    assert test[0].tolist() == [[2, 2, 4, 4]]
    np.savez(tmp_path / "p.npz", **{name.replace("/", "_"): np.asarray(each) for name, each in named.items()})
    with pytest.raises(UserError, match=r"p\.npz have none for JPEGImages/c\.png"):
        given(parts, tmp_path / "p.npz")


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    parts = open_dataset([str(voc_boxes(tmp_path, {"train": {"a": BOX}, "val": {"c": BOX}}))], annotation="boxes")
    for content, said in (
        ('{"a": [[1, 2, 3]]}', "shape"),
        ('{"a": [[30, 0, 40, 5]]}', "no region inside"),
        ("[1]", "Cannot read"),
        ("{", "p.json, line 1, is not JSON"),
    ):
        (tmp_path / "p.json").write_text(content)
        with pytest.raises(UserError, match=said):
            given(parts, tmp_path / "p.json")
    with pytest.raises(UserError, match="neither"):
        read_proposals(tmp_path / "p.txt")
    with pytest.raises(UserError, match="Cannot read"):
        read_proposals(tmp_path / "gone.npz")
