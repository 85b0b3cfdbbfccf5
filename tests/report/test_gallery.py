"""The gallery: self-contained, and safe with any name."""

from __future__ import annotations

import re
from base64 import b64decode
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ssl_colorize.report.gallery import coloring_methods, gallery_page, gallery_sheet
from ssl_colorize.score.scorer import Example


@pytest.fixture
def examples() -> list[Example]:
    colors = {"truth": "orange", "gray": "gray", "<b>": "teal", "full": "purple"}
    pictures = {name: Image.new("RGB", (64, 64), color) for name, color in colors.items()}
    auc = {"truth": 1.0, "gray": 0.8, "<b>": 0.7, "full": 0.654}
    return [Example(f'photo"{number}&.png', Image.new("RGB", (64, 64), "orange"), pictures, auc) for number in range(3)]


def test_the_page_needs_no_other_file(examples: list[Example], tmp_path: Path) -> None:
    page = gallery_page(
        tmp_path / "gallery.html", examples, title="A <title>", columns=["method", "AuC %"], rows=[["<b>", "70.0"]],
        protocol={"auc": "closeness > 0"},
    ).read_text()  # fmt: skip
    assert "<b>" not in page and "&lt;b&gt;" in page and "A &lt;title&gt;" in page and "photo&quot;2&amp;.png" in page
    assert not re.search(r"""(src|href)=["'](?!data:)""", page) and "http" not in page
    assert re.findall(r'<th scope="col">([^<]*)</th>', page)[2:] == ["gray", "&lt;b&gt;", "full", "truth"]
    pictures = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page)
    assert len(pictures) == 3 * 4
    gray, teal, purple, truth = (
        np.asarray(Image.open(BytesIO(b64decode(each)))).reshape(-1, 3).mean(0).round() for each in pictures[:4]
    )
    assert np.ptp(gray) <= 1 and teal[0] < 5 and purple[1] < 5 and abs(truth - (255, 165, 0)).max() < 4
    assert page.count(">70.0</td>") == 4 and page.count(">65.4</td>") == 3 and page.count(">100.0</td>") == 3


def test_the_sheet_has_the_methods_asked_for(examples: list[Example], tmp_path: Path) -> None:
    assert coloring_methods(examples) == ["<b>", "full"] and coloring_methods([]) == []
    sheet = np.asarray(Image.open(gallery_sheet(tmp_path / "a.png", examples, methods=["full"])))
    assert (sheet == (128, 0, 128)).all(2).any() and not (sheet == (0, 128, 128)).all(2).any()
    whole = np.asarray(Image.open(gallery_sheet(tmp_path / "b.png", examples)))
    assert (whole == (0, 128, 128)).all(2).any()
