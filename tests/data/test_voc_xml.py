"""What is wrong in VOC's annotation files is a finding for the object or the photo, and the rest is read."""

from pathlib import Path

import numpy as np
import pytest
from annotated_sets import annotation, voc_boxes
from PIL import Image, ImageOps

from ssl_colorize.data import LabeledDataset, open_dataset
from ssl_colorize.errors import UserError

Drawn = tuple[str, float, float, float, float]

CAT: list[Drawn] = [("cat", 1, 1, 5, 5)]

BOMB = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">' + "".join(
    f'<!ENTITY {chr(98 + level)} "{f"&{chr(97 + level)};" * 10}">' for level in range(9)
)


def opened(root: Path, text: str | bytes, objects: list[Drawn] = CAT) -> LabeledDataset:
    """A set of which the second training photo has this annotation file."""
    voc_boxes(root, {"train": {"a": objects, "b": CAT, "c": [("dog", 2, 2, 9, 9)]}, "val": {"v": CAT}})
    content = text.encode() if isinstance(text, str) else text
    (root / "Annotations" / "b.xml").write_bytes(content)
    return open_dataset([str(root)], annotation="boxes")[0]


def described(name: str = "<name>dog</name>", sides: str = "2,3,8,9", more: str = "") -> str:
    tags = ("xmin", "ymin", "xmax", "ymax")
    box = "".join(f"<{tag}>{side}</{tag}>" for tag, side in zip(tags, sides.split(","), strict=True))
    return f"<annotation><object>{name}<bndbox>{box}</bndbox>{more}</object></annotation>"


@pytest.mark.parametrize(
    "text",
    [
        "", "<annotation><object>", "<<<", "cat 1 1 5 5", '{"name": "cat"}', b"\xff\xfe\x00", b"\x00" * 40,
        f"{BOMB}]><annotation><object><name>&j;</name></object></annotation>",
        '<?xml version="1.0" encoding="nonsense"?><annotation/>',
        "<annotation><object><name>&undefined;</name></object></annotation>",
        f"{BOMB}]><annotation/>".encode("utf-16"),
    ],
    ids=range(11),
)  # fmt: skip
def test_a_file_that_cannot_be_read_leaves_out_its_photo(tmp_path: Path, text: str | bytes) -> None:
    train = opened(tmp_path, text)
    assert len(train) == 2 and [each.kind for each in train.findings] == ["left out"]
    assert train.findings[0].text.startswith("Annotations/b.xml: ") and "\n" not in train.findings[0].text


@pytest.mark.parametrize(
    ("text", "corners"),
    [
        (described(), [[1, 2, 8, 9]]),
        ("\ufeff" + described(), [[1, 2, 8, 9]]),
        (described(sides="2.5, 3.25 ,8,9"), [[1.5, 2.25, 8, 9]]),
        (described(sides="2e0,3,8,9"), [[1, 2, 8, 9]]),
        (described(name="<name> dog\n</name>"), [[1, 2, 8, 9]]),
        (described(more="<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part>"), [[1, 2, 8, 9]]),
        (described(more="<polygon><x1>1</x1></polygon><attributes/>"), [[1, 2, 8, 9]]),
        (described(sides="0,0,8,9"), [[0, 0, 8, 9]]),
    ],
)
def test_boxes(tmp_path: Path, text: str, corners: list[list[float]]) -> None:
    train = opened(tmp_path, text)
    assert train.boxes[1].corners.tolist() == corners and train.boxes[1].labels.tolist() == [1]


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        (described(sides="8,3,2,9"), "dropped", "[7, 2, 2, 9] has no area"),
        (described(sides="8,3,7,9"), "dropped", "[7, 2, 7, 9] has no area"),
        (described(sides="one,3,8,9"), "dropped", "a side that is no number"),
        (described(sides="2,5,inf,9"), "dropped", "a side that is no number"),
        (described(sides="2,5,1e30,9"), "dropped", "outside its photo"),
        (described(sides="2,5,1e300,9"), "dropped", "a side that is no number"),
        (described(sides=",,,"), "dropped", "a side that is no number"),
        ("<annotation><object><name>dog</name></object></annotation>", "dropped", "a side that is no number"),
        (described(name=""), "unknown", "Annotations/b.xml: 1 without a name"),
        (described(name="<name> </name>"), "unknown", "1 without a name"),
        ("<annotation/>", "empty", "Annotations/b.xml"),
        ("<html><body/></html>", "empty", "Annotations/b.xml"),
    ],
)
def test_an_object_that_cannot_be_used_is_dropped(tmp_path: Path, text: str, kind: str, said: str) -> None:
    train = opened(tmp_path, text)
    assert len(train) == 3 and not len(train.boxes[1].labels)
    found = {each.kind: each.text for each in train.findings}
    assert said in found[kind]


