"""Colors come into sRGB by what a profile does, or by what a PNG says in its chunks."""

import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile
from picture_files import (
    ADOBE,
    GAMMA,
    SRGB,
    adobe_to_srgb,
    chunk,
    curve,
    display_profile,
    encoded,
    fixed,
    matrix_profile,
    pixels,
    png,
    saved,
    with_chunk,
)
from PIL import Image, ImageCms

COLORS = np.array([[128, 128, 128], [180, 120, 90], [60, 140, 70], [90, 100, 200], [9, 4, 2], [255, 255, 255]])
P3 = np.array([[0.51512, 0.29198, 0.15710], [0.24120, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]])


def by_formula(values: np.ndarray, primaries: np.ndarray, gamma: float) -> np.ndarray:
    """Values (..., 3) of 0 to 1 in a space of these primaries (XYZ under D50) as sRGB of 0 to 255, in float64."""
    linear = np.linalg.solve(SRGB, primaries @ (values.reshape(-1, 3) ** gamma).T).T.clip(0, 1)
    return encoded(linear).reshape(values.shape)


# --- what profiles do -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [b"sRGB IEC61966-2.1\0", b"sRGB\0", b"\0", b"Adobe RGB (1998)\0"])
def test_a_profile_is_what_it_does_whatever_it_is_called(tmp_path: Path, name: bytes) -> None:
    colors = COLORS[None].astype(np.uint8)
    path = saved(Image.fromarray(colors), tmp_path / "a.png", icc_profile=matrix_profile(ADOBE, gamma=GAMMA, name=name))
    assert np.abs(pixels(path)[0] - adobe_to_srgb(colors[0])).max() <= 1
    # What sRGB does leaves every pixel as it is, under any name.
    usual = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    tables = {letter + b"TRC": SRGB_TABLE for letter in (b"r", b"g", b"b")}
    for profile in (usual, matrix_profile(SRGB, gamma=1, name=name, more=tables)):
        path = saved(Image.fromarray(colors), tmp_path / "b.png", icc_profile=profile)
        assert np.array_equal(pixels(path), colors)


def srgb_table(entries: int) -> bytes:
    """sRGB's curve as a table, as the profile of 1998 has it."""
    values = np.linspace(0, 1, entries)
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return b"curv\0\0\0\0" + struct.pack(">I", entries) + (linear * 65535).round().astype(">u2").tobytes()


SRGB_TABLE = srgb_table(1024)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_wide_gamut_of_sixteen_bits_is_rounded_once(tmp_path: Path, suffix: str) -> None:
    samples = np.random.default_rng(0).integers(0, 65536, (64, 64, 3)).astype(np.uint16)
    profile = matrix_profile(ADOBE, gamma=GAMMA)
    path = tmp_path / f"a.{suffix}"
    write_deep(path, samples, profile)
    expected = by_formula(samples / 65535, ADOBE, GAMMA)
    # Rounded once: nothing is off by more than that, but for what primaries are rounded to.
    assert np.abs(pixels(path) - expected).max() <= 0.75


def write_deep(path: Path, samples: np.ndarray, profile: bytes) -> None:
    """RGB of 16 bits, with a profile."""
    if path.suffix == ".tif":
        tifffile.imwrite(path, samples, photometric="rgb", iccprofile=profile)
        return
    height, width = samples.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    import zlib

    body = b"by hand\0\0" + zlib.compress(profile)
    path.write_bytes(with_chunk(png(width=width, height=height, depth=16, color=2, rows=rows), b"iCCP", body))


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_dark_linear_light_of_sixteen_bits_keeps_its_steps(tmp_path: Path, suffix: str) -> None:
    """The first of 255 linear levels is the thirteenth of sRGB's: in 8 bits on the way, all between would be lost."""
    samples = np.repeat(np.arange(0, 514, 16, dtype=np.uint16)[None, :, None], 3, axis=2)
    path = tmp_path / f"a.{suffix}"
    write_deep(path, samples, matrix_profile(SRGB, gamma=1))
    expected = encoded(samples / 65535)
    assert len(np.unique(pixels(path))) > 15
    assert np.abs(pixels(path) - expected).max() <= 0.75


def lightness_table() -> bytes:
    """A profile of a table: red alone says how light a gray is."""
    ramp = bytes(range(256)) * 3
    corners = bytes([0, 128, 128] * 4 + [255, 128, 128] * 4)
    table = b"mft1\0\0\0\0" + bytes([3, 3, 2, 0]) + fixed(*np.eye(3).ravel()) + ramp + corners + ramp
    return display_profile(b"RGB ", {b"A2B0": table}, connection=b"Lab ")


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_profiles_that_are_tables(tmp_path: Path, suffix: str) -> None:
    samples = np.random.default_rng(0).integers(0, 65536, (32, 32, 3)).astype(np.uint16)
    path = tmp_path / f"a.{suffix}"
    write_deep(path, samples, lightness_table())
    f = (samples[..., :1] / 65535 * 100 + 16) / 116
    expected = encoded(np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)))
    assert np.abs(pixels(path) - expected).max() <= 1.5


