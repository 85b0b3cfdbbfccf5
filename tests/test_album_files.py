"""Odd files through an album: pipes, long and odd names, metadata, sides that JPEG cannot hold, HEIC."""

import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ssl_colorize.album import colorize_all, find_inputs, plan, sheet_path
from ssl_colorize.colorize import Colorizer
from ssl_colorize.data import UnreadablePhoto, read_photo
from ssl_colorize.errors import UserError
from ssl_colorize.models import Pretrained, create_model
from ssl_colorize.pictures import kept_exif, made_here

INNER, GPS = 0x8769, 0x8825


@pytest.fixture(scope="module")
def colorizer() -> Colorizer:
    return Colorizer(Pretrained(model=create_model("eccv16", width=0.0625).eval(), input_size=16))


def photo(path: Path, size: tuple[int, int] = (40, 30), **more: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (90, 60, 200)).save(path, **more)
    return path


def test_pipes_sockets_and_devices_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(UserError, match=r"pipe\.jpg is a pipe"):
        find_inputs([tmp_path / "pipe.jpg"])
    for path in (tmp_path / "pipe.jpg", Path("/dev/zero")):
        with pytest.raises(UnreadablePhoto, match="no file but"):
            read_photo(path)
    assert not made_here(tmp_path / "pipe.jpg")


def test_names_that_some_file_systems_take_for_one_get_outputs_of_their_own(tmp_path: Path) -> None:
    accents = [unicodedata.normalize(form, "caf\u00e9.png") for form in ("NFC", "NFD")]
    for name in ("a.jpg", "A.jpg", "a.png", *accents):
        photo(tmp_path / "in" / name)
    jobs = plan(find_inputs([tmp_path / "in"]), tmp_path / "out")
    targets = [unicodedata.normalize("NFC", str(job.target)).lower() for job in jobs]
    assert len(jobs) == 5 and len(set(targets)) == 5


def test_odd_names_are_written_and_named_on_one_line(tmp_path: Path, colorizer: Colorizer) -> None:
    names = ["x" * 251 + ".png", "\u00e9" * 120 + ".png", "a\nb.png", "-rf.png", "a'b\".png", os.fsdecode(b"\xff.png")]
    for name in names:
        photo(tmp_path / "in" / name)
    (tmp_path / "in" / os.fsdecode(b"\xfe\n.png")).touch()
    jobs = plan(find_inputs([tmp_path / "in"]), tmp_path / "out")
    results = [*colorize_all(colorizer, jobs)]
    (problem,) = [one.problem for one in results if one.problem]
    assert problem.endswith("\\xfe\\n.png: not a photo: 0 bytes") and problem.isprintable()
    assert len([*(tmp_path / "out").iterdir()]) == len(names)
    assert all(len(os.fsencode(sheet_path(job.target).name)) <= 255 for job in jobs)


def test_who_took_a_photo_when_and_where_stays_and_what_was_of_the_file_goes(
    tmp_path: Path, colorizer: Colorizer
) -> None:
    exif = Image.Exif()
    exif.update({0x0112: 6, 0x0132: "2024:05:01 12:00:00", 0x013B: "A. Photographer", 0x010F: "Maker", 0x011A: 72.0})
    exif.get_ifd(INNER).update({0x9003: "2024:05:01 11:59:59", 0xA002: 40, 0x927C: b"maker's notes"})
    exif.get_ifd(GPS).update({1: "N", 2: (48.0, 8.0, 14.0)})
    source = photo(tmp_path / "a.jpg", exif=exif)
    (done,) = colorize_all(colorizer, plan([(source, Path("a.jpg"))], tmp_path / "out"))
    assert done.picture is not None and done.picture.size == (30, 40)
    with Image.open(done.job.target) as written:
        found = written.getexif()
        assert written.size == (30, 40) and "icc_profile" in written.info
    assert dict(found).keys() - {INNER, GPS} == {0x0132, 0x013B, 0x010F, 0x0131}
    assert found[0x0132] == "2024:05:01 12:00:00" and found[0x013B] == "A. Photographer"
    assert dict(found.get_ifd(INNER)) == {0x9003: "2024:05:01 11:59:59"}
    assert found.get_ifd(GPS)[1] == "N" and tuple(map(float, found.get_ifd(GPS)[2])) == (48.0, 8.0, 14.0)
    assert made_here(done.job.target)


def test_damaged_exif_is_no_reason_to_stop(tmp_path: Path) -> None:
    source = photo(tmp_path / "a.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert dict(kept_exif(source)) == {} and dict(kept_exif(tmp_path / "none.jpg")) == {}


def test_sides_and_shapes(tmp_path: Path, colorizer: Colorizer) -> None:
    sizes = {"dot": (1, 1), "line": (1, 3000), "strip": (66_000, 2)}
    inputs = [(photo(tmp_path / f"{name}.png", size), Path(f"{name}.png")) for name, size in sizes.items()]
    for kind, long in (("png", (66_000, 2)), ("jpg", None)):
        done = [*colorize_all(colorizer, plan(inputs, tmp_path / kind, kind=kind), kind=kind)]  # type: ignore[arg-type]
        assert [one.picture and one.picture.size for one in done] == [(1, 1), (1, 3000), long]
    assert "66000 x 2 pixels are too long for JPEG" in done[2].problem


def test_heic_photos(tmp_path: Path) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    rgb = np.zeros((48, 64, 3), np.uint8)
    rgb[:, :32, 0], rgb[:, 32:, 2] = 220, 220
    image = pillow_heif.from_pillow(Image.fromarray(rgb))
    image.save(tmp_path / "a.HEIC", quality=95)
    found = np.asarray(read_photo(tmp_path / "a.HEIC")).astype(int)
    assert found.shape == rgb.shape and np.abs(found - rgb)[:, [4, -4]].max() < 12
    # libheif turns pictures by what the container says; EXIF says so as well, and must not turn them again.
    stored = Image.fromarray(rgb)
    exif = Image.Exif()
    exif[0x0112] = 6
    stored.info["exif"] = exif.tobytes()
    pillow_heif.from_pillow(stored).save(tmp_path / "turned.heic", quality=95)
    shown = np.asarray(pillow_heif.open_heif(tmp_path / "turned.heic").to_pillow().convert("RGB"))
    assert b"irot" in (tmp_path / "turned.heic").read_bytes()
    assert np.array_equal(np.asarray(read_photo(tmp_path / "turned.heic")), shown)


def test_heic_without_the_extra_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssl_colorize.data.images.reads_heif", lambda: False)
    (tmp_path / "a.heic").write_bytes(b"x")
    with pytest.raises(UnreadablePhoto, match=r"pip install 'ssl-colorize\[heif\]'"):
        read_photo(tmp_path / "a.heic")
