"""Colors into sRGB: by an embedded ICC profile, or by what a PNG says of itself in its own chunks.

A profile is judged by what it does to colors, never by its name.
"""

import struct
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from io import BytesIO
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

Converter = Callable[[Image.Image], Image.Image]

# By so many of 255 levels a profile may move a color and still be sRGB, whose published versions differ by their
# rounding.
_SAME = 1
# Levels of a step in 16 bits: 0xFFFF / 0xFF.
_STEP = 257
# Pixels that are converted in one go, of 16 bits.
_STRIP = 1 << 20

_COLUMNS, _CURVES = (b"rXYZ", b"gXYZ", b"bXYZ"), (b"rTRC", b"gTRC", b"bTRC")
_D50 = (0.9642, 1.0, 0.8249)
# Chromaticities x, y of white, red, green and blue: sRGB's.
_SRGB_CHROMATICITIES = (0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
_SRGB_GAMMA = 1 / 2.2
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """A new RGB picture, by the profile where there is a usable one; without, colors are taken for sRGB.

    Args:
        image: of mode L, RGB, CMYK or LAB.
        profile: the bytes of an ICC profile.

    >>> to_srgb(Image.new("L", (1, 1), 7), None).getpixel((0, 0))
    (7, 7, 7)
    """
    converter = _converter(profile, image.mode) if profile else None
    # convert() copies where it has nothing to do, which also cuts the picture loose from its file.
    return image.convert("RGB") if converter is None else converter(image)


def samples_to_srgb(samples: NDArray[np.uint16], profile: bytes | None) -> NDArray[np.float32]:
    """Colors of 16 bits as sRGB of 0 to 255, not rounded.

    Profiles of curves and primaries are followed exactly. Others work on 8 bits here (littlecms in Pillow): between
    those colors it is interpolated, over the simplex of the colors around each.

    Args:
        samples: (H, W, C), C of 1 for gray or 3 for RGB.
        profile: the bytes of an ICC profile.

    Returns:
        (H, W, 3) float32.

    >>> samples_to_srgb(np.full((1, 1, 1), 0x8000, np.uint16), None).round(2).tolist()
    [[[127.5, 127.5, 127.5]]]
    """
    height, width, channels = samples.shape
    mode = "L" if channels == 1 else "RGB"
    found = np.empty((height, width, 3), np.float32)
    converter = _converter(profile, mode) if profile else None
    if profile is None or converter is None:
        np.divide(samples, np.float32(_STEP), out=found)
        return found
    exact = _light(profile, mode)
    for start in range(0, height, rows := max(1, _STRIP // width)):
        strip = samples[start : start + rows].reshape(-1, channels)
        colors = _interpolated(strip, mode, converter) if exact is None else _by_light(strip, *exact)
        found[start : start + rows] = colors.reshape(-1, width, 3)
    return found


def _by_light(colors: NDArray[np.uint16], tables: NDArray[np.float32], matrix: Any) -> NDArray[np.float32]:
    """Colors (N, C) of 16 bits by tables (C, 65536) of linear light, and a matrix to that of sRGB: 0 to 255."""
    light = np.stack([table[channel] for table, channel in zip(tables, colors.T, strict=True)], axis=1)
    linear = (np.repeat(light, 3, axis=1) if matrix is None else light @ matrix.T).clip(0, 1)
    curved = np.float32(1.055) * linear ** np.float32(1 / 2.4) - np.float32(0.055)
    values: NDArray[np.float32] = np.float32(255) * np.where(linear <= 0.0031308, np.float32(12.92) * linear, curved)
    return values


@lru_cache(maxsize=4)
def _light(profile: bytes, mode: str) -> tuple[NDArray[np.float32], NDArray[np.float32] | None] | None:
    """The linear light of each level of 16 bits of each channel, and what makes sRGB's of it; None of other profiles.

    littlecms reads the curves, whatever they are made of: as those of grays, which Pillow lets it do in 16 bits.
    """
    tags = _tags(profile)
    curves = (b"kTRC",) if mode == "L" else _CURVES
    needed = {*curves, *(() if mode == "L" else _COLUMNS)}
    if profile[20:24] != b"XYZ " or not needed <= tags.keys() or {b"A2B0", b"A2B1"} & tags.keys():
        return None
    linear = _written({b"kTRC": b"curv\0\0\0\0\0\0\0\0"}, gray=True)
    ramp = Image.fromarray(np.arange(1 << 16, dtype=np.uint16).reshape(256, 256))
    tables = []
    for name in curves:
        curved = ImageCms.ImageCmsProfile(BytesIO(_written({b"kTRC": tags[name]}, gray=True)))
        straight = ImageCms.ImageCmsProfile(BytesIO(linear))
        transform = ImageCms.buildTransform(curved, straight, "I;16", "I;16", flags=ImageCms.Flags.NOOPTIMIZE)
        tables.append(np.asarray(_applied(transform, ramp)).astype(np.float32).ravel() / 0xFFFF)
    if mode == "L":
        return np.stack(tables), None
    columns = np.array([struct.unpack_from(">3i", tags[name], 8) for name in _COLUMNS]).T / 65536
    matrix = np.linalg.solve(_adapted_primaries(_SRGB_CHROMATICITIES), columns)
    return np.stack(tables), matrix.astype(np.float32)


def _interpolated(colors: NDArray[np.uint16], mode: str, converter: Converter) -> NDArray[np.float32]:
    """Colors (N, C) of 16 bits through a converter of 8: (N, 3) of 0 to 255."""
    below, share = np.divmod(colors, _STEP)
    corner = below.astype(np.uint8)
    order = np.argsort(-share.astype(np.int32), axis=1)
    weights = np.take_along_axis(share, order, axis=1).astype(np.float32) / _STEP
    total = np.zeros((len(colors), 3), np.float32)
    # From the color below to the one above, a channel at a time, the largest remainder first.
    for step in range(colors.shape[1] + 1):
        here = weights[:, step - 1] if step else np.ones(len(colors), np.float32)
        after = weights[:, step] if step < colors.shape[1] else np.float32(0)
        if step:
            chosen = order[:, step - 1 : step]
            # A channel at its end, 255, has no remainder, and what lies beyond it no weight.
            above = np.minimum(np.take_along_axis(corner, chosen, axis=1), 254) + 1
            np.put_along_axis(corner, chosen, above.astype(np.uint8), axis=1)
        picture = Image.frombytes(mode, (1, len(corner)), np.ascontiguousarray(corner).tobytes())
        total += np.asarray(converter(picture), np.float32).reshape(-1, 3) * np.reshape(here - after, (-1, 1))
    return total


@lru_cache(maxsize=16)
def _converter(profile: bytes, mode: str) -> Converter | None:
    """From a profile to sRGB; None where the profile is broken, made for another mode, or does what sRGB does."""
    # littlecms' shortcuts miss dark grays by up to ten levels; a table of 256 needs none.
    flags = ImageCms.Flags.NOOPTIMIZE if mode == "L" else ImageCms.Flags.NONE
    try:
        opened = ImageCms.ImageCmsProfile(BytesIO(profile))
        transform = ImageCms.buildTransform(opened, ImageCms.createProfile("sRGB"), mode, "RGB", flags=flags)
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None
    levels = np.arange(256, dtype=np.uint8)
    grays = np.repeat(levels[:, None], 3, axis=1)
    if mode == "L":
        table = np.asarray(_applied(transform, Image.fromarray(levels[None])))[0]
        return None if _same(table, grays) else partial(_looked_up, table)
    if mode == "RGB":
        probe = np.concatenate((grays, np.array([*product(levels[::17], repeat=3)], np.uint8)))
        if _same(np.asarray(_applied(transform, Image.fromarray(probe[None])))[0], probe):
            return None
    return partial(_applied, transform)


def _same(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> bool:
    return bool(np.abs(one.astype(int) - other).max() <= _SAME)


def _applied(transform: ImageCms.ImageCmsTransform, image: Image.Image) -> Image.Image:
    converted = ImageCms.applyTransform(image, transform)
    assert converted is not None  # only an in-place conversion returns nothing
    return converted


def _looked_up(table: NDArray[np.uint8], gray: Image.Image) -> Image.Image:
    return Image.merge("RGB", [gray.point(table[:, channel].tolist()) for channel in range(3)])


# ---- what PNG says in chunks of its own ------------------------------------------------------------------------------


def chunk_profile(info: Mapping[Any, Any], *, gray: bool) -> bytes | None:
    """An ICC profile of what the chunks gAMA and cHRM say; None where they say nothing, or sRGB goes first.

    Args:
        info: a PNG's, as Pillow reads it: "srgb", "gamma", "chromaticity".
        gray: whether the picture has one channel of color.

    >>> chunk_profile({"gamma": 0.45455}, gray=False) is None
    True
    """
    gamma, chromaticity = info.get("gamma"), info.get("chromaticity")
    if "srgb" in info or (gamma is None and chromaticity is None):
        return None
    # Far outside of this nobody meant it.
    if gamma is None or not 0.05 <= gamma <= 20:
        gamma = _SRGB_GAMMA
    usual = abs(gamma / _SRGB_GAMMA - 1) < 0.01
    primaries = None if chromaticity is None or gray else _adapted_primaries(chromaticity)
    usual_primaries = _adapted_primaries(_SRGB_CHROMATICITIES)
    if usual and (primaries is None or np.abs(primaries - usual_primaries).max() < 0.003):
        return None
    curve = b"para\0\0\0\0\0\0\0\0" + _fixed(1 / gamma)
    if gray:
        return _written({b"kTRC": curve}, gray=True)
    columns = (usual_primaries if primaries is None else primaries).T
    xyz = {name: b"XYZ \0\0\0\0" + _fixed(*column) for name, column in zip(_COLUMNS, columns, strict=True)}
    return _written({**xyz, **dict.fromkeys(_CURVES, curve)}, gray=False)


def _adapted_primaries(chromaticities: tuple[float, ...]) -> Any:
    """XYZ under D50 of red, green and blue, in columns, of the x, y of white and of them; None of what is no triangle.

    Bradford's adaptation, as ICC has it.
    """
    x, y = np.reshape(np.array(chromaticities, np.float64), (4, 2)).T
    if (y <= 0).any():
        return None
    white, *colors = np.stack((x / y, np.ones(4), (1 - x - y) / y), axis=1)
    columns = np.array(colors).T
    if abs(np.linalg.det(columns)) < 1e-3:
        return None
    scaled = columns * np.linalg.solve(columns, white)
    cones = _BRADFORD @ np.array(_D50) / (_BRADFORD @ white)
    return np.linalg.inv(_BRADFORD) @ (cones[:, None] * (_BRADFORD @ scaled))


def _written(tags: Mapping[bytes, bytes], *, gray: bool) -> bytes:
    """An ICC profile of version 4 of a display: white is added to the tags."""
    tags = {b"wtpt": b"XYZ \0\0\0\0" + _fixed(*_D50), **tags}
    table, body, start = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for tag, content in tags.items():
        table += tag + struct.pack(">II", start + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    space = b"GRAY" if gray else b"RGB "
    header = struct.pack(">I4sI4s4s4s", start + len(body), bytes(4), 0x04000000, b"mntr", space, b"XYZ ")
    header += struct.pack(">6H4s", 2000, 1, 1, 0, 0, 0, b"acsp") + bytes(28) + _fixed(*_D50) + bytes(48)
    return header + table + body


def _tags(profile: bytes) -> dict[bytes, bytes]:
    """The tags of an ICC profile, by name."""
    found = {}
    for number in range(min(struct.unpack_from(">I", profile, 128)[0], 100)):
        name, start, size = struct.unpack_from(">4sII", profile, 132 + 12 * number)
        found[name] = profile[start : start + size]
    return found


def _fixed(*values: float) -> bytes:
    """ICC's numbers: 16 bits before the point and 16 behind it."""
    return struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))
