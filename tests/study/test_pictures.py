"""Photos of a study: what is cut out, what colors them, what is left out, what is not made twice."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import skimage.color
import torch
from PIL import Image
from study_photos import silent

from ssl_colorize.colorize import Colorizer
from ssl_colorize.data import open_photos
from ssl_colorize.errors import UserError
from ssl_colorize.models import Pretrained, create_model, save_pretrained
from ssl_colorize.score.methods import load_methods
from ssl_colorize.score.photos import center_crop
from ssl_colorize.study.pictures import PHOTO_BYTES, Pictures, method_names, picture_path, prepare
from ssl_colorize.study.protocol import Pair


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


def make(photos: Path, run: Path, *given: str, needed: int = 2, say: object = silent) -> Pictures:
    opened = open_photos([str(photos)], split="all")
    return prepare(opened, load_methods(given, device="cpu"), run, needed=needed, watch=silent, say=say)  # type: ignore[arg-type]


def test_pairs_are_both_photos_in_the_order_they_are_shown(prepared: Pictures, study_folder: Path) -> None:
    name = prepared.names[3]
    truth = center_crop(Image.open(study_folder / "photos" / name).convert("RGB"), 256).permute(1, 2, 0).numpy()
    for kind in ("practice", "counted", "vigilance"):
        first = prepared.pair("gray", Pair(kind, name, True))
        last = prepared.pair("gray", Pair(kind, name, False))
        assert len(first) == 2 * PHOTO_BYTES == 2 * 256 * 256 * 3
        assert first[:PHOTO_BYTES] == last[PHOTO_BYTES:] == truth.tobytes()
        assert first[PHOTO_BYTES:] == last[:PHOTO_BYTES] != truth.tobytes()
        recolored = np.frombuffer(first[PHOTO_BYTES:], np.uint8).reshape(256, 256, 3)
        assert bool((recolored == recolored[..., :1]).all()) == (kind != "vigilance"), "gray but for vigilance pairs"


def test_random_is_the_ab_of_another_photo(prepared: Pictures, study_folder: Path) -> None:
    root = study_folder / "run" / "photos"
    truths = {name: skimage.color.rgb2lab(pixels(picture_path(root / "truth", name))) for name in prepared.names}
    donors = set()
    for name, truth in truths.items():
        recolored = pixels(picture_path(root / "random", name))
        assert (recolored == pixels(picture_path(root / ".vigilance", name))).all()
        lab = skimage.color.rgb2lab(recolored)
        assert np.abs(lab[..., 0] - truth[..., 0]).max() < 0.5, "the photo's own lightness"
        # Where sRGB can show the borrowed color it is the donor's, and nobody else's.
        errors = {other: np.median(np.abs(lab - theirs)[..., 1:]) for other, theirs in truths.items()}
        donors.add(min(errors, key=errors.__getitem__))
        assert min(errors, key=errors.__getitem__) != name and min(errors.values()) < 1
    assert len(donors) == len(truths), "every photo lends its colors once"


def test_a_network_colors_the_very_square(few_photos: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    save_pretrained(
        Pretrained(model=create_model("eccv16", width=0.125), input_size=32), tmp_path / "model.safetensors"
    )
    made = make(few_photos, tmp_path / "run", f"full={tmp_path}")
    name = made.names[0]
    truth, colored = (pixels(picture_path(tmp_path / "run" / "photos" / each, name)) for each in ("truth", "full"))
    by_hand = Colorizer.load(tmp_path, device="cpu").colorize(truth)
    assert (colored == np.asarray(by_hand)).all()
    assert np.abs(skimage.color.rgb2lab(truth) - skimage.color.rgb2lab(colored))[..., 0].max() < 0.5


def test_a_folder_lends_its_colors_to_the_photos_own_lightness(few_photos: Path, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    for path in few_photos.iterdir():
        Image.new("RGB", (96, 80), "peru").save(tmp_path / "theirs" / f"{path.stem}.jpg", quality=95)
    made = make(few_photos, tmp_path / "run", f"theirs={tmp_path / 'theirs'}")
    assert len(made.names) == 4
    root = tmp_path / "run" / "photos"
    truth, colored = (
        skimage.color.rgb2lab(pixels(picture_path(root / name, made.names[0]))) for name in ("truth", "theirs")
    )
    assert np.abs(colored - truth)[..., 0].max() < 0.5
    peru = skimage.color.rgb2lab(np.array([[[205, 133, 63]]], np.uint8))[0, 0, 1:]
    assert np.abs(np.median(colored[..., 1:], axis=(0, 1)) - peru).max() < 2


def test_pictures_that_are_missing_are_named_before_any_photo_is_stored(few_photos: Path, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    for path in sorted(few_photos.iterdir())[:3]:
        Image.new("RGB", (96, 80), "peru").save(tmp_path / "theirs" / f"{path.stem}.jpg")
    with pytest.raises(UserError, match=r"do not fit the 4 photos: 1 missing \(photo03\.png\)"):
        make(few_photos, tmp_path / "run", f"theirs={tmp_path / 'theirs'}")
    assert not (tmp_path / "run").exists()


def test_gray_and_broken_photos_are_left_out(few_photos: Path, tmp_path: Path) -> None:
    Image.new("L", (48, 40), 90).save(few_photos / "gray.png")
    (few_photos / "broken.png").write_bytes(b"no photo")
    said: list[str] = []
    made = make(few_photos, tmp_path / "run", "gray", say=said.append)
    assert len(made.names) == 4 and "gray.png" not in made.names
    assert sorted(said) == [
        "1 of 6 photos cannot be read and are left out, such as broken.png.",
        "1 of 6 photos have no color and are left out, such as gray.png.",
    ]


def test_too_few_photos_are_told_before_any_is_colored(few_photos: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="shows 5 photos, each once, and there are 4"):
        make(few_photos, tmp_path / "run", "gray", needed=5)
    assert [path.name for path in (tmp_path / "run" / "photos").iterdir()] == ["truth"]


def test_a_stopped_preparation_goes_on(few_photos: Path, tmp_path: Path) -> None:
    class Stopped(Exception):
        pass

    def stop(what: str, done: int, total: int) -> None:
        if what == "Coloring with gray" and done == 2:
            raise Stopped

    run = tmp_path / "run"
    photos = open_photos([str(few_photos)], split="all")
    methods = load_methods(["gray"])
    with pytest.raises(Stopped):
        prepare(photos, methods, run, needed=2, watch=stop, say=silent)
    assert Pictures.prepared(run) is None
    before = {path: path.stat().st_mtime_ns for path in (run / "photos" / "gray").iterdir()}
    assert len(before) == 2
    prepare(photos, methods, run, needed=2, watch=silent, say=silent)
    assert all(path.stat().st_mtime_ns == when for path, when in before.items())
    ready = Pictures.prepared(run)
    assert ready is not None and len(ready.names) == 4 and ready.methods == ("gray",)
    assert json.loads((run / "photos" / "photos.json").read_text())["photos"][0] == "photo00.png"


def test_a_damaged_list_of_photos_is_named(few_photos: Path, tmp_path: Path) -> None:
    make(few_photos, tmp_path / "run", "gray")
    (tmp_path / "run" / "photos" / "photos.json").write_text('{"photos": [')
    with pytest.raises(UserError, match=r"photos\.json is damaged"):
        Pictures.prepared(tmp_path / "run")


def test_names_of_methods() -> None:
    assert method_names(["full=runs/x", "runs/l2", "weights/class.safetensors", "random"]) == [
        "full", "l2", "class", "random",
    ]  # fmt: skip
    for wrong, said in ((["a=x", "a=y"], "Two methods are called 'a'"), (["../x=y"], "cannot be the name"),
                        (["truth=y"], "cannot be the name"), (["=y"], "NAME=SOURCE")):  # fmt: skip
        with pytest.raises(UserError, match=said):
            method_names(wrong)
    with pytest.raises(UserError, match="--method full=RUN"):
        method_names([])
