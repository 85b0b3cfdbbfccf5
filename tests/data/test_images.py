"""Every kind of photo file decodes to what it shows, and what is no photo is refused in one line."""

import random
import struct
import warnings
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from picture_files import (
    ADOBE,
    GAMMA,
    adobe_to_srgb,
    curve,
    display_profile,
    encoded,
    matrix_profile,
    pixels,
    png,
    saved,
)
from PIL import Image, ImageCms

from ssl_colorize.data.images import MAX_PIXELS, UnreadablePhoto, photo_size, read_photo
from ssl_colorize.data.walk import find_photos
from ssl_colorize.errors import UserError

# --- modes -----------------------------------------------------------------------------------------------------------


def test_gray_becomes_three_equal_channels(tmp_path: Path) -> None:
    values = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
    got = pixels(saved(Image.fromarray(values), tmp_path / "a.png"))
    assert (got == values[:, :, None]).all()


def test_one_bit_is_black_and_white(tmp_path: Path) -> None:
    bits = np.array([[True, False], [False, True]])
    got = pixels(saved(Image.fromarray(bits), tmp_path / "a.png"))
    assert (got[:, :, 1] == [[255, 0], [0, 255]]).all()


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bit_gray_is_scaled_not_clipped(tmp_path: Path, suffix: str) -> None:
    values = np.array([[0, 0x0080, 0x0081, 0x4000, 0x8000, 0xFEFF, 0xFFFF]], np.uint16)
    path = saved(Image.fromarray(values), tmp_path / f"a.{suffix}")
    expected = [round(int(value) / 257) for value in values[0]]  # 0xFFFF / 255 = 257
    assert expected == [0, 0, 1, 64, 128, 254, 255]
    assert pixels(path)[0, :, 2].tolist() == expected


def test_sixteen_bit_pgm(tmp_path: Path) -> None:
    (tmp_path / "a.pgm").write_bytes(b"P5 3 1 65535\n" + struct.pack(">3H", 0, 0x8000, 0xFFFF))
    assert pixels(tmp_path / "a.pgm")[0, :, 0].tolist() == [0, 128, 255]


def test_sixteen_bit_color_and_gray_with_alpha(tmp_path: Path) -> None:
    (tmp_path / "rgb.png").write_bytes(
        png(width=1, height=1, depth=16, color=2, rows=b"\0" + struct.pack(">3H", 0x8000, 0, 0xFFFF))
    )
    (tmp_path / "la.png").write_bytes(
        png(width=2, height=1, depth=16, color=4, rows=b"\0" + struct.pack(">4H", 0x8000, 0xFFFF, 0x8000, 0))
    )
    assert pixels(tmp_path / "rgb.png").tolist() == [[[128, 0, 255]]]
    assert pixels(tmp_path / "la.png").tolist() == [[[128] * 3, [255] * 3]]


def test_pixels_of_unknown_range_are_refused(tmp_path: Path) -> None:
    for values in (np.array([[0.0, 3.5]], np.float32), np.array([[0, 70_000]], np.int32)):
        with pytest.raises(UnreadablePhoto, match="range"):
            read_photo(saved(Image.fromarray(values), tmp_path / "a.tif"))


def test_alpha_lies_on_white(tmp_path: Path) -> None:
    rgba = np.array([[[200, 100, 0, 255], [200, 100, 0, 0], [200, 100, 0, 51]]], np.uint8)  # 51 = a fifth
    expected = [[200, 100, 0], [255, 255, 255], [244, 224, 204]]
    assert pixels(saved(Image.fromarray(rgba), tmp_path / "a.png"))[0].tolist() == expected
    gray = np.array([[[100, 255], [100, 0], [100, 51]]], np.uint8)
    assert pixels(saved(Image.fromarray(gray), tmp_path / "b.png"))[0, :, 0].tolist() == [100, 255, 224]


