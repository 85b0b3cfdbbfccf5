"""Files of pictures by hand: what no library writes, and color profiles."""

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from ssl_colorize.data.images import read_photo


def saved(image: Image.Image, path: Path, **options: object) -> Path:
    image.save(path, **options)
    return path


def pixels(path: Path) -> np.ndarray:
    photo = read_photo(path)
    assert photo.mode == "RGB"
    return np.asarray(photo)


def chunk(kind: bytes, body: bytes) -> bytes:
    """One chunk of a PNG."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def with_chunk(data: bytes, kind: bytes, body: bytes) -> bytes:
    """A PNG with one more chunk, before its pixels."""
    at = data.index(b"IDAT") - 4
    return data[:at] + chunk(kind, body) + data[at:]


def png(*, width: int, height: int, depth: int, color: int, rows: bytes) -> bytes:
    """A PNG file by hand, for what Pillow does not write."""

    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


# Columns: the XYZ (D50) of the red, green and blue primaries, as in the two published profiles.
ADOBE = np.array([[0.60974, 0.20528, 0.14919], [0.31111, 0.62567, 0.06322], [0.01947, 0.06087, 0.74457]])
SRGB = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])
GAMMA = 563 / 256


def fixed(*values: float) -> bytes:
    """ICC's numbers: 16 bits before the point and 16 behind it."""
    return b"".join(struct.pack(">i", round(value * 65536)) for value in values)


def curve(gamma: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))


def matrix_profile(
    primaries: np.ndarray, *, gamma: float, name: bytes = b"By hand\0", more: dict[bytes, bytes] | None = None
) -> bytes:
    """Three primaries and one gamma, or the curves in `more`."""
    tags = {}
    for column, letter in enumerate((b"r", b"g", b"b")):
        tags[letter + b"XYZ"] = b"XYZ \0\0\0\0" + fixed(*primaries[:, column])
        tags[letter + b"TRC"] = curve(gamma)
    return display_profile(b"RGB ", tags | (more or {}), name=name)


def display_profile(
    space: bytes, tags: dict[bytes, bytes], *, name: bytes = b"By hand\0", connection: bytes = b"XYZ "
) -> bytes:
    """A version 2 ICC profile of a display, by hand."""
    white = fixed(0.9642, 1.0, 0.8249)
    text = b"desc\0\0\0\0" + struct.pack(">I", len(name)) + name + bytes(78)
    tags = {b"desc": text, b"cprt": b"text\0\0\0\0none\0", b"wtpt": b"XYZ \0\0\0\0" + white} | tags
    table, body, start = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for tag, content in tags.items():
        table += tag + struct.pack(">II", start + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    header = struct.pack(">I4sI4s4s4s", start + len(body), bytes(4), 0x02400000, b"mntr", space, connection)
    header += struct.pack(">6H4s", 2024, 1, 1, 0, 0, 0, b"acsp") + bytes(28) + white + bytes(48)
    assert len(header) == 128
    return header + table + body


def adobe_to_srgb(rgb: np.ndarray) -> np.ndarray:
    """The conversion by its formulas, in float64."""
    return encoded(np.linalg.solve(SRGB, ADOBE @ (rgb / 255.0).T ** GAMMA).T.clip(0, 1))


def encoded(linear: np.ndarray) -> np.ndarray:
    """Linear light, 0 to 1, as sRGB, 0 to 255."""
    values = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return 255 * values
