"""Every depth, layout and kind of transparency of PNG, TIFF and BMP decodes to what it shows."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from picture_files import pixels, png, saved, with_chunk
from PIL import Image

from ssl_colorize.data.images import UnreadablePhoto, photo_size, read_photo


def rounded(samples: np.ndarray) -> np.ndarray:
    """16 bits as 8, in float64."""
    return np.floor(samples / 257 + 0.5).astype(int)


def on_white(color: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Both of 16 bits -> 8 bits, rounded once, in float64."""
    share = alpha[..., None] / 65535
    return np.floor(color / 257 * share + 255 * (1 - share) + 0.5).astype(int)


def noise(*shape: int) -> np.ndarray:
    samples = np.random.default_rng(shape).integers(0, 65536, shape).astype(np.uint16)
    samples.flat[:4] = [0, 0x0081, 0x7FFF, 0xFFFF]
    return samples


# --- TIFF -------------------------------------------------------------------------------------------------------------


def tiff(path: Path, *, bits: int, photometric: int, rows: bytes, size: tuple[int, int], order: str = "<") -> Path:
    """A gray TIFF of one strip, by hand."""
    entries = [
        (256, 4, size[0]), (257, 4, size[1]), (258, 3, bits), (259, 3, 1), (262, 3, photometric), (273, 4, 8),
        (277, 3, 1), (278, 4, size[1]), (279, 4, len(rows)),
    ]  # fmt: skip
    table = struct.pack(order + "H", len(entries))
    for tag, kind, value in entries:
        number = struct.pack(order + "HH", value, 0) if kind == 3 else struct.pack(order + "I", value)
        table += struct.pack(order + "HHI", tag, kind, 1) + number
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8 + len(rows))
    path.write_bytes(head + rows + table + bytes(4))
    return path


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_min_is_white_at_every_depth(tmp_path: Path, bits: int, order: str) -> None:
    levels = [0, 1, (1 << bits) - 2, (1 << bits) - 1, 0, 1, 0, 0]
    if bits == 16:
        rows = struct.pack(f"{order}8H", *levels)
    else:
        whole = int("".join(f"{level:0{bits}b}" for level in levels), 2)
        rows = whole.to_bytes(bits, "big")
    for photometric in (0, 1):
        path = tiff(tmp_path / "a.tif", bits=bits, photometric=photometric, rows=rows, size=(8, 1), order=order)
        shown = [round(255 * level / ((1 << bits) - 1)) for level in levels]
        expected = [255 - level for level in shown] if photometric == 0 else shown
        assert pixels(path)[0, :, 1].tolist() == expected, photometric
        assert photo_size(path) == (8, 1)


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_compressed_min_is_white(tmp_path: Path, compression: str | None) -> None:
    for samples in (noise(5, 7), noise(5, 7).astype(np.uint8)):
        tifffile.imwrite(tmp_path / "a.tif", samples, photometric="miniswhite", compression=compression)
        wide = samples.astype(int) if samples.dtype == np.uint16 else samples.astype(int) * 257
        assert np.array_equal(pixels(tmp_path / "a.tif")[:, :, 0], rounded(65535 - wide))