def test_gray_of_sixteen_bits_goes_through_its_profile(tmp_path: Path) -> None:
    samples = np.arange(0, 65536, 257 * 5 + 1, dtype=np.uint16)[None]
    profile = display_profile(b"GRAY", {b"kTRC": curve(1.5)})
    tifffile.imwrite(tmp_path / "a.tif", samples, photometric="minisblack", iccprofile=profile)
    tifffile.imwrite(tmp_path / "b.tif", 65535 - samples, photometric="miniswhite", iccprofile=profile)
    whole = np.stack((samples, np.full_like(samples, 65535)), axis=2)
    tifffile.imwrite(
        tmp_path / "c.tif", whole, photometric="minisblack", planarconfig="contig", extrasamples=["unassalpha"],
        iccprofile=profile,
    )  # fmt: skip
    expected = encoded((samples / 65535) ** 1.5)
    for name in "abc":
        assert np.abs(pixels(tmp_path / f"{name}.tif")[:, :, 1] - expected).max() <= 1, name


def test_profiles_of_another_space_and_broken_ones_leave_colors_alone(tmp_path: Path) -> None:
    rgb, gray = matrix_profile(ADOBE, gamma=GAMMA), display_profile(b"GRAY", {b"kTRC": curve(1.5)})
    color = np.array([[[180, 120, 90]]], np.uint8)
    samples = color.astype(np.uint16) * 257
    for number, profile in enumerate((gray, b"no profile", rgb[:140], rgb[:-200], bytes(300))):
        path = saved(Image.fromarray(color), tmp_path / f"a{number}.png", icc_profile=profile)
        assert np.array_equal(pixels(path), color), number
        write_deep(tmp_path / f"b{number}.tif", samples, profile)
        assert np.array_equal(pixels(tmp_path / f"b{number}.tif"), color), number
    path = saved(Image.fromarray(color[:, :, 0]), tmp_path / "c.png", icc_profile=rgb)
    assert pixels(path).tolist() == [[[180] * 3]]


def test_pictures_kept_as_luminance_and_chrominance_go_through_their_profile(tmp_path: Path) -> None:
    color = Image.new("RGB", (8, 8), (60, 140, 70)).convert("YCbCr")
    saved(color, tmp_path / "a.tif", icc_profile=matrix_profile(ADOBE, gamma=GAMMA))
    expected = adobe_to_srgb(np.array([[60, 140, 70]]))
    assert np.abs(pixels(tmp_path / "a.tif") - expected).max() <= 3


@pytest.mark.parametrize("lab", [(53.0, 0, 0), (60.0, 30, -20), (40.0, -25, 30)])
def test_lab(tmp_path: Path, lab: tuple[float, int, int]) -> None:
    """TIFF's CIELAB, of a white of D50."""
    light, a, b = lab
    stored = np.array([[[round(light * 2.55), a % 256, b % 256]]], np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="cielab")
    middle = (stored[0, 0, 0] / 2.55 + 16) / 116
    f = np.array([middle + a / 500, middle, middle - b / 200])
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * [0.9642, 1, 0.8249]
    expected = encoded(np.linalg.solve(SRGB, xyz).clip(0, 1))
    assert np.abs(pixels(tmp_path / "a.tif")[0, 0] - expected).max() <= 2


# --- what PNG says ----------------------------------------------------------------------------------------------------


def gama(gamma: float) -> tuple[bytes, bytes]:
    return b"gAMA", struct.pack(">I", round(gamma * 100_000))


def chrm(*chromaticities: float) -> tuple[bytes, bytes]:
    return b"cHRM", struct.pack(">8I", *(round(value * 100_000) for value in chromaticities))