def test_palettes_with_and_without_transparency(tmp_path: Path) -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([10, 20, 30, 200, 0, 0, 0, 0, 250])
    image.putdata([0, 1, 2])
    expected = [[10, 20, 30], [200, 0, 0], [0, 0, 250]]
    assert pixels(saved(image, tmp_path / "plain.png"))[0].tolist() == expected
    expected[1] = [255, 255, 255]
    assert pixels(saved(image, tmp_path / "one.png", transparency=1))[0].tolist() == expected
    assert pixels(saved(image, tmp_path / "one.gif", transparency=1))[0].tolist() == expected
    expected[2] = [204, 204, 254]
    several = saved(image, tmp_path / "several.png", transparency=bytes([255, 0, 51]))
    assert pixels(several)[0].tolist() == expected


def test_transparent_color_of_an_rgb_png(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[[1, 2, 3], [9, 9, 9]]], np.uint8))
    assert pixels(saved(image, tmp_path / "a.png", transparency=(9, 9, 9)))[0].tolist() == [[1, 2, 3], [255] * 3]


@pytest.mark.parametrize("suffix", ["tif", "jpg"])
def test_cmyk(tmp_path: Path, suffix: str) -> None:
    """Pillow writes JPEG's CMYK inverted with Adobe's marker, as Photoshop does."""
    image = Image.new("CMYK", (48, 16))
    for number, ink in enumerate([(255, 0, 0, 0), (0, 0, 255, 0), (0, 0, 0, 255)]):
        image.paste(ink, (16 * number, 0, 16 * number + 16, 16))
    path = saved(image, tmp_path / f"a.{suffix}", **({"quality": 100} if suffix == "jpg" else {}))
    assert suffix != "jpg" or b"Adobe" in path.read_bytes()
    cyan, yellow, black = pixels(path)[8, [8, 24, 40]].astype(int)
    assert np.abs(cyan - [0, 255, 255]).max() <= 2
    assert np.abs(yellow - [255, 255, 0]).max() <= 2
    assert black.max() <= 2


def test_animations_give_their_first_frame(tmp_path: Path) -> None:
    red, blue = Image.new("RGB", (4, 4), (255, 0, 0)), Image.new("RGB", (4, 4), (0, 0, 255))
    for suffix in ("gif", "png", "webp"):
        path = saved(
            red,
            tmp_path / f"a.{suffix}",
            save_all=True,
            append_images=[blue],
            **({"lossless": True} if suffix == "webp" else {}),
        )
        assert (pixels(path) == [255, 0, 0]).all()


# --- orientation -----------------------------------------------------------------------------------------------------

STORED = np.arange(6 * 4 * 3, dtype=np.uint8).reshape(4, 6, 3)
# EXIF names the side of the scene that the stored first row and first column are.
SCENE = {
    1: STORED,
    2: STORED[:, ::-1],  # top, right
    3: STORED[::-1, ::-1],  # bottom, right
    4: STORED[::-1],  # bottom, left
    5: STORED.swapaxes(0, 1),  # left, top
    6: np.rot90(STORED, -1),  # right, top: turned clockwise
    7: np.rot90(STORED, 2).swapaxes(0, 1),  # right, bottom
    8: np.rot90(STORED, 1),  # left, bottom: turned counterclockwise
}


@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
@pytest.mark.parametrize("orientation", SCENE)
def test_photos_come_upright(tmp_path: Path, orientation: int, suffix: str) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    options = {"lossless": True} if suffix == "webp" else {}
    path = saved(Image.fromarray(STORED), tmp_path / f"a.{suffix}", exif=exif, **options)
    assert np.array_equal(pixels(path), SCENE[orientation])