@pytest.mark.parametrize(
    ("value", "difficult"), [("1", True), ("0", False), ("", False), ("1.0", True), ("Unspecified", False)]
)
def test_difficult(tmp_path: Path, value: str, difficult: bool) -> None:
    train = opened(tmp_path, described(more=f"<difficult>{value}</difficult>"))
    assert train.boxes[1].difficult.tolist() == [difficult]


@pytest.mark.parametrize("size", [(0, 0), (-3, 10), (20, 0), ("wide", "high"), ("1e400", 10)])
def test_a_size_that_is_none_is_not_asked(tmp_path: Path, size: tuple[int, int]) -> None:
    voc_boxes(tmp_path, {"train": {"a": CAT}, "val": {"v": CAT}})
    annotation(tmp_path, "a", CAT, size=size)
    train, _ = open_dataset([str(tmp_path)], annotation="boxes")
    assert train.boxes[0].corners.tolist() == [[0, 0, 5, 5]] and not train.findings


def test_nothing_left_is_one_line(tmp_path: Path) -> None:
    voc_boxes(tmp_path, {"train": {"a": CAT}, "val": {"v": CAT}})
    (tmp_path / "Annotations" / "a.xml").write_text("")
    for kind in ("boxes", "labels"):
        with pytest.raises(UserError, match=r"can be used, the first one for this: .*Annotations/a.xml: no element"):
            open_dataset([str(tmp_path)], annotation=kind)


def test_left_top_width_height_is_doubted(tmp_path: Path) -> None:
    wrong = [("cat", 10, 5, 4, 4), ("cat", 12, 6, 5, 3), ("cat", 1, 1, 5, 5)]
    train = opened(tmp_path, described(), wrong)
    assert len(train.boxes[0].labels) == 1
    assert "format" not in [each.kind for each in train.findings]
    train = opened(tmp_path, described(sides="12,6,5,3"), wrong)
    assert train.findings[-1].kind == "format" and "3 of 5 boxes do not lie" in train.findings[-1].text


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("made_on", ["stored", "upright"])
def test_boxes_turn_with_their_photo(tmp_path: Path, orientation: int, made_on: str) -> None:
    voc_boxes(tmp_path, {"train": {"a": CAT}, "val": {"v": CAT}})
    exif = Image.Exif()
    exif[274] = orientation
    pixels = np.zeros((10, 20), np.uint8)
    pixels[2:7, 3:9] = 255
    file = tmp_path / "JPEGImages" / "a.png"
    Image.fromarray(pixels).save(file, exif=exif)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(file)))
    drawn_on = pixels if made_on == "stored" else upright
    rows, columns = np.nonzero(drawn_on)
    box = ("cat", columns.min() + 1, rows.min() + 1, columns.max() + 1, rows.max() + 1)
    annotation(tmp_path, "a", [box], size=drawn_on.shape[::-1])
    train, _ = open_dataset([str(tmp_path)], annotation="boxes")
    (left, top, right, bottom) = train.boxes[0].corners[0].astype(int)
    told = orientation >= 5
    expected = upright if told else drawn_on
    assert expected[top:bottom, left:right].all() and expected[top:bottom, left:right].size == (pixels > 0).sum()
    kinds = [each.kind for each in train.findings]
    assert kinds == (["orientation"] if not told else ["turned"] if made_on == "stored" else [])