USUAL = chrm(0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
WIDE = chrm(0.3127, 0.3290, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06)


def colors_png(path: Path, values: np.ndarray, *chunks: tuple[bytes, bytes]) -> Path:
    """Colors (N, 3) or grays (N,), of 8 or 16 bits, in one row, with chunks."""
    color, depth = (2 if values.ndim == 2 else 0), 8 * values.dtype.itemsize
    rows = b"\0" + values.astype(values.dtype.newbyteorder(">")).tobytes()
    data = png(width=len(values), height=1, depth=depth, color=color, rows=rows)
    for kind, body in chunks:
        data = with_chunk(data, kind, body)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("chunks", [[gama(0.45455)], [gama(0.45455), USUAL], [USUAL], [gama(0)], [gama(0.4545)]])
@pytest.mark.parametrize("deep", [False, True])
def test_the_usual_gamma_changes_nothing(tmp_path: Path, chunks: list[tuple[bytes, bytes]], deep: bool) -> None:
    values = (COLORS * 257).astype(np.uint16) if deep else COLORS.astype(np.uint8)
    assert np.array_equal(pixels(colors_png(tmp_path / "a.png", values, *chunks))[0], COLORS)


@pytest.mark.parametrize("gamma", [1.0, 0.55556, 0.3])
@pytest.mark.parametrize("deep", [False, True])
def test_gamma(tmp_path: Path, gamma: float, deep: bool) -> None:
    values = (COLORS * 257).astype(np.uint16) if deep else COLORS.astype(np.uint8)
    expected = encoded((COLORS / 255) ** (1 / gamma))
    assert np.abs(expected - COLORS).max() > 10
    for chunks in ([gama(gamma)], [gama(gamma), USUAL]):
        got = pixels(colors_png(tmp_path / "a.png", values, *chunks))[0]
        assert np.abs(got - expected).max() <= 1
    gray = pixels(colors_png(tmp_path / "b.png", values[:, 0].copy(), gama(gamma), WIDE))[0]
    assert np.abs(gray - expected[:, :1]).max() <= 1


def test_dark_linear_light_of_sixteen_bits(tmp_path: Path) -> None:
    samples = np.repeat(np.arange(0, 514, 16, dtype=np.uint16)[:, None], 3, axis=1)
    for values in (samples, samples[:, 0].copy()):
        got = pixels(colors_png(tmp_path / "a.png", values, gama(1.0)))[0]
        assert np.abs(got - encoded(samples / 65535)).max() <= 1


def test_primaries(tmp_path: Path) -> None:
    """Those of Display P3, whose XYZ is published."""
    values = COLORS.astype(np.uint8)
    expected = by_formula(COLORS / 255, P3, 2.2)
    assert np.abs(expected - COLORS).max() > 10
    assert np.abs(pixels(colors_png(tmp_path / "a.png", values, gama(0.45455), WIDE))[0] - expected).max() <= 1
    expected = by_formula(COLORS / 255, P3, 1)
    assert np.abs(pixels(colors_png(tmp_path / "b.png", values, gama(1), WIDE))[0] - expected).max() <= 1
    # Chromaticities of nothing.
    for wrong in (chrm(*[0.0] * 8), chrm(*[0.3] * 8)):
        assert np.array_equal(pixels(colors_png(tmp_path / "c.png", values, wrong))[0], COLORS)


def test_a_profile_goes_before_srgb_and_that_before_gamma(tmp_path: Path) -> None:
    values = COLORS.astype(np.uint8)
    image, profile = Image.fromarray(values[None]), matrix_profile(ADOBE, gamma=GAMMA)
    data = saved(image, tmp_path / "a.png", icc_profile=profile).read_bytes()
    for other in (gama(1.0), (b"sRGB", b"\0")):
        (tmp_path / "b.png").write_bytes(with_chunk(data, *other))
        assert np.abs(pixels(tmp_path / "b.png")[0] - adobe_to_srgb(COLORS)).max() <= 1
    path = colors_png(tmp_path / "c.png", values, gama(1.0), (b"sRGB", b"\0"), WIDE)
    assert np.array_equal(pixels(path)[0], COLORS)


def test_gamma_of_palettes_and_beneath_transparency(tmp_path: Path) -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([128, 64, 32, 200, 0, 0, 0, 0, 250])
    image.putdata([0, 1, 2])
    expected = encoded(np.array([[128, 64, 32], [200, 0, 0], [0, 0, 250]]) / 255)
    for options in ({}, {"transparency": bytes([255, 0, 255])}):
        data = saved(image, tmp_path / "a.png", **options).read_bytes()
        (tmp_path / "b.png").write_bytes(with_chunk(data, *gama(1.0)))
        if options:
            expected[1] = 255
        assert np.abs(pixels(tmp_path / "b.png")[0] - expected).max() <= 1
    gray = np.array([10, 128, 200], np.uint8)
    path = colors_png(tmp_path / "c.png", gray, gama(1.0), (b"tRNS", struct.pack(">H", 128)))
    expected = encoded(gray / 255)
    expected[1] = 255
    assert np.abs(pixels(path)[0, :, 0] - expected).max() <= 1
    assert chunk(*gama(1.0)) in path.read_bytes()