def test_turned_jpeg_keeps_its_short_side_hint(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    path = saved(Image.new("RGB", (800, 400)), tmp_path / "a.jpg", exif=exif)
    assert read_photo(path, short_side=90).size == (100, 200)


def test_broken_exif_is_ignored(tmp_path: Path) -> None:
    path = saved(Image.new("RGB", (8, 8), "red"), tmp_path / "a.jpg", exif=b"Exif\0\0nonsense that is not TIFF")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_photo(path).size == (8, 8)


# --- color profiles -------------------------------------------------------------------------------------------------


def test_embedded_profile_is_converted_to_srgb(tmp_path: Path) -> None:
    colors = np.array([[128, 128, 128], [180, 120, 90], [60, 140, 70], [90, 100, 200], [255, 255, 255]], np.uint8)
    path = saved(Image.fromarray(colors[None]), tmp_path / "a.png", icc_profile=matrix_profile(ADOBE, gamma=GAMMA))
    expected = adobe_to_srgb(colors)
    assert np.abs(expected - colors).max() > 10  # or the test would pass without a conversion
    assert np.abs(pixels(path)[0] - expected).max() <= 2
    # What the profile said is no longer true of the pixels, so it must not be saved with them.
    assert read_photo(path).info == {}


def test_profile_applies_beneath_alpha(tmp_path: Path) -> None:
    rgba = np.array([[[180, 120, 90, 255], [180, 120, 90, 0]]], np.uint8)
    path = saved(Image.fromarray(rgba), tmp_path / "a.png", icc_profile=matrix_profile(ADOBE, gamma=GAMMA))
    got = pixels(path)[0]
    assert np.abs(got[0] - adobe_to_srgb(rgba[0, :1, :3])[0]).max() <= 2
    assert got[1].tolist() == [255, 255, 255]


@pytest.mark.parametrize("mode", ["L", "LA"])
def test_gray_profile_is_converted(tmp_path: Path, mode: str) -> None:
    gray = np.array([[0, 64, 128, 200, 255]], np.uint8)
    image = Image.fromarray(gray).convert(mode)
    path = saved(image, tmp_path / "a.png", icc_profile=display_profile(b"GRAY", {b"kTRC": curve(1.5)}))
    expected = encoded((gray[0] / 255.0) ** 1.5)
    assert np.abs(expected - gray).max() > 10
    assert np.abs(pixels(path)[0] - expected[:, None]).max() <= 2


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_broken_or_unsuited_profile_is_ignored(tmp_path: Path, mode: str) -> None:
    image = Image.new(mode, (8, 8), 77 if mode == "L" else None)
    plain = pixels(saved(image, tmp_path / "plain.jpg"))
    unsuited = matrix_profile(ADOBE, gamma=GAMMA) if mode != "RGB" else b"\0" * 200
    assert np.array_equal(pixels(saved(image, tmp_path / "b.jpg", icc_profile=unsuited)), plain)
    assert np.array_equal(pixels(saved(image, tmp_path / "c.jpg", icc_profile=b"no profile")), plain)


def test_srgb_profile_changes_nothing(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    path = saved(Image.fromarray(values), tmp_path / "a.png", icc_profile=profile)
    assert np.array_equal(pixels(path), values)


# --- what is no photo ------------------------------------------------------------------------------------------------


def refused(path: Path, reason: str) -> None:
    with pytest.raises(UnreadablePhoto, match=reason) as caught:
        read_photo(path)
    assert path.name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif", "bmp"])
def test_truncated_files_are_refused(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    whole = saved(Image.fromarray(noise), tmp_path / f"whole.{suffix}")
    assert read_photo(whole).size == (64, 64)
    part = tmp_path / f"part.{suffix}"
    part.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    refused(part, ".")


def test_what_is_no_photo_is_refused(tmp_path: Path) -> None:
    for name, content in {"text.jpg": b"hello", "empty.png": b""}.items():
        (tmp_path / name).write_bytes(content)
        refused(tmp_path / name, "not a photo")
    refused(tmp_path / "missing.jpg", "No such file")
    (tmp_path / "folder.jpg").mkdir()
    refused(tmp_path / "folder.jpg", "directory")


def test_postscript_is_never_run(tmp_path: Path) -> None:
    path = saved(Image.new("RGB", (4, 4)), tmp_path / "a.eps")
    refused(path.rename(tmp_path / "a.jpg"), "not a photo")


@pytest.mark.parametrize("pillow_limit", [None, Image.MAX_IMAGE_PIXELS])
def test_decompression_bomb_is_refused_from_its_header(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pillow_limit: int | None
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pillow_limit)
    side = 60_000
    assert side * side > MAX_PIXELS
    (tmp_path / "bomb.png").write_bytes(png(width=side, height=side, depth=8, color=2, rows=bytes(1000)))
    # Decoding would fail too, on too few rows: what tells is that the size is the reason.
    refused(tmp_path / "bomb.png", f"{side} x {side}|{side * side}")
    assert pillow_limit == Image.MAX_IMAGE_PIXELS


def test_large_photos_below_the_limit_are_read_without_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(Image.new("RGB", (4, 4)), tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_photo(path).size == (4, 4)


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "webp", "tif"])
def test_damaged_bytes_never_raise_anything_else(tmp_path: Path, suffix: str) -> None:
    exif = Image.Exif()
    exif[274] = 6
    noise = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
    options = {} if suffix == "gif" else {"exif": exif, "icc_profile": matrix_profile(ADOBE, gamma=GAMMA)}
    good = saved(Image.fromarray(noise), tmp_path / f"a.{suffix}", **options).read_bytes()
    chance = random.Random(0)
    for _ in range(60):
        bad = bytearray(good)
        for _ in range(chance.randint(1, 8)):
            bad[chance.randrange(len(bad))] = chance.randrange(256)
        try:
            assert read_photo(BytesIO(bytes(bad))).mode == "RGB"
        except UnreadablePhoto as error:
            assert "\n" not in str(error)


# --- size hint, sources ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1601, 1203), (1203, 1601), (800, 99), (641, 640), (50, 40)])
@pytest.mark.parametrize("short_side", [1, 64, 99, 100, 161, 640])
def test_short_side_hint_never_gives_less(tmp_path: Path, size: tuple[int, int], short_side: int) -> None:
    path = saved(Image.new("RGB", size), tmp_path / "a.jpg")
    got = read_photo(path, short_side=short_side)
    assert min(got.size) >= min(short_side, *size)
    if min(size) >= 2 * short_side:
        assert got.width * got.height < size[0] * size[1] / 2, "a much larger JPEG should decode smaller"


def test_open_files_are_read_too(tmp_path: Path) -> None:
    path = saved(Image.new("RGB", (4, 2), "red"), tmp_path / "a.png")
    with path.open("rb") as file:
        assert read_photo(file).size == (4, 2)
    assert read_photo(str(path)).size == (4, 2)
    with pytest.raises(UnreadablePhoto, match=r"^photo: "):
        read_photo(BytesIO(b"nothing"))


# --- listing ---------------------------------------------------------------------------------------------------------


def test_find_photos_lists_sorted_at_any_depth(tmp_path: Path) -> None:
    names = ["b.PNG", "a/z.JPEG", "a/c/d.webp", "note.txt", ".hidden.jpg", ".cache/e.jpg", "a/Thumbs.db"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "a" / "folder.jpg").mkdir()
    (tmp_path / "a" / "loop").symlink_to(tmp_path, target_is_directory=True)
    assert find_photos(tmp_path) == [tmp_path / "a/c/d.webp", tmp_path / "a/z.JPEG", tmp_path / "b.PNG"]


def test_find_photos_follows_links_to_other_places_once(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store/a.jpg").touch()
    (tmp_path / "data").mkdir()
    for link in ("one", "two"):
        (tmp_path / "data" / link).symlink_to(tmp_path / "store", target_is_directory=True)
    assert len(find_photos(tmp_path / "data")) == 1


def test_missing_and_empty_folders_say_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere"):
        find_photos(tmp_path / "nowhere")
    with pytest.raises(UserError, match="no photos"):
        find_photos(tmp_path)


def test_photo_size_is_that_of_the_upright_photo(tmp_path: Path) -> None:
    plain = saved(Image.new("RGB", (6, 4)), tmp_path / "plain.png")
    assert photo_size(plain) == read_photo(plain).size == (6, 4)
    for suffix in ("jpg", "tif"):
        for orientation in range(1, 9):
            exif = Image.Exif()
            exif[274] = orientation
            turned = saved(Image.new("RGB", (6, 4)), tmp_path / f"turned.{suffix}", exif=exif)
            assert photo_size(turned) == read_photo(turned).size, (suffix, orientation)
    (tmp_path / "no.jpg").write_bytes(b"no photo")
    with pytest.raises(UnreadablePhoto, match=r"no\.jpg"):
        photo_size(tmp_path / "no.jpg")