@pytest.mark.parametrize("planes", ["contig", "separate"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_sixteen_bits_of_color_are_rounded_once(
    tmp_path: Path, compression: str | None, order: str, planes: str
) -> None:
    samples = noise(6, 5, 3)
    stored = samples.transpose(2, 0, 1) if planes == "separate" else samples
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, stored, photometric="rgb", compression=compression, byteorder=order, planarconfig=planes,
        predictor=compression == "zlib" and planes == "contig",
    )  # fmt: skip
    assert np.array_equal(pixels(path), rounded(samples))


def test_sixteen_bits_compressed_by_lzw(tmp_path: Path) -> None:
    samples = noise(4, 6)
    path = tmp_path / "a.tif"
    Image.fromarray(samples).save(path, compression="tiff_lzw")
    assert np.array_equal(pixels(path)[:, :, 2], rounded(samples))


def lzw(data: bytes) -> bytes:
    """TIFF's LZW without any compression: codes of 9 bits, and a new table before they would need 10."""
    codes = []
    for start in range(0, len(data), 200):
        codes += [256, *data[start : start + 200]]
    bits = "".join(f"{code:09b}" for code in [*codes, 257])
    return int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")


@pytest.mark.parametrize("order", ["<", ">"])
def test_color_of_sixteen_bits_compressed_by_lzw(tmp_path: Path, order: str) -> None:
    samples = noise(4, 6, 3)
    path, rows = tmp_path / "a.tif", samples.astype(f"{order}u2").tobytes()
    tifffile.imwrite(path, samples, photometric="rgb", byteorder=order, metadata=None)
    content = path.read_bytes()
    with tifffile.TiffFile(path) as file:
        tags = {
            name: file.pages[0].tags[name].valueoffset for name in ("Compression", "StripOffsets", "StripByteCounts")
        }
        kinds = {name: file.pages[0].tags[name].dtype.name[0] for name in ("StripOffsets", "StripByteCounts")}
    changed = bytearray(content + lzw(rows))
    struct.pack_into(f"{order}H", changed, tags["Compression"], 5)
    for name, value in (("StripOffsets", len(content)), ("StripByteCounts", len(lzw(rows)))):
        struct.pack_into(order + ("H" if kinds[name] == "S" else "I"), changed, tags[name], value)
    path.write_bytes(changed)
    assert np.array_equal(pixels(path), rounded(samples))


def test_a_palette_in_eight_bits_is_as_bright_as_one_in_sixteen(tmp_path: Path) -> None:
    colors = np.zeros((3, 256), np.uint16)
    colors[:, :3] = np.array([[10, 20, 30], [200, 0, 0], [0, 0, 250]]).T
    for times in (1, 257):
        tifffile.imwrite(
            tmp_path / "a.tif", np.array([[0, 1, 2]], np.uint8), photometric="palette", colormap=colors * times
        )
        assert pixels(tmp_path / "a.tif")[0].tolist() == [[10, 20, 30], [200, 0, 0], [0, 0, 250]]


@pytest.mark.parametrize("bits", [8, 16])
def test_a_fourth_channel_of_zeros_that_no_tag_explains_is_nothing(tmp_path: Path, bits: int) -> None:
    top = (1 << bits) - 1
    kind = np.uint8 if bits == 8 else np.uint16
    path = tmp_path / "a.tif"
    for alphas, expected in (((0, 0), [0, 255]), ((0, top), [255, 255])):
        whole = np.array([[[0, 0, 0, alphas[0]], [top, top, top, alphas[1]]]], kind)
        tifffile.imwrite(path, whole, photometric="rgb", extrasamples=["unassalpha"])
        assert pixels(path)[0, :, 0].tolist() == [255, 255]
        path.write_bytes(path.read_bytes().replace(struct.pack("<HHI", 338, 3, 1), struct.pack("<HHI", 65000, 3, 1)))
        assert pixels(path)[0, :, 0].tolist() == expected


def test_layouts_of_gray_with_alpha_that_pillow_does_not_know(tmp_path: Path) -> None:
    whole = np.array([[[9, 255], [9, 0], [200, 51]]], np.uint8)
    shown = {"minisblack": [9, 255, 244], "miniswhite": [246, 255, 215]}
    for photometric, expected in shown.items():
        for planes in ("contig", "separate"):
            stored = whole.transpose(2, 0, 1) if planes == "separate" else whole
            tifffile.imwrite(
                tmp_path / "a.tif", stored, photometric=photometric, planarconfig=planes, extrasamples=["unassalpha"]
            )
            assert pixels(tmp_path / "a.tif")[0, :, 0].tolist() == expected, (photometric, planes)


@pytest.mark.parametrize("alpha", ["unassalpha", "assocalpha"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("planes", ["contig", "separate"])
def test_sixteen_bits_with_alpha(tmp_path: Path, channels: int, alpha: str, planes: str) -> None:
    color, cover = noise(6, 5, channels), noise(6, 5)
    stored = color
    if alpha == "assocalpha":
        stored = (color * (cover[..., None] / 65535)).round().astype(np.uint16)
    whole = np.concatenate((stored, cover[..., None]), axis=2)
    tifffile.imwrite(
        tmp_path / "a.tif", whole.transpose(2, 0, 1) if planes == "separate" else whole, planarconfig=planes,
        photometric="rgb" if channels == 3 else "minisblack", extrasamples=[alpha],
    )  # fmt: skip
    got = pixels(tmp_path / "a.tif").astype(int)
    expected = on_white(np.broadcast_to(color, (6, 5, 3)), cover)
    # What was multiplied comes back to what its own rounding left.
    assert np.abs(got - expected).max() <= (0 if alpha == "unassalpha" else 1)


def test_eight_bits_of_gray_with_associated_alpha(tmp_path: Path) -> None:
    whole = np.array([[[100, 255], [50, 128], [0, 0]]], np.uint8)
    tifffile.imwrite(
        tmp_path / "a.tif", whole, photometric="minisblack", planarconfig="contig", extrasamples=["assocalpha"]
    )
    got = pixels(tmp_path / "a.tif")[0, :, 0]
    assert np.abs(got.astype(int) - [100, 50 + 127, 255]).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_sixteen_bits_come_upright(tmp_path: Path, orientation: int) -> None:
    """As the same picture of 8 bits does."""
    samples = noise(4, 6, 3)
    tags = [(274, 3, 1, orientation, True)]
    upright = []
    for name, stored, more in (
        ("deep", samples, {}),
        ("flat", rounded(samples).astype(np.uint8), {}),
        ("planes", samples.transpose(2, 0, 1), {"planarconfig": "separate"}),
    ):
        path = tmp_path / f"{name}.tif"
        tifffile.imwrite(path, stored, photometric="rgb", extratags=tags, **more)
        upright.append(pixels(path))
        assert photo_size(path) == upright[-1].shape[1::-1]
    assert np.array_equal(upright[0], upright[1])
    assert np.array_equal(upright[0], upright[2])


def test_the_first_page_is_read(tmp_path: Path) -> None:
    pages = [noise(4, 5, 3), noise(6, 7, 3)]
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for page in pages:
            file.write(page, photometric="rgb")
    assert np.array_equal(pixels(tmp_path / "a.tif"), rounded(pages[0]))


@pytest.mark.parametrize(
    ("samples", "reason"),
    [
        (np.zeros((4, 5, 3), np.float32), "32 bits of float32"),
        (np.zeros((4, 5), np.float32), "floating-point pixels"),
        (np.zeros((4, 5), np.float16), "16 bits of float16"),
        (np.zeros((4, 5), np.int16), "signed pixels"),
        (np.zeros((4, 5), np.int8), "signed pixels"),
        (np.zeros((4, 5, 3), np.uint32), "32 bits of uint32"),
        (np.full((4, 5), 1 << 20, np.uint32), "32-bit pixels"),
    ],
)
def test_numbers_of_unknown_range_are_refused(tmp_path: Path, samples: np.ndarray, reason: str) -> None:
    tifffile.imwrite(tmp_path / "a.tif", samples, photometric="rgb" if samples.ndim == 3 else "minisblack")
    with pytest.raises(UnreadablePhoto, match=rf"a\.tif: .*{reason}.*save it") as caught:
        read_photo(tmp_path / "a.tif")
    assert "\n" not in str(caught.value)


# --- PNG --------------------------------------------------------------------------------------------------------------


def filtered(samples: np.ndarray, pixel: int) -> bytes:
    """Rows of big-endian 16 bits, each with another of PNG's five filters."""
    data = samples.astype(">u2").tobytes()
    width = len(data) // len(samples)
    rows = np.frombuffer(data, np.uint8).reshape(len(samples), width).astype(int)
    before, out = np.zeros(width, int), b""
    for number, row in enumerate(rows):
        left = np.concatenate((np.zeros(pixel, int), row[:-pixel]))
        corner = np.concatenate((np.zeros(pixel, int), before[:-pixel]))
        guess = left + before - corner
        distance = [np.abs(guess - each) for each in (left, before, corner)]
        paeth = np.where(
            (distance[0] <= distance[1]) & (distance[0] <= distance[2]), left,
            np.where(distance[1] <= distance[2], before, corner),
        )  # fmt: skip
        predicted = [np.zeros(width, int), left, before, (left + before) // 2, paeth][number % 5]
        out += bytes([number % 5]) + ((row - predicted) % 256).astype(np.uint8).tobytes()
        before = row
    return out


@pytest.mark.parametrize(("color", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_sixteen_bits_of_png(tmp_path: Path, color: int, channels: int) -> None:
    samples = noise(7, 5, channels)
    rows = filtered(samples, 2 * channels)
    (tmp_path / "a.png").write_bytes(png(width=5, height=7, depth=16, color=color, rows=rows))
    hues, cover = (samples[..., :-1], samples[..., -1]) if channels % 2 == 0 else (samples, np.full((7, 5), 65535))
    assert np.array_equal(pixels(tmp_path / "a.png"), on_white(np.broadcast_to(hues, (7, 5, 3)), cover))
    with (tmp_path / "a.png").open("rb") as file:
        assert np.array_equal(np.asarray(read_photo(file)), pixels(tmp_path / "a.png"))


def test_sixteen_bits_of_an_interlaced_png(tmp_path: Path) -> None:
    samples = noise(9, 10, 3)
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    rows = b""
    for top, left, down, across in passes:
        for row in samples[top::down, left::across]:
            rows += b"\0" + row.astype(">u2").tobytes()
    plain = png(width=10, height=9, depth=16, color=2, rows=rows)
    header = plain[12:28] + b"\1"
    exif = Image.Exif()
    exif[274] = 6
    data = plain[:12] + header + struct.pack(">I", zlib.crc32(header)) + plain[33:]
    (tmp_path / "a.png").write_bytes(with_chunk(data, b"eXIf", exif.tobytes()[6:]))
    assert np.array_equal(pixels(tmp_path / "a.png"), np.rot90(rounded(samples), -1))


def test_the_transparent_color_of_sixteen_bits_is_exact(tmp_path: Path) -> None:
    gray = np.array([[0x1234, 0x1235, 0x1334]], np.uint16)
    data = png(width=3, height=1, depth=16, color=0, rows=b"\0" + gray.astype(">u2").tobytes())
    (tmp_path / "gray.png").write_bytes(with_chunk(data, b"tRNS", struct.pack(">H", 0x1234)))
    assert pixels(tmp_path / "gray.png")[0, :, 0].tolist() == [255, *rounded(gray[0, 1:])]
    color = np.array([[[1, 2, 3], [1, 2, 0x103], [0x101, 2, 3]]], np.uint16)
    data = png(width=3, height=1, depth=16, color=2, rows=b"\0" + color.astype(">u2").tobytes())
    (tmp_path / "color.png").write_bytes(with_chunk(data, b"tRNS", struct.pack(">3H", 1, 2, 3)))
    assert pixels(tmp_path / "color.png")[0].tolist() == [[255] * 3, [0, 0, 1], [1, 0, 0]]


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_the_transparent_gray_is_a_number_of_the_files_depth(tmp_path: Path, depth: int) -> None:
    levels = [0, 1, (1 << depth) - 1, 0]
    bits = "".join(f"{level:0{depth}b}" for level in levels).ljust(8 * max(1, depth // 2), "0")
    rows = b"\0" + int(bits, 2).to_bytes(len(bits) // 8, "big")
    data = png(width=4, height=1, depth=depth, color=0, rows=rows)
    (tmp_path / "a.png").write_bytes(with_chunk(data, b"tRNS", struct.pack(">H", 1)))
    shown = [round(255 * level / ((1 << depth) - 1)) for level in levels]
    expected = [255 if level == 1 else gray for level, gray in zip(levels, shown, strict=True)]
    assert pixels(tmp_path / "a.png")[0, :, 0].tolist() == expected


# --- BMP --------------------------------------------------------------------------------------------------------------


def bmp(path: Path, bgra: list[list[int]], *, masks: bool = True) -> Path:
    """One row of 32 bits a pixel, with a header that says where alpha is (V4)."""
    body = b"".join(bytes(pixel) for pixel in bgra)
    size = 108 if masks else 40
    header = struct.pack("<IiiHHIIiiII", size, len(bgra), 1, 1, 32, 3 if masks else 0, len(body), 0, 0, 0, 0)
    if masks:
        header += struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + b"BGRs" + bytes(48)
    start = 14 + len(header)
    path.write_bytes(struct.pack("<2sIHHI", b"BM", start + len(body), 0, 0, start) + header + body)
    return path


def test_alpha_of_a_bmp_that_is_nothing_everywhere_is_none(tmp_path: Path) -> None:
    assert pixels(bmp(tmp_path / "a.bmp", [[1, 2, 3, 0], [40, 50, 60, 0]]))[0].tolist() == [[3, 2, 1], [60, 50, 40]]
    assert pixels(bmp(tmp_path / "b.bmp", [[1, 2, 3, 0], [40, 50, 60, 255]]))[0].tolist() == [[255] * 3, [60, 50, 40]]
    assert pixels(bmp(tmp_path / "c.bmp", [[1, 2, 3, 0]], masks=False))[0].tolist() == [[3, 2, 1]]
    # Elsewhere it means what it says.
    nothing = Image.new("RGBA", (1, 1), (9, 9, 9, 0))
    assert pixels(saved(nothing, tmp_path / "d.png")).tolist() == [[[255] * 3]]
