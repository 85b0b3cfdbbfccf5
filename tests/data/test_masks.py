"""What pixels of masks say is understood as what it means, by number or by color, or refused in one line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from annotated_sets import photo, voc_masks
from PIL import Image, ImageOps

from ssl_colorize.data import LabeledDataset, open_dataset
from ssl_colorize.data.mask_classes import MaskClasses, voc_color
from ssl_colorize.errors import UserError

CAT, DOG = 8, 12

# (10, 20): a cat at the left, a dog at its right, VOC's border between them.
TRUTH = np.zeros((10, 20), np.uint8)
TRUTH[2:8, 2:8], TRUTH[2:8, 8:10], TRUTH[2:8, 10:16] = CAT, 255, DOG
# The same as numbers of two classes.
SMALL = np.select([TRUTH == CAT, TRUTH == DOG, TRUTH == 255], [1, 2, 255], 0).astype(np.uint8)
BINARY = np.where(TRUTH == CAT, 255, 0).astype(np.uint8)
VOC_PALETTE = [voc_color(number) for number in range(256)]
COLORS = np.asarray(VOC_PALETTE, np.uint8)[TRUTH]

NAMES = "background\ncat\ndog\n"


def indexed(values: np.ndarray, palette: list[tuple[int, int, int]]) -> Image.Image:
    picture = Image.fromarray(values.astype(np.uint8))
    picture.putpalette([side for color in palette for side in color])
    return picture


def folder(root: Path, picture: Image.Image, name: str = "{}.png", **files: str) -> Path:
    """A VOC folder whose three photos, two to train on, all have this mask; `files` are lists of classes."""
    voc_masks(root, {"train": {"p1": 0, "p2": 0}, "val": {"p3": 0}})
    for stem in ("p1", "p2", "p3"):
        (root / "SegmentationClass" / f"{stem}.png").unlink()
        picture.save(root / "SegmentationClass" / name.format(stem))
    for file, text in files.items():
        (root / file.replace("_txt", ".txt").replace("_csv", ".csv")).write_text(text)
    return root


def opened(root: Path, **options: Any) -> LabeledDataset:
    return open_dataset([str(root)], annotation="masks", **options)[0]


def read(root: Path, **options: Any) -> np.ndarray:
    return opened(root, **options).masks[0].read()


def problem(root: Path, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        opened(root, **options)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 700
    return message


# --- numbers ---------------------------------------------------------------------------------------------------------


def test_true_voc_is_as_it_was(tmp_path: Path) -> None:
    train = opened(folder(tmp_path, indexed(TRUTH, VOC_PALETTE)))
    assert (train.masks[0].read() == TRUTH).all() and train.masks[0].read().dtype == np.uint8
    assert np.flatnonzero(train.labels[0]).tolist() == [0, CAT, DOG]
    assert {each.kind for each in train.findings} == {"unseen"}
    assert len(train.findings) == 18


@pytest.mark.parametrize("colored", [False, True])
def test_zero_and_255_are_refused_unless_they_are_said_to_be_classes(tmp_path: Path, colored: bool) -> None:
    picture = Image.fromarray(np.stack([BINARY] * 3, -1) if colored else BINARY)
    said = problem(folder(tmp_path, picture))
    assert "SegmentationClass/p1.png" in said and "0, 255" in said and "--mask-values 0,255" in said
    train = opened(tmp_path, mask_values="0,255")
    assert train.classes == ("background", "object")
    assert (train.masks[0].read() == (TRUTH == CAT)).all()
    (tmp_path / "classes.txt").write_text("background\ncat\n")
    assert "--mask-values 0,255" in problem(tmp_path)
    assert opened(tmp_path, mask_values="0,255").classes == ("background", "cat")


def test_masks_that_show_nothing_are_refused_in_either_part(tmp_path: Path) -> None:
    root = folder(tmp_path, Image.fromarray(SMALL), classes_txt=NAMES)
    for values, seen in ((BINARY, "0, 255"), (np.full_like(SMALL, 255), "255"), (np.zeros_like(SMALL), "0")):
        Image.fromarray(values).save(root / "SegmentationClass" / "p3.png")
        said = problem(root)
        assert "SegmentationClass/p3.png" in said and f"nothing but background and the values {seen}" in said
    # Beside others one of them is a finding.
    Image.fromarray(SMALL).save(root / "SegmentationClass" / "p3.png")
    Image.fromarray(BINARY).save(root / "SegmentationClass" / "p2.png")
    (found,) = opened(root).findings
    assert found.kind == "uncounted" and found.text == "SegmentationClass/p2.png: its values are 0, 255"


def test_a_listed_class_that_is_in_no_training_mask_is_named(tmp_path: Path) -> None:
    root = folder(tmp_path, Image.fromarray(SMALL), classes_txt=NAMES + "emu\n")
    (found,) = opened(root).findings
    assert (found.kind, found.text) == ("unseen", "emu")
    assert "1 listed class is in no training mask: emu" in opened(root).reading.findings[0]
    Image.fromarray(np.where(SMALL == 2, 3, SMALL)).save(root / "SegmentationClass" / "p3.png")
    assert "photos to test on but none to train on of emu" in problem(root)
    for stem in ("p1", "p2", "p3"):
        Image.fromarray(np.full_like(SMALL, 2)).save(root / "SegmentationClass" / f"{stem}.png")
    assert "nothing but dog" in problem(root)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (SMALL * 100, "has the value 100"),
        (np.where(SMALL == 255, 255, SMALL + 1), "has the value 3"),
        (np.arange(200, dtype=np.uint8).reshape(10, 20), "blurred"),
    ],
    ids=["spread", "from 1 on", "blurred"],
)
def test_numbers_that_are_no_class_are_refused_with_what_was_seen(
    tmp_path: Path, values: np.ndarray, said: str
) -> None:
    message = problem(folder(tmp_path, Image.fromarray(values.astype(np.uint8)), classes_txt=NAMES))
    assert said in message and "p1.png" in message and "none of the 3 classes" in message


def test_numbers_that_are_said_to_be_classes(tmp_path: Path) -> None:
    root = folder(tmp_path, Image.fromarray(np.where(SMALL == 255, 255, SMALL + 1).astype(np.uint8)), classes_txt=NAMES)
    assert (read(root, mask_values="1,2,3") == SMALL).all()
    assert (read(root, mask_values="1-3") == SMALL).all()
    # What stands for nothing: here the background.
    (root / "classes.txt").write_text("cat\ndog\n")
    expected = np.select([SMALL == 1, SMALL == 2], [0, 1], 255)
    assert (read(root, mask_values="2 3 ignore=1") == expected).all()
    assert "it has the values 1, of which --mask-values says nothing; all: 1, 2, 3, 255" in problem(
        root, mask_values="2,3"
    )
    assert "for 3 classes, and 2 are listed" in problem(root, mask_values="1,2,3")
    for wrong in ("0,0", "cat", "1,", "", "0,255,ignore=255", "0;1"):
        assert "--mask-values" in problem(root, mask_values=wrong)


@pytest.mark.parametrize(
    ("make", "suffix"),
    [
        (lambda small: Image.fromarray(small.astype(np.uint16)), "png"),
        (lambda small: Image.fromarray(small.astype(np.int32)), "tif"),
        (lambda small: Image.fromarray(small.astype(np.float32)), "tif"),
        (lambda small: Image.fromarray(np.stack([small] * 3, -1)), "png"),
        (lambda small: Image.fromarray(np.stack([small, np.full_like(small, 255)], -1), "LA"), "png"),
        (lambda small: Image.fromarray(small), "bmp"),
        (lambda small: indexed(small, [(number, number, number) for number in range(256)]), "gif"),
    ],
    ids=["16 bit", "32 bit", "float", "RGB of grays", "with alpha", "BMP", "GIF"],
)
def test_numbers_in_any_kind_of_file(tmp_path: Path, make: Callable[[np.ndarray], Image.Image], suffix: str) -> None:
    assert (read(folder(tmp_path, make(SMALL), f"{{}}.{suffix}", classes_txt=NAMES)) == SMALL).all()


def test_few_bits(tmp_path: Path) -> None:
    binary = (TRUTH == CAT).astype(np.uint8)
    root = folder(tmp_path, Image.fromarray(binary.astype(bool)), classes_txt="background\ncat\n")
    assert Image.open(root / "SegmentationClass" / "p1.png").mode == "1"
    assert (read(root) == binary).all() and (read(root, mask_values="0,255") == binary).all()
    values = np.where(SMALL == 255, 0, SMALL)
    picture = indexed(values, [(number * 17,) * 3 for number in range(16)])
    (root / "classes.txt").write_text(NAMES)
    for stem in ("p1", "p2", "p3"):
        picture.save(root / "SegmentationClass" / f"{stem}.png", bits=4)
    assert (read(root) == values).all()


def test_16_bits_of_many_classes(tmp_path: Path) -> None:
    values = np.where(SMALL == 2, 253, np.where(SMALL == 255, 0xFFFF, SMALL)).astype(np.uint16)
    listed = "\n".join(f"class {number}" for number in range(255))
    train = opened(folder(tmp_path, Image.fromarray(values), classes_txt=listed))
    assert (train.masks[0].read() == np.where(SMALL == 2, 253, SMALL)).all()
    assert len(train.classes) == 255
    (tmp_path / "classes.txt").write_text(listed + "\none more")
    assert "255 classes at most" in problem(tmp_path)


# --- colors ----------------------------------------------------------------------------------------------------------


def test_colors_count_where_a_palette_is_in_another_order(tmp_path: Path) -> None:
    order = np.zeros(256, np.uint8)
    order[[0, CAT, DOG, 255]] = [3, 1, 2, 0]
    palette = [voc_color(255), voc_color(CAT), voc_color(DOG), voc_color(0)]
    root = folder(tmp_path, indexed(order[TRUTH], palette))
    assert (read(root) == TRUTH).all()
    # A palette of its own in each file is the same.
    other = np.zeros(256, np.uint8)
    other[[0, CAT, DOG, 255]] = [1, 0, 3, 2]
    indexed(other[TRUTH], [palette[1], palette[3], palette[0], palette[2]]).save(root / "SegmentationClass" / "p2.png")
    assert (opened(root).masks[1].read() == TRUTH).all()
    # Of classes that are not VOC's, VOC's colors in another order could be either.
    (root / "classes.txt").write_text("\n".join(f"kind {number}" for number in range(21)))
    assert "VOC's colors in an order of its own" in problem(root)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_pictures_in_colors(tmp_path: Path, mode: str) -> None:
    picture = Image.fromarray(COLORS)
    picture = picture.quantize(8, dither=Image.Dither.NONE) if mode == "P" else picture.convert(mode)
    assert (read(folder(tmp_path, picture)) == TRUTH).all()


LISTS = {
    "classes.csv": "name,r,g,b\nbackground,10,10,10\ncat,1,200,3\ndog,9,9,255\nvoid,255,255,255\n",
    "labelmap.txt": "# label:color_rgb:parts:actions\nbackground:10,10,10::\n"
    "cat:1,200,3::\ndog:9,9,255::\nvoid:255,255,255::",
    "label_colors.txt": "10 10 10\tbackground\r\n1 200 3\tcat\r\n9 9 255\tdog\r\n255 255 255\tvoid\r\n",
    "class_dict.csv": "\ufeffname;color\nbackground;#0a0a0a\ncat;#01C803\ndog;#0909ff\n__ignore__;#ffffff\n",
}


@pytest.mark.parametrize("file", LISTS)
@pytest.mark.parametrize("mode", ["RGB", "P"])
def test_lists_of_classes_with_colors(tmp_path: Path, file: str, mode: str) -> None:
    palette = [(10, 10, 10), (1, 200, 3), (9, 9, 255)]
    colors = np.asarray([*palette, *[(255, 255, 255)] * 253], np.uint8)
    # A palette that counts the classes in another way than the list.
    turned = np.asarray([2, 0, 1] + [3] * 253, np.uint8)
    picture = Image.fromarray(colors[SMALL])
    if mode == "P":
        picture = indexed(turned[SMALL], [palette[1], palette[2], palette[0], (255, 255, 255)])
    root = folder(tmp_path, picture)
    (root / file).write_text(LISTS[file])
    train = opened(root)
    assert train.classes == ("background", "cat", "dog")
    assert (train.masks[0].read() == SMALL).all()
    # The order of the names is that of classes.txt where both are there.
    (root / "classes.txt").write_text("background\ndog\ncat\n")
    assert (read(root) == np.asarray([0, 2, 1] + [255] * 253)[SMALL]).all()


def test_colors_that_are_no_class_are_refused(tmp_path: Path) -> None:
    odd = COLORS.copy()
    odd[0, 0] = 1, 2, 3
    said = problem(folder(tmp_path, Image.fromarray(odd)))
    assert "(1, 2, 3) is none of VOC's" in said and "classes.csv" in said and "p1.png" in said
    values = np.where(TRUTH == CAT, 2, np.where(TRUTH == DOG, 1, 0)).astype(np.uint8)
    said = problem(folder(tmp_path / "p", indexed(values, [(0, 0, 0), voc_color(DOG), (1, 2, 3)])))
    assert "(1, 2, 3)" in said and "go by the numbers 0, 1, 2 with --mask-values" in said
    assert (read(tmp_path / "p", mask_values="0,2,1") == np.where(TRUTH == CAT, 1, np.where(TRUTH == DOG, 2, 0))).all()
    (tmp_path / "classes.csv").write_text("background,0,0,0\ncat,1,1,1\ndog,1,1,1\n")
    assert "the same color" in problem(tmp_path)


def test_palettes_that_say_nothing_of_the_classes_go_by_number_if_they_agree(tmp_path: Path) -> None:
    values = np.where(SMALL == 255, 0, SMALL)
    root = folder(tmp_path, indexed(values, [(1, 2, 3), (4, 5, 6), (7, 8, 9)]), classes_txt=NAMES)
    assert (read(root) == values).all()
    indexed(values, [(1, 2, 3), (7, 8, 9), (4, 5, 6)]).save(root / "SegmentationClass" / "p2.png")
    said = problem(root)
    assert "the number 1 is (4, 5, 6) in the palette of SegmentationClass/p1.png and (7, 8, 9) in that of" in said
    assert (read(root, mask_values="0,1,2") == values).all()


def test_palettes_of_grays_may_be_numbers(tmp_path: Path) -> None:
    values = np.where(SMALL == 255, 0, SMALL)
    root = folder(tmp_path, indexed(values, [(0, 0, 0), (2, 2, 2), (1, 1, 1)]), classes_txt=NAMES)
    said = problem(root)
    assert "0, 1, 2" in said and "grays 0, 2, 1" in said and "--mask-values" in said
    # Black and white are no such numbers.
    root = folder(tmp_path / "2", indexed(np.minimum(values, 1), [(0, 0, 0), (255, 255, 255)]), classes_txt=NAMES)
    assert (read(root) == np.minimum(values, 1)).all()
    assert (read(root, mask_values="0,9,255") == 2 * np.minimum(values, 1)).all()


def test_transparency(tmp_path: Path) -> None:
    clear = np.where(TRUTH == 0, 0, 255).astype(np.uint8)[..., None]
    white = np.where(TRUTH[..., None] == 0, 255, COLORS).astype(np.uint8)
    assert (read(folder(tmp_path, Image.fromarray(np.concatenate([white, clear], -1)))) == TRUTH).all()
    hidden = np.where(TRUTH == CAT, 0, 255).astype(np.uint8)[..., None]
    two = np.concatenate([COLORS, np.minimum(hidden, clear)], -1)
    assert "transparent where it has colors" in problem(folder(tmp_path / "2", Image.fromarray(two)))


def test_blurred_formats(tmp_path: Path) -> None:
    root = folder(tmp_path, Image.fromarray(BINARY), "{}.jpg")
    said = problem(root)
    assert "p1.jpg" in said and "JPEG" in said and "--mask-values" in said
    assert len(np.unique(Image.open(root / "SegmentationClass" / "p1.jpg"))) > 2
    assert (read(root, mask_values="0,255") == (TRUTH == CAT)).all()
    assert "fewer than 64 apart" in problem(root, mask_values="0,20,255")
    assert "JPEG" in problem(folder(tmp_path / "c", Image.fromarray(COLORS), "{}.jpg"), mask_values="0,255")


# --- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["{}.PNG", "{}_mask.png", "{}_L.png", "{}.jpg.png", "{}-label.tif", "{}_labelIds.bmp"])
def test_names(tmp_path: Path, name: str) -> None:
    assert (read(folder(tmp_path, Image.fromarray(SMALL), name, classes_txt=NAMES)) == SMALL).all()
    assert f"SegmentationClass/{name.format('p1')}" in problem(tmp_path, mask_values="7,8,9")


def test_of_two_masks_of_a_photo_none_is_taken(tmp_path: Path) -> None:
    root = folder(tmp_path, Image.fromarray(SMALL), classes_txt=NAMES)
    Image.fromarray(SMALL).save(root / "SegmentationClass" / "p1.bmp")
    assert "p1.bmp and p1.png are both the mask of p1" in problem(root)


def test_sizes(tmp_path: Path) -> None:
    root = folder(tmp_path, Image.fromarray(SMALL[:, :10]), classes_txt=NAMES)
    assert "p1.png is 10 x 10 px and its photo 20 x 10 px" in problem(root)


def test_no_more_classes_than_numbers() -> None:
    with pytest.raises(UserError, match="255 classes at most"):
        MaskClasses(tuple(map(str, range(256))))


# --- EXIF ------------------------------------------------------------------------------------------------------------


def turned_photo(path: Path, orientation: int) -> Image.Image:
    """Write a photo of 20 x 10 px with an orientation."""
    exif = Image.Exif()
    exif[274] = orientation
    picture = Image.open(photo(path))
    picture.save(path, exif=exif)
    return picture


@pytest.mark.parametrize("orientation", range(1, 9))
def test_masks_turn_with_their_photos(tmp_path: Path, orientation: int) -> None:
    root = folder(tmp_path, Image.fromarray(SMALL), classes_txt=NAMES)
    exif = Image.Exif()
    exif[274] = orientation
    for stem in ("p1", "p2"):
        turned_photo(root / "JPEGImages" / f"{stem}.png", orientation)
    carrying = Image.fromarray(SMALL)
    carrying.save(root / "SegmentationClass" / "p2.png", exif=exif)
    # Pillow's own way to turn a picture.
    upright = np.asarray(ImageOps.exif_transpose(Image.open(root / "SegmentationClass" / "p2.png")))
    train = opened(root)
    assert train.sizes.tolist() == [list(upright.shape[::-1])] * 2
    told = orientation in (1, 5, 6, 7, 8)
    # By its size the first one is of the photo as it is stored; the second one says itself how it is to be turned.
    assert (train.masks[0].read() == (upright if told else SMALL)).all()
    assert (train.masks[1].read() == upright).all()
    kinds = {1: [], 2: ["orientation"], 3: ["orientation"], 4: ["orientation"]}
    assert [each.kind for each in train.findings] == kinds.get(orientation, ["turned"])
    # One that was made on the photo as it is shown stays, also with an EXIF that was copied from the photo.
    for options in ({}, {"exif": exif} if orientation >= 5 else {}):
        Image.fromarray(upright).save(root / "SegmentationClass" / "p1.png", **options)
        if orientation >= 5:
            train = opened(root)
            assert (train.masks[0].read() == upright).all()
            assert not train.findings


def test_a_square_cannot_be_told(tmp_path: Path) -> None:
    square = np.zeros((20, 20), np.uint8)
    square[2:8, 3:5], square[10:12] = 1, 2
    root = folder(tmp_path, Image.fromarray(square), classes_txt=NAMES)
    exif = Image.Exif()
    exif[274] = 6
    for stem in ("p1", "p2", "p3"):
        Image.new("RGB", (20, 20)).save(root / "JPEGImages" / f"{stem}.png", **({"exif": exif} if stem == "p1" else {}))
    train = opened(root)
    assert (train.masks[0].read() == square).all()
    assert [str(each.kind) for each in train.findings] == ["orientation"]
