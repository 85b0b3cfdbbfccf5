"""The nearest photos without labels: those that a plain product finds, and never the query itself."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ssl_colorize.data import open_photos
from ssl_colorize.encoder import load_encoder
from ssl_colorize.errors import UserError
from ssl_colorize.evaluate import KnnSettings, extract, run_retrieval
from ssl_colorize.report.sheets import retrieval_sheet

SOURCE = "random:eccv16@0.125"


@pytest.fixture
def settings(photo_folder: Path) -> KnnSettings:
    return KnnSettings(
        encoder=SOURCE, data=(str(photo_folder),), layers=("conv1", "conv3"), resize=16, workers=0, random=False,
        device="cpu", no_cache=True, neighbors_of=(str(photo_folder / "photo03.png"),), shown=4,
    )  # fmt: skip


def test_neighbors_are_those_of_a_plain_product(settings: KnnSettings, photo_folder: Path) -> None:
    found = run_retrieval(settings).metrics
    photos = open_photos([str(photo_folder)], split="all")
    for layer in settings.layers:
        rows = extract(load_encoder(SOURCE), photos, resize=16).features[layer].astype(np.float64)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        similarity = rows @ rows[3]
        similarity[3] = -2
        (near,) = found[layer]["neighbors"].values()
        order = np.argsort(-similarity)[:4]
        assert [one["photo"] for one in near] == [photos.name(int(index)) for index in order]
        np.testing.assert_allclose([one["similarity"] for one in near], similarity[order], atol=1e-5)


def test_a_link_to_the_query_is_the_query_and_a_copy_is_its_neighbor(
    settings: KnnSettings, photo_folder: Path, tmp_path: Path
) -> None:
    os.link(photo_folder / "photo03.png", tmp_path / "linked.png")
    (photo_folder / "copy.png").write_bytes((photo_folder / "photo03.png").read_bytes())
    asked = settings.model_copy(update={"neighbors_of": (str(tmp_path / "linked.png"),)})
    (near,) = run_retrieval(asked).metrics["conv1"]["neighbors"].values()
    assert near[0]["photo"] == "copy.png" and near[0]["similarity"] == pytest.approx(1, abs=1e-6)
    assert all(one["photo"] != "photo03.png" for one in near)


def test_untrained_features_stand_below_and_a_sheet_shows_both(
    settings: KnnSettings, photo_folder: Path, tmp_path: Path
) -> None:
    asked = settings.model_copy(update={
        "encoder": "eccv16_starter", "random": True, "layers": ("conv1",), "shown": 40,
        "neighbors_of": (*settings.neighbors_of, str(photo_folder / "photo05.png")),
    })  # fmt: skip
    result = run_retrieval(asked)
    assert result.metrics["random"]["conv1"]["neighbors"].keys() == result.metrics["conv1"]["neighbors"].keys()
    (layer,) = result.layers
    assert layer.untrained is not None and len(layer.found) == 2
    assert [len(each.indices) for each in (*layer.found, *layer.untrained)] == [13] * 4  # all others there are
    with Image.open(retrieval_sheet(layer, tmp_path / "sheet.png")) as sheet:
        assert sheet.width > 14 * 128 and sheet.height > 4 * 100


def test_mistakes_are_one_line(settings: KnnSettings, photo_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no photo")
    (tmp_path / "broken.png").write_bytes(b"no photo")
    for changes, said in (
        ({"neighbors_of": (str(tmp_path / "gone.png"),)}, "there is no such file"),
        ({"neighbors_of": (str(tmp_path / "notes.txt"),)}, "not a photo by its name"),
        ({"neighbors_of": (*settings.neighbors_of, str(tmp_path / "broken.png"))}, "broken.png.*cannot be read"),
        ({"corrupt": True}, "classifies nothing"),
    ):
        with pytest.raises(UserError, match=said) as caught:
            run_retrieval(settings.model_copy(update=changes))
        assert "\n" not in str(caught.value)
